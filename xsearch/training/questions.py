"""Questions with the passages that answer them: JSON lines, and files of SQuAD's layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xsearch.errors import EvaluationError, PairError
from xsearch.evaluation.archive import DataFile
from xsearch.evaluation.squad import read_paragraphs
from xsearch.text.tags import UND, canonical_tag, is_language_code
from xsearch.training.bitext import OnError, OnSkip, Skips, pair_language
from xsearch.training.filters import FilterReport, Reason
from xsearch.training.lines import READ_FAILURES, open_unpacked, read_lines, torn, unpacked_name
from xsearch.training.overlap import EvaluationGuard

_LINES = (".jsonl", ".ndjson")
_WHOLE = ".json"


@dataclass(frozen=True, slots=True)
class QuestionPassage:
    """A question, and a passage in which its answer stands.

    Attributes:
        question, passage: without white space around them; otherwise as read.
        answers: the answers' texts, empty where the data says that the passage holds none (SQuAD 2).
        lang: canonical BCP-47 tag of both.
        origin: the name of the data it comes from, e.g. ``tydiqa-goldp-train``.
        line: the 1-based line of JSON lines; of a file of SQuAD's layout, the number of the question.
    """

    question: str
    passage: str
    answers: tuple[str, ...]
    lang: str
    origin: str
    line: int


def read_questions(
    path: Path | str,
    *,
    lang: str = "",
    origin: str = "",
    on_error: OnError = OnError.STOP,
    on_skip: OnSkip | None = None,
) -> Iterator[QuestionPassage]:
    """The questions of a file, plain or packed (``.gz``, ``.zst``).

    - ``NAME.LANG.jsonl``: objects with ``question``, ``context`` (or ``passage``), ``answers`` (texts, or objects with
      a ``text``) and, where they have it, ``lang``. Streamed.
    - ``NAME.LANG.json``: SQuAD's layout. Read as a whole.

    Args:
        lang: the language of objects that do not say it; without it, the one in the file's name.
        on_skip: told each malformed line that is left out, where ``on_error`` is skip.

    Raises:
        PairError: the language is not known, the file is not there, or of no such layout; or, unless they are skipped,
            a line or question is malformed (named as ``path:123``).
    """
    path = Path(path)
    place = str(path)
    name = unpacked_name(path.name)
    ending = Path(name).suffix.lower()
    if ending not in (*_LINES, _WHOLE):
        raise PairError(
            place,
            "this is no question data of a known format",
            "NAME.LANG.jsonl or, in SQuAD's layout, NAME.LANG.json was expected (also .gz and .zst)",
            "Convert it",
        )
    if not path.is_file():
        raise PairError(place, "there is no such file", "A file of questions was expected", "Check the path")
    stem = name[: -len(ending)]
    base, _, code = stem.rpartition(".")
    named = bool(base) and is_language_code(code) and canonical_tag(code) != UND
    if not lang and named:
        lang = code
    source = _Source(place, pair_language(lang, place) if lang else "", origin or (base if named else stem))
    skips = Skips(place, on_error, on_skip)
    rows = _squad_rows(path) if ending == _WHOLE else _json_rows(path, skips)
    return skips.told(_questions(rows, source, skips))


def clear_of_evaluation(
    questions: Iterable[QuestionPassage], guard: EvaluationGuard, report: FilterReport
) -> Iterator[QuestionPassage]:
    """The questions of which neither the question nor the passage overlaps evaluation data; all are counted."""
    for each in questions:
        overlaps = guard.overlaps(each.question) or guard.overlaps(each.passage)
        report.count(each.origin, each.lang, Reason.EVALUATION if overlaps else None)
        if not overlaps:
            yield each


@dataclass(frozen=True, slots=True)
class _Source:
    """Where questions come from; ``lang`` is empty where each must say its own."""

    place: str
    lang: str
    origin: str


def _json_rows(path: Path, skips: Skips) -> Iterator[tuple[int, Any]]:
    """Number and value of each line that is JSON."""
    for number, text in read_lines(path, skips):
        if text is None:
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as exc:
            skips.add(_malformed(str(path), f"this line is not JSON ({exc})", number), exc)
            continue
        yield number, row


def _squad_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Number and question of each entry, with its paragraph's context."""
    number = 0
    try:
        for paragraph in read_paragraphs(DataFile(path.name, str(path), lambda: _unpacked(path))):
            context = paragraph.field("context", str)
            for entry in paragraph.questions():
                number += 1
                row = entry.record
                yield number, {**row, "context": context} if isinstance(row, Mapping) else row
    except EvaluationError as exc:
        raise PairError(str(path), exc.given, exc.expected, exc.remedy) from exc


def _unpacked(path: Path) -> bytes:
    with open_unpacked(path) as stream:
        try:
            return stream.read()
        except READ_FAILURES as exc:
            raise torn(path, 1, exc) from exc


def _questions(rows: Iterable[tuple[int, Any]], source: _Source, skips: Skips) -> Iterator[QuestionPassage]:
    for number, row in rows:
        try:
            question = _question(row, number, source)
        except PairError as exc:
            skips.add(exc, exc.__cause__ if isinstance(exc.__cause__, Exception) else None)
        else:
            yield question


def _question(row: Any, number: int, source: _Source) -> QuestionPassage:
    if not isinstance(row, Mapping):
        raise _malformed(source.place, "this is no object", number)
    texts = []
    for keys in (("question",), ("context", "passage")):
        text = next((row[key] for key in keys if key in row), None)
        if not isinstance(text, str) or not text.strip():
            raise _malformed(source.place, f"there is no text in {keys[0]!r}", number)
        texts.append(text.strip())
    answers = row.get("answers", [])
    if not isinstance(answers, list):
        raise _malformed(source.place, "'answers' is no list", number)
    answers = [answer.get("text") if isinstance(answer, Mapping) else answer for answer in answers]
    if not all(isinstance(answer, str) for answer in answers):
        raise _malformed(source.place, "an answer is no text", number)
    if any("\ud800" <= char <= "\udfff" for text in (*texts, *answers) for char in text if not text.isascii()):
        raise _malformed(source.place, "there is half a character (a lone surrogate) in a text", number)
    return QuestionPassage(texts[0], texts[1], tuple(answers), _lang(row, number, source), source.origin, number)


def _lang(row: Mapping[str, Any], number: int, source: _Source) -> str:
    code = row.get("lang") or source.lang
    if not isinstance(code, str) or not code:
        raise _malformed(source.place, "the language is not known", number)
    try:
        return pair_language(code, source.place)
    except PairError as exc:
        raise _malformed(source.place, f"{code!r} is no language that we know", number) from exc


def _malformed(place: str, given: str, number: int) -> PairError:
    return PairError(
        place,
        given,
        "An object with question, context, answers and, unless the file's name says it, lang was expected",
        "Mend it, or skip malformed lines (on_error = skip)",
        line=number,
    )
