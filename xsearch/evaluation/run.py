"""Runs a retrieval task with an encoder: encode every text once, search exactly, score each language pair."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.protocol import Encoder, Vectors, unit_vectors
from xsearch.errors import EncoderError, InvalidArgumentError
from xsearch.evaluation import metrics
from xsearch.evaluation.results import Comparison, EncodedTexts, PairResult, TaskResult
from xsearch.evaluation.significance import (
    Interval,
    Scores,
    bootstrap_mean,
    bootstrap_means,
    compare,
    compare_means,
    paired_differences,
)
from xsearch.evaluation.tasks import POOL, Subset, Task
from xsearch.ranking import top_k

OnProgress = Callable[[str, int, int], None]
Texts = dict[str, dict[str, None]]

_METRICS: dict[str, Callable[[metrics.Found, metrics.Counts], metrics.PerQuery]] = {
    "ndcg@10": lambda found, relevant: metrics.ndcg(found, relevant, k=10),
    "recall@1": lambda found, relevant: metrics.recall(found, relevant, k=1),
    "recall@10": lambda found, relevant: metrics.recall(found, relevant, k=10),
    "recall@100": lambda found, relevant: metrics.recall(found, relevant, k=100),
    "mrr@10": lambda found, relevant: metrics.mrr(found, relevant, k=10),
    "map": lambda found, relevant: metrics.average_precision(found, relevant, k=max(1, found.shape[1])),
}

# Texts a call of the encoder: enough for its own batching, few enough for a progress bar that moves.
_ENCODE_AT_ONCE = 256
_SCORES_AT_ONCE = 8_000_000
_PACKAGES = ("xsearch", "numpy", "onnxruntime", "tokenizers", "torch", "transformers", "sentence-transformers")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to score.

    Attributes:
        bootstrap: resamples for the intervals; 0 leaves them out.
        seed: of the resampling.
    """

    bootstrap: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.bootstrap < 0 or self.seed < 0:
            raise InvalidArgumentError(
                f"bootstrap is {self.bootstrap} and seed {self.seed}", "Neither may be negative", "Pass 0 or more"
            )


def evaluate(
    task: Task, encoder: Encoder, *, options: RunOptions | None = None, on_progress: OnProgress | None = None
) -> TaskResult:
    """The scores of an encoder on every subset of a task, by MTEB's protocol.

    Queries and documents go through the encoder's own doors; similarity is the cosine; the search is exact.

    Args:
        on_progress: called with what is being done, how much of it is done, and how much there is.

    Raises:
        NonFiniteVectorError: the encoder gave a vector with NaN, infinity or only zeros.
        EncoderError: the encoder gave arrays of the wrong shape.
    """
    chosen = options or RunOptions()
    report = on_progress or ignore
    documents, queries = _distinct(task, "documents"), _distinct(task, "queries")
    encoded = {
        lang: EncodedTexts(
            len(documents.get(lang, ())),
            len(queries.get(lang, ())),
            count_cut(encoder, list(documents.get(lang, ()))),
            count_cut(encoder, list(queries.get(lang, ()))),
        )
        for lang in sorted(documents.keys() | queries.keys())
    }
    passage_vectors = encode_texts(encoder.encode_passages, documents, encoder.dim, "documents", report)
    query_vectors = encode_texts(encoder.encode_queries, queries, encoder.dim, "queries", report)
    pairs = []
    for i, subset in enumerate(task.subsets):
        report("searching", i, len(task.subsets))
        pairs.append(
            _score_subset(
                subset,
                query_vectors[subset.query_lang].rows(subset.queries),
                passage_vectors[subset.doc_lang].rows(subset.documents),
                task=task,
                options=chosen,
            )
        )
    report("searching", len(task.subsets), len(task.subsets))
    return TaskResult(
        task=task.name,
        split=task.split,
        encoder=encoder.fingerprint,
        pairs=tuple(pairs),
        metric=task.main_metric,
        intervals=_intervals(pairs, chosen),
        encoded=encoded,
        versions=installed_versions(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


class Comparable(Protocol):
    """A result that a later one can be compared with, query by query."""

    @property
    def metric(self) -> str:
        """What ``per_query`` gives."""
        ...

    def per_query(self) -> dict[str, Scores]:
        """The metric of every query, by pair key."""
        ...


def compare_runs(
    ours: Comparable, theirs: Mapping[str, Scores], *, baseline: Mapping[str, Any], samples: int, seed: int
) -> Comparison:
    """The paired comparison of a run with a baseline, by pair and for the means, over the pairs of the run.

    Args:
        theirs: the baseline's per-query scores by pair key.
        baseline: the baseline's encoder, for the report.

    Raises:
        InvalidArgumentError: the baseline lacks a pair of the run, or was asked other questions.
    """
    mine = ours.per_query()
    theirs = {key: scores for key, scores in theirs.items() if key in mine}
    means = {
        name: compare_means(group, samples=samples, seed=seed, name=name)
        for name, group in _groups(paired_differences(mine, theirs)).items()
    }
    pairs = compare(mine, theirs, samples=samples, seed=seed)
    return Comparison(baseline=baseline, metric=ours.metric, means=means, pairs=pairs)


def find_relevant(query_vectors: Vectors, passage_vectors: Vectors, subset: Subset, *, depth: int) -> NDArray[np.bool_]:
    """``(queries, min(depth, documents)) bool``: whether the document at each rank is relevant.

    Args:
        query_vectors, passage_vectors: ``(queries, dim)`` and ``(documents, dim) float32``, rows L2-normalised.

    Raises:
        NonFiniteVectorError: a score is not finite.
    """
    n_documents = len(subset.documents)
    # Numbers in the order of the ids: the same ties are settled the same way, and sort faster than strings.
    id_order = np.empty(n_documents, dtype=np.intp)
    id_order[np.argsort(np.array(subset.document_ids, dtype=np.str_))] = np.arange(n_documents)
    found = np.zeros((len(subset.queries), min(depth, n_documents)), dtype=np.bool_)
    step = max(1, _SCORES_AT_ONCE // max(1, n_documents))
    for start in range(0, len(subset.queries), step):
        scores = query_vectors[start : start + step] @ passage_vectors.T
        for q, row in enumerate(scores, start=start):
            ranked = top_k(row, id_order, k=depth)
            found[q] = np.isin(ranked, list(subset.relevant[q]))
    return found


@dataclass(frozen=True, slots=True)
class TextVectors:
    """Vectors of distinct texts of one language."""

    positions: Mapping[str, int]
    vectors: Vectors

    def rows(self, texts: Sequence[str]) -> Vectors:
        """``(len(texts), dim) float32``."""
        return self.vectors[[self.positions[text] for text in texts]]


def _distinct(task: Task, side: str) -> Texts:
    """The distinct texts of one side by language, in order of first occurrence."""
    texts: Texts = {}
    for subset in task.subsets:
        if side == "documents":
            texts.setdefault(subset.doc_lang, {}).update(dict.fromkeys(subset.documents))
        else:
            texts.setdefault(subset.query_lang, {}).update(dict.fromkeys(subset.queries))
    return texts


def encode_texts(
    encode: Callable[[Sequence[str]], Vectors], texts: Texts, dim: int, side: str, report: OnProgress
) -> dict[str, TextVectors]:
    """The vectors of distinct texts, by language.

    Args:
        encode: a door of the encoder.
        side: what the texts are, for ``report``.

    Raises:
        NonFiniteVectorError: a vector holds NaN, infinity or only zeros.
        EncoderError: an array has the wrong shape.
    """
    total = sum(map(len, texts.values()))
    done = 0
    encoded = {}
    for lang, distinct in texts.items():
        # Long texts first: batches hold texts of like length, and the time left is not underestimated.
        ordered = sorted(distinct, key=len, reverse=True)
        parts = []
        for start in range(0, len(ordered), _ENCODE_AT_ONCE):
            report(f"encoding {side} ({lang})", done, total)
            part = ordered[start : start + _ENCODE_AT_ONCE]
            parts.append(_checked(encode(part), len(part), dim))
            done += len(part)
        encoded[lang] = TextVectors({text: i for i, text in enumerate(ordered)}, np.concatenate(parts))
    report(f"encoding {side}", done, total)
    return encoded


def _checked(vectors: Vectors, n_texts: int, dim: int) -> Vectors:
    if vectors.shape != (n_texts, dim):
        raise EncoderError(
            f"The encoder gave an array of shape {vectors.shape} for {n_texts} texts",
            f"({n_texts}, {dim}) was expected",
            "Mend the encoder, or choose another with --encoder",
        )
    return unit_vectors(vectors)


def count_cut(encoder: Encoder, texts: Sequence[str]) -> int:
    """How many texts are longer than the encoder reads."""
    room = encoder.max_tokens - encoder.overhead_tokens
    return sum(len(spans) > room for spans in encoder.token_offsets(texts)) if texts else 0


def _score_subset(
    subset: Subset, query_vectors: Vectors, passage_vectors: Vectors, *, task: Task, options: RunOptions
) -> PairResult:
    found = find_relevant(query_vectors, passage_vectors, subset, depth=task.depth)
    relevant = np.array([len(documents) for documents in subset.relevant])
    values = {name: metric(found, relevant) for name, metric in _METRICS.items()}
    per_query = Scores(subset.question_ids, values[task.main_metric])
    interval = None
    if options.bootstrap:
        interval = bootstrap_mean(per_query, samples=options.bootstrap, seed=options.seed, name=subset.key)
    return PairResult(
        doc_lang=subset.doc_lang,
        query_lang=subset.query_lang,
        documents=len(subset.documents),
        queries=len(subset.queries),
        scores={name: float(value.mean()) for name, value in values.items()},
        interval=interval,
        per_query=per_query,
    )


def _intervals(pairs: Sequence[PairResult], options: RunOptions) -> dict[str, Interval]:
    if not options.bootstrap:
        return {}
    return {
        name: bootstrap_means(group, samples=options.bootstrap, seed=options.seed, name=name)
        for name, group in _groups({pair.key: pair.per_query for pair in pairs}).items()
    }


def _groups(pairs: Mapping[str, Scores]) -> dict[str, list[Scores]]:
    """The pairs behind each mean; means without pairs are left out."""
    groups: dict[str, list[Scores]] = {"mono": [], "cross": [], "mean": []}
    for key, scores in pairs.items():
        doc_lang, _, query_lang = key.partition("-")
        groups["mean"].append(scores)
        if doc_lang != POOL:
            groups["mono" if doc_lang == query_lang else "cross"].append(scores)
    return {name: group for name, group in groups.items() if group}


def installed_versions() -> dict[str, str]:
    """Of Python and of the packages that make the numbers."""
    return {"python": platform.python_version(), **dict(_installed())}


def _installed() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue


def ignore(stage: str, done: int, total: int) -> None:
    """An ``on_progress`` for nobody."""
    return None
