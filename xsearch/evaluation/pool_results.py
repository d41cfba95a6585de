"""What a pool of all languages shows: four measures by language, as frozen records, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xsearch.encoder.fingerprint import Fingerprint
from xsearch.evaluation.report import bounds, percent, render_comparison
from xsearch.evaluation.results import Comparison, encoder_identity, interval_bounds, pack_per_query, rounded
from xsearch.evaluation.significance import Interval, Scores

# Measures and their headings.
MEASURES: Mapping[str, str] = {
    "map": "mAP",
    "right_first": "right first",
    "must_cross": "must cross, right first",
    "first_own": "first hit in own language",
    "relevant_own": "relevant ones in it",
}


@dataclass(frozen=True, slots=True)
class PooledLanguage:
    """What the questions of one language found.

    Attributes:
        lang: of the questions.
        scores: by measure, for each question; those of ``must_cross`` may be fewer, or missing.
        intervals: 95% bootstrap intervals by measure, if they were asked for.
    """

    lang: str
    scores: Mapping[str, Scores] = field(repr=False, compare=False)
    intervals: Mapping[str, Interval]

    @property
    def queries(self) -> int:
        """How many there are."""
        return len(self.scores["map"].values)

    def mean(self, measure: str) -> float | None:
        """Mean over the questions, or None where no question counts."""
        found = self.scores.get(measure)
        return None if found is None else float(found.values.mean())


@dataclass(frozen=True, slots=True)
class PoolResult:
    """The result of one encoder in one pool.

    Attributes:
        task, split: as :class:`xsearch.evaluation.tasks.Task` names them.
        encoder: what identifies the encoder.
        documents: how many there are, by language.
        languages: sorted by the questions' language.
        intervals: of the means over languages, by measure.
        cut: texts that were longer than the encoder reads.
        versions: of Python and the packages that make the numbers.
        date: when, ISO 8601, UTC.
    """

    task: str
    split: str
    encoder: Fingerprint
    documents: Mapping[str, int]
    languages: tuple[PooledLanguage, ...]
    intervals: Mapping[str, Interval]
    cut: int
    versions: Mapping[str, str]
    date: str

    @property
    def metric(self) -> str:
        """What ``per_query`` and comparisons are about."""
        return "map"

    @property
    def means(self) -> dict[str, float]:
        """Each measure's mean over the languages that have it, each counting the same."""
        means = {}
        for measure in MEASURES:
            found = [mean for language in self.languages if (mean := language.mean(measure)) is not None]
            if found:
                means[measure] = float(np.mean(found))
        return means

    def per_query(self) -> dict[str, Scores]:
        """The average precision of every question, by ``all-LANG``."""
        return {f"all-{language.lang}": language.scores["map"] for language in self.languages}

    def to_dict(self, *, per_query: bool = False) -> dict[str, Any]:
        """The result as plain JSON-serialisable values, scores 0 to 1.

        Args:
            per_query: include the average precision of every question, which a later run needs to be compared.
        """
        means = self.means
        report: dict[str, Any] = {
            "task": self.task,
            "split": self.split,
            "encoder": encoder_identity(self.encoder),
            "metric": self.metric,
            "mean": {measure: rounded(means.get(measure)) for measure in MEASURES}
            | {"ci": {measure: interval_bounds(found) for measure, found in self.intervals.items()}},
            "documents": dict(self.documents),
            "pairs": {
                f"all-{language.lang}": {measure: rounded(language.mean(measure)) for measure in MEASURES}
                | {
                    "queries": language.queries,
                    "ci": {measure: interval_bounds(found) for measure, found in language.intervals.items()},
                }
                for language in self.languages
            },
            "truncated": self.cut,
            "versions": dict(self.versions),
            "date": self.date,
        }
        if per_query:
            report["per_query"] = pack_per_query(self.per_query(), metric=self.metric)
        return report


def render_pool(result: PoolResult, comparison: Comparison | None = None) -> RenderableType:
    """The result as something rich can print: a line a language, then the means."""
    table = Table()
    table.add_column("question")
    for heading in (*MEASURES.values(), "questions"):
        table.add_column(heading, justify="right")
    for language in result.languages:
        cells = (percent(language.mean(measure)) for measure in MEASURES)
        table.add_row(Text(language.lang, style="bold"), *cells, str(language.queries))
    table.add_section()
    means = result.means
    table.add_row("mean", *(percent(means.get(measure)) for measure in MEASURES), "")
    shown = [
        f"{MEASURES[measure]} {percent(means[measure])}{bounds(interval)}"
        for measure, interval in result.intervals.items()
    ]
    pool = f"{sum(result.documents.values()):,} documents in {', '.join(result.documents)}"
    parts: list[RenderableType] = [
        Text(f"{result.task} ({result.split}), {result.encoder.name}", style="bold"),
        Text(f"Scores × 100 in one pool of {pool}"),
        table,
    ]
    if shown:
        parts.append(Text("   ".join(shown)))
    if comparison is not None:
        parts += [Text(), render_comparison(comparison)]
    return Group(*parts)
