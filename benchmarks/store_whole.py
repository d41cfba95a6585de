"""The product at scale, without peers: taking in texts, opening, ``Index.search``, and what it adds to FAISS alone.

Each measurement runs in a new process, so that memory and times of opening are its own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from engines.ingest import take_in
from engines.own import Faiss, XSearch, add_all
from numpy.typing import NDArray
from store_engine import load_rows
from store_process import Setup
from store_stages import MEASURED, TUNING, Notebook, Numbers, percentile
from store_texts import QUERIES_FILE, load_texts
from store_vectors import passages
from store_worker import BATCH, K, Worker, memory

WHOLE_FOLDER = "whole"
TEXT_QUERIES = 300
PAIRED_ROUNDS = 60


def whole(setup: Setup) -> None:
    """Takes in the rows with texts, then measures search over them, and searches beside FAISS's; notes it by stage."""
    notes = Notebook(setup.folder, "xsearch")
    folder = setup.folder / WHOLE_FOLDER
    if not notes.has("ingest"):
        notes.note("ingest", _alone(ingest, setup, folder))
    if not notes.has("whole"):
        notes.note("whole", _alone(search_texts, setup, folder))
    if notes.ready("build") and not notes.has("overhead"):
        notes.note("overhead", _alone(beside_faiss, setup, setup.folder / "xsearch"))


def ingest(setup: Setup, folder: Path) -> Numbers:
    """Passages a second with vectors and texts of 300 to 500 characters given."""
    import shutil

    rows = load_rows(setup.work, setup.rows)
    shutil.rmtree(folder, ignore_errors=True)
    before = memory()["resident"]
    started = time.perf_counter()
    facts = dict(take_in(folder, rows, passages(setup.work, setup.rows)))
    seconds = time.perf_counter() - started
    disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {
        "seconds": seconds,
        **facts,
        "passages_per_s": setup.rows / facts["taking_in_s"],
        "disk_bytes": disk,
        "resident_before": before,
        "resident_after": memory()["resident"],
    }


def search_texts(setup: Setup, folder: Path) -> Numbers:
    """``Index.search`` of real texts by meaning, one at a time: encoded, searched, with texts and metadata; k of 10."""
    from xsearch import Index

    texts = [query.text for query in load_texts(setup.work / QUERIES_FILE)]
    before = memory()
    started = time.perf_counter()
    with Index.open(folder) as index:
        opened = time.perf_counter() - started
        with index._snapshot() as snapshot:
            len(snapshot.searcher)
        ready = time.perf_counter() - started
        after = memory()
        started = time.perf_counter()
        first = index.search(texts[0], k=K, mode="dense")
        first_s = time.perf_counter() - started
        encode = _timed(lambda text: index.encoder.encode_queries([text]), texts[:TEXT_QUERIES])
        searches = _timed(lambda text: index.search(text, k=K, mode="dense"), texts[:TEXT_QUERIES])
        filtered = _timed(
            lambda text: index.search(text, k=K, where="year >= 2015", mode="dense"), texts[:TEXT_QUERIES]
        )
    return {
        "hits": len(first),
        "open_s": opened,
        "ready_s": ready,
        "first_search_s": first_s,
        "encode_ms": encode,
        "search_ms": searches,
        "filtered_search_ms": filtered,
        "memory": {"before": before, "ready": after, "after_searches": memory()},
        "resident_bytes_a_passage": after["resident"] / setup.rows,
    }


def beside_faiss(setup: Setup, folder: Path) -> Numbers:
    """xsearch, and FAISS with the very same index file and effort, re-scored by FAISS from vectors in float16 and in
    float32: in batches of 100 and one by one, alternating in one process. Overhead: over the faster of the two.
    """
    import faiss

    rows = load_rows(setup.work, setup.rows)
    worker = Worker("xsearch", setup.work, setup.rows, setup.threads)
    mine = XSearch(setup.threads)
    mine.open(folder, rows)
    files = [placed.file for placed in mine.snapshot.searcher._placed if placed.file is not None]
    if not files:
        return {"failed": "the index has no FAISS file: it is searched exactly"}
    if files[0].rows != setup.rows:
        return {"failed": f"the FAISS file holds {files[0].rows} rows of {setup.rows}"}
    effort = {"effort": files[0].facts.effort}
    asked: dict[str, tuple[Any, Numbers]] = {"xsearch": (mine, {"times": 1.0})}
    base = faiss.read_index(str(folder / "index" / "ann" / files[0].name))
    for name, kind in (("faiss float16", "SQfp16"), ("faiss float32", "Flat")):
        raw: Any = faiss.index_factory(base.d, kind, faiss.METRIC_INNER_PRODUCT)
        raw.train(np.zeros((1, base.d), dtype=np.float32))
        add_all(raw, rows)
        engine = Faiss(setup.threads)
        engine.use(faiss.IndexRefine(base, raw), files[0].facts.candidates, rows)
        asked[name] = (engine, effort)
    found: Numbers = {"factory": files[0].factory, "candidates": files[0].facts.candidates, **effort}
    for name, (engine, given) in asked.items():
        halves = [worker.recall_of(engine, given, None, part)["recall"] for part in (MEASURED, TUNING)]
        found[name] = {"recall": halves[0], "recall_of_all": statistics.mean(halves)}
    times = _alternating(asked, worker.queries(MEASURED))
    for kind in ("batch", "single"):
        for name in asked:
            found[name][f"{kind}_ms"] = statistics.median(times[name, kind])
        own = times["xsearch", kind]
        others = [times[name, kind] for name in asked if name != "xsearch"]
        found[f"{kind}_overhead"] = max(
            statistics.median(a / b for a, b in zip(own, other, strict=True)) - 1 for other in others
        )
    return found


def _alternating(
    engines: dict[str, tuple[Any, Numbers]], queries: NDArray[np.float32]
) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of each engine for the same batch and the same query, in rounds that begin with another one each."""
    times: dict[tuple[str, str], list[float]] = {(name, kind): [] for name in engines for kind in ("batch", "single")}
    chance = np.random.default_rng(0)
    names = list(engines)
    for turn in range(PAIRED_ROUNDS):
        block = queries[chance.choice(len(queries), min(BATCH, len(queries)), replace=False)]
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            engine, effort = engines[name]
            for kind, some in (("batch", block), ("single", block[:1])):
                started = time.perf_counter()
                engine.search(some, K, effort, None)
                times[name, kind].append((time.perf_counter() - started) * 1000)
    return times


def _alone(measure: Callable[[Setup, Path], Numbers], setup: Setup, folder: Path) -> Numbers:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, setup, folder).result()


def _timed(action: Callable[[str], object], texts: list[str]) -> dict[str, float]:
    """Milliseconds an action takes for a text, after two that are not counted."""
    times = []
    for text in [*texts[:2], *texts]:
        started = time.perf_counter()
        action(text)
        times.append((time.perf_counter() - started) * 1000)
    return {f"p{share}": percentile(times[2:], share) for share in (50, 95, 99)}
