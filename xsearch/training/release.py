"""A trained student as folders that others load: sentence-transformers' own, and the package's ONNX with a parity check."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn

from xsearch.encoder.builtin import BuiltinEncoder
from xsearch.encoder.export import Precision, write_encoder
from xsearch.encoder.protocol import Encoder, Vectors
from xsearch.errors import TrainingError
from xsearch.training.student import Student

SPECIAL_NAMES = {
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "mask_token": ("[MASK]", "<mask>"),
}
# Lowest cosine that a text's vector may have between the float32 graph and torch: rounding only.
FLOAT_PARITY = 0.9999
# And between int8 and float32: the weights that ship lie at 0.98 and above on single words.
INT8_PARITY = 0.95


@dataclass(frozen=True, slots=True)
class Parity:
    """How close an exported encoder is to the one it came from.

    Attributes:
        lowest, mean: cosine of the two vectors of the same text.
        same_nearest: share of texts whose nearest other text is the same in both.
    """

    lowest: float
    mean: float
    same_nearest: float


def write_student(student: Student, tokenizer: Tokenizer, folder: Path, *, max_tokens: int, pooling: str) -> None:
    """The student as a sentence-transformers folder: weights as safetensors in float32, tokenizer and configuration.

    Raises:
        TrainingError: a weight is NaN or infinite.
    """
    rows = student.table.rows.detach().cpu()
    if not bool(torch.isfinite(rows).all()):
        raise TrainingError(
            "A token embedding is NaN or infinite", "All weights must be finite", "Go back to an earlier checkpoint"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if student.body is None:
        _write_static(rows, tokenizer, folder)
        return
    embedding = nn.Embedding(*rows.shape)
    embedding.weight = nn.Parameter(rows.clone())
    placeholder = student.body.get_input_embeddings()
    student.body.set_input_embeddings(embedding)
    student.body.config.vocab_size = len(rows)
    try:
        student.body.save_pretrained(folder)
    finally:
        student.body.set_input_embeddings(placeholder)
    _write_tokenizer(tokenizer, folder, max_tokens)
    kinds = {
        "": "sentence_transformers.models.Transformer",
        "1_Pooling": "sentence_transformers.models.Pooling",
        "2_Normalize": "sentence_transformers.models.Normalize",
    }
    _write_modules(folder, kinds)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    modes = {"word_embedding_dimension": student.dim, "pooling_mode_cls_token": pooling == "cls"}
    modes |= {"pooling_mode_mean_tokens": pooling == "mean"}
    _write_json(folder / "1_Pooling" / "config.json", modes)
    (folder / "2_Normalize").mkdir(exist_ok=True)


def write_package(folder: Path, target: Path, texts: Sequence[str]) -> Parity:
    """The int8 encoder that the package ships, made from a sentence-transformers folder and compared with float32.

    The float32 graph lies beside it, in ``target`` with ``-float32`` to its name, as the reference.

    Args:
        texts: what the comparison encodes; in several languages, at least two.

    Raises:
        EncoderError: the folder holds no BERT encoder with mean pooling.
        TrainingError: the exported vectors are not those of the float32 graph.
    """
    reference = target.with_name(f"{target.name}-float32")
    write_encoder(folder, reference, Precision.FLOAT32)
    write_encoder(folder, target, Precision.INT8)
    parity = compare(BuiltinEncoder(reference), BuiltinEncoder(target), texts)
    if parity.lowest < INT8_PARITY:
        raise TrainingError(
            f"The int8 vector of a text has cosine {parity.lowest:.3f} to its float32 vector",
            f"At least {INT8_PARITY} is expected of every text",
            f"Ship {reference}, or look for weights that lie far out",
        )
    return parity


def compare(reference: Encoder, other: Encoder, texts: Sequence[str]) -> Parity:
    """How close the vectors of two encoders are on the same texts."""
    first, second = reference.encode_passages(texts), other.encode_passages(texts)
    cosines = (first * second).sum(1)
    nearest = [_nearest(vectors) for vectors in (first, second)]
    return Parity(
        lowest=float(cosines.min()), mean=float(cosines.mean()), same_nearest=float((nearest[0] == nearest[1]).mean())
    )


def _nearest(vectors: Vectors) -> NDArray[np.intp]:
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    places: NDArray[np.intp] = scores.argmax(1)
    return places


def _write_tokenizer(tokenizer: Tokenizer, folder: Path, max_tokens: int) -> None:
    tokenizer.enable_truncation(max_tokens)
    tokenizer.save(str(folder / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab()
    names = {
        role: next(token for token in tokens if token in vocabulary)
        for role, tokens in SPECIAL_NAMES.items()
        if any(token in vocabulary for token in tokens)
    }
    content = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_tokens, **names}
    _write_json(folder / "tokenizer_config.json", content)


def _write_static(rows: torch.Tensor, tokenizer: Tokenizer, folder: Path) -> None:
    from safetensors.torch import save_file

    inner = folder / "0_StaticEmbedding"
    inner.mkdir(exist_ok=True)
    tokenizer.no_padding()
    tokenizer.save(str(inner / "tokenizer.json"))
    save_file({"embedding.weight": rows.contiguous()}, inner / "model.safetensors")
    kinds = {
        "0_StaticEmbedding": "sentence_transformers.models.StaticEmbedding",
        "1_Normalize": "sentence_transformers.models.Normalize",
    }
    _write_modules(folder, kinds)
    (folder / "1_Normalize").mkdir(exist_ok=True)


def _write_modules(folder: Path, kinds: dict[str, str]) -> None:
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": kind}
        for number, (path, kind) in enumerate(kinds.items())
    ]
    _write_json(folder / "modules.json", modules)
    _write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "", "document": ""}, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
