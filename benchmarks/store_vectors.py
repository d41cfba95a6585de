"""The vectors of ``store.py``: encoded real text, enlarged by perturbation to any number of rows.

A row is made from two real vectors of the base, x_i and x_j, both drawn at random:

    row = unit(x_i + SPREAD * (x_j - c_j))

c_j is the centroid of the k-means cluster (of ``CLUSTERS``) that x_j lies in, so what is added is how a real text
differs from its like. Rows lie around real texts, and what sets them apart has the covariance that real texts have;
uniform noise has neither. Block b of rows is drawn with the seed (SEED, b): a smaller set is the beginning of a larger
one. :func:`compare` measures how far the enlarged set is from the real one of the same size. With the 20,200 texts of
``store_texts.py``, SPREAD was taken so that both have the same intrinsic dimension (maximum likelihood: 15.0 and 15.5)
and an IVF finds about as much in both (recall 0.87 and 0.85: the enlarged set is the harder one). What differs: rows
from one x_i are nearer to each other (cosine to the nearest 0.76 in the median, in the real set 0.68), and queries,
which are real and of no x_i, find nothing quite as near as in the real set (0.56 and 0.63).

Each row has the language of x_i, a year that is drawn evenly out of ``YEARS``, and a text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from store_engine import ROWS_FILE, VECTORS_FILE, Filter, load_rows
from store_texts import BASE_FILE, LONGEST, QUERY_VECTORS_FILE, SEED, TEXTS_FILE, Text, load_texts

SPREAD = 0.7
CLUSTERS = 512
BLOCK_ROWS = 65_536
YEARS = (1925, 2025)
K = 10
CENTROIDS_FILE = "centroids.npy"
# A tenth and a hundredth of the rows, whatever they are about; and a tenth that is a region of the space.
FILTERS = (Filter("year10", "year", ">=", 2015), Filter("year1", "year", "=", 2000), Filter("lang", "lang", "=", "en"))
NEAREST = 20
SHORTEST_TEXT = 300
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Base:
    """The real vectors, ``(n, dim) float32``, how each differs from its cluster's centroid, and their languages."""

    vectors: Vectors
    residuals: Vectors
    langs: tuple[str, ...]


def load_base(work: Path) -> Base:
    """The real vectors in the folder; their clusters are found at the first use and kept."""
    vectors = np.load(work / BASE_FILE).astype(np.float32)
    path = work / CENTROIDS_FILE
    if not path.is_file():
        np.save(path, _centroids(vectors))
    centroids = np.load(path)
    nearest = np.argmax(vectors @ centroids.T - 0.5 * (centroids**2).sum(axis=1), axis=1)
    return Base(vectors, vectors - centroids[nearest], tuple(text.lang for text in load_texts(work / TEXTS_FILE)))


def enlarge(work: Path, rows: int) -> None:
    """Writes so many rows and what is known of each, where they are not there yet; memory does not grow with them."""
    path = work / VECTORS_FILE.format(rows=rows)
    if path.is_file() and (work / ROWS_FILE.format(rows=rows)).is_file():
        return
    base = load_base(work)
    temporary = path.with_suffix(".tmp")
    drawn: list[tuple[NDArray[Any], ...]] = []
    with temporary.open("wb") as file:
        header: dict[str, Any] = {"descr": "<f2", "fortran_order": False, "shape": (rows, base.vectors.shape[1])}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, rows, BLOCK_ROWS):
            first, second, year = _draw(len(base.vectors), start // BLOCK_ROWS)
            count = min(BLOCK_ROWS, rows - start)
            file.write(perturbed(base, first[:count], second[:count]).astype(np.float16).tobytes())
            drawn.append((first[:count], second[:count], year[:count]))
    languages = sorted(set(base.langs))
    codes = np.array([languages.index(lang) for lang in base.langs], dtype=np.uint8)
    first, second, year = (np.concatenate(values) for values in zip(*drawn, strict=True))
    columns: dict[str, Any] = {
        "first": first,
        "second": second,
        "year": year,
        "lang": codes[first],
        "languages": np.array(languages),
    }
    with (work / ROWS_FILE.format(rows=rows)).open("wb") as file:
        np.savez(file, allow_pickle=False, **columns)
    temporary.replace(path)


def perturbed(base: Base, first: NDArray[np.int32], second: NDArray[np.int32], spread: float = SPREAD) -> Vectors:
    """``(n, dim) float32, rows L2-normalised``: real vectors, moved by how others differ from their like."""
    moved: Vectors = base.vectors[first] + np.float32(spread) * base.residuals[second]
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    return moved


def passages(work: Path, rows: int) -> Iterator[str]:
    """The text of each row, distinct, 300 to 500 characters: of what its vector was made from, and its number."""
    texts = [text.text for text in load_texts(work / TEXTS_FILE)]
    found = load_rows(work, rows)
    for number, (first, second) in enumerate(zip(found.first.tolist(), found.second.tolist(), strict=True)):
        text = f"{texts[first]} {texts[second]}"
        while len(text) < SHORTEST_TEXT:
            text = f"{text} {texts[second]}"
        yield f"{text[: LONGEST - 12]} ({number})"


def true_neighbours(work: Path, rows: int) -> Path:
    """The file with the ids of each query's ``K`` nearest rows, ``(queries, K) int64``: of all, and of each filter.

    Exact, over blocks of rows.
    """
    path = work / f"truth-{rows}.npz"
    if not path.is_file():
        queries = np.load(work / QUERY_VECTORS_FILE).astype(np.float32)
        vectors = np.load(work / VECTORS_FILE.format(rows=rows), mmap_mode="r")
        found = load_rows(work, rows)
        truth = {"all": exact(vectors, queries, K)}
        for some in FILTERS:
            truth[some.name] = exact(vectors, queries, K, np.flatnonzero(some.mask(found)))
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **truth)
    return path


def exact(
    vectors: NDArray[np.float16] | Vectors, queries: Vectors, k: int, ids: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """The ``k`` rows of greatest inner product, best first, among ``ids`` if given; -1 where there is none."""
    import faiss

    from xsearch.store.exact import GROUP_ROWS, nearest_by_product

    best = faiss.ResultHeap(len(queries), k, keep_max=True)
    count = len(vectors) if ids is None else len(ids)
    for start in range(0, count, BLOCK_ROWS):
        some = slice(start, start + BLOCK_ROWS)
        block = vectors[some] if ids is None else vectors[ids[some]]
        if len(block) >= k * GROUP_ROWS:
            # Five times as fast, where FAISS's own BLAS does not know the processor.
            scores, places = nearest_by_product(queries, block.astype(np.float32), k)
        else:
            scores, places = faiss.knn(
                queries, block.astype(np.float32), min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT
            )
        best.add_result(scores, (places + start if ids is None else ids[places + start]).astype(np.int64))
    best.finalize()
    found: NDArray[np.int64] = best.I
    return found


def compare(work: Path, spread: float = SPREAD) -> dict[str, Any]:
    """The enlarged set beside the real one of the same size: cosines of neighbours, intrinsic dimension, recall.

    Intrinsic dimension: the maximum-likelihood estimate of Levina and Bickel (2004) over the 20 nearest rows of a row,
    and TwoNN (Facco et al. 2017). Recall: recall@10 of the queries in an IVF of 256 lists of which 8 are searched.
    """
    base = load_base(work)
    queries = np.load(work / QUERY_VECTORS_FILE).astype(np.float32)
    first, second, _ = _draw(len(base.vectors), 0)
    size = min(len(base.vectors), BLOCK_ROWS)
    enlarged = perturbed(base, first[:size], second[:size], spread)
    sets = {"real": base.vectors[:size], "enlarged": enlarged}
    return {"rows": size, **{name: _describe(vectors, queries) for name, vectors in sets.items()}}


def _describe(vectors: Vectors, queries: Vectors) -> dict[str, Any]:
    import faiss

    chance = np.random.default_rng(SEED)
    sample = vectors[chance.choice(len(vectors), size=min(2_000, len(vectors)), replace=False)]
    to_rows = faiss.knn(sample, vectors, NEAREST + 1, metric=faiss.METRIC_INNER_PRODUCT)[0][:, 1:]
    to_queries, truth = faiss.knn(queries, vectors, K, metric=faiss.METRIC_INNER_PRODUCT)
    lists: Any = faiss.index_factory(vectors.shape[1], "IVF256,Flat", faiss.METRIC_INNER_PRODUCT)
    lists.train(vectors)
    lists.add(vectors)
    lists.nprobe = 8
    found = lists.search(queries, K)[1]
    return {
        "cosine_to_nearest_row": _percentiles(to_rows[:, 0]),
        "cosine_to_10th_row": _percentiles(to_rows[:, K - 1]),
        "cosine_query_to_nearest": _percentiles(to_queries[:, 0]),
        "cosine_query_to_10th": _percentiles(to_queries[:, K - 1]),
        **_intrinsic_dimension(to_rows),
        "ivf256_nprobe8_recall_at_10": float((found[:, :, None] == truth[:, None]).any(axis=2).mean()),
    }


def _percentiles(values: Vectors) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(values, q)), 4) for q in (5, 25, 50, 75, 95)}


def _intrinsic_dimension(cosines: Vectors) -> dict[str, float]:
    """From the cosines of rows to their nearest others; rows that have an exact double are left out."""
    distances = np.sqrt(np.maximum(2 - 2 * cosines.astype(np.float64), 0))
    distances = distances[distances[:, 0] > 1e-3]
    logs = np.log(distances[:, -1:] / distances[:, :-1])
    ratios = np.log(distances[:, 1] / distances[:, 0])
    # The harmonic mean over the rows, of MacKay and Ghahramani (2005).
    return {"dimension_mle": float(1 / logs.mean()), "dimension_two_nn": float(1 / ratios.mean())}


def _draw(base: int, block: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int16]]:
    """What the rows of a block are made from, and their years."""
    chance = np.random.default_rng([SEED, block])
    first, second = chance.integers(base, size=(2, BLOCK_ROWS), dtype=np.int32)
    return first, second, chance.integers(*YEARS, size=BLOCK_ROWS, dtype=np.int16)


def _centroids(vectors: Vectors) -> Vectors:
    import faiss

    clusters = min(CLUSTERS, max(1, len(vectors) // 8))
    means: Any = faiss.Kmeans(vectors.shape[1], clusters, niter=20, seed=SEED, min_points_per_centroid=1)
    means.train(vectors)
    centroids: Vectors = means.centroids
    return centroids


def describe_texts(texts: list[Text]) -> dict[str, Any]:
    """How many texts there are, in how many languages, of what length."""
    return {
        "texts": len(texts),
        "languages": len({text.lang for text in texts}),
        "characters_a_text": round(sum(len(text.text) for text in texts) / len(texts), 1),
    }
