"""The translated sentences that a debias step is fitted to: chosen from parallel files, balanced over their sources.

The choice goes by a hash of the English side. So languages that translate the same English text are given the same
sentences of it, which compares languages by what they say alike, and spares encoding the English again.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from pathlib import Path
from typing import NamedTuple

from xsearch.errors import InvalidArgumentError, TrainingError
from xsearch.training.bitext import OnError, Pair, PairOptions
from xsearch.training.filters import FilterReport, PairFilters, filtered
from xsearch.training.overlap import EvaluationGuard
from xsearch.training.pairs import read_pairs
from xsearch.training.selection import allot
from xsearch.training.sources import english_first, find, origin_of, target_language

OnFile = Callable[[Path], None]
TEXTS = 2_000
"""Sentences of a language. The mean of so many differences is known to a fiftieth of their spread."""
MIN_TEXTS = 200
"""A language with fewer is left out: its mean would tell its topics as much as its language."""
MAX_CHARS = 240
"""Longer texts cost time and say of the language what sentences say."""
MIN_ENGLISH_WORDS = 3
HELD_OUT_OF = 12
"""One English sentence in so many is measured on, and never fitted to, in any language."""


class Translated(NamedTuple):
    """An English sentence and its translation."""

    english: str
    text: str


@dataclass(frozen=True, slots=True)
class TextOptions:
    """Which sentences are taken.

    Attributes:
        texts: of each language at most.
        min_texts: a language with fewer is left out.
        evaluation: files whose texts none of them may overlap.
    """

    texts: int = TEXTS
    min_texts: int = MIN_TEXTS
    evaluation: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.min_texts <= self.texts:
            raise InvalidArgumentError(
                f"{self.texts} texts of a language are asked for, at least {self.min_texts}",
                f"At least {self.min_texts} are needed of each language",
                f"Ask for {self.min_texts} or more",
            )


@dataclass(frozen=True, slots=True)
class LanguageTexts:
    """The sentences of one language: those to fit to, and those held out."""

    lang: str
    fitted: tuple[Translated, ...]
    held_out: tuple[Translated, ...]


@dataclass(frozen=True, slots=True)
class DebiasTexts:
    """The sentences of all languages but English.

    Attributes:
        languages: by tag.
        left_out: languages with too few sentences, and how many they have.
        report: what the filters took out, and why.
    """

    languages: tuple[LanguageTexts, ...]
    left_out: dict[str, int] = field(default_factory=dict)
    report: FilterReport = field(default_factory=FilterReport)


def collect_texts(
    patterns: Sequence[str], options: TextOptions, *, root: Path | None = None, on_file: OnFile | None = None
) -> DebiasTexts:
    """Reads parallel files and chooses sentences; malformed lines are skipped and counted in the report.

    Args:
        patterns: of files, English on one side, as ``xsearch train`` reads them.
        root: where patterns start that are not absolute; the working directory by default.

    Raises:
        TrainingError: a pattern matches no file, neither side of a file is English, or fewer than two languages,
            English among them, have enough sentences.
        PairError: a file cannot be read.
        EvaluationError: a file of evaluation data cannot be read.
    """
    guard = EvaluationGuard.read(options.evaluation) if options.evaluation else None
    by_language: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(set(_files(root or Path.cwd(), patterns))):
        by_language[target_language(path)].append(path)
    report = FilterReport()
    languages: list[LanguageTexts] = []
    left_out: dict[str, int] = {}
    for lang in sorted(by_language):
        chosen = list(_chosen(by_language[lang], options, guard, report, on_file))
        if len(chosen) < options.min_texts:
            left_out[lang] = len(chosen)
            continue
        held_out = tuple(one for one in chosen if _rank(one.english) % HELD_OUT_OF == 0)
        fitted = tuple(one for one in chosen if _rank(one.english) % HELD_OUT_OF)
        languages.append(LanguageTexts(lang, fitted, held_out))
    if not languages:
        few = ", ".join(f"{lang} {count}" for lang, count in left_out.items())
        raise TrainingError(
            f"No language besides English has {options.min_texts} sentences ({few})",
            "A step is fitted to English and at least one other language",
            "Give more parallel text with --parallel; single words and names do not count",
        )
    return DebiasTexts(tuple(languages), left_out, report)


def _files(root: Path, patterns: Sequence[str]) -> Iterator[Path]:
    if not patterns:
        raise TrainingError(
            "No parallel text was given", "Files of English and its translations", "Name them with --parallel"
        )
    for pattern in patterns:
        try:
            yield from find(root, [pattern])
        except TrainingError as exc:
            raise TrainingError(
                f"No file matches {root / pattern}",
                "Parallel text, such as news.en-de.tsv",
                "Check the path; quote a pattern, so that the shell leaves it as it is",
            ) from exc


def _chosen(
    paths: Sequence[Path],
    options: TextOptions,
    guard: EvaluationGuard | None,
    report: FilterReport,
    on_file: OnFile | None,
) -> Iterator[Translated]:
    """About ``options.texts`` sentences of one language, as many of each source as there are, or as its share is."""
    filters = PairFilters(guard=guard, min_chars=4, max_chars=MAX_CHARS, max_length_ratio=2.5)
    by_origin: dict[str, dict[int, Translated]] = defaultdict(dict)
    for path in paths:
        if on_file is not None:
            on_file(path)
        rows = english_first(read_pairs(path, PairOptions(on_error=OnError.SKIP), on_skip=report.add_malformed), path)
        found = by_origin[origin_of(path)]
        found |= _first(filtered(rows, filters, report), options.texts)
    # Chosen by equal shares: what a source is about cancels in the differences, how it is written does not.
    sizes = {origin: len(found) for origin, found in by_origin.items()}
    quotas = allot(options.texts, dict.fromkeys(sizes, 1.0), sizes)
    met: set[int] = set()
    for origin in sorted(by_origin):
        own = sorted(rank for rank in by_origin[origin] if rank not in met)[: quotas[origin]]
        met.update(own)
        yield from (by_origin[origin][rank] for rank in own)


def _first(pairs: Iterable[Pair], count: int) -> dict[int, Translated]:
    """The ``count`` pairs whose English comes first in the order of hashes, one a hash."""
    sentences = (pair for pair in pairs if len(pair.source.split()) >= MIN_ENGLISH_WORDS)
    ranked = ((_rank(pair.source), pair.target, pair.source) for pair in sentences)
    return {rank: Translated(english, text) for rank, text, english in nsmallest(count, ranked)}


def _rank(english: str) -> int:
    return int.from_bytes(hashlib.blake2b(english.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
