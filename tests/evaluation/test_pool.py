"""Pools of all languages: MLQA's contexts in one corpus, the four measures by hand, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.conftest import FakeEncoder, squad
from xsearch.errors import EvaluationError, InvalidArgumentError
from xsearch.evaluation.lareqa import load_lareqa
from xsearch.evaluation.mlqa_pool import load_mlqa_pool
from xsearch.evaluation.pool import evaluate_pool, score_pooled
from xsearch.evaluation.report import read_baseline, write_json
from xsearch.evaluation.run import RunOptions, compare_runs
from xsearch.evaluation.tasks import Subset, Task, load_mlqa

WriteFiles = Callable[[Mapping[str, Any]], Path]

# Two German and three English documents; the axes of the vectors are topics.
SUBSET = Subset(
    doc_lang="all",
    query_lang="de",
    document_ids=("C0", "C1", "C2", "C3", "C4"),
    documents=("Katze", "Hund", "cat", "dog", "bird"),
    query_ids=("q1", "q2", "q3"),
    queries=("eine Katze", "ein Hund", "ein Vogel"),
    question_ids=("q1", "q2", "q3"),
    relevant=(frozenset({0, 2}), frozenset({1, 3}), frozenset({0})),
    document_langs=("de", "de", "en", "en", "en"),
)


def unit(*rows: tuple[float, ...]) -> np.ndarray:
    vectors = np.array(rows, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


PASSAGES = unit((1, 0, 0.1), (0, 1, 0.1), (0.8, 0.6, 0), (0, 0.8, 0.6), (0, 0, 1))
#   q1 finds C0 C2 C1 and two more, q2 finds C1 C3 C2, q3 finds C4 C3 and then German ones.
QUERIES = unit((1, 0.1, 0), (0, 1, 0.1), (0, 0, 1))


def test_the_measures_worked_out_by_hand() -> None:
    scores = score_pooled(QUERIES, PASSAGES, SUBSET)
    # q3: C4 .. C3 .. C0 and C1 tie at .0995, and the higher id comes first: C0 is fourth.
    assert scores["map"].values.tolist() == pytest.approx([1.0, 1.0, 1 / 4])
    assert scores["right_first"].values.tolist() == [1.0, 1.0, 0.0]
    # The first hits are C0, C1 and C4; one German document of two, of two, and of one is relevant.
    assert scores["first_own"].values.tolist() == [1.0, 1.0, 0.0]
    assert scores["relevant_own"].values.tolist() == [0.5, 0.5, 1.0]
    # Without the German ones: q1 finds C2, q2 C3; q3 has nothing left and does not count.
    assert scores["must_cross"].question_ids == ["q1", "q2"]
    assert scores["must_cross"].values.tolist() == [1.0, 1.0]


def test_a_wrong_document_in_another_language_fails_the_crossing_alone() -> None:
    passages = PASSAGES.copy()
    passages[3] = PASSAGES[4]
    scores = score_pooled(QUERIES, passages, SUBSET)
    # The dog has become a bird: its question meets the cat first, whose vector leans to the dog.
    assert scores["must_cross"].values.tolist() == [1.0, 0.0]
    assert scores["right_first"].values.tolist() == [1.0, 1.0, 0.0]


def test_questions_that_no_other_language_answers_leave_the_measure_out() -> None:
    alone = replace(SUBSET, relevant=(frozenset({0}), frozenset({1}), frozenset({0})))
    assert "must_cross" not in score_pooled(QUERIES, PASSAGES, alone)


@pytest.fixture
def data(mlqa_files: Mapping[str, Any], write_files: WriteFiles) -> Path:
    """English and German with the questions id0 to id3; German lacks the last."""
    files = json.loads(json.dumps(mlqa_files))
    for name in (
        "dev-context-de-question-de.json",
        "dev-context-de-question-en.json",
        "dev-context-en-question-de.json",
    ):
        del files[name]["data"][3]
    return write_files(files)


def test_mlqa_in_one_pool(data: Path) -> None:
    task = load_mlqa_pool(data)
    assert (task.name, task.split, task.main_metric, task.depth) == ("MLQAPool", "dev", "map", 7)
    german, english = task.subsets
    assert (german.key, english.key) == ("all-de", "all-en")
    assert german.documents == english.documents
    assert german.documents[0] == "Die Katze schläft." and german.documents[3] == "The cat sleeps."
    assert german.document_langs == ("de",) * 3 + ("en",) * 4
    assert german.queries == ("Wer ist die Katze?", "Wo ist der Hund?", "Welcher Vogel?")
    assert [sorted(places) for places in german.relevant] == [[0, 3], [1, 4], [2, 5]]
    # The last has no German context and no German question.
    assert [sorted(places) for places in english.relevant] == [[0, 3], [1, 4], [2, 5], [6]]
    assert english.question_ids == ("id0", "id1", "id2", "id3")


def test_one_language_only(data: Path) -> None:
    (english,) = load_mlqa_pool(data, langs=["eng"]).subsets
    assert set(english.document_langs) == {"en"}
    assert [sorted(places) for places in english.relevant] == [[0], [1], [2], [3]]
    with pytest.raises(EvaluationError, match="no data in fr"):
        load_mlqa_pool(data, langs=["fr"])


def test_a_context_twice_is_one_document(write_files: WriteFiles) -> None:
    rows = [("The cat sleeps.", [("a", "Who?"), ("b", "What?")]), ("The cat sleeps.", [("c", "Where?")])]
    (english,) = load_mlqa_pool(write_files({"dev-context-en-question-en.json": squad(rows)})).subsets
    assert english.documents == ("The cat sleeps.",)
    assert english.relevant == (frozenset({0}),) * 3


def test_nothing_of_the_languages_or_the_split(write_files: WriteFiles) -> None:
    data = write_files({"dev-context-en-question-de.json": squad([("The cat.", [("a", "Wer?")])])})
    with pytest.raises(EvaluationError, match="no question and context in en"):
        load_mlqa_pool(data, langs=["en"])
    from xsearch.evaluation.tasks import Split

    with pytest.raises(EvaluationError, match="holds no test files, only dev"):
        load_mlqa_pool(data, split=Split.TEST)


def test_an_encoder_without_bias_and_each_text_encoded_once(data: Path) -> None:
    encoder = FakeEncoder()
    result = evaluate_pool(load_mlqa_pool(data), encoder)
    assert result.means == {
        "map": 1.0,
        "right_first": 1.0,
        "must_cross": 1.0,
        # A cat and a Katze have one vector; of equal ones the higher id is first: C3 to C6, the English ones.
        "first_own": pytest.approx((0 + 1) / 2),
        "relevant_own": pytest.approx((0.5 + (3 * 0.5 + 1) / 4) / 2),
    }
    assert len(encoder.encoded) == len(set(encoder.encoded)) == 7 + 3 + 4
    german, english = result.languages
    assert (german.queries, english.queries) == (3, 4)
    assert len(english.scores["must_cross"].values) == 3
    # The pond is 9 words, and 6 fit.
    assert (result.documents, result.cut) == ({"de": 3, "en": 4}, 1)


def test_the_report(data: Path) -> None:
    report = evaluate_pool(load_mlqa_pool(data), FakeEncoder()).to_dict(per_query=True)
    assert {key: report[key] for key in ("task", "split", "metric", "documents", "truncated")} == {
        "task": "MLQAPool", "split": "dev", "metric": "map", "documents": {"de": 3, "en": 4}, "truncated": 1,
    }  # fmt: skip
    assert report["mean"]["must_cross"] == 1.0
    assert report["mean"]["ci"]["map"] == [1.0, 1.0]
    assert report["pairs"]["all-de"]["relevant_own"] == 0.5
    assert report["per_query"]["pairs"]["all-de"]["map"] == [1.0, 1.0, 1.0]
    assert json.loads(json.dumps(report)) == report
    bare = evaluate_pool(load_mlqa_pool(data), FakeEncoder(), options=RunOptions(bootstrap=0)).to_dict()
    assert (bare["mean"]["ci"], bare["pairs"]["all-de"]["ci"]) == ({}, {})


def test_a_baseline(data: Path, tmp_path: Path) -> None:
    task, path = load_mlqa_pool(data), tmp_path / "before.json"
    noisy = evaluate_pool(task, FakeEncoder(name="noisy", noise=0.9))
    write_json(noisy.to_dict(per_query=True), path)
    baseline = read_baseline(path)
    found = compare_runs(
        evaluate_pool(task, FakeEncoder()), baseline.per_query, baseline=baseline.encoder, samples=100, seed=0
    )
    assert found.metric == "map"
    assert found.means["mean"].mean == pytest.approx(1.0 - noisy.means["map"], abs=1e-4)
    assert noisy.means["map"] < 0.99


def test_lareqas_pool_has_the_same_measures(tmp_path: Path) -> None:
    for lang, text, question in (("en", "The cat sleeps.", "What cat?"), ("de", "Die Katze ruht.", "Welche Katze?")):
        paragraph = {
            "context": text,
            "sentences": [text],
            "sentence_breaks": [[0, len(text)]],
            "qas": [{"id": "1", "question": question, "answers": [{"text": "", "answer_start": 4}]}],
        }
        (tmp_path / f"{lang}.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}), encoding="utf-8")
    task = load_lareqa(tmp_path)
    assert task.subsets[0].document_langs == ("de", "en")
    means = evaluate_pool(task, FakeEncoder()).means
    assert (means["map"], means["must_cross"], means["relevant_own"]) == (1.0, 1.0, 0.5)


def test_a_task_that_is_no_pool_is_refused(data: Path, mlqa_files: Mapping[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="MLQARetrieval is not one pool"):
        evaluate_pool(load_mlqa(data), FakeEncoder())
    unknown = Task("odd", "dev", (replace(SUBSET, document_langs=()),))
    with pytest.raises(InvalidArgumentError, match="odd is not one pool"):
        evaluate_pool(unknown, FakeEncoder())


@pytest.mark.shared
def test_counts_of_mlqa_dev(shared: Path) -> None:
    task = load_mlqa_pool(shared / "data" / "eval" / "MLQA_V1-dev.zip")
    assert {subset.query_lang: len(subset.queries) for subset in task.subsets} == {
        "ar": 517, "de": 512, "en": 1148, "es": 500, "hi": 507, "vi": 511, "zh": 504,
    }  # fmt: skip
    assert len(task.subsets[0].documents) == 3646
    assert {len(places) for subset in task.subsets for places in subset.relevant} == {2, 3, 4}
