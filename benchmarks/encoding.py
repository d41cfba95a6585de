"""Passages a second and one-query latency of the built-in encoder beside sentence-transformers with the same weights.

Both sides encode the same MLQA contexts, in turn, several times; the ratio is taken within each round, because the
speed of a shared machine drifts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from record import write_result
from sentence_transformers import SentenceTransformer

from xsearch.encoder.builtin import BuiltinEncoder
from xsearch.evaluation.tasks import load_mlqa

LANGUAGES = ("ar", "de", "en", "es", "hi", "vi", "zh")
BATCH_SIZES = (8, 16, 32, 64)


def main() -> None:
    """Times both sides and writes the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--passages", type=int, default=700)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    passages, queries = _texts(arguments.data, arguments.passages)
    mini = BuiltinEncoder()
    reference = SentenceTransformer(
        str(arguments.weights), device="cpu", model_kwargs={"dtype": torch.float32}, local_files_only=True
    )
    reference.max_seq_length = mini.max_tokens

    def torch_passages(size: int) -> Callable[[], object]:
        return lambda: reference.encode(passages, batch_size=size, show_progress_bar=False)

    # The reference at its best: the batch size that is fastest here, found first.
    best = min(BATCH_SIZES, key=lambda size: min(_seconds(torch_passages(size)) for _ in range(2)))
    mini.encode_passages(passages[:64])
    rounds = [
        (_seconds(lambda: mini.encode_passages(passages)), _seconds(torch_passages(best)))
        for _ in range(arguments.rounds)
    ]
    ours = [len(passages) / mine for mine, _ in rounds]
    theirs = [len(passages) / other for _, other in rounds]
    ratios = [other / mine for mine, other in rounds]
    latency = [_seconds(lambda query=query: mini.encode_queries([query])) * 1000 for query in queries]
    torch_latency = [
        _seconds(lambda query=query: reference.encode([query], show_progress_bar=False)) * 1000 for query in queries
    ]
    numbers = {
        "passages": len(passages),
        "rounds": arguments.rounds,
        "reference_batch_size": best,
        "builtin_passages_per_s": _spread(ours),
        "torch_passages_per_s": _spread(theirs),
        "ratio": _spread(ratios),
        "builtin_query_ms": _spread(latency),
        "torch_query_ms": _spread(torch_latency),
    }
    for name, value in numbers.items():
        print(f"{name:<24} {value}")
    print(write_result("encoding", numbers, arguments.output))


def _texts(data: Path, count: int) -> tuple[list[str], list[str]]:
    """Contexts and questions of all languages in equal parts."""
    task = load_mlqa(data)
    passages: list[str] = []
    queries: list[str] = []
    for subset in task.subsets:
        if subset.doc_lang == subset.query_lang:
            passages.extend(subset.documents[: count // len(LANGUAGES)])
            queries.extend(subset.queries[:20])
    return passages, queries


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "min": round(min(values), 3),
        "median": round(statistics.median(values), 3),
        "max": round(max(values), 3),
    }


if __name__ == "__main__":
    main()
