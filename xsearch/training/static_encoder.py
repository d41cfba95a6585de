"""A static encoder from aligned word vectors: a sentence-transformers folder, which ``--encoder`` takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.protocol import Vectors, unit_vectors
from xsearch.errors import InvalidArgumentError, MissingExtraError, TrainingError
from xsearch.store.files import publish
from xsearch.training.word_vectors import WordVectors

UNKNOWN = "[UNK]"
SIF = 1e-3
# Where versions 5 and 6 of sentence-transformers both know their modules, without a warning.
MODULES = "sentence_transformers.models"
# What a folder without prompts says of itself.
SETTINGS = {
    "__version__": {},
    "prompts": {"query": "", "document": ""},
    "default_prompt_name": None,
    "similarity_fn_name": "cosine",
}


def write_static_encoder(folder: Path, languages: Sequence[WordVectors], *, sif: float | None = SIF) -> int:
    """Writes the folder, and returns how many words it knows.

    A text's vector is the mean of those of its words. Words are runs of letters, digits and marks, so that languages
    without spaces between words need vectors of their runs. Where no word has a capital, texts are lower-cased. A word
    of several languages gets the mean of its vectors. Unknown words count as zeros, which leave the direction as it is.

    Args:
        folder: is made; files in it that have the same names are replaced.
        languages: in one space, the most frequent word first.
        sif: ``a`` of the weights ``a / (a + p)`` by which common words count less (Arora et al. 2017); ``p``, a word's
            share of the language's words, is taken from its rank by Zipf's law. None: all words count alike.

    Raises:
        InvalidArgumentError: there is no language, or ``sif`` is not above 0.
        TrainingError: the dimensions differ.
        StoreError: the folder cannot be written.
        MissingExtraError: safetensors is not installed.
    """
    try:
        from safetensors.numpy import save
    except ImportError as exc:
        raise MissingExtraError("Writing an encoder", "safetensors", "train") from exc
    if sif is not None and sif <= 0:
        raise InvalidArgumentError(f"sif is {sif}", "A number above 0, such as 0.001", "Pass None for no weights")
    words, table = _table(languages, sif)
    tokenizer = _tokenizer([UNKNOWN, *words], lower=all(word == word.lower() for word in words))
    weights = np.concatenate([np.zeros((1, table.shape[1]), dtype=np.float32), table])
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"{MODULES}.StaticEmbedding"}]
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("model.safetensors", save({"embedding.weight": weights}, metadata={"format": "pt"})),
        ("tokenizer.json", tokenizer.encode()),
        ("config_sentence_transformers.json", json.dumps(SETTINGS, indent=2).encode()),
        ("modules.json", json.dumps(modules, indent=2).encode()),
    ):
        publish(folder / name, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return len(words)


def _table(languages: Sequence[WordVectors], sif: float | None) -> tuple[list[str], Vectors]:
    """All words, and ``(words, dim) float32``: their vectors, at the lengths by which they count."""
    dims = {language.dim for language in languages}
    if not dims:
        raise InvalidArgumentError("There are no word vectors", "One language or more", "Pass some")
    if len(dims) > 1:
        raise TrainingError(
            f"The vectors have the dimensions {sorted(dims)}", "One dimension for all", "Align the languages first"
        )
    every = dict.fromkeys(word for language in languages for word in language.words if word != UNKNOWN)
    places = {word: place for place, word in enumerate(every)}
    total = np.zeros((len(places), dims.pop()), dtype=np.float32)
    counts = np.zeros((len(places), 1), dtype=np.float32)
    for language in languages:
        known = np.array([word != UNKNOWN for word in language.words])
        weight = np.ones(len(known)) if sif is None else sif / (sif + _shares(len(known)))
        vectors = unit_vectors(language.vectors) * weight[:, None].astype(np.float32)
        # A word is once in a language, so no row is written twice.
        rows = np.array([places[word] for word in language.words if word != UNKNOWN])
        total[rows] += vectors[known]
        counts[rows] += 1
    return list(places), total / counts


def _shares(words: int) -> NDArray[np.float64]:
    """``(words,)``: the share of each rank among all running words, by Zipf's law: 1 / rank, made to add up to 1."""
    inverse = 1 / np.arange(1, words + 1)
    shares: NDArray[np.float64] = inverse / inverse.sum()
    return shares


def _tokenizer(vocabulary: Sequence[str], *, lower: bool) -> str:
    """The tokenizer.json: words as ``\\w+`` has them, and what stands between words, one vector each."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    numbers = {word: number for number, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token=UNKNOWN))
    steps = [normalizers.NFC(), normalizers.Lowercase()] if lower else [normalizers.NFC()]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer.to_str()
