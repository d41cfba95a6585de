"""Question data in both layouts, whole and damaged."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from xsearch.errors import PairError
from xsearch.training.filters import FilterReport, Reason
from xsearch.training.overlap import EvaluationGuard
from xsearch.training.pairs import OnError
from xsearch.training.questions import QuestionPassage, clear_of_evaluation, read_questions

GOOD = {"id": "1", "question": " Who built it? ", "context": "Ann built it.", "answers": [{"text": "Ann", "start": 0}]}
READ = QuestionPassage("Who built it?", "Ann built it.", ("Ann",), "en", "wiki", 1)


def write(folder: Path, name: str, *rows: Any) -> Path:
    data = b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)
    path = folder / name
    path.write_bytes(
        zstandard.compress(data) if name.endswith(".zst") else gzip.compress(data) if name.endswith(".gz") else data
    )
    return path


def squad(*qas: Any, context: str = "Ann built it.") -> dict[str, Any]:
    return {"data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(qas)}]}]}


@pytest.mark.parametrize("name", ["wiki.en.jsonl", "wiki.en.jsonl.gz", "wiki.en.jsonl.zst", "wiki.eng.ndjson"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    assert list(read_questions(write(tmp_path, name, GOOD))) == [READ]


@pytest.mark.parametrize("name", ["wiki.en.json", "wiki.en.json.gz", "wiki.en.json.zst"])
def test_squad(tmp_path: Path, name: str) -> None:
    second = {"id": "2", "question": "Why?", "answers": []}
    path = write(tmp_path, name, squad({k: v for k, v in GOOD.items() if k != "context"}, second))
    assert list(read_questions(path)) == [READ, QuestionPassage("Why?", "Ann built it.", (), "en", "wiki", 2)]


def test_answers_and_passages_under_other_names(tmp_path: Path) -> None:
    rows = [{"question": "q", "passage": "p", "answers": ["a", "b"]}, {"question": "q", "context": "p"}]
    found = [(each.passage, each.answers) for each in read_questions(write(tmp_path, "x.y.en.jsonl", *rows))]
    assert found == [("p", ("a", "b")), ("p", ())]


def test_the_language_is_the_objects_then_the_callers_then_the_names(tmp_path: Path) -> None:
    path = write(tmp_path, "wiki.en.jsonl", {**GOOD, "lang": "zho-Hant"}, GOOD)
    assert [(each.lang, each.origin) for each in read_questions(path)] == [("zh-Hant", "wiki"), ("en", "wiki")]
    assert [each.lang for each in read_questions(path, lang="deu", origin="o")] == ["zh-Hant", "de"]
    path = write(tmp_path, "my.questions.jsonl", {**GOOD, "lang": "de"}, GOOD)
    questions = read_questions(path)
    assert (lambda first: (first.lang, first.origin))(next(questions)) == ("de", "my.questions")
    with pytest.raises(PairError, match=r"my\.questions\.jsonl:2: the language is not known"):
        next(questions)


MALFORMED = [
    (b"{", "this line is not JSON"),
    (b"", "this line is not JSON"),
    (b"[" * 100_000, "this line is not JSON"),
    (b'{"question": "caf\xe9"}', "this line is not UTF-8"),
    ([1], "this is no object"),
    ({**GOOD, "question": "  "}, "there is no text in 'question'"),
    ({"question": "q"}, "there is no text in 'context'"),
    ({**GOOD, "context": 7}, "there is no text in 'context'"),
    ({**GOOD, "answers": "Ann"}, "'answers' is no list"),
    ({**GOOD, "answers": [{"start": 1}]}, "an answer is no text"),
    ({**GOOD, "question": "Who \ud83d?"}, "half a character"),
    ({**GOOD, "lang": "q7"}, "'q7' is no language that we know"),
    ({**GOOD, "lang": 7}, "the language is not known"),
]


@pytest.mark.parametrize(("row", "reason"), MALFORMED)
def test_a_malformed_line_names_file_and_line(tmp_path: Path, row: Any, reason: str) -> None:
    path = write(tmp_path, "wiki.en.jsonl", GOOD, row, GOOD)
    with pytest.raises(PairError, match=reason) as caught:
        list(read_questions(path))
    assert str(caught.value).startswith(f"{path}:2: ")
    skipped: list[PairError] = []
    assert [each.line for each in read_questions(path, on_error=OnError.SKIP, on_skip=skipped.append)] == [1, 3]
    assert [error.line for error in skipped] == [2]


def test_a_malformed_question_of_squad(tmp_path: Path) -> None:
    entry = {"question": "Who?", "answers": []}
    path = write(tmp_path, "wiki.en.json", squad(entry, {"question": ""}, "no object", entry))
    with pytest.raises(PairError, match=r"wiki\.en\.json:2: there is no text in 'question'"):
        list(read_questions(path))
    assert [each.line for each in read_questions(path, on_error=OnError.SKIP)] == [1, 4]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"data": [{}]}', b"\xff"])
def test_a_file_of_another_layout(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(PairError, match=r"^.*wiki\.en\.json"):
        list(read_questions(write(tmp_path, "wiki.en.json", content), on_error=OnError.SKIP))


def test_truncated_files(tmp_path: Path) -> None:
    rows = [{**GOOD, "question": f"Who built number {i * i}?"} for i in range(2000)]
    packed = write(tmp_path, "wiki.en.jsonl.zst", *rows)
    packed.write_bytes(packed.read_bytes()[:-200])
    with pytest.raises(PairError, match="cut short"):
        list(read_questions(packed))
    packed = write(tmp_path, "wiki.en.json.zst", squad(*rows))
    packed.write_bytes(packed.read_bytes()[:-200])
    with pytest.raises(PairError, match="cut short"):
        list(read_questions(packed))


def test_what_is_no_question_data(tmp_path: Path) -> None:
    with pytest.raises(PairError, match="no question data of a known format"):
        read_questions(write(tmp_path, "wiki.en.tsv", GOOD))
    with pytest.raises(PairError, match="there is no such file"):
        read_questions(tmp_path / "wiki.en.jsonl")
    with pytest.raises(PairError, match="is not known"):
        read_questions(write(tmp_path, "wiki.en.jsonl", GOOD), lang="xx")


def test_questions_and_passages_of_evaluation_data_are_removed_and_counted() -> None:
    context = "The old lighthouse on the northern cape was built of red brick in 1871."
    guard = EvaluationGuard([context], ["Who built the lighthouse?"])
    asked = [
        READ,
        QuestionPassage("who built the lighthouse", "Nobody knows.", (), "en", "wiki", 2),
        QuestionPassage("When?", f"Note: {context}", (), "en", "wiki", 3),
    ]
    report = FilterReport()
    assert list(clear_of_evaluation(asked, guard, report)) == [READ]
    assert (report.seen, report.removed(Reason.EVALUATION, origin="wiki")) == (3, 2)
    assert report.to_dict()["sources"][0]["languages"] == "en"
