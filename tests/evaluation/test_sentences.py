"""Whether the sentence that is marked is the one that answers: by hand, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.conftest import FakeEncoder
from xsearch.errors import EvaluationError
from xsearch.evaluation.remembering import RememberingEncoder
from xsearch.evaluation.sentences import evaluate_marking, load_marking


def paragraph(context: str, *questions: tuple[str, str, int]) -> dict[str, Any]:
    return {
        "context": context,
        "qas": [
            {"id": key, "question": question, "answers": [{"text": "", "answer_start": start}]}
            for key, question, start in questions
        ],
    }


ENGLISH = "The cat sleeps. The dog barks. A bird sings."
GERMAN = "Der Hund bellt. Die Katze schläft."
CONTENT = {
    # The third is asked about the bird, and the data calls the dog's sentence right.
    "en": [paragraph(ENGLISH, ("1", "Which cat?", 0), ("2", "Where is the dog?", 20), ("3", "Which bird?", 20))],
    "de": [paragraph(GERMAN, ("1", "Welche Katze?", 20), ("2", "Welcher Hund?", 0))],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for lang, paragraphs in CONTENT.items():
        (tmp_path / f"{lang}.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    return tmp_path


def test_shares_worked_out_by_hand(data: Path) -> None:
    result = evaluate_marking(load_marking(data), FakeEncoder())
    assert {pair: scores.values.tolist() for pair, scores in result.pairs.items()} == {
        ("de", "de"): [1.0, 1.0],
        ("de", "en"): [1.0, 1.0],
        ("en", "de"): [1.0, 1.0],
        ("en", "en"): [1.0, 1.0, 0.0],
    }
    assert result.matrix.mono == pytest.approx((1 + 2 / 3) / 2)
    assert result.matrix.cross == 1.0
    assert result.questions == {"mono": 5, "cross": 4}


def test_a_sentence_is_encoded_once_by_an_encoder_that_remembers(data: Path) -> None:
    encoder = FakeEncoder()
    result = evaluate_marking(load_marking(data, langs=["en"]), RememberingEncoder(encoder))
    assert result.matrix.mono == pytest.approx(2 / 3)
    assert sorted(text for side, text in encoder.encoded if side == "passage") == [
        "A bird sings.", "The cat sleeps.", "The dog barks.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"answer_start": 20', '"answer_start": 999', r"qas\[1\] has no answer within its context"),
        ('"answer_start": 20', '"start": 20', r"qas\[1\] has malformed answers"),
        ('"context"', '"text"', "has no 'context' that is a str"),
    ],
)
def test_damaged_files_are_named(data: Path, old: str, new: str, message: str) -> None:
    path = data / "en.json"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(EvaluationError, match=f"en.json.*{message}"):
        load_marking(data)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"holds no XX\.json"):
        load_marking(tmp_path)
    (tmp_path / "en.json").write_text('{"data": []}', encoding="utf-8")
    with pytest.raises(EvaluationError, match="holds no question"):
        load_marking(tmp_path)
