"""Documents that are stored, split and encoded once more, as they came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from xsearch.encoder.protocol import unit_vectors
from xsearch.index import Index
from xsearch.prepare import prepare, text_hash
from xsearch.records import Document
from xsearch.store.catalog import Catalog, any_of, documents
from xsearch.store.writer import Writer
from xsearch.text.passages import PassageLimits, with_title

DOCUMENTS_AT_ONCE = 64
READ_ROWS = 500


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as it was given, so that it is split and told its languages as it was the first time.

    Attributes:
        document: its language is empty where it was found out.
        text_hash: of what its vectors depend on, as stored.
    """

    doc_key: int
    document: Document
    origin: str
    text_hash: str


def stored_documents(
    connection: sa.Connection, passage_tokens: int, doc_keys: Sequence[int] | None = None
) -> Iterator[StoredDocument]:
    """Documents in the order in which they were added; all of them, or those with the keys."""
    names = ("doc_key", "doc_id", "text", "title", "lang", "source", "origin", "text_hash")
    query = sa.select(*(documents.c[name] for name in names), documents.c.metadata.label("document_metadata"))
    if doc_keys is not None:
        query = query.where(any_of(connection, documents.c.doc_key, doc_keys))
    for row in connection.execute(query.order_by(documents.c.doc_key)).yield_per(READ_ROWS):
        yield StoredDocument(row.doc_key, _as_given(row, passage_tokens), row.origin, row.text_hash)


def split_again(writer: Writer, catalog: Catalog, index: Index, doc_keys: Sequence[int]) -> int:
    """Replaces documents by themselves, split and encoded anew; returns how many passages were encoded."""
    count = 0
    for start in range(0, len(doc_keys), DOCUMENTS_AT_ONCE):
        encoder, target = index.encoder, index.passage_tokens
        limits = PassageLimits(target=target, hard=encoder.max_tokens, overhead=encoder.overhead_tokens)
        with catalog.reading() as connection:
            found = list(stored_documents(connection, target, doc_keys[start : start + DOCUMENTS_AT_ONCE]))
        prepared = [prepare(one.document, encoder, limits, origin=one.origin) for one in found]
        texts = [with_title(title, passage.text) for item, title in prepared for passage in item.passages]
        vectors = unit_vectors(encoder.encode_passages(texts)) if texts else np.empty((0, encoder.dim), np.float32)
        writer.write([item for item, _ in prepared], vectors)
        count += len(texts)
    return count


def _as_given(row: Any, passage_tokens: int) -> Document:
    unknown = Document(row.doc_id, row.text, row.title, "", row.source, row.document_metadata)
    # The hash tells whether the language was given.
    limits = PassageLimits(target=passage_tokens, hard=passage_tokens, overhead=0)
    if text_hash(unknown, limits) == row.text_hash:
        return unknown
    return Document(row.doc_id, row.text, row.title, row.lang, row.source, row.document_metadata)
