"""Which rows of a part of the index may be found: those that are not deleted, or fewer under a filter."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsearch.errors import MissingExtraError
from xsearch.store.vectors import Rows


class Selection:
    """Rows of one part to search among.

    Args:
        rows: how many rows the part has.
        mask: ``(rows,) bool``; ``None`` for all.
    """

    def __init__(self, rows: int, mask: NDArray[np.bool_] | None) -> None:
        count = rows if mask is None else int(np.count_nonzero(mask))
        self.mask = None if count == rows else mask
        self.count = count
        self.share = count / rows if rows else 0.0

    @cached_property
    def selector(self) -> Any:
        """The FAISS selector of these rows; ``None`` for all."""
        if self.mask is None:
            return None
        faiss = import_faiss()
        return faiss.IDSelectorBitmap(np.packbits(self.mask, bitorder="little"))

    @cached_property
    def selected(self) -> Rows:
        """The rows, ascending."""
        return np.arange(self.count) if self.mask is None else np.flatnonzero(self.mask)

    def keep(self, rows: Rows) -> Rows:
        """Those of the rows that may be found, in their order."""
        return rows if self.mask is None else rows[self.mask[rows]]


def import_faiss() -> Any:
    """The module ``faiss``.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import faiss
    except ImportError as exc:
        raise MissingExtraError("Searching vectors", "faiss", "cpu") from exc
    return faiss
