"""LAReQA's mixed pool: sentences of all languages, answers in several of them, MAP over the whole ranking."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.conftest import FakeEncoder
from xsearch.errors import EvaluationError
from xsearch.evaluation.lareqa import load_lareqa
from xsearch.evaluation.run import evaluate


def paragraph(sentences: list[str], questions: list[tuple[str, str, int]]) -> dict[str, Any]:
    context = " ".join(sentences)
    starts = [context.index(sentence) for sentence in sentences]
    return {
        "context": context,
        "sentences": sentences,
        "sentence_breaks": [[low, low + len(sentence)] for low, sentence in zip(starts, sentences, strict=True)],
        "qas": [
            {"id": qid, "question": question, "answers": [{"text": "", "answer_start": starts[place] + 2}]}
            for qid, question, place in questions
        ],
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    english = [
        paragraph(["The cat sleeps.", "The dog barks."], [("1", "What cat?", 0), ("2", "Which dog?", 1)]),
        paragraph(["A bird sings."], []),
    ]
    german = [paragraph(["Der Hund bellt.", "Ein Vogel singt."], [("2", "Welcher Hund?", 0)])]
    for lang, paragraphs in (("en", english), ("de", german)):
        content = {"version": "1.0", "data": [{"paragraphs": paragraphs}]}
        (tmp_path / f"{lang}.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def test_one_pool_for_the_questions_of_each_language(data: Path) -> None:
    task = load_lareqa(data)
    assert (task.name, task.split, task.main_metric, task.depth) == ("LAReQA", "sentences", "map", 5)
    assert [subset.key for subset in task.subsets] == ["all-de", "all-en"]
    german, english = task.subsets
    pool = ("Der Hund bellt.", "Ein Vogel singt.", "The cat sleeps.", "The dog barks.", "A bird sings.")
    assert german.documents == english.documents == pool
    assert [sorted(positions) for positions in german.relevant] == [[0, 3]]
    assert [sorted(positions) for positions in english.relevant] == [[2], [0, 3]]
    assert english.queries == ("What cat?", "Which dog?")


def test_a_sentence_with_its_context(data: Path) -> None:
    task = load_lareqa(data, langs=["de"], with_context=True)
    assert task.split == "sentences with context"
    assert task.subsets[0].documents[1] == "Ein Vogel singt. Der Hund bellt. Ein Vogel singt."


def test_its_score_is_map(data: Path) -> None:
    result = evaluate(load_lareqa(data), FakeEncoder())
    assert result.metric == "map"
    assert result.means == {"mean": 1.0}
    report = result.to_dict(per_query=True)
    assert (report["metric"], report["mono"], report["cross"], report["mean"]) == ("map", None, None, 1.0)
    assert report["mean_ci"] == [1.0, 1.0]
    assert report["per_query"]["pairs"]["all-en"]["map"] == [1.0, 1.0]
    assert report["encoded"]["all"] == {"documents": 5, "queries": 0}


def test_damaged_files_are_named(data: Path, tmp_path: Path) -> None:
    whole = (data / "de.json").read_text(encoding="utf-8")
    for old, new, message in (
        ('"answer_start": 2', '"answer_start": 99', r"qas\[0\] has no answer within a sentence"),
        ('"answer_start": 2', '"start": 2', r"qas\[0\] or its sentence_breaks are malformed"),
        ("[[0, 15]", "[[0]", "malformed"),
        ('"sentences"', '"sentence"', "has no 'sentences' that is a list"),
    ):
        assert old in whole
        (data / "de.json").write_text(whole.replace(old, new), encoding="utf-8")
        with pytest.raises(EvaluationError, match=f"de.json.*{message}"):
            load_lareqa(data)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match=r"holds no XX\.json"):
        load_lareqa(tmp_path / "empty")


@pytest.mark.shared
def test_counts_of_mlqa_r_equal_the_papers(shared: Path) -> None:
    task = load_lareqa(shared / "data" / "eval" / "mlqa-r.zip")
    assert {len(subset.documents) for subset in task.subsets} == {20_534}
    assert {subset.query_lang: len(subset.queries) for subset in task.subsets} == {
        "ar": 517, "de": 512, "en": 1148, "es": 500, "hi": 507, "vi": 511, "zh": 504,
    }  # fmt: skip
    assert {len(positions) for subset in task.subsets for positions in subset.relevant} == {2, 3, 4}
