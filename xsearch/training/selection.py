"""Which rows of the data are trained on: so many of each language, balanced over its sources, and passages of rows.

All is drawn with the recipe's seed: the same files and recipe give the same selection.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from xsearch.text.normalise import content_hash
from xsearch.training.bitext import Pair

# A source whose English rows are shorter on average (in characters) holds words or single phrases: its neighbouring
# rows do not make a passage.
MIN_ROW_CHARS = 55
# Two texts that share their longest words are taken for near-twins.
TWIN_WORDS = 6
# A passage never has more than this many times the words asked for.
MAX_PASSAGE_SHARE = 1.5
# Rows follow one another when filters took out fewer than this many between them.
MAX_GAP_ROWS = 20


class Kind(IntEnum):
    """What an example is made of."""

    SENTENCE = 0
    TERM = 1
    PASSAGE = 2
    ENGLISH = 3
    QUESTION = 4


@dataclass(frozen=True, slots=True)
class Example:
    """One training example.

    Attributes:
        kind: what it is made of.
        lang: of ``text``.
        text: what the student reads.
        english: what the teacher reads; of a question, the passage that answers it.
        origin: the source.
    """

    kind: Kind
    lang: str
    text: str
    english: str
    origin: str

    def groups(self) -> tuple[int, int, int]:
        """Ids of what it shares with others: two examples with one id in common are no negatives of each other."""
        return _group(self.english), _group(self.text), _group(twin_key(self.english))


def twin_key(text: str) -> str:
    """The longest words of a text in alphabetical order: equal for near-twins, such as reordered or regendered ones."""
    words = sorted(set(text.casefold().split()), key=lambda word: (-len(word), word))[:TWIN_WORDS]
    return " ".join(sorted(words)) if len(words) >= TWIN_WORDS else text.casefold()


def select(
    rows: Mapping[str, Sequence[Pair]], count: int, weights: Mapping[str, float], kind: Kind, draw: random.Random
) -> list[Example]:
    """About ``count`` rows of one language: a source has a share by its weight and the root of its size.

    Args:
        rows: by source.
        weights: of sources, 1 where not named.
    """
    shares = {origin: weights.get(origin, 1.0) * math.sqrt(len(found)) for origin, found in rows.items()}
    quotas = allot(count, shares, {origin: len(found) for origin, found in rows.items()})
    chosen = []
    for origin in sorted(rows):
        chosen += draw.sample(list(rows[origin]), quotas[origin])
    return [Example(kind, pair.target_lang, pair.target, pair.source, pair.origin) for pair in chosen]


def allot(count: int, shares: Mapping[str, float], limits: Mapping[str, int]) -> dict[str, int]:
    """``count`` divided by ``shares``, no part above its limit; what a small part leaves goes to the others."""
    quotas = dict.fromkeys(shares, 0)
    open_parts = {key for key, share in shares.items() if share > 0 and limits[key] > 0}
    left = count
    while open_parts and left > 0:
        total = sum(shares[key] for key in open_parts)
        full = {key for key in open_parts if left * shares[key] / total >= limits[key]}
        if not full:
            for key in open_parts:
                quotas[key] = int(left * shares[key] / total)
            break
        for key in full:
            quotas[key] = limits[key]
        left -= sum(limits[key] for key in full)
        open_parts -= full
    return quotas


def passages(
    rows: Mapping[str, Sequence[Pair]], count: int, weights: Mapping[str, float], words: int, draw: random.Random
) -> list[Example]:
    """About ``count`` passages of about ``words`` English words, joined from rows that follow one another."""
    joined = {
        origin: _joined(found, words, draw)
        for origin, found in rows.items()
        if sum(len(pair.source) for pair in found) >= MIN_ROW_CHARS * len(found)
    }
    shares = {origin: weights.get(origin, 1.0) * math.sqrt(len(found)) for origin, found in joined.items()}
    quotas = allot(count, shares, {origin: len(found) for origin, found in joined.items()})
    chosen = []
    for origin in sorted(joined):
        chosen += draw.sample(joined[origin], quotas[origin])
    return chosen


def _joined(rows: Sequence[Pair], words: int, draw: random.Random) -> list[Example]:
    """Runs of rows, none in two runs; their lengths vary from half to one and a half of ``words``."""
    result: list[Example] = []
    run: list[Pair] = []
    length, goal = 0, draw.uniform(0.5, MAX_PASSAGE_SHARE) * words
    for pair in rows:
        size = len(pair.source.split())
        if run and (_contains(run[-1].source, pair.source) or size > words):
            continue
        if length + size > MAX_PASSAGE_SHARE * words or (run and not 0 <= pair.line - run[-1].line <= MAX_GAP_ROWS):
            run, length = [], 0
        run.append(pair)
        length += size
        if length >= goal:
            if len(run) > 1:
                result.append(_passage(run))
            run, length, goal = [], 0, draw.uniform(0.5, MAX_PASSAGE_SHARE) * words
    return result


def _passage(run: Sequence[Pair]) -> Example:
    gap = "" if run[0].target_lang.split("-")[0] in ("zh", "ja", "th") else " "
    return Example(
        Kind.PASSAGE,
        run[0].target_lang,
        gap.join(pair.target for pair in run),
        " ".join(pair.source for pair in run),
        run[0].origin,
    )


def _contains(left: str, right: str) -> bool:
    return left in right or right in left


def english_examples(examples: Iterable[Example], count: int, draw: random.Random) -> list[Example]:
    """``count`` examples in English, which are their own translation, from the English sides of others."""
    sides: dict[Kind, set[str]] = defaultdict(set)
    for example in examples:
        if example.kind in (Kind.SENTENCE, Kind.PASSAGE):
            sides[example.kind].add(example.english)
    chosen: list[str] = []
    for kind, share in ((Kind.SENTENCE, 0.7), (Kind.PASSAGE, 0.3)):
        pool = sorted(sides[kind])
        chosen += draw.sample(pool, min(len(pool), int(share * count)))
    return [Example(Kind.ENGLISH, "en", text, text, "english") for text in chosen]


def _group(text: str) -> int:
    """A positive 62-bit id of a text."""
    return int(content_hash(text)[:16], 16) >> 2
