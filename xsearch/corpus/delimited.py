"""CSV and TSV files: rows by the names in their first line."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from itertools import chain

from xsearch.corpus.decode import has_undecoded_bytes
from xsearch.corpus.options import MAX_RECORD_CHARS, OnBytes, ReadOptions
from xsearch.corpus.rows import Row, Table, documents
from xsearch.corpus.stream import lines, open_stream, text_of
from xsearch.errors import UnreadableError
from xsearch.records import Document, Skipped


def read_csv(path: str, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Document | Skipped]:
    """The rows of a file with commas or, as spreadsheets write in much of Europe, semicolons."""
    # The csv module has one limit for the whole process: raise it, never lower it.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD_CHARS))
    with (
        open_stream(path, on_bytes) as stream,
        text_of(stream, path, encoding=options.encoding, newline="", wait=True) as text,
    ):
        first = text.readline(MAX_RECORD_CHARS).removeprefix("\ufeff")
        delimiter = _delimiter(first)
        reader = csv.reader(chain([first] if first else [], text), delimiter=delimiter)
        yield from _table(_csv_records(reader), path, options)


def read_tsv(path: str, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Document | Skipped]:
    """The rows of a file with tabs, one row a line.

    Collections of the field write quotation marks as they are, so one alone must not swallow the lines
    after it; a value that is quoted as a whole, as spreadsheets do, is unquoted. Such a value may hold line ends: where
    a row ends in an open quotation, the lines up to the one that closes it belong to it if they make a row of the right
    length, and none of them could be a row of its own.
    """
    with (
        open_stream(path, on_bytes) as stream,
        text_of(stream, path, encoding=options.encoding, newline=None, wait=True) as text,
    ):
        yield from _table(_tsv_records(lines(text, MAX_RECORD_CHARS)), path, options)


MAX_JOINED_LINES = 1000
"""Lines that are looked at to find the end of a quoted value of a TSV file."""

_Record = tuple[int, list[str] | str]
"""The first line of a record, and its values or what is wrong with it."""


def _csv_records(reader: Iterator[list[str]]) -> Iterator[_Record]:
    while True:
        line = reader.line_num + 1  # type: ignore[attr-defined]
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            yield line, f"not CSV: {exc}"
        else:
            yield line, values


def _tsv_records(numbered: Iterator[tuple[int, str | None]]) -> Iterator[_Record]:
    width = 0
    ahead: deque[tuple[int, str | None]] = deque()
    while (item := ahead.popleft() if ahead else next(numbered, None)) is not None:
        line, content = item
        if content is None:
            yield line, f"longer than {MAX_RECORD_CHARS:,} characters"
        elif content.strip():
            values = _tsv_values(content)
            if 1 < width >= len(values) and _is_open(values[-1]):
                values = _put_together(values, width, ahead, numbered)
            width = width or len(values)
            yield line, [_unquoted(value) for value in values]


def _tsv_values(content: str) -> list[str]:
    return content.removesuffix("\n").removeprefix("\ufeff").split("\t")


def _is_open(value: str) -> bool:
    """Whether a value begins a quotation and does not end it."""
    return value.startswith('"') and value.count('"') % 2 == 1


def _put_together(
    values: list[str], width: int, ahead: deque[tuple[int, str | None]], numbered: Iterator[tuple[int, str | None]]
) -> list[str]:
    """The row that a quoted line end cut into lines, or the values as they are where the lines make none.

    Args:
        ahead: lines that were read before their turn; the ones that belong to the row are taken out.
    """
    row, characters = list(values), 0
    for count in range(MAX_JOINED_LINES):
        if count == len(ahead):
            item = next(numbered, None)
            if item is None:
                break
            ahead.append(item)
        content = ahead[count][1]
        characters += len(content or "")
        if content is None or characters > MAX_RECORD_CHARS:
            break
        first, *others = _tsv_values(content)
        quoted = f"{row[-1]}\n{first}"
        if _is_open(quoted):
            if others:
                break
            row = [*row[:-1], quoted]
            continue
        row = [*row[:-1], quoted, *others]
        if not quoted.endswith('"') or len(row) > width:
            break
        if _is_open(row[-1]):
            continue
        if len(row) == width:
            for _ in range(count + 1):
                ahead.popleft()
            return row
        break
    return values


def _table(records: Iterator[_Record], path: str, options: ReadOptions) -> Iterator[Document | Skipped]:
    line, names = next(records, (1, []))
    if isinstance(names, str):
        raise UnreadableError(path, names, "A first line with the names of the fields", "Mend it", line=line)
    if names:
        table = Table(path, path, tuple(names))
        yield from documents(_rows(records, names, path), table, options)
    else:
        raise UnreadableError(
            path, "there are no records in it", "A line of names and one record at least", "Leave it out"
        )


def _rows(records: Iterator[_Record], names: list[str], path: str) -> Iterator[Row | Skipped]:
    number = 0
    for line, values in records:
        if isinstance(values, list) and not any(values):
            continue  # an empty line, or a spreadsheet's row of nothing
        number += 1
        if isinstance(values, str):
            yield Skipped(path, values, line)
        elif len(values) != len(names):
            yield Skipped(path, f"{len(values)} values where the first line names {len(names)} fields", line)
        elif any(map(has_undecoded_bytes, values)):
            yield Skipped(path, "bytes that do not belong to the encoding of the file", line)
        else:
            yield Row(number, line, dict(zip(names, values, strict=True)))


def _delimiter(first_line: str) -> str:
    """``;`` or ``,``: whichever stands more often in the first line, outside quotation marks."""
    outside = "".join(first_line.split('"')[::2])
    return ";" if outside.count(";") > outside.count(",") else ","


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        inner = value[1:-1]
        if '"' not in inner.replace('""', ""):
            return inner.replace('""', '"')
    return value
