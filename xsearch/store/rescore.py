"""A FAISS index and the raw vectors behind it: FAISS finds candidates and scores them again, in one call.

The raw vectors stay in their file. FAISS's own refinement (``IndexRefine``) gets an index of the raw vectors that owns
no memory: its codes are a view of the memory map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xsearch.store.selection import import_faiss
from xsearch.store.vectors import Found, Halves, Vectors

# FAISS's parameters for a search, of effort and selector.
Parameters = Callable[[int, Any], Any]


class Rescored:
    """The candidates of a FAISS index in the order of their raw vectors; safe for several threads.

    Args:
        found: the FAISS index, of all rows.
        vectors: ``(rows, dim)`` float16 or float32, contiguous; stays where it is.
    """

    def __init__(self, found: Any, vectors: Halves | Vectors) -> None:
        # FAISS points into the array and the index, which must live as long.
        self._held = vectors, found, _index_over(vectors)
        self._faiss: Any = import_faiss().IndexRefine(found, self._held[2])

    def search(self, queries: Vectors, count: int, parameters: Any) -> Found:
        """About the ``count`` nearest rows of each query; -1 where the index finds fewer.

        Args:
            queries: ``(n, dim) float32``.
            parameters: as :func:`rescoring` makes them.
        """
        scores, rows = self._faiss.search(queries, count, params=parameters)
        return Found(rows, scores)


def rescoring(parameters: Parameters) -> Parameters:
    """FAISS's parameters for searches of a :class:`Rescored`, given those for the index that finds the candidates."""
    return lambda effort, selector: import_faiss().IndexRefineSearchParameters(
        k_factor=1.0, base_index_params=parameters(effort, selector)
    )


def can_rescore() -> bool:
    """Whether this FAISS has indexes that are views; those before 1.11 have none."""
    return hasattr(getattr(import_faiss(), "MaybeOwnedVectorUInt8", None), "create_view")


def _index_over(vectors: Halves | Vectors) -> Any:
    """A FAISS index of these vectors, where they lie."""
    faiss = import_faiss()
    dim, inner = vectors.shape[1], faiss.METRIC_INNER_PRODUCT
    made: Any = (
        faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, inner)
        if vectors.dtype == np.float16
        else faiss.IndexFlat(dim, inner)
    )
    data = vectors.reshape(-1).view(np.uint8)
    # The owner that FAISS wants of a view is that of an index's own codes: nobody, who frees nothing.
    made.codes = faiss.MaybeOwnedVectorUInt8.create_view(faiss.swig_ptr(data), data.nbytes, made.codes.owner)
    made.ntotal = len(vectors)
    return made
