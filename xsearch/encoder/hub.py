"""Any sentence-transformers or Hugging Face model as an encoder, by name or folder, its prompts on the right side."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.encoder import static
from xsearch.encoder.fingerprint import Fingerprint
from xsearch.encoder.protocol import OnProgress, Vectors, unit_vectors
from xsearch.errors import EncoderError, EncoderNotFoundError, MissingExtraError
from xsearch.text.passages import encodable

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BATCH_TEXTS = 32
# Texts encoded in one call of the library, between two reports of progress.
CHUNK_TEXTS = 1024
# What a model reads whose configuration names no limit.
DEFAULT_MAX_TOKENS = 512
QUERY_PROMPT_NAMES = ("query", "search_query", "web_search_query", "retrieval.query")
PASSAGE_PROMPT_NAMES = ("document", "passage", "search_document", "corpus", "retrieval.passage")


@dataclass(frozen=True, slots=True)
class Prompts:
    """What is put before a text, by side."""

    query: str = ""
    passage: str = ""


# Families whose models want prompts that their configuration often does not carry; from the models' cards. The first
# whose key is in the model's name (lower case) counts, so the narrower come first.
KNOWN_PROMPTS: Mapping[str, Prompts] = {
    "e5-mistral": Prompts(
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
    ),
    "e5-large-instruct": Prompts(
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
    ),
    "multilingual-e5": Prompts("query: ", "passage: "),
    "e5-small": Prompts("query: ", "passage: "),
    "e5-base": Prompts("query: ", "passage: "),
    "e5-large": Prompts("query: ", "passage: "),
    "bge-m3": Prompts(),
    "bge-multilingual": Prompts(
        "<instruct>Given a web search query, retrieve relevant passages that answer the query.\n<query>"
    ),
    "bge-small-en": Prompts("Represent this sentence for searching relevant passages: "),
    "bge-base-en": Prompts("Represent this sentence for searching relevant passages: "),
    "bge-large-en": Prompts("Represent this sentence for searching relevant passages: "),
    "bge-small-zh": Prompts("为这个句子生成表示以用于检索相关文章："),
    "bge-base-zh": Prompts("为这个句子生成表示以用于检索相关文章："),
    "bge-large-zh": Prompts("为这个句子生成表示以用于检索相关文章："),
    "gte-qwen2": Prompts(
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
    ),
    "gte-": Prompts(),
    "arctic-embed": Prompts("query: "),
    "nomic-embed": Prompts("search_query: ", "search_document: "),
    "mxbai-embed-large": Prompts("Represent this sentence for searching relevant passages: "),
    "qwen3-embedding": Prompts(
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
    ),
    "embeddinggemma": Prompts("task: search result | query: ", "title: none | text: "),
}


class HubEncoder:
    """A model of the sentence-transformers library behind the :class:`~xsearch.encoder.protocol.Encoder` protocol.

    A model without a pooling layer (``xlm-roberta-base``, mBERT, the mT5 encoder) gets mean pooling; a static model
    (``StaticEmbedding``, model2vec) is a table of token vectors and their mean. Prompts come from the model's own
    configuration; families known to need them get theirs where it has none.

    May be called from several threads; one of them encodes at a time, because the tokenizers of transformers keep
    truncation and padding as a state that each call changes.

    Args:
        name: a folder, or a name on the Hugging Face hub; nothing is fetched when ``HF_HUB_OFFLINE`` is set.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        EncoderNotFoundError: there is no such folder, and the name cannot be fetched.
        EncoderError: the model cannot be loaded, or the device is not there.
        MissingExtraError: the extra ``hub`` is not installed.
    """

    def __init__(self, name: str, *, device: str = "cpu") -> None:
        self._name = name
        self._lock = threading.RLock()
        self._model = _load(name, device)
        self._static = static.is_static(self._model)
        raw = self._model.tokenizer
        tokenizer = static.transformers_tokenizer(raw) if self._static else raw
        if not getattr(tokenizer, "is_fast", False):
            raise EncoderError(
                f"The tokenizer of {name} is a slow one ({type(tokenizer).__name__})",
                "xsearch needs the offsets of tokens, which only fast tokenizers give",
                "Convert the tokenizer, or choose another model",
            )
        if self._static:
            static.check_rows(self._model, name)
            if device == "cpu":
                self._model.float()  # a static model is loaded as it is stored, whatever dtype is asked for
        else:
            _check_complete(self._model, name)
        # Without its files the library makes up a tokenizer that turns every word into the unknown token.
        if set(tokenizer.get_vocab()) - {"▁"} <= set(tokenizer.all_special_tokens):
            raise EncoderError(
                f"The model {name} has no vocabulary",
                "Its tokenizer's files, such as tokenizer.json, must lie beside its weights",
                "Add them, or check that the folder is whole",
            )
        self._tokenizer = tokenizer
        self.dim: int = int(self._model.get_embedding_dimension() or 0)
        self.max_tokens: int = static.max_tokens(raw) if self._static else _max_tokens(self._model)
        if not self._static:
            self._model.max_seq_length = self.max_tokens
        self.prompts = find_prompts(name, self._model.prompts)
        self.overhead_tokens: int = len(tokenizer(self.prompts.passage)["input_ids"])

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The identity of the weights, the tokenizer and all that shapes the vectors."""
        weight = next(self._model.parameters())
        return Fingerprint(
            name=self._name,
            weights=_hash_weights(self._model),
            tokenizer=_hash_text(self._tokenizer.backend_tokenizer.to_str()),
            pooling=_pooling(self._model),
            query_prompt=self.prompts.query,
            passage_prompt=self.prompts.passage,
            max_tokens=self.max_tokens,
            dim=self.dim,
            dtype=str(weight.dtype).removeprefix("torch."),
        )

    def encode_queries(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        """``(n, dim) float32, rows L2-normalised``, in the order of ``texts``, with the query prompt."""
        return self._encode(texts, self.prompts.query, on_progress)

    def encode_passages(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        """``(n, dim) float32, rows L2-normalised``, in the order of ``texts``, with the passage prompt."""
        return self._encode(texts, self.prompts.passage, on_progress)

    def token_vectors(self, texts: Sequence[str]) -> list[Vectors]:
        """For each passage its token vectors, ``(tokens, dim) float32``, special tokens and prompt left out."""
        found: list[Vectors] = []
        for text in texts:
            with self._lock:
                found.append(self._token_vectors(text))
        return found

    def token_offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """For each text the character span of every token; nothing is cut."""
        if not texts:
            return []
        with self._lock, _long_texts_allowed(self._tokenizer):
            encoded = self._tokenizer(
                [encodable(text) for text in texts],
                add_special_tokens=False,
                truncation=False,
                padding=False,
                return_offsets_mapping=True,
            )
        return [[(int(start), int(end)) for start, end in offsets] for offsets in encoded["offset_mapping"]]

    def unknown_characters(self, texts: Sequence[str]) -> list[int]:
        """For each text how many of its characters stand in tokens that the vocabulary lacks."""
        unknown = self._tokenizer.unk_token_id
        if unknown is None:
            return [0] * len(texts)
        rows = zip(texts, self.token_offsets(texts), strict=True)
        return [
            sum(end - start for number, (start, end) in zip(self._ids(text), offsets, strict=True) if number == unknown)
            for text, offsets in rows
        ]

    def _encode(self, texts: Sequence[str], prompt: str, on_progress: OnProgress | None) -> Vectors:
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), CHUNK_TEXTS):
            chunk = [encodable(text) for text in texts[start : start + CHUNK_TEXTS]]
            with self._lock:
                vectors[start : start + len(chunk)] = self._model.encode(
                    chunk, prompt=prompt, batch_size=BATCH_TEXTS, show_progress_bar=False, convert_to_numpy=True
                )
            if on_progress is not None:
                on_progress(len(chunk))
        if self._static:
            static.fill_directionless(self._model, vectors)
        return unit_vectors(vectors) if len(texts) else vectors

    def _token_vectors(self, text: str) -> Vectors:
        import torch

        if self._static:
            return static.rows_of(self._model, self._ids(text)[: self.max_tokens - self.overhead_tokens])
        head, tail = self._special_ids
        prompt = self._ids(self.prompts.passage)
        room = self.max_tokens - len(head) - len(tail) - len(prompt)
        ids = self._ids(text)[: max(0, room)]
        row = torch.tensor([[*head, *prompt, *ids, *tail]], device=self._model.device)
        with torch.inference_mode():
            output = self._model[0]({"input_ids": row, "attention_mask": torch.ones_like(row)})["token_embeddings"]
        skip = len(head) + len(prompt)
        vectors: Vectors = output[0, skip : skip + len(ids)].float().cpu().numpy()
        return vectors

    @cached_property
    def _special_ids(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer puts before and after a text."""
        plain = self._ids("a")
        whole: list[int] = self._tokenizer("a")["input_ids"]
        first = next(place for place in range(len(whole)) if whole[place : place + len(plain)] == plain)
        return whole[:first], whole[first + len(plain) :]

    def _ids(self, text: str) -> list[int]:
        with self._lock, _long_texts_allowed(self._tokenizer):
            ids: list[int] = self._tokenizer(encodable(text), add_special_tokens=False, truncation=False)["input_ids"]
        return ids


def find_prompts(name: str, configured: Mapping[str, str | None]) -> Prompts:
    """The prompts of a model: from its configuration, or else those that its family is known to need.

    Args:
        name: the model's name or folder.
        configured: the ``prompts`` of its ``config_sentence_transformers.json``.
    """
    own = Prompts(_first(configured, QUERY_PROMPT_NAMES), _first(configured, PASSAGE_PROMPT_NAMES))
    if own.query or own.passage:
        return own
    lower = Path(name).name.lower() if Path(name).exists() else name.lower()
    return next((prompts for key, prompts in KNOWN_PROMPTS.items() if key in lower), own)


def _first(configured: Mapping[str, str | None], names: Sequence[str]) -> str:
    return next((prompt for name in names if (prompt := configured.get(name))), "")


def _load(name: str, device: str) -> SentenceTransformer:
    try:
        import torch
        from safetensors import SafetensorError
        from sentence_transformers import SentenceTransformer
    except ImportError as exc:
        raise MissingExtraError(f"The encoder {name!r}", "sentence-transformers", "hub") from exc
    # What torch raises for weights that would run code when read; it reads nothing but numbers.
    UnpicklingError: type[Exception] = torch.serialization.pickle.UnpicklingError  # type: ignore[attr-defined]
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise EncoderError(
            f"The device {device} was asked for, and torch sees no CUDA device",
            "A GPU with its driver, and torch built for CUDA",
            "Use --device cpu",
        )
    if not name.strip():
        raise EncoderNotFoundError(
            "The name of the encoder is empty",
            "'builtin', a model folder, or a name on the Hugging Face hub",
            "Name one with --encoder, or leave the option out for the built-in one",
        )
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    # Weights stored in 16 bits are slow on a CPU, and sums over a long text lose digits there.
    arithmetic = {"dtype": torch.float32} if device == "cpu" else {}
    static.check_folder(Path(name))
    with without_bars():
        try:
            return SentenceTransformer(name, device=device, local_files_only=offline, model_kwargs=arithmetic)
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, UnpicklingError) as exc:
            if isinstance(exc, OSError) and not Path(name).is_dir():
                offline_note = "HF_HUB_OFFLINE is set, so only local folders and the cache were looked at"
                where = offline_note if offline else "on the hub"
                raise EncoderNotFoundError(
                    f"There is no encoder {name!r} ({str(exc).splitlines()[0]})",
                    f"'builtin', a model folder, or a name on the Hugging Face hub; {where}",
                    "Check the spelling; see the built-in one with --encoder builtin",
                ) from exc
            raise EncoderError(
                f"The model {name!r} cannot be loaded: {str(exc).splitlines()[0]}",
                "It must be a text encoder that sentence-transformers can load, with its tokenizer",
                "Check that the folder is whole",
            ) from exc


def _check_complete(model: SentenceTransformer, name: str) -> None:
    """Refuses a checkpoint that lacks weights: the library fills them with random numbers and goes on."""
    from transformers import __version__

    # The mark on a weight that was read from the checkpoint; version 4 sets none.
    mark = "_is_hf_initialized"
    weights = [item for item in model[0].named_parameters() if not _in_pooler(item[0])]
    missing = [key for key, weight in weights if not getattr(weight, mark, False)]
    if missing and not __version__.startswith("4."):
        raise EncoderError(
            f"The model {name!r} lacks {len(missing)} of its weights, the first of them {missing[0]}",
            "Its weights must be those of the architecture that its config.json names",
            "Check that the folder is whole",
        )


def _in_pooler(weight: str) -> bool:
    """Whether a weight belongs to BERT's pooler, which nothing here uses and many checkpoints lack."""
    return ".pooler." in weight


@contextmanager
def without_bars() -> Iterator[None]:
    """Without transformers' loading bars and its remarks on unused weights, for as long as the block lasts."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def _long_texts_allowed(tokenizer: Any) -> Iterator[None]:
    """Without the tokenizer's warning about texts longer than the model reads; we count those ourselves."""
    before = tokenizer.deprecation_warnings.get("sequence-length-is-longer-than-the-specified-maximum")
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    try:
        yield
    finally:
        tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = bool(before)


def _max_tokens(model: SentenceTransformer) -> int:
    limits = [model.max_seq_length, model.tokenizer.model_max_length]
    config: Any = getattr(getattr(model[0], "auto_model", None), "config", None)
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        # RoBERTa's positions begin after the padding index.
        offset = config.pad_token_id + 1 if getattr(config, "model_type", "") in ("roberta", "xlm-roberta") else 0
        limits.append(positions - offset)
    known = [int(limit) for limit in limits if limit and limit < 1_000_000]
    return min(known, default=DEFAULT_MAX_TOKENS)


def _pooling(model: SentenceTransformer) -> str:
    if static.is_static(model):
        return "mean"
    for module in model:
        if hasattr(module, "get_pooling_mode_str"):
            return str(module.get_pooling_mode_str())  # type: ignore[operator]
        if hasattr(module, "pooling_mode"):
            return str(module.pooling_mode)
    return "model"


def _hash_weights(model: SentenceTransformer) -> str:
    import hashlib

    digest = hashlib.sha256()
    # Versions 5 and 6 of sentence-transformers name the same weight 0.auto_model.X and 0.model.X.
    named = {re.sub(r"^(\d+)\.(?:auto_)?model\.", r"\1.", name): weight for name, weight in model.state_dict().items()}
    for name, tensor in sorted(named.items()):
        if _in_pooler(f".{name}"):
            continue
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(dtype=_bytes_dtype()).numpy().data)
    return digest.hexdigest()


def _bytes_dtype() -> Any:
    import torch

    return torch.uint8


def _hash_text(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()
