"""Metrics: worked examples, and agreement with ir-measures (pytrec_eval) on random runs with ties."""

from __future__ import annotations

import doctest
import math
from collections.abc import Callable

import ir_measures
import numpy as np
import pytest
from numpy.typing import NDArray

from xsearch.errors import InvalidArgumentError
from xsearch.evaluation import metrics
from xsearch.ranking import top_k

Metric = Callable[..., NDArray[np.float64]]

# Three queries: relevant at ranks 1 and 3 of 3 relevant; at rank 4 of 1; none found of 2.
FOUND = np.array([[True, False, True, False], [False, False, False, True], [False, False, False, False]])
RELEVANT = np.array([3, 1, 2])


@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        (metrics.ndcg, 10, [1.5 / (1 + 1 / math.log2(3) + 0.5), 1 / math.log2(5), 0.0]),
        (metrics.ndcg, 3, [1.5 / (1 + 1 / math.log2(3) + 0.5), 0.0, 0.0]),
        (metrics.ndcg, 1, [1.0, 0.0, 0.0]),
        (metrics.recall, 10, [2 / 3, 1.0, 0.0]),
        (metrics.recall, 1, [1 / 3, 0.0, 0.0]),
        (metrics.precision, 10, [0.2, 0.1, 0.0]),
        (metrics.precision, 3, [2 / 3, 0.0, 0.0]),
        (metrics.success, 3, [1.0, 0.0, 0.0]),
        (metrics.mrr, 10, [1.0, 0.25, 0.0]),
        (metrics.mrr, 3, [1.0, 0.0, 0.0]),
        (metrics.average_precision, 1000, [(1 + 2 / 3) / 3, 0.25, 0.0]),
        (metrics.average_precision, 2, [1 / 3, 0.0, 0.0]),
    ],
)
def test_worked_examples(metric: Metric, k: int, expected: list[float]) -> None:
    assert metric(FOUND, RELEVANT, k=k).tolist() == pytest.approx(expected, abs=1e-12)


def test_examples_in_docstrings() -> None:
    result = doctest.testmod(metrics)
    assert (result.failed, result.attempted) == (0, 6)


@pytest.mark.parametrize("name", ["ndcg", "recall", "precision", "success", "mrr", "average_precision"])
def test_a_query_without_relevant_documents_scores_zero(name: str) -> None:
    metric: Metric = getattr(metrics, name)
    assert metric(np.zeros((1, 3), dtype=bool), np.array([0]), k=10).tolist() == [0.0]
    assert metric(np.zeros((1, 0), dtype=bool), np.array([2]), k=10).tolist() == [0.0]


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="k is 0"):
        metrics.ndcg(FOUND, RELEVANT, k=0)
    with pytest.raises(InvalidArgumentError, match="one row and one count"):
        metrics.recall(FOUND, np.array([1, 2]), k=3)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_ir_measures(seed: int) -> None:
    """Several relevant documents, more and fewer documents than the depth, and every third score tied."""
    rng = np.random.default_rng(seed)
    n_queries, n_documents, depth = 40, int(rng.integers(3, 60)), 30
    ids = np.array([f"C{i}" for i in range(n_documents)])
    scores = rng.normal(size=(n_queries, n_documents)).astype(np.float32)
    scores[:, ::3] = np.round(scores[:, ::3])
    scores[0] = 0.5
    judged = rng.random((n_queries, n_documents)) < 0.1
    judged[:, 0] = True

    found = np.zeros((n_queries, min(depth, n_documents)), dtype=bool)
    qrels, run = {}, {}
    for q in range(n_queries):
        best = top_k(scores[q], ids, k=depth)
        found[q] = judged[q, best]
        qrels[f"Q{q}"] = {str(ids[d]): 1 for d in np.flatnonzero(judged[q])}
        # The referee gets no order, only scores: it must break the ties itself.
        run[f"Q{q}"] = {str(ids[d]): float(scores[q, d]) for d in rng.permutation(best)}
    relevant = judged.sum(axis=1)

    pairs: list[tuple[str, NDArray[np.float64]]] = []
    for k in (1, 3, 5, 10, 20):
        pairs += [
            (f"nDCG@{k}", metrics.ndcg(found, relevant, k=k)),
            (f"R@{k}", metrics.recall(found, relevant, k=k)),
            (f"P@{k}", metrics.precision(found, relevant, k=k)),
            (f"Success@{k}", metrics.success(found, relevant, k=k)),
            (f"RR@{k}", metrics.mrr(found, relevant, k=k)),
            (f"AP@{k}", metrics.average_precision(found, relevant, k=k)),
        ]
    pairs.append(("AP", metrics.average_precision(found, relevant, k=depth)))
    for name, ours in pairs:
        measure = ir_measures.parse_measure(name)
        # RR@k of ir-measures comes from msmarco's script, which orders ties otherwise; pytrec_eval's RR has no
        # cut-off, so it is cut here.
        if name.startswith("RR@"):
            k = int(name[3:])
            theirs = {m.query_id: m.value for m in ir_measures.pytrec_eval.iter_calc([ir_measures.RR], qrels, run)}
            theirs = {q: value if value >= 1 / k - 1e-9 else 0.0 for q, value in theirs.items()}
        else:
            theirs = {m.query_id: m.value for m in ir_measures.pytrec_eval.iter_calc([measure], qrels, run)}
        assert ours.tolist() == pytest.approx([theirs[f"Q{q}"] for q in range(n_queries)], abs=1e-9), name
