"""The disk itself: a folder that nobody may write to, and space that does not grow with what was deleted."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import faiss
import pytest

from tests.fakes import FakeEncoder, numbered
from tests.faults import TAKES_ROOM, Fault, Steps, install, sqlite_is_shared
from tests.model import check_in_order, check_state, check_swept, open_index, read_state
from tests.shares import HERE, ONE_THREAD, fork, outcome
from tests.small_sizes import set_small_sizes
from tests.test_kills import OPERATIONS, REFUSED, held, prepare
from xsearch.errors import IndexDamagedError, StoreError
from xsearch.index import Index
from xsearch.store.catalog import CATALOG_FILE
from xsearch.store.folder import folder_size

TASK_S = 240
NOBODY = 65_534


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    set_small_sizes(monkeypatch)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """FAISS with one thread: several wait for each other, far longer than they work, where others need the cores."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="changes its user")
class TestReadOnlyFolder:
    """As somebody who may read only; the processes that do it run this file."""

    @pytest.fixture
    def path(self, memory: Path) -> Path:
        memory.chmod(0o755)
        path = memory / "a read-only#folder" / "index"
        path.parent.mkdir()
        prepare(path)
        for place in (path, *path.rglob("*")):
            place.chmod(0o555 if place.is_dir() else 0o444)
        return path

    def test_readers_find_all(self, path: Path) -> None:
        run("read", path)

    def test_writers_are_told(self, path: Path) -> None:
        before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
        run("write", path)
        assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before

    def test_a_reader_sees_what_a_writer_who_may_write_there_is_doing(self, path: Path) -> None:
        """Its commit stands in the database's log alone as long as the writer has it open."""
        if os.geteuid() != 0:
            pytest.skip("only root can write where others may not")
        with closing(sqlite3.connect(path / CATALOG_FILE)) as connection:
            connection.execute("SELECT count(*) FROM documents").fetchall()
            with Index.open(path, encoder=FakeEncoder()) as index:
                index.add(numbered(2, start=900))
                index.delete(["doc-00021"])
            assert (path / f"{CATALOG_FILE}-wal").stat().st_size > 0
            run("count", path, len(held()) + 1)


@pytest.mark.skipif(sys.platform != "linux" or not sqlite_is_shared(), reason="see tests/test_kills.py")
def test_a_full_disk_while_an_index_is_made(memory: Path) -> None:
    """At whichever step it was full: no half index, and the next attempt succeeds."""
    run("create", memory)


def run(*task: object) -> None:
    """Has another process do something, which must end."""
    command = [sys.executable, "-m", "tests.test_disk", *map(str, task)]
    done = subprocess.run(command, cwd=HERE, env=ONE_THREAD, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{task[0]}: {outcome(done.returncode, alarm_s=TASK_S)}\n{done.stderr}"


@pytest.mark.usefixtures("one_thread")
def test_twenty_rounds_of_changes_take_no_more_room(memory: Path) -> None:
    """Update, delete, add again, compact: what the last round leaves is as large as what the third left."""
    path = memory / "index"
    sizes: list[int] = []
    with Index.create(path, encoder=FakeEncoder(), passage_tokens=20) as index:
        index.set_search(recall=0.9, factory="IVF4,PQ4x4fs")
        documents = numbered(40)
        index.add(documents)
        for number in range(20):
            index.add(type(item)(item.doc_id, f"round{number:02d} {item.text}", item.title, item.lang)
                      for item in documents[::2])  # fmt: skip
            index.delete(item.doc_id for item in documents[::3])
            index.add(documents)
            index.compact()
            sizes.append(folder_size(path))
            check_swept(path)
            assert (len(index), index.info().segments, len(index.info().ann)) == (40, 1, 1)
        assert {item.doc_id: item for item in index} == {item.doc_id: item for item in documents}
    assert sizes[-1] <= 1.1 * sizes[2], sizes
    assert max(sizes[2:]) <= 1.2 * sizes[2], sizes


@pytest.mark.usefixtures("one_thread")
def test_rounds_without_compacting_take_bounded_room(memory: Path) -> None:
    """Vectors of what was replaced go with merges; words of it only with a compaction."""
    path = memory / "index"
    sizes: list[int] = []
    with Index.create(path, encoder=FakeEncoder(), passage_tokens=20) as index:
        index.set_search(recall=0.9, factory="IVF4,PQ4x4fs")
        documents = numbered(40)
        index.add(documents)
        for number in range(20):
            index.add(type(item)(item.doc_id, f"round{number:02d} {item.text}", item.title, item.lang)
                      for item in documents)  # fmt: skip
            sizes.append(folder_size(path / "vectors"))
    assert max(sizes[5:]) <= 3 * sizes[0], sizes


# What the other processes do.


def read(path: Path) -> None:
    state = read_state(path)
    check_state(state, held())
    check_in_order(path)
    assert read_state(path) == state


def count(path: Path, expected: str) -> None:
    with open_index(path) as index:
        assert len(index) == int(expected)
        assert index.get("doc-00021") is None
        (added,) = numbered(1, start=901)
        assert index.get("doc-00901") == added
        assert added.doc_id in {hit.doc_id for hit in index.search(added.text, k=3)}


def write(path: Path) -> None:
    """Tries all that writes."""
    for do, _ in OPERATIONS.values():
        with pytest.raises(StoreError, match=r"LOCK cannot be written: Permission denied\. Its folder must be"):
            do(path)
    with pytest.raises(StoreError, match=r"cannot be written: Permission denied"):
        Index.create(path / "another", encoder=FakeEncoder())


def create(folder: Path) -> None:
    """Makes indexes while there is room for 0, 1, 2 ... steps, until one is made."""
    steps, code = 0, REFUSED
    while code == REFUSED:
        path = folder / str(steps)
        steps += 1
        code = fork(lambda path=path, steps=steps: create_with_room_for(path, steps))
        if code == REFUSED:
            assert not (path / CATALOG_FILE).exists()
            with Index.create(path, encoder=FakeEncoder()) as index:
                assert len(index) == 0
            check_in_order(path)
    assert code == 0, f"full from step {steps} on: {outcome(code)}"
    assert steps > 20


def create_with_room_for(path: Path, steps: int) -> int:
    """Makes an index on a disk that is full from a step on; returns an exit code."""
    install(Steps(path, at=steps, fault=Fault.FULL, kinds=TAKES_ROOM))
    try:
        Index.create(path, encoder=FakeEncoder())
    except IndexDamagedError:
        raise
    except StoreError:
        return REFUSED
    return 0


def main() -> None:
    task, path, *rest = sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]
    signal.alarm(TASK_S)
    set_small_sizes()
    if task != "create" and os.geteuid() == 0:
        os.setgroups([])
        os.setuid(NOBODY)
    {"read": read, "count": count, "write": write, "create": create}[task](path, *rest)  # type: ignore[operator]


if __name__ == "__main__":
    main()
