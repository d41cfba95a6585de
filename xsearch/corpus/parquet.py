"""Parquet files: rows by the names in their schema, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xsearch.corpus import extras
from xsearch.corpus.options import EvenProgress, OnBytes, ReadOptions
from xsearch.corpus.rows import Row, Table, documents
from xsearch.errors import UnreadableError
from xsearch.records import Document, Skipped

BATCH_ROWS = 256


def read_parquet(path: str, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Document | Skipped]:
    """The rows of a Parquet file, never more than a batch of one row group in memory.

    Progress is the file's size spread evenly over its rows: the format does not tell more.
    """
    arrow, parquet = extras.load(extras.PARQUET), extras.load(extras.PARQUET, ".parquet")
    try:
        file = parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError, ValueError) as exc:
        raise UnreadableError(path, f"not a Parquet file: {exc}", "A whole Parquet file", "Copy it anew") from exc
    with file:
        table = Table(path, path, tuple(file.schema_arrow.names))
        progress = EvenProgress(Path(path).stat().st_size, file.metadata.num_rows, on_bytes)
        yield from documents(_rows(file, path, progress, arrow.ArrowException), table, options)
        progress.finish()


def _rows(file: Any, path: str, progress: EvenProgress, arrow_error: type[Exception]) -> Iterator[Row | Skipped]:
    number = 0
    batches = file.iter_batches(batch_size=BATCH_ROWS)
    while True:
        try:
            batch = next(batches, None)
            cells = [] if batch is None else batch.to_pylist()
        except (arrow_error, OSError, ValueError) as exc:
            # The reader cannot go past a damaged page, so this is the end of the file.
            yield Skipped(path, f"the rest of the file cannot be read: {exc}", number + 1)
            return
        if batch is None:
            return
        for row in cells:
            number += 1
            yield Row(number, number, row)
        progress.advance(len(cells))
