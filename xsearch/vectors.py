"""Vectors that come with documents: read from what callers have, paired with the documents, checked row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.protocol import unit_vectors
from xsearch.errors import InvalidArgumentError, NonFiniteVectorError
from xsearch.records import Document

# Rows taken together: what one refusal keeps from being written.
BATCH_ROWS = 4_096

Halves = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class VectorBatch:
    """Some documents and their vectors.

    Attributes:
        first_row: the place of the first among all that were given, from 0.
        vectors: ``(documents, dim)``, real numbers of any type, not normalised.
    """

    first_row: int
    documents: Sequence[Document]
    vectors: NDArray[Any]


def batches_of(documents: Iterable[Document], vectors: Any) -> Iterator[VectorBatch]:
    """The documents with their vectors, some at a time; neither needs to be in memory.

    Args:
        vectors: as many as documents, in their order: an array ``(n, dim)``, memory-mapped too, or an iterable of such
            arrays or of single vectors.

    Raises:
        InvalidArgumentError: there are fewer or more of them, or they are no vectors.
    """
    if isinstance(documents, Sequence) and _is_one_array(vectors):
        _check_shape(vectors)
        _check_number(len(documents), len(vectors), at_least=False)
    rest = iter(documents)
    row = 0
    for block in _blocks(vectors):
        some = list(islice(rest, len(block)))
        _check_number(row + len(some), row + len(block), at_least=len(some) < len(block))
        yield VectorBatch(row, some, block)
        row += len(block)
    if next(rest, None) is not None:
        raise InvalidArgumentError(
            f"More than {row:,} documents came with {row:,} vectors",
            "Each document has one vector, in the same order",
            "Pass as many of one as of the other",
        )


def unit_halves(batch: VectorBatch, *, dim: int) -> Halves:
    """The vectors of a batch at length 1, as they are stored.

    Raises:
        InvalidArgumentError: they have not ``dim`` numbers each.
        NonFiniteVectorError: one holds NaN or infinity, or is all zero.
    """
    vectors = batch.vectors
    if vectors.shape[1:] != (dim,) and len(vectors):
        raise InvalidArgumentError(
            f"{named(_id(batch, 0), batch.first_row)} has a vector of {vectors.shape[1]:,} numbers",
            f"The encoder that the index was made with makes {dim:,}",
            "Pass vectors of that encoder, or make an index with the encoder of these (--encoder)",
        )
    # What is too large for 32 bits becomes infinity, and is told below.
    with np.errstate(over="ignore", invalid="ignore"):
        rows = vectors.astype(np.float32)
        try:
            return unit_vectors(rows).astype(np.float16)
        except NonFiniteVectorError as exc:
            norms = np.linalg.norm(rows, axis=1)
            place = int(np.flatnonzero(~np.isfinite(norms) | (norms < 1e-12))[0])
            raise NonFiniteVectorError(
                f"{named(_id(batch, place), batch.first_row + place)} has a vector with NaN or infinity in it, "
                f"or of zeros (its length is {float(norms[place])})",
                exc.expected,
                "Leave it out, or encode its text again",
            ) from exc


def named(doc_id: str, row: int) -> str:
    """How messages call a document and its vector."""
    return f"Row {row} (from 0), the document {doc_id!r},"


def _id(batch: VectorBatch, place: int) -> str:
    return str(getattr(batch.documents[place], "doc_id", batch.documents[place]))


def _is_one_array(vectors: Any) -> bool:
    """Whether these are the rows of one array, and no list of arrays."""
    return hasattr(vectors, "shape")


def _check_shape(vectors: Any) -> None:
    if len(vectors.shape) != 2:
        raise _no_vectors(f"vectors is an array of shape {tuple(vectors.shape)}")


def _check_number(documents: int, vectors: int, *, at_least: bool) -> None:
    if documents != vectors:
        raise InvalidArgumentError(
            f"{documents:,} documents came with {'at least ' if at_least else ''}{vectors:,} vectors",
            "Each document has one vector, in the same order",
            "Pass as many of one as of the other",
        )


def _blocks(vectors: Any) -> Iterator[NDArray[Any]]:
    """All rows in their order, ``(some, dim)`` at a time."""
    if _is_one_array(vectors):
        _check_shape(vectors)
        for start in range(0, vectors.shape[0], BATCH_ROWS):
            yield _array(vectors[start : start + BATCH_ROWS], start)
        return
    if isinstance(vectors, (str, bytes)) or not isinstance(vectors, Iterable):
        raise _no_vectors(f"vectors is a {type(vectors).__name__}")
    single: list[NDArray[Any]] = []
    row = 0
    for item in vectors:
        found = _array(item, row)
        if single and (found.shape != single[0].shape or len(single) == BATCH_ROWS):
            yield np.stack(single)
            single = []
        if found.ndim == 1:
            single.append(found)
            row += 1
        elif found.ndim == 2:
            row += len(found)
            yield from (found[start : start + BATCH_ROWS] for start in range(0, len(found), BATCH_ROWS))
        else:
            raise _no_vectors(f"Row {row} is an array of shape {found.shape}")
    if single:
        yield np.stack(single)


def _array(item: Any, row: int) -> NDArray[Any]:
    try:
        found = np.asarray(item)
    except (ValueError, TypeError, RuntimeError) as exc:
        raise _no_vectors(f"Row {row} is no array of numbers ({exc})") from exc
    if found.dtype.kind not in "fiu":
        raise _no_vectors(f"Row {row} is of type {found.dtype}")
    return found


def _no_vectors(given: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        given,
        "Vectors are an array of numbers (documents, dim), or an iterable of such arrays or of single vectors",
        "Pass for example numpy.load('vectors.npy', mmap_mode='r')",
    )
