"""Rows of any table become documents: which field is what, and what a cell may hold.

JSON lines, JSON, CSV, TSV, Parquet and datasets all pass through here, so a field name means the same
in each of them. Known without being told: BEIR (``_id``, ``title``, ``text``), Tevatron (``docid``,
``document_text``), Patapsco (``id``, ``lang``, ``date``, ``text``) and their like.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain, islice
from typing import Any, Final
from uuid import UUID

from xsearch.corpus.decode import clean
from xsearch.corpus.options import ReadOptions
from xsearch.errors import ReadError, UnreadableError
from xsearch.records import Document, Skipped

TEXT_FIELDS = ("text", "document_text", "contents", "content", "body", "passage", "passage_text", "document", "doc")
ID_FIELDS = ("_id", "id", "docid", "doc_id", "docno", "document_id", "passage_id", "pid")
TITLE_FIELDS = ("title", "document_title", "doc_title", "headline")
SOURCE_FIELD = "_source"
"""Where a record comes from in truth, as ``xsearch export`` writes it; the file that it stands in otherwise."""
LANG_FIELDS = ("lang", "language", "doc_lang", "language_code", "lang_code")

LOOKAHEAD_ROWS = 50
"""Rows looked at to learn the fields of a table that has no header."""

_DROPPED: Final = object()


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a table.

    Attributes:
        number: 1-based; becomes the document's id where the table has no ids.
        line: where people look for it: the line of a text file, else the number again.
        cells: values by field name.
    """

    number: int
    line: int
    cells: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """Where rows come from.

    Attributes:
        source: as shown with hits.
        prefix: what stands before ``#N`` in the ids of a table without ids.
        names: the field names where a header tells them, else None: found in the first rows.
    """

    source: str
    prefix: str
    names: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Fields:
    """Which field of a table holds what; None: the table has no such field."""

    text: str
    doc_id: str | None
    title: str | None
    lang: str | None


def find_fields(names: Iterable[str], options: ReadOptions, *, source: str) -> Fields:
    """The fields named in ``options``, or the well-known ones among ``names``.

    Raises:
        ReadError: a named field is not there, or no field is known to hold text.
    """
    given = list(names)
    listed = clean(", ".join(given)) or "none"
    there = {name.strip().lower(): name for name in reversed(given)}

    def pick(named: str | None, known: tuple[str, ...], flag: str) -> str | None:
        if named is None:
            return next((there[name] for name in known if name in there), None)
        if named in given:
            return named
        raise ReadError(
            source,
            f"there is no field {named!r} in it",
            f"Its fields are {listed}",
            f"Pass one of them as {flag}",
        )

    text = pick(options.text_field, TEXT_FIELDS, "--text-field")
    if text is None:
        raise ReadError(
            source,
            f"no field is known to hold the text; its fields are {listed}",
            f"Known names are {', '.join(TEXT_FIELDS)}",
            "Name the field with --text-field",
        )
    return Fields(
        text=text,
        doc_id=pick(options.id_field, ID_FIELDS, "--id-field"),
        title=pick(options.title_field, TITLE_FIELDS, "--title-field"),
        lang=pick(options.lang_field, LANG_FIELDS, "--lang-field"),
    )


def documents(rows: Iterable[Row | Skipped], table: Table, options: ReadOptions) -> Iterator[Document | Skipped]:
    """A document for each good row, a :class:`Skipped` for each bad one, in the rows' order.

    Raises:
        ReadError: the table lacks a field that is named, or has none known to hold text.
        UnreadableError: there are no rows.
    """
    rest = iter(rows)
    fields = None if table.names is None else find_fields(table.names, options, source=table.source)
    met = False
    while fields is None:
        first = list(islice(rest, LOOKAHEAD_ROWS))
        met = met or bool(first)
        names = dict.fromkeys(name for row in first if isinstance(row, Row) for name in row.cells)
        if names:
            fields = find_fields(names, options, source=table.source)
            rest = chain(first, rest)
        elif first:
            yield from (
                Skipped(table.source, "no text", row.line, empty=True) if isinstance(row, Row) else row for row in first
            )
        else:
            break
    for row in rest:
        met = True
        if isinstance(row, Skipped):
            yield row
        elif fields is not None:
            yield _document(row, fields, table, options)
    if not met:
        raise UnreadableError(table.source, "there are no records in it", "One record at least", "Leave it out")


def _document(row: Row, fields: Fields, table: Table, options: ReadOptions) -> Document | Skipped:
    def skipped(reason: str) -> Skipped:
        return Skipped(table.source, reason, row.line)

    text = row.cells.get(fields.text)
    title = _words(row.cells.get(fields.title)) if fields.title else ""
    if text is not None and not isinstance(text, str):
        return skipped(f"the field {fields.text!r} holds {type(text).__name__}, not text")
    text = clean(text or "")
    if not text.strip():
        # Collections such as TREC-COVID hold records of a title alone, and their qrels count them.
        text, title = title, ""
    if not text.strip():
        return Skipped(table.source, "no text", row.line, empty=True)
    doc_id: str | None = f"{table.prefix}#{row.number}"
    if fields.doc_id is not None:
        doc_id = _id(row.cells.get(fields.doc_id))
        if doc_id is None:
            return skipped(f"the field {fields.doc_id!r} holds no id")
    lang = _words(row.cells.get(fields.lang)) if fields.lang else ""
    lang = (lang or options.lang) if options.lang_field else (options.lang or lang)
    source = _words(row.cells.get(SOURCE_FIELD))
    taken = {fields.text, fields.doc_id, fields.title, fields.lang, *([SOURCE_FIELD] if source else [])}
    try:
        metadata = {
            clean(name): held
            for name, value in row.cells.items()
            if name and name not in taken and (held := _json(value)) is not _DROPPED
        }
    except RecursionError:
        return skipped("its metadata are nested too deeply")
    return Document(str(doc_id), text, title, lang, source or table.source, metadata)


def _words(value: Any) -> str:
    return clean(value).strip() if isinstance(value, str) else ""


def _id(value: Any) -> str | None:
    """The id as a string, or None when there is none; 12.0 is 12: a column with gaps makes floats of integers."""
    if isinstance(value, str):
        return clean(value).strip() or None
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() else str(value)
    return str(value) if isinstance(value, int | UUID) else None


def _json(value: Any) -> Any:
    match value:
        case None | bool() | int():
            return value
        case str():
            return clean(value)
        case float():
            return value if math.isfinite(value) else None
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return float(value) if value.is_finite() else None
        case UUID():
            return str(value)
        case Mapping():
            pairs = ((clean(str(name)), _json(inner)) for name, inner in value.items())
            return {name: inner for name, inner in pairs if inner is not _DROPPED}
        case list() | tuple():
            return [inner for inner in map(_json, value) if inner is not _DROPPED]
        case _:
            return _DROPPED
