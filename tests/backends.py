"""The databases that a catalogue can be in, for tests that hold for each of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

# Read before any test changes the environment. A password comes from PGPASSWORD or ~/.pgpass.
POSTGRES = os.environ.get("XSEARCH_TEST_POSTGRES", "")
NEEDS_POSTGRES = [pytest.mark.postgres]
if not POSTGRES:
    # Skipped by a mark: pytest then says so once a file.
    NEEDS_POSTGRES.append(pytest.mark.skip(reason="XSEARCH_TEST_POSTGRES names no server: see CONTRIBUTING.md"))
BACKENDS = ("sqlite", pytest.param("postgresql", marks=NEEDS_POSTGRES))
# For tests that look at the file.
SQLITE_ONLY = pytest.mark.parametrize("catalog_url", ["sqlite"], indirect=True)


@contextmanager
def postgres_url() -> Iterator[str]:
    """The server to test with; the schemas that are made meanwhile go at the end."""
    before = schemas()
    yield POSTGRES
    with server().begin() as connection:
        for schema in sorted(schemas() - before):
            connection.exec_driver_sql(f'DROP SCHEMA "{schema}" CASCADE')


def server() -> sa.Engine:
    """The server itself, past all that is tested."""
    return sa.create_engine(sa.make_url(POSTGRES).set(drivername="postgresql+psycopg"), poolclass=sa.pool.NullPool)


def schemas() -> set[str]:
    """The schemas of all indexes there."""
    with server().connect() as connection:
        names = connection.exec_driver_sql("SELECT nspname FROM pg_namespace").scalars()
        return {name for name in names if re.fullmatch("xsearch_[0-9a-f]{32}", name)}
