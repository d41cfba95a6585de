"""The stages of ``store.py``: an engine's settings are chosen, it is built, tuned, and timed beside the others.

What a stage finds is kept in ``WORK/rows-N/ENGINE.json`` under its name; a stage that is there is not run again.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from store_engine import Filter
from store_process import EngineFailedError, EngineProcess, Setup
from store_vectors import FILTERS

TARGET = 0.95
TUNING, MEASURED = 0, 1
# A cheaper build is taken unless its searches are this much slower than those of the fastest on the sample.
FAST_ENOUGH = 0.7
TRIAL_S = 2.0
ROUNDS = 5
BATCH_S, SINGLE_S = 4.0, 2.0
SEARCHES: tuple[Filter | None, ...] = (None, *FILTERS)
Numbers = dict[str, Any]


class Notebook:
    """What is known of an engine at one number of rows."""

    def __init__(self, folder: Path, engine: str) -> None:
        self._path = folder / f"{engine}.json"
        self.numbers: Numbers = json.loads(self._path.read_text(encoding="utf-8")) if self._path.is_file() else {}

    def note(self, stage: str, found: Numbers) -> None:
        """Keeps what a stage found."""
        self.numbers[stage] = found
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._write()

    def forget(self, stages: Sequence[str]) -> None:
        """Drops what stages found."""
        self.numbers = {stage: found for stage, found in self.numbers.items() if stage not in stages}
        if self._path.is_file():
            self._write()

    def has(self, stage: str) -> bool:
        """Whether a stage was run, however it ended."""
        return stage in self.numbers

    def ready(self, stage: str) -> bool:
        """Whether a stage was run and went well."""
        return stage in self.numbers and "failed" not in self.numbers[stage]

    def _write(self) -> None:
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.numbers, indent=2) + "\n", encoding="utf-8")
        temporary.replace(self._path)


def choose(setup: Setup, engines: Sequence[str], sample: int) -> None:
    """Of each engine's ways of building, the cheapest that reaches the recall on a sample and searches fast enough."""
    small = replace(setup, rows=min(sample, setup.rows))
    for engine in engines:
        notes = Notebook(setup.folder, engine)
        if not notes.has("choose"):
            notes.note("choose", _guarded(partial(_choose, engine, small, setup.rows)))


def build(setup: Setup, engines: Sequence[str]) -> None:
    """Each engine's index as it was chosen; an engine whose choice failed is passed over."""
    for engine in engines:
        notes = Notebook(setup.folder, engine)
        if notes.ready("choose") and not notes.has("build"):
            settings = notes.numbers["choose"]["settings"]
            notes.note("build", {"settings": settings, **_guarded(partial(_build, engine, setup, settings))})


def tune(setup: Setup, engines: Sequence[str]) -> None:
    """For each engine and each filter, the least effort that reaches the recall on the tuning queries."""
    for engine in engines:
        notes = Notebook(setup.folder, engine)
        if notes.ready("build") and not notes.has("tune"):
            notes.note("tune", _tune(engine, setup))


def query(setup: Setup, engines: Sequence[str], rounds: int = ROUNDS) -> None:
    """Recall, queries a second and latencies on the measured queries: all engines open, each in its turn, in rounds."""
    notes = {engine: Notebook(setup.folder, engine) for engine in engines}
    wanted = [engine for engine in engines if notes[engine].ready("tune") and not notes[engine].ready("query")]
    found: dict[str, Numbers] = {engine: {"searches": {}} for engine in wanted}
    with ExitStack() as stack:
        processes = {engine: stack.enter_context(EngineProcess(engine, setup)) for engine in wanted}
        for engine, process in processes.items():
            _attempt(found[engine], partial(_open, process, setup))
        for _ in range(rounds):
            for only in SEARCHES:
                for engine, process in processes.items():
                    effort = notes[engine].numbers["tune"][name_of(only)].get("effort")
                    if effort is not None and "failed" not in found[engine]:
                        searches = found[engine]["searches"]
                        _attempt(found[engine], partial(_round, process, only, effort, searches))
        for engine, process in processes.items():
            if "failed" not in found[engine]:
                _attempt(found[engine], partial(_memory, process))
    for engine in wanted:
        notes[engine].note("query", _summed(found[engine]))


def index_folder(setup: Setup, engine: str) -> str:
    """Where an engine's index is."""
    return str(setup.folder / engine)


def least_effort(
    efforts: Sequence[Numbers], recall: Callable[[Numbers], float], target: float
) -> tuple[Numbers, float]:
    """The first of ascending efforts whose recall reaches the target, and its recall; the last where none does.

    Found by halving, as recall grows with effort.
    """
    low, high, known = 0, len(efforts) - 1, {}
    while low < high:
        middle = (low + high) // 2
        known[middle] = recall(efforts[middle])
        if known[middle] >= target:
            high = middle
        else:
            low = middle + 1
    return efforts[high], known[high] if high in known else recall(efforts[high])


def cheapest(trials: Sequence[Numbers], target: float) -> Numbers | None:
    """Of the trials that reached the target, the one built in least time that is fast enough; None where none did."""
    good = [trial for trial in trials if trial.get("recall", 0.0) >= target]
    if not good:
        return None
    fastest = max(trial["queries_per_s"] for trial in good)
    return min((t for t in good if t["queries_per_s"] >= FAST_ENOUGH * fastest), key=lambda t: t["build_s"])


def _choose(engine: str, small: Setup, rows: int) -> Numbers:
    ways = {count: _builds(engine, small, count) for count in (small.rows, rows)}
    if len(ways[rows]) == 1:
        return {"settings": ways[rows][0], "trials": []}
    trials: list[Numbers] = []
    for settings in ways[small.rows]:
        trials.append({"settings": settings})
        _attempt(trials[-1], partial(_trial, engine, small, settings))
    chosen = cheapest(trials, TARGET)
    if chosen is None:
        return {"failed": f"no way of building reached recall {TARGET} on {small.rows} rows", "trials": trials}
    return {"settings": ways[rows][trials.index(chosen)], "sample_rows": small.rows, "trials": trials}


def _builds(engine: str, setup: Setup, rows: int) -> list[Numbers]:
    with EngineProcess(engine, setup, rows=rows) as process:
        ways: list[Numbers] = process.ask("builds")
    return ways


def _trial(engine: str, setup: Setup, settings: Numbers) -> Numbers:
    folder = str(setup.folder / f"trial-{engine}")
    with EngineProcess(engine, setup) as process:
        built = process.ask("build", folder=folder, settings=settings)
    with EngineProcess(engine, setup) as process:
        process.ask("open", folder=folder)
        effort, recall = _least(process, None)
        timed = process.ask("batch", effort=effort, only=None, budget_s=TRIAL_S)
    return {
        "build_s": built["seconds"],
        "effort": effort,
        "recall": recall,
        "queries_per_s": timed["queries"] / timed["seconds"],
    }


def _build(engine: str, setup: Setup, settings: Numbers) -> Numbers:
    with EngineProcess(engine, setup) as process:
        built: Numbers = process.ask("build", folder=index_folder(setup, engine), settings=settings)
    return built


def _tune(engine: str, setup: Setup) -> Numbers:
    """The effort for each search; one at which the process fails is noted as such, and the next get a new process."""
    found: Numbers = {}
    waiting = list(SEARCHES)
    while waiting:
        with EngineProcess(engine, setup) as process:
            failed = _guarded(partial(_tune_these, process, setup, waiting, found))
        if failed:
            found[name_of(waiting.pop(0))] = failed
    return found


def _tune_these(process: EngineProcess, setup: Setup, waiting: list[Filter | None], found: Numbers) -> Numbers:
    """Takes each search off the list when it is done."""
    process.ask("open", folder=index_folder(setup, process.name))
    while waiting:
        effort, recall = _least(process, waiting[0])
        found[name_of(waiting.pop(0))] = {"effort": effort, "recall": recall, "reached": recall >= TARGET}
    return {}


def _least(process: EngineProcess, only: Filter | None) -> tuple[Numbers, float]:
    given = None if only is None else asdict(only)
    efforts = process.ask("efforts", only=given)

    def recall(effort: Numbers) -> float:
        return float(process.ask("recall", effort=effort, only=given, part=TUNING)["recall"])

    return least_effort(efforts, recall, TARGET)


def _open(process: EngineProcess, setup: Setup) -> Numbers:
    return {"open": process.ask("open", folder=index_folder(setup, process.name))}


def _memory(process: EngineProcess) -> Numbers:
    return {"memory_after_queries": process.ask("memory")}


def _round(process: EngineProcess, only: Filter | None, effort: Numbers, searches: Numbers) -> Numbers:
    """One engine's turn with one filter; the first one also finds its recall, and warms it up with that."""
    given = None if only is None else asdict(only)
    if name_of(only) not in searches:
        measured = process.ask("recall", effort=effort, only=given, part=MEASURED)
        searches[name_of(only)] = {"effort": effort, **measured, "rounds": [], "latencies_ms": []}
    mine = searches[name_of(only)]
    timed = process.ask("batch", effort=effort, only=given, budget_s=BATCH_S)
    mine["rounds"].append(timed["queries"] / timed["seconds"])
    mine["latencies_ms"] += process.ask("single", effort=effort, only=given, budget_s=SINGLE_S)
    return {}


def _summed(found: Numbers) -> Numbers:
    for search in found["searches"].values():
        times = search.pop("latencies_ms")
        if times:
            search["queries_per_s"] = statistics.median(search["rounds"])
            search |= {"p50_ms": percentile(times, 50), "p99_ms": percentile(times, 99), "single_queries": len(times)}
    return found


def percentile(values: Sequence[float], share: int) -> float:
    """The smallest value that at least ``share`` percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]


def name_of(only: Filter | None) -> str:
    """What the numbers of a search are filed under."""
    return "all" if only is None else only.name


def _guarded(action: Callable[[], Numbers]) -> Numbers:
    found: Numbers = {}
    _attempt(found, action)
    return found


def _attempt(found: Numbers, action: Callable[[], Numbers]) -> None:
    """Adds what an action finds, or why the engine failed."""
    try:
        found.update(action())
    except EngineFailedError as exc:
        print(f"failed: {exc}")
        found["failed"] = str(exc)
