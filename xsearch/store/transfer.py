"""A catalogue in PostgreSQL as an SQLite file: one state of it, row by row, with the words made anew."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from xsearch.store.catalog import (
    Catalog,
    ann,
    create_catalog,
    documents,
    open_catalog,
    passages,
    runs,
    segments,
    settings,
    tombstones,
)
from xsearch.store.sqlite import insert_many
from xsearch.store.words import renew_words

# In the order in which rows refer to rows.
TABLES = (settings, documents, passages, segments, ann, tombstones, runs)
ROWS_AT_ONCE = 1_000


def write_as_sqlite(catalog: Catalog, file: Path) -> None:
    """Writes what a catalogue holds at this moment, whoever writes to it, as an SQLite catalogue.

    Args:
        file: must not be there; where this fails it holds a part.

    Raises:
        StoreError: the file cannot be written, or the server cannot be reached.
    """
    create_catalog(file, {})
    copy = open_catalog(file)
    with catalog.reading() as source, copy.transaction() as target:
        target.execute(settings.delete())
        for table in TABLES:
            # JSON as it is written there: read and written again it might be another text of the same value.
            columns = [
                sa.cast(column, sa.Text).label(column.name) if isinstance(column.type, sa.JSON) else column
                for column in table.columns
            ]
            names = [column.name for column in table.columns]
            query = sa.select(*columns).order_by(*table.primary_key.columns)
            for some in source.execution_options(yield_per=ROWS_AT_ONCE).execute(query).partitions():
                insert_many(target, table.name, names, [tuple(row) for row in some])
        renew_words(target)
