"""txtai: an index of FAISS and a table of SQLite side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from store_engine import Filter, Rows, Settings, padded

NPROBES = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
# What look_up finds the vectors of; txtai knows it by name alone.
_VECTORS: list[NDArray[np.float16]] = []


def look_up(texts: list[str]) -> NDArray[np.float32]:
    """The vectors of rows, whose texts are their numbers: what txtai takes in place of a model."""
    return np.stack([_VECTORS[0][int(text)] for text in texts]).astype(np.float32)


class TxtAi:
    """txtai with its default backend, FAISS, and its default number of lists; filters are SQL over what is near.

    A search without a filter goes to its index alone, as if it held no texts; one with a filter through its database.
    """

    def __init__(self, threads: int) -> None:
        os.environ["ALLOW_RESOLVE_TRANSFORM"] = "True"
        self._embeddings: Any = None

    def builds(self, rows: int) -> list[Settings]:
        """Bytes and floats; trained on a sample of half of a million rows, as its guide advises for large indexes."""
        sample = min(1.0, 500_000 / rows)
        return [{"quantize": 8, "sample": sample}, {"sample": sample}]

    def build(self, folder: Path, rows: Rows, settings: Settings) -> Settings:
        """Indexes all rows and saves the index."""
        import faiss
        from txtai import Embeddings

        def documents() -> Iterator[tuple[int, dict[str, Any], None]]:
            for row, (year, lang) in enumerate(zip(rows.year.tolist(), rows.lang.tolist(), strict=True)):
                yield row, {"text": str(row), "year": year, "lang": rows.languages[lang]}, None

        _VECTORS[:] = [rows.vectors]
        embeddings = Embeddings(
            method="external", transform="engines.txt.look_up", content=True, backend="faiss", faiss=dict(settings)
        )
        embeddings.index(documents())
        embeddings.save(str(folder / "txtai"))
        embeddings.close()
        return {"faiss": faiss.__version__}

    def open(self, folder: Path, rows: Rows) -> None:
        """Loads the index."""
        from txtai import Embeddings

        _VECTORS[:] = [rows.vectors]
        self._embeddings = Embeddings()
        self._embeddings.load(str(folder / "txtai"))

    def efforts(self, filtered: bool) -> list[Settings]:
        """Lists that are searched; with a filter also how many rows it is asked for before the filter."""
        if not filtered:
            return [{"nprobe": some} for some in NPROBES]
        return [{"nprobe": some, "candidates": 40 * some} for some in NPROBES]

    def search(self, queries: NDArray[np.float32], k: int, effort: Settings, only: Filter | None) -> NDArray[np.int64]:
        """The index's ``search``, or with a filter ``batchsearch`` with SQL."""
        self._embeddings.ann.config["faiss"]["nprobe"] = effort["nprobe"]
        if only is None:
            return padded([[row for row, _ in found] for found in self._embeddings.ann.search(queries, k)], k)
        value = f"'{only.value}'" if isinstance(only.value, str) else only.value
        sql = f"select id from txtai where similar(:q, {effort['candidates']}) and {only.field} {only.sign} {value}"
        asked = [{"q": query} for query in queries]
        found = self._embeddings.batchsearch([sql] * len(queries), limit=k, parameters=asked)
        return padded([[int(hit["id"]) for hit in hits] for hits in found], k)
