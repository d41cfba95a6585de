"""A whole index in one file: a zip archive of its catalogue and vector files, with a manifest of their checksums."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from xsearch.errors import IndexDamagedError, StoreError
from xsearch.store.catalog import CATALOG_FILE, Catalog, ann, open_catalog, read_setting
from xsearch.store.files import TEMPORARY_SUFFIX, disk_errors, publish_file
from xsearch.store.listing import read_segments
from xsearch.store.transfer import write_as_sqlite
from xsearch.store.upgrade import copy_catalog
from xsearch.store.vectors import VECTORS_FOLDER

MANIFEST = "manifest.json"
FORMAT = "xsearch-index"
FORMAT_VERSION = 1
# All that an archive may hold beside its manifest.
MEMBER = re.compile(rf"{re.escape(CATALOG_FILE)}|{VECTORS_FOLDER}/[0-9]{{6,12}}\.npy|ann/[0-9]{{6,12}}\.faiss")
# A member that unpacks to more than this many times its size in the archive is refused when it is read, and so is not
# written: the catalogue of 10,000 equal documents packs 5 times.
MAX_RATIO = 200
BLOCK_BYTES = 1 << 20
# A compaction may take files away while they are read; then all begins again with what the catalogue says now.
ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive: its name, its size in bytes, and the SHA-256 of its content, hexadecimal."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Archived:
    """An archive that was written or read.

    Attributes:
        archive, index: the file and the folder.
        members: files in it, the manifest not counted.
        size: of the archive in bytes.
    """

    archive: str
    index: str
    members: int
    size: int

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON-serialisable values."""
        return asdict(self)


class _GoneError(Exception):
    """A file was deleted after the catalogue was copied."""


def export_archive(index: Path, catalog: Catalog, file: Path) -> Archived:
    """Writes one state of an index to an archive, whoever writes to the index meanwhile; whole or not at all.

    Raises:
        IndexDamagedError: a file of the index is not as it was written; nothing is.
        StoreError: the archive cannot be written.
    """
    for _ in range(ATTEMPTS):
        # Packed where that keeps within what reading allows.
        for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
            try:
                members = _write(index, catalog, file, method)
            except _GoneError:
                break
            if members is not None:
                with disk_errors(file):
                    return Archived(str(file), str(index), len(members), file.stat().st_size)
    raise StoreError(
        f"A vector file that {catalog.place} lists was not there, {ATTEMPTS} times",
        "It must be there for as long as it is listed",
        "See what is damaged with: xsearch verify NAME; and mend it with: xsearch repair NAME",
    )


def _write(index: Path, catalog: Catalog, file: Path, method: int) -> list[Member] | None:
    """The members of the archive; ``None``, and no archive, where the catalogue packs too well."""
    temporary = file.with_name(file.name + TEMPORARY_SUFFIX)
    with _copied(catalog, file) as copy:
        expected, schema_version = _listed(copy)
        try:
            with disk_errors(file), zipfile.ZipFile(temporary, "w") as archive:
                members = [_add(archive, CATALOG_FILE, copy, method)]
                if archive.getinfo(CATALOG_FILE).compress_size * MAX_RATIO < members[0].size:
                    return None
                for listed in expected:
                    members.append(_add(archive, listed.name, index / listed.name, zipfile.ZIP_STORED))
                    if members[-1] != listed:
                        raise _altered(index / listed.name)
                archive.writestr(MANIFEST, json.dumps(_manifest(members, schema_version), indent=1))
            publish_file(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
    return members


@contextmanager
def _copied(catalog: Catalog, file: Path) -> Iterator[Path]:
    """A copy of the catalogue as an SQLite file, beside the archive for as long as it is needed."""
    copy = file.with_name(f"{file.name}.{CATALOG_FILE}")
    try:
        (write_as_sqlite if catalog.schema else copy_catalog)(catalog, copy)
        yield copy
    finally:
        for leftover in copy.parent.glob(f"{copy.name}*"):
            leftover.unlink()


def _listed(copy: Path) -> tuple[list[Member], int]:
    """The files that a catalogue lists, and its version."""
    with open_catalog(copy).reading() as connection:
        return listed_files(connection), int(read_setting(connection, "schema_version"))


def listed_files(connection: sa.Connection) -> list[Member]:
    """The files that a catalogue lists beside itself, with the sizes and checksums that they were written with."""
    found = [Member(f"{VECTORS_FOLDER}/{one.name}", one.size, one.sha256) for one in read_segments(connection)]
    rows = connection.execute(sa.select(ann.c.number, ann.c.size, ann.c.sha256).order_by(ann.c.number))
    return found + [Member(f"ann/{row.number:06d}.faiss", row.size, row.sha256) for row in rows]


def _add(archive: zipfile.ZipFile, name: str, path: Path, method: int) -> Member:
    # The same index makes the same archive.
    entry = zipfile.ZipInfo(name)
    entry.compress_type = method
    entry.external_attr = 0o644 << 16
    digest, size = hashlib.sha256(), 0
    try:
        source = path.open("rb")
    except FileNotFoundError as exc:
        raise _GoneError from exc
    with source, archive.open(entry, "w", force_zip64=True) as target:
        while block := source.read(BLOCK_BYTES):
            digest.update(block)
            size += len(block)
            target.write(block)
    return Member(name, size, digest.hexdigest())


def _manifest(members: Sequence[Member], schema_version: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "xsearch": version("xsearch"),
        "schema_version": schema_version,
        "members": [asdict(member) for member in members],
    }


def _altered(path: Path) -> IndexDamagedError:
    return IndexDamagedError(
        f"{path} has another size or checksum than when it was written",
        "What is exported must be in order",
        "Mend the index first: xsearch repair NAME",
    )
