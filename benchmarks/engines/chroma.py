"""Chroma: a collection in a folder, a graph of its vectors, and metadata in SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from store_engine import Filter, Rows, Settings, padded, steps

COLLECTION = "passages"
SIGNS = {"=": "$eq", ">=": "$gte"}
GRAPHS = ((8, 60), (12, 80), (16, 100), (16, 200))


class Chroma:
    """Chroma's ``PersistentClient`` with vectors given."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._folder = Path()
        self._client: Any = None
        self._collection: Any = None
        self._effort = 0

    def builds(self, rows: int) -> list[Settings]:
        """Graphs from cheap to thorough."""
        return [{"max_neighbors": links, "ef_construction": effort} for links, effort in GRAPHS]

    def build(self, folder: Path, rows: Rows, settings: Settings) -> Settings:
        """Adds all rows, in the largest batches that the client takes."""
        client = _client(folder)
        graph = {"space": "ip", "num_threads": self._threads, "batch_size": 5_000, "sync_threshold": 50_000, **settings}
        collection = client.create_collection(COLLECTION, configuration={"hnsw": graph}, embedding_function=None)
        size = client.get_max_batch_size()
        for start in range(0, len(rows), size):
            block = rows.vectors[start : start + size].astype(np.float32)
            stop = start + len(block)
            years, langs = rows.year[start:stop].tolist(), rows.langs(start, stop)
            collection.add(
                ids=[str(number) for number in range(start, stop)],
                embeddings=block,
                metadatas=[{"year": year, "lang": lang} for year, lang in zip(years, langs, strict=True)],
            )
        return {"max_batch_size": size}

    def open(self, folder: Path, rows: Rows) -> None:
        """Opens the collection, and asks for one row, at which the graph is loaded."""
        self._folder = folder
        self._client = _client(folder)
        self._collection = self._client.get_collection(COLLECTION, embedding_function=None)
        self._collection.query(query_embeddings=rows.vectors[:1].astype(np.float32), n_results=1, include=[])

    def efforts(self, filtered: bool) -> list[Settings]:
        """``ef_search``."""
        return steps("ef_search", 10, 20_000 if filtered else 1_000)

    def search(self, queries: NDArray[np.float32], k: int, effort: Settings, only: Filter | None) -> NDArray[np.int64]:
        """``Collection.query``; a loaded graph keeps its ``ef_search``, so for another one the client is made anew."""
        if effort["ef_search"] != self._effort:
            self._effort = effort["ef_search"]
            self._collection.modify(configuration={"hnsw": {"ef_search": self._effort}})
            self._client.close()
            self._client = _client(self._folder)
            self._collection = self._client.get_collection(COLLECTION, embedding_function=None)
        where = None if only is None else {only.field: {SIGNS[only.sign]: only.value}}
        found = self._collection.query(query_embeddings=queries, n_results=k, where=where, include=[])
        return padded([[int(name) for name in names] for names in found["ids"]], k)


def _client(folder: Path) -> Any:
    import chromadb

    return chromadb.PersistentClient(str(folder), settings=chromadb.Settings(anonymized_telemetry=False))
