"""Kinds of FAISS indexes: which are tried, which are refused, and what an index is trained on."""

from __future__ import annotations

import re

import faiss
import numpy as np
import pytest

from tests.store.segments import random_vectors
from xsearch.errors import InvalidArgumentError
from xsearch.store import kinds
from xsearch.store.ann import search_parameters
from xsearch.store.kinds import (
    check_selectors,
    fill,
    likely_factories,
    lists_for,
    make,
    some_rows,
    train,
    training_rows,
)
from xsearch.store.tuning import HeldVectors

DIM = 16


@pytest.mark.parametrize(
    ("rows", "lists"),
    [
        (0, 4),
        (1, 4),
        (50_000, 256),
        (65_536, 256),
        (131_073, 512),
        (1_000_000, 1024),
        (10_000_000, 4096),
        (2**40, 65_536),
    ],
)
def test_lists(rows: int, lists: int) -> None:
    assert lists_for(rows) == lists


@pytest.mark.parametrize("dim", [384, 768, 6, 7, 1])
def test_the_likely_ones_can_be_made(dim: int) -> None:
    for group in likely_factories(1_000_000, dim):
        for factory in group:
            assert make(factory, dim).d == dim


def test_the_likely_ones() -> None:
    assert likely_factories(1_000_000, 384) == [
        ["IVF1024,PQ96x4fs", "IVF1024,PQ192x4fs"],
        ["IVF1024,RaBitQfs", "IVF1024,SQ8"],
    ]
    # Not divisible by four, nor by two.
    assert likely_factories(1_000_000, 7)[0] == []


@pytest.mark.parametrize(
    "factory",
    ["IVF16,PQ4x4fs", "IVF16,RaBitQfs", "IVF16,SQ8", "HNSW16,SQ8", "HNSW16", "Flat", "SQfp16", "OPQ4,IVF16,PQ4x4fs",
     "PCA8,HNSW16,SQ8", "IVF16_HNSW8,Flat"],
)  # fmt: skip
def test_inner_products_always(factory: str) -> None:
    """Left to itself FAISS takes distances for some kinds."""
    made = make(factory, DIM)
    assert made.metric_type == faiss.METRIC_INNER_PRODUCT
    inner = faiss.downcast_index(made)
    if isinstance(inner, faiss.IndexPreTransform):
        assert faiss.downcast_index(inner.index).metric_type == faiss.METRIC_INNER_PRODUCT


@pytest.mark.parametrize(
    ("factory", "why"),
    [
        ("x", "could not parse index string x"),
        ("IVF", "could not parse index string IVF"),
        ("IVF-1,Flat", "could not parse"),
        ("IVF99999999999999999999,Flat", "stoi"),
        ("IVF16,PQ5", "should be a multiple of the number of subquantizers"),
        ("IVF16,PQ8x99", "nbits larger than 24"),
        ("IMI2x3,PQ4", "not implemented for inner prod"),
        ("", "it is empty"),
        ("IVF16, SQ8", "more than ASCII's letters, digits and signs"),
        ("Flat\0junk", "more than ASCII's"),
        ("Flat\ud800", "more than ASCII's"),
        ("Flät", "more than ASCII's"),
    ],
)
def test_what_cannot_be_read(factory: str, why: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        make(factory, DIM)
    assert f"The factory string {factory!r} cannot be read: " in caught.value.given
    assert why in caught.value.given
    assert "/project/faiss" not in caught.value.given
    assert "16 dimensions" in caught.value.expected
    assert "--factory" in caught.value.remedy


@pytest.mark.parametrize(
    "factory",
    ["HNSW0", "HNSW1,SQ8", "HNSW00,SQ8", "IVF16_HNSW1,SQ8", "IVF16(HNSW0),SQ8", "NSG0,Flat", "IVF16,PQ8x0",
     "IVF16,RQ2x0", "OPQ4_0,IVF16,PQ4x4fs"],
)  # fmt: skip
def test_what_would_end_the_process(factory: str) -> None:
    """FAISS makes an index of each of these, and divides by zero or aborts when vectors come."""
    with pytest.raises(InvalidArgumentError, match=f"{re.escape(repr(factory))} cannot be read: a graph has at least"):
        make(factory, DIM)


@pytest.mark.parametrize("factory", ["HNSW10", "HNSW100,SQ8", "IVF10_HNSW12,SQ8", "IVF16,PQ4x10", "OPQ4_10,Flat"])
def test_what_only_looks_like_it(factory: str) -> None:
    assert make(factory, 20).d == 20


@pytest.mark.parametrize(
    ("factory", "kind"),
    [
        ("IVF16,PQ4x4fs,RFlat", "IndexRefineFlat"),
        ("IVF16,PQ4x4fs,Refine(SQ8)", "IndexRefine"),
        ("IDMap,Flat", "IndexIDMap"),
        ("PQ4", "IndexPQ"),
        ("PQ4x4fs", "IndexPQFastScan"),
        ("NSG16,Flat", "IndexNSGFlat"),
        ("RaBitQfs", "IndexRaBitQFastScan"),
        ("IVF16,RQ2x4", "IndexIVFResidualQuantizer"),
    ],
)
def test_what_cannot_be_filtered(factory: str, kind: str) -> None:
    """Refused when it is named, not after an hour of building."""
    with pytest.raises(InvalidArgumentError, match=f"{re.escape(repr(factory))} cannot be used: .* {kind} "):
        make(factory, DIM)


class NoSelectors:
    """An index that takes selectors and pays them no heed."""

    ntotal, d = 10, 4

    @staticmethod
    def search(queries: np.ndarray, k: int, *, params: object) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((1, k)), np.array([[1, 0]])


def test_a_filter_that_does_not_filter_is_found_out() -> None:
    with pytest.raises(InvalidArgumentError, match="'X' cannot be used: a filtered search found what the filter"):
        check_selectors(NoSelectors(), lambda effort, selector: None, "X")


@pytest.mark.parametrize("factory", ["IVF0,Flat", "IVF3000,SQ8", "IVF16,PQ4x13"])
def test_what_cannot_be_built_of_so_few(factory: str) -> None:
    source = HeldVectors(random_vectors(200))
    made = make(factory, DIM)
    with pytest.raises(InvalidArgumentError, match=r"FAISS cannot build this index: .*|cannot be used: ") as caught:
        train(made, source, np.arange(200))
        made = fill(made, source)
        check_selectors(made, search_parameters(made), factory)
    assert "--factory" in caught.value.remedy


def test_more_memory_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def allocate(*_arguments: object) -> None:
        raise MemoryError("std::bad_alloc")

    monkeypatch.setattr(faiss, "index_factory", allocate)
    with pytest.raises(InvalidArgumentError, match=r"'IVF1000000000,Flat' cannot be read: std::bad_alloc"):
        make("IVF1000000000,Flat", DIM)


def test_some_rows() -> None:
    some = some_rows(1000, 100, seed=1)
    assert some.dtype == np.int64
    assert len(set(some.tolist())) == 100
    assert some.tolist() == sorted(some.tolist())
    assert some.tolist() == some_rows(1000, 100, seed=1).tolist()
    assert some.tolist() != some_rows(1000, 100, seed=2).tolist()
    assert some_rows(5, 100, seed=1).tolist() == [0, 1, 2, 3, 4]


def test_what_is_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "TRAINING_VECTORS", 100)
    assert len(training_rows(make("HNSW16,SQ8", DIM), 1000)) == 100
    assert len(training_rows(make("IVF4,SQ8", DIM), 1000)) == 256
    assert len(training_rows(make("OPQ4,IVF4,PQ4x4fs", DIM), 1000)) == 256
    assert training_rows(make("IVF4,SQ8", DIM), 50).tolist() == list(range(50))


def test_rows_are_added_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "READ_ROWS", 64)
    vectors = random_vectors(200)
    made, told = make("Flat", DIM), []
    train(made, HeldVectors(vectors), np.arange(10))
    fill(made, HeldVectors(vectors), on_rows=told.append)
    assert told == [64, 64, 64, 8]
    np.testing.assert_array_equal(made.reconstruct_n(0, 200), vectors)
