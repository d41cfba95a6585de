"""Rows of a batch: what the catalogue holds of documents and their passages, made ready and put in many at a time.

Making them takes as long as putting them in, and needs no database: keys are handed out in advance, so that the rows of
one batch can be made while those of another are written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from xsearch.records import Document, Passage
from xsearch.store.checksums import Shown, passage_checksum, record_hash, text_checksum
from xsearch.store.lexical import insert_words, segmented
from xsearch.store.sqlite import insert_many

DOCUMENT_COLUMNS = (
    "doc_key", "doc_id", "text_hash", "record_hash", "lang", "title", "source", "origin", "metadata", "text", "run_id",
    "checksum",
)  # fmt: skip
PASSAGE_COLUMNS = ("passage_id", "doc_key", "position", "start", "end", "lang", "tokens", "checksum")
# As xsearch.store.fields.compact_json. Made once: json.dumps makes one for each call.
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

Row = tuple[Any, ...]


class Prepared(NamedTuple):
    """A document ready to be written.

    Attributes:
        document: as it is stored; its language is filled in.
        text_hash: of what its vectors depend on.
        origin: the SOURCE it came under.
        passages: its passages, in order; may be none.
    """

    document: Document
    text_hash: str
    origin: str
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that the next document and the next passage get, and the number of the next vector file."""

    doc_key: int
    passage_id: int
    file_number: int


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a batch, with their keys.

    Attributes:
        first, following: what its first document and passage and its vector file get, and what comes after its last.
        words: of each passage its id and the words of title and text.
    """

    first: Keys
    following: Keys
    documents: list[Row]
    passages: list[Row]
    words: list[tuple[int, str, str]]


def make_rows(batch: Sequence[Prepared], first: Keys, run_id: int) -> Rows:
    """The rows of some documents.

    Args:
        batch: each document id at most once.
        run_id: of the run that writes them.
    """
    count = sum(len(item.passages) for item in batch)
    following = Keys(first.doc_key + len(batch), first.passage_id + count, first.file_number + bool(count))
    rows = Rows(first, following, [], [], [])
    words: list[tuple[int, str, str]] = []
    passage_id = first.passage_id
    for doc_key, item in enumerate(batch, first.doc_key):
        document = item.document
        doc_id, lang, title, text = document.doc_id, document.lang, document.title, document.text
        checksum = text_checksum(doc_id=doc_id, lang=lang, title=title, text=text)
        metadata = _JSON.encode(dict(document.metadata))
        hashes = (item.text_hash, record_hash(document))
        rows.documents.append(
            (doc_key, doc_id, *hashes, lang, title, document.source, item.origin, metadata, text, run_id, checksum)
        )
        for passage in item.passages:
            start, end = passage.start, passage.end
            shown = Shown(passage_id, doc_id, passage.lang, lang, title, start, end, passage.text)
            rows.passages.append(
                (
                    passage_id, doc_key, passage.position, start, end, passage.lang, passage.tokens,
                    passage_checksum(shown),
                )
            )  # fmt: skip
            words.append((passage_id, title, passage.text))
            passage_id += 1
    rows.words.extend(segmented(words))
    return rows


def insert_rows(connection: sa.Connection, rows: Rows) -> None:
    """Puts rows into the catalogue; needs a writing transaction."""
    for table, columns, some in (
        ("documents", DOCUMENT_COLUMNS, rows.documents),
        ("passages", PASSAGE_COLUMNS, rows.passages),
    ):
        insert_many(connection, table, columns, some)
    insert_words(connection, rows.words)
