"""xsearch, and FAISS without it: the same kind of index, tuned by itself, and re-scored by FAISS's own refinement."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from store_engine import BATCH_ROWS, Filter, Rows, Settings, padded

INDEX_FILE = "index.faiss"
# Of the effort that an index was tuned to when it was built.
TIMES = (0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 16.0)
NPROBES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 17, 20, 24, 29, 35, 42, 50, 60, 72, 86, 103, 124, 149, 200, 300, 500, 1000)
# What FAISS alone is trained on, at most.
TRAINING_ROWS = 262_144


class XSearch:
    """xsearch's index with vectors given, searched as :meth:`Index.search` does, on one snapshot and without texts.

    Its effort is a multiple of what the index was tuned to when it was built, on its own vectors; ``1.0`` is what
    everybody gets.
    """

    def __init__(self, threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        self._stack = ExitStack()
        self.snapshot: Any = None
        self._parts: list[tuple[Any, Any]] = []

    def builds(self, rows: int) -> list[Settings]:
        """As it comes."""
        return [{}]

    def build(self, folder: Path, rows: Rows, settings: Settings) -> Settings:
        """Takes in all rows with a short text, language and year."""
        from engines.ingest import take_in

        return take_in(folder / "index", rows, (f"{number}" for number in range(len(rows))))

    def open(self, folder: Path, rows: Rows) -> None:
        """Opens the index and reads what a search needs."""
        from xsearch import Index
        from xsearch.store.ann import AnnPart

        index = self._stack.enter_context(Index.open(folder / "index"))
        self.snapshot = self._stack.enter_context(index._snapshot())
        parts = [placed.part for placed in self.snapshot.searcher._placed]
        self._parts = [(part, part.reach) for part in parts if isinstance(part, AnnPart)]

    def efforts(self, filtered: bool) -> list[Settings]:
        """Multiples of the effort it was tuned to; an index so small that it is searched exactly has none."""
        return [{"times": times} for times in TIMES] if self._parts else [{"times": 1.0}]

    def search(self, queries: NDArray[np.float32], k: int, effort: Settings, only: Filter | None) -> NDArray[np.int64]:
        """``Snapshot.dense``, with the filter as a user writes it."""
        self._go(effort["times"])
        allowed = None
        if only is not None:
            value = [str(only.value)]
            where = f"{only.field} {only.sign} {only.value}"
            allowed = self.snapshot.allowed(langs=value) if only.field == "lang" else self.snapshot.allowed(where=where)
        found = self.snapshot.dense(queries, k, allowed=allowed)
        # Ids are handed out from 1 in the order of the rows.
        return padded([(nearest.passage_ids - 1).tolist() for nearest in found], k)

    def _go(self, times: float) -> None:
        from xsearch.store.ann import Reach

        for part, tuned in self._parts:
            part.reach = Reach(max(1, round(tuned.effort * times)), tuned.candidates)


class Faiss:
    """FAISS alone: the factory string that xsearch chose for these rows, with float16 vectors to re-score from."""

    def __init__(self, threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        self._index: Any = None
        self._rows: Rows | None = None
        self._selectors: dict[str, Any] = {}
        self._candidates = 0

    def builds(self, rows: int) -> list[Settings]:
        """As xsearch did."""
        return [{}]

    def build(self, folder: Path, rows: Rows, settings: Settings) -> Settings:
        """Trains with FAISS's defaults on a sample, adds all rows and writes the index."""
        import faiss

        factory, candidates = chosen(folder.parent / "xsearch" / "index")
        dim = rows.vectors.shape[1]
        made: Any = faiss.index_factory(dim, f"{factory},Refine(SQfp16)", faiss.METRIC_INNER_PRODUCT)
        count = min(len(rows), TRAINING_ROWS)
        sample = np.sort(np.random.default_rng(0).choice(len(rows), count, replace=False))
        made.train(rows.vectors[sample].astype(np.float32))
        add_all(made, rows)
        faiss.write_index(made, str(folder / INDEX_FILE))
        return {"factory": factory, "candidates": candidates}

    def open(self, folder: Path, rows: Rows) -> None:
        """Reads the index."""
        import faiss

        candidates = chosen(folder.parent / "xsearch" / "index")[1]
        self.use(faiss.read_index(str(folder / INDEX_FILE)), candidates, rows)

    def use(self, index: Any, candidates: int, rows: Rows) -> None:
        """Searches this index from now on."""
        self._index, self._candidates, self._rows = index, candidates, rows

    def efforts(self, filtered: bool) -> list[Settings]:
        """``nprobe``, or for a graph ``ef``."""
        return [{"effort": some} for some in NPROBES]

    def search(self, queries: NDArray[np.float32], k: int, effort: Settings, only: Filter | None) -> NDArray[np.int64]:
        """``Index.search``."""
        parameters = self._parameters(k, effort["effort"], only)
        return np.asarray(self._index.search(queries, k, params=parameters)[1], dtype=np.int64)

    def _parameters(self, k: int, effort: int, only: Filter | None) -> Any:
        import faiss

        base = faiss.downcast_index(self._index.base_index)
        if isinstance(base, faiss.IndexIVF):
            rabitq = "RaBitQ" in type(base).__name__
            inner = faiss.IVFRaBitQSearchParameters() if rabitq else faiss.SearchParametersIVF()
            inner.nprobe = min(effort, base.nlist)
        elif isinstance(base, faiss.IndexHNSW):
            inner = faiss.SearchParametersHNSW()
            inner.efSearch = effort
        else:
            inner = faiss.SearchParameters()
        if only is not None:
            inner.sel = self._selector(only)
        parameters = faiss.IndexRefineSearchParameters()
        parameters.k_factor = self._candidates / k
        parameters.base_index_params = inner
        # FAISS keeps no reference of its own.
        parameters.kept = inner
        return parameters

    def _selector(self, only: Filter) -> Any:
        import faiss

        if only.name not in self._selectors:
            assert self._rows is not None
            bits = np.packbits(only.mask(self._rows), bitorder="little")
            self._selectors[only.name] = faiss.IDSelectorBitmap(bits)
        return self._selectors[only.name]


def chosen(folder: Path) -> tuple[str, int]:
    """The factory string of an xsearch index, and how many candidates a query it re-scores."""
    from xsearch import Index

    with Index.open(folder) as index, index._snapshot() as snapshot:
        files = [placed.file for placed in snapshot.searcher._placed if placed.file is not None]
    return (files[0].factory, files[0].facts.candidates) if files else ("Flat", 10)


def add_all(index: Any, rows: Rows) -> None:
    """Adds all rows to a FAISS index, a batch at a time."""
    for start in range(0, len(rows), BATCH_ROWS):
        index.add(rows.vectors[start : start + BATCH_ROWS].astype(np.float32))
