"""Bilingual dictionaries: which words translate which, and how often aligned vectors find the translation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xsearch.encoder.protocol import unit_vectors
from xsearch.errors import EvaluationError, InvalidArgumentError, PairError
from xsearch.training.bitext import OnError, Skips
from xsearch.training.csls import DEFAULT_K, Retrieval, Rows, nearest
from xsearch.training.lines import read_lines
from xsearch.training.word_vectors import WordVectors

PRECISION_AT = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Dictionary:
    """Source words, each with its translations, in the order of the file.

    Attributes:
        translations: one or more for each word.
        duplicates: lines of the file that repeat an earlier one.
    """

    translations: Mapping[str, tuple[str, ...]]
    duplicates: int = 0

    def __len__(self) -> int:
        return len(self.translations)


@dataclass(frozen=True, slots=True)
class Precision:
    """How many source words have one of their translations among the nearest target words.

    Attributes:
        retrieval: how the nearest were found.
        words: source words of the dictionary.
        covered: those of them that have a vector and a translation with a vector; only they are asked.
        at: by the number of nearest words that are looked at, the share of the covered words, in [0, 1].
    """

    retrieval: Retrieval
    words: int
    covered: int
    at: Mapping[int, float]

    @property
    def coverage(self) -> float:
        """The share of the dictionary's words that are asked."""
        return self.covered / self.words


def read_dictionary(path: Path) -> Dictionary:
    """A dictionary from lines of ``word TAB translation``, or ``word translation`` as MUSE writes them; also packed.

    With a TAB both sides may be phrases. A word may come in several lines, with a translation in each.

    Raises:
        PairError: a line is malformed (named as ``path:123``), or there is none.
        MissingExtraError: the file is ``.zst`` and zstandard is not installed.
    """
    found: dict[str, dict[str, None]] = {}
    duplicates = 0
    # The first malformed line raises, so that each of the others has a text.
    lines = ((row, text) for row, text in read_lines(path, Skips(str(path), OnError.STOP)) if text is not None)
    for number, line in lines:
        fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
        if len(fields) != 2 or not all(fields):
            raise PairError(
                str(path),
                f"this line is {line[:60]!r}",
                "A word and its translation, with a TAB between them, or a space where both are single words",
                "Mend or remove the line",
                line=number,
            )
        known = found.setdefault(fields[0], {})
        duplicates += fields[1] in known
        known[fields[1]] = None
    if not found:
        raise PairError(str(path), "the file is empty", "A line for each word and translation", "Check the path")
    return Dictionary({word: tuple(translations) for word, translations in found.items()}, duplicates)


def split_dictionary(dictionary: Dictionary, test_words: int, *, seed: int = 0) -> tuple[Dictionary, Dictionary]:
    """A part to learn from and a part with ``test_words`` other source words, drawn at random.

    Raises:
        InvalidArgumentError: no word would be left to learn from, or none is asked for.
    """
    if not 0 < test_words < len(dictionary):
        raise InvalidArgumentError(
            f"{test_words} words were to be held out of {len(dictionary)}",
            "At least one is held out, and at least one stays",
            "Hold out fewer",
        )
    words = list(dictionary.translations)
    held_out = {words[row] for row in np.random.default_rng(seed).permutation(len(words))[:test_words]}
    train = {word: found for word, found in dictionary.translations.items() if word not in held_out}
    test = {word: found for word, found in dictionary.translations.items() if word in held_out}
    return Dictionary(train), Dictionary(test)


def known_pairs(dictionary: Dictionary, source: Sequence[str], target: Sequence[str]) -> Rows:
    """``(p, 2)``: the rows of source and target words of all entries whose two sides have vectors.

    A word that is not there as it is written is looked for in lower case: vectors are often trained so.
    """
    pairs = [(row, other) for row, others in _known(dictionary, source, target) for other in others]
    return np.array(list(dict.fromkeys(pairs)), dtype=np.int64).reshape(-1, 2)


def precision(
    dictionary: Dictionary,
    source: WordVectors,
    target: WordVectors,
    *,
    retrieval: Retrieval = Retrieval.CSLS,
    k: int = DEFAULT_K,
) -> Precision:
    """Precision at 1, 5 and 10 over the dictionary's words, each against all target words (Conneau et al. 2018).

    A word counts as right when any of its translations is among the nearest. Example: of two covered words the one
    has its translation first, the other third: P@1 is 0.5, P@5 is 1.

    Args:
        source, target: aligned, as :func:`xsearch.training.align.align` gives them.
        k: neighbours of CSLS.

    Raises:
        EvaluationError: no word of the dictionary can be asked.
    """
    asked = list(_known(dictionary, source.words, target.words))
    if not asked:
        raise EvaluationError(
            f"None of the {len(dictionary)} words of the test dictionary can be asked",
            "A word and one of its translations have a vector",
            "Check that the dictionary is of these two languages, in this order",
        )
    vectors = unit_vectors(source.vectors)
    rows = np.array([row for row, _ in asked])
    found = nearest(
        vectors[rows],
        unit_vectors(target.vectors),
        max(PRECISION_AT),
        retrieval=retrieval,
        k=k,
        background=vectors,
    )
    hits = np.array([np.isin(line, gold) for line, (_, gold) in zip(found, asked, strict=True)])
    return Precision(
        retrieval=retrieval,
        words=len(dictionary),
        covered=len(asked),
        at={top: float(hits[:, :top].any(axis=1).mean()) for top in PRECISION_AT},
    )


def _known(dictionary: Dictionary, source: Sequence[str], target: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
    """Row of each word that has a vector, with those of its translations; words with no such translation are left."""
    source_rows = {word: row for row, word in enumerate(source)}
    target_rows = {word: row for row, word in enumerate(target)}
    for word, translations in dictionary.translations.items():
        row = _row(word, source_rows)
        others = [other for text in translations if (other := _row(text, target_rows)) is not None]
        if row is not None and others:
            yield row, list(dict.fromkeys(others))


def _row(word: str, rows: Mapping[str, int]) -> int | None:
    found = rows.get(word)
    return rows.get(word.lower()) if found is None else found
