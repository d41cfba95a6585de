"""Every file of an index cut short and with a bit flipped, at many places each: the right answer, or an error of ours.

The damaged copies are opened, searched and verified in children of a process that has loaded everything (this file, see
tests/shares.py), so that a crash is seen as one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeEncoder
from tests.model import ALL, FILTERS, QUERIES, WORDS, open_index, search
from tests.shares import EXHAUSTIVE_S, NOW, ORDINARY_S, begin, fork, leave, my_share, outcome, run_shares
from tests.small_sizes import set_small_sizes
from tests.test_kills import prepare
from xsearch.errors import XsearchError
from xsearch.index import Index
from xsearch.maintain.verify import verify_index
from xsearch.store import words
from xsearch.store.catalog import CATALOG_FILE
from xsearch.store.files import LOCK_FILE

# A case that takes longer hangs.
CASE_S = 60
CASES_A_PROCESS = 25
RIGHT, WRONG = "right", "wrong"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")


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


def questions(file: str) -> dict[str, Callable[[Index], Any]]:
    """All that is asked of an index with a damaged file, by name: what reads the file, and a little of the rest."""
    if file == LOCK_FILE:
        return {"get": get_some, "write": lambda index: (index.delete(["doc-00021"]), len(index), get_some(index))}
    asked: dict[str, Callable[[Index], Any]] = {}
    for number, (options, _) in enumerate(FILTERS):
        for k in (5, ALL):
            asked[f"dense {number} {k}"] = lambda index, k=k, options=options: [
                shown(hits) for hits in search(index, QUERIES, k=k, mode="dense", **options)
            ]
        if number == 0 or CATALOG_FILE in file:
            asked[f"lexical {number}"] = lambda index, options=options: [
                shown(hits) for hits in search(index, WORDS, k=ALL, mode="lexical", **options)
            ]
    asked["get"] = get_some
    asked["iterate"] = list
    asked["find"] = lambda index: index.find("number < 12")
    return asked


def get_some(index: Index) -> list[Any]:
    """Documents that are there, were changed, and are not there."""
    return [index.get(f"doc-{number:05d}") for number in (0, 1, 5, 11, 19, 20, 23, 29)]


def answers(path: Path, file: str) -> dict[str, Any]:
    """What an index answers to each question; the name of the error where it refuses, and ``!`` before one not ours."""
    asked = questions(file)
    found: dict[str, Any] = {}
    try:
        index = Index.open(path, encoder=FakeEncoder())
    except XsearchError as exc:
        return dict.fromkeys(asked, type(exc).__name__) | {"verify": verified(path)}
    for name, ask in asked.items():
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
    """So many places to cut a file at, and so many bits to flip: in its head and tail, and between.

    All places of a smaller one, and several bits of a byte.
    """
    rng = random.Random(file)
    size = (index / file).stat().st_size
    for at in places(rng, size, count):
        yield Case(file, at, None)
    bits = (
        places(rng, 8 * size, count) if size < count else [8 * at + rng.randrange(8) for at in places(rng, size, count)]
    )
    for one in bits:
        yield Case(file, one // 8, one % 8)


def places(rng: random.Random, size: int, count: int) -> list[int]:
    if size <= count:
        return list(range(size))
    edge = count // 8
    near = {*range(edge), *range(size - edge, size)}
    return sorted(near | set(rng.sample(range(edge, size - edge), count - len(near))))


FILES = (CATALOG_FILE, f"{CATALOG_FILE}-wal", "vectors/1", "vectors/2", "ann/1", LOCK_FILE)


@pytest.mark.timeout(ORDINARY_S + 60)
@pytest.mark.parametrize("file", FILES)
def test_many_places(memory: Path, file: str) -> None:
    """150 of the catalogue, where most is; 100 of each other."""
    check(try_places(memory, file, 150 if file == CATALOG_FILE else 100, limit_s=ORDINARY_S), 100)


@pytest.mark.exhaustive
@pytest.mark.timeout(EXHAUSTIVE_S + 60)
@pytest.mark.parametrize("file", FILES)
def test_very_many_places(memory: Path, file: str) -> None:
    check(try_places(memory, file, 1_500, limit_s=EXHAUSTIVE_S), 300)


def check(results: list[dict[str, str]], least: int) -> None:
    """What must be true wherever a file is damaged; each in so many ways, but for the lock, which has fewer bytes."""
    ways = {result["case"] for result in results}
    cut_short = {way for way in ways if "bit=None" in way}
    assert len(ways) == len(results)
    assert len(cut_short) >= (60 if f"'{LOCK_FILE}'" in results[0]["case"] else least)
    assert len(ways - cut_short) >= least
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


def try_places(folder: Path, file: str, count: int, *, limit_s: float) -> list[dict[str, str]]:
    """Has other processes damage a file at so many places, in both ways, and ask the index."""
    return [one for report in run_shares("tests.test_damage", folder, file, count, limit_s=limit_s) for one in report]


# What the other processes do.


def main() -> None:
    folder, file, count = Path(sys.argv[1]), sys.argv[4], int(sys.argv[5])
    begin(folder, f"{file}, undamaged")
    set_small_sizes()
    if CATALOG_FILE not in file:
        words.LOOKED_UP = 8
    base = folder / "base"
    prepare(base)
    # What is asked may write.
    expected = [answers(shutil.copytree(base, folder / "undamaged"), file)]
    assert expected[0]["verify"] == "in order"
    if file.endswith("-wal"):
        # What a writer leaves that is killed after its commit; a damaged log ends before the damage.
        base = with_log(base)
        expected.append(answers(shutil.copytree(base, folder / "undamaged with log"), file))
        assert expected[1] != expected[0]
    if file == LOCK_FILE:
        # What a killed writer leaves.
        (base / file).write_text('{"pid": 4711, "host": "here", "since": "2026-01-01T00:00:00+00:00"}')
    if "/" in file:
        kind, number = file.split("/")
        file = str(sorted((base / kind).iterdir())[int(number) - 1].relative_to(base))
    todo = my_share(sys.argv, list(cases(base, file, count)))
    lines = folder / "lines"
    results: list[dict[str, Any]] = []
    while len(results) < len(todo):
        some = todo[len(results) : len(results) + CASES_A_PROCESS]
        begin(folder, f"{some[0]}", limit_s=CASES_A_PROCESS * CASE_S)
        lines.write_text("")
        code = fork(lambda some=some: try_cases(folder, base, some, expected))
        found = [json.loads(line) for line in lines.read_text().splitlines()]
        results += found
        if len(found) < len(some):
            results.append({"case": repr(some[len(found)]), "crash": f"!{outcome(code, alarm_s=CASE_S)}"})
            shutil.rmtree(folder / "case", ignore_errors=True)
    leave(folder, results)


def try_cases(folder: Path, base: Path, some: list[Case], expected: list[dict[str, Any]]) -> int:
    """Damages, asks, and writes a line with what was found for each case; returns 0."""
    for case in some:
        signal.alarm(CASE_S)
        (folder / NOW).write_text(f"{case}")
        place = folder / "case"
        shutil.copytree(base, place)
        case.do(place)
        found = {
            name: answer if isinstance(answer, str) else
            RIGHT if any(answer == state[name] for state in expected) else WRONG
            for name, answer in answers(place, case.file).items()
        }  # fmt: skip
        shutil.rmtree(place)
        with (folder / "lines").open("a") as out:
            out.write(json.dumps({"case": repr(case), **found}) + "\n")
    return 0


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
