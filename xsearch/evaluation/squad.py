"""Question-answering files in SQuAD's layout, the form in which MLQA, XQuAD and LAReQA come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xsearch.errors import EvaluationError
from xsearch.evaluation.archive import DataFile


@dataclass(frozen=True, slots=True)
class Row:
    """One question with its context, as the data has it."""

    question_id: str
    question: str
    context: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph of a file.

    Attributes:
        record: what the file says about it.
        place: where it stands, for messages.
    """

    record: Mapping[str, Any]
    place: str

    def field(self, key: str, kind: type) -> Any:
        """``record[key]``, checked to be a ``kind``."""
        return checked_field(self.record, key, kind, place=self.place)

    def questions(self) -> Iterator[Paragraph]:
        """The entries of ``qas``, with their places."""
        for q, entry in enumerate(self.field("qas", list)):
            yield Paragraph(entry, f"{self.place}.qas[{q}]")


def read_paragraphs(file: DataFile) -> Iterator[Paragraph]:
    """The paragraphs of a file, in order.

    Raises:
        EvaluationError: the file is not of SQuAD's layout.
    """
    for a, article in enumerate(checked_field(file.read_json(), "data", list, place=file.place)):
        place = f"{file.place}: data[{a}]"
        for p, paragraph in enumerate(checked_field(article, "paragraphs", list, place=place)):
            yield Paragraph(paragraph, f"{place}.paragraphs[{p}]")


def read_rows(file: DataFile) -> Iterator[Row]:
    """The questions of a file with their contexts, in order; at least one.

    Raises:
        EvaluationError: the file is not of SQuAD's layout, or holds no question.
    """
    empty = True
    for paragraph in read_paragraphs(file):
        context = paragraph.field("context", str)
        for entry in paragraph.questions():
            empty = False
            yield Row(entry.field("id", str), entry.field("question", str), context)
    if empty:
        raise EvaluationError(f"{file.place} holds no question", "At least one was expected", "Download it again")


def checked_field(record: Any, key: str, kind: type, *, place: str) -> Any:
    """``record[key]``, checked to be a ``kind``.

    Raises:
        EvaluationError: it is missing or of another type; the message names ``place``.
    """
    value = record.get(key) if isinstance(record, Mapping) else None
    if not isinstance(value, kind):
        raise EvaluationError(
            f"{place} has no {key!r} that is a {kind.__name__}",
            "SQuAD's layout was expected: data[].paragraphs[].context and .qas[].question, .id",
            "Use the data set's own files, unchanged",
        )
    return value
