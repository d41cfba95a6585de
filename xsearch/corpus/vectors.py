"""Vectors that somebody else made: an array file beside a table, or a field of each of its records."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsearch.errors import ReadError
from xsearch.records import Document


def open_vectors(path: str) -> NDArray[Any]:
    """The array ``(n, dim)`` in a ``.npy`` file, memory-mapped.

    Raises:
        ReadError: the file is missing, is no array file or holds no table of numbers.
    """
    expected, remedy = "Vectors are in a file that numpy.save wrote, one row a document", "Write it with numpy.save"
    try:
        # Not np.load, which would also open archives and pickles.
        vectors = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError, SyntaxError) as exc:
        raise ReadError(path, f"not an array file ({exc})", expected, remedy) from exc
    except OSError as exc:
        raise ReadError(path, f"cannot be read: {exc.strerror or exc}", expected, "Check the path") from exc
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise ReadError(path, f"holds {vectors.shape} of type {vectors.dtype}", expected, remedy)
    return vectors.view(np.ndarray)


def split_field(documents: Iterable[Document], field: str) -> tuple[Iterator[Document], Iterator[NDArray[np.float64]]]:
    """The documents without a field of their metadata, and the vectors that were in it.

    The vectors are drawn first: each that is drawn makes one more document ready.

    Raises:
        ReadError: a document has no list of numbers there; the message names it.
    """
    ready: deque[Document] = deque()

    def vectors() -> Iterator[NDArray[np.float64]]:
        for document in documents:
            metadata = dict(document.metadata)
            vector = _vector(document, metadata.pop(field, None), field)
            ready.append(replace(document, metadata=metadata))
            yield vector

    def rest() -> Iterator[Document]:
        while ready:
            yield ready.popleft()

    return rest(), vectors()


def _vector(document: Document, value: Any, field: str) -> NDArray[np.float64]:
    """Numbers as an array; null, which NaN becomes in JSON, is NaN again."""
    if isinstance(value, list) and value:
        try:
            found = np.array(value, dtype=np.float64)
        except (ValueError, TypeError):
            found = np.empty(0)
        if found.ndim == 1 and len(found):
            return found
    raise ReadError(
        document.source,
        f"the document {document.doc_id!r} has no vector in the field {field!r}",
        "It must hold a list of numbers",
        "Name another field with --vector-field, or leave the record out",
    )
