"""What a pool of all languages shows of an encoder: whether it finds an answer whatever language that is in.

Four measures, by language of the question:

- ``map``: mean average precision over the whole ranking; every translation of the answer is relevant;
- ``right_first``: share of questions whose first hit is relevant;
- ``must_cross``: the same with the documents in the question's own language taken out of the pool, over the questions
  that have a relevant one left: what a user meets whose folder answers in another language only;
- language preference: ``first_own``, the share of first hits in the question's language, right or wrong, beside
  ``relevant_own``, the share that such documents have of the relevant ones. An encoder without bias has them equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.protocol import Encoder, Vectors
from xsearch.errors import InvalidArgumentError
from xsearch.evaluation.metrics import average_precision
from xsearch.evaluation.pool_results import MEASURES, PooledLanguage, PoolResult
from xsearch.evaluation.run import (
    OnProgress,
    RunOptions,
    count_cut,
    encode_texts,
    find_relevant,
    ignore,
    installed_versions,
)
from xsearch.evaluation.significance import Interval, Scores, bootstrap_mean, bootstrap_means
from xsearch.evaluation.tasks import POOL, Subset, Task


def evaluate_pool(
    task: Task, encoder: Encoder, *, options: RunOptions | None = None, on_progress: OnProgress | None = None
) -> PoolResult:
    """The four measures of an encoder in the pool of a task, whose subsets share one corpus of several languages.

    Args:
        on_progress: called with what is being done, how much of it is done, and how much there is.

    Raises:
        InvalidArgumentError: the subsets do not share one corpus, or it does not say which language a document is in.
        NonFiniteVectorError: the encoder gave a vector with NaN, infinity or only zeros.
        EncoderError: the encoder gave arrays of the wrong shape.
    """
    chosen, report = options or RunOptions(), on_progress or ignore
    documents, document_langs = _corpus(task)
    pool = {POOL: dict.fromkeys(documents)}
    queries = {subset.query_lang: dict.fromkeys(subset.queries) for subset in task.subsets}
    passage_vectors = encode_texts(encoder.encode_passages, pool, encoder.dim, "documents", report)[POOL].rows(
        documents
    )
    query_vectors = encode_texts(encoder.encode_queries, queries, encoder.dim, "queries", report)
    languages = []
    for place, subset in enumerate(task.subsets):
        report("searching", place, len(task.subsets))
        scores = score_pooled(query_vectors[subset.query_lang].rows(subset.queries), passage_vectors, subset)
        languages.append(PooledLanguage(subset.query_lang, scores, _intervals(subset.query_lang, scores, chosen)))
    report("searching", len(task.subsets), len(task.subsets))
    return PoolResult(
        task=task.name,
        split=task.split,
        encoder=encoder.fingerprint,
        documents={lang: document_langs.count(lang) for lang in sorted(set(document_langs))},
        languages=tuple(languages),
        intervals=_mean_intervals(languages, chosen),
        cut=sum(count_cut(encoder, list(texts)) for texts in (*pool.values(), *queries.values())),
        versions=installed_versions(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def score_pooled(query_vectors: Vectors, passage_vectors: Vectors, subset: Subset) -> dict[str, Scores]:
    """By measure the value of each question of one language; ``must_cross`` is left out where no question counts.

    Args:
        query_vectors, passage_vectors: ``(queries, dim)`` and ``(documents, dim) float32``, rows L2-normalised.
        subset: its ``document_langs`` says which language each document is in.
    """
    langs = np.array(subset.document_langs, dtype=np.str_)
    own = frozenset(np.flatnonzero(langs == subset.query_lang).tolist())
    ranked = find_relevant(query_vectors, passage_vectors, subset, depth=len(subset.documents))
    counts = np.array([len(documents) for documents in subset.relevant])
    in_own = replace(subset, relevant=(own,) * len(subset.queries))
    values = {
        "map": average_precision(ranked, counts, k=len(subset.documents)),
        "right_first": ranked[:, 0].astype(np.float64),
        "first_own": find_relevant(query_vectors, passage_vectors, in_own, depth=1)[:, 0].astype(np.float64),
        "relevant_own": np.array([len(documents & own) / len(documents) for documents in subset.relevant]),
    }
    scores = {measure: Scores(subset.question_ids, found) for measure, found in values.items()}
    crossing = [place for place, documents in enumerate(subset.relevant) if documents - own]
    if crossing:
        foreign = np.flatnonzero(langs != subset.query_lang)
        part = _part(subset, crossing, foreign)
        found = find_relevant(query_vectors[crossing], passage_vectors[foreign], part, depth=1)
        ids = [subset.question_ids[place] for place in crossing]
        scores["must_cross"] = Scores(ids, found[:, 0].astype(np.float64))
    return scores


def _corpus(task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The documents that all subsets share, and their languages."""
    first = task.subsets[0]
    shared = all(
        (subset.documents, subset.document_langs) == (first.documents, first.document_langs) for subset in task.subsets
    )
    if not shared or len(first.document_langs) != len(first.documents):
        raise InvalidArgumentError(
            f"The task {task.name} is not one pool of documents whose languages are known",
            "Its subsets must share their documents and document_langs",
            "Pass what load_mlqa_pool or load_lareqa gives",
        )
    return first.documents, first.document_langs


def _part(subset: Subset, queries: Sequence[int], documents: NDArray[np.intp]) -> Subset:
    """Some of the queries over some of the documents."""
    places = {int(old): new for new, old in enumerate(documents)}
    return replace(
        subset,
        document_ids=tuple(subset.document_ids[place] for place in places),
        documents=tuple(subset.documents[place] for place in places),
        document_langs=tuple(subset.document_langs[place] for place in places),
        query_ids=tuple(subset.query_ids[place] for place in queries),
        queries=tuple(subset.queries[place] for place in queries),
        question_ids=tuple(subset.question_ids[place] for place in queries),
        relevant=tuple(frozenset(places[old] for old in subset.relevant[place] if old in places) for place in queries),
    )


def _intervals(lang: str, scores: Mapping[str, Scores], options: RunOptions) -> dict[str, Interval]:
    if not options.bootstrap:
        return {}
    return {
        measure: bootstrap_mean(scores[measure], samples=options.bootstrap, seed=options.seed, name=f"all-{lang}")
        for measure in MEASURES
        if measure in scores
    }


def _mean_intervals(languages: Sequence[PooledLanguage], options: RunOptions) -> dict[str, Interval]:
    if not options.bootstrap:
        return {}
    groups = {
        measure: [language.scores[measure] for language in languages if measure in language.scores]
        for measure in MEASURES
    }
    return {
        measure: bootstrap_means(group, samples=options.bootstrap, seed=options.seed, name="mean")
        for measure, group in groups.items()
        if group
    }
