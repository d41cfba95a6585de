"""Building the FAISS index of a segment: the fastest of the likely kinds, tuned until it finds what was asked for."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from xsearch.store.ann import TUNED_K, AnnFacts, AnnPart, Reach, search_parameters
from xsearch.store.exact import ROUNDING
from xsearch.store.kinds import (
    FLAT,
    OnRows,
    check_selectors,
    fill,
    likely_factories,
    lists_for,
    make,
    some_rows,
    train,
    training_rows,
)
from xsearch.store.kmeans import spherical_kmeans
from xsearch.store.selection import Selection
from xsearch.store.vectors import READ_ROWS, RawVectors, Rows, Scratch, Vectors, VectorSource, inner_products

DEFAULT_RECALL = 0.95
# The recall of so many queries has a standard error of 0.5 points.
QUERIES = 500
# Rows that a query is the sum of.
SUMMED = 3
# What is asked of these queries beyond what was asked: at a million rows real texts were found 1.2 points less than
# they. Of a high recall, that share of what it leaves.
MARGIN, MARGIN_SHARE = 0.02, 0.4
# Kinds are compared on so many rows, in lists as long as those of the whole. More rows need more lists for the same
# recall: 16 times as many rows took 2.6 times as many lists.
TRIAL_ROWS = 65_536
TRIAL_QUERIES = 200
EFFORT_GROWTH = 1 / 3
CANDIDATES = (80, 160, 320, 640, 1280)
# Neighbouring efforts that are tried lie this far apart.
EFFORT_STEP = 1.2
TIMED_ROUNDS = 3
# A reach is slower than another where it takes so many times as long: the machine may be busy.
SLOWER = 1.1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asks of an index.

    Attributes:
        recall: share of the true ten nearest that a search must find.
        factory: the kind of index, as a FAISS factory string; empty for the fastest of the likely ones.
    """

    recall: float = DEFAULT_RECALL
    factory: str = ""


@dataclass(frozen=True, slots=True)
class Built:
    """A FAISS index that is ready to be written: its rows are those of the segment."""

    index: Any
    factory: str
    reach: Reach
    recall: float
    queries_per_s: float
    seconds: float

    def facts(self, wanted: Wanted, size: int) -> AnnFacts:
        """What the catalogue keeps; ``size`` is that of the file, in bytes."""
        return AnnFacts(
            effort=self.reach.effort,
            candidates=self.reach.candidates,
            recall_asked=wanted.recall,
            recall=round(self.recall, 4),
            queries_per_s=round(self.queries_per_s, 1),
            bytes_per_passage=round(size / max(self.index.ntotal, 1), 1),
            seconds=round(self.seconds, 1),
        )


@dataclass(frozen=True, slots=True)
class _Questions:
    """Queries, and the score of the tenth nearest row to each: those that score as much are right."""

    queries: Vectors
    lowest: Vectors


@dataclass(frozen=True, slots=True)
class _Tuned:
    reach: Reach
    recall: float
    seconds_a_query: float


class HeldVectors:
    """Vectors in memory, ``(rows, dim) float32``: a sample."""

    def __init__(self, held: Vectors) -> None:
        self.rows, self.dim = held.shape
        self.array = held

    def check_rows(self, rows: Rows) -> None:
        """Nothing to compare with."""

    def vectors(self, rows: Rows) -> Vectors:
        """These rows, ``(n, dim) float32``."""
        return self.array[rows]

    def read_range(self, start: int, stop: int) -> Vectors:
        """Rows ``start`` to ``stop``, ``(stop - start, dim) float32``."""
        return self.array[start:stop]

    def scores(self, rows: Rows, queries: Vectors, scratch: Scratch) -> Vectors:
        """Inner products of rows ``(queries, n)`` with the queries ``(queries, dim)``, ``(queries, n) float32``."""
        return inner_products(self.array[rows], queries[:, None])


def build(raw: RawVectors, wanted: Wanted, *, on_rows: OnRows | None = None) -> Built:
    """The FAISS index of a segment: chosen, trained, filled and tuned.

    Args:
        on_rows: called with the number of rows that were added since the last call.

    Raises:
        InvalidArgumentError: the kind that was asked for cannot be built.
    """
    began = time.perf_counter()
    factory = wanted.factory or _fastest(raw, wanted.recall)
    made = make(factory, raw.dim)
    train(made, raw, training_rows(made, raw.rows))
    made = fill(made, raw, on_rows=on_rows)
    check_selectors(made, search_parameters(made), factory)
    tuned = _tune(AnnPart(raw, made, Reach(1, 1)), _questions(raw, QUERIES), wanted.recall)
    return Built(made, factory, tuned.reach, tuned.recall, 1 / tuned.seconds_a_query, time.perf_counter() - began)


def _fastest(raw: RawVectors, recall: float) -> str:
    """The likely kind that answers fastest at this recall, by trial on a sample of the segment."""
    sample = HeldVectors(raw.vectors(some_rows(raw.rows, TRIAL_ROWS, seed=1)))
    questions = _questions(sample, TRIAL_QUERIES)
    lists = max(4, round(sample.rows * lists_for(raw.rows) / raw.rows))
    centres = spherical_kmeans(sample.array, lists)
    growth = (raw.rows / sample.rows) ** EFFORT_GROWTH
    best: tuple[float, str] | None = None
    for kinds in likely_factories(raw.rows, raw.dim):
        for factory in kinds:
            made = make(factory.replace(f"IVF{lists_for(raw.rows)},", f"IVF{lists},"), raw.dim)
            train(made, sample, np.arange(sample.rows), centres=centres)
            part = AnnPart(sample, fill(made, sample), Reach(1, 1))
            tuned = _tune(part, questions, recall)
            expected = Reach(min(round(tuned.reach.effort * growth), part.greatest_effort), tuned.reach.candidates)
            # What cannot reach the recall comes last, the nearest to it first.
            cost = _seconds(part, questions, expected) if tuned.recall >= recall else 1e6 - tuned.recall
            best = min(best or (cost, factory), (cost, factory))
        if best is not None and best[0] < 1e5:
            break
    return best[1] if best is not None else FLAT


def _questions(source: VectorSource, count: int) -> _Questions:
    """Queries made of the corpus, each as far from all passages as a question is.

    A query is the sum of three rows, less twice the mean of all. A row by itself is too easy a query: its nearest
    neighbours lie in its own list. On a million vectors enlarged from 20,000 texts, 32 of 1,024 lists gave a recall of
    0.999 for rows, 0.979 for sums of two, 0.918 for sums of three, and 0.936 for real texts that are not among them.
    """
    drawn = [source.vectors(some_rows(source.rows, count, seed=seed)) for seed in range(2, 2 + SUMMED)]
    middle = source.vectors(some_rows(source.rows, 20 * count, seed=1)).mean(axis=0)
    shuffled = [np.random.default_rng(seed).permutation(vectors) for seed, vectors in enumerate(drawn)]
    queries = np.sum(shuffled, axis=0) - (SUMMED - 1) * middle
    queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-6)
    return _Questions(queries, _lowest_of_best(source, queries, min(TUNED_K, source.rows)))


def _lowest_of_best(source: VectorSource, queries: Vectors, count: int) -> Vectors:
    """The score of the last of the ``count`` nearest rows to each query, ``(queries,) float32``."""
    best = np.full((len(queries), count), -np.inf, dtype=np.float32)
    for start in range(0, source.rows, READ_ROWS):
        scores = queries @ source.read_range(start, min(start + READ_ROWS, source.rows)).T
        better = scores > best[:, :1]
        for place in np.flatnonzero(better.any(axis=1)):
            among = np.concatenate([best[place], scores[place, better[place]]])
            best[place] = np.sort(np.partition(among, -count)[-count:])
    return best[:, 0]


def _tune(part: AnnPart, questions: _Questions, recall: float) -> _Tuned:
    """The fastest reach that finds what is asked for, or the farthest."""
    asked = recall + min(MARGIN, MARGIN_SHARE * (1 - recall))
    ladder = _efforts(part.greatest_effort)
    recall_at = cache(lambda reach: _recall(part, questions, reach))
    found: list[_Tuned] = []
    farthest = _Tuned(Reach(0, 0), -1.0, 0.0)
    for candidates in CANDIDATES:
        efforts = ladder if found == [] else [effort for effort in ladder if effort <= found[-1].reach.effort]
        widest = Reach(efforts[-1], candidates)
        if recall_at(widest) < asked:
            farthest = max(farthest, _Tuned(widest, recall_at(widest), 0.0), key=lambda tuned: tuned.recall)
            continue
        # Recall grows with effort: the first that reaches far enough.
        low, high = 0, len(efforts) - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if recall_at(Reach(efforts[middle], candidates)) >= asked else (middle + 1, high)
        reach = Reach(efforts[low], candidates)
        if found and found[-1].reach.effort == reach.effort:
            break
        found.append(_Tuned(reach, recall_at(reach), _seconds(part, questions, reach)))
        # More candidates take longer still, and save less and less effort.
        if len(found) > 1 and found[-1].seconds_a_query > SLOWER * found[-2].seconds_a_query:
            break
    if found:
        return min(found, key=lambda tuned: tuned.seconds_a_query)
    return replace(farthest, seconds_a_query=_seconds(part, questions, farthest.reach))


def _efforts(greatest: int) -> list[int]:
    """Efforts from 1 to the greatest, each a fifth more than the one before."""
    steps = round(math.log(max(greatest, 1), EFFORT_STEP))
    return sorted({min(greatest, math.ceil(EFFORT_STEP**step)) for step in range(steps + 2)} | {greatest})


def _recall(part: AnnPart, questions: _Questions, reach: Reach) -> float:
    """Share of the ten nearest that are found."""
    found = part.search(questions.queries, TUNED_K, Selection(part.rows, None), reach=reach)
    met = 0
    for one, lowest in zip(found, questions.lowest, strict=True):
        met += int((one.scores >= lowest - ROUNDING).sum())
    return met / (min(TUNED_K, part.rows) * len(found))


def _seconds(part: AnnPart, questions: _Questions, reach: Reach) -> float:
    """Time a query in batches: the best of a few rounds, for the machine may be busy."""
    everything = Selection(part.rows, None)
    rounds = []
    for _ in range(TIMED_ROUNDS):
        began = time.perf_counter()
        part.search(questions.queries, TUNED_K, everything, reach=reach)
        rounds.append(time.perf_counter() - began)
    return min(rounds) / len(questions.queries)
