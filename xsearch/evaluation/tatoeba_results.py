"""What Tatoeba finds: accuracy by language and direction, as frozen records, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xsearch.encoder.fingerprint import Fingerprint
from xsearch.evaluation.report import bounds, percent, render_comparison
from xsearch.evaluation.results import Comparison, encoder_identity, interval_bounds, pack_per_query, rounded
from xsearch.evaluation.significance import Interval, Scores
from xsearch.text.tags import language_name

T = TypeVar("T")

NAME, SPLIT, METRIC = "Tatoeba", "test", "accuracy"
ENGLISH = "eng"
# The languages of XTREME's Tatoeba task, as the archive names them.
XTREME = frozenset(
    [
        "afr", "ara", "ben", "bul", "cmn", "deu", "ell", "est", "eus", "fin", "fra", "heb", "hin", "hun", "ind", "ita",
        "jav", "jpn", "kat", "kaz", "kor", "mal", "mar", "nld", "pes", "por", "rus", "spa", "swh", "tam", "tel", "tgl",
        "tha", "tur", "urd", "vie",
    ]
)  # fmt: skip
GROUPS: Mapping[str, frozenset[str] | None] = {"mean": None, "xtreme36": XTREME}
# As they are shown.
_SCORES = {METRIC: "mean", "into_english": "into English", "from_english": "from English", "f1": "F1 (MTEB)"}


@dataclass(frozen=True, slots=True)
class LanguageResult:
    """What was found in one language.

    Attributes:
        lang: the archive's code.
        sentences: how many pairs there are.
        into_english: share of sentences whose nearest English one is the translation.
        from_english: share of English sentences whose nearest one of the language is the translation.
        f1: MTEB's, into English.
        cut: texts that were longer than the encoder reads.
        interval: 95% bootstrap interval of ``accuracy``, if it was asked for.
        per_pair: for each pair the mean of both directions: 0, 0.5 or 1.
    """

    lang: str
    sentences: int
    into_english: float
    from_english: float
    f1: float
    cut: int
    interval: Interval | None
    per_pair: Scores = field(repr=False, compare=False)

    @property
    def accuracy(self) -> float:
        """The mean of both directions."""
        return (self.into_english + self.from_english) / 2


@dataclass(frozen=True, slots=True)
class TatoebaResult:
    """The result of one encoder.

    Attributes:
        encoder: what identifies the encoder.
        languages: sorted by code.
        intervals: 95% bootstrap intervals of the mean accuracies, by group.
        versions: of Python and the packages that make the numbers.
        date: when, ISO 8601, UTC.
    """

    encoder: Fingerprint
    languages: tuple[LanguageResult, ...]
    intervals: Mapping[str, Interval]
    versions: Mapping[str, str]
    date: str

    def groups(self) -> dict[str, tuple[LanguageResult, ...]]:
        """``mean``: all languages of the run; ``xtreme36``: those of XTREME, if all of them are there."""
        return by_group({found.lang: found for found in self.languages})

    def means(self, score: str = METRIC) -> dict[str, float]:
        """By group the mean over its languages of ``accuracy``, ``into_english``, ``from_english`` or ``f1``."""
        return {
            name: float(np.mean([getattr(found, score) for found in group])) for name, group in self.groups().items()
        }

    def per_query(self) -> dict[str, Scores]:
        """The accuracy of every pair of sentences, by ``LANG-eng``."""
        return {f"{found.lang}-{ENGLISH}": found.per_pair for found in self.languages}

    def to_dict(self, *, per_query: bool = False) -> dict[str, Any]:
        """The result as plain JSON-serialisable values, scores 0 to 1, rounded as MTEB rounds.

        Args:
            per_query: include the accuracy of every pair, which a later run needs to be compared with this one.
        """
        means = {score: self.means(score) for score in _SCORES}
        report: dict[str, Any] = {
            "task": NAME,
            "split": SPLIT,
            "encoder": encoder_identity(self.encoder),
            "metric": METRIC,
            **{
                group: {score: rounded(means[score][group]) for score in _SCORES}
                | {"languages": len(found), "ci": interval_bounds(self.intervals.get(group))}
                for group, found in self.groups().items()
            },
            "pairs": {
                f"{found.lang}-{ENGLISH}": {score: rounded(getattr(found, score)) for score in _SCORES}
                | {"sentences": found.sentences, "ci": interval_bounds(found.interval)}
                for found in self.languages
            },
            "truncated": {found.lang: found.cut for found in self.languages if found.cut},
            "versions": dict(self.versions),
            "date": self.date,
        }
        if per_query:
            report["per_query"] = pack_per_query(self.per_query(), metric=METRIC)
        return report


def by_group(languages: Mapping[str, T]) -> dict[str, tuple[T, ...]]:
    """What belongs to the languages behind each mean; a group that is not whole is left out."""
    return {
        name: tuple(found for lang, found in languages.items() if members is None or lang in members)
        for name, members in GROUPS.items()
        if members is None or members <= languages.keys()
    }


def render_tatoeba(result: TatoebaResult, comparison: Comparison | None = None) -> RenderableType:
    """The result as something rich can print: a line a language, then the means."""
    table = Table()
    table.add_column("")
    table.add_column("language")
    for heading in (*_SCORES.values(), "pairs"):
        table.add_column(heading, justify="right")
    for found in result.languages:
        scores = [percent(getattr(found, score)) for score in _SCORES]
        table.add_row(Text(found.lang, style="bold"), language_name(found.lang), *scores, str(found.sentences))
    table.add_section()
    for group, members in result.groups().items():
        means = [percent(result.means(score)[group]) for score in _SCORES]
        table.add_row(Text(group, style="bold"), f"{len(members)} languages", *means, "")
    shown = [f"{name} {percent(mean)}{bounds(result.intervals.get(name))}" for name, mean in result.means().items()]
    parts: list[RenderableType] = [
        Text(f"{NAME} ({SPLIT}), {result.encoder.name}", style="bold"),
        Text("Accuracy × 100 of the nearest neighbour"),
        table,
        Text("   ".join(shown)),
    ]
    if comparison is not None:
        parts += [Text(), render_comparison(comparison)]
    return Group(*parts)
