"""Running a task: scores by hand, every text encoded once, ties, and encoders that misbehave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest

from tests.evaluation.conftest import DE, DE_Q, EN, EN_Q, FakeEncoder
from xsearch.encoder.protocol import OnProgress, Vectors
from xsearch.errors import EncoderError, InvalidArgumentError, NonFiniteVectorError
from xsearch.evaluation.results import EncodedTexts, pack_per_query, unpack_per_query
from xsearch.evaluation.run import RunOptions, compare_runs, evaluate, find_relevant
from xsearch.evaluation.tasks import Subset, Task, load_mlqa

Write = Callable[[Mapping[str, Any]], Path]


@pytest.fixture
def task(mlqa_files: Mapping[str, Any], write_files: Write) -> Task:
    return load_mlqa(write_files(mlqa_files))


def test_a_perfect_encoder_scores_one(task: Task) -> None:
    result = evaluate(task, FakeEncoder())
    matrix = result.matrix()
    assert dict(matrix.values) == {("de", "de"): 1.0, ("de", "en"): 1.0, ("en", "de"): 1.0, ("en", "en"): 1.0}
    assert (matrix.mono, matrix.cross) == (1.0, 1.0)
    pair = result.pairs[2]
    assert (pair.key, pair.documents, pair.queries) == ("en-de", 4, 4)
    assert pair.scores == {"ndcg@10": 1, "recall@1": 1, "recall@10": 1, "recall@100": 1, "mrr@10": 1, "map": 1}
    assert pair.interval is not None
    assert (pair.interval.low, pair.interval.high) == (1.0, 1.0)


def test_each_text_is_encoded_once_and_by_its_own_door(task: Task) -> None:
    encoder = FakeEncoder()
    evaluate(task, encoder)
    assert sorted(encoder.encoded) == sorted(
        [("passage", text) for text in EN + DE] + [("query", text) for text in EN_Q + DE_Q]
    )


def test_texts_longer_than_the_encoder_reads_are_counted(task: Task) -> None:
    # 8 tokens less 2 of overhead leave 6 words; one English context has 9.
    assert evaluate(task, FakeEncoder()).encoded == {"de": EncodedTexts(4, 4, 0, 0), "en": EncodedTexts(4, 4, 1, 0)}


def test_scores_agree_with_ir_measures(task: Task) -> None:
    encoder = FakeEncoder(noise=0.6)
    result = evaluate(task, encoder)
    assert result.matrix().mean != 1.0
    measures = {
        "ndcg@10": ir_measures.nDCG @ 10,
        "recall@1": ir_measures.R @ 1,
        "recall@10": ir_measures.R @ 10,
        "mrr@10": ir_measures.RR,
        "map": ir_measures.AP,
    }
    for subset, pair in zip(task.subsets, result.pairs, strict=True):
        scores = encoder.encode_queries(subset.queries) @ encoder.encode_passages(subset.documents).T
        qrels = {
            qid: {subset.document_ids[d]: 1 for d in documents}
            for qid, documents in zip(subset.query_ids, subset.relevant, strict=True)
        }
        run = {
            qid: dict(zip(subset.document_ids, map(float, row), strict=True))
            for qid, row in zip(subset.query_ids, scores, strict=True)
        }
        theirs = ir_measures.pytrec_eval.calc_aggregate(list(measures.values()), qrels, run)
        ours = {name: pair.scores[name] for name in measures}
        assert ours == pytest.approx({name: theirs[measure] for name, measure in measures.items()}, abs=1e-9)


def subset_of(n_documents: int, relevant: Sequence[set[int]]) -> Subset:
    return Subset(
        "en",
        "de",
        tuple(f"C{i}" for i in range(n_documents)),
        tuple(f"d{i}" for i in range(n_documents)),
        tuple(f"Q{i}" for i in range(len(relevant))),
        tuple(f"q{i}" for i in range(len(relevant))),
        tuple(f"id{i}" for i in range(len(relevant))),
        tuple(map(frozenset, relevant)),
    )


def test_ties_are_settled_by_document_id_as_text() -> None:
    """All scores tie, so C9 comes first and C0 last, with C10 between C1 and C2: trec_eval's order."""
    subset = subset_of(11, [{9}, {0}, {10}, {1, 2}])
    found = find_relevant(np.ones((4, 1), np.float32), np.ones((11, 1), np.float32), subset, depth=1000)
    ranks = [(np.flatnonzero(row) + 1).tolist() for row in found]
    assert ranks == [[1], [11], [9], [8, 10]]


def test_blocks_and_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    queries, documents = rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(50, 4)).astype(np.float32)
    subset = subset_of(50, [{int(i)} for i in rng.integers(0, 50, 30)])
    whole = find_relevant(queries, documents, subset, depth=1000)
    assert whole.shape == (30, 50)
    assert whole.sum(axis=1).tolist() == [1] * 30
    monkeypatch.setattr("xsearch.evaluation.run._SCORES_AT_ONCE", 120)
    assert np.array_equal(find_relevant(queries, documents, subset, depth=7), whole[:, :7])


def test_progress_ends_at_its_total(task: Task) -> None:
    calls: list[tuple[str, int, int]] = []
    evaluate(task, FakeEncoder(), on_progress=lambda *call: calls.append(call))
    assert ("encoding documents", 8, 8) in calls
    assert ("encoding queries", 8, 8) in calls
    assert calls[-1] == ("searching", 4, 4)
    assert all(done <= total for _, done, total in calls)


class BadEncoder(FakeEncoder):
    """Spoils the vectors of passages."""

    def __init__(self, spoil: Callable[[Vectors], Vectors]) -> None:
        super().__init__()
        self._spoil = spoil

    def encode_passages(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        return self._spoil(super().encode_passages(texts))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_vectors_that_are_not_finite_or_zero_are_refused(task: Task, value: float) -> None:
    """NaN makes no comparison true, and every score would look perfect."""
    with pytest.raises(NonFiniteVectorError):
        evaluate(task, BadEncoder(lambda vectors: np.where(np.arange(len(vectors))[:, None] == 1, value, vectors)))


def test_vectors_of_the_wrong_shape_are_refused(task: Task) -> None:
    with pytest.raises(EncoderError, match=r"shape \(3, 8\) for 4 texts"):
        evaluate(task, BadEncoder(lambda vectors: vectors[:-1]))


def test_options_are_checked() -> None:
    with pytest.raises(InvalidArgumentError, match="bootstrap is -1"):
        RunOptions(bootstrap=-1)


def test_no_bootstrap_no_intervals(task: Task) -> None:
    result = evaluate(task, FakeEncoder(), options=RunOptions(bootstrap=0))
    assert result.intervals == {}
    assert result.to_dict()["pairs"]["en-de"]["ci"] is None


def test_compare_runs(task: Task) -> None:
    theirs = evaluate(task, FakeEncoder(noise=0.6))
    comparison = compare_runs(
        evaluate(Task(task.name, task.split, task.subsets[1:]), FakeEncoder()),
        unpack_per_query(pack_per_query(theirs.per_query(), metric="ndcg@10"), metric="ndcg@10"),
        baseline={"name": "before"},
        samples=200,
        seed=0,
    )
    assert list(comparison.pairs) == ["de-en", "en-de", "en-en"]
    losses = [1 - pair.scores["ndcg@10"] for pair in theirs.pairs]
    means = {name: difference.mean for name, difference in comparison.means.items()}
    assert means == pytest.approx(
        {"mono": losses[3], "cross": np.mean(losses[1:3]), "mean": np.mean(losses[1:])}, abs=1e-5
    )
    assert comparison.to_dict()["baseline"] == {"name": "before"}
    assert comparison.to_dict()["cross"]["mean"] == pytest.approx(np.mean(losses[1:3]), abs=2e-5)


def test_per_query_scores_survive_packing(task: Task) -> None:
    scores = evaluate(task, FakeEncoder(noise=0.6)).per_query()
    packed = pack_per_query(scores, metric="ndcg@10")
    assert packed["ids"] == ["id0", "id1", "id2", "id3"]
    unpacked = unpack_per_query(packed, metric="ndcg@10")
    for key, pair in scores.items():
        assert list(unpacked[key].question_ids) == list(pair.question_ids)
        assert unpacked[key].values.tolist() == pytest.approx(pair.values.tolist(), abs=1e-5)
