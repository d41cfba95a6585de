"""LanceDB: a table on disk with an index of vectors, and indexes of the columns that filters use."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from store_engine import BATCH_ROWS, Filter, Rows, Settings, padded

TABLE = "passages"


class LanceDb:
    """LanceDB with the kinds of index that its guide names for recall at this size; filters come before the search."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._table: Any = None
        self._pool = ThreadPoolExecutor(threads)
        self._kind = ""

    def builds(self, rows: int) -> list[Settings]:
        """Bytes, RaBitQ and product quantisation over lists, the last two with re-scoring; and a graph of bytes."""
        lists = max(1, round(math.sqrt(rows)))
        return [
            {"kind": "IvfSq", "num_partitions": lists},
            {"kind": "IvfRq", "num_partitions": lists},
            {"kind": "IvfPq", "num_partitions": lists, "num_sub_vectors": 48},
            {"kind": "HnswSq", "num_partitions": 1, "m": 16, "ef_construction": 150},
        ]

    def build(self, folder: Path, rows: Rows, settings: Settings) -> Settings:
        """Writes the table, then the indexes."""
        import lancedb
        import lancedb.index as kinds
        import pyarrow as pa

        dim = rows.vectors.shape[1]
        vector = pa.list_(pa.float32(), dim)
        schema = pa.schema([("id", pa.int64()), ("vector", vector), ("year", pa.int16()), ("lang", pa.string())])

        def batches() -> Iterator[Any]:
            for start in range(0, len(rows), BATCH_ROWS):
                block = rows.vectors[start : start + BATCH_ROWS].astype(np.float32)
                stop = start + len(block)
                yield pa.record_batch(
                    [
                        pa.array(np.arange(start, stop)),
                        pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), dim),
                        pa.array(rows.year[start:stop]),
                        pa.array(rows.langs(start, stop)),
                    ],
                    schema=schema,
                )

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        table = lancedb.connect(str(folder)).create_table(TABLE, reader)
        given = {name: value for name, value in settings.items() if name != "kind"}
        table.create_index("vector", config=getattr(kinds, settings["kind"])(distance_type="dot", **given))
        table.create_index("year", config=kinds.BTree())
        table.create_index("lang", config=kinds.Bitmap())
        (folder / "kind").write_text(settings["kind"], encoding="utf-8")
        return {}

    def open(self, folder: Path, rows: Rows) -> None:
        """Opens the table and has its index read into the cache, as its guide says for a steady load."""
        import lancedb

        self._kind = (folder / "kind").read_text(encoding="utf-8")
        self._table = lancedb.connect(str(folder)).open_table(TABLE)

    def efforts(self, filtered: bool) -> list[Settings]:
        """Lists that are searched, and how many times ``k`` rows are re-scored; or ``ef`` of the graph."""
        if self._kind == "HnswSq":
            return [{"ef": ef, "refine_factor": 2} for ef in (20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 1000)]
        refine = {"IvfSq": 1, "IvfRq": 8, "IvfPq": 8}[self._kind]
        probes = (5, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1000)
        return [{"nprobes": some, "refine_factor": refine * (1 if some < 100 else 4)} for some in probes]

    def search(self, queries: NDArray[np.float32], k: int, effort: Settings, only: Filter | None) -> NDArray[np.int64]:
        """One call a query, as many at once as there are threads: faster than its batches (see README)."""
        if len(queries) == 1:
            return padded([self._one(queries[0], k, effort, only)], k)
        return padded(list(self._pool.map(lambda query: self._one(query, k, effort, only), queries)), k)

    def _one(self, query: NDArray[np.float32], k: int, effort: Settings, only: Filter | None) -> list[int]:
        asked = self._table.search(query).distance_type("dot").select(["id", "_distance"]).limit(k)
        asked = asked.refine_factor(effort["refine_factor"])
        asked = asked.ef(effort["ef"]) if "ef" in effort else asked.nprobes(effort["nprobes"])
        if only is not None:
            value = f"'{only.value}'" if isinstance(only.value, str) else only.value
            asked = asked.where(f"{only.field} {only.sign} {value}", prefilter=True)
        found: list[int] = asked.to_arrow().column("id").to_pylist()
        return found
