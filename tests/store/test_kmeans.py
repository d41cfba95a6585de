"""Lists: their centres, what goes into them, and that filling them so changes nothing in what FAISS builds."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from tests.store.segments import clustered_vectors, random_vectors
from xsearch.store import kmeans
from xsearch.store.kinds import fill, make, train
from xsearch.store.kmeans import ivf_of_centres, nearest_lists, spherical_kmeans
from xsearch.store.tuning import HeldVectors


def test_two_groups() -> None:
    angles = np.array([0.1, -0.1, 0.2, -0.2, 1.6, 1.5, 1.7, 1.4])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    centres = spherical_kmeans(vectors, 2)
    found = np.sort(np.arctan2(centres[:, 1], centres[:, 0]))
    np.testing.assert_allclose(found, [0.0, 1.55], atol=1e-5)
    lists = nearest_lists(vectors, centres)
    assert len(set(lists[:4].tolist())) == len(set(lists[4:].tolist())) == 1
    assert lists[0] != lists[4]


def test_as_near_as_faiss_finds_them() -> None:
    vectors = clustered_vectors(3000, dim=32)
    ours = spherical_kmeans(vectors, 50)
    theirs = faiss.Kmeans(32, 50, niter=8, spherical=True, min_points_per_centroid=1)
    theirs.train(vectors)
    near, near_theirs = ((vectors @ centres.T).max(axis=1).mean() for centres in (ours, theirs.centroids))
    assert near >= near_theirs - 0.01
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(ours, spherical_kmeans(vectors, 50))


def test_a_centre_without_vectors_takes_half_of_the_largest_group() -> None:
    centres = random_vectors(3)
    before, counts = centres.copy(), np.array([11, 0, 4])
    kmeans._split_largest(centres, counts, np.random.default_rng(0))
    assert counts.tolist() == [6, 5, 4]
    np.testing.assert_array_equal(centres[2], before[2])
    np.testing.assert_allclose(centres[[0, 1]], before[[0, 0]], rtol=2 / 1024)
    assert (centres[0] != centres[1]).all()


def test_equal_vectors_in_more_lists_than_there_are_different_ones() -> None:
    vectors = np.repeat(random_vectors(3), 20, axis=0)
    centres = spherical_kmeans(vectors, 10)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)
    assert len(np.unique(nearest_lists(vectors, centres))) == 3


def test_nearest_lists_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "BLOCK_ROWS", 7)
    vectors, centres = random_vectors(50), random_vectors(9, seed=1)
    assert nearest_lists(vectors, centres).tolist() == (vectors @ centres.T).argmax(axis=1).tolist()


@pytest.mark.parametrize(
    "factory", ["IVF16,PQ8x4fs", "IVF16,PQ16x4fsr", "IVF16,RaBitQfs", "IVF16,SQ8", "IVF16,Flat", "IVF16_HNSW8,SQ8"]
)
def test_filling_builds_what_faiss_builds(factory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last byte."""
    monkeypatch.setattr("xsearch.store.kinds.READ_ROWS", 500)
    vectors = clustered_vectors(1200, dim=32)
    source, made = HeldVectors(vectors), make(factory, 32)
    train(made, source, np.arange(1200))
    expected = faiss.clone_index(made)
    for start in range(0, 1200, 500):
        expected.add(vectors[start : start + 500])
    filled = fill(made, source)
    np.testing.assert_array_equal(faiss.serialize_index(filled), faiss.serialize_index(expected))
    del made
    assert filled.search(vectors[:3], 1)[1].shape == (3, 1)


@pytest.mark.parametrize("factory", ["HNSW8,SQ8", "PCA8,IVF4,SQ8", "IVF4_HNSW8,SQ8", "Flat", "SQ8"])
def test_kinds_without_such_centres(factory: str) -> None:
    assert ivf_of_centres(make(factory, 16)) is None
