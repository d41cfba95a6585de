"""Faults on purpose: a process that counts what it writes, and ends, or finds the disk full, at the step of a number.

A step is a write, truncation, flush, rename, link, removal or new folder of Python's, or a write, truncation, flush or
removal of SQLite's own, which a commit, a checkpoint and VACUUM consist of. For the latter the functions that SQLite
calls for its files are replaced (https://sqlite.org/vfs.html), which works where Python's SQLite is a shared library.
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
import signal
import sqlite3
from collections.abc import Callable, Collection
from enum import StrEnum
from pathlib import Path
from typing import Any

EXIT_CODE = 77
SQLITE_FULL = 13
# Steps that take room on the disk.
TAKES_ROOM = ("write", "sqlite write", "mkdir", "link")


class Fault(StrEnum):
    """What happens at the step: the process ends before it, a write is cut in half and the process killed, or the disk
    is full from then on."""

    EXIT = "exit"
    KILL = "kill"
    HALF = "half"
    FULL = "full"


class Steps:
    """Counts steps below a folder, and does what was asked at one of them.

    Attributes:
        kinds: that count; ``None`` for all.
        seen: every step, as ``kind name``.
    """

    def __init__(
        self, folder: Path, *, at: int = 0, fault: Fault = Fault.EXIT, kinds: Collection[str] | None = None
    ) -> None:
        self.folder = str(folder)
        self.kinds = kinds
        self.at = at
        self.fault = fault
        self.seen: list[str] = []

    def meet(self, kind: str, path: str, half: Callable[[], object] | None = None) -> None:
        """Counts a step; ends the process where it is the one, or raises ``OSError`` where the disk is full.

        Args:
            half: does half of the step.
        """
        if not path.startswith(self.folder) or (self.kinds is not None and kind not in self.kinds):
            return
        self.seen.append(f"{kind} {path[len(self.folder) :].lstrip('/')}")
        if self.at == 0 or len(self.seen) < self.at:
            return
        if self.fault is Fault.FULL:
            if kind in TAKES_ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            return
        if self.fault is Fault.EXIT:
            os._exit(EXIT_CODE)
        if self.fault is Fault.HALF and half is not None:
            half()
        signal.raise_signal(signal.SIGKILL)


def install(steps: Steps) -> None:
    """Has this process count its steps, for as long as it lives."""
    _count_files(steps)
    _count_names(steps)
    _count_sqlite(steps)


def sqlite_is_shared() -> bool:
    """Whether SQLite's own steps can be counted."""
    return sqlite_library() is not None


def _count_files(steps: Steps) -> None:
    original = io.open

    class Counted(io.FileIO):
        def write(self, data: Any) -> int:
            view = memoryview(data).cast("B")
            steps.meet("write", str(self.name), lambda: super(Counted, self).write(view[: len(view) // 2]))
            return super().write(view)

        def truncate(self, size: int | None = None) -> int:
            steps.meet("truncate", str(self.name))
            return super().truncate(size)

    def counted_open(file: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **options: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return original(file, mode, buffering, *arguments, **options)
        raw = Counted(os.fspath(file), mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        kind = io.BufferedRandom if "+" in mode and "a" not in mode else io.BufferedWriter
        buffered = kind(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding=options.get("encoding") or "utf-8")

    io.open = counted_open  # type: ignore[assignment]


def _count_names(steps: Steps) -> None:
    """Of the functions that change names of files. Nothing is really flushed: killing a process loses no page."""
    paths: dict[int, str] = {}
    opened, real_path = os.open, os.path.realpath

    def remember(path: Any, *arguments: Any, **options: Any) -> int:
        descriptor = opened(path, *arguments, **options)
        folder = paths.get(options.get("dir_fd") or -1, "")
        paths[descriptor] = os.path.join(folder, os.fspath(path))
        return descriptor

    def fsync(descriptor: int) -> None:
        steps.meet("fsync", real_path(f"/proc/self/fd/{descriptor}"))

    def counted(name: str) -> Callable[..., Any]:
        original = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            folder = paths.get(options.get("dir_fd") or -1, "")
            steps.meet(name, os.path.join(folder, os.fspath(arguments[0])))
            return original(*arguments, **options)

        return call

    os.open, os.fsync = remember, fsync
    for name in ("replace", "rename", "link", "unlink", "mkdir", "rmdir"):
        setattr(os, name, counted(name))


class _Methods(ctypes.Structure):
    """``sqlite3_io_methods``."""


class _File(ctypes.Structure):
    _fields_ = (("methods", ctypes.POINTER(_Methods)),)


_FILE = ctypes.POINTER(_File)
_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, _FILE, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(ctypes.c_int, _FILE, ctypes.c_int64)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, _FILE, ctypes.c_int)
_OTHERS = ("size", "lock", "unlock", "reserved", "control", "sector", "device", "shm_map", "shm_lock", "shm_barrier",
           "shm_unmap", "fetch", "unfetch")  # fmt: skip
_Methods._fields_ = (
    ("version", ctypes.c_int),
    ("close", ctypes.c_void_p),
    ("read", ctypes.c_void_p),
    ("write", _WRITE),
    ("truncate", _TRUNCATE),
    ("sync", _SYNC),
    *((name, ctypes.c_void_p) for name in _OTHERS),
)


class _Vfs(ctypes.Structure):
    """The beginning of ``sqlite3_vfs``."""


_OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(_Vfs), ctypes.c_void_p, _FILE, ctypes.c_int, ctypes.POINTER(ctypes.c_int)
)
_DELETE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Vfs), ctypes.c_void_p, ctypes.c_int)
_Vfs._fields_ = (
    ("version", ctypes.c_int),
    ("file_size", ctypes.c_int),
    ("max_path", ctypes.c_int),
    ("next", ctypes.c_void_p),
    ("name", ctypes.c_char_p),
    ("data", ctypes.c_void_p),
    ("open", _OPEN),
    ("delete", _DELETE),
)
# What C calls must not be collected.
_kept: list[Any] = []


def sqlite_library() -> str | None:
    """The file of SQLite's own library; ``None`` where Python brings SQLite in itself."""
    sqlite3.connect(":memory:").close()
    maps = Path("/proc/self/maps")
    lines = maps.read_text(encoding="utf-8").splitlines() if maps.exists() else []
    return next((line.split()[-1] for line in lines if "/libsqlite3" in line), None)


def _count_sqlite(steps: Steps) -> None:
    library = ctypes.CDLL(sqlite_library())
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    vfs = library.sqlite3_vfs_find(None)
    open_file = _cast(_OPEN, vfs.contents.open)
    delete_file = _cast(_DELETE, vfs.contents.delete)
    names: dict[int, str] = {}
    tables: dict[int, _Methods] = {}

    def met(kind: str, file: Any, half: Callable[[], object] | None = None) -> bool:
        """Whether the step is to be done."""
        try:
            steps.meet(f"sqlite {kind}", names.get(ctypes.addressof(file.contents), ""), half)
        except OSError:
            return False
        return True

    def opened(self: Any, name: int | None, file: Any, flags: int, out: Any) -> int:
        # The name is passed on as it is: SQLite keeps more behind its end.
        result: int = open_file(self, name, file, flags, out)
        if result == 0 and file.contents.methods:
            names[ctypes.addressof(file.contents)] = os.fsdecode(ctypes.string_at(name)) if name else ""
            address = ctypes.addressof(file.contents.methods.contents)
            if address not in tables:
                tables[address] = _counted_methods(file.contents.methods.contents, met)
            file.contents.methods = ctypes.pointer(tables[address])
        return result

    def deleted(self: Any, name: int, sync: int) -> int:
        steps.meet("sqlite unlink", os.fsdecode(ctypes.string_at(name)))
        return int(delete_file(self, name, sync))

    _kept.extend([_OPEN(opened), _DELETE(deleted), names, tables])
    vfs.contents.open, vfs.contents.delete = _kept[-4], _kept[-3]


def _counted_methods(original: _Methods, met: Callable[..., bool]) -> _Methods:
    write, truncate = _cast(_WRITE, original.write), _cast(_TRUNCATE, original.truncate)
    copy = _Methods.from_buffer_copy(original)

    def written(file: Any, data: int, size: int, offset: int) -> int:
        if not met("write", file, lambda: write(file, data, size // 2, offset)):
            return SQLITE_FULL
        return int(write(file, data, size, offset))

    def truncated(file: Any, size: int) -> int:
        met("truncate", file)
        return int(truncate(file, size))

    def synced(file: Any, flags: int) -> int:
        met("fsync", file)
        return 0

    copy.write, copy.truncate, copy.sync = _WRITE(written), _TRUNCATE(truncated), _SYNC(synced)
    _kept.append(copy)
    return copy


def _cast(kind: Any, function: Any) -> Any:
    """The function that a field holds now, whatever is put there later."""
    return kind(ctypes.cast(function, ctypes.c_void_p).value)
