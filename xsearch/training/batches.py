"""What is in each batch: one language or all, one kind of text, of similar length; the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from xsearch.errors import TrainingError
from xsearch.training.prepared import NO_TEACHER, Prepared
from xsearch.training.recipe import BatchTable, DataTable
from xsearch.training.selection import Kind

# Batches that are cut from one draw of examples sorted by length: more give less padding, fewer more chance.
POOL_BATCHES = 24
MIXED = -1
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BatchRows:
    """Which examples make one batch.

    Attributes:
        kind: of all of them.
        lang: place in ``Prepared.languages``, or ``MIXED``.
        rows: (n,) int64.
    """

    kind: Kind
    lang: int
    rows: Rows


class BatchPlan:
    """An endless sequence of batches, decided by the seed alone: skipping n of them is how a run is resumed.

    Each language of each kind goes through its examples in a new random order again and again. A batch of one language
    cannot be solved by telling languages apart; a mixed one brings texts of different languages against each other
    (LAReQA, Roy et al. 2020, found both to matter).

    Raises:
        TrainingError: a kind of batch has a share, and there is no example of it.
    """

    def __init__(self, prepared: Prepared, batches: BatchTable, data: DataTable, seed: int) -> None:
        self._prepared = prepared
        self._table = batches
        self._seed = seed
        self._costs = np.where(
            prepared.kinds == Kind.QUESTION,
            np.maximum(prepared.texts.lengths, prepared.english.lengths),
            prepared.texts.lengths,
        )
        self._weights = np.array(
            [_odds_of(data.languages.get(lang, data.default_weight), batches) for lang in prepared.languages]
        )
        self._rows: dict[tuple[Kind, int], Rows] = {}
        for kind in Kind:
            for lang in range(len(prepared.languages)):
                rows = np.flatnonzero((prepared.kinds == kind) & (prepared.langs == lang))
                if len(rows):
                    self._rows[kind, lang] = rows
        self._shares = self._kind_shares()

    def __iter__(self) -> Iterator[BatchRows]:
        draw = np.random.default_rng((self._seed, 1))
        streams: dict[tuple[Kind, int], Iterator[Rows]] = {}
        kinds = list(self._shares)
        odds = np.array([self._shares[kind] for kind in kinds])
        while True:
            kind = kinds[draw.choice(len(kinds), p=odds / odds.sum())]
            langs = self._languages(kind)
            mixed = len(langs) > 1 and kind is not Kind.QUESTION and draw.random() < self._table.mixed_languages
            lang = MIXED if mixed else int(langs[draw.choice(len(langs), p=self._odds(langs))])
            if (kind, lang) not in streams:
                streams[kind, lang] = self._mixed(kind) if lang == MIXED else self._single(kind, lang)
            yield BatchRows(kind, lang, next(streams[kind, lang]))

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Those that have a share."""
        return tuple(self._shares)

    def teacher_rows(self, steps: int) -> Rows:
        """The rows of the teacher's vectors that the first ``steps`` batches use, each once, in order."""
        used = np.concatenate([self._prepared.teacher_rows[batch.rows] for batch in islice(iter(self), steps)])
        return np.unique(used[used != NO_TEACHER])

    def _kind_shares(self) -> dict[Kind, float]:
        table = self._table
        shares = {
            Kind.TERM: table.terms,
            Kind.PASSAGE: table.passages,
            Kind.ENGLISH: table.english,
            Kind.QUESTION: table.questions,
        }
        shares[Kind.SENTENCE] = max(0.0, 1.0 - sum(shares.values()))
        for kind, share in shares.items():
            if share > 1e-9 and not self._languages(kind):
                raise TrainingError(
                    f"A share of {share:g} of the batches is to hold examples of kind {kind.name.lower()}",
                    "There are none in the data",
                    "Add files that have some to [data], or set the share in [batches] to 0",
                )
        return {kind: share for kind, share in shares.items() if share > 1e-9}

    def _languages(self, kind: Kind) -> list[int]:
        return [lang for found, lang in self._rows if found is kind]

    def _odds(self, langs: list[int]) -> NDArray[np.float64]:
        weights: NDArray[np.float64] = self._weights[langs]
        if weights.sum() <= 0:
            weights = np.ones(len(langs))
        odds: NDArray[np.float64] = weights / weights.sum()
        return odds

    def _single(self, kind: Kind, lang: int) -> Iterator[Rows]:
        draw = np.random.default_rng((self._seed, 2, int(kind), lang))
        order = self._endless(kind, lang, draw)
        while True:
            pool = self._take(order, len(self._rows[kind, lang]))
            yield from self._cut(pool, draw, whole=len(pool) == len(self._rows[kind, lang]))

    def _mixed(self, kind: Kind) -> Iterator[Rows]:
        draw = np.random.default_rng((self._seed, 3, int(kind)))
        langs = self._languages(kind)
        orders = {lang: self._endless(kind, lang, draw) for lang in langs}
        odds = self._odds(langs)
        total = sum(len(self._rows[kind, lang]) for lang in langs)
        while True:
            pool: list[int] = []
            tokens = 0
            while tokens < POOL_BATCHES * self._table.tokens and len(pool) < total:
                row = next(orders[langs[draw.choice(len(langs), p=odds)]])
                pool.append(row)
                tokens += int(self._costs[row])
            yield from self._cut(np.array(pool), draw, whole=False)

    def _endless(self, kind: Kind, lang: int, draw: np.random.Generator) -> Iterator[int]:
        while True:
            yield from draw.permutation(self._rows[kind, lang]).tolist()

    def _take(self, order: Iterator[int], at_most: int) -> Rows:
        """The next examples of a language, enough for some batches; at the turn of a round one may come twice."""
        pool: list[int] = []
        tokens = 0
        while tokens < POOL_BATCHES * self._table.tokens and len(pool) < at_most:
            pool.append(next(order))
            tokens += int(self._costs[pool[-1]])
        return np.array(pool)

    def _cut(self, pool: Rows, draw: np.random.Generator, *, whole: bool) -> list[Rows]:
        """Batches of similar length that hold at most the tokens and texts of the recipe, in random order.

        An example that is left alone has nothing to be told from. It is left out when the next draw brings it other
        company; when a pool is ``whole``, all of a language, the same one would be alone again, and it takes its
        neighbour along.
        """
        ordered = pool[np.argsort(self._costs[pool], kind="stable")]
        batches: list[Rows] = []
        start = 0
        for end in range(1, len(ordered) + 1):
            size = end - start
            full = size >= self._table.texts
            if end < len(ordered):
                full = full or (size + 1) * int(self._costs[ordered[end]]) > self._table.tokens
            if full or end == len(ordered):
                alone = size == 1 and start > 0 and self._fits_two(ordered[start])
                if not alone or whole:
                    batches.append(ordered[start - alone : end])
                start = end
        return [batches[place] for place in draw.permutation(len(batches))]

    def _fits_two(self, row: int) -> bool:
        """Whether a batch can hold this example and a shorter one."""
        return self._table.texts > 1 and 2 * int(self._costs[row]) <= self._table.tokens


def _odds_of(weight: float, batches: BatchTable) -> float:
    """What a language's weight makes of its share; 0 stays 0, whatever the temperature."""
    return float(weight**batches.temperature) if weight > 0 else 0.0
