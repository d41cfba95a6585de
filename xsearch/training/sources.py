"""Which files a recipe's patterns name, what language each is in, and their pairs with the English side first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from xsearch.errors import TrainingError
from xsearch.text.tags import UND, canonical_tag, is_language_code
from xsearch.training.bitext import Pair, PairOptions
from xsearch.training.lines import unpacked_name
from xsearch.training.moses import find_moses
from xsearch.training.pairs import read_pairs

WILDCARDS = "*?["


def find(root: Path, patterns: Sequence[str]) -> list[Path]:
    """The files that match each pattern, in order; ``NAME.LANG-LANG`` stands for the two files of Moses pairs.

    Args:
        root: what patterns that are not absolute start from.

    Raises:
        TrainingError: a pattern matches nothing.
        PairError: of Moses pairs one file is there alone.
    """
    found: list[Path] = []
    for pattern in patterns:
        matches = _matches(root, pattern)
        if not matches:
            raise TrainingError(
                f"No file matches {root / pattern}",
                "Every pattern of [data] must match a file",
                "Mend the pattern, or data.folder that it starts from",
            )
        found += matches
    return found


def target_language(path: Path) -> str:
    """The language beside English, as the file's name says it: ``news.en-zh-Hant.tsv.zst`` is zh-Hant.

    Where the name says none, the first pair does.

    Raises:
        TrainingError: neither side is English, or there are no pairs.
        PairError: the languages are not known.
    """
    _, named = _parts(path)
    if named:
        first, second = (canonical_tag(code) for code in named)
        return second if is_english(first) or not is_english(second) else first
    pair = next(english_first(read_pairs(path), path), None)
    if pair is None:
        raise TrainingError(f"{path} holds no pairs", "Every file of [data] holds some", "Leave it out of [data]")
    return pair.target_lang


def origin_of(path: Path) -> str:
    """The name of the data in a file, as its pairs carry it."""
    return _parts(path)[0]


def english_first(pairs: Iterable[Pair], path: Path) -> Iterator[Pair]:
    """The pairs, turned round where their second side is English and the first is not.

    Raises:
        TrainingError: neither side is English.
    """
    for pair in pairs:
        if is_english(pair.source_lang):
            yield pair
        elif is_english(pair.target_lang):
            yield Pair(pair.target, pair.source, pair.target_lang, pair.source_lang, pair.origin, pair.line)
        else:
            raise TrainingError(
                f"{path} is in {pair.source_lang} and {pair.target_lang}",
                "One side of the training data must be English: the other languages meet there",
                "Leave the file out of [data]",
            )


def is_english(tag: str) -> bool:
    """Whether a canonical tag is one of English, whatever the region."""
    return tag.split("-")[0] == "en"


def _matches(root: Path, pattern: str) -> list[Path]:
    if not pattern:
        return []
    place = Path(pattern)
    if place.is_absolute():
        root, pattern = Path(place.anchor), str(place.relative_to(place.anchor))
    matches = sorted(root.glob(pattern))
    if not matches and not any(char in pattern for char in WILDCARDS):
        moses = find_moses(root / pattern, PairOptions())
        return [root / pattern] if moses is not None else []
    return matches


def _parts(path: Path) -> tuple[str, tuple[str, str] | None]:
    """Origin and, where the name says them, the codes of both languages."""
    pieces = unpacked_name(path.name).split(".")
    for place in range(len(pieces) - 1, 0, -1):
        first, _, second = pieces[place].partition("-")
        if first and second and all(is_language_code(code) and canonical_tag(code) != UND for code in (first, second)):
            return ".".join(pieces[:place]), (first, second)
    return ".".join(pieces[:-1]) or path.name, None
