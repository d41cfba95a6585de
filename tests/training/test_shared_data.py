"""The project's own training data: every file can be read, and nothing that survives the guard is evaluation data."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from xsearch.evaluation.tasks import load_mlqa
from xsearch.training.filters import FilterReport, PairFilters, Reason, filtered
from xsearch.training.overlap import EvaluationGuard
from xsearch.training.pairs import Pair, read_pairs
from xsearch.training.questions import QuestionPassage, clear_of_evaluation, read_questions

pytestmark = pytest.mark.shared

EVALUATION = ("MLQA_V1-dev.zip", "mlqa-r.zip", "tatoeba.zip")
SAMPLE = 50  # rows of each file


@pytest.fixture(scope="module")
def guard(shared: Path) -> EvaluationGuard:
    return EvaluationGuard.read(shared / "data" / "eval" / name for name in EVALUATION)


def files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.zst"))
    assert found, f"{folder} is empty"
    return found


def sample(shared: Path) -> Iterator[Pair]:
    for folder in ("parallel", "terms"):
        for path in files(shared / "data" / folder):
            yield from islice(read_pairs(path), SAMPLE)


# Whose answers are not words of the passage: written freely, options of an exam, or in another language than it.
FREE_ANSWERS = {"clapnq-dev", "exams-para-weak", ("pira-un", "pt")}


def words(text: str) -> list[str]:
    return "".join(char if char.isalnum() else " " for char in text.lower()).split()


def test_every_file_of_pairs_can_be_read(shared: Path) -> None:
    for folder in ("parallel", "terms"):
        for path in files(shared / "data" / folder):
            first = next(read_pairs(path))
            assert path.name == f"{first.origin}.{first.source_lang}-{first.target_lang}.tsv.zst"
            assert (first.source_lang, first.line) == ("en", 1)
            assert first.source
            assert first.target


def test_every_file_of_questions_can_be_read(shared: Path) -> None:
    for path in files(shared / "data" / "qa"):
        first = next(read_questions(path))
        assert path.name == f"{first.origin}.{first.lang}.jsonl.zst"
        assert first.line == 1
        assert first.answers and all(first.answers) and first.passage
        if (first.origin, first.lang) not in FREE_ANSWERS and first.origin not in FREE_ANSWERS:
            assert any(answer in first.passage for answer in first.answers), path


def test_the_guard_knows_its_own(shared: Path, guard: EvaluationGuard) -> None:
    for subset in load_mlqa(shared / "data" / "eval" / EVALUATION[0]).subsets:
        for text in subset.documents[:20]:
            assert guard.overlaps(f"Some words before. {text}"), text


def test_nothing_that_survives_is_in_an_english_context(shared: Path, guard: EvaluationGuard) -> None:
    """Compared in another way than the guard's: ASCII words in sets, of English contexts."""
    runs: set[tuple[str, ...]] = set()
    for subset in load_mlqa(shared / "data" / "eval" / EVALUATION[0], langs=("en",)).subsets:
        for text in subset.documents:
            context = words(text)
            runs |= {tuple(context[start : start + 8]) for start in range(len(context) - 7)}
    report = FilterReport()
    survivors = list(filtered(sample(shared), PairFilters(guard=guard), report))
    assert report.kept == len(survivors) > 10_000
    assert report.removed(Reason.EVALUATION) < report.seen * 0.02
    for pair in survivors:
        assert not guard.overlaps(pair.source)
        assert not guard.overlaps(pair.target)
        source = words(pair.source)
        assert not runs & {tuple(source[start : start + 8]) for start in range(len(source) - 7)}, pair


def test_no_question_that_survives_overlaps(shared: Path, guard: EvaluationGuard) -> None:
    report = FilterReport()
    asked: list[QuestionPassage] = []
    for path in files(shared / "data" / "qa"):
        asked += clear_of_evaluation(islice(read_questions(path), SAMPLE), guard, report)
    assert report.kept == len(asked) > 300
    assert not any(guard.overlaps(each.question) or guard.overlaps(each.passage) for each in asked)
