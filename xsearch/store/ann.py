"""Approximate search over the rows of one big segment: FAISS finds candidates, the raw vectors decide between them."""

from __future__ import annotations

import math
import threading
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from xsearch.errors import IndexDamagedError
from xsearch.store.exact import ROUNDING, best_of, best_of_each
from xsearch.store.files import sha256_of
from xsearch.store.rescore import Parameters, Rescored, can_rescore, rescoring
from xsearch.store.selection import Selection, import_faiss
from xsearch.store.vectors import Found, Rows, Scratch, Vectors, VectorSource

ANN_FOLDER = "ann"
# Tuned for this many answers; more of them take more candidates and more effort, see Reach.for_k.
TUNED_K = 10
# With no more rows to search among than these, all of them are scored: 2,000 rows take a millisecond.
EXACT_AMONG = 2_000
# While at least this share of the rows may be found, the others are passed over among the candidates.
PASS_OVER_SHARE = 0.8
# How effort grows as fewer rows may be found. Measured on 20,000 rows of which one in a hundred was allowed: a graph
# found 0.86 of the nearest with the lists' power, 0.90 with 0.7, and all with 1, in ten times the time.
LISTS_POWER = 0.4
GRAPH_POWER = 0.8
# FAISS's parameters of so many efforts are kept.
PARAMETERS_KEPT = 64
# Queries handed to FAISS at once; candidates of so many are held in memory.
QUERIES_AT_ONCE = 256
# Rows that are scored in one step: they stay in the processor's second cache.
ROWS_A_BLOCK = 256
# Rows that are scored in one step where all are.
SCORED_AT_ONCE = 8_192


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a search goes.

    Attributes:
        effort: lists that are looked into (IVF), or the length of the list of candidates (HNSW); 0 where the kind of
            index has no such setting.
        candidates: rows a query that are scored with the raw vectors.
    """

    effort: int
    candidates: int

    def for_k(self, k: int) -> Reach:
        """The reach for more answers than it was tuned for."""
        if k <= TUNED_K:
            return self
        times = k / TUNED_K
        return Reach(math.ceil(self.effort * times**0.25), math.ceil(self.candidates * times**0.8))

    def for_share(self, share: float, *, graph: bool = False) -> Reach:
        """The reach where only a share of the rows may be found: the nearest of them lie in farther lists.

        Of a graph the others are met all the same on the way there, and count.
        """
        return replace(
            self, effort=math.ceil(self.effort * max(share, 1e-6) ** -(GRAPH_POWER if graph else LISTS_POWER))
        )


@dataclass(frozen=True, slots=True)
class AnnFacts:
    """What was measured when a FAISS file was built, at k = 10, with queries made of the segment's vectors.

    Attributes:
        effort, candidates: see :class:`Reach`.
        recall_asked, recall: share of the true ten nearest that are found.
        queries_per_s: in batches, on the machine that built it.
        bytes_per_passage: of the FAISS file.
        seconds: for training, adding and tuning.
    """

    effort: int
    candidates: int
    recall_asked: float
    recall: float
    queries_per_s: float
    bytes_per_passage: float
    seconds: float

    @property
    def reach(self) -> Reach:
        """The tuned settings."""
        return Reach(self.effort, self.candidates)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON-serialisable values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AnnFile:
    """One FAISS file, as the catalogue knows it; its ids are the rows of its segment."""

    number: int
    segment: int
    factory: str
    rows: int
    size: int
    sha256: str
    facts: AnnFacts

    @property
    def name(self) -> str:
        """The file's name in the folder."""
        return f"{self.number:06d}.faiss"


def open_ann(index: Path, file: AnnFile, dim: int) -> Any:
    """The FAISS index of a file, after size, checksum, type and shape were checked.

    Raises:
        IndexDamagedError: the file is missing or is not what was written.
    """
    path = index / ANN_FOLDER / file.name
    faiss = import_faiss()
    try:
        size = path.stat().st_size
        if size != file.size:
            raise _damaged(path, f"has {size} bytes, not {file.size}")
        if sha256_of(path) != file.sha256:
            raise _damaged(path, "has another checksum than when it was written")
        found = faiss.read_index(str(path))
    except FileNotFoundError as exc:
        raise _damaged(path, "is missing") from exc
    except OSError as exc:
        raise _damaged(path, f"cannot be read ({exc.strerror or exc})") from exc
    except RuntimeError as exc:
        raise _damaged(path, f"is no FAISS index ({exc})") from exc
    if found.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise _damaged(path, "ranks by another measure than inner products")
    if (found.d, found.ntotal) != (dim, file.rows):
        raise _damaged(path, f"holds {found.ntotal} vectors of {found.d} dimensions, not {file.rows} of {dim}")
    return found


class AnnPart:
    """The rows of one segment behind a FAISS index; immutable and safe for several threads."""

    def __init__(self, source: VectorSource, found: Any, reach: Reach) -> None:
        self.rows = source.rows
        self.reach = reach
        self._raw = source
        self._faiss = found
        self.greatest_effort = greatest_effort(found)
        self._graph = _hnsw_of(found) is not None
        self._own = threading.local()
        self._rescored = Rescored(found, source.array) if can_rescore() else None
        plain = search_parameters(found)
        self._parameters = parameters = plain if self._rescored is None else rescoring(plain)
        # FAISS reads them only; to make them takes a fiftieth of a search of one query. A method would keep this alive.
        self._usual_parameters = lru_cache(PARAMETERS_KEPT)(lambda effort: parameters(effort, None))

    def vectors(self, rows: Rows) -> Vectors:
        """These rows, ``(n, dim) float32``."""
        return self._raw.vectors(rows)

    def read_range(self, start: int, stop: int) -> Vectors:
        """Rows ``start`` to ``stop``, ``(stop - start, dim) float32``."""
        return self._raw.read_range(start, stop)

    def search(self, queries: Vectors, k: int, selection: Selection, *, reach: Reach | None = None) -> Found:
        """About the ``k`` best rows of each query, ``k`` where there are so many; of equals the later comes first.

        Args:
            queries: ``(n, dim) float32``.
            k: at least 1.
            reach: instead of the tuned one for ``k``.
        """
        count = min(k, selection.count)
        if count == 0 or not len(queries):
            return Found.nothing(len(queries))
        if selection.count <= max(EXACT_AMONG, 2 * count):
            return Found.of_each([self._best_among(query, selection.selected, count) for query in queries])
        reach = reach or self.reach.for_k(k)
        found = [
            self._search(queries[start : start + QUERIES_AT_ONCE], count, selection, reach)
            for start in range(0, len(queries), QUERIES_AT_ONCE)
        ]
        if len(found) == 1:
            return found[0]
        return Found(np.concatenate([one.rows for one in found]), np.concatenate([one.scores for one in found]))

    def _search(self, queries: Vectors, count: int, selection: Selection, reach: Reach) -> Found:
        passed_over = selection.mask is None or selection.share >= PASS_OVER_SHARE
        if passed_over:
            reach = replace(reach, candidates=math.ceil(reach.candidates / selection.share))
        else:
            reach = reach.for_share(selection.share, graph=self._graph)
        reach = self._possible(reach)
        candidates = self._candidates(queries, reach, None if passed_over else selection.selector)
        return self._decided(queries, candidates, count, selection, reach)

    def _candidates(self, queries: Vectors, reach: Reach, selector: Any) -> Found:
        """Near rows of each query, and about their scores, best first; -1 where FAISS finds fewer."""
        effort = reach.effort
        parameters = self._usual_parameters(effort) if selector is None else self._parameters(effort, selector)
        if self._rescored is not None:
            return self._rescored.search(queries, reach.candidates, parameters)
        rows: Rows = self._faiss.search(queries, reach.candidates, params=parameters)[1]
        return best_of_each(rows, self._scores(queries, rows), reach.candidates)

    def _decided(self, queries: Vectors, near: Found, count: int, selection: Selection, reach: Reach) -> Found:
        """The best of each query's candidates by their raw vectors; more is looked for where they are too few."""
        rows, scores = near.rows, near.scores
        if selection.mask is not None:
            rows[~selection.mask[rows]] = -1
        # Where FAISS finds too few, the last are missing.
        complete = (rows if selection.mask is not None else rows[:, -1]).min() >= 0
        usable = None if complete else rows >= 0
        self._raw.check_rows(rows if usable is None else rows[usable])
        if usable is not None:
            scores[~usable] = -np.inf
            first = np.argsort(~usable, axis=1, kind="stable")
            rows, scores = np.take_along_axis(rows, first, axis=1), np.take_along_axis(scores, first, axis=1)
        # Scored again pair by pair, with those that may tie with the last: the same passage has the same score, and
        # equals the same order, whichever way they were found.
        among = rows[:, : _and_ties(scores, count)]
        found = best_of_each(among, self._scores(queries, among), count)
        if usable is None and rows.shape[1] >= count:
            return found
        enough = (rows >= 0).sum(axis=1) >= count
        return Found.of_each(
            [
                one if enough[place] else self._farther(queries[place], count, selection, reach)
                for place, one in enumerate(found)
            ]
        )

    def _scores(self, queries: Vectors, rows: Rows) -> Vectors:
        """The scores of rows ``(queries, n)``, infinitely low where the row is -1."""
        there = np.maximum(rows, 0)
        at_once = max(1, ROWS_A_BLOCK // rows.shape[1])
        scratch = self._scratch(min(at_once, len(rows)) * rows.shape[1])
        blocks = [slice(start, start + at_once) for start in range(0, len(queries), at_once)]
        scores = np.concatenate([self._raw.scores(there[block], queries[block], scratch) for block in blocks])
        scores[rows < 0] = -np.inf
        return scores

    def _scratch(self, rows: int) -> Scratch:
        """This thread's memory for so many rows: what is new to a process comes to it page by page."""
        if rows > ROWS_A_BLOCK:
            return Scratch(rows, self._raw.dim)
        scratch: Scratch | None = getattr(self._own, "scratch", None)
        if scratch is None:
            scratch = self._own.scratch = Scratch(ROWS_A_BLOCK, self._raw.dim)
        return scratch

    def _farther(self, query: Vectors, count: int, selection: Selection, reach: Reach) -> Found:
        """The best rows of a query for which too few were found so near."""
        wider = self._possible(Reach(4 * max(reach.effort, 1), max(reach.candidates, 4 * count)))
        if wider.effort <= reach.effort and wider.candidates <= reach.candidates:
            return self._best_among(query, selection.selected, count)
        more = self._candidates(query[None], wider, selection.selector)
        return self._decided(query[None], more, count, selection, wider)[0]

    def _possible(self, reach: Reach) -> Reach:
        return Reach(min(reach.effort, self.greatest_effort), min(reach.candidates, self.rows))

    def _best_among(self, query: Vectors, rows: Rows, count: int) -> Found:
        """The best of these rows, all of which are scored."""
        best = Found.nothing(1)[0]
        for start in range(0, len(rows), SCORED_AT_ONCE):
            some = rows[start : start + SCORED_AT_ONCE]
            scores = self._raw.scores(some[None], query[None], Scratch(len(some), len(query)))[0]
            best = best_of(np.concatenate([best.rows, some]), np.concatenate([best.scores, scores]), count)
        return best


def _and_ties(scores: Vectors, count: int) -> int:
    """How many of each query's best are sure to hold the best ``count``, if there are so many.

    Args:
        scores: ``(queries, n)``, best first, to within rounding; infinitely low where there is none.
    """
    held: int = min(count, scores.shape[1])
    least = scores[:, held - 1 : held] - ROUNDING
    if (scores[:, count : count + 1] < least).all():
        return held
    later = scores[:, count:]
    return held + int(np.count_nonzero((later >= least) & (later > -np.inf), axis=1).max())


def greatest_effort(found: Any) -> int:
    """The most that ``effort`` can be for a FAISS index; 0 where it has no such setting."""
    ivf, hnsw = _ivf_of(found), _hnsw_of(found)
    return int(ivf.nlist) if ivf is not None else int(found.ntotal) if hnsw is not None else 0


def search_parameters(found: Any) -> Parameters:
    """A function of effort and selector that gives FAISS's parameters for a search of this index."""
    faiss = import_faiss()
    ivf, hnsw = _ivf_of(found), _hnsw_of(found)
    transformed = isinstance(faiss.downcast_index(found), faiss.IndexPreTransform)

    def parameters(effort: int, selector: Any) -> Any:
        if ivf is not None:
            made = faiss.IVFRaBitQSearchParameters() if "RaBitQ" in type(ivf).__name__ else faiss.SearchParametersIVF()
            made.nprobe = effort
        elif hnsw is not None:
            made = faiss.SearchParametersHNSW()
            made.efSearch = effort
        else:
            made = faiss.SearchParameters()
        if selector is not None:
            made.sel = selector
        if not transformed:
            return made
        return faiss.SearchParametersPreTransform(index_params=made)

    return parameters


def _inner(found: Any) -> Any:
    """The index behind a transformation of the vectors (OPQ, PCA), or the index itself."""
    faiss = import_faiss()
    found = faiss.downcast_index(found)
    return faiss.downcast_index(found.index) if isinstance(found, faiss.IndexPreTransform) else found


def _ivf_of(found: Any) -> Any:
    inner = _inner(found)
    return inner if isinstance(inner, import_faiss().IndexIVF) else None


def _hnsw_of(found: Any) -> Any:
    inner = _inner(found)
    return inner if isinstance(inner, import_faiss().IndexHNSW) else None


def _damaged(path: Path, what: str) -> IndexDamagedError:
    return IndexDamagedError(
        f"The FAISS file {path} {what}",
        "It must be as it was written; it is made from the raw vectors",
        "Make it anew with: xsearch repair NAME",
    )
