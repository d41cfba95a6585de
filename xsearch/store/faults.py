"""All that is wrong with a catalogue: SQLite keeps no checksums of what it holds, so rows carry their own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from xsearch.store.catalog import Catalog, altered, damaged_settings, documents, passages
from xsearch.store.checksums import Shown, passage_checksum, record_hash_of, text_checksum
from xsearch.store.sqlite import read_any_bytes
from xsearch.store.words import words_fault

READ_ROWS = 100
_DOCUMENT = ("doc_key", "doc_id", "lang", "title", "text", "source", "record_hash", "checksum")
_PASSAGE = ("doc_key", "passage_id", "position", "start", "end", "lang", "checksum")


class FaultKind(StrEnum):
    """What of a catalogue is damaged, which decides what can be done about it."""

    DATABASE = "database"
    REFERENCES = "references"
    SETTINGS = "settings"
    WORDS = "words"
    DOCUMENT = "document"
    PASSAGES = "passages"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is not as it was written.

    Attributes:
        what: it is, after "The catalogue ...".
        doc_key: of the document that it is about, where it is about one.
        doc_id: of the same, as it stands there now.
        setting: the key of the setting that it is about, where it is about one.
    """

    kind: FaultKind
    what: str
    doc_key: int | None = None
    doc_id: str = ""
    setting: str = ""


def catalog_faults(catalog: Catalog) -> Iterator[Fault]:
    """Reads all of a catalogue: the database by its own means, words, documents, passages. Nothing is written.

    Where the database fails its own check, the rest is not looked at.

    Raises:
        IndexDamagedError: it cannot be read at all.
    """
    wrong = list(_database_faults(catalog))
    yield from wrong
    if not any(fault.kind is FaultKind.DATABASE for fault in wrong):
        yield from _document_faults(catalog)


def _database_faults(catalog: Catalog) -> Iterator[Fault]:
    """Has SQLite read and check all of its file, what refers to what, and the full text."""
    with catalog.reading() as connection:
        if connection.dialect.name == "sqlite":
            found = connection.exec_driver_sql("PRAGMA main.integrity_check").scalars()
            # Newer versions of SQLite look at the full text too, which has a check of its own below.
            answers = [answer for answer in found if answer != "ok" and "inverted index" not in str(answer)]
            if answers:
                yield Fault(FaultKind.DATABASE, f"fails its integrity check ({answers[0]})")
                return
            orphans = list(connection.exec_driver_sql("PRAGMA main.foreign_key_check").scalars())
            if orphans:
                what = f"holds {len(orphans)} rows of {orphans[0]} that belong to nothing"
                yield Fault(FaultKind.REFERENCES, what)
        wrong = words_fault(connection)
        if wrong:
            yield Fault(FaultKind.WORDS, wrong)
        for key in damaged_settings(connection):
            yield Fault(FaultKind.SETTINGS, altered(f"setting {key!r}"), setting=key)


def _document_faults(catalog: Catalog) -> Iterator[Fault]:
    """Compares each document with its checksum and its hash, and its passages with theirs."""
    # As text: what is no JSON is one document's fault, and not all of the catalogue's.
    metadata = sa.cast(documents.c.metadata, sa.Text)
    every = sa.select(*(documents.c[name] for name in _DOCUMENT), metadata).order_by(documents.c.doc_key)
    pieces = sa.select(*(passages.c[name] for name in _PASSAGE)).order_by(passages.c.doc_key, passages.c.position)
    with catalog.reading() as connection:
        read_any_bytes(connection)
        groups = groupby(connection.execute(pieces).yield_per(READ_ROWS), key=lambda row: row[0])
        group = next(groups, None)
        for row in connection.execute(every).yield_per(READ_ROWS):
            own: list[Any] = []
            while group is not None and group[0] <= row.doc_key:
                own = list(group[1]) if group[0] == row.doc_key else []
                group = next(groups, None)
            what = _document_fault(row)
            kind = FaultKind.DOCUMENT if what else FaultKind.PASSAGES
            what = what or _passages_fault(row, own)
            if what:
                yield Fault(kind, what, row.doc_key, str(row.doc_id))


def _document_fault(row: Sequence[Any]) -> str:
    # Damage may have made anything of a column.
    _, doc_id, lang, title, text, source, record_hash, checksum, metadata = row
    known = text_checksum(doc_id=str(doc_id), lang=str(lang), title=str(title), text=str(text))
    if checksum not in (None, known) or not isinstance(text, str):
        return f"holds the document {doc_id!r} with another text, title or language"
    try:
        same = record_hash == record_hash_of(str(source), json.loads(str(metadata)))
    except (ValueError, RecursionError):
        same = False
    return "" if same else f"holds the document {doc_id!r} with another source or other metadata"


def _passages_fault(row: Sequence[Any], own: Sequence[Any]) -> str:
    _, doc_id, doc_lang, title, text, *_ = row
    if not own or [one.position for one in own] != list(range(len(own))):
        return f"lacks passages of the document {doc_id!r}"
    before = 0
    for _, passage_id, _, start, end, lang, checksum in own:
        if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(text)):
            return f"holds a passage that reaches out of its document {doc_id!r}"
        shown = Shown(passage_id, str(doc_id), str(lang), str(doc_lang), str(title), start, end, text[start:end])
        if checksum not in (None, passage_checksum(shown)):
            return f"holds passage {passage_id}, of the document {doc_id!r}, with other offsets or another language"
        if text[before:start].strip():
            return f"lacks passages of the document {doc_id!r}"
        before = max(before, end)
    return f"lacks passages of the document {doc_id!r}" if text[before:].strip() else ""
