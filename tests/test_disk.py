"""The disk itself: a folder that nobody may write to, and space that does not grow with what was deleted."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import FakeEncoder, numbered
from tests.faults import TAKES_ROOM, Fault, Steps, install, sqlite_is_shared
from tests.model import check_in_order, check_state, check_swept, open_index, read_state
from tests.small_sizes import set_small_sizes
from tests.test_kills import OPERATIONS, REFUSED, held, prepare
from xsearch.errors import IndexDamagedError, StoreError
from xsearch.index import Index
from xsearch.store.catalog import CATALOG_FILE
from xsearch.store.folder import folder_size

# They fork a process that may hold threads of OpenMP: a child hung once, and CI does not run them yet.
pytestmark = pytest.mark.exhaustive

NOBODY = 65_534


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    set_small_sizes(monkeypatch)


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and changes its user")
class TestReadOnlyFolder:
    @pytest.fixture
    def path(self, memory: Path) -> Path:
        """An index in a folder in which nobody may write; what may be done about it is undone at the end."""
        memory.chmod(0o755)
        path = memory / "a read-only#folder" / "index"
        path.parent.mkdir()
        prepare(path)
        for place in (path, *path.rglob("*")):
            place.chmod(0o555 if place.is_dir() else 0o444)
        return path

    def test_readers_find_all(self, path: Path) -> None:
        def read() -> None:
            check_state(read_state(path), held())
            check_in_order(path)
            with open_index(path) as index:
                first = index.search("word7", k=3)
                assert index.search("word7", k=3) == first

        as_nobody(read)

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_writers_are_told(self, path: Path, operation: str) -> None:
        before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}

        def write() -> None:
            with pytest.raises(StoreError, match=r"LOCK cannot be written: Permission denied\. Its folder must be"):
                OPERATIONS[operation][0](path)

        as_nobody(write)
        assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before

    def test_no_index_is_made(self, path: Path) -> None:
        def create() -> None:
            with pytest.raises(StoreError, match=r"cannot be written: Permission denied"):
                Index.create(path / "another", encoder=FakeEncoder())

        as_nobody(create)

    def test_a_reader_sees_what_a_writer_who_may_write_there_is_doing(self, path: Path) -> None:
        """Its commit stands in the database's log alone as long as the writer has it open."""
        if os.geteuid() != 0:
            pytest.skip("only root can write where others may not")
        with Index.open(path, encoder=FakeEncoder()) as index, index.run() as run:
            run.add(numbered(2, start=500))
            assert sorted(file.name for file in path.iterdir() if file.is_file())[0] == "LOCK"

            def read() -> None:
                with open_index(path) as reader:
                    assert len(reader) == len(held()) + 2

            as_nobody(read)


@pytest.mark.skipif(sys.platform != "linux" or not sqlite_is_shared(), reason="see tests/test_kills.py")
def test_a_full_disk_while_an_index_is_made(memory: Path) -> None:
    """At whichever step it was full: no half index, and the next attempt succeeds."""
    refused = number = 0
    while number == refused:
        number += 1
        path = memory / str(number)
        refused += create_with_room_for(path, number) == REFUSED
        if number == refused:
            assert not (path / CATALOG_FILE).exists()
            with Index.create(path, encoder=FakeEncoder()) as index:
                assert index.verify() == 0
    assert refused >= 20


def create_with_room_for(path: Path, steps: int) -> int:
    """Makes an index in a process that finds the disk full from a step on; returns its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            writes = Steps(path, fault=Fault.FULL, kinds=TAKES_ROOM, at=steps)
            install(writes)
            Index.create(path, encoder=FakeEncoder())
            code = 0
        except IndexDamagedError:
            traceback.print_exc()
        except StoreError:
            code = REFUSED
        except BaseException:  # noqa: BLE001  # the process must end here, whatever it was
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, REFUSED)
    return code


def as_nobody(do: Callable[[], None]) -> None:
    """Does something in a process of its own, which root's permissions are taken from."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setuid(NOBODY)
            do()
            code = 0
        except BaseException:  # noqa: BLE001  # the process must end here, whatever it was
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


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
