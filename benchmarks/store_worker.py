"""One engine of ``store.py`` in a process of its own: commands in, answers out, a line of JSON each.

    python benchmarks/store_worker.py ENGINE WORK ROWS THREADS

All clocks run here, around the engine's own calls alone.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from store_engine import PACKAGES, Engine, Filter, Settings, load_engine, load_rows

K = 10
BATCH = 100


class Worker:
    """Runs an engine over the rows in a folder."""

    def __init__(self, name: str, work: Path, rows: int, threads: int) -> None:
        self._name = name
        self._rows = load_rows(work, rows)
        self._queries = np.load(work / "queries.npy").astype(np.float32)
        with np.load(work / f"truth-{rows}.npz") as truth:
            self._truth = {key: truth[key] for key in truth.files}
        self._engine = load_engine(name, threads)

    def builds(self) -> list[Settings]:
        """How the engine may be built."""
        return self._engine.builds(len(self._rows))

    def build(self, folder: str, settings: Settings) -> dict[str, Any]:
        """Builds anew; seconds, the most memory that it took, and what it left on disk."""
        path = Path(folder)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        started = time.perf_counter()
        facts = self._engine.build(path, self._rows, settings)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        disk = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return {
            "version": version(PACKAGES.get(self._name, self._name)),
            "seconds": seconds,
            "peak_bytes": peak,
            "disk_bytes": disk,
            "facts": dict(facts),
        }

    def open(self, folder: str) -> dict[str, Any]:
        """Opens what was built; seconds, and the memory before and after."""
        before = memory()
        started = time.perf_counter()
        self._engine.open(Path(folder), self._rows)
        return {"seconds": time.perf_counter() - started, "before": before, "after": memory()}

    def memory(self) -> dict[str, int]:
        """The memory that the process has now."""
        return memory()

    def efforts(self, only: Settings | None) -> list[Settings]:
        """How hard the engine may search."""
        return self._engine.efforts(only is not None)

    def recall(self, effort: Settings, only: Settings | None, part: int) -> dict[str, float]:
        """Recall@10 over the tuning queries (part 0) or the measured ones (1), and how many places stayed empty."""
        return self.recall_of(self._engine, effort, only, part)

    def recall_of(self, engine: Engine, effort: Settings, only: Settings | None, part: int) -> dict[str, float]:
        """The same of another engine."""
        queries, wanted = self.queries(part), self._truth[only["name"] if only else "all"][self._part(part)]
        blocks = [queries[start : start + BATCH] for start in range(0, len(queries), BATCH)]
        found = np.concatenate([engine.search(block, K, effort, _filter(only)) for block in blocks])
        there = wanted >= 0
        hit = (wanted[:, :, None] == found[:, None, :]).any(axis=2) & there
        return {"recall": float(hit.sum() / there.sum()), "missing": int(there.sum() - (found >= 0).sum())}

    def batch(self, effort: Settings, only: Settings | None, budget_s: float) -> dict[str, float]:
        """Queries a second in batches of 100 measured queries, as many batches as fit into the time, one at least."""
        queries, chosen = self._warm(effort, only), _filter(only)
        count, spent = 0, 0.0
        while spent < budget_s:
            start = count % max(1, len(queries) - BATCH + 1)
            block = np.ascontiguousarray(queries[start : start + BATCH])
            started = time.perf_counter()
            self._engine.search(block, K, effort, chosen)
            spent += time.perf_counter() - started
            count += len(block)
        return {"queries": count, "seconds": spent}

    def single(self, effort: Settings, only: Settings | None, budget_s: float) -> list[float]:
        """Milliseconds of each of as many single queries as fit into the time, one at least, all of them at most."""
        queries, chosen = self._warm(effort, only), _filter(only)
        times: list[float] = []
        for query in queries:
            started = time.perf_counter()
            self._engine.search(query[None], K, effort, chosen)
            times.append((time.perf_counter() - started) * 1000)
            if sum(times) > budget_s * 1000:
                break
        return times

    def _warm(self, effort: Settings, only: Settings | None) -> NDArray[np.float32]:
        """The measured queries, after one search that nobody times: some engines get ready for an effort at it."""
        queries = self.queries(1)
        self._engine.search(queries[:1], K, effort, _filter(only))
        return queries

    def queries(self, part: int) -> NDArray[np.float32]:
        """The vectors of the tuning queries (part 0) or of the measured ones (1)."""
        return np.asarray(self._queries[self._part(part)])

    def _part(self, part: int) -> NDArray[np.int64]:
        """The places of every other pair of queries: a pair is a question and a sentence."""
        places = np.arange(len(self._queries))
        return np.asarray(places[places // 2 % 2 == part])


def memory() -> dict[str, int]:
    """Bytes of this process and those that it started: all that is resident, and of it what no file backs."""
    found = {"resident": 0, "anonymous": 0}
    for process in [os.getpid(), *_children(os.getpid())]:
        for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name in ("VmRSS", "RssAnon"):
                found["resident" if name == "VmRSS" else "anonymous"] += int(value.split()[0]) * 1024
    return found


def _children(process: int) -> list[int]:
    listed = [file.read_text(encoding="utf-8") for file in Path(f"/proc/{process}/task").glob("*/children")]
    own = [int(child) for text in listed for child in text.split()]
    return own + [other for child in own for other in _children(child)]


def _filter(only: Settings | None) -> Filter | None:
    return None if only is None else Filter(**only)


def main() -> None:
    """Answers commands until there are no more; what fails ends the process, and its last line says why."""
    name, work, rows, threads = sys.argv[1:]
    # Some libraries start as many threads as there are processors, whatever they are told.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    # Whatever a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker(name, Path(work), int(rows), int(threads))
    commands: dict[str, Callable[..., Any]] = {
        command: getattr(worker, command)
        for command in ("builds", "build", "open", "memory", "efforts", "recall", "batch", "single")
    }
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(commands[command.pop("do")](**command)), file=answers, flush=True)


if __name__ == "__main__":
    main()
