"""A FAISS index is tuned until it finds what was asked for, and says what it finds."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.store.segments import Floats, clustered_vectors, random_vectors, recall, segment_of, stored
from xsearch.errors import InvalidArgumentError
from xsearch.store import ann, tuning
from xsearch.store.ann import AnnFacts, AnnPart, Reach
from xsearch.store.selection import Selection
from xsearch.store.tuning import Built, HeldVectors, Wanted, build
from xsearch.store.vectors import RawVectors

ROWS, DIM = 3000, 16


@pytest.fixture(scope="module")
def vectors() -> Floats:
    return clustered_vectors(ROWS, dim=DIM)


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann, "EXACT_AMONG", 20)
    monkeypatch.setattr(tuning, "QUERIES", 100)
    monkeypatch.setattr(tuning, "TRIAL_QUERIES", 50)
    monkeypatch.setattr(tuning, "TRIAL_ROWS", 1000)
    monkeypatch.setattr(tuning, "TIMED_ROUNDS", 1)


def tuned(index: Path, vectors: Floats, wanted: Wanted) -> tuple[Built, AnnPart]:
    raw = RawVectors(index, segment_of(index, 1, vectors))
    built = build(raw, wanted)
    return built, AnnPart(raw, built.index, built.reach)


def found_share(part: AnnPart, vectors: Floats, queries: Floats) -> float:
    found = part.search(queries, 10, Selection(len(vectors), None))
    return recall(vectors, queries, [one.rows for one in found], 10)


@pytest.mark.parametrize(
    "factory", ["IVF32,PQ4x4fs", "IVF32,RaBitQfs", "IVF32,SQ8", "HNSW16,SQ8", "Flat", "SQ8", "RaBitQ"]
)
@pytest.mark.parametrize("asked", [0.8, 0.98])
def test_the_recall_that_was_asked_for(tmp_path: Path, vectors: Floats, factory: str, asked: float) -> None:
    built, part = tuned(tmp_path, vectors, Wanted(asked, factory))
    assert built.factory == factory
    assert built.recall >= asked
    # Of texts that the index does not hold.
    queries = clustered_vectors(100, seed=5, dim=DIM)
    assert found_share(part, vectors, queries) >= asked - 0.05
    facts = built.facts(Wanted(asked, factory), 123_456)
    assert facts.reach == built.reach == part.reach
    assert (facts.recall_asked, facts.recall) == (asked, round(built.recall, 4))
    assert facts.bytes_per_passage == 41.2
    assert facts.queries_per_s > 0
    assert facts.seconds >= 0
    assert AnnFacts(**facts.to_dict()) == facts


def test_more_effort_for_more_recall(tmp_path: Path, vectors: Floats) -> None:
    efforts = [tuned(tmp_path, vectors, Wanted(asked, "IVF64,Flat"))[0].reach.effort for asked in (0.5, 0.9, 0.99)]
    assert efforts == sorted(set(efforts))


def test_no_more_effort_than_is_needed(tmp_path: Path, vectors: Floats) -> None:
    """A fifth less finds less than was asked for, with as many candidates."""
    built, part = tuned(tmp_path, vectors, Wanted(0.9, "IVF64,Flat"))
    assert 0.9 <= built.recall < 0.97
    lower = Reach(int(built.reach.effort / tuning.EFFORT_STEP) - 1, built.reach.candidates)
    questions = tuning._questions(part._raw, 100)
    assert tuning._recall(part, questions, lower) < 0.9 + tuning.MARGIN


def test_what_cannot_be_reached(tmp_path: Path, vectors: Floats) -> None:
    """One bit for a number and 40 of 3,000 rows looked at: as far as it goes, and said so."""
    built, part = tuned(tmp_path, vectors, Wanted(1.0, "PCA2,SQ4"))
    assert built.recall < 1
    assert built.reach.candidates == max(tuning.CANDIDATES)
    assert built.facts(Wanted(1.0, "PCA2,SQ4"), 1).recall == round(built.recall, 4)
    assert built.queries_per_s > 0
    assert found_share(part, vectors, clustered_vectors(50, seed=5, dim=DIM)) < 1


def test_the_kind_is_chosen_by_trial(tmp_path: Path, vectors: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fastest of the kinds that reach the recall; the others are tried where none of the first does."""
    tried: list[str] = []
    making = tuning.make
    # Of a thousand rows all could be scored.
    monkeypatch.setattr(tuning, "CANDIDATES", (20, 40))
    monkeypatch.setattr(tuning, "likely_factories", lambda rows, dim: [["PCA2,IVF64,SQ8"], ["IVF64,SQ8", "Flat"]])

    def noted(factory: str, dim: int) -> object:
        tried.append(factory)
        return making(factory, dim)

    monkeypatch.setattr(tuning, "make", noted)
    built, _ = tuned(tmp_path, vectors, Wanted(0.97))
    # 3,000 rows in 64 lists; the sample's 1,000 rows in a third of them.
    assert tried[:3] == ["PCA2,IVF21,SQ8", "IVF21,SQ8", "Flat"]
    assert tried[3:] == [built.factory]
    assert built.factory in ("IVF64,SQ8", "Flat")
    assert built.recall >= 0.97


def test_the_first_kinds_will_do(tmp_path: Path, vectors: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "likely_factories", lambda rows, dim: [["IVF64,SQ8"], ["no factory"]])
    assert tuned(tmp_path, vectors, Wanted(0.9))[0].factory == "IVF64,SQ8"


def test_the_likely_kinds(tmp_path: Path, vectors: Floats) -> None:
    built, part = tuned(tmp_path, vectors, Wanted())
    assert built.factory in {factory for group in tuning.likely_factories(ROWS, DIM) for factory in group}
    assert built.recall >= 0.95
    assert found_share(part, vectors, clustered_vectors(100, seed=5, dim=DIM)) >= 0.9


def test_rows_are_told_as_they_are_added(tmp_path: Path, vectors: Floats) -> None:
    told: list[int] = []
    build(RawVectors(tmp_path, segment_of(tmp_path, 1, vectors)), Wanted(0.9, "IVF8,SQ8"), on_rows=told.append)
    assert sum(told) == ROWS


@pytest.mark.parametrize("rows", [1, 2, 9, 10, 11])
@pytest.mark.parametrize("factory", ["Flat", "IVF1,SQ8", "HNSW8"])
def test_hardly_any_rows(tmp_path: Path, rows: int, factory: str) -> None:
    """All of fewer than ten is all that can be found."""
    built, part = tuned(tmp_path, random_vectors(rows, dim=DIM), Wanted(0.95, factory))
    assert built.recall == 1.0
    [found] = part.search(random_vectors(1, seed=1, dim=DIM), 10, Selection(rows, None))
    assert sorted(found.rows.tolist()) == list(range(min(rows, 10))) or rows == 11


def test_equal_rows(tmp_path: Path) -> None:
    """Corpora hold the same text many times; a query made of it has no direction less its mean."""
    built, part = tuned(tmp_path, np.repeat(random_vectors(2, dim=DIM), 200, axis=0), Wanted(0.95, "IVF4,SQ8"))
    assert built.recall == 1.0
    assert np.isfinite(built.queries_per_s)
    assert (
        found_share(part, stored(np.repeat(random_vectors(2, dim=DIM), 200, axis=0)), random_vectors(3, dim=DIM)) == 1
    )


def test_a_kind_that_cannot_be_built(tmp_path: Path, vectors: Floats) -> None:
    raw = RawVectors(tmp_path, segment_of(tmp_path, 1, vectors))
    for factory, what in (
        ("IVF4000,SQ8", "'IVF4000,SQ8'.*cannot build|cannot build.*4000"),
        ("x", "'x' cannot be read"),
    ):
        with pytest.raises(InvalidArgumentError, match=what):
            build(raw, Wanted(0.9, factory))


@pytest.mark.parametrize("greatest", [0, 1, 2, 7, 64, 1000, 65_536])
def test_efforts(greatest: int) -> None:
    """From 1 to the greatest in steps of a fifth, or of 1 where a fifth is less."""
    efforts = tuning._efforts(greatest)
    assert efforts[0] == min(1, greatest)
    assert efforts[-1] == greatest
    assert all(low < high <= max(low + 1, low * 1.2 + 1) for low, high in itertools.pairwise(efforts))


class TestQuestions:
    def test_the_tenth_nearest(self, vectors: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tuning, "READ_ROWS", 700)
        questions = tuning._questions(HeldVectors(stored(vectors)), 30)
        np.testing.assert_allclose(np.linalg.norm(questions.queries, axis=1), 1, atol=1e-5)
        scores = questions.queries @ stored(vectors).T
        np.testing.assert_allclose(questions.lowest, np.sort(scores, axis=1)[:, -10], atol=1e-6)
        # None of them is a row: a row's neighbours lie in its own list.
        assert scores.max() < 0.999

    def test_the_same_each_time(self, vectors: Floats) -> None:
        one, two = (tuning._questions(HeldVectors(vectors), 30).queries for _ in range(2))
        np.testing.assert_array_equal(one, two)
