"""Embeddings of a new vocabulary from those of an English model: what a piece means is read off parallel sentences.

An English piece keeps its embedding. A piece of another language takes the mean of the English pieces that it is
aligned with, weighted by how often; a foreign sentence then reads to the model's body like a word-by-word gloss. In the
manner of WECHSEL (Minixhofer et al. 2022) and FOCUS (Dobler & de Melo 2023), with a word alignment (IBM model 1) of
parallel text in the place of bilingual word vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from xsearch.training.word_alignment import Alignment

Floats = NDArray[np.float32]
# A piece that English has too, such as "die" or "gift", is as English as its share of uses there, times this.
ENGLISH_PRIOR = 4.0


def transplant(
    size: int,
    base: Floats,
    kept: Mapping[int, int],
    alignments: Iterable[Alignment],
    *,
    english_counts: NDArray[np.float64],
    other_counts: NDArray[np.float64],
    min_probability: float,
    seed: int,
) -> tuple[Floats, int]:
    """Embeddings ``(size, dim)`` of the new vocabulary, and for how many new pieces no translation was found.

    Args:
        size: of the new vocabulary.
        base: (n, dim), the English model's embeddings.
        kept: new id -> id in ``base``.
        alignments: new ids -> ids in ``base``, of each language.
        english_counts, other_counts: (size,), how often English text and all other text use a piece.
        min_probability: links that make up less than this of a piece's are noise and are left out.
        seed: of the embeddings of pieces without a translation: normal, of the mean and spread of ``base``.
    """
    glossed, support = _glosses(size, base, alignments, min_probability)
    usual = np.median(np.linalg.norm(base[list(kept.values())], axis=1)) if kept else 1.0
    lengths = np.linalg.norm(glossed, axis=1, keepdims=True)
    has_gloss = (support > 0) & (lengths[:, 0] > 1e-6)
    scaled = np.divide(glossed, lengths, out=np.zeros_like(glossed), where=lengths > 1e-6) * usual
    spread = np.random.default_rng(seed)
    result: Floats = spread.normal(base.mean(0), base.std(0), size=(size, base.shape[1])).astype(np.float32)
    result[has_gloss] = scaled[has_gloss]
    for new, old in kept.items():
        english = ENGLISH_PRIOR * english_counts[new] + 1.0
        share = english / (english + other_counts[new]) if has_gloss[new] else 1.0
        result[new] = share * base[old] + (1.0 - share) * (scaled[new] if has_gloss[new] else 0.0)
    unknown = int(size - np.count_nonzero(has_gloss | np.isin(np.arange(size), list(kept))))
    return result, unknown


def _glosses(
    size: int, base: Floats, alignments: Iterable[Alignment], min_probability: float
) -> tuple[Floats, NDArray[np.float64]]:
    """The weighted sum of aligned English embeddings of each piece, and the weight it rests on."""
    sums = np.zeros((size, base.shape[1]), dtype=np.float64)
    support = np.zeros(size)
    for links in alignments:
        totals = np.bincount(links.source, weights=links.count, minlength=size)
        strong = links.count >= min_probability * totals[links.source]
        source, target, count = links.source[strong], links.target[strong], links.count[strong]
        order = np.argsort(source, kind="stable")
        source, target, count = source[order], target[order], count[order]
        for start in range(0, len(source), 500_000):
            part = slice(start, start + 500_000)
            np.add.at(sums, source[part], count[part, None] * base[target[part]])
        support += np.bincount(source, weights=count, minlength=size)
    means = np.divide(sums, support[:, None], out=np.zeros_like(sums), where=support[:, None] > 0)
    return means.astype(np.float32), support
