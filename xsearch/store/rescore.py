"""The best of each query's candidates by their raw vectors: gathered by numpy, chosen between by FAISS.

FAISS re-scores candidates itself (``IndexRefine``) only out of vectors that it holds in memory, a second time, and one
by one from all over it. Here the vectors of a few queries' candidates are copied side by side into the processor's
second cache, and FAISS looks through them as through inverted lists, one a query: in registers, on all threads.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsearch.store.selection import import_faiss
from xsearch.store.vectors import Rows, Vectors

# Vectors that are gathered at a time.
GATHERED_ROWS = 1_280
# One list as FAISS keeps it: vectors in it, room in it, its place in bytes.
LIST = np.dtype([("size", "<u8"), ("capacity", "<u8"), ("offset", "<u8")])
# FAISS names a vector by its list and, in so many lower bits, its place there.
PLACE_MASK = 2**32 - 1


class Rescorer:
    """Chooses among rows of an array by their inner products with a query; safe for several threads.

    Args:
        vectors: ``(rows, dim)`` float16 or float32; stays where it is.
    """

    def __init__(self, vectors: NDArray[np.float16] | Vectors) -> None:
        self._vectors = vectors
        self._own = threading.local()

    def best(self, queries: Vectors, candidates: Rows, count: int) -> Rows:
        """Those ``count`` of each query's candidates that are nearest to it, in no certain order; -1 where are fewer.

        Args:
            queries: ``(n, dim) float32``, contiguous.
            candidates: ``(n, some)``; -1 for none.
        """
        width = candidates.shape[1]
        missing = candidates < 0
        sizes = np.full(len(queries), width)
        if missing.any():
            candidates = np.take_along_axis(candidates, np.argsort(missing, axis=1, kind="stable"), axis=1)
            sizes -= missing.sum(axis=1)
        found = np.empty((len(queries), count), dtype=np.int64)
        lists = self._lists(width)
        for start in range(0, len(queries), lists.number):
            some = slice(start, start + lists.number)
            places = lists.search(self._vectors, queries[some], candidates[some], sizes[some], count)
            chosen = np.take_along_axis(candidates[some], np.maximum(places, 0), axis=1)
            found[some] = np.where(places < 0, -1, chosen)
        return found

    def _lists(self, width: int) -> _Lists:
        """This thread's."""
        lists: _Lists | None = getattr(self._own, "lists", None)
        if lists is None or lists.width != width:
            lists = self._own.lists = _Lists(self._vectors.dtype, self._vectors.shape[1], width)
        return lists


class _Lists:
    """Lists of a few queries' candidates, for one thread.

    Args:
        width: vectors that a list has room for.
    """

    def __init__(self, dtype: np.dtype[Any], dim: int, width: int) -> None:
        faiss = import_faiss()
        self.width = width
        self.number = max(1, GATHERED_ROWS // width)
        self._gathered = np.empty((self.number * width, dim), dtype=dtype)
        row_bytes = dim * dtype.itemsize
        self._entries = np.zeros(self.number, dtype=LIST)
        self._entries["capacity"] = width
        self._entries["offset"] = np.arange(self.number) * width * row_bytes
        self._assigned = np.arange(self.number)
        self._zeros = np.zeros(self.number, dtype=np.float32)
        # Of FAISS's lists those which it believes to be in a file take any address; they are given that of the array.
        held = faiss.OnDiskInvertedLists()
        held.nlist, held.code_size, held.read_only = self.number, row_bytes, True
        held.lists.resize(self.number)
        held.ptr = faiss.swig_ptr(self._gathered.reshape(-1).view(np.uint8))
        # They would unmap the address.
        weakref.finalize(self, _let_go, held, self._gathered)
        self._held = held
        self._quantizer = faiss.IndexFlatIP(dim)
        inner = faiss.METRIC_INNER_PRODUCT
        if dtype == np.float16:
            half = faiss.ScalarQuantizer.QT_fp16
            made = faiss.IndexIVFScalarQuantizer(self._quantizer, dim, 1, half, inner, False)
        else:
            made = faiss.IndexIVFFlat(self._quantizer, dim, 1, inner)
        made.nlist, made.ntotal, made.is_trained = self.number, len(self._gathered), True
        made.replace_invlists(held, False)
        self._faiss: Any = made
        self._parameters = faiss.SearchParametersIVF(nprobe=1)

    def search(
        self, vectors: NDArray[Any], queries: Vectors, candidates: Rows, sizes: NDArray[np.int64], count: int
    ) -> NDArray[np.int64]:
        """The places of the best candidates of each query, ``(n, count)``; -1 where there are fewer.

        Args:
            sizes: how many candidates each query has, the first ones of its row.
        """
        faiss = import_faiss()
        gathered = self._gathered[: candidates.size]
        np.take(vectors, candidates.ravel(), axis=0, out=gathered, mode="clip")
        self._entries["size"][: len(sizes)] = sizes
        faiss.memcpy(self._held.lists.data(), faiss.swig_ptr(self._entries.view(np.uint8)), self._entries.nbytes)
        shape = len(queries), count
        scores, labels = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.int64)
        self._faiss.search_preassigned_c(
            len(queries),
            faiss.swig_ptr(queries),
            count,
            faiss.swig_ptr(self._assigned),
            faiss.swig_ptr(self._zeros),
            faiss.swig_ptr(scores),
            faiss.swig_ptr(labels),
            True,
            self._parameters,
        )
        return np.where(labels < 0, -1, labels & PLACE_MASK)


def can_rescore() -> bool:
    """Whether this FAISS has what a :class:`Rescorer` is made of; builds for Windows do not."""
    return hasattr(import_faiss(), "OnDiskInvertedLists")


def _let_go(held: Any, gathered: NDArray[Any]) -> None:
    held.ptr = None
