"""What a killed process left, told apart: two folders in which a reader finds the same have the same key.

Of the hundreds of steps of an operation most change what nobody reads yet. So that each state is looked at once, the
operation must do the same each time: time, chance and the process's number stand still in a child.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import os
import shutil
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from tests.faults import sqlite_library
from xsearch.store import files, writer

PID = 4711
# Of sqlite3_test_control (https://sqlite.org/c3ref/c_testctrl_always.html): SQLite's own random numbers.
PRNG_SAVE, PRNG_RESTORE = 5, 6


class _Stopped(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> _Stopped:
        return cls(2026, 1, 1, tzinfo=tz or UTC)


def keep_chance() -> None:
    """Keeps the state of SQLite's random numbers, for :func:`stand_still`."""
    # They begin when the first is asked for.
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("SELECT random()").fetchall()
    ctypes.CDLL(sqlite_library()).sqlite3_test_control(PRNG_SAVE)


def stand_still() -> None:
    """Stops clock and chance in this process, for as long as it lives."""
    ctypes.CDLL(sqlite_library()).sqlite3_test_control(PRNG_RESTORE)
    numbers = itertools.count()
    files.datetime = writer.datetime = _Stopped  # type: ignore[attr-defined, misc]
    os.urandom = lambda size: hashlib.sha256(f"{next(numbers)}".encode()).digest()[:size]
    os.getpid = lambda: PID
    # One that times how fast something is must see time pass.
    ticks = itertools.count(1)
    time.perf_counter = lambda: next(ticks) / 1_000


def key_of(place: Path, scratch: Path) -> str:
    """The key of what is in a folder; nothing is changed there.

    A database counts by its rows as SQLite itself reads them from file and log, in a copy of the folder: pages that a
    log does not commit are not there, and it is all one how many of those that it does stand in the file already.

    Args:
        scratch: for the copy; must not be there.
    """
    shutil.copytree(place, scratch)
    digest = hashlib.sha256()
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if name.endswith("-shm"):
            continue  # The first to open a database makes it anew.
        if name.endswith(("-wal", "-journal")):
            content = b"something" if path.stat().st_size else b""
        elif path.is_dir():
            content = b"folder"
        elif ".sqlite" in name:
            content = _rows(scratch / name) or path.read_bytes()
        else:
            content = path.read_bytes()
        for part in (name.encode(), content):
            digest.update(len(part).to_bytes(8, "big") + part)
    shutil.rmtree(scratch)
    return digest.hexdigest()


def _rows(file: Path) -> bytes:
    """All that a database holds, with the tables that others consist of; nothing of one that cannot be read.

    Not its pages: what is free in them holds whatever was in memory.
    """
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            counted = [connection.execute(f"PRAGMA {name}").fetchall() for name in ("page_count", "quick_check")]
            tables = connection.execute("SELECT name, rootpage, sql FROM sqlite_master ORDER BY name").fetchall()
            # A virtual table has no page of its own.
            names = [name for name, page, sql in tables if page and sql and sql.startswith("CREATE TABLE")]
            rows = [connection.execute(f"SELECT * FROM '{name}'").fetchall() for name in names]
            return repr((counted, tables, rows)).encode()
    except sqlite3.Error:
        return b""
