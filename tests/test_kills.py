"""A writer killed, or out of disk space, at every step of every operation: the old state or the new one, and no third.

Each operation runs in processes forked from one that has loaded everything; that one is this file, and prints what it
found. It copies a prepared index, forks a process that does the operation and ends at the step of a number, and checks
what is left: it opens, holds the old state or the new one, all of it is in order, searches give what they must, and the
operation done again completes and leaves no file behind.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import FakeEncoder, numbered
from tests.faults import EXIT_CODE, TAKES_ROOM, Fault, Steps, install, sqlite_is_shared
from tests.model import check_approximate, check_in_order, check_state, check_swept, open_index, read_state
from tests.small_sizes import set_small_sizes
from xsearch.errors import IndexDamagedError, StoreError
from xsearch.index import Index
from xsearch.maintain.migrate import migrate_index
from xsearch.records import Document
from xsearch.store import words

HERE = Path(__file__).resolve().parents[1]
DOCUMENTS = numbered(24)
ADDED = numbered(4, start=100)
MANY = numbered(22, start=200)
CHANGED = [replace(item, text=f"new {item.text}") for item in DOCUMENTS[3:7]]
GONE = [item.doc_id for item in DOCUMENTS[8:12]]
FACTORY = "IVF4,PQ4x4fs"
REFUSED = 3
EVERY = 100_000

# They fork a process that may hold threads of OpenMP: a child hung once, and CI does not run them yet.
pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(
        sys.platform != "linux" or not sqlite_is_shared(),
        reason="SQLite's steps can be counted in a shared library alone",
    ),
]


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
    with open_index(path) as index:
        index.add(ADDED)


def merge(path: Path) -> None:
    """Adds so much that segments are merged and a FAISS file is built at the end of the run."""
    with open_index(path) as index:
        index.add(MANY)


def update(path: Path) -> None:
    with open_index(path) as index:
        index.add(CHANGED)


def delete(path: Path) -> None:
    with open_index(path) as index:
        index.delete(GONE)


def compact(path: Path) -> None:
    with open_index(path) as index:
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


@pytest.mark.parametrize("operation", OPERATIONS)
def test_some_steps(memory: Path, operation: str) -> None:
    kills, refusals = try_steps(memory, operation, kills=8, full=4)
    assert kills == 8
    assert refusals >= 2


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_step(memory: Path, operation: str) -> None:
    """But for four fifths of those that are like the one before and the one after."""
    kills, refusals = try_steps(memory, operation, kills=EVERY, full=EVERY, processes=os.cpu_count() or 1)
    assert kills >= 40
    assert refusals >= 15


def try_steps(folder: Path, operation: str, *, kills: int, full: int, processes: int = 1) -> tuple[int, int]:
    """Has other processes try so many steps of an operation, spread over all; nothing may go wrong.

    Returns:
        How many writers were killed, and how many were refused for want of room.
    """
    started = []
    for share in range(processes):
        place = folder / str(share)
        place.mkdir()
        arguments = [str(place), operation, f"{kills}", f"{full}", f"{share}", f"{processes}"]
        command = [sys.executable, "-m", "tests.test_kills", *arguments]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE))
    outputs = [process.communicate(timeout=1200) for process in started]
    assert [process.returncode for process in started] == [0] * processes, [errors for _, errors in outputs]
    reports = [json.loads(output) for output, _ in outputs]
    assert [failure for report in reports for failure in report["failures"]] == []
    return sum(report["killed"] for report in reports), sum(report["refused"] for report in reports)


# What the other process does.


class Trial:
    """An operation, and the states before and after it."""

    def __init__(self, folder: Path, operation: str) -> None:
        self.folder = folder
        self.run, documents = OPERATIONS[operation]
        self.base = folder / "base"
        prepare(self.base)
        self.old = read_state(self.base)
        check_state(self.old, held())
        place = self.copied("undisturbed")
        report = folder / "steps.json"
        assert self.forked(place, Steps(place), report) == 0
        self.steps: list[str] = json.loads(report.read_text())
        self.new = read_state(place)
        check_state(self.new, documents)
        check_in_order(place)
        check_swept(place)

    def copied(self, name: str) -> Path:
        place = self.folder / name
        shutil.copytree(self.base, place)
        return place

    def forked(self, place: Path, steps: Steps, report: Path | None = None) -> int:
        """Does the operation in a process of its own; returns its exit code, or the signal that ended it, negative."""
        child = os.fork()
        if child == 0:
            os._exit(self._done(place, steps, report))
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    def _done(self, place: Path, steps: Steps, report: Path | None) -> int:
        install(steps)
        try:
            self.run(place)
        except IndexDamagedError:
            traceback.print_exc()
            return 1
        except StoreError:
            # No room yet; but a reader needs none.
            return REFUSED if read_state(place) in (self.old, self.new) else 1
        except BaseException:  # noqa: BLE001  # the process must end here, whatever it was
            traceback.print_exc()
            return 1
        steps.at = 0
        if report is not None:
            report.write_text(json.dumps(steps.seen))
        return 0

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
    folder, operation = Path(sys.argv[1]), sys.argv[2]
    kills, full, share, shares = map(int, sys.argv[3:])
    set_small_sizes()
    # Looking up fewer words takes half of the time that verifying takes.
    words.LOOKED_UP = 8
    import faiss

    # A forked process has one thread.
    faiss.omp_set_num_threads(1)
    trial = Trial(folder, operation)
    failures: list[str] = []
    killed = refused = 0
    wanted = [*chosen_kills(trial.steps, kills), *chosen_writes(trial.steps, full)]
    if max(kills, full) == EVERY:
        wanted = [one for one in wanted if not is_between(trial.steps, one[0])]
    for place, (number, fault) in enumerate(wanted[share::shares]):
        case = trial.copied("case")
        code = trial.forked(case, Steps(case, at=number, fault=fault))
        killed += code in (EXIT_CODE, -signal.SIGKILL)
        refused += code == REFUSED
        try:
            assert code in ((REFUSED, 0) if fault is Fault.FULL else (EXIT_CODE, -signal.SIGKILL)), code
            trial.check(case, thorough=place % 4 == 0)
        except Exception:  # noqa: BLE001  # all that goes wrong is told
            failures.append(f"{fault} at {number}, {trial.steps[number - 1]}: {traceback.format_exc()}")
        shutil.rmtree(case)
    report = {"steps": trial.steps, "killed": killed, "refused": refused, "failures": failures[:5]}
    print(json.dumps(report))  # noqa: T201


def chosen_kills(steps: list[str], most: int) -> Iterator[tuple[int, Fault]]:
    """Numbers of steps and how the process ends there."""
    for place, number in enumerate(spread(steps, list(range(1, len(steps) + 1)), most)):
        if "write" in steps[number - 1] and place % 3:
            yield number, Fault.HALF
        else:
            yield number, Fault.EXIT if place % 2 else Fault.KILL


def chosen_writes(steps: list[str], most: int) -> Iterator[tuple[int, Fault]]:
    """Numbers of steps that take room, from which on there is none."""
    writes = [number for number, step in enumerate(steps, 1) if step.startswith(TAKES_ROOM)]
    return ((number, Fault.FULL) for number in spread(steps, writes, most))


def is_between(steps: list[str], number: int) -> bool:
    """Whether a step is one of many alike that SQLite takes one after the other: not the first, not the last, and not
    one of a fifth of the others. Each frame of its log is a step, and so is each page that it copies from there."""
    around = steps[max(number - 2, 0) : number + 1]
    return number % 5 > 0 and len(around) == 3 and len(set(around)) == 1


def spread(steps: list[str], numbers: list[int], most: int) -> list[int]:
    """Some of the steps, the first of each kind on each file rather than the others."""
    if len(numbers) <= most:
        return numbers
    kinds = {steps[number - 1]: number for number in reversed(numbers)}
    weighted = sorted([*kinds.values(), *numbers[:: len(numbers) // max(most, 1)]])
    return [weighted[place * len(weighted) // most] for place in range(most)]


if __name__ == "__main__":
    main()
