"""PostgreSQL as the catalogue's database: how it is reached, what its transactions are, what its errors mean.

Each index has a schema of its own, so that one database holds many. The folder's lock keeps writers apart; the one that
each writing transaction takes does so too where two machines have the folder.
"""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from xsearch.errors import MissingExtraError, StoreError
from xsearch.store.fields import FUNCTIONS
from xsearch.store.json_text import compact_json

# What a transaction waits for another's locks before it gives up, and a connection for the server.
LOCK_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 10
# Decimals know infinity since 14, and filters compare with it.
OLDEST_SERVER = 14


def postgres_engine(url: str, schema: str) -> sa.Engine:
    """An engine whose transactions see the tables of one schema: reading ones in one state, writing ones alone.

    Raises:
        MissingExtraError: the driver is not installed.
    """
    try:
        import psycopg  # noqa: F401
    except ImportError as exc:
        raise MissingExtraError("A catalogue in PostgreSQL", "psycopg", "postgres") from exc
    engine = sa.create_engine(
        url,
        poolclass=sa.pool.NullPool,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S} if "connect_timeout" not in sa.make_url(url).query else {},
        json_serializer=compact_json,
        # Else each connection begins with a question about a type that we do not use.
        use_native_hstore=False,
    )
    settings = {
        "search_path": f'"{schema}"',
        "lock_timeout": int(LOCK_TIMEOUT_S * 1000),
        # Doubles to the last digit.
        "extra_float_digits": 1,
    }
    place = "; ".join(f"SET LOCAL {name} TO {value}" for name, value in settings.items())
    key = int.from_bytes(hashlib.sha256(schema.encode()).digest()[:8], "big", signed=True)

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            return
        if connection.get_execution_options().get("xsearch_writes", False):
            connection.exec_driver_sql(f"SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE; {place}")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({key})")
        else:
            connection.exec_driver_sql(f"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; {place}")

    return engine


def postgres_refusal(exc: DBAPIError, place: str) -> StoreError | None:
    """The error that says why the server could not do it; ``None`` where what it holds is at fault."""
    state = str(getattr(exc.orig, "sqlstate", None) or "")
    reason = " ".join(str(exc.orig).split())
    lost = not state and isinstance(exc, (OperationalError, InterfaceError))
    if lost or state.startswith(("08", "28", "3D", "57P")):
        return StoreError(
            f"{place} cannot be reached: {reason}",
            "The server must run, and let this user in; the password comes from PGPASSWORD or ~/.pgpass",
            "See whether psql can connect; what was committed is kept",
        )
    if state in ("55P03", "57014", "40001", "40P01"):
        return StoreError(
            f"{place} stayed locked for {LOCK_TIMEOUT_S:.0f} s or was interrupted: {reason}",
            "Another process holds a transaction open",
            "Wait until it is done, or stop it",
        )
    if state.startswith("53") or state in ("42501", "25006"):
        return StoreError(
            f"{place} cannot be opened or written: {reason}",
            "The user must be allowed to make and use a schema, and the server must have room",
            "Ask whoever looks after the server",
        )
    return None


def check_server(connection: sa.Connection, place: str) -> None:
    """Refuses a server that is too old, or a database that cannot hold every language.

    Raises:
        StoreError
    """
    version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if version < OLDEST_SERVER * 10_000:
        raise StoreError(
            f"{place} is on PostgreSQL {version // 10_000}",
            f"A catalogue needs PostgreSQL {OLDEST_SERVER} or newer",
            "Upgrade the server, or name another",
        )
    if encoding != "UTF8":
        raise StoreError(
            f"{place} is a database in the encoding {encoding}",
            "A catalogue holds every language, which needs UTF8",
            "Make a database with: createdb --encoding UTF8 --template template0 NAME",
        )


def create_schema(connection: sa.Connection, schema: str) -> None:
    """Makes the schema of a new index, with the functions that filters need."""
    connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')
    for function in FUNCTIONS:
        connection.exec_driver_sql(function.replace("%", "%%"))


def drop_schema(connection: sa.Connection, schema: str) -> None:
    """Removes the schema of an index with all that is in it, if it is there."""
    connection.exec_driver_sql(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


def vacuum_schema(engine: sa.Engine, schema: str) -> None:
    """Gives back the room of deleted rows; of tables that somebody reads at this moment it is only used again."""
    query = sa.text("SELECT tablename FROM pg_tables WHERE schemaname = :schema ORDER BY tablename")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        tables = [f'"{schema}"."{name}"' for name in connection.execute(query, {"schema": schema}).scalars()]
        for options in ("FULL, SKIP_LOCKED", "ANALYZE"):
            connection.exec_driver_sql(f"VACUUM ({options}) {', '.join(tables)}")


def schema_size(connection: sa.Connection, schema: str) -> int:
    """Bytes on the server's disk of all tables and indexes in a schema."""
    query = sa.text(
        "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :schema AND c.relkind IN ('r', 'm')"
    )
    return int(connection.execute(query, {"schema": schema}).scalar_one())
