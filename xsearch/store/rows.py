"""Rows of a batch: what the catalogue holds of documents and their passages, made ready and put in many at a time.

Making them takes as long as putting them in, and needs no database: keys are handed out in advance, so that the rows of
one batch can be made while those of another are written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import sqlalchemy as sa

from xsearch.records import Document, Passage
from xsearch.store.checksums import Shown, passage_checksum, record_hashes, text_checksum
from xsearch.store.json_text import compact_json_all
from xsearch.store.lexical import insert_words, segmented
from xsearch.store.sqlite import insert_values

DOCUMENT_COLUMNS = (
    "doc_key", "doc_id", "text_hash", "record_hash", "lang", "title", "source", "origin", "metadata", "text", "run_id",
    "checksum",
)  # fmt: skip
PASSAGE_COLUMNS = ("passage_id", "doc_key", "position", "start", "end", "lang", "tokens", "checksum")
# Documents whose rows are made together: few enough that Python's collector of garbage never looks twice at what is
# made on the way.
MADE_AT_ONCE = 512


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
        documents, passages: the values of their columns, one row after the other: a tuple for each would be looked
            through by Python's collector of garbage again and again.
        words: of each passage its id and the words of title and text.
    """

    first: Keys
    following: Keys
    documents: list[Any]
    passages: list[Any]
    words: list[tuple[int, str, str]]

    @property
    def passage_count(self) -> int:
        """How many passages there are."""
        return self.following.passage_id - self.first.passage_id

    def doc_keys(self) -> dict[str, int]:
        """The keys of the documents, by their ids."""
        width = len(DOCUMENT_COLUMNS)
        return dict(zip(self.documents[1::width], self.documents[::width], strict=True))


def make_rows(batch: Iterable[Prepared], first: Keys, run_id: int) -> Rows:
    """The rows of some documents.

    Args:
        batch: each document id at most once.
        run_id: of the run that writes them.
    """
    of_documents: list[Any] = []
    of_passages: list[Any] = []
    words: list[tuple[int, str, str]] = []
    doc_key, passage_id = first.doc_key, first.passage_id
    rest = iter(batch)
    while some := list(islice(rest, MADE_AT_ONCE)):
        documents = [item.document for item in some]
        written = compact_json_all([document.metadata for document in documents])
        texts: list[tuple[int, str, str]] = []
        for item, metadata, hashed in zip(some, written, record_hashes(documents), strict=True):
            document = item.document
            doc_id, lang, title, text = document.doc_id, document.lang, document.title, document.text
            checksum = text_checksum(doc_id=doc_id, lang=lang, title=title, text=text)
            of_documents += (
                doc_key, doc_id, item.text_hash, hashed, lang, title, document.source, item.origin, metadata, text,
                run_id, checksum,
            )  # fmt: skip
            for passage in item.passages:
                start, end = passage.start, passage.end
                shown = Shown(passage_id, doc_id, passage.lang, lang, title, start, end, passage.text)
                of_passages += (
                    passage_id, doc_key, passage.position, start, end, passage.lang, passage.tokens,
                    passage_checksum(shown),
                )  # fmt: skip
                texts.append((passage_id, title, passage.text))
                passage_id += 1
            doc_key += 1
        words += segmented(texts)
    following = Keys(doc_key, passage_id, first.file_number + bool(words))
    return Rows(first, following, of_documents, of_passages, words)


def insert_rows(connection: sa.Connection, rows: Rows) -> None:
    """Puts rows into the catalogue; needs a writing transaction."""
    for table, columns, some in (
        ("documents", DOCUMENT_COLUMNS, rows.documents),
        ("passages", PASSAGE_COLUMNS, rows.passages),
    ):
        insert_values(connection, table, columns, some)
    insert_words(connection, rows.words)
