"""A trained student as folders that others load: sentence-transformers' own, and ONNX with a parity check."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from xsearch.encoder.builtin import BuiltinEncoder
from xsearch.encoder.export import EXACT, ExportOptions, write_encoder
from xsearch.encoder.hub import HubEncoder, Prompts, without_bars
from xsearch.encoder.protocol import Encoder, Vectors
from xsearch.encoder.step import LinearStep
from xsearch.errors import TrainingError
from xsearch.training.prepared import NO_PROMPTS
from xsearch.training.static_encoder import MODULES, SETTINGS
from xsearch.training.student import Student, frozen

SPECIAL_NAMES = {
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "mask_token": ("[MASK]", "<mask>"),
    "bos_token": ("<s>",),
    "eos_token": ("</s>",),
}
# Lowest cosine that a text's vector may have between the float32 graph and torch: rounding only.
FLOAT_PARITY = 0.9999
# And between int8 and float32: the weights that ship lie at 0.98 and above on single words.
INT8_PARITY = 0.95


@dataclass(frozen=True, slots=True)
class Parity:
    """How close an exported encoder is to the one it came from, over both doors.

    Attributes:
        lowest, mean: cosine of the two vectors of the same text through the same door.
        same_nearest: share of texts whose nearest other text is the same in both.
    """

    lowest: float
    mean: float
    same_nearest: float


@dataclass(frozen=True, slots=True)
class Exported:
    """How close the two exported graphs are.

    Attributes:
        float32: the float32 graph and torch.
        int8: the int8 graph and the float32 graph.
    """

    float32: Parity
    int8: Parity


def write_student(
    student: Student, tokenizer: Tokenizer, folder: Path, *, max_tokens: int, prompts: Prompts = NO_PROMPTS
) -> None:
    """The student as a sentence-transformers folder: weights as safetensors in float32, tokenizer and configuration.

    Args:
        prompts: behind which the student was trained to read texts; the folder names them.

    Raises:
        TrainingError: a weight is NaN or infinite.
    """
    rows = student.table.rows.detach().cpu()
    weights = {"the token embeddings": rows} | dict(student.named_parameters())
    for name, weight in weights.items():
        if not bool(torch.isfinite(weight).all()):
            raise TrainingError(
                f"There is NaN or infinity in {name}", "All weights must be finite", "Go back to an earlier checkpoint"
            )
    folder.mkdir(parents=True, exist_ok=True)
    own = Tokenizer.from_str(tokenizer.to_str())
    own.no_padding()
    own.enable_truncation(max_tokens)
    if student.body is None:
        _write_static(rows, own, folder, prompts)
        return
    unused = student.body.get_input_embeddings()
    student.body.set_input_embeddings(frozen(rows))
    _renumber(student.body.config, own, len(rows))
    try:
        with without_bars():
            student.body.save_pretrained(folder)
    finally:
        student.body.set_input_embeddings(unused)
    _write_tokenizer(own, folder, max_tokens)
    kinds = {"": f"{MODULES}.Transformer", "1_Pooling": f"{MODULES}.Pooling", "2_Normalize": f"{MODULES}.Normalize"}
    _write_modules(folder, kinds, prompts)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    modes = {"word_embedding_dimension": student.dim, "pooling_mode_cls_token": student.pooling == "cls"}
    modes |= {"pooling_mode_mean_tokens": student.pooling == "mean"}
    _write_json(folder / "1_Pooling" / "config.json", modes)
    (folder / "2_Normalize").mkdir(exist_ok=True)


def write_package(
    folder: Path,
    target: Path,
    texts: Sequence[str],
    *,
    options: ExportOptions | None = None,
    step: LinearStep | None = None,
) -> Exported:
    """The encoder that the package ships, made from a sentence-transformers folder and compared with float32.

    The float32 graph lies beside it, in ``target`` with ``-float32`` to its name, as the reference; it is compared with
    torch. Queries and passages are compared, each with its prompt.

    Args:
        texts: what the comparisons encode; in several languages, at least two.
        options: how the weights are stored; by default 4-bit embeddings and an int8 body.
        step: becomes part of both graphs.

    Raises:
        EncoderError: the folder holds no BERT encoder with mean pooling.
        TrainingError: the exported vectors are not those of the encoder.
    """
    reference = target.with_name(f"{target.name}-float32")
    write_encoder(folder, reference, EXACT, step=step)
    floats = BuiltinEncoder(reference)
    exact = compare(HubEncoder(str(folder)), floats, texts, step=step)
    if exact.lowest < FLOAT_PARITY:
        raise TrainingError(
            f"The float32 graph gives a text a vector with cosine {exact.lowest:.5f} to torch's",
            f"At least {FLOAT_PARITY} is expected of every text",
            f"Use {folder} through the hub extra, and report this: the graph is not that of the model",
        )
    options = options or ExportOptions()
    write_encoder(folder, target, options, step=step)
    rounded = compare(floats, BuiltinEncoder(target, body=options.body), texts)
    if rounded.lowest < INT8_PARITY:
        raise TrainingError(
            f"The {options.dtype} vector of a text has cosine {rounded.lowest:.3f} to its float32 vector",
            f"At least {INT8_PARITY} is expected of every text",
            f"Ship {reference}, or look for weights that lie far out",
        )
    return Exported(exact, rounded)


def compare(reference: Encoder, other: Encoder, texts: Sequence[str], *, step: LinearStep | None = None) -> Parity:
    """How close the vectors of two encoders are on the same texts, as queries and as passages.

    Args:
        step: follows the reference, which has none of its own.
    """
    cosines, same = [], []
    for first, second in zip(_by_door(reference, texts, step), _by_door(other, texts, None), strict=True):
        cosines.append((first * second).sum(1))
        same.append(_nearest(first) == _nearest(second))
    return Parity(lowest=float(np.min(cosines)), mean=float(np.mean(cosines)), same_nearest=float(np.mean(same)))


def _by_door(encoder: Encoder, texts: Sequence[str], step: LinearStep | None) -> tuple[Vectors, Vectors]:
    queries, passages = encoder.encode_queries(texts), encoder.encode_passages(texts)
    return (queries, passages) if step is None else (step.queries(queries), step.passages(passages))


def _nearest(vectors: Vectors) -> NDArray[np.intp]:
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    places: NDArray[np.intp] = scores.argmax(1)
    return places


def _write_tokenizer(tokenizer: Tokenizer, folder: Path, max_tokens: int) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab()
    names = {
        role: next(token for token in tokens if token in vocabulary)
        for role, tokens in SPECIAL_NAMES.items()
        if any(token in vocabulary for token in tokens)
    }
    content = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_tokens, **names}
    _write_json(folder / "tokenizer_config.json", content)


def _renumber(config: Any, tokenizer: Tokenizer, rows: int) -> None:
    """Gives the model's configuration the size of the vocabulary and, where it names them, the special tokens' ids."""
    config.vocab_size = rows
    vocabulary = tokenizer.get_vocab()
    for role, tokens in SPECIAL_NAMES.items():
        found = next((vocabulary[token] for token in tokens if token in vocabulary), None)
        if found is not None and getattr(config, f"{role}_id", None) is not None:
            setattr(config, f"{role}_id", found)


def _write_static(rows: torch.Tensor, tokenizer: Tokenizer, folder: Path, prompts: Prompts) -> None:
    from safetensors.torch import save_file

    inner = folder / "0_StaticEmbedding"
    inner.mkdir(exist_ok=True)
    tokenizer.save(str(inner / "tokenizer.json"))
    save_file({"embedding.weight": rows.contiguous()}, inner / "model.safetensors")
    kinds = {"0_StaticEmbedding": f"{MODULES}.StaticEmbedding", "1_Normalize": f"{MODULES}.Normalize"}
    _write_modules(folder, kinds, prompts)
    (folder / "1_Normalize").mkdir(exist_ok=True)


def _write_modules(folder: Path, kinds: dict[str, str], prompts: Prompts) -> None:
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": kind}
        for number, (path, kind) in enumerate(kinds.items())
    ]
    _write_json(folder / "modules.json", modules)
    settings = {**SETTINGS, "prompts": {"query": prompts.query, "document": prompts.passage}}
    _write_json(folder / "config_sentence_transformers.json", settings)


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
