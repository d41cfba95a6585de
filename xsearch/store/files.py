"""Final files and the writer's lock: the only module that puts a file where readers look for it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, BinaryIO

from xsearch.errors import IndexLockedError, StoreError, XsearchError

LOCK_FILE = "LOCK"
TEMPORARY_SUFFIX = ".tmp"
COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """A file that is on disk for good: its size in bytes and the SHA-256 of its content, hexadecimal."""

    size: int
    sha256: str


class _HashingFile:
    """A binary file, for writing only, that hashes what passes through."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)


def publish(path: Path, write: Callable[[IO[bytes]], None]) -> Written:
    """Makes a file appear under its name whole or not at all, and lasting when this returns.

    The content goes to a temporary name beside it, is flushed to the disk, and renamed; then the folder is flushed.

    Raises:
        StoreError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    with disk_errors(path):
        try:
            with temporary.open("wb") as file:
                hashing = _HashingFile(file)
                write(hashing)  # type: ignore[arg-type]  # only write() is called
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            # A full disk needs the room.
            temporary.unlink(missing_ok=True)
            raise
        temporary.replace(path)
        flush_folder(path.parent)
    return Written(size=hashing.size, sha256=hashing.digest.hexdigest())


def publish_file(temporary: Path, path: Path) -> None:
    """Gives a finished file its final name, lasting when this returns.

    Raises:
        StoreError: the folder cannot be written.
    """
    with disk_errors(path):
        # Windows flushes only what is open for writing.
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        flush_folder(path.parent)


def publish_folder(temporary: Path, path: Path) -> None:
    """Gives a finished folder of published files its final name, lasting when this returns.

    Args:
        path: must not be there, or be an empty folder.

    Raises:
        StoreError: the folder cannot be written.
    """
    with disk_errors(path):
        for folder in (*(place for place in temporary.rglob("*") if place.is_dir()), temporary):
            flush_folder(folder)
        temporary.rename(path)
        flush_folder(path.parent)


def link_file(source: Path, path: Path) -> None:
    """Gives a published file, which never changes, a second name, lasting when this returns; or copies it.

    Raises:
        StoreError: the folder cannot be written.
    """
    with disk_errors(path):
        path.unlink(missing_ok=True)
        try:
            os.link(source, path)
        except OSError:
            # A file system without hard links.
            with source.open("rb") as file:
                publish(path, lambda target: shutil.copyfileobj(file, target, COPY_BYTES))
            return
        flush_folder(path.parent)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns the system's errors about writing a file into ours."""
    try:
        yield
    except OSError as exc:
        raise StoreError(
            f"{path} cannot be written: {exc.strerror or exc}",
            "Its folder must be writable and have room",
            "Check its permissions and the free space",
        ) from exc


def flush_folder(folder: Path) -> None:
    """Flushes the names in a folder to the disk, where the system can (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Holds the index for one writer.

    Raises:
        IndexLockedError: somebody else is writing.
        StoreError: the folder cannot be written, or its file system has no locks.
    """

    def refusal(holder: str) -> XsearchError:
        return IndexLockedError(
            f"The index {folder} is being written by {holder}",
            "An index has one writer at a time; any number may read",
            "Wait until it is done, or stop that process",
        )

    with folder_lock(folder, refusal):
        yield


@contextmanager
def folder_lock(folder: Path, refusal: Callable[[str], XsearchError]) -> Iterator[None]:
    """Holds a folder for one process; the operating system lets go of it when the process ends, however it ends.

    The file says who holds it (pid, host, since), for the message that a second process gets.

    Args:
        refusal: the error for a folder that is held, made from words for who holds it.

    Raises:
        StoreError: the folder cannot be written, or its file system has no locks.
    """
    path = folder / LOCK_FILE
    with _opened(path) as file:
        with disk_errors(path):
            locked = _try_lock(file)
        if not locked:
            raise refusal(_holder(path))
        try:
            since = datetime.now(UTC).isoformat(timespec="seconds")
            with disk_errors(path):
                file.truncate(0)
                file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}).encode())
            yield
        finally:
            file.truncate(0)
            _unlock(file)


def _opened(path: Path) -> BinaryIO:
    with disk_errors(path):
        # Unbuffered: what a full disk refused must not be tried again when the file is closed.
        return path.open("ab+", buffering=0)


def _holder(path: Path) -> str:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return f"process {fields['pid']} on {fields['host']} since {fields['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        # Closed to us, gone this moment, or cleared by a writer that is about to go.
        return "another process"


if os.name == "nt":
    import msvcrt

    def _try_lock(file: BinaryIO) -> bool:
        try:
            file.seek(1 << 30)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True

    def _unlock(file: BinaryIO) -> None:
        file.seek(1 << 30)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]

else:
    import fcntl

    def _try_lock(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(file: BinaryIO) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)
