"""What an engine of ``store.py`` is, and the rows that all of them are given; needs numpy alone, so that every peer's
interpreter can import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

VECTORS_FILE = "vectors-{rows}.npy"
ROWS_FILE = "rows-{rows}.npz"
# Rows that are handed to an engine at a time.
BATCH_ROWS = 20_000
# Where each is; the first two need the project's interpreter, the rest that of the peers.
ENGINES = {
    "xsearch": "engines.own:XSearch",
    "faiss": "engines.own:Faiss",
    "hnswlib": "engines.graphs:HnswLib",
    "usearch": "engines.graphs:USearch",
    "lancedb": "engines.lance:LanceDb",
    "chroma": "engines.chroma:Chroma",
    "milvus-lite": "engines.milvus:MilvusLite",
    "txtai": "engines.txt:TxtAi",
}
OWN = ("xsearch", "faiss")
# What each is called where it was installed from, where that is another name.
PACKAGES = {"faiss": "faiss-cpu", "chroma": "chromadb"}
Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """The vectors, ``(n, dim) float16``, memory-mapped, and what is known of each; a row's number is its id."""

    vectors: NDArray[np.float16]
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    year: NDArray[np.int16]
    lang: NDArray[np.uint8]
    languages: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.vectors)

    def langs(self, start: int, stop: int) -> list[str]:
        """The languages of a range of rows."""
        return [self.languages[code] for code in self.lang[start:stop].tolist()]


@dataclass(frozen=True, slots=True)
class Filter:
    """Rows whose ``field`` (``year`` or ``lang``) is (``=``) or is at least (``>=``) a value."""

    name: str
    field: str
    sign: str
    value: int | str

    def mask(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows fit."""
        column: NDArray[Any] = rows.year
        value = self.value
        if self.field == "lang":
            column, value = rows.lang, rows.languages.index(str(value))
        mask: NDArray[np.bool_] = column == value if self.sign == "=" else column >= int(value)
        return mask


class Engine(Protocol):
    """One way of searching vectors, on disk in a folder. Scores are cosines; ids are the rows' numbers."""

    def builds(self, rows: int) -> list[Settings]:
        """How it may be built for so many rows, cheapest first; one that does not need choosing has one."""

    def build(self, folder: Path, rows: Rows, settings: Settings) -> Settings:
        """Puts the rows into an empty folder, ready to be opened; returns what is worth knowing of what it built."""

    def open(self, folder: Path, rows: Rows) -> None:
        """Makes what is in the folder ready to be searched; an engine that keeps no metadata takes it from the rows."""

    def efforts(self, filtered: bool) -> list[Settings]:
        """How hard it may search, least first."""

    def search(self, queries: NDArray[np.float32], k: int, effort: Settings, only: Filter | None) -> NDArray[np.int64]:
        """The ids of the best ``k`` rows of each query, ``(n, k)``, -1 where there is none."""


def load_rows(work: Path, rows: int) -> Rows:
    """The rows that :mod:`store_vectors` wrote."""
    with np.load(work / ROWS_FILE.format(rows=rows)) as known:
        first, second, year, lang = (known[name] for name in ("first", "second", "year", "lang"))
        languages = tuple(known["languages"].tolist())
    vectors = np.load(work / VECTORS_FILE.format(rows=rows), mmap_mode="r")
    return Rows(vectors, first, second, year, lang, languages)


def padded(found: list[list[int]], k: int) -> NDArray[np.int64]:
    """Lists of ids as an array, with -1 where a list is short."""
    ids = np.full((len(found), k), -1, dtype=np.int64)
    for row, some in zip(ids, found, strict=True):
        row[: len(some)] = some
    return ids


def steps(name: str, first: int, last: int) -> list[Settings]:
    """A search setting from ``first`` to ``last``, each 1.25 times the one before."""
    values, value = [], float(first)
    while value < last:
        values.append(round(value))
        value *= 1.25
    return [{name: value} for value in dict.fromkeys([*values, last])]


def load_engine(name: str, threads: int) -> Engine:
    """The engine of that name, one of ``ENGINES``; its library is imported here."""
    import importlib

    module, kind = ENGINES[name].split(":")
    engine: Engine = getattr(importlib.import_module(module), kind)(threads)
    return engine
