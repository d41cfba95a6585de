"""Milvus Lite: Milvus's client over a server in threads of the same process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from store_engine import Filter, Rows, Settings, padded, steps

COLLECTION = "passages"
# Its server takes messages of this many rows at most.
INSERT_ROWS = 5_000
GRAPHS = ((8, 60), (16, 100), (16, 200))


class MilvusLite:
    """Milvus Lite with the kinds of index that it has: lists of bytes and graphs, one for each 100,000 rows."""

    def __init__(self, threads: int) -> None:
        self._client: Any = None
        self._kind = ""

    def builds(self, rows: int) -> list[Settings]:
        """Lists of bytes; graphs of bytes and of floats, from cheap to thorough."""
        graphs = [
            {"index_type": kind, "M": links, "efConstruction": effort}
            for links, effort in GRAPHS
            for kind in ("HNSW_SQ", "HNSW")
        ]
        return [{"index_type": "IVF_SQ8", "nlist": 1024}, *graphs]

    def build(self, folder: Path, rows: Rows, settings: Settings) -> Settings:
        """Inserts all rows, then makes the index and loads the collection."""
        from pymilvus import DataType, MilvusClient

        client = MilvusClient(str(folder / "passages.db"))
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=rows.vectors.shape[1])
        schema.add_field("year", DataType.INT64)
        schema.add_field("lang", DataType.VARCHAR, max_length=16)
        given = {name: value for name, value in settings.items() if name != "index_type"}
        indexes = client.prepare_index_params()
        indexes.add_index("vector", index_type=settings["index_type"], metric_type="IP", params=given)
        client.create_collection(COLLECTION, schema=schema)
        for start in range(0, len(rows), INSERT_ROWS):
            block = rows.vectors[start : start + INSERT_ROWS].astype(np.float32)
            stop = start + len(block)
            fields = zip(
                range(start, stop), block, rows.year[start:stop].tolist(), rows.langs(start, stop), strict=True
            )
            names = ("id", "vector", "year", "lang")
            client.insert(COLLECTION, [dict(zip(names, values, strict=True)) for values in fields])
        client.flush(COLLECTION)
        client.create_index(COLLECTION, indexes)
        client.load_collection(COLLECTION)
        client.close()
        (folder / "kind").write_text(settings["index_type"], encoding="utf-8")
        return {}

    def open(self, folder: Path, rows: Rows) -> None:
        """Starts the server and loads the collection."""
        from pymilvus import MilvusClient

        self._kind = (folder / "kind").read_text(encoding="utf-8")
        self._client = MilvusClient(str(folder / "passages.db"))
        self._client.load_collection(COLLECTION)

    def efforts(self, filtered: bool) -> list[Settings]:
        """Lists that are searched, or ``ef`` of the graph."""
        if self._kind.startswith("IVF"):
            return steps("nprobe", 4, 1_024)
        return steps("ef", 10, 20_000 if filtered else 1_000)

    def search(self, queries: NDArray[np.float32], k: int, effort: Settings, only: Filter | None) -> NDArray[np.int64]:
        """``MilvusClient.search``."""
        expression = ""
        if only is not None:
            value = f'"{only.value}"' if isinstance(only.value, str) else only.value
            expression = f"{only.field} {'==' if only.sign == '=' else only.sign} {value}"
        asked = {"metric_type": "IP", "params": dict(effort)}
        found = self._client.search(COLLECTION, queries.tolist(), filter=expression, limit=k, search_params=asked)
        return padded([[hit["id"] for hit in hits] for hits in found], k)
