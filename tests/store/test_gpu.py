"""Search on a GPU, with a FAISS whose GPU indexes are CPU ones: what the device is asked, and what is left to the CPU.

No GPU has run this code here; ``benchmarks/gpu.py`` is for a machine that has one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest

from tests.fakes import FakeEncoder
from xsearch.encoder.protocol import unit_vectors
from xsearch.errors import InvalidArgumentError
from xsearch.index import Index
from xsearch.records import Document
from xsearch.store import gpu, searcher
from xsearch.store.exact import ExactPart
from xsearch.store.gpu import Gpu, GpuKind, GpuPart, open_gpu
from xsearch.store.selection import Selection
from xsearch.store.vectors import Found, RawVectors, consecutive, write_segment

ROWS, DIM = 3000, 16
VECTORS = unit_vectors(np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32))
QUERIES = unit_vectors(np.random.default_rng(1).normal(size=(20, DIM)).astype(np.float32))
CALLS: list[tuple[int, int]] = []


class OnDevice:
    """A CPU index behind the constructor of a GPU one; refuses what a GPU refuses, and notes how often it is asked."""

    def __init__(self, made: Any) -> None:
        self._made = made
        self._busy = False

    def search(self, queries: np.ndarray, k: int, params: Any = None) -> tuple[np.ndarray, np.ndarray]:
        assert k <= 2048, "a GPU gives no more"
        assert getattr(params, "sel", None) is None, "a GPU has no selectors"
        assert not self._busy, "two threads at once"
        self._busy = True
        CALLS.append((len(queries), k))
        found = self._made.search(queries, k, params=params)
        self._busy = False
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def flat(_resources: Any, dim: int, metric: int, config: Any) -> OnDevice:
        assert config.useFloat16
        return OnDevice(faiss.IndexFlat(dim, metric))

    def ivf(_resources: Any, dim: int, lists: int, metric: int, _config: Any) -> OnDevice:
        return OnDevice(faiss.IndexIVFFlat(faiss.IndexFlat(dim, metric), dim, lists, metric))

    for name, value in {
        "StandardGpuResources": SimpleNamespace,
        "GpuIndexFlatConfig": SimpleNamespace,
        "GpuIndexIVFFlatConfig": SimpleNamespace,
        "GpuIndexFlat": flat,
        "GpuIndexIVFFlat": ivf,
        "get_num_gpus": lambda: 2,
    }.items():
        monkeypatch.setattr(faiss, name, value, raising=False)
    CALLS.clear()
    yield


@pytest.fixture
def part(tmp_path: Path) -> ExactPart:
    segment = write_segment(tmp_path, 1, consecutive(1), VECTORS.shape, [VECTORS])
    return ExactPart.read([RawVectors(tmp_path, segment)], DIM)


def best(rows: np.ndarray | Found, query: np.ndarray, k: int) -> list[int]:
    if isinstance(rows, Found):
        return rows.rows[:k].tolist()
    scores = VECTORS.astype(np.float16).astype(np.float32)[rows] @ query
    return rows[np.argsort(-scores)[:k]].tolist()


class TestOpen:
    def test_the_cpu_needs_none(self, device: None) -> None:
        assert open_gpu("cpu") is None
        assert open_gpu("mps") is None

    def test_a_number(self, device: None) -> None:
        found = open_gpu("cuda:1"), open_gpu("cuda")
        assert [one.number for one in found if one is not None] == [1, 0]

    def test_no_such_gpu(self, device: None) -> None:
        with pytest.raises(InvalidArgumentError, match=r"cuda:2.*2 GPUs.*cuda:1 or less"):
            open_gpu("cuda:2")

    def test_a_faiss_without_gpus_says_so_in_one_line(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            assert open_gpu("cuda") is None
        [record] = caplog.records
        assert "on the CPU" in record.message
        assert "xsearch[gpu]" in record.message
        assert "\n" not in record.message

    def test_a_machine_without_gpus_says_so(
        self, device: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
        assert open_gpu("cuda") is None
        assert "finds no GPU" in caplog.text

    def test_cagra_without_cuvs(self, device: None) -> None:
        with pytest.raises(InvalidArgumentError, match="no CAGRA"):
            Gpu(0, GpuKind.CAGRA)


class TestSearch:
    @pytest.mark.parametrize("kind", [GpuKind.FLAT, GpuKind.IVF])
    def test_finds_the_best(
        self, device: None, part: ExactPart, kind: GpuKind, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gpu, "PROBED_SHARE", 1)
        found = GpuPart(part, Gpu(0, kind)).search(QUERIES, 10, Selection(ROWS, None))
        everything = np.arange(ROWS)
        for rows, query in zip(found, QUERIES, strict=True):
            assert best(rows, query, 10) == best(everything, query, 10)
        assert CALLS == [(20, 42)]

    def test_deleted_rows_are_passed_over(self, device: None, part: ExactPart) -> None:
        mask = np.random.default_rng(3).random(ROWS) < 0.7
        found = GpuPart(part, Gpu(0)).search(QUERIES, 10, Selection(ROWS, mask))
        live = np.flatnonzero(mask)
        for rows, query in zip(found, QUERIES, strict=True):
            assert mask[rows.rows].all()
            assert best(rows, query, 10) == best(live, query, 10)
        assert len(CALLS) == 1

    def test_a_query_whose_neighbours_are_all_deleted_goes_to_the_cpu(self, device: None, part: ExactPart) -> None:
        mask = np.ones(ROWS, dtype=bool)
        mask[np.argsort(-(VECTORS @ QUERIES[4]))[:1000]] = False
        found = GpuPart(part, Gpu(0)).search(QUERIES, 10, Selection(ROWS, mask))
        assert best(found[4], QUERIES[4], 10) == best(np.flatnonzero(mask), QUERIES[4], 10)

    def test_narrow_filters_and_many_answers_are_the_cpus(self, device: None, part: ExactPart) -> None:
        on_device = GpuPart(part, Gpu(0))
        mask = np.arange(ROWS) % 10 == 0
        [rows] = on_device.search(QUERIES[:1], 10, Selection(ROWS, mask))
        assert best(rows, QUERIES[0], 10) == best(np.flatnonzero(mask), QUERIES[0], 10)
        [rows] = on_device.search(QUERIES[:1], 2500, Selection(ROWS, None))
        assert len(rows.rows) == 2500
        assert CALLS == []

    def test_threads_take_turns(self, device: None, part: ExactPart) -> None:
        on_device = GpuPart(part, Gpu(0))
        wrong: list[int] = []

        def search(place: int) -> None:
            for _ in range(20):
                [rows] = on_device.search(QUERIES[place : place + 1], 5, Selection(ROWS, None))
                if best(rows, QUERIES[place], 5) != best(np.arange(ROWS), QUERIES[place], 5):
                    wrong.append(place)

        threads = [Thread(target=search, args=(place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(CALLS) == 80


class TestIndex:
    def test_an_index_on_a_gpu_answers_as_on_the_cpu(
        self, device: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(searcher, "GPU_ROWS", 100)
        documents = [Document(f"d{number}", f"word{number} text", lang="en") for number in range(300)]
        with Index.create(tmp_path / "one", encoder=FakeEncoder()) as index:
            index.add(documents)
            expected = index.search("word7 text", k=20)
            index.delete(["d7"])
            fewer = index.search("word7 text", k=20)
        with Index.open(tmp_path / "one", encoder=FakeEncoder(), device="cuda") as index:
            assert index.search("word7 text", k=20) == fewer
            index.add([documents[7]])
            assert [hit.doc_id for hit in index.search("word7 text", k=20)] == [hit.doc_id for hit in expected]
        assert len(CALLS) == 2

    def test_without_a_gpu_the_index_stays_on_the_cpu(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with Index.create(tmp_path / "one", encoder=FakeEncoder(), device="cuda") as index:
            index.add([Document("d1", "some words", lang="en")])
            for _ in range(3):
                assert index.search("words")[0].doc_id == "d1"
        assert caplog.text.count("on the CPU") == 1
