"""Which pairs are fit to train on: length, language, repeats and evaluation data, all removals counted by reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import lru_cache
from typing import Any

from xsearch.errors import InvalidArgumentError, PairError
from xsearch.text.language import detect_with_confidence
from xsearch.text.scripts import count_scripts, script_weights
from xsearch.text.tags import UND, matches, to_iso639_3
from xsearch.training.bitext import Pair
from xsearch.training.overlap import EvaluationGuard

# Characters for each character of English, where it is far from 1: medians over 300,000 translated sentences of 40
# and more characters (lessons, health, Wikipedia, everyday speech). All other scripts lie between 0.96 and 1.19.
_CHARS_PER_ENGLISH = {"Hans": 0.35, "Hant": 0.35, "Hani": 0.35, "Jpan": 0.51, "Kore": 0.52, "Hebr": 0.79, "Thai": 0.87,
                      "Arab": 0.92}  # fmt: skip
# A greeting and its translation may differ by a factor of four; this many characters more on both sides level that.
_RATIO_SLACK = 10
# What a language's script code (ISO 15924, which has codes for mixtures) means in xsearch.text.scripts.
_WRITTEN_IN = {"Hans": ("Hani", "Bopo"), "Hant": ("Hani", "Bopo"), "Jpan": ("Hani", "Kana"), "Kore": ("Hang", "Hani")}
_LATIN_LETTER = re.compile("[A-Za-z]")


class LanguageCheck(StrEnum):
    """How sides are checked for their language.

    ``script``: letters of the language's script (microseconds). ``detect``: besides, the target is not surely in
    another language (some 0.1 ms a text).
    """

    OFF = "off"
    SCRIPT = "script"
    DETECT = "detect"


class Reason(StrEnum):
    """Why a pair was removed."""

    EVALUATION = "evaluation overlap"
    SHORT = "too short"
    LONG = "too long"
    IDENTICAL = "identical sides"
    SCRIPT = "wrong script"
    LANGUAGE = "wrong language"
    RATIO = "length ratio"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class PairFilters:
    """What a pair must be like; the rules are applied in the order of :class:`Reason`, and the first that fails counts.

    Attributes:
        min_chars, max_chars: the length that both sides must have.
        max_length_ratio: the most by which one side may be longer than the other, in characters of English: 35 Chinese
            ones are as long as 100. Ten are added to both sides, as short texts vary more.
        drop_identical: whether a pair of equal sides (case aside) goes; those of ``term_origins`` never do, because a
            name may be the same in both languages.
        drop_duplicates: whether the second of two pairs goes that are equal but for case and white space. Needs some
            60 bytes a pair kept.
        language_check: see :class:`LanguageCheck`.
        min_script_share: the part of a side's letters that must be of its language's script; Han, kana and Hangul
            weigh two and three letters (``xsearch.text.scripts``).
        min_confidence: how sure the detector must be of another language for a target to go.
        term_origins: the sources of names and words.
        guard: the evaluation data that no side may overlap.
    """

    min_chars: int = 1
    max_chars: int = 2000
    max_length_ratio: float = 3.0
    drop_identical: bool = True
    drop_duplicates: bool = True
    language_check: LanguageCheck = LanguageCheck.SCRIPT
    min_script_share: float = 0.2
    min_confidence: float = 0.8
    term_origins: frozenset[str] = frozenset()
    guard: EvaluationGuard | None = None

    def __post_init__(self) -> None:
        checks = (
            (1 <= self.min_chars <= self.max_chars, "min_chars is at least 1 and at most max_chars"),
            (self.max_length_ratio >= 1, "max_length_ratio is at least 1"),
            (0 <= self.min_script_share <= 1, "min_script_share lies between 0 and 1"),
            (0 <= self.min_confidence <= 1, "min_confidence lies between 0 and 1"),
        )
        for right, rule in checks:
            if not right:
                given = {field.name: getattr(self, field.name) for field in fields(self) if field.name in rule}
                raise InvalidArgumentError(
                    f"The filters have {given}", f"It must be so that {rule}", "Correct the filters"
                )

    def reason_against(self, pair: Pair) -> Reason | None:
        """The first rule that the pair by itself breaks; None when it is fit (it may still be a duplicate)."""
        if self.guard is not None and (self.guard.overlaps(pair.source) or self.guard.overlaps(pair.target)):
            return Reason.EVALUATION
        shorter, longer = sorted((len(pair.source), len(pair.target)))
        if shorter < self.min_chars:
            return Reason.SHORT
        if longer > self.max_chars:
            return Reason.LONG
        identical = pair.source.casefold() == pair.target.casefold()
        if identical and pair.origin in self.term_origins:
            return None  # Nvidia is no Chinese, and is what the Chinese write
        if identical and self.drop_identical:
            return Reason.IDENTICAL
        if self.language_check is not LanguageCheck.OFF and not (
            self._in_script(pair.source, pair.source_lang) and self._in_script(pair.target, pair.target_lang)
        ):
            return Reason.SCRIPT
        if self.language_check is LanguageCheck.DETECT and self._in_another_language(pair):
            return Reason.LANGUAGE
        if length_ratio(pair) > self.max_length_ratio:
            return Reason.RATIO
        return None

    def _in_script(self, text: str, lang: str) -> bool:
        """Whether a text has letters of its language's script, and enough of them."""
        scripts = _scripts_of(lang)
        if not scripts:
            return True
        if text.isascii():
            return "Latn" in scripts and _LATIN_LETTER.search(text) is not None
        weights = script_weights(count_scripts(text))
        share = sum(weights.get(script, 0.0) for script in scripts)
        return share > 0 and share >= self.min_script_share

    def _in_another_language(self, pair: Pair) -> bool:
        found = detect_with_confidence(pair.target)
        if found.lang == UND or found.confidence < self.min_confidence:
            return False
        written = pair.target_lang.split("-")[0]  # the detector tells no regions, and seldom scripts
        return not (matches(found.lang, written) or matches(written, found.lang.split("-")[0]))


class FilterReport:
    """Counts what went through the filters, by source, languages and reason."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, str]] = Counter()
        self._removed: Counter[tuple[str, str, Reason]] = Counter()
        self._malformed: Counter[str] = Counter()

    def add(self, pair: Pair, reason: Reason | None) -> None:
        """Count a pair that was removed for this reason, or kept."""
        self.count(pair.origin, f"{pair.source_lang}>{pair.target_lang}", reason)

    def count(self, origin: str, languages: str, reason: Reason | None) -> None:
        """Count a text of another kind than a pair."""
        self._seen[origin, languages] += 1
        if reason is not None:
            self._removed[origin, languages, reason] += 1

    def add_malformed(self, error: PairError) -> None:
        """Count a line that was skipped by a reader; an ``on_skip`` of ``read_pairs``."""
        self._malformed[error.source] += 1

    @property
    def seen(self) -> int:
        """The pairs that came in."""
        return self._seen.total()

    @property
    def kept(self) -> int:
        """The pairs that went out."""
        return self.seen - self._removed.total()

    def removed(self, reason: Reason, *, origin: str | None = None) -> int:
        """The pairs removed for a reason, in all or of one source."""
        return sum(n for (of, _, why), n in self._removed.items() if why is reason and origin in (None, of))

    def to_dict(self) -> dict[str, Any]:
        """All counts as JSON-serialisable values: totals, and a row for each source and pair of languages."""
        rows = []
        for (origin, languages), seen in sorted(self._seen.items()):
            removed = {why.value: n for why in Reason if (n := self._removed[origin, languages, why])}
            kept = seen - sum(removed.values())
            rows.append({"origin": origin, "languages": languages, "seen": seen, "kept": kept, "removed": removed})
        return {
            "seen": self.seen,
            "kept": self.kept,
            "removed": self._by_reason(),
            "malformed": dict(sorted(self._malformed.items())),
            "sources": rows,
        }

    def table(self) -> str:
        """A line for each source and one for the sum, with a column for each reason that was met."""
        met = [reason for reason in Reason if self.removed(reason)]
        header = ["source", "seen", "kept", *met]
        rows = []
        for origin in sorted({origin for origin, _ in self._seen}):
            seen = sum(n for (of, _), n in self._seen.items() if of == origin)
            gone = [self.removed(reason, origin=origin) for reason in met]
            rows.append([origin, str(seen), str(seen - sum(gone)), *map(str, gone)])
        rows.append(["sum", str(self.seen), str(self.kept), *(str(self.removed(reason)) for reason in met)])
        widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
        lines = []
        for first, *rest in [header, *rows]:
            numbers = "  ".join(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
            lines.append(f"{first.ljust(widths[0])}  {numbers}")
        if self._malformed:
            lines.append(f"malformed lines skipped: {self._malformed.total()}")
        return "\n".join(lines)

    def _by_reason(self) -> Mapping[str, int]:
        return {reason.value: n for reason in Reason if (n := self.removed(reason))}


def filtered(pairs: Iterable[Pair], filters: PairFilters, report: FilterReport) -> Iterator[Pair]:
    """The pairs that pass, in order; each one, passed or removed, is counted in the report.

    Duplicates are found within one call: chain the sources to find those between them.
    """
    met: set[int] = set()
    for pair in pairs:
        reason = filters.reason_against(pair)
        if reason is None and filters.drop_duplicates:
            key = hash((_squeezed(pair.source), _squeezed(pair.target), pair.source_lang, pair.target_lang))
            reason = Reason.DUPLICATE if key in met else None
            met.add(key)
        report.add(pair, reason)
        if reason is None:
            yield pair


def length_ratio(pair: Pair) -> float:
    """How many times longer one side is than the other, at least 1; both in characters of English, and ten more.

    For ``Good morning`` (12) and ``早上好`` (3, as long as 8.6): (12 + 10) / (8.6 + 10) = 1.18.
    """
    source = len(pair.source) / _chars_per_english(pair.source_lang) + _RATIO_SLACK
    target = len(pair.target) / _chars_per_english(pair.target_lang) + _RATIO_SLACK
    return max(source, target) / min(source, target)


def _squeezed(text: str) -> str:
    return " ".join(text.casefold().split())


@lru_cache(maxsize=1024)
def _script_code(lang: str) -> str:
    """The script a language is written in (``Hans``, ``Jpan``), or empty where we know none."""
    return to_iso639_3(lang, script=True).partition("-")[2]


@lru_cache(maxsize=1024)
def _scripts_of(lang: str) -> tuple[str, ...]:
    code = _script_code(lang)
    return _WRITTEN_IN.get(code, (code,)) if code else ()


@lru_cache(maxsize=1024)
def _chars_per_english(lang: str) -> float:
    return _CHARS_PER_ENGLISH.get(_script_code(lang), 1.0)
