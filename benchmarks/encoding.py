"""Passages a second and the time that one query takes; beside sentence-transformers, where the same weights are given.

Both sides encode the same MLQA contexts, in turn, several times; the ratio is taken within each round, because the
speed of a shared machine drifts. Passages a second mean little without their length, so tokens stand beside them. One
query at a time: 500 questions and 500 sentences, in equal parts of the seven languages.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from record import write_result

from xsearch.encoder.load import load_encoder
from xsearch.encoder.protocol import Encoder
from xsearch.evaluation.tasks import load_mlqa
from xsearch.text.passages import sentence_spans

BATCH_SIZES = (8, 16, 32, 64)
WARM_UP = 64


@dataclass(frozen=True, slots=True)
class Texts:
    """What is encoded, in equal parts of each language."""

    passages: list[str]
    questions: list[str]
    sentences: list[str]


def main() -> None:
    """Times the encoder, and the reference where there is one, and writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="MLQA_V1.zip, or its dev part")
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument(
        "--weights", type=Path, help="sentence-transformers folder of the same weights, to compare with"
    )
    parser.add_argument("--passages", type=int, default=700)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    texts = read_texts(arguments.data, passages=arguments.passages, queries=arguments.queries)
    encoder = load_encoder(arguments.encoder)
    reference = Reference(arguments.weights, encoder, texts.passages) if arguments.weights else None
    encoder.encode_passages(texts.passages[:WARM_UP])
    rounds: list[tuple[float, float]] = []
    for _ in range(arguments.rounds):
        mine = _seconds(lambda: encoder.encode_passages(texts.passages))
        rounds.append((mine, _seconds(lambda: reference.encode(texts.passages)) if reference else 0.0))
    numbers = {
        "encoder": encoder.fingerprint.name,
        **passage_numbers(rounds, passages=len(texts.passages), tokens=count_tokens(encoder, texts.passages)),
        "builtin_query_ms": _one_by_one(lambda query: encoder.encode_queries([query]), texts.questions),
        "builtin_sentence_ms": _one_by_one(lambda query: encoder.encode_queries([query]), texts.sentences),
    }
    if reference:
        numbers |= {
            "reference_batch_size": reference.batch_size,
            "torch_query_ms": _one_by_one(lambda query: reference.encode([query]), texts.questions),
            "torch_sentence_ms": _one_by_one(lambda query: reference.encode([query]), texts.sentences),
        }
    for name, value in numbers.items():
        print(f"{name:<24} {value}")
    print(write_result("encoding", numbers, arguments.output))


class Reference:
    """sentence-transformers in float32, at its best: the batch size that is fastest here, found first."""

    def __init__(self, weights: Path, encoder: Encoder, passages: Sequence[str]) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self._model = SentenceTransformer(
            str(weights), device="cpu", model_kwargs={"dtype": torch.float32}, local_files_only=True
        )
        self._model.max_seq_length = encoder.max_tokens
        self.batch_size = min(
            BATCH_SIZES,
            key=lambda size: min(_seconds(lambda: self._encode(passages, size)) for _ in range(2)),
        )

    def encode(self, texts: Sequence[str]) -> object:
        """Vectors, which nobody looks at."""
        return self._encode(texts, self.batch_size)

    def _encode(self, texts: Sequence[str], batch_size: int) -> object:
        return self._model.encode(list(texts), batch_size=batch_size, show_progress_bar=False)


def passage_numbers(rounds: Sequence[tuple[float, float]], *, passages: int, tokens: int) -> dict[str, Any]:
    """Rates from the seconds that each round took: ours, and the reference's, which is 0 where there is none."""
    ours = [mine for mine, _ in rounds]
    numbers: dict[str, Any] = {
        "passages": passages,
        "rounds": len(rounds),
        "tokens_per_passage": round(tokens / passages, 1),
        "builtin_passages_per_s": spread([passages / mine for mine in ours]),
        "builtin_tokens_per_s": spread([tokens / mine for mine in ours]),
    }
    if all(other for _, other in rounds):
        numbers["torch_passages_per_s"] = spread([passages / other for _, other in rounds])
        numbers["ratio"] = spread([other / mine for mine, other in rounds])
    return numbers


def count_tokens(encoder: Encoder, passages: Sequence[str]) -> int:
    """Tokens that the encoder reads of passages, its special tokens and prompt included."""
    return sum(
        min(encoder.max_tokens, encoder.overhead_tokens + len(spans)) for spans in encoder.token_offsets(passages)
    )


def read_texts(data: Path, *, passages: int, queries: int) -> Texts:
    """Contexts, questions and sentences of contexts, of all languages in equal parts (or one less)."""
    subsets = [subset for subset in load_mlqa(data).subsets if subset.doc_lang == subset.query_lang]
    found = Texts([], [], [])
    for place, subset in enumerate(subsets):
        found.passages.extend(subset.documents[: passages // len(subsets)])
        share = queries // len(subsets) + (place < queries % len(subsets))
        found.questions.extend(subset.queries[:share])
        sentences = (
            context[start:end].strip()
            for context in subset.documents
            for start, end in sentence_spans(context, subset.doc_lang)
        )
        found.sentences.extend(islice((sentence for sentence in sentences if sentence), share))
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """The least, the middle and the greatest."""
    return {
        "min": round(min(values), 3),
        "median": round(statistics.median(values), 3),
        "max": round(max(values), 3),
    }


def _one_by_one(encode: Callable[[str], object], queries: Sequence[str]) -> dict[str, float]:
    """Milliseconds that each query takes by itself."""
    encode(queries[0])
    took = [_seconds(lambda query=query: encode(query)) * 1000 for query in queries]
    return {
        "queries": len(took),
        **spread(took),
        "p95": round(statistics.quantiles(took, n=20)[-1], 3),
    }


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
