"""Every file of an index cut short and with a bit flipped, at many places each: the right answer, or an error of ours.

The damaged copies are opened, searched and verified in processes forked from one that has loaded everything (this
file), so that a crash is seen as one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeEncoder
from tests.model import ALL, FILTERS, QUERIES, WORDS, open_index
from tests.small_sizes import set_small_sizes
from tests.test_kills import prepare
from xsearch.errors import XsearchError
from xsearch.index import Index
from xsearch.maintain.verify import verify_index
from xsearch.store.catalog import CATALOG_FILE
from xsearch.store.files import LOCK_FILE

# They fork a process that may hold threads of OpenMP: a child hung once, and CI does not run them yet.
pytestmark = pytest.mark.exhaustive

HERE = Path(__file__).resolve().parents[1]
# A case that takes longer hangs.
CASE_S = 30
CASES_A_PROCESS = 50
RIGHT, WRONG = "right", "wrong"


@dataclass(frozen=True)
class Case:
    """A file cut to ``at`` bytes, or with a bit flipped in the byte at ``at``."""

    file: str
    at: int
    bit: int | None

    def do(self, index: Path) -> None:
        path = index / self.file
        if self.bit is None:
            os.truncate(path, self.at)
            return
        with path.open("r+b") as file:
            file.seek(self.at)
            (value,) = file.read(1)
            file.seek(self.at)
            file.write(bytes([value ^ 1 << self.bit]))


def shown(hits: Any) -> list[tuple[Any, ...]]:
    return [(hit.score, hit.passage_id, hit.text, hit.doc_id, hit.lang, repr(hit.metadata)) for hit in hits]


def questions() -> dict[str, Callable[[Index], Any]]:
    """All that is asked of a damaged index, by name."""
    asked: dict[str, Callable[[Index], Any]] = {}
    for number, (options, _) in enumerate(FILTERS):
        for k in (5, ALL):
            asked[f"dense {number} {k}"] = lambda index, k=k, options=options: [
                shown(index.search(query, k=k, **options)) for query in QUERIES
            ]
        asked[f"lexical {number}"] = lambda index, options=options: [
            shown(index.search(words, k=ALL, mode="lexical", **options)) for words in WORDS
        ]
    asked["get"] = lambda index: [index.get(f"doc-{number:05d}") for number in range(30)]
    asked["iterate"] = list
    asked["find"] = lambda index: index.find("number < 12")
    return asked


def answers(path: Path) -> dict[str, Any]:
    """What an index answers to each question; the name of the error where it refuses, and ``!`` before one not ours."""
    found: dict[str, Any] = {}
    try:
        index = open_index(path)
    except XsearchError as exc:
        return dict.fromkeys(questions(), type(exc).__name__) | {"verify": verified(path)}
    for name, ask in questions().items():
        try:
            found[name] = ask(index)
        except XsearchError as exc:
            found[name] = type(exc).__name__
        except BaseException as exc:  # noqa: BLE001  # it is told, and fails the test
            found[name] = f"!{exc!r}"
        # Each question is asked of files that were not read before.
        index.close()
    return found | {"verify": verified(path)}


def verified(path: Path) -> str:
    try:
        report = verify_index(path, encoder=FakeEncoder(), sample=8, seed=1)
    except XsearchError as exc:
        return type(exc).__name__
    except BaseException as exc:  # noqa: BLE001  # it is told, and fails the test
        return f"!{exc!r}"
    return "in order" if report.in_order else "damaged"


def cases(index: Path, file: str, count: int) -> Iterator[Case]:
    """So many places to cut a file at, and so many to flip a bit at: its head and tail, and places between."""
    rng = random.Random(file)
    size = (index / file).stat().st_size
    for at in places(rng, size, count):
        yield Case(file, at, None)
    for at in places(rng, size, count):
        yield Case(file, at, rng.randrange(8))


def places(rng: random.Random, size: int, count: int) -> list[int]:
    if size <= count:
        return list(range(size))
    edge = count // 8
    near = {*range(edge), *range(size - edge, size)}
    return sorted(near | set(rng.sample(range(edge, size - edge), count - len(near))))


FILES = (CATALOG_FILE, f"{CATALOG_FILE}-wal", "vectors/1", "vectors/2", "ann/1", LOCK_FILE)


@pytest.mark.parametrize("file", FILES)
def test_some_places(memory: Path, file: str) -> None:
    check(try_places(memory, file, 24 if file == CATALOG_FILE else 10))


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("file", FILES)
def test_many_places(memory: Path, file: str) -> None:
    results = try_places(memory, file, 150 if file == CATALOG_FILE else 100, processes=os.cpu_count() or 1)
    assert len(results) >= (120 if file == LOCK_FILE else 200)  # all of it
    check(results)


def check(results: list[dict[str, str]]) -> None:
    """What must be true wherever a file is damaged."""
    assert [result for result in results if any(answer.startswith("!") for answer in result.values())] == []
    unfiltered = ("dense 0 5", f"dense 0 {ALL}", "get", "iterate")
    assert [result for result in results if WRONG in {result.get(name) for name in unfiltered}] == []
    # SQLite has no checksums: a damaged full text may rank otherwise, and a document whose metadata or language is
    # damaged may not fit a filter any more. Whatever is shown is checked, and verify sees the rest.
    assert [result for result in results if WRONG in result.values() and result["verify"] == "in order"] == []
    # Nothing is read of a catalogue that was cut short.
    cut = [result for result in results if f"'{CATALOG_FILE}'" in result["case"] and "bit=None" in result["case"]]
    assert [result for result in cut if {RIGHT, "in order"} & {*result.values()}] == []
    refused = [result for result in results if {*result.values()} - {RIGHT, "in order", "damaged", result["case"]}]
    unseen = [result for result in refused if result["verify"] == "in order"]
    assert unseen == []


def try_places(folder: Path, file: str, count: int, *, processes: int = 1) -> list[dict[str, str]]:
    """Has other processes damage a file at so many places, in both ways, and ask the index."""
    started = []
    for share in range(processes):
        place = folder / str(share)
        place.mkdir()
        command = [sys.executable, "-m", "tests.test_damage", str(place), file, f"{count}", f"{share}", f"{processes}"]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE))
    outputs = [process.communicate(timeout=1200) for process in started]
    assert [process.returncode for process in started] == [0] * processes, [errors for _, errors in outputs]
    return [result for output, _ in outputs for result in json.loads(output)]


# What the other process does.


def main() -> None:
    folder, file = Path(sys.argv[1]), sys.argv[2]
    count, share, shares = map(int, sys.argv[3:])
    set_small_sizes()
    import faiss

    faiss.omp_set_num_threads(1)
    base = folder / "base"
    prepare(base)
    expected = [answers(base)]
    assert expected[0]["verify"] == "in order"
    if file.endswith("-wal"):
        # What a writer leaves that is killed after its commit; a damaged log ends before the damage.
        base = with_log(base)
        expected.append(answers(shutil.copytree(base, folder / "undamaged")))
    if file == LOCK_FILE:
        # What a killed writer leaves.
        (base / file).write_text('{"pid": 4711, "host": "here", "since": "2026-01-01T00:00:00+00:00"}')
    if "/" in file:
        kind, number = file.split("/")
        file = str(sorted((base / kind).iterdir())[int(number) - 1].relative_to(base))
    todo = list(cases(base, file, count))[share::shares]
    report = folder / "report"
    results: list[dict[str, Any]] = []
    while len(results) < len(todo):
        some = todo[len(results) : len(results) + CASES_A_PROCESS]
        report.write_text("")
        child = os.fork()
        if child == 0:
            for case in some:
                signal.alarm(CASE_S)
                place = folder / "case"
                shutil.copytree(base, place)
                case.do(place)
                found = {
                    name: answer if isinstance(answer, str) else
                    RIGHT if any(answer == state[name] for state in expected) else WRONG
                    for name, answer in answers(place).items()
                }  # fmt: skip
                shutil.rmtree(place)
                with report.open("a") as out:
                    out.write(json.dumps({"case": repr(case), **found}) + "\n")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        lines = report.read_text().splitlines()
        results += map(json.loads, lines)
        if len(lines) < len(some):
            results.append(
                {"case": repr(some[len(lines)]), "crash": f"!ended with {os.waitstatus_to_exitcode(status)}"}
            )
            shutil.rmtree(folder / "case", ignore_errors=True)
    print(json.dumps(results))  # noqa: T201


def with_log(base: Path) -> Path:
    """A copy of an index whose last commit, which deletes two documents, is in the database's log alone."""
    place = base.with_name("with-log")
    with closing(sqlite3.connect(base / CATALOG_FILE)) as reader:
        # As long as somebody has the database open, the log stays.
        reader.execute("SELECT count(*) FROM documents").fetchall()
        with open_index(base) as index:
            index.delete(["doc-00021", "doc-00022"])
        return shutil.copytree(base, place)


if __name__ == "__main__":
    main()
