"""Searching vectors on a GPU: xsearch's GPU kinds beside its CPU search and beside torch's own exact top-k, in one run.

    python benchmarks/gpu.py --vectors vectors.npy --queries queries.npy --rows 1000000

Needs a GPU, faiss-gpu and torch with CUDA; without them it says what is missing and ends with exit code 1. Vectors are
float16 rows of length 1 (``store.py`` makes them). Each kind is filled from the same rows, searched in batches of
``--batch`` and one by one, in rounds that take turns; recall is against torch's exact answer in float32.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import write_result

from xsearch.store.gpu import Gpu, GpuKind, GpuPart
from xsearch.store.selection import Selection
from xsearch.store.tuning import Wanted, build
from xsearch.store.vectors import RawVectors, consecutive, write_segment

Search = Callable[[NDArray[np.float32]], list[NDArray[np.int64]]]
K = 10
WARM_UP = 3


def torch_search(vectors: NDArray[np.float16], device: str) -> Search:
    """Exact top-k by one matrix product in float16, as torch users write it."""
    import torch

    rows = torch.from_numpy(np.ascontiguousarray(vectors)).to(device)

    def search(queries: NDArray[np.float32]) -> list[NDArray[np.int64]]:
        scores = torch.from_numpy(queries).to(device, torch.float16) @ rows.T
        return list(scores.topk(K).indices.cpu().numpy())

    return search


def exact(vectors: NDArray[np.float16], queries: NDArray[np.float32], device: str) -> NDArray[np.int64]:
    """The true neighbours, ``(n, 10)``, by float32 products a block of rows at a time."""
    import torch

    best = torch.full((len(queries), K), -2.0, device=device)
    ids = torch.zeros((len(queries), K), dtype=torch.int64, device=device)
    asked = torch.from_numpy(queries).to(device)
    for start in range(0, len(vectors), 1 << 20):
        block = torch.from_numpy(np.ascontiguousarray(vectors[start : start + (1 << 20)])).to(device).float()
        scores, found = (asked @ block.T).topk(K)
        best, places = torch.cat([best, scores], dim=1).topk(K)
        ids = torch.cat([ids, found + start], dim=1).gather(1, places)
    found_ids: NDArray[np.int64] = ids.cpu().numpy()
    return found_ids


def part_search(part: Any) -> Search:
    """The search of a part of an index."""
    everything = Selection(part.rows, None)

    def search(queries: NDArray[np.float32]) -> list[NDArray[np.int64]]:
        return [found.rows for found in part.search(queries, K, everything)]

    return search


def recall(found: list[NDArray[np.int64]], truth: NDArray[np.int64]) -> float:
    """Share of the true ten that were found."""
    return float(np.mean([len(set(one) & set(true)) / K for one, true in zip(found, truth, strict=True)]))


def measured(
    searches: dict[str, Search], queries: NDArray[np.float32], *, batch: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Queries a second in batches, and the median and the 99th percentile of single ones in ms, all taking turns."""
    batches: dict[str, list[float]] = {name: [] for name in searches}
    singles: dict[str, list[float]] = {name: [] for name in searches}
    for search in searches.values():
        for _ in range(WARM_UP):
            search(queries[:batch])
            search(queries[:1])
    for _ in range(rounds):
        for name, search in searches.items():
            for start in range(0, len(queries) - batch + 1, batch):
                began = time.perf_counter()
                search(queries[start : start + batch])
                batches[name].append(batch / (time.perf_counter() - began))
            for place in range(min(100, len(queries))):
                began = time.perf_counter()
                search(queries[place : place + 1])
                singles[name].append(1_000 * (time.perf_counter() - began))
    return {
        name: {
            "queries_per_s": round(statistics.median(batches[name]), 1),
            "p50_ms": round(float(np.quantile(singles[name], 0.5)), 3),
            "p99_ms": round(float(np.quantile(singles[name], 0.99)), 3),
        }
        for name in searches
    }


def main() -> None:
    """Builds, searches and writes one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--rows", type=int, help="by default all")
    parser.add_argument("--work", type=Path, default=Path("runs/gpu"), help="where the index for the CPU goes")
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()

    import faiss
    import torch

    if not torch.cuda.is_available() or not hasattr(faiss, "StandardGpuResources"):
        sys.exit("A GPU is needed, with torch for CUDA and faiss-gpu; nothing was measured.")
    vectors = np.load(arguments.vectors, mmap_mode="r")[: arguments.rows]
    queries = np.load(arguments.queries).astype(np.float32)
    device = f"cuda:{arguments.device}"
    truth = exact(vectors, queries, device)

    arguments.work.mkdir(parents=True, exist_ok=True)
    segment = write_segment(arguments.work, 1, consecutive(1), vectors.shape, [np.asarray(vectors)])
    raw = RawVectors(arguments.work, segment)
    began = time.perf_counter()
    built = build(raw, Wanted())
    from xsearch.store.ann import AnnPart

    cpu = AnnPart(raw, built.index, built.reach)
    seconds = {"cpu": time.perf_counter() - began}
    searches: dict[str, Search] = {"cpu": part_search(cpu), "torch": torch_search(vectors, device)}
    for kind in GpuKind:
        if kind is GpuKind.CAGRA and not hasattr(faiss, "GpuIndexCagra"):
            continue
        began = time.perf_counter()
        searches[f"gpu {kind}"] = part_search(GpuPart(cpu, Gpu(arguments.device, kind)))
        seconds[f"gpu {kind}"] = time.perf_counter() - began
    found = measured(searches, queries, batch=arguments.batch, rounds=arguments.rounds)
    for name, search in searches.items():
        found[name]["recall"] = round(recall(search(queries), truth), 4)
        found[name]["build_s"] = round(seconds.get(name, 0.0), 1)
    numbers = {
        "device": torch.cuda.get_device_name(arguments.device),
        "rows": len(vectors),
        "dim": vectors.shape[1],
        "batch": arguments.batch,
        "searches": found,
    }
    print(write_result("gpu", numbers, arguments.output))


if __name__ == "__main__":
    main()
