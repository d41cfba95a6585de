"""hnswlib and usearch: libraries of one graph in memory, which keep ids and no metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from store_engine import BATCH_ROWS, Filter, Rows, Settings, padded, steps

GRAPH_FILE = "graph.bin"
# From cheap to thorough; 16 and 200 are what both libraries' guides start from (usearch's default is 16 and 128).
GRAPHS = ((8, 60), (12, 80), (16, 100), (16, 200), (24, 200))


class HnswLib:
    """hnswlib: float32 in memory; a filter is a function of the id that it calls, on one thread, as its guide says."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._index: Any = None
        self._rows: Rows | None = None
        self._fits: dict[str, Any] = {}

    def builds(self, rows: int) -> list[Settings]:
        """Graphs from cheap to thorough."""
        return [{"M": links, "ef_construction": effort} for links, effort in GRAPHS]

    def build(self, folder: Path, rows: Rows, settings: Settings) -> Settings:
        """Adds all rows and saves the graph."""
        import hnswlib

        index = hnswlib.Index(space="ip", dim=rows.vectors.shape[1])
        index.init_index(max_elements=len(rows), M=settings["M"], ef_construction=settings["ef_construction"])
        index.set_num_threads(self._threads)
        for start in range(0, len(rows), BATCH_ROWS):
            block = rows.vectors[start : start + BATCH_ROWS].astype(np.float32)
            index.add_items(block, np.arange(start, start + len(block)), num_threads=self._threads)
        index.save_index(str(folder / GRAPH_FILE))
        return {}

    def open(self, folder: Path, rows: Rows) -> None:
        """Loads the graph."""
        import hnswlib

        self._rows = rows
        self._index = hnswlib.Index(space="ip", dim=rows.vectors.shape[1])
        self._index.load_index(str(folder / GRAPH_FILE), max_elements=len(rows))
        self._index.set_num_threads(self._threads)

    def efforts(self, filtered: bool) -> list[Settings]:
        """``ef``."""
        return steps("ef", 10, 20_000 if filtered else 1_000)

    def search(self, queries: NDArray[np.float32], k: int, effort: Settings, only: Filter | None) -> NDArray[np.int64]:
        """``knn_query``; a query for which the graph has fewer than ``k`` rows under the filter gets none."""
        self._index.set_ef(effort["ef"])
        if only is None:
            return np.asarray(self._index.knn_query(queries, k, num_threads=self._threads)[0], dtype=np.int64)
        fits = self._fits.get(only.name)
        if fits is None:
            assert self._rows is not None
            # The fastest function that Python has for this: a list's own.
            fits = self._fits[only.name] = only.mask(self._rows).tolist().__getitem__
        found = np.full((len(queries), k), -1, dtype=np.int64)
        for place, query in enumerate(queries):
            try:
                found[place] = self._index.knn_query(query, k, num_threads=1, filter=fits)[0][0]
            except RuntimeError as exc:
                if "contiguous 2D array" not in str(exc):
                    raise
        return found


class USearch:
    """usearch: float16 or int8 in memory; Python has no filters there, so more is fetched and what fits is kept."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._index: Any = None
        self._rows: Rows | None = None
        self._fits: dict[str, NDArray[np.bool_]] = {}

    def builds(self, rows: int) -> list[Settings]:
        """Graphs from cheap to thorough, of bytes and of halves."""
        return [{"dtype": dtype, "M": links, "ef": effort} for links, effort in GRAPHS for dtype in ("i8", "f16")]

    def build(self, folder: Path, rows: Rows, settings: Settings) -> Settings:
        """Adds all rows and saves the graph."""
        index = self._new(rows, settings)
        for start in range(0, len(rows), BATCH_ROWS):
            block = np.asarray(rows.vectors[start : start + BATCH_ROWS])
            given = block if settings["dtype"] == "f16" else block.astype(np.float32)
            index.add(np.arange(start, start + len(block)), given, threads=self._threads)
        index.save(str(folder / GRAPH_FILE))
        return {"hardware": str(index.hardware_acceleration)}

    def open(self, folder: Path, rows: Rows) -> None:
        """Loads the graph into memory."""
        from usearch.index import Index

        self._rows = rows
        self._index = Index.restore(str(folder / GRAPH_FILE), view=False)

    def efforts(self, filtered: bool) -> list[Settings]:
        """``expansion_search``, and with a filter how many are fetched, which is as many."""
        return steps("expansion", 10, 50_000 if filtered else 1_000)

    def search(self, queries: NDArray[np.float32], k: int, effort: Settings, only: Filter | None) -> NDArray[np.int64]:
        """``Index.search``."""
        self._index.expansion_search = effort["expansion"]
        if only is None:
            keys = self._index.search(queries, k, threads=self._threads).keys
            return np.asarray(keys, dtype=np.int64).reshape(len(queries), k)
        assert self._rows is not None
        if only.name not in self._fits:
            self._fits[only.name] = only.mask(self._rows)
        matches = self._index.search(queries, effort["expansion"], threads=self._threads)
        keys = np.asarray(matches.keys, dtype=np.int64).reshape(len(queries), -1)
        fits = self._fits[only.name]
        return padded([row[fits[row]][:k].tolist() for row in (row[(row >= 0) & (row < len(fits))] for row in keys)], k)

    def _new(self, rows: Rows, settings: Settings) -> Any:
        from usearch.index import Index

        return Index(
            ndim=rows.vectors.shape[1],
            metric="cos",
            dtype=settings["dtype"],
            connectivity=settings["M"],
            expansion_add=settings["ef"],
        )
