"""An archive becomes an index: every member is checked before anything of it is used, and all of them appear at once.

An archive may come from anybody. Its names must be among those that we write, it unpacks to no more than there is room
for, every file must have the checksum that the manifest says and the catalogue lists, and the catalogue may hold
nothing that acts by itself.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from xsearch.errors import ArchiveError, IndexExistsError, IndexLockedError, IndexTooNewError, StoreError, XsearchError
from xsearch.store.archive import (
    BLOCK_BYTES,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    MAX_RATIO,
    MEMBER,
    Archived,
    Member,
    listed_files,
)
from xsearch.store.catalog import CATALOG_FILE, open_catalog
from xsearch.store.files import disk_errors, folder_lock, publish, publish_folder
from xsearch.store.folder import check_free
from xsearch.store.migrations import SCHEMA_VERSION

MAX_MEMBERS = 1_000_000
MAX_MANIFEST_BYTES = 256 * MAX_MEMBERS
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile raises on what is no archive, or is a damaged one.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)


def import_archive(file: Path, index: Path) -> Archived:
    """Makes an index of an archive; it appears whole or not at all.

    Raises:
        IndexExistsError: there is something at ``index``.
        ArchiveError: the archive is damaged, or holds what an archive must not hold.
        IndexTooNewError: it was written by a newer xsearch.
        StoreError: there is no room, or the folder cannot be written.
    """
    _check_free(index)
    with _opened(file) as archive:
        members = _checked_members(archive, file)
        _check_room(archive, index)
        with _workplace(index) as place:
            for member in members:
                _unpack(archive, file, member, place)
            _check_catalogue(place, file, members)
            _check_free(index)
            publish_folder(place, index)
    return Archived(str(file), str(index), len(members), file.stat().st_size)


@contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except OSError as exc:
        raise _refused(file, f"cannot be read ({exc.strerror or exc})") from exc
    except ZIP_ERRORS as exc:
        raise _refused(file, f"is damaged, or is no zip archive ({exc})") from exc


def _checked_members(archive: zipfile.ZipFile, file: Path) -> list[Member]:
    """What the manifest lists, after the archive's own list was found to be the same and harmless."""
    entries = archive.infolist()
    if len(entries) > MAX_MEMBERS:
        raise _refused(file, f"holds {len(entries):,} files")
    for entry in entries:
        _check_entry(entry, file)
    sizes = {entry.filename: entry.file_size for entry in entries}
    if len(sizes) < len(entries):
        raise _refused(file, "holds a name twice")
    if sum(entry.compress_size for entry in entries) > file.stat().st_size:
        raise _refused(file, "holds files that share their bytes")
    if sizes.get(MANIFEST, MAX_MANIFEST_BYTES + 1) > MAX_MANIFEST_BYTES:
        raise _refused(file, f"holds no {MANIFEST}, or an oversized one")
    members = _read_manifest(archive.read(MANIFEST), file)
    if {MANIFEST: sizes[MANIFEST], **{member.name: member.size for member in members}} != sizes:
        raise _refused(file, f"does not hold the files that its {MANIFEST} lists")
    return members


def _check_entry(entry: zipfile.ZipInfo, file: Path) -> None:
    mode = entry.external_attr >> 16
    if entry.filename != entry.orig_filename or not (entry.filename == MANIFEST or MEMBER.fullmatch(entry.filename)):
        raise _refused(file, f"holds {entry.orig_filename[:80]!r}, which is no file of an index")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise _refused(file, f"holds {entry.filename} as a link or another special file")
    if entry.flag_bits & 1 or entry.compress_type not in METHODS:
        raise _refused(file, f"holds {entry.filename} encrypted, or packed in a way that is not ours")
    if entry.file_size > max(entry.compress_size, 1) * MAX_RATIO:
        raise _refused(file, f"holds {entry.filename}, which unpacks to more than {MAX_RATIO} times its size")


def _read_manifest(content: bytes, file: Path) -> list[Member]:
    try:
        manifest: dict[str, Any] = json.loads(content)
        known = manifest["format"] == FORMAT
        versions = int(manifest["version"]), int(manifest["schema_version"])
        members = [Member(str(one["name"]), int(one["size"]), str(one["sha256"])) for one in list(manifest["members"])]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise _refused(file, f"has a {MANIFEST} that cannot be read ({exc!r})") from exc
    if versions > (FORMAT_VERSION, SCHEMA_VERSION) or versions[1] > SCHEMA_VERSION:
        raise IndexTooNewError(
            f"{file} was written by xsearch {str(manifest.get('xsearch'))[:40]}, with schema version {versions[1]}",
            f"This xsearch reads versions up to {SCHEMA_VERSION}",
            "Upgrade xsearch: pip install -U xsearch",
        )
    if not known or CATALOG_FILE not in {member.name for member in members}:
        raise _refused(file, "is no archive of an index")
    if len({member.name for member in members}) < len(members):
        raise _refused(file, f"has a {MANIFEST} with a name twice")
    return members


def _check_free(index: Path) -> None:
    """Refuses a place where there is anything but an empty folder."""
    check_free(index)
    if index.exists() and any(index.iterdir()):
        raise IndexExistsError(f"{index} is not empty", "A new index needs a folder of its own", "Choose another name")


def _check_room(archive: zipfile.ZipFile, index: Path) -> None:
    needed = sum(entry.file_size for entry in archive.infolist())
    place = next(parent for parent in index.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise StoreError(
            f"The archive unpacks to {needed:,} bytes",
            f"{place} has {free:,} bytes free",
            "Make room, or choose another folder with --index-dir",
        )


@contextmanager
def _workplace(index: Path) -> Iterator[Path]:
    """A folder beside the index, which goes with all that is in it when the block is left."""

    def refusal(holder: str) -> XsearchError:
        return IndexLockedError(
            f"The index {index} is being imported by {holder}", "One at a time", "Wait until it is done"
        )

    around = index.with_name(f".{index.name}.import")
    # One floor down, so that nobody takes it for an index among others.
    place = around / "index"
    with disk_errors(around):
        around.mkdir(parents=True, exist_ok=True)
    with folder_lock(around, refusal):
        try:
            with disk_errors(place):
                shutil.rmtree(place, ignore_errors=True)  # what a killed import left
                place.mkdir()
            yield place
        finally:
            shutil.rmtree(around, ignore_errors=True)


def _unpack(archive: zipfile.ZipFile, file: Path, member: Member, place: Path) -> None:
    path = place / member.name
    with disk_errors(path):
        path.parent.mkdir(exist_ok=True)
    digest = hashlib.sha256()

    def write(target: IO[bytes]) -> None:
        left = member.size
        with archive.open(member.name) as source:
            # No more than it said, whatever comes out of it.
            while left and (block := source.read(min(BLOCK_BYTES, left))):
                left -= len(block)
                digest.update(block)
                target.write(block)

    publish(path, write)
    if digest.hexdigest() != member.sha256:
        raise _refused(file, f"holds {member.name} with another checksum than its {MANIFEST} says")


def _check_catalogue(place: Path, file: Path, members: list[Member]) -> None:
    """Refuses a catalogue that lists other files than came with it, or that holds what acts by itself."""
    catalog = open_catalog(place / CATALOG_FILE)
    try:
        catalog.check()
        with catalog.reading() as connection:
            kinds = connection.exec_driver_sql("SELECT type FROM main.sqlite_master").scalars().all()
            listed = listed_files(connection)
    except IndexTooNewError:
        raise
    except StoreError as exc:
        raise _refused(file, f"holds a {CATALOG_FILE} that cannot be read ({exc.given})") from exc
    if {"trigger", "view"} & set(kinds):
        raise _refused(file, f"holds a {CATALOG_FILE} with triggers or views")
    others = sorted((one for one in members if one.name != CATALOG_FILE), key=lambda one: one.name)
    if sorted(listed, key=lambda one: one.name) != others:
        raise _refused(file, f"does not hold the files that its {CATALOG_FILE} lists")


def _refused(file: Path, what: str) -> ArchiveError:
    return ArchiveError(
        f"The archive {file} {what}",
        "It must be as `xsearch export NAME --archive` wrote it",
        "Export the index again, or fetch the archive again",
    )
