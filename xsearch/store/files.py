"""Final files and the writer's lock: the only module that puts a file where readers look for it."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, BinaryIO

from xsearch.errors import IndexLockedError

LOCK_FILE = "LOCK"
TEMPORARY_SUFFIX = ".tmp"


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
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    with temporary.open("wb") as file:
        hashing = _HashingFile(file)
        write(hashing)  # type: ignore[arg-type]  # only write() is called
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    flush_folder(path.parent)
    return Written(size=hashing.size, sha256=hashing.digest.hexdigest())


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
    """Holds the index for one writer; the operating system lets go of it when the process ends, however it ends.

    The file says who holds it (pid, host, since), for the message that a second writer gets.

    Raises:
        IndexLockedError: somebody else is writing.
    """
    path = folder / LOCK_FILE
    with path.open("a+", encoding="utf-8") as file:
        if not _try_lock(file):
            raise IndexLockedError(
                f"The index {folder} is being written by {_holder(path)}",
                "An index has one writer at a time; any number may read",
                "Wait until it is done, or stop that process",
            )
        try:
            since = datetime.now(UTC).isoformat(timespec="seconds")
            file.seek(0)
            file.truncate()
            json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": since}, file)
            file.flush()
            yield
            file.seek(0)
            file.truncate()
            file.flush()
        finally:
            _unlock(file)


def _holder(path: Path) -> str:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return f"process {fields['pid']} on {fields['host']} since {fields['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


if os.name == "nt":
    import msvcrt

    def _try_lock(file: IO[str]) -> bool:
        try:
            file.seek(1 << 30)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True

    def _unlock(file: IO[str]) -> None:
        file.seek(1 << 30)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]

else:
    import fcntl

    def _try_lock(file: IO[str]) -> bool:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(file: IO[str]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)
