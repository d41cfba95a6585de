"""JSON lines and JSON files: rows by the keys of their objects, streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from xsearch.corpus.decode import has_undecoded_bytes
from xsearch.corpus.options import MAX_RECORD_CHARS, OnBytes, ReadOptions
from xsearch.corpus.rows import Row, Table, documents
from xsearch.corpus.stream import CHUNK_BYTES, lines, open_stream, text_of
from xsearch.records import Document, Skipped

_SPACE = " \t\n\r"
_UNDECODED = "bytes that do not belong to the encoding of the file"
_TOO_LONG = f"longer than {MAX_RECORD_CHARS:,} characters"


def read_jsonl(path: str, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Document | Skipped]:
    """The objects of a file with one JSON object a line."""
    with (
        open_stream(path, on_bytes) as stream,
        text_of(stream, path, encoding=options.encoding, newline=None, wait=True) as text,
    ):
        yield from documents(object_rows(lines(text, MAX_RECORD_CHARS), path), Table(path, path), options)


def object_rows(numbered: Iterator[tuple[int, str | None]], source: str) -> Iterator[Row | Skipped]:
    """A row for each line that is a JSON object, numbered as the lines are; empty lines are passed over."""
    for number, line in numbered:
        if line is None:
            yield Skipped(source, _TOO_LONG, number)
            continue
        line = line.strip().removeprefix("\ufeff")
        if not line:
            continue
        if has_undecoded_bytes(line):
            yield Skipped(source, _UNDECODED, number)
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as exc:
            yield Skipped(source, _not_json(exc), number)
            continue
        yield _row(value, number, number, source)


def read_json(path: str, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Document | Skipped]:
    """The objects of a JSON file: an array of them, an object with one list of them, or one after the other.

    An object without a list of objects is itself the record.
    """
    with (
        open_stream(path, on_bytes) as stream,
        text_of(stream, path, encoding=options.encoding, newline=None, wait=True) as text,
    ):
        yield from documents(_file_rows(_Scanner(text), path), Table(path, path), options)


class _BadJsonError(Exception):
    """The text cannot be read as JSON from here on."""


class _Scanner:
    """JSON values one at a time out of a text that is never whole in memory."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._decoder = json.JSONDecoder()
        self._buffer = ""
        self._at = 0
        self._ended = False
        self._line = 1
        self._counted = 0

    @property
    def line(self) -> int:
        """The 1-based line of the next character."""
        self._line += self._buffer.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def peek(self) -> str:
        """The next character that is not white space, or empty at the end."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in _SPACE and self._buffer[self._at] != "\ufeff":
                    return self._buffer[self._at]
                self._at += 1
            if not self._fill(CHUNK_BYTES):
                return ""

    def take(self, expected: str) -> bool:
        """Whether the next character was ``expected``; it is behind us then."""
        if self.peek() != expected:
            return False
        self._at += 1
        return True

    def value(self) -> Any:
        """The next value, whole.

        Raises:
            _BadJsonError: it is not JSON, is cut short, or is larger than a record may be.
        """
        self.peek()
        size = CHUNK_BYTES
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as exc:
                # Cut off by the end of the buffer, or wrong? A string without end may go on, and so
                # may anything that went wrong within the longest literal (-Infinity) of the end.
                cut = "Unterminated" in exc.msg or exc.pos >= len(self._buffer) - 10
                if not cut or self._ended:
                    raise _BadJsonError(_not_json(exc)) from exc
            except (ValueError, RecursionError) as exc:
                raise _BadJsonError(_not_json(exc)) from exc
            else:
                if end < len(self._buffer) or self._ended:  # else a number may go on
                    self._at = end
                    return value
            if len(self._buffer) - self._at > MAX_RECORD_CHARS:
                raise _BadJsonError(f"a value {_TOO_LONG}")
            self._fill(size)
            size *= 2  # doubling keeps the work on a large value linear in its size

    def _fill(self, size: int) -> bool:
        self._line += self._buffer.count("\n", self._counted, self._at)
        self._counted = 0
        chunk = self._text.read(size)
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0
        self._ended = not chunk
        return bool(chunk)


def _file_rows(scanner: _Scanner, source: str) -> Iterator[Row | Skipped]:
    number = 0
    try:
        while scanner.peek():
            for value, line in _records(scanner):
                number += 1
                yield _row(value, number, line, source)
    except _BadJsonError as exc:
        # Where the next record begins cannot be known, so the file ends here.
        yield Skipped(source, f"{exc}; the rest of the file is left out", scanner.line)


def _records(scanner: _Scanner) -> Iterator[tuple[Any, int]]:
    """The records of one top-level value, each with its line."""
    if scanner.take("["):
        yield from _elements(scanner)
        return
    line = scanner.line
    if not scanner.take("{"):
        yield scanner.value(), line
        return
    cells: dict[str, Any] = {}
    lists = 0
    while not scanner.take("}"):
        key = scanner.value()
        if not isinstance(key, str) or not scanner.take(":"):
            raise _BadJsonError("not JSON: a key and a colon are expected")
        if scanner.take("["):
            if scanner.peek() == "{":
                lists += 1
                if lists > 1:
                    raise _BadJsonError(f"a second list of objects, {key!r}, in an object that may have one")
                yield from _elements(scanner)
            else:
                cells[key] = [value for value, _ in _elements(scanner)]
        else:
            cells[key] = scanner.value()
        if not scanner.take(",") and scanner.peek() != "}":
            raise _BadJsonError("not JSON: a comma or the end of the object is expected")
    if not lists:
        yield cells, line


def _elements(scanner: _Scanner) -> Iterator[tuple[Any, int]]:
    """The values up to the end of a list whose bracket is behind us."""
    while not scanner.take("]"):
        scanner.peek()
        line = scanner.line
        yield scanner.value(), line
        if not scanner.take(",") and scanner.peek() != "]":
            raise _BadJsonError("not JSON: a comma or the end of the list is expected")


def _row(value: Any, number: int, line: int, source: str) -> Row | Skipped:
    if isinstance(value, dict):
        return Row(number, line, value)
    return Skipped(source, "not a JSON object", line)


def _not_json(exc: Exception) -> str:
    if isinstance(exc, json.JSONDecodeError):
        return f"not JSON: {exc.msg} (character {exc.colno})"
    return "not JSON: nested too deeply" if isinstance(exc, RecursionError) else f"not JSON: {exc}"
