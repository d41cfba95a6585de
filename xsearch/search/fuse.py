"""Two rankings made one: what a passage means (cosine) and the words it shares with the query.

Words are evidence within a language and noise across languages: every passage in the query's language shares some with
it by chance, and a passage in another language answers without sharing any. So which languages stand where is left to
meaning, with one exception:

1. *Within each language words rearrange.* Its passages are put in the order of ``cosine + ORDER_WEIGHT * words``, and
   the first of them gets the best cosine of that language, the second the next, and so on. How many passages of a
   language are among the first k stays as meaning alone has it.
2. *What stands out is lifted.* A passage that shares more than other passages of its own language do, names and rare
   words above all, moves up by ``LIFT`` times that surplus of what its score lacks to 1, past other languages too.

No language of the query is needed, only those of the passages, which the index knows.

Measured with vectors of multilingual-e5-small after a linear debias step (``benchmarks/results/fusion.json``, with a
table in ``benchmarks/README.md``). The four numbers below were chosen by trials on the same data, which are not kept.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from xsearch.ranking import order

# How much shared words count beside the cosine in the order of passages of one language.
ORDER_WEIGHT = 1.5
# What a passage is lifted by that shares all and whose language shares nothing. A word that only one passage holds, as
# the query, finds it first for 90 % of words, and for 8 % in dense search.
LIFT = 0.5
# Passages of its language, those nearest to the query, that tell what one shares by chance.
NEIGHBOURS = 10
# In a small index every word is rare; it counts as rare as it would be among so many passages.
MANY_PASSAGES = 10_000

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]


def fuse(cosines: Floats, shares: Floats, langs: Integers, ids: Integers, *, passages: int) -> NDArray[np.float32]:
    """The score of each passage, in [-1, 1]: the cosine itself where no word is shared.

    ``place + (1 - place) * LIFT * max(0, words - chance)``, where ``place`` is the cosine that a passage's place among
    those of its language has, ``words`` its share of BM25 made absolute (:func:`evidence`), and ``chance`` the mean and
    one standard deviation of ``words`` over the other ones of the :data:`NEIGHBOURS` nearest in its language.

    Two passages in one language with cosines 0.5 and 0.4 of which the second alone shares words, 0.2: its order value
    is 0.4 + 1.5 * 0.2 = 0.7, so it takes the first place, 0.5; the other one shares nothing by chance, so it is lifted
    by (1 - 0.5) * 0.5 * 0.2 = 0.05, to 0.55. The other passage scores 0.4.

    Args:
        cosines: ``(n,)``, in [-1, 1].
        shares: ``(n,)``, BM25 as a share of the most that any passage could get, in [0, 1]; 0 where no word is shared.
        langs: ``(n,)``, a number for each language.
        ids: ``(n,)``, which decide where passages of a language are equal: the higher one comes first.
        passages: how many there are in the index.
    """
    if not len(cosines):
        return np.empty(0, dtype=np.float32)
    kinds = np.unique(langs, return_inverse=True)[1]
    words = evidence(shares, passages=passages)
    alone = _by_kind(order(cosines, ids), kinds)
    places = _places(cosines, words, kinds, ids, alone=alone)
    surplus = np.maximum(0.0, words - _chance(words, kinds, alone))
    return (places + (1.0 - places) * (LIFT * surplus)).clip(-1, 1).astype(np.float32)


def evidence(shares: Floats, *, passages: int) -> NDArray[np.float64]:
    """Shares of BM25 made comparable between indexes: in one of few passages, a word's rarity says little.

    The share is relative to a word that one passage of the index holds; this is relative to one that one of
    :data:`MANY_PASSAGES` holds. In an index of 99 passages, a share of 0.4 is 0.4 * log(100) / log(10,001) = 0.2.
    """
    scaled: NDArray[np.float64] = shares.astype(np.float64) * (
        math.log(passages + 1) / math.log(max(passages, MANY_PASSAGES) + 1)
    )
    return scaled


def _by_kind(ranked: NDArray[np.intp], kinds: Integers) -> NDArray[np.intp]:
    """The same places sorted by language too, without changing the order within one."""
    return ranked[np.argsort(kinds[ranked], kind="stable")]


def _places(
    cosines: Floats, words: Floats, kinds: Integers, ids: Integers, *, alone: NDArray[np.intp]
) -> NDArray[np.float64]:
    """For each passage the cosine of its place: those of its language, best first, in the order with words.

    Args:
        alone: places by language and, within it, by meaning alone.
    """
    meaning = cosines.astype(np.float64)
    places = np.empty_like(meaning)
    places[_by_kind(order(meaning + ORDER_WEIGHT * words, ids), kinds)] = meaning[alone]
    return places


def _chance(words: Floats, kinds: Integers, ranked: NDArray[np.intp]) -> NDArray[np.float64]:
    """What passages of its language share that are as near to the query: mean and one standard deviation, without it.

    0 where there is no other one.

    Args:
        ranked: places by language and, within it, by meaning.
    """
    first = np.searchsorted(kinds[ranked], np.arange(kinds.max() + 1))
    near = np.zeros(len(words), dtype=bool)
    near[ranked] = np.arange(len(ranked)) - first[kinds[ranked]] < NEIGHBOURS
    own = np.where(near, words, 0.0)
    others = np.bincount(kinds, weights=near)[kinds] - near
    count = np.maximum(others, 1)
    mean = (np.bincount(kinds, weights=own)[kinds] - own) / count
    square = (np.bincount(kinds, weights=own**2)[kinds] - own**2) / count
    chance: NDArray[np.float64] = mean + np.sqrt(np.maximum(0.0, square - mean**2))
    return chance
