"""Static models of sentence-transformers, a table of token vectors and their mean, as the hub encoder needs them.

Such a model carries the tokenizer of the library ``tokenizers`` itself, reads texts of any length, adds no special
tokens, and gives the zero vector for a text in which it knows nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.encoder.protocol import Vectors
from xsearch.errors import EncoderError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# A static model has no positions; this is what its max_tokens says, and what no passage reaches.
UNLIMITED_TOKENS = 1_000_000


def check_folder(folder: Path) -> None:
    """Refuses a folder of a static model whose tokenizer is not there or no JSON; other folders pass.

    The tokenizer's parser raises a bare ``Exception``, which cannot be told from others afterwards.

    Raises:
        EncoderError: the file is missing or damaged.
    """
    modules = folder / "modules.json"
    if not modules.is_file() or b"StaticEmbedding" not in modules.read_bytes():
        return
    try:
        for entry in json.loads(modules.read_bytes()):
            if str(entry["type"]).endswith("StaticEmbedding"):
                json.loads((folder / entry["path"] / "tokenizer.json").read_bytes())
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise EncoderError(
            f"The static model {str(folder)!r} cannot be loaded: {exc}",
            "Its modules.json names a folder with a tokenizer.json, both of them JSON",
            "Check that the folder is whole",
        ) from exc


def is_static(model: SentenceTransformer) -> bool:
    """Whether the model's first layer is a table of token vectors with a mean over them."""
    from tokenizers import Tokenizer
    from torch.nn import EmbeddingBag

    return isinstance(model.tokenizer, Tokenizer) and isinstance(getattr(model[0], "embedding", None), EmbeddingBag)


def check_rows(model: SentenceTransformer, name: str) -> None:
    """Refuses a model whose tokenizer has more tokens than its table has rows.

    Raises:
        EncoderError: it does not fit.
    """
    tokens, rows = model.tokenizer.get_vocab_size(), len(_table(model))
    if tokens > rows:
        raise EncoderError(
            f"The model {name!r} has {tokens} tokens and {rows} vectors",
            "A static model has a vector for each token of its tokenizer.json",
            "Check that both files are of the same model",
        )


def transformers_tokenizer(tokenizer: Any) -> Any:
    """The model's tokenizer with the interface that ``transformers`` gives its own; it adds no special tokens.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    layout: dict[str, Any] = json.loads(tokenizer.to_str())
    # What a post-processor adds (such as [CLS]), the model never sees.
    layout["post_processor"] = layout["padding"] = None
    plain = Tokenizer.from_str(json.dumps(layout))
    unknown = _unknown_token(layout["model"])
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token=unknown)  # type: ignore[no-untyped-call]


def max_tokens(tokenizer: Any) -> int:
    """How many tokens of a text the model reads: all of them, unless its tokenizer cuts.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``.
    """
    cut = tokenizer.truncation
    return int(cut["max_length"]) if cut else UNLIMITED_TOKENS


def fill_directionless(model: SentenceTransformer, vectors: Vectors) -> None:
    """Gives texts of which the model knows nothing the mean of its table, in place: a zero vector has no direction.

    Args:
        vectors: ``(n, dim) float32``, as the model gives them.
    """
    empty = ~vectors.any(axis=1)
    table = _table(model).detach()
    # A further layer may have changed the dimension; then the row is refused like any other that is all zeros.
    if empty.any() and table.shape[1] == vectors.shape[1]:
        # In double precision: a sum over a large vocabulary loses digits.
        vectors[empty] = table.double().mean(dim=0).cpu().numpy().astype(np.float32)


def rows_of(model: SentenceTransformer, ids: Sequence[int]) -> Vectors:
    """The token vectors of these ids, ``(n, dim) float32``."""
    rows: Vectors = _table(model).detach()[list(ids)].float().cpu().numpy()
    return rows


def _table(model: SentenceTransformer) -> Any:
    embedding: Any = model[0].embedding
    return embedding.weight


def _unknown_token(layout: dict[str, Any]) -> str | None:
    """The token for what the vocabulary lacks: named by WordLevel, WordPiece and BPE, numbered by Unigram."""
    if layout.get("unk_id") is not None:
        return str(layout["vocab"][layout["unk_id"]][0])
    token = layout.get("unk_token")
    return None if token is None or token not in layout["vocab"] else str(token)
