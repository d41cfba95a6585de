"""The benchmarks of ranking quality on the demo, of hubs, marked sentences and encoding: what they count, by hand."""

from __future__ import annotations

import importlib
import json
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.evaluation.conftest import DE, DE_Q, EN, EN_Q, squad
from tests.evaluation.conftest import FakeEncoder as CountingEncoder
from tests.fakes import FakeEncoder
from xsearch import Hit, Hits, Index, Query, SearchOptions
from xsearch.evaluation.sentences import MarkingResult
from xsearch.evaluation.significance import Scores

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    """The script that the test names."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(request.param)


def hits(*doc_ids: str) -> Hits:
    """Hits on these documents, with falling scores."""
    found = tuple(
        Hit(rank, 1 - rank / 10, rank, doc_id, "de", "de", "", "text", "", 0, 4)
        for rank, doc_id in enumerate(doc_ids, 1)
    )
    return Hits(Query("1", "?"), found)


@pytest.mark.parametrize("script", ["demo_corpus"], indirect=True)
def test_all_questions_of_the_demo_cross(script: ModuleType) -> None:
    texts, questions = script.demo_texts(), script.crossing_questions()
    assert (len(texts), len(questions)) == (90, 67)
    assert questions[3] == script.Question("q04", "de", "Wer schrieb das älteste erhaltene Buch über Tee?", "tea")
    assert texts["chocolate-es"] == script.DemoText("chocolate-es", "es", "chocolate", "El chocolate")
    tea = texts[(script.CORPUS / "en" / "tea.md").as_posix()]
    assert (tea.lang, tea.topic, tea.title) == ("en", "tea", "Tea")


@pytest.mark.parametrize("script", ["demo_corpus"], indirect=True)
def test_a_question_that_its_language_answers_does_not_cross(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manifest.tsv").write_text("place\tlang\ttopic\ttitle\nde/tea.md\tde\ttea\tTee\n", encoding="utf-8")
    (tmp_path / "queries.tsv").write_text("q1\tde\tWer?\ttea\nq2\ten\tWho?\ttea\n", encoding="utf-8")
    monkeypatch.setattr(script, "DEMO", tmp_path)
    assert [question.query_id for question in script.crossing_questions()] == ["q2"]


@pytest.mark.parametrize("script", ["demo"], indirect=True)
def test_outcomes_of_questions_and_titles(script: ModuleType) -> None:
    texts = {
        "a": script.DemoText("a", "de", "tea", "Tee"),
        "b": script.DemoText("b", "en", "tea", "Tea"),
        "c": script.DemoText("c", "en", "salt", "Salt"),
        "d": script.DemoText("d", "de", "salt", "Salz"),
    }
    question = script.Question("q1", "fr", "Qui boit du thé ?", "tea")
    # The second passage of c does not count as another document.
    assert script.question_outcome(question, hits("c", "c", "b"), texts) == {
        "id": "q1", "lang": "fr", "topic": "tea", "right": False, "rank": 2, "found_topic": "salt", "found_lang": "en",
        "score": 0.9,
    }  # fmt: skip
    assert script.question_outcome(question, hits("a", "c"), texts)["right"] is True
    nothing = script.question_outcome(question, hits(), texts)
    assert (nothing["right"], nothing["rank"], nothing["score"]) == (False, None, None)
    # Hits in the title's own language are passed over, right or wrong.
    assert script.title_outcome(texts["a"], hits("a", "d", "b", "c"), texts)["right"] is True
    assert script.title_outcome(texts["a"], hits("a", "c", "b"), texts)["found_topic"] == "salt"
    assert script.title_outcome(texts["a"], hits("a", "d"), texts) == {
        "title": "Tee", "lang": "de", "topic": "tea", "right": False, "found_topic": None, "found_lang": None,
    }  # fmt: skip


@pytest.mark.parametrize("script", ["demo"], indirect=True)
def test_scores_of_searches_that_found_something(script: ModuleType) -> None:
    assert script.spread([0.5, None, 0.1, 0.3]) == {"min": 0.1, "median": 0.3, "max": 0.5}
    assert script.spread([None]) is None
    assert len(set(script.UNANSWERABLE)) == len(set(script.GIBBERISH)) == 12


@pytest.mark.parametrize("script", ["demo"], indirect=True)
def test_a_mode_is_measured_and_none_is_the_products_default(script: ModuleType, tmp_path: Path) -> None:
    corpus = importlib.import_module("demo_corpus")
    texts, questions = corpus.demo_texts(), corpus.crossing_questions()
    with corpus.demo_index(tmp_path, FakeEncoder()) as index:
        found = script.measure(index, "default", texts, questions)
        assert script.measure(index, str(SearchOptions().mode), texts, questions) == found
    outcomes = found["outcomes"]
    assert [outcome["id"] for outcome in outcomes] == [question.query_id for question in questions]
    assert found["questions_right"] == sum(outcome["right"] for outcome in outcomes)
    assert len(found["title_outcomes"]) == 90
    assert set(found["probes"]["gibberish"]) == set(script.GIBBERISH)


@pytest.mark.parametrize("script", ["hubs"], indirect=True)
def test_tiny_files_among_the_first(script: ModuleType, tmp_path: Path) -> None:
    assert script.tiny_among(["tea-de", "tiny-1", "tiny-5"]) == ["ok", "yes, done"]
    with Index.create(tmp_path / "index", encoder=FakeEncoder()) as index:
        index.add(script.tiny_documents())
        found = script.tiny_hits(index, "dense")
    # Nothing else is there, so the first three of every search are tiny.
    assert (found["questions"], found["words"], found["questions_right"]) == (67, 10, 0)
    assert sum(found["files"].values()) == 3 * 77


@pytest.mark.parametrize("script", ["hubs"], indirect=True)
def test_hubness_of_a_pool(script: ModuleType, tmp_path: Path) -> None:
    paragraph = {
        "context": "The cat sleeps. The dog barks.",
        "sentences": ["The cat sleeps.", "The dog barks."],
        "sentence_breaks": [[0, 15], [16, 30]],
        "qas": [{"id": "1", "question": "Which dog?", "answers": [{"text": "", "answer_start": 20}]}],
    }
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as written:
        written.writestr("mlqa-r/en.json", json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    found = script.pool_hubness(tmp_path / "r.zip", CountingEncoder())
    assert {key: found[key] for key in ("k", "queries", "passages", "skewness", "never", "largest")} == {
        "k": 10, "queries": 1, "passages": 2, "skewness": 0.0, "never": 0.0, "largest": 1,
    }  # fmt: skip
    assert found["worst"] == ["The cat sleeps.", "The dog barks."]


@pytest.mark.parametrize("script", ["sentences"], indirect=True)
def test_means_over_questions_and_over_pairs(script: ModuleType) -> None:
    def scores(*values: float) -> Scores:
        return Scores([str(place) for place in range(len(values))], np.array(values))

    pairs = {("de", "de"): scores(1, 1, 0), ("en", "en"): scores(0), ("de", "en"): scores(1, 0)}
    assert script.summary(MarkingResult(pairs)) == {
        "questions": {"mono": 4, "cross": 2},
        "mono": 0.5,
        "cross": 0.5,
        "mean_of_pairs": {"mono": round(1 / 3, 5), "cross": 0.5},
        "pairs": {"de-de": 0.66667, "de-en": 0.5, "en-en": 0.0},
    }


@pytest.mark.parametrize("script", ["languages"], indirect=True)
def test_parts_of_the_same_encoder_are_kept(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "languages.json"
    assert script.kept(path, "d1") == {}
    tatoeba, pool = {"encoder": {"digest": "d1"}, "mean": 0.4}, {"encoder": {"digest": "d0"}, "mean": 0.3}
    path.write_text(json.dumps({"encoder": "x", "tatoeba": tatoeba, "lareqa": pool, "environment": {}}))
    assert script.kept(path, "d1") == {"tatoeba": tatoeba}


@pytest.mark.parametrize("script", ["encoding"], indirect=True)
def test_rates_by_passage_and_by_token(script: ModuleType) -> None:
    alone = script.passage_numbers([(2.0, 0.0), (4.0, 0.0), (5.0, 0.0)], passages=100, tokens=17250)
    assert alone == {
        "passages": 100,
        "rounds": 3,
        "tokens_per_passage": 172.5,
        "builtin_passages_per_s": {"min": 20.0, "median": 25.0, "max": 50.0},
        "builtin_tokens_per_s": {"min": 3450.0, "median": 4312.5, "max": 8625.0},
    }
    beside = script.passage_numbers([(2.0, 6.0)], passages=100, tokens=1000)
    assert beside["ratio"] == {"min": 3.0, "median": 3.0, "max": 3.0}
    assert beside["torch_passages_per_s"]["median"] == 16.667
    # Two tokens of its own and one for each word, of which it reads eight in all.
    assert script.count_tokens(CountingEncoder(), ["a b c", "1 2 3 4 5 6 7 8 9"]) == 5 + 8


@pytest.mark.parametrize("script", ["encoding"], indirect=True)
def test_texts_to_encode_are_of_all_languages(script: ModuleType, tmp_path: Path) -> None:
    for lang, contexts, questions in (("de", DE, DE_Q), ("en", EN, EN_Q)):
        rows = [(f"{context} {context}", [(f"{i}", questions[i])]) for i, context in enumerate(contexts)]
        path = tmp_path / f"dev-context-{lang}-question-{lang}.json"
        path.write_text(json.dumps(squad(rows)), encoding="utf-8")
    texts = script.read_texts(tmp_path, passages=4, queries=5)
    assert texts.passages == [f"{text} {text}" for text in (*DE[:2], *EN[:2])]
    assert texts.questions == [*DE_Q[:3], *EN_Q[:2]]
    assert texts.sentences == [DE[0], DE[0], DE[1], EN[0], EN[0]]


@pytest.mark.parametrize("script", ["record"], indirect=True)
@pytest.mark.parametrize(
    ("cpuinfo", "name", "features"),
    [
        (
            "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni\n\n"
            "processor\t: 1\nmodel name\t: other\nflags\t\t: amx_tile\n",
            "AMD EPYC",
            ["AVX2", "AVX512", "AVX512-VNNI", "AVX512-BF16"],
        ),
        (
            "model name : Xeon\nflags : avx2 amx_tile amx_int8 amx_bf16\n",
            "Xeon",
            ["AVX2", "AMX", "AMX-INT8", "AMX-BF16"],
        ),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n", None, ["DotProd", "I8MM"]),
    ],
)
def test_the_processor_and_what_it_can_do(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cpuinfo: str,
    name: str | None,
    features: list[str],
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(script, "CPUINFO", tmp_path / "cpuinfo")
    assert script.processor_features() == features
    if name is not None:
        assert script.processor_name() == name
    assert script.environment()["features"] == features
    monkeypatch.setattr(script, "CPUINFO", tmp_path / "nowhere")
    assert script.processor_features() == []
