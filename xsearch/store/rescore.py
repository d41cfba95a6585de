"""The best of each query's candidates by their raw vectors, found by FAISS where the vectors lie: in the memory map.

FAISS re-scores candidates itself (``IndexRefine``) only out of vectors that it holds in memory, a second time. Here the
file stands in for inverted lists of one vector each, and a query looks into those that are its candidates: nothing is
copied, rows are scored in the processor's registers, and queries are shared out among threads.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsearch.store.selection import import_faiss
from xsearch.store.vectors import Rows, Vectors

# One list as FAISS keeps it: vectors in it, room in it, its place in bytes.
LIST = np.dtype([("size", "<u8"), ("capacity", "<u8"), ("offset", "<u8")])
# FAISS names a vector by its list and its place therein; the list stands above this many bits.
PLACE_BITS = 32


class Rescorer:
    """Chooses among rows of an array by their inner products with a query; safe for several threads.

    Args:
        vectors: ``(rows, dim)`` float16 or float32, contiguous; stays where it is.
    """

    def __init__(self, vectors: NDArray[np.float16] | Vectors) -> None:
        faiss = import_faiss()
        rows, dim = vectors.shape
        row_bytes = dim * vectors.itemsize
        lists = np.empty(rows, dtype=LIST)
        lists["size"] = lists["capacity"] = 1
        lists["offset"] = np.arange(rows, dtype=np.uint64) * np.uint64(row_bytes)
        # Of FAISS's lists those which it believes to be in a file take any address; they are given that of the array.
        held = faiss.OnDiskInvertedLists()
        held.nlist, held.code_size, held.read_only = rows, row_bytes, True
        held.lists.resize(rows)
        faiss.memcpy(held.lists.data(), faiss.swig_ptr(lists.view(np.uint8)), lists.nbytes)
        held.ptr = faiss.swig_ptr(vectors.reshape(-1).view(np.uint8))
        # They would unmap the address; the array itself does.
        weakref.finalize(self, _let_go, held, vectors)
        self._quantizer = faiss.IndexFlatIP(dim)
        if vectors.dtype == np.float16:
            half = faiss.ScalarQuantizer.QT_fp16
            made = faiss.IndexIVFScalarQuantizer(
                self._quantizer, dim, 1, half, faiss.METRIC_INNER_PRODUCT, False
            )  # fmt: skip
        else:
            made = faiss.IndexIVFFlat(self._quantizer, dim, 1, faiss.METRIC_INNER_PRODUCT)
        made.nlist = rows
        made.replace_invlists(held, False)
        made.ntotal, made.is_trained = rows, True
        self._faiss: Any = made

    def best(self, queries: Vectors, candidates: Rows, count: int) -> Rows:
        """Those ``count`` of each query's candidates that are nearest to it, in no certain order; -1 where are fewer.

        Args:
            queries: ``(n, dim) float32``, contiguous.
            candidates: ``(n, some)``, contiguous; -1 for none.
        """
        faiss = import_faiss()
        shape = len(queries), count
        scores, labels = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.int64)
        parameters = faiss.SearchParametersIVF(nprobe=candidates.shape[1])
        self._faiss.search_preassigned_c(
            len(queries),
            faiss.swig_ptr(queries),
            count,
            faiss.swig_ptr(candidates),
            faiss.swig_ptr(np.zeros(candidates.shape, dtype=np.float32)),
            faiss.swig_ptr(scores),
            faiss.swig_ptr(labels),
            True,
            parameters,
        )
        labels >>= PLACE_BITS
        return labels


def can_rescore() -> bool:
    """Whether this FAISS has what a :class:`Rescorer` is made of; builds for Windows do not."""
    return hasattr(import_faiss(), "OnDiskInvertedLists")


def _let_go(held: Any, vectors: NDArray[Any]) -> None:
    held.ptr = None
