"""The catalogue: documents, passages, segments and settings in one database, whose commit is the index's commit.

Passage texts are not stored twice: a passage is a range of its document's text. Passage ids are handed out in order and
never reused; a segment holds the vectors of ascending ids. A deleted passage leaves its vector in its segment and its
id in ``tombstones``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from xsearch.errors import IndexDamagedError, IndexTooNewError, StoreError
from xsearch.store.checksums import setting_checksum
from xsearch.store.files import TEMPORARY_SUFFIX, publish_file
from xsearch.store.lexical import create_words
from xsearch.store.migrations import SCHEMA_VERSION, show_as_current
from xsearch.store.postgres import (
    create_schema,
    drop_schema,
    postgres_engine,
    postgres_refusal,
    schema_size,
    vacuum_schema,
)
from xsearch.store.sqlite import is_cut_short, sqlite_engine, sqlite_refusal, sqlite_url, vacuum_file

CATALOG_FILE = "catalog.sqlite"
# Nobody's text holds these, and neither SQLite's text functions nor UTF-8 take them.
UNSTORABLE = {0: 0xFFFD} | dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)
# Without these a catalogue is of no use.
NEEDED_SETTINGS = {"identity": str, "generation": int, "next_passage_id": int}
# After the key of a setting: the key of its checksum.
CHECKSUM_SUFFIX = ".checksum"

# In the order of code points in both databases, whatever the language of a PostgreSQL server is.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

metadata_ = sa.MetaData()

settings = sa.Table(
    "settings",
    metadata_,
    sa.Column("key", TEXT, primary_key=True),
    sa.Column("value", TEXT, nullable=False),
)
documents = sa.Table(
    "documents",
    metadata_,
    sa.Column("doc_key", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("doc_id", TEXT, nullable=False, unique=True),
    sa.Column("text_hash", TEXT, nullable=False),
    sa.Column("record_hash", TEXT, nullable=False),
    sa.Column("lang", TEXT, nullable=False),
    sa.Column("title", TEXT, nullable=False),
    sa.Column("source", TEXT, nullable=False),
    sa.Column("origin", TEXT, nullable=False, index=True),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("text", TEXT, nullable=False),
    sa.Column("run_id", sa.Integer, nullable=False, index=True),
    sa.Column("checksum", TEXT),
    sqlite_autoincrement=True,
)
passages = sa.Table(
    "passages",
    metadata_,
    sa.Column("passage_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column(
        "doc_key", sa.Integer, sa.ForeignKey("documents.doc_key", ondelete="CASCADE"), nullable=False, index=True
    ),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("start", sa.Integer, nullable=False),
    sa.Column("end", sa.Integer, nullable=False),
    sa.Column("lang", TEXT, nullable=False, index=True),
    sa.Column("tokens", sa.Integer, nullable=False),
    # Of all that a hit shows of it; NULL where an older xsearch wrote it.
    sa.Column("checksum", sa.BigInteger),
)
segments = sa.Table(
    "segments",
    metadata_,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("first_passage_id", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("dim", sa.Integer, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", TEXT, nullable=False),
    # NULL in what an older xsearch wrote: rows that belong to consecutive ids, and no checksums of blocks.
    sa.Column("runs", sa.LargeBinary),
    sa.Column("block_sums", sa.LargeBinary),
)
ann = sa.Table(
    "ann",
    metadata_,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("segments", sa.JSON, nullable=False),
    sa.Column("factory", TEXT, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", TEXT, nullable=False),
    # What it was tuned to, and what was measured: see store/ann.py.
    sa.Column("facts", sa.JSON, nullable=False),
)
tombstones = sa.Table(
    "tombstones",
    metadata_,
    sa.Column("passage_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
)
runs = sa.Table(
    "runs",
    metadata_,
    sa.Column("run_id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("sources", sa.JSON, nullable=False),
    sa.Column("started", TEXT, nullable=False),
    sa.Column("finished", TEXT),
    sqlite_autoincrement=True,
)


# Made once: each search asks for settings, and making a statement takes longer than reading one.
_SETTING = sa.select(settings.c.value).where(settings.c.key == sa.bindparam("wanted"))
_SETTINGS = sa.select(settings.c.key, settings.c.value).where(
    settings.c.key.in_(sa.bindparam("wanted", expanding=True))
)


class Catalog:
    """The database of one index.

    Args:
        url: an SQLAlchemy URL; :func:`open_catalog` knows the usual one.
        place: what messages call it.
        schema: that the tables are in, for PostgreSQL; empty for SQLite.
    """

    def __init__(self, url: str, *, place: str, schema: str = "") -> None:
        self.place = place
        self.schema = schema
        self._engine = postgres_engine(url, schema) if schema else sqlite_engine(url)
        self._refusal = postgres_refusal if schema else sqlite_refusal

    def create(self, values: Mapping[str, Any]) -> None:
        """Makes the tables, and stores the settings of a new index."""
        with self.transaction() as connection:
            if self.schema:
                create_schema(connection, self.schema)
            metadata_.create_all(connection)
            create_words(connection)
            for key, value in {
                "schema_version": SCHEMA_VERSION,
                "identity": uuid4().hex,
                "generation": 0,
                "next_passage_id": 1,
                **values,
            }.items():
                write_setting(connection, key, value)

    def check(self) -> None:
        """Refuses a database that is damaged, is no catalogue, or was written by a newer xsearch.

        Raises:
            IndexDamagedError, IndexTooNewError
        """
        if not self.schema and is_cut_short(Path(self.place)):
            raise self.damaged("is shorter than it was written")
        with self.reading() as connection:
            version = read_setting(connection, "schema_version")
            found = {key: read_setting(connection, key) for key in NEEDED_SETTINGS}
        if not isinstance(version, int):
            raise self.damaged("holds no schema version")
        if version > SCHEMA_VERSION:
            raise IndexTooNewError(
                f"{self.place} has schema version {version}",
                f"This xsearch reads versions up to {SCHEMA_VERSION}",
                "Upgrade xsearch: pip install -U xsearch",
            )
        for key, kind in NEEDED_SETTINGS.items():
            if not isinstance(found[key], kind):
                raise self.damaged(f"holds no {key}")

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A writing transaction: all of it is committed at the end, or nothing."""
        with (
            self.own_errors(),
            self._engine.connect().execution_options(xsearch_writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A reading transaction: one consistent state for as long as it is held."""
        with self.own_errors(), self._engine.connect() as connection, connection.begin():
            show_as_current(connection)
            yield connection

    def snapshot(self) -> sa.Connection:
        """A connection inside a reading transaction that the caller must close."""
        with self.own_errors(), ExitStack() as stack:
            connection = stack.enter_context(self._engine.connect())
            connection.begin()
            # Databases take their snapshot at the first read, not at BEGIN. An SQLite file is read here in any case.
            if self.schema:
                connection.execute(_SETTING, {"wanted": "generation"})
            show_as_current(connection)
            stack.pop_all()
            return connection

    def drop(self) -> None:
        """Removes a catalogue in PostgreSQL with all that it holds, if it is there; nothing of an SQLite file."""
        if self.schema:
            with self.transaction() as connection:
                drop_schema(connection, self.schema)

    def vacuum(self) -> None:
        """Has an SQLite file give back its empty pages and its log; a PostgreSQL server, the room of dead rows."""
        if self.schema:
            with self.own_errors():
                vacuum_schema(self._engine, self.schema)
        else:
            with self.own_errors(), self._engine.connect() as connection:
                vacuum_file(connection)

    def size(self) -> int:
        """Bytes on the disk of a PostgreSQL server; an SQLite file's own size is not in it."""
        if not self.schema:
            return 0
        with self.reading() as connection:
            return schema_size(connection, self.schema)

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Turns the database's errors into ours, whoever holds the connection."""
        try:
            yield
        except DBAPIError as exc:
            raise self._refusal(exc, self.place) or self.damaged(f"cannot be read ({exc.orig})") from exc
        except json.JSONDecodeError as exc:
            raise self.damaged(f"holds what is not JSON ({exc})") from exc
        except UnicodeDecodeError as exc:
            raise self.damaged(f"holds what is not UTF-8 ({exc.reason})") from exc

    def damaged(self, what: str) -> IndexDamagedError:
        """The error that says how the catalogue is not as it was written."""
        return IndexDamagedError(
            f"The catalogue {self.place} {what}",
            "It must be the database that xsearch wrote",
            "Restore it from a backup, or build the index again with: xsearch index NAME SOURCE --rebuild",
        )


def open_catalog(file: Path) -> Catalog:
    """The SQLite catalogue in a file that is there."""
    return Catalog(sqlite_url(file, "rw"), place=str(file))


def create_catalog(file: Path, values: Mapping[str, Any]) -> None:
    """Makes an SQLite catalogue with the settings of a new index; it appears whole or not at all."""
    temporary = file.with_name(file.name + TEMPORARY_SUFFIX)
    for leftover in file.parent.glob(f"{temporary.name}*"):
        leftover.unlink()
    Catalog(sqlite_url(temporary, "rwc"), place=str(temporary)).create(values)
    # SQLite is silent where it could not put its log into the file, and the log would stay behind.
    if temporary.with_name(f"{temporary.name}-wal").exists():
        raise StoreError(
            f"{temporary} cannot be written", "Its folder must have room", "Check the free space, and try again"
        )
    publish_file(temporary, file)


def storable(text: str) -> str:
    """The text with characters that cannot be stored replaced by U+FFFD, one for one."""
    # Looking is thirty times as fast as translating, and in most texts there is nothing to replace.
    if "\0" not in text:
        if text.isascii():
            return text
        try:
            text.encode()
        except UnicodeEncodeError:
            return text.translate(UNSTORABLE)
        return text
    return text.translate(UNSTORABLE)


def read_setting(connection: sa.Connection, key: str) -> Any:
    """The value of a setting, or ``None``."""
    value = connection.execute(_SETTING, {"wanted": key}).scalar()
    return None if value is None else json.loads(value)


def read_settings(connection: sa.Connection, keys: Sequence[str]) -> dict[str, Any]:
    """The values of some settings in one query; ``None`` for those that are not there."""
    rows = connection.execute(_SETTINGS, {"wanted": list(keys)})
    return dict.fromkeys(keys) | {row.key: json.loads(row.value) for row in rows}


def write_setting(connection: sa.Connection, key: str, value: Any) -> None:
    """Stores a JSON-serialisable value under a key, and a checksum of both."""
    text, checksum_key = json.dumps(value), key + CHECKSUM_SUFFIX
    rows = [{"key": key, "value": text}, {"key": checksum_key, "value": json.dumps(setting_checksum(key, text))}]
    connection.execute(settings.delete().where(settings.c.key.in_((key, checksum_key))))
    connection.execute(settings.insert(), rows)


def altered(what: str) -> str:
    """Of a catalogue, to be said after its name: that it holds something that was changed from outside."""
    return f"holds the {what} otherwise than it was written"


def damaged_settings(connection: sa.Connection) -> list[str]:
    """The keys of settings that are not as they were written; one that an older xsearch wrote has no checksum."""
    found = {row.key: row.value for row in connection.execute(sa.select(settings.c.key, settings.c.value))}
    keys = [key.removesuffix(CHECKSUM_SUFFIX) for key in found if key.endswith(CHECKSUM_SUFFIX)]
    return [
        key for key in keys if found[key + CHECKSUM_SUFFIX] != json.dumps(setting_checksum(key, str(found.get(key))))
    ]


def inserted_key(result: sa.CursorResult[Any]) -> int:
    """The primary key that the database gave to an inserted row."""
    keys = result.inserted_primary_key
    if keys is None:
        raise StoreError("The database gave no key for a row", "An INSERT of one row", "Report this as a bug")
    return int(keys[0])


def any_of(connection: sa.Connection, column: sa.Column[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """That a column holds one of these values, however many; one statement with one parameter for all."""
    if connection.dialect.name == "sqlite":
        listed = sa.func.json_each(json.dumps(list(values))).table_valued("value")
        return column.in_(sa.select(listed.c.value))
    return column == sa.any_(sa.literal(list(values), sa.ARRAY(column.type)))


def delete_documents(connection: sa.Connection, doc_keys: Sequence[int]) -> None:
    """Takes documents and their passages out; the passages' ids become tombstones."""
    if not doc_keys:
        return
    theirs = any_of(connection, passages.c.doc_key, doc_keys)
    gone = sa.select(passages.c.passage_id).where(theirs)
    connection.execute(tombstones.insert().from_select(["passage_id"], gone))
    connection.execute(passages.delete().where(theirs))
    connection.execute(documents.delete().where(any_of(connection, documents.c.doc_key, doc_keys)))
