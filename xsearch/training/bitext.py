"""One pair of texts that mean the same, how to read many of them, and what becomes of those that are malformed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from xsearch.errors import InvalidArgumentError, PairError
from xsearch.text.tags import known_tag

_log = logging.getLogger(__name__)
_Record = TypeVar("_Record")

OnSkip = Callable[[PairError], None]
"""Called with the error of each malformed line that is left out."""


class OnError(StrEnum):
    """What a malformed line does: ``stop`` raises, ``skip`` leaves it out and counts it."""

    STOP = "stop"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and its translation.

    Attributes:
        source, target: the two texts, without white space around them; otherwise as read.
        source_lang, target_lang: canonical BCP-47 tags.
        origin: the name of the data it comes from, e.g. ``ms-iot``.
        line: the 1-based row in its file.
    """

    source: str
    target: str
    source_lang: str
    target_lang: str
    origin: str
    line: int


@dataclass(frozen=True, slots=True)
class PairOptions:
    """How to read parallel data; every field may be left out.

    Attributes:
        source_lang, target_lang: the languages of the two sides; empty: what the file's name says.
        origin: the name that pairs carry; empty: what the file's name says.
        on_error: what a malformed line does.
        source_field, target_field: the columns of a dataset; empty: the languages' keys of its ``translation``.
    """

    source_lang: str = ""
    target_lang: str = ""
    origin: str = ""
    on_error: OnError = OnError.STOP
    source_field: str = ""
    target_field: str = ""


class Skips:
    """Raises or counts the malformed lines of one file, as ``on_error`` says; never loses one in silence.

    Args:
        source: the file, for the log.
        on_error: stop raises the first error.
        on_skip: told each error that does not stop; without it the count is logged as a warning at the end.
    """

    def __init__(self, source: str, on_error: OnError, on_skip: OnSkip | None = None) -> None:
        self.count = 0
        self._source = source
        self._on_error = on_error
        self._on_skip = on_skip
        self._first: PairError | None = None

    def add(self, error: PairError, cause: Exception | None = None) -> None:
        """Raise the error, or count it.

        Raises:
            PairError: this one, unless malformed lines are skipped.
        """
        if self._on_error is OnError.STOP:
            raise error from cause
        self.count += 1
        self._first = self._first or error
        if self._on_skip is not None:
            self._on_skip(error)

    def told(self, records: Iterator[_Record]) -> Iterator[_Record]:
        """The records, and after the last one the warning that nobody else gives."""
        yield from records
        if self.count and self._on_skip is None:
            _log.warning("%s: skipped malformed lines: %d. The first: %s", self._source, self.count, self._first)


def pair_language(code: str, source: str) -> str:
    """The canonical tag of a language that a caller or a file's name gave.

    Raises:
        PairError: no language has this code.
    """
    try:
        tag = known_tag(code)
    except InvalidArgumentError as exc:
        raise PairError(source, exc.given, exc.expected, "Pass the languages of the two sides") from exc
    if tag == "und":
        raise PairError(
            source,
            "the language of a side is not known",
            "Each side of parallel data has a known language",
            "Pass the languages of the two sides",
        )
    return tag
