"""Kinds of approximate FAISS indexes: which come into question for a corpus, and how one is trained and filled."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from xsearch.errors import InvalidArgumentError
from xsearch.store.kmeans import ivf_of_centres, nearest_lists, spherical_kmeans
from xsearch.store.selection import Selection, import_faiss
from xsearch.store.vectors import READ_ROWS, Rows, Vectors, VectorSource

# Vectors a list that its centre is trained on, and FAISS's rounds of k-means for lists and for quantisers: with 256 and
# 25, which it takes by default, lists take eight times as long for 0.2 points of recall at the same effort, quantisers
# three times as long for none.
TRAINING_VECTORS_A_LIST = 64
TRAINING_ROUNDS = 8
TRAINING_VECTORS = 65_536
MAX_LISTS = 65_536

# The kind of index that is no approximation.
FLAT = "Flat"

READABLE = re.compile("[!-~]+")
# FAISS takes these, and ends the process when it adds vectors.
DEADLY = re.compile(r"(?:HNSW|NSG)0*[01](?!\d)|x0+(?!\d)|_0+(?!\d)")
PLACE_IN_SOURCE = re.compile(r"^Error in .+? at \S+:\d+: (?:Error: )?")

OnRows = Callable[[int], None]


def likely_factories(rows: int, dim: int) -> list[list[str]]:
    """The kinds worth trying, as FAISS factory strings; those of a later group where none before reaches the recall.

    Inverted lists, because they are built in a tenth of the time of a graph (benchmarks/results/store.json has HNSW+SQ8
    beside them), and lists as many as the root of the rows. In the lists first product quantisation of four or two
    dimensions to 4 bits, which is scanned in registers (Andre, Kermarrec and Le Scouarnec, VLDB 2015). Where that is
    too coarse: one bit a dimension (RaBitQ, Gao and Long, SIGMOD 2024) or a byte; at a recall of 0.95 these took 2
    and 5 times as long.
    """
    lists = lists_for(rows)
    quantised = [f"IVF{lists},PQ{dim // width}x4fs" for width in (4, 2) if dim % width == 0]
    return [quantised, [f"IVF{lists},RaBitQfs", f"IVF{lists},SQ8"]]


def lists_for(rows: int) -> int:
    """How many lists so many rows are put into: the power of two next to their root."""
    return int(min(MAX_LISTS, 2 ** max(2, round(math.log2(max(rows, 1)) / 2))))


def make(factory: str, dim: int) -> Any:
    """An empty index of the kind that a FAISS factory string names, for inner products.

    Raises:
        InvalidArgumentError: FAISS cannot read the string, or the kind cannot do what a search needs.
    """
    faiss = import_faiss()
    if not READABLE.fullmatch(factory):
        raise _unreadable(factory, dim, "it is empty, or holds more than ASCII's letters, digits and signs")
    if DEADLY.search(factory):
        raise _unreadable(factory, dim, "a graph has at least 2 neighbours, a code 1 bit, a vector 1 dimension")
    try:
        made = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    except (RuntimeError, MemoryError) as exc:
        raise _unreadable(factory, dim, _first_line(exc)) from exc
    inner = faiss.downcast_index(made)
    inner = faiss.downcast_index(inner.index) if isinstance(inner, faiss.IndexPreTransform) else inner
    searchable = faiss.IndexIVF, faiss.IndexHNSW, faiss.IndexFlat, faiss.IndexScalarQuantizer, faiss.IndexRaBitQ
    if not isinstance(inner, searchable) or "AdditiveQuantizer" in str(type(inner).__mro__):
        raise _unusable(factory, f"xsearch cannot search an {type(inner).__name__} among some of its rows")
    if isinstance(inner, faiss.IndexIVF):
        inner.cp.niter = TRAINING_ROUNDS
        inner.cp.max_points_per_centroid = TRAINING_VECTORS_A_LIST
        inner.cp.min_points_per_centroid = 1
        inner.cp.spherical = True
    quantizer = getattr(inner, "pq", None)
    if quantizer is not None:
        quantizer.cp.min_points_per_centroid = 1
        quantizer.cp.niter = TRAINING_ROUNDS
    return made


def train(made: Any, source: VectorSource, rows: Rows, *, centres: Vectors | None = None) -> None:
    """Trains an index on some rows.

    Args:
        centres: those of its lists, where they are known.
    """
    if made.is_trained:
        return
    vectors = source.vectors(rows)
    ivf = ivf_of_centres(made)
    if ivf is not None and ivf.nlist <= len(vectors):
        known = centres is not None and len(centres) == ivf.nlist
        ivf.quantizer.add(centres if known else spherical_kmeans(vectors, ivf.nlist))
    _run(lambda: made.train(vectors))


def fill(made: Any, source: VectorSource, *, on_rows: OnRows | None = None) -> Any:
    """The index with all rows in their order added; another object where that is faster to fill."""
    filling = _filling(made)
    for start in range(0, source.rows, READ_ROWS):
        stop = min(start + READ_ROWS, source.rows)
        _run(partial(filling.add, source.read_range(start, stop)))
        if on_rows is not None:
            on_rows(stop - start)
    return filling.filled()


class _Filling:
    """An index that finds the place of each row itself."""

    def __init__(self, made: Any) -> None:
        self._made = made

    def add(self, vectors: Vectors) -> None:
        """Adds rows, ``(n, dim) float32``."""
        self._made.add(vectors)

    def filled(self) -> Any:
        """The index with all rows that were added."""
        return self._made


class _FillingLists(_Filling):
    """Inverted lists, which are found by numpy's product, of an index that keeps codes one after the other.

    Args:
        made: what owns it.
        ivf: the same as what it is.
    """

    def __init__(self, made: Any, ivf: Any) -> None:
        super().__init__(made)
        self._ivf = ivf
        self._centres: Vectors = ivf.quantizer.reconstruct_n(0, ivf.nlist)

    def add(self, vectors: Vectors) -> None:
        faiss = import_faiss()
        lists = nearest_lists(vectors, self._centres)
        self._ivf.add_core(len(vectors), faiss.swig_ptr(vectors), None, faiss.swig_ptr(lists))


class _FillingPacked(_FillingLists):
    """Inverted lists of codes in blocks, to be scanned in registers.

    Such an index finds lists itself, and is made of one that keeps the same codes one after the other.
    """

    def __init__(self, made: Any, ivf: Any) -> None:
        flat = import_faiss().IndexIVFPQ(ivf.quantizer, ivf.d, ivf.nlist, ivf.pq.M, ivf.pq.nbits, ivf.metric_type)
        flat.pq, flat.by_residual, flat.is_trained = ivf.pq, ivf.by_residual, True
        super().__init__(made, flat)
        self._packed = ivf

    def filled(self) -> Any:
        packed = import_faiss().IndexIVFPQFastScan(self._ivf, self._packed.bbs)
        # The centres are its own from now on.
        self._packed.own_fields, packed.own_fields = False, True
        return packed


def _filling(made: Any) -> _Filling:
    """The fastest way to fill an index that is trained."""
    faiss = import_faiss()
    ivf = ivf_of_centres(made)
    if ivf is None:
        return _Filling(made)
    if type(ivf) is faiss.IndexIVFPQFastScan:
        return _FillingPacked(made, ivf)
    return _Filling(made) if isinstance(ivf, faiss.IndexIVFFastScan) else _FillingLists(made, ivf)


def training_rows(made: Any, rows: int) -> Rows:
    """Those of so many rows that an index is trained on, ascending."""
    ivf = import_faiss().try_extract_index_ivf(made)
    lists = 0 if ivf is None else ivf.nlist
    wanted = min(rows, max(TRAINING_VECTORS, lists * TRAINING_VECTORS_A_LIST))
    return some_rows(rows, wanted, seed=0)


def some_rows(rows: int, count: int, *, seed: int) -> Rows:
    """So many different rows, ascending."""
    return np.sort(np.random.default_rng(seed).choice(rows, min(rows, count), replace=False)).astype(np.int64)


def check_selectors(made: Any, parameters: Callable[[int, Any], Any], factory: str) -> None:
    """Refuses a kind of index that cannot search among some of its rows.

    Raises:
        InvalidArgumentError
    """
    half = np.arange(made.ntotal) % 2 == 0
    query = np.full((1, made.d), 1 / math.sqrt(made.d), dtype=np.float32)
    try:
        _, found = made.search(query, 2, params=parameters(1, Selection(made.ntotal, half).selector))
    except RuntimeError as exc:
        raise _unusable(factory, _first_line(exc)) from exc
    if any(row >= 0 and not half[row] for row in found[0]):
        raise _unusable(factory, "a filtered search found what the filter leaves out")


def _unreadable(factory: str, dim: int, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"The factory string {factory!r} cannot be read: {why}",
        f"It must name a FAISS index for {dim} dimensions, e.g. IVF1024,PQ96x4fs or HNSW16,SQ8 or Flat",
        "See FAISS's documentation of index_factory; or leave --factory out",
    )


def _unusable(factory: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"The index kind {factory!r} cannot be used: {why}",
        "A kind must search among some of its rows, for filters and deleted passages",
        "Use another one, e.g. IVF1024,PQ96x4fs or HNSW16,SQ8; or leave --factory out",
    )


def _run(action: Callable[[], Any]) -> None:
    try:
        action()
    except (RuntimeError, MemoryError) as exc:
        raise InvalidArgumentError(
            f"FAISS cannot build this index: {_first_line(exc)}",
            "There must be enough vectors for what the factory string asks, e.g. for its lists",
            "Use a smaller one, or leave --factory out",
        ) from exc


def _first_line(error: RuntimeError | MemoryError) -> str:
    """What FAISS says, without the place in its source."""
    return PLACE_IN_SOURCE.sub("", str(error).strip().splitlines()[0])
