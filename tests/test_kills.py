"""A writer killed, or out of disk space, at every step of every operation: the old state or the new one, and no third.

Each operation runs in children of a process that has loaded everything; that one is this file (see tests/shares.py).
It copies a prepared index, has a child do the operation and end at the step of a number, and checks what is left: it
opens, holds the old state or the new one, all of it is in order, searches give what they must, and the operation done
again completes and leaves no file behind.

Every run of the tests kills in both ways at every step, and looks once at each state that is left (tests/remains.py).
Those marked ``exhaustive`` look at what each kill left, and fill the disk at every step.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import FakeEncoder, numbered
from tests.faults import EXIT_CODE, TAKES_ROOM, Fault, Steps, install, sqlite_is_shared
from tests.model import check_approximate, check_in_order, check_state, check_swept, read_state
from tests.remains import keep_chance, key_of, stand_still
from tests.shares import EXHAUSTIVE_S, ORDINARY_S, begin, fork, leave, my_share, outcome, run_shares
from tests.small_sizes import set_small_sizes
from xsearch.errors import IndexDamagedError, StoreError
from xsearch.index import Index
from xsearch.maintain.migrate import migrate_index
from xsearch.records import Document
from xsearch.store import words

DOCUMENTS = numbered(24)
ADDED = numbered(4, start=100)
MANY = numbered(22, start=200)
CHANGED = [replace(item, text=f"new {item.text}") for item in DOCUMENTS[3:7]]
GONE = [item.doc_id for item in DOCUMENTS[8:12]]
FACTORY = "IVF4,PQ4x4fs"
REFUSED = 3
# A full disk is tried at so many steps where not at every one.
FULL = 12
# Of the states that were looked at already, one in so many is looked at again.
AGAIN = 30
KILLED = (EXIT_CODE, -signal.SIGKILL)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not sqlite_is_shared(), reason="SQLite's steps can be counted in a shared library alone"
)


def prepare(path: Path) -> None:
    """An index with a FAISS file, segments without one, deleted passages and a compaction to do."""
    with Index.create(path, encoder=FakeEncoder(), passage_tokens=20) as index:
        index.set_search(recall=0.99, factory=FACTORY)
        index.add(DOCUMENTS)
        index.add(replace(item, text=f"other {item.text}") for item in DOCUMENTS[:3])
        index.delete(["doc-00020"])
        assert index.info().segments == 2
        assert [file.factory for file in index.info().ann] == [FACTORY]


def held() -> list[Document]:
    """The documents of the prepared index."""
    changed = [replace(item, text=f"other {item.text}") for item in DOCUMENTS[:3]]
    return [*changed, *(item for item in DOCUMENTS[3:] if item.doc_id != "doc-00020")]


def add(path: Path) -> None:
    with Index.open(path, encoder=FakeEncoder()) as index:
        index.add(ADDED)


def merge(path: Path) -> None:
    """Adds so much that segments are merged and a FAISS file is built at the end of the run."""
    with Index.open(path, encoder=FakeEncoder()) as index:
        index.add(MANY)


def update(path: Path) -> None:
    with Index.open(path, encoder=FakeEncoder()) as index:
        index.add(CHANGED)


def delete(path: Path) -> None:
    with Index.open(path, encoder=FakeEncoder()) as index:
        index.delete(GONE)


def compact(path: Path) -> None:
    with Index.open(path, encoder=FakeEncoder()) as index:
        index.compact()


def migrate(path: Path) -> None:
    migrate_index(path, FakeEncoder("other"))


# What each operation makes of the documents.
OPERATIONS: dict[str, tuple[Callable[[Path], None], list[Document]]] = {
    "add": (add, [*held(), *ADDED]),
    "merge": (merge, [*held(), *MANY]),
    "update": (update, [*held()[:3], *CHANGED, *held()[7:]]),
    "delete": (delete, [item for item in held() if item.doc_id not in GONE]),
    "compact": (compact, held()),
    "migrate": (migrate, held()),
}


@pytest.mark.timeout(ORDINARY_S + 60)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_step(memory: Path, operation: str) -> None:
    """Killed in both ways at each; the disk full at some."""
    try_steps(memory, operation, limit_s=ORDINARY_S)


@pytest.mark.exhaustive
@pytest.mark.timeout(EXHAUSTIVE_S + 60)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_step_thoroughly(memory: Path, operation: str) -> None:
    """What every kill left is looked at, the same or not; the disk full at every step that takes room."""
    try_steps(memory, operation, thorough=True, limit_s=EXHAUSTIVE_S)


def try_steps(folder: Path, operation: str, *, thorough: bool = False, limit_s: float) -> None:
    """Has other processes try the steps of an operation; nothing may go wrong."""
    reports = run_shares("tests.test_kills", folder, operation, int(thorough), limit_s=limit_s)
    assert [failure for report in reports for failure in report["failures"]] == []
    steps: list[str] = reports[0]["steps"]
    assert all(report["steps"] == steps for report in reports)
    kinds = {step.split(" ", 2)[0] if not step.startswith("sqlite") else step.rsplit(" ", 1)[0] for step in steps}
    assert kinds >= {"write", "truncate", "sqlite write", "sqlite fsync"}, kinds
    writes = [number for number, step in enumerate(steps, 1) if step.startswith(TAKES_ROOM)]
    done = [tuple(one) for report in reports for one in report["done"]]
    killed = {(number, fault) for number, fault, code in done if code in KILLED}
    for number, step in enumerate(steps, 1):
        assert (number, Fault.EXIT) in killed, f"{number}, {step}"
        assert (number, Fault.HALF if "write" in step else Fault.KILL) in killed, f"{number}, {step}"
    full = [code for _, fault, code in done if fault == Fault.FULL]
    assert len(full) == (len(writes) if thorough else FULL)
    # SQLite does without some of what it writes.
    assert full.count(REFUSED) >= len(full) // 3, full


# What the other processes do.


class Trial:
    """An operation, and the states before and after it."""

    def __init__(self, folder: Path, operation: str) -> None:
        self.folder = folder
        self.run, documents = OPERATIONS[operation]
        self.base = folder / "base"
        prepare(self.base)
        self.old = read_state(self.base)
        check_state(self.old, held())
        # Keys of what is left that was looked at.
        self.known: set[str] = set()
        keep_chance()
        place = self.copied("undisturbed")
        listed = folder / "steps.json"
        code = self.forked(place, Steps(place), listed)
        assert code == 0, outcome(code)
        self.steps: list[str] = json.loads(listed.read_text())
        self.new = read_state(place)
        check_state(self.new, documents)
        check_in_order(place)
        check_swept(place)

    def copied(self, name: str) -> Path:
        place = self.folder / name
        shutil.copytree(self.base, place)
        return place

    def forked(self, place: Path, steps: Steps, listed: Path | None = None) -> int:
        """Does the operation in a child; returns how it ended, which names its steps in a file if it is asked to."""
        return fork(lambda: self._done(place, steps, listed))

    def _done(self, place: Path, steps: Steps, listed: Path | None) -> int:
        stand_still()
        install(steps)
        try:
            self.run(place)
        except IndexDamagedError:
            raise
        except StoreError:
            # No room yet; but a reader needs none.
            return REFUSED if read_state(place) in (self.old, self.new) else 1
        steps.at = 0
        if listed is not None:
            listed.write_text(json.dumps(steps.seen))
        return 0

    def is_new(self, place: Path) -> bool:
        """Whether what is left there was not looked at yet."""
        key = key_of(place, self.folder / "read")
        known = key in self.known
        self.known.add(key)
        return not known

    def check(self, place: Path, *, thorough: bool) -> None:
        """What must be true after the operation was cut short, and when it was done again."""
        found = read_state(place)
        assert found in (self.old, self.new), (sorted(found.documents), found.encoder)
        check_approximate(place, found)
        check_in_order(place)
        self.run(place)
        assert read_state(place) == self.new
        check_swept(place)
        if thorough:
            check_in_order(place)


def main() -> None:
    folder, operation, thorough = Path(sys.argv[1]), sys.argv[4], bool(int(sys.argv[5]))
    begin(folder, f"{operation}, undisturbed")
    set_small_sizes()
    # Looking up fewer words takes half of the time that verifying takes.
    words.LOOKED_UP = 8
    trial = Trial(folder, operation)
    failures: list[str] = []
    done: list[tuple[int, Fault, int]] = []
    looked = 0
    for place, (number, fault) in enumerate(my_share(sys.argv, list(chosen(trial.steps, thorough=thorough)))):
        name = f"{operation}, {fault} at {number}, {trial.steps[number - 1]}"
        begin(folder, name)
        case = trial.copied("case")
        code = trial.forked(case, Steps(case, at=number, fault=fault))
        done.append((number, fault, code))
        try:
            assert code in ((REFUSED, 0) if fault is Fault.FULL else KILLED), outcome(code)
            if trial.is_new(case) or thorough or place % AGAIN == 0:
                looked += 1
                trial.check(case, thorough=looked % 4 == 0)
        except Exception:  # noqa: BLE001  # all that goes wrong is told
            failures.append(f"{name}: {traceback.format_exc()}")
        shutil.rmtree(case)
    leave(folder, {"steps": trial.steps, "done": done, "looked": looked, "failures": failures[:5]})


def chosen(steps: list[str], *, thorough: bool) -> Iterator[tuple[int, Fault]]:
    """Numbers of steps and what happens there, in the order of the steps."""
    writes = [number for number, step in enumerate(steps, 1) if step.startswith(TAKES_ROOM)]
    full = set(writes if thorough else spread(steps, writes, FULL))
    for number, step in enumerate(steps, 1):
        yield number, Fault.EXIT
        if "write" in step:
            yield number, Fault.HALF
        if "write" not in step or thorough:
            yield number, Fault.KILL
        if number in full:
            yield number, Fault.FULL


def spread(steps: list[str], numbers: list[int], most: int) -> list[int]:
    """Some of the steps, the first of each kind on each file rather than the others."""
    kinds = {steps[number - 1]: number for number in reversed(numbers)}
    first = sorted(kinds.values())
    if len(first) >= most:
        return [first[place * len(first) // most] for place in range(most)]
    others = [number for number in numbers if number not in first]
    missing = most - len(first)
    return sorted([*first, *(others[place * len(others) // missing] for place in range(missing))])


if __name__ == "__main__":
    main()
