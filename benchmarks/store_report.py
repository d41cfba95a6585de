"""What ``store.py`` found at any number of rows as one file of numbers, and how cost grows as a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from record import RESULTS, write_result
from store_engine import ENGINES
from store_stages import SEARCHES, TARGET, Notebook, name_of
from store_texts import QUERIES_FILE, TEXTS_FILE, load_texts
from store_vectors import CLUSTERS, FILTERS, SPREAD, compare, describe_texts, load_base

COMPARED_FILE = "compared.json"
PLOT_FILE = "store.svg"
PEERS = tuple(name for name in ENGINES if name not in ("xsearch", "faiss"))
Numbers = dict[str, Any]


def write_report(work: Path, output: Path | None = None) -> Path:
    """Writes the file of numbers, and the plot beside it; returns the file."""
    sizes = sorted(int(folder.name.removeprefix("rows-")) for folder in work.glob("rows-*") if folder.is_dir())
    found = {str(rows): _of_size(work / f"rows-{rows}") for rows in sizes}
    numbers: Numbers = {
        "vectors": _vectors(work),
        "recall_asked": TARGET,
        "rows": {rows: engines for rows, engines in found.items() if engines},
        "ratios": {rows: ratios(engines) for rows, engines in found.items() if "xsearch" in engines},
        "growth": growth(found),
    }
    path = write_result("store", numbers, output)
    plot(numbers["growth"], path.with_name(PLOT_FILE) if output else RESULTS / PLOT_FILE)
    return path


def ratios(engines: dict[str, Numbers]) -> dict[str, Numbers]:
    """For each peer how many times as many queries a second xsearch answers, of all rows and under each filter, and how
    many times as long the peer takes to be built and to answer one query. A search counts only where both reach the
    recall; what a peer did not reach is named.
    """
    mine = engines["xsearch"]
    found: dict[str, Numbers] = {}
    for name in PEERS:
        if name not in engines:
            continue
        theirs, row = engines[name], Numbers()
        if _built(mine) and _built(theirs):
            row["build"] = theirs["build"]["seconds"] / mine["build"]["seconds"]
        for search in map(name_of, SEARCHES):
            own, other = (_search(engine, search) for engine in (mine, theirs))
            if own and other:
                row[search] = own["queries_per_s"] / other["queries_per_s"]
                row[f"{search} p50"] = other["p50_ms"] / own["p50_ms"]
        found[name] = {
            "ratios": row,
            "not_reached": [search for search in map(name_of, SEARCHES) if _search(theirs, search) is None],
        }
    return found


def growth(sizes: dict[str, dict[str, Numbers]]) -> list[Numbers]:
    """xsearch at each number of rows: seconds of building, bytes a passage on disk and in memory, p50, p99, recall."""
    found = []
    for rows, engines in sizes.items():
        mine = engines.get("xsearch", {})
        search = mine.get("query", {}).get("searches", {}).get("all")
        if _built(mine) and search and "p50_ms" in search:
            found.append(
                {
                    "rows": int(rows),
                    "build_s": mine["build"]["seconds"],
                    "disk_bytes_a_passage": mine["build"]["disk_bytes"] / int(rows),
                    "resident_bytes_a_passage": mine["query"]["open"]["after"]["resident"] / int(rows),
                    "open_s": mine["query"]["open"]["seconds"],
                    "p50_ms": search["p50_ms"],
                    "p99_ms": search["p99_ms"],
                    "recall": search["recall"],
                }
            )
    return sorted(found, key=lambda point: point["rows"])


def plot(points: list[Numbers], path: Path) -> None:
    """Draws how cost grows with the rows; nothing where there are fewer than two sizes."""
    if len(points) < 2:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = (
        ("build_s", "build, s", True),
        ("disk_bytes_a_passage", "on disk, bytes a passage", False),
        ("p50_ms", "one query, p50 and p99, ms", True),
        ("recall", "recall@10", False),
    )
    figure, axes = pyplot.subplots(1, len(panels), figsize=(13, 3), layout="constrained")
    rows = [point["rows"] for point in points]
    for axis, (key, title, logarithmic) in zip(axes, panels, strict=True):
        axis.plot(rows, [point[key] for point in points], marker="o")
        if key == "p50_ms":
            axis.plot(rows, [point["p99_ms"] for point in points], marker="o", linestyle=":")
        axis.set(xscale="log", title=title, xlabel="passages")
        if logarithmic:
            axis.set_yscale("log")
        elif key == "recall":
            axis.set_ylim(0.9, 1.0)
        else:
            axis.set_ylim(bottom=0)
        axis.grid(visible=True, alpha=0.3)
    with matplotlib.rc_context({"svg.hashsalt": "xsearch", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def _of_size(folder: Path) -> dict[str, Numbers]:
    """What is known of each engine, without the rows' trials of other sizes."""
    found = {name: Notebook(folder, name).numbers for name in ENGINES}
    return {name: numbers for name, numbers in found.items() if "build" in numbers or "choose" in numbers}


def _vectors(work: Path) -> Numbers:
    """What the vectors are made from, and how near they come to real ones; kept, as it takes a while."""
    path = work / COMPARED_FILE
    if not path.is_file():
        path.write_text(json.dumps(compare(work)), encoding="utf-8")
    return {
        "base": describe_texts(load_texts(work / TEXTS_FILE)),
        "queries": describe_texts(load_texts(work / QUERIES_FILE)),
        "dim": load_base(work).vectors.shape[1],
        "clusters": CLUSTERS,
        "spread": SPREAD,
        "filters": {some.name: f"{some.field} {some.sign} {some.value}" for some in FILTERS},
        "enlarged_beside_real": json.loads(path.read_text(encoding="utf-8")),
    }


def _built(numbers: Numbers) -> bool:
    return "seconds" in numbers.get("build", {})


def _search(numbers: Numbers, search: str) -> Numbers | None:
    """What was measured of a search, where the engine reaches the recall on the tuning queries; else None."""
    tuned = numbers.get("tune", {}).get(search, {})
    found: Numbers = numbers.get("query", {}).get("searches", {}).get(search, {})
    return found if tuned.get("reached") and "queries_per_s" in found else None
