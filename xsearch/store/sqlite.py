"""SQLite as the catalogue's database: how it is opened, what its transactions are, what its errors mean."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from xsearch.errors import StoreError
from xsearch.store.json_text import compact_json

# What SQLite waits for another process's transaction before it gives up.
BUSY_TIMEOUT_S = 60.0
# That one INSERT puts in: SQLite takes at least 32,766.
INSERT_VALUES = 32_000
# Of the database that a writer holds in memory, in KiB: the index over ids of a million documents.
WRITER_CACHE_KIB = 65_536
# In the head of a database file (https://sqlite.org/fileformat.html): the size of its pages and their number, and two
# counters; where they differ an old version of SQLite wrote last, and the number means nothing.
HEAD_BYTES = 100
PAGE_SIZE_AT, COUNTER_AT, PAGES_AT, VALID_FOR_AT = slice(16, 18), slice(24, 28), slice(28, 32), slice(92, 96)


def sqlite_url(file: Path, mode: str) -> str:
    """The SQLAlchemy URL of a database file; ``mode`` is ``ro``, ``rw`` or ``rwc`` (made if it is not there)."""
    url = sa.URL.create("sqlite+pysqlite", database=file.absolute().as_uri(), query={"mode": mode, "uri": "true"})
    return url.render_as_string(hide_password=False)


def sqlite_engine(url: str) -> sa.Engine:
    """An engine whose reading transactions see one state, and whose writing ones are alone and last."""
    engine = sa.create_engine(
        url,
        poolclass=sa.pool.NullPool,
        # Transactions are begun by hand (below): the driver's own way begins none for a SELECT, and then two SELECTs of
        # one search may see two states. An iteration over documents may go on in another thread than it began in.
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False, "isolation_level": None},
        json_serializer=compact_json,
    )

    @sa.event.listens_for(engine, "do_connect")
    def do_connect(_dialect: Any, _record: Any, arguments: list[Any], _options: Any) -> None:
        if _is_sealed(Path(unquote(urlsplit(arguments[0]).path))):
            arguments[0] = arguments[0].replace("mode=rw", "mode=ro&immutable=1")

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        # synchronous=FULL: a commit is on the disk when it returns; NORMAL may lose the last ones when power fails.
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "trusted_schema=OFF",
            "cell_size_check=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("xsearch_writes", False)
        if writes:
            connection.exec_driver_sql(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def vacuum_file(connection: sa.Connection) -> None:
    """Has a database file give back its empty pages, and its log."""
    driver: Any = connection.connection.driver_connection
    # Readers may keep it from the whole of the log; the next commits do the rest.
    for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
        try:
            driver.execute(statement)
        except sqlite3.Error as exc:
            raise OperationalError(statement, None, exc) from exc


def is_cut_short(file: Path) -> bool:
    """Whether a database file has fewer pages than its head says; SQLite itself reads what is missing as zeros.

    While there is a log, it may hold the pages.
    """
    log = file.with_name(f"{file.name}-wal")
    try:
        with file.open("rb") as opened:
            head = opened.read(HEAD_BYTES)
        size = file.stat().st_size
        if log.exists() and log.stat().st_size:
            return False
        with file.open("rb") as opened:
            # Another process may have finished putting the log into the file meanwhile.
            if opened.read(HEAD_BYTES) != head or file.stat().st_size != size:
                return False
    except OSError:
        return False
    pages, page_size = int.from_bytes(head[PAGES_AT], "big"), int.from_bytes(head[PAGE_SIZE_AT], "big")
    return head[COUNTER_AT] == head[VALID_FOR_AT] and size < pages * (65_536 if page_size == 1 else page_size)


def _is_sealed(file: Path) -> bool:
    """Whether a database file can be read and not written, and all it holds is in the file itself.

    SQLite reads a file with a log through a third one, which it cannot make then. A writer that may write there has
    both as long as it is at work, and they are used; one that begins and ends while a single search reads goes unseen.
    """
    log = file.with_name(f"{file.name}-wal")
    return file.is_file() and not os.access(file.parent, os.W_OK) and not log.exists()


def insert_many(connection: sa.Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Puts rows into a table, of SQLite or of another database; values are what the driver takes, JSON is text."""
    insert_values(connection, table, columns, list(chain.from_iterable(rows)))


def insert_values(connection: sa.Connection, table: str, columns: Sequence[str], values: Sequence[Any]) -> None:
    """:func:`insert_many`, given the values of the rows, one row after the other.

    In SQLite many rows go in with one statement: the driver lets other threads run while a statement does, and with one
    for each row it would wait for them after each.
    """
    width = len(columns)
    names = ", ".join(f'"{column}"' for column in columns)
    if connection.dialect.name != "sqlite":
        if values:
            places = ", ".join(["%s"] * width)
            rows = list(zip(*[iter(values)] * width, strict=True))
            connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({places})", rows)
        return
    places = f"({', '.join('?' * width)})"
    step = INSERT_VALUES // width * width
    for start in range(0, len(values), step):
        some = tuple(values[start : start + step])
        every = ", ".join([places] * (len(some) // width))
        connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES {every}", some)


def read_any_bytes(connection: sa.Connection) -> None:
    """Has a connection read what is no UTF-8 with U+FFFD in its place, so that one document is at fault and not all."""
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        driver.text_factory = lambda data: data.decode("utf-8", "replace")


def sqlite_refusal(exc: DBAPIError, place: str) -> StoreError | None:
    """The error that says why the database could not do it; ``None`` where what it holds is at fault."""
    if not isinstance(exc, OperationalError):
        return None
    if "locked" in str(exc.orig) or "locking" in str(exc.orig):
        return StoreError(
            f"{place} stayed locked for {BUSY_TIMEOUT_S:.0f} s",
            "Another process holds a transaction open",
            "Wait until it is done, or stop it",
        )
    if "readonly" in str(exc.orig) or "unable to open" in str(exc.orig) or "full" in str(exc.orig):
        return StoreError(
            f"{place} cannot be opened or written: {exc.orig}",
            "It must be there, and its folder must be writable and have room",
            "Check its permissions and the free space",
        )
    return None
