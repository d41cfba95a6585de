"""Files appear whole or not at all, and one writer at a time is let in."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from xsearch.errors import IndexLockedError, StoreError
from xsearch.store.files import LOCK_FILE, flush_folder, publish, publish_file, sha256_of, writer_lock

OLD, NEW = b"old content", b"new content, longer than the old"


def write_new(file: IO[bytes]) -> None:
    file.write(NEW[:10])
    file.write(memoryview(NEW)[10:])


def test_publish_writes_all_and_says_what(tmp_path: Path) -> None:
    path = tmp_path / "final.bin"
    written = publish(path, write_new)
    assert path.read_bytes() == NEW
    assert written.size == len(NEW)
    assert written.sha256 == hashlib.sha256(NEW).hexdigest() == sha256_of(path)
    assert [file.name for file in tmp_path.iterdir()] == ["final.bin"]


class Broken(OSError):
    """What the injected failure raises."""


def fail(*_args: Any, **_more: Any) -> Any:
    raise Broken(28, "No space left on device")


def fail_on_call(number: int) -> Any:
    calls = iter(range(1, 100))
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if next(calls) == number:
            fail()
        real(descriptor)

    return fsync


@pytest.mark.parametrize("there_before", [True, False])
@pytest.mark.parametrize("step", ["write", "fsync of the file", "replace", "fsync of the folder"])
def test_publish_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, there_before: bool
) -> None:
    """Pitfall 1: a failure at any step never leaves half a file under the final name."""
    path = tmp_path / "final.bin"
    if there_before:
        path.write_bytes(OLD)

    def write(file: IO[bytes]) -> None:
        file.write(NEW[:10])
        if step == "write":
            fail()
        file.write(NEW[10:])

    with monkeypatch.context() as patch:
        if step.startswith("fsync"):
            patch.setattr(os, "fsync", fail_on_call(1 if step.endswith("file") else 2))
        if step == "replace":
            patch.setattr(Path, "replace", fail)
        with pytest.raises(StoreError, match=r"final\.bin cannot be written: No space left on device"):
            publish(path, write)
    # What did not fit takes no room.
    assert path.with_name("final.bin.tmp").exists() == (step == "replace")
    if step == "fsync of the folder":
        assert path.read_bytes() == NEW
    elif there_before:
        assert path.read_bytes() == OLD
    else:
        assert not path.exists()
    assert publish(path, write_new).size == len(NEW)
    assert [file.name for file in tmp_path.iterdir()] == ["final.bin"]


def test_an_error_of_the_content_goes_on_as_it_is(tmp_path: Path) -> None:
    def write(_file: IO[bytes]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path / "final.bin", write)
    assert not (tmp_path / "final.bin").exists()


def test_publish_file_renames(tmp_path: Path) -> None:
    (tmp_path / "a.tmp").write_bytes(NEW)
    (tmp_path / "a").write_bytes(OLD)
    publish_file(tmp_path / "a.tmp", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == NEW
    assert not (tmp_path / "a.tmp").exists()


def test_publish_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        publish_file(tmp_path / "a.tmp", tmp_path / "a")


def test_flush_folder_closes_what_it_opens(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        flush_folder(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


HOLDER = """
import sys, time
from pathlib import Path
from xsearch.store.files import writer_lock
with writer_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of ``tmp_path`` until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_writer_is_told_who_holds_the_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    """Pitfall 7: the message says which process, on which host, since when."""
    with pytest.raises(IndexLockedError) as caught, writer_lock(tmp_path):
        pytest.fail("two writers")
    told = re.search(r"by process (\d+) on (\S+) since (\d{4}-\d\d-\d\dT[\d:]{8}\+00:00)", str(caught.value))
    assert told is not None
    assert told.group(1) == str(holder.pid)
    assert told.group(2) == socket.gethostname()


def test_the_lock_of_a_killed_writer_is_free(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    """Pitfall 7: no stale lock; what the dead process wrote into the file does not count."""
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == holder.pid
    with writer_lock(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert (tmp_path / LOCK_FILE).read_text() == ""


def test_two_writers_of_one_process(tmp_path: Path) -> None:
    with (
        writer_lock(tmp_path),
        pytest.raises(IndexLockedError, match=f"process {os.getpid()} on"),
        writer_lock(tmp_path),
    ):
        pytest.fail("two writers")
    with writer_lock(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00garbage", b"[1, 2]", b'{"pid": 1}', b"{" * 5000, b"7"])
def test_garbage_in_the_lock_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK_FILE).write_bytes(content)
    with writer_lock(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
        (tmp_path / LOCK_FILE).write_bytes(content)
        with pytest.raises(IndexLockedError, match="another process"), writer_lock(tmp_path):
            pytest.fail("two writers")


def test_a_lock_file_that_is_gone_when_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: Path, **_options: Any) -> str:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    with writer_lock(tmp_path):
        monkeypatch.setattr(Path, "read_text", gone)
        with pytest.raises(IndexLockedError, match="another process"), writer_lock(tmp_path):
            pytest.fail("two writers")


def test_an_error_frees_the_lock_and_clears_the_name(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writer_lock(tmp_path):
        raise KeyError
    assert (tmp_path / LOCK_FILE).read_text() == ""
    with writer_lock(tmp_path):
        pass


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """As for a file system mounted read-only: the lock cannot even be opened. (Permissions do not stop root.)"""
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(StoreError, match="cannot be written: Is a directory"), writer_lock(tmp_path):
        pytest.fail("no lock")


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(_descriptor: int, _operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(StoreError, match="No locks available"), writer_lock(tmp_path):
        pytest.fail("no lock")
