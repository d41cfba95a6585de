"""Searching vectors at scale: xsearch beside FAISS alone and beside embedded peers, on the same vectors, in one run.

    python benchmarks/store.py --work DIR --data DATA --rows 1000000 --peers-python PEERS/bin/python

The peers (``peers.txt``) live in an environment of their own. Each engine runs in a process of its own, with as many
threads as the others; it may take ``--limit`` seconds for a command. What each stage finds is kept under ``--work``, so
a run that is stopped goes on where it was: a stage that is there is not run again (``--again`` forgets those of the
engines and stages that are named).

- vectors: real texts in 38 languages are encoded, and enlarged to ``--rows`` (:mod:`store_vectors`); exact neighbours.
- choose: of an engine's ways of building, on ``--sample`` rows, the cheapest that reaches recall@10 of 0.95 and whose
  searches are at least 0.7 times as fast as those of the fastest.
- build: the index of all rows; seconds until it can be opened, bytes on disk, memory.
- tune: the least effort of searching that reaches the recall on one half of the queries, of all rows and under filters.
- query: on the other half, recall, queries/s in batches of 100, latency of one query: all engines in turn, in rounds.
- whole: ``Index`` with texts: ingest with vectors given, opening, memory, ``Index.search`` of a text; and xsearch's
  searches and those of FAISS with the same index file, alternating in one process.
- report: what is known at any number of rows goes to ``results/store.json``, how cost grows to ``results/store.svg``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from store_engine import ENGINES
from store_process import Setup
from store_report import write_report
from store_stages import Notebook, build, choose, query, tune
from store_texts import write_base
from store_vectors import enlarge, true_neighbours
from store_whole import whole

STAGES = ("vectors", "choose", "build", "tune", "query", "whole", "report")


def main(arguments: list[str] | None = None) -> None:
    """Runs the stages that are asked for."""
    given = _parser().parse_args(arguments)
    setup = Setup(given.work, given.rows, given.threads, given.limit, given.peers_python)
    given.work.mkdir(parents=True, exist_ok=True)
    if given.again:
        for engine in given.engines:
            Notebook(setup.folder, engine).forget(given.stages)
    stages: dict[str, Callable[[], object]] = {
        "vectors": lambda: make_vectors(given.work, given.data, (given.rows, min(given.sample, given.rows))),
        "choose": lambda: choose(setup, given.engines, given.sample),
        "build": lambda: build(setup, given.engines),
        "tune": lambda: tune(setup, given.engines),
        "query": lambda: query(setup, given.engines, given.rounds),
        "whole": lambda: whole(setup),
        "report": lambda: print(write_report(given.work, given.output)),
    }
    for stage in STAGES:
        if stage in given.stages:
            print(f"{stage} ...", file=sys.stderr)
            stages[stage]()


def make_vectors(work: Path, data: Path | None, sizes: tuple[int, ...]) -> None:
    """The texts, their vectors, as many rows as asked for, and the queries' exact neighbours among them."""
    if data is not None:
        from xsearch.encoder.load import load_encoder

        write_base(work, data, load_encoder("builtin"))
    for rows in sorted(set(sizes)):
        enlarge(work, rows)
        true_neighbours(work, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where vectors, indexes and numbers are kept")
    parser.add_argument("--data", type=Path, help="folder with qa/ and parallel/; needed until they are encoded")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sample", type=int, default=50_000, help="rows on which ways of building are compared")
    parser.add_argument("--engines", type=_names(tuple(ENGINES)), default=list(ENGINES), help="by default all")
    parser.add_argument("--stages", type=_names(STAGES), default=list(STAGES), help="by default all")
    parser.add_argument("--peers-python", default=sys.executable, help="the interpreter that has peers.txt")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=3_600, help="seconds an engine may take for one command")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--again", action="store_true", help="run the named stages of the named engines again")
    parser.add_argument("-o", "--output", type=Path, help="where the report goes; benchmarks/results by default")
    return parser


def _names(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: none of {', '.join(known)}")
        return chosen

    return names


if __name__ == "__main__":
    main()
