"""The texts of a run by language: those of its examples, and plain text that a recipe names besides."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from xsearch.errors import PairError, TrainingError
from xsearch.text.language import detect_with_confidence
from xsearch.training.bitext import OnError, Skips, pair_language
from xsearch.training.lines import read_lines, unpacked_name
from xsearch.training.overlap import EvaluationGuard
from xsearch.training.recipe import DataTable
from xsearch.training.selection import Example, Kind
from xsearch.training.sources import find

# More of a language changes which pieces are frequent in it by little, and takes a minute of a processor for eight
# times as much.
MAX_CHARACTERS = 1_000_000
# Fewer characters of a language say little about which pieces it uses.
MIN_CHARACTERS = 1_000
# How sure the detector must be that a passage is not in the language of its question, but in English.
MIN_CONFIDENCE = 0.8


def language_texts(
    examples: Iterable[Example], more: Mapping[str, Sequence[str]], data: DataTable, seed: int
) -> dict[str, list[str]]:
    """The texts of each language that has a weight, each text once, in random order, to ``MAX_CHARACTERS``.

    Args:
        examples: both sides count, the English too.
        more: other texts by language.

    Raises:
        TrainingError: a language with a weight has less than ``MIN_CHARACTERS``.
    """
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for example in examples:
        found[example.lang][example.text] = None
        lang = "en"
        if example.kind is Kind.QUESTION and not _is_english(example.english):
            lang = example.lang
        found[lang][example.english] = None
    for lang, texts in more.items():
        found[lang].update(dict.fromkeys(texts))
    chosen: dict[str, list[str]] = {}
    for lang in sorted(found):
        weight = data.languages.get(lang, data.default_weight)
        if weight <= 0:
            continue
        chosen[lang] = _sample(list(found[lang]), random.Random(f"{seed} pieces {lang}"))
        characters = sum(map(len, chosen[lang]))
        if characters < MIN_CHARACTERS:
            raise TrainingError(
                f"{lang} has the weight {weight:g}, and the data has {characters:,} characters of it",
                f"At least {MIN_CHARACTERS:,} are needed to count its pieces",
                f"Set data.languages.{lang} to 0, or name texts of it in vocabulary.texts",
            )
    return chosen


def read_texts(data: DataTable, patterns: Sequence[str], folder: Path) -> dict[str, list[str]]:
    """The lines of plain text files by language, without those that overlap the evaluation data.

    Args:
        patterns: of files named NAME.LANG.txt, also packed; they start from ``data.folder``.
        folder: of the recipe.

    Raises:
        TrainingError: a pattern matches no file, or a file's name says no language.
        PairError: a file cannot be read.
    """
    if not patterns:
        return {}
    root = folder / data.folder
    guard = EvaluationGuard.read(tuple(find(root, data.evaluation)))
    texts: dict[str, list[str]] = defaultdict(list)
    for path in find(root, patterns):
        lines = (line.strip() for _, line in read_lines(path, Skips(str(path), OnError.STOP)) if line is not None)
        texts[_language(path)] += [line for line in lines if line and not guard.overlaps(line)]
    return dict(texts)


def text_languages(data: DataTable, patterns: Sequence[str], folder: Path) -> set[str]:
    """The languages that :func:`read_texts` will find, by the files' names."""
    return {_language(path) for path in find(folder / data.folder, patterns)}


@lru_cache(maxsize=64)  # the questions of a passage follow one another
def _is_english(passage: str) -> bool:
    found = detect_with_confidence(passage)
    return found.lang == "en" and found.confidence >= MIN_CONFIDENCE


def _sample(texts: list[str], draw: random.Random) -> list[str]:
    draw.shuffle(texts)
    left = MAX_CHARACTERS
    for number, text in enumerate(texts):
        left -= len(text)
        if left <= 0:
            return texts[: number + 1]
    return texts


def _language(path: Path) -> str:
    parts = unpacked_name(path.name).split(".")
    try:
        if len(parts) < 3 or parts[-1] != "txt":
            raise TrainingError(
                f"{path} is named in vocabulary.texts",
                "A file of texts is named NAME.LANG.txt, NAME.LANG.txt.zst or NAME.LANG.txt.gz",
                "Rename it, such as news.cs.txt for Czech",
            )
        return pair_language(parts[-2], str(path))
    except PairError as exc:
        raise TrainingError(
            f"{path} is named in vocabulary.texts, and {parts[-2]!r} is no language that we know",
            "A file of texts is named NAME.LANG.txt",
            "Rename it, such as news.cs.txt for Czech",
        ) from exc
