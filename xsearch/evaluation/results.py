"""What an evaluation finds: scores by language pair, as frozen records and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xsearch.encoder.fingerprint import Fingerprint
from xsearch.evaluation.matrix import LanguageMatrix
from xsearch.evaluation.significance import Difference, Interval, Scores

# MTEB rounds to five decimals.
_DECIMALS = 5


@dataclass(frozen=True, slots=True)
class PairResult:
    """The scores of one language pair.

    Attributes:
        doc_lang, query_lang: language of the contexts and of the questions.
        documents, queries: how many there were.
        scores: mean over queries by metric, 0 to 1.
        interval: 95% bootstrap interval of the main metric, if it was asked for.
        per_query: the main metric of each query.
    """

    doc_lang: str
    query_lang: str
    documents: int
    queries: int
    scores: Mapping[str, float]
    interval: Interval | None
    per_query: Scores = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """``CONTEXT-QUESTION``, e.g. ``en-de``."""
        return f"{self.doc_lang}-{self.query_lang}"

    def to_dict(self) -> dict[str, Any]:
        """Scores by metric, ``documents``, ``queries`` and ``ci``; plain values."""
        return {
            **{name: rounded(score) for name, score in self.scores.items()},
            "documents": self.documents,
            "queries": self.queries,
            "ci": interval_bounds(self.interval),
        }


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """How many distinct texts of one language were encoded, and how many were longer than the encoder reads."""

    documents: int
    queries: int
    truncated_documents: int
    truncated_queries: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run against a baseline run: differences of a metric, ours less the baseline's.

    Attributes:
        baseline: the baseline's encoder, as its file names it.
        metric: what was compared.
        means: of the means ``mono``, ``cross`` and ``mean`` (over all pairs), as far as there are such pairs.
        pairs: by pair key.
    """

    baseline: Mapping[str, Any]
    metric: str
    means: Mapping[str, Difference]
    pairs: Mapping[str, Difference]

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return {
            "metric": self.metric,
            "baseline": dict(self.baseline),
            **{name: difference.to_dict() for name, difference in self.means.items()},
            "pairs": {key: difference.to_dict() for key, difference in self.pairs.items()},
        }


@dataclass(frozen=True, slots=True)
class TaskResult:
    """The result of one task with one encoder.

    Attributes:
        task, split: as :class:`xsearch.evaluation.tasks.Task` names them.
        encoder: what identifies the encoder.
        pairs: sorted by languages, context language first.
        metric: the main metric, which ``per_query``, intervals and comparisons are about.
        intervals: 95% bootstrap intervals of the means ``mono``, ``cross`` and ``mean``, as far as they are there.
        encoded: by language; what was encoded, and what was cut.
        versions: of Python and the packages that make the numbers.
        date: when, ISO 8601, UTC.
    """

    task: str
    split: str
    encoder: Fingerprint
    pairs: tuple[PairResult, ...]
    metric: str
    intervals: Mapping[str, Interval]
    encoded: Mapping[str, EncodedTexts]
    versions: Mapping[str, str]
    date: str

    def matrix(self, metric: str = "") -> LanguageMatrix:
        """The scores of one metric, the main one if none is named, by language pair."""
        name = metric or self.metric
        return LanguageMatrix({(pair.doc_lang, pair.query_lang): pair.scores[name] for pair in self.pairs})

    @property
    def means(self) -> dict[str, float]:
        """Means of the main metric: ``mono``, ``cross`` and ``mean`` (all pairs), as far as there are such pairs."""
        matrix = self.matrix()
        means = {"mono": matrix.mono, "cross": matrix.cross, "mean": matrix.mean}
        return {name: mean for name, mean in means.items() if mean is not None}

    def per_query(self) -> dict[str, Scores]:
        """The main metric of every query, by pair key."""
        return {pair.key: pair.per_query for pair in self.pairs}

    def to_dict(self, *, per_query: bool = False) -> dict[str, Any]:
        """The result as plain JSON-serialisable values, scores 0 to 1, rounded as MTEB rounds.

        Args:
            per_query: include the main metric of every query, which a later run needs to be compared with this one.
        """
        matrix = self.matrix()
        report: dict[str, Any] = {
            "task": self.task,
            "split": self.split,
            "encoder": encoder_identity(self.encoder),
            "metric": self.metric,
            "mono": rounded(matrix.mono),
            "cross": rounded(matrix.cross),
            "mean": rounded(matrix.mean),
            **{f"{name}_ci": interval_bounds(self.intervals.get(name)) for name in ("mono", "cross", "mean")},
            "pairs": {pair.key: pair.to_dict() for pair in self.pairs},
            "truncated": {
                lang: {"documents": texts.truncated_documents, "queries": texts.truncated_queries}
                for lang, texts in self.encoded.items()
            },
            "encoded": {
                lang: {"documents": texts.documents, "queries": texts.queries} for lang, texts in self.encoded.items()
            },
            "versions": dict(self.versions),
            "date": self.date,
        }
        if per_query:
            report["per_query"] = pack_per_query(self.per_query(), metric=self.metric)
        return report


def pack_per_query(pairs: Mapping[str, Scores], *, metric: str) -> dict[str, Any]:
    """Per-query scores as plain values, each question id written once although many pairs share it."""
    numbers: dict[str, int] = {}
    packed = {
        key: {
            "questions": [numbers.setdefault(question_id, len(numbers)) for question_id in scores.question_ids],
            metric: [round(value, _DECIMALS) for value in scores.values.tolist()],
        }
        for key, scores in pairs.items()
    }
    return {"ids": list(numbers), "pairs": packed}


def unpack_per_query(packed: Mapping[str, Any], *, metric: str) -> dict[str, Scores]:
    """What :func:`pack_per_query` packed.

    Raises:
        KeyError, IndexError, TypeError, ValueError: it is not of that form.
    """
    ids = packed["ids"]
    unpacked = {}
    for key, pair in packed["pairs"].items():
        questions = [ids[number] for number in pair["questions"]]
        values = np.array(pair[metric], dtype=np.float64)
        if values.shape != (len(questions),) or not np.isfinite(values).all():
            raise ValueError(f"{key} needs one finite score for each question")
        unpacked[key] = Scores(questions, values)
    return unpacked


def encoder_identity(encoder: Fingerprint) -> dict[str, Any]:
    """What identifies an encoder in a report, as plain JSON-serialisable values."""
    return {"name": encoder.name, "digest": encoder.digest, "fingerprint": encoder.to_dict()}


def rounded(value: float | None) -> float | None:
    """As MTEB rounds."""
    return None if value is None else round(float(value), _DECIMALS)


def interval_bounds(interval: Interval | None) -> list[float | None] | None:
    """An interval for JSON."""
    return None if interval is None else [rounded(interval.low), rounded(interval.high)]
