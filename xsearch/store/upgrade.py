"""An older catalogue brought up to date by the first writer that opens it, with a copy of it kept beside it."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from xsearch.errors import StoreError
from xsearch.store.catalog import CATALOG_FILE, Catalog, read_setting, write_setting
from xsearch.store.files import TEMPORARY_SUFFIX, disk_errors, publish_file
from xsearch.store.migrations import SCHEMA_VERSION, migrate

_log = logging.getLogger(__name__)


def upgrade(index: Path, catalog: Catalog) -> Path | None:
    """Brings the catalogue of an older xsearch up to date, all of it in one transaction. The caller holds the lock.

    Returns:
        The copy of the catalogue as it was, which stays until somebody removes it; ``None`` where nothing was to do.

    Raises:
        StoreError: there is no room for the copy; the index is as it was.
    """
    with catalog.reading() as connection:
        version: int = read_setting(connection, "schema_version")
    if version >= SCHEMA_VERSION:
        return None
    kept = index / f"{CATALOG_FILE}.v{version}.bak"
    copy_catalog(catalog, kept)
    with catalog.transaction() as connection:
        migrate(connection, version)
        write_setting(connection, "schema_version", SCHEMA_VERSION)
    _log.warning(
        "%s was brought from schema version %s to %s; %s holds it as it was, and may be deleted",
        catalog.place, version, SCHEMA_VERSION, kept,
    )  # fmt: skip
    return kept


def copy_catalog(catalog: Catalog, file: Path) -> None:
    """Copies an SQLite catalogue as it is at this moment, whoever writes to it; the copy appears whole or not at all.

    Raises:
        StoreError: the copy cannot be written.
    """
    temporary = file.with_name(file.name + TEMPORARY_SUFFIX)
    with disk_errors(file):
        for leftover in file.parent.glob(f"{temporary.name}*"):
            leftover.unlink()
    with catalog.reading() as connection:
        source = connection.connection.driver_connection
        if not isinstance(source, sqlite3.Connection):
            raise StoreError(
                f"The catalogue {catalog.place} is not a file",
                "Only an SQLite catalogue can be copied so",
                "Use the means of its database, e.g. pg_dump",
            )
        try:
            _copy(source, temporary)
        except sqlite3.Error as exc:
            temporary.unlink(missing_ok=True)
            raise StoreError(
                f"{catalog.place} cannot be copied to {file}: {exc}",
                "The folder must be writable and have room for a copy of it",
                "Make room; and see that the index is in order: xsearch verify NAME",
            ) from exc
    publish_file(temporary, file)


def _copy(source: sqlite3.Connection, file: Path) -> None:
    with closing(sqlite3.connect(file)) as target:
        # In one step, so that no writer can come in between.
        source.backup(target)
        # One file, which can be read where nothing can be written.
        target.execute("PRAGMA journal_mode=DELETE")
