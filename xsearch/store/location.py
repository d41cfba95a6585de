"""Where an index's catalogue is: in its folder (SQLite), or in a PostgreSQL database that a small file there names.

The file holds no password: that comes from where libpq has it, ``PGPASSWORD`` or ``~/.pgpass``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Self
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from xsearch.errors import IndexDamagedError, InvalidArgumentError, SettingsMismatchError
from xsearch.store.catalog import CATALOG_FILE, Catalog, create_catalog, open_catalog
from xsearch.store.files import TEMPORARY_SUFFIX, publish, publish_file
from xsearch.store.postgres import check_server

LOCATION_FILE = "catalog.json"
SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
# Parts of a URL's query that libpq takes for secrets.
SECRETS = ("password", "sslpassword")


@dataclass(frozen=True, slots=True)
class Location:
    """A catalogue in PostgreSQL.

    Attributes:
        catalog: the database's URL, without password.
        schema: that holds the tables.
    """

    catalog: str
    schema: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """The location that an index's folder names.

        Raises:
            IndexDamagedError: the file does not hold one.
        """
        file = path / LOCATION_FILE
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))
            found = cls(catalog=fields["catalog"], schema=fields["schema"])
            if without_password(found.catalog) != found.catalog or not _is_schema(found.schema):
                raise ValueError("is not as it was written")
        except (OSError, ValueError, KeyError, TypeError, InvalidArgumentError) as exc:
            raise IndexDamagedError(
                f"{file} cannot be read ({exc})",
                "It names the database that holds the index's catalogue",
                "Restore it from a backup; or delete the folder and, in the database, its schema xsearch_...",
            ) from exc
        return found

    def write(self, file: Path) -> None:
        """Writes the location to a file, lasting when this returns."""

        def write(out: IO[bytes]) -> None:
            out.write(json.dumps(asdict(self), indent=1).encode())

        publish(file, write)

    def open(self, url: str = "") -> Catalog:
        """The catalogue there; a URL may bring the password."""
        given = sa.make_url(url or self.catalog).set(drivername="postgresql+psycopg")
        place = f"{self.catalog} (schema {self.schema})"
        return Catalog(given.render_as_string(hide_password=False), place=place, schema=self.schema)


def is_index(path: Path) -> bool:
    """Whether a folder holds an index."""
    return (path / CATALOG_FILE).is_file() or (path / LOCATION_FILE).is_file()


def find_catalog(path: Path, url: str | None = None) -> Catalog:
    """The catalogue of the index in a folder.

    Args:
        url: where it is expected to be; ``None`` for wherever it is.

    Raises:
        IndexDamagedError: the folder does not say where it is.
        InvalidArgumentError: the URL is none of a PostgreSQL database.
        SettingsMismatchError: it is elsewhere.
    """
    wanted = None if url is None else without_password(url)
    location = Location.read(path) if (path / LOCATION_FILE).is_file() else None
    if wanted is not None and (location is None or wanted != location.catalog):
        found = "its own folder" if location is None else location.catalog
        raise SettingsMismatchError(
            f"The index {path} has its catalogue in {found}, not in {wanted}",
            "A catalogue stays where it was made",
            "Leave out --catalog, or build another index; or start over with --rebuild",
        )
    return open_catalog(path / CATALOG_FILE) if location is None else location.open(url or "")


def make_catalog(path: Path, values: Mapping[str, Any], url: str | None = None) -> Catalog:
    """Makes the catalogue of a new index in a folder that is there and locked; it appears whole or not at all.

    Args:
        values: the index's settings.
        url: of the PostgreSQL database to make it in; ``None`` for an SQLite file in the folder.

    Raises:
        InvalidArgumentError: the URL is none of a PostgreSQL database.
        StoreError: the database cannot be reached or does not let us.
    """
    file = path / LOCATION_FILE
    temporary = file.with_name(file.name + TEMPORARY_SUFFIX)
    _sweep(temporary, url)
    if url is None:
        create_catalog(path / CATALOG_FILE, values)
        return open_catalog(path / CATALOG_FILE)
    identity = uuid4().hex
    location = Location(catalog=without_password(url), schema=f"xsearch_{identity}")
    # Nothing is written for a database that cannot be reached.
    check_database(url)
    # The name of the schema is on the disk before there is one, and final when there is: a kill in between leaves what
    # the next creation here removes.
    location.write(temporary)
    catalog = location.open(url)
    catalog.create({"identity": identity, **values})
    publish_file(temporary, file)
    return catalog


def drop_tables(path: Path) -> None:
    """Removes what the index in a folder has in a PostgreSQL database, if it has; the folder stays an index."""
    if (path / LOCATION_FILE).is_file():
        Location.read(path).open().drop()


def remove_catalog(path: Path) -> None:
    """Removes the files of a catalogue; last, so that what is left of a killed removal is still seen as an index."""
    (path / LOCATION_FILE).unlink(missing_ok=True)
    # The database after its log, which would be taken for that of a new database of the same name.
    for suffix in ("-wal", "-shm", ""):
        (path / f"{CATALOG_FILE}{suffix}").unlink(missing_ok=True)


def check_database(url: str) -> None:
    """Refuses a database that cannot hold a catalogue.

    Raises:
        InvalidArgumentError: the URL is none of a PostgreSQL database.
        StoreError: it cannot be reached, or is too old or in another encoding than UTF-8.
    """
    catalog = Location(catalog=without_password(url), schema="xsearch").open(url)
    with catalog.reading() as connection:
        check_server(connection, without_password(url))


def without_password(url: str) -> str:
    """The URL of a PostgreSQL database in its usual form, without what must not be written down.

    >>> without_password("postgres://ann:secret@db.example/news")
    'postgresql://ann@db.example/news'

    Raises:
        InvalidArgumentError: it is none.
    """
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername not in SCHEMES:
        # Not the text itself: it may hold a password.
        given = f"begins with {parsed.drivername}://" if parsed is not None else "cannot be read"
        raise InvalidArgumentError(
            f"The URL of the catalogue {given}",
            "It must be that of a PostgreSQL database",
            "Write it like: postgresql://user@host:5432/database",
        )
    bare = sa.URL.create(
        "postgresql",
        username=parsed.username,
        host=parsed.host,
        port=parsed.port,
        database=parsed.database,
        query={name: value for name, value in parsed.query.items() if name not in SECRETS},
    )
    return bare.render_as_string(hide_password=False)


def _is_schema(name: str) -> bool:
    return name.startswith("xsearch_") and name.removeprefix("xsearch_").isalnum() and name.isascii()


def _sweep(temporary: Path, url: str | None) -> None:
    """Removes what a killed creation left: a schema that no index has."""
    if not temporary.is_file():
        return
    try:
        fields = json.loads(temporary.read_text(encoding="utf-8"))
        left = Location(catalog=fields["catalog"], schema=fields["schema"])
        wanted = None if url is None else without_password(url)
    except (ValueError, KeyError, TypeError):
        pass  # Killed before it was written, and so before there was a schema.
    else:
        left.open(url if url is not None and wanted == left.catalog else "").drop()
    temporary.unlink()
