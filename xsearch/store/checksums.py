"""Whether the catalogue still holds what was written: SQLite keeps no checksums, so each document carries its own."""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

import sqlalchemy as sa

from xsearch.records import Document
from xsearch.store.catalog import Catalog, documents, passages, read_setting
from xsearch.store.lexical import check_words
from xsearch.text.normalise import content_hash

READ_ROWS = 100
# Catalogues of the first version have no checksums of texts until a writer opens them, and then of new documents only.
CHECKSUMS_SINCE = 2
# Made once: json.dumps makes one for each call.
_SORTED = json.JSONEncoder(sort_keys=True, ensure_ascii=False)


class Shown(NamedTuple):
    """What a hit shows of a passage and stays as it is for as long as the passage does."""

    passage_id: int
    doc_id: str
    lang: str
    doc_lang: str
    title: str
    start: int
    end: int
    text: str


def passage_checksum(shown: Shown) -> int:
    """The first 8 bytes of a SHA-256 over what a hit shows, as a signed integer."""
    passage_id, doc_id, lang, doc_lang, title, start, end, text = shown
    lengths = f"{passage_id} {start} {end} {len(doc_id)} {len(lang)} {len(doc_lang)} {len(title)} "
    # Damage may have left half of a character.
    data = f"{lengths}{doc_id}{lang}{doc_lang}{title}{text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big", signed=True)


def text_checksum(*, doc_id: str, lang: str, title: str, text: str) -> str:
    """SHA-256 over the fields of a document that stay as they are for as long as its passages do, hexadecimal.

    Unlike :func:`~xsearch.text.normalise.content_hash` it is of the very characters: offsets count them.
    """
    fields = [field.encode() for field in (doc_id, lang, title, text)]
    parts = [part for data in fields for part in (len(data).to_bytes(8, "big"), data)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def record_hash(document: Document) -> str:
    """A hash of what is stored of a document beside what its vectors depend on."""
    return record_hash_of(document.source, dict(document.metadata))


def record_hash_of(source: str, metadata: object) -> str:
    """:func:`record_hash` of a document's source and metadata."""
    return content_hash(source, _SORTED.encode(metadata))


def check_catalog(catalog: Catalog) -> None:
    """Reads all of a catalogue and checks it: the database by its own means, documents, and ranges of passages.

    Raises:
        IndexDamagedError
    """
    _check_database(catalog)
    _check_documents(catalog)


def _check_database(catalog: Catalog) -> None:
    """Has SQLite read and check all of its file, and what refers to what."""
    with catalog.reading() as connection:
        if connection.dialect.name != "sqlite":
            return
        answers = list(connection.exec_driver_sql("PRAGMA integrity_check").scalars())
        orphans = list(connection.exec_driver_sql("PRAGMA foreign_key_check").scalars())
    if answers != ["ok"]:
        raise catalog.damaged(f"fails its integrity check ({answers[0]})")
    with catalog.transaction() as connection:
        check_words(connection)
    if orphans:
        raise catalog.damaged(f"holds {len(orphans)} rows of {orphans[0]} that belong to nothing")


def _check_documents(catalog: Catalog) -> None:
    """Compares each document with its checksum and its hash, and its passages with the length of its text."""
    reach = (
        sa.select(
            passages.c.doc_key,
            sa.func.min(passages.c.start).label("first"),
            sa.func.min(passages.c.end - passages.c.start).label("shortest"),
            sa.func.max(passages.c.end).label("last"),
        )
        .group_by(passages.c.doc_key)
        .subquery()
    )
    names = ("doc_id", "lang", "title", "text", "source", "record_hash")
    with catalog.reading() as connection:
        kept = read_setting(connection, "schema_version") >= CHECKSUMS_SINCE
        query = sa.select(
            *(documents.c[name] for name in names),
            documents.c.metadata.label("document_metadata"),
            (documents.c.checksum if kept else sa.null()).label("checksum"),
            ((reach.c.first < 0) | (reach.c.shortest <= 0) | (reach.c.last > sa.func.length(documents.c.text))).label(
                "reaches_out"
            ),
        ).join_from(documents, reach, documents.c.doc_key == reach.c.doc_key, isouter=True)
        for row in connection.execute(query).yield_per(READ_ROWS):
            # Damage may have made anything of a column.
            doc_id, lang, title, text, source = map(str, row[:5])
            checksum = text_checksum(doc_id=doc_id, lang=lang, title=title, text=text)
            if row.checksum not in (None, checksum):
                raise catalog.damaged(f"holds the document {row.doc_id!r} with another text, title or language")
            if row.record_hash != record_hash_of(source, row.document_metadata):
                raise catalog.damaged(f"holds the document {row.doc_id!r} with another source or other metadata")
            if row.reaches_out:
                raise catalog.damaged(f"holds a passage that reaches out of its document {row.doc_id!r}")
