"""What SIB-200 as a bitext finds: accuracy and spelling by language, as frozen records, as JSON and as a table."""

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
from xsearch.text.tags import language_name

NAME, METRIC = "SIB-200", "accuracy"
ENGLISH = "eng_Latn"
WORST = 10


@dataclass(frozen=True, slots=True)
class Spelling:
    """What a tokenizer makes of a language.

    Attributes:
        unknown: share of the characters, white space apart, that stand in tokens which the vocabulary lacks.
        tokens_per_character: tokens over the same characters.
        cut: sentences that are longer than the encoder reads.
    """

    unknown: float
    tokens_per_character: float
    cut: int

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return {
            "unknown": rounded(self.unknown),
            "tokens_per_character": rounded(self.tokens_per_character),
            "cut": self.cut,
        }


@dataclass(frozen=True, slots=True)
class Sib200Language:
    """What was found in one language.

    Attributes:
        code: of FLORES, ``arb_Arab``.
        lang: its BCP-47 tag.
        into_english: share of sentences whose nearest English one is the translation.
        from_english: share of English sentences whose nearest one of the language is the translation.
        spelling: what the tokenizer makes of it.
        interval: 95% bootstrap interval of ``accuracy``, if it was asked for.
        per_pair: for each sentence the mean of both directions: 0, 0.5 or 1.
    """

    code: str
    lang: str
    into_english: float
    from_english: float
    spelling: Spelling
    interval: Interval | None
    per_pair: Scores = field(repr=False, compare=False)

    @property
    def accuracy(self) -> float:
        """The mean of both directions."""
        return (self.into_english + self.from_english) / 2

    def to_dict(self) -> dict[str, Any]:
        """All but ``per_pair`` as plain values."""
        return {
            "lang": self.lang,
            "accuracy": rounded(self.accuracy),
            "into_english": rounded(self.into_english),
            "from_english": rounded(self.from_english),
            **self.spelling.to_dict(),
            "ci": interval_bounds(self.interval),
        }


@dataclass(frozen=True, slots=True)
class Sib200Result:
    """The result of one encoder.

    Attributes:
        encoder: what identifies the encoder.
        split: which rows.
        sentences: how many of each language, and so among how many the translation had to be found.
        english: what the tokenizer makes of English.
        languages: all others, sorted by code.
        interval: 95% bootstrap interval of the mean accuracy.
        versions: of Python and the packages that make the numbers.
        date: when, ISO 8601, UTC.
    """

    encoder: Fingerprint
    split: str
    sentences: int
    english: Spelling
    languages: tuple[Sib200Language, ...]
    interval: Interval | None
    versions: Mapping[str, str]
    date: str

    @property
    def metric(self) -> str:
        """What ``per_query`` and comparisons are about."""
        return METRIC

    @property
    def mean(self) -> float:
        """Mean accuracy over the languages."""
        return float(np.mean([language.accuracy for language in self.languages]))

    @property
    def median(self) -> float:
        """Median accuracy over the languages."""
        return float(np.median([language.accuracy for language in self.languages]))

    @property
    def worst(self) -> tuple[Sib200Language, ...]:
        """The ten languages with the lowest accuracy, the lowest first."""
        return tuple(sorted(self.languages, key=lambda language: (language.accuracy, language.code))[:WORST])

    def per_query(self) -> dict[str, Scores]:
        """The accuracy of every pair of sentences, by ``CODE-eng_Latn``."""
        return {pair_key(language.code): language.per_pair for language in self.languages}

    def to_dict(self, *, per_query: bool = False) -> dict[str, Any]:
        """The result as plain JSON-serialisable values, scores 0 to 1.

        Args:
            per_query: include the accuracy of every pair, which a later run needs to be compared with this one.
        """
        report: dict[str, Any] = {
            "task": NAME,
            "split": self.split,
            "encoder": encoder_identity(self.encoder),
            "metric": METRIC,
            "candidates": self.sentences,
            "mean": {
                "accuracy": rounded(self.mean),
                "languages": len(self.languages),
                "ci": interval_bounds(self.interval),
            },
            "median": rounded(self.median),
            "worst": {language.code: rounded(language.accuracy) for language in self.worst},
            "english": self.english.to_dict(),
            "pairs": {pair_key(language.code): language.to_dict() for language in self.languages},
            "versions": dict(self.versions),
            "date": self.date,
        }
        if per_query:
            report["per_query"] = pack_per_query(self.per_query(), metric=METRIC)
        return report


def pair_key(code: str) -> str:
    """The key of a language's pair with English: ``arb_Arab-eng_Latn``."""
    return f"{code}-{ENGLISH}"


def render_sib200(result: Sib200Result, comparison: Comparison | None = None) -> RenderableType:
    """The result as something rich can print: a line a language, then mean, median and the worst."""
    table = Table()
    for heading in ("", "language"):
        table.add_column(heading)
    for heading in ("mean", "into English", "from English", "unknown characters, %", "tokens per character"):
        table.add_column(heading, justify="right")
    for language in result.languages:
        scores = (percent(score) for score in (language.accuracy, language.into_english, language.from_english))
        table.add_row(
            Text(language.lang, style="bold"), language_name(language.code), *scores, *_spelled(language.spelling)
        )
    table.add_section()
    table.add_row(Text("en", style="bold"), "English", "", "", "", *_spelled(result.english))
    worst = ", ".join(f"{language.lang} {percent(language.accuracy)}" for language in result.worst)
    parts: list[RenderableType] = [
        Text(f"{NAME} ({result.split}), {result.encoder.name}", style="bold"),
        Text(f"Accuracy × 100 of the nearest neighbour among {result.sentences:,} sentences"),
        table,
        Text(f"mean {percent(result.mean)}{bounds(result.interval)}   median {percent(result.median)}"),
        Text(f"worst: {worst}"),
    ]
    if comparison is not None:
        parts += [Text(), render_comparison(comparison)]
    return Group(*parts)


def _spelled(spelling: Spelling) -> tuple[str, str]:
    return percent(spelling.unknown), f"{spelling.tokens_per_character:.2f}"
