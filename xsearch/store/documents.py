"""Documents as they are stored: read whole, each checked against what was written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from xsearch.records import Document
from xsearch.store.catalog import Catalog, altered, documents
from xsearch.store.checksums import record_hash_of, text_checksum

READ_ROWS = 500
_COLUMNS = ("doc_id", "text", "title", "lang", "source", "record_hash", "checksum")


def read_documents(catalog: Catalog, connection: sa.Connection, *, doc_id: str | None = None) -> Iterator[Document]:
    """All documents, in the order in which they were added, or the one with an id, if it is there.

    Raises:
        IndexDamagedError: one is not as it was written.
    """
    query = sa.select(*(documents.c[name] for name in _COLUMNS), documents.c.metadata.label("document_metadata"))
    query = query.order_by(documents.c.doc_key) if doc_id is None else query.where(documents.c.doc_id == doc_id)
    for row in connection.execute(query).yield_per(READ_ROWS):
        # A damaged index of the database leads to another row than the one that was asked for.
        if not _is_as_written(row) or doc_id not in (None, row.doc_id):
            raise catalog.damaged(altered(f"document {row.doc_id!r}"))
        yield Document(row.doc_id, row.text, row.title, row.lang, row.source, row.document_metadata)


def _is_as_written(row: Any) -> bool:
    # Damage may have made anything of a column.
    if not all(isinstance(row[place], str) for place in range(6)):
        return False
    # An older xsearch wrote no checksum.
    known = text_checksum(doc_id=row.doc_id, lang=row.lang, title=row.title, text=row.text)
    return row.checksum in (None, known) and row.record_hash == record_hash_of(row.source, row.document_metadata)
