"""Made-up spaces of word vectors: clusters, as meanings have them, and the same turned."""

from __future__ import annotations

import numpy as np

from xsearch.encoder.protocol import Vectors


def rotation(dim: int, seed: int) -> Vectors:
    """A random orthogonal matrix."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))
    return np.asarray(matrix, dtype=np.float32)


def clusters(words: int, dim: int, seed: int, *, count: int = 20) -> Vectors:
    """``(words, dim) float32``: words around clusters of unequal size and width, longer in some directions."""
    chance = np.random.default_rng(seed)
    stretch = np.linspace(2.0, 0.3, dim)
    centres = chance.standard_normal((count, dim)) * stretch
    size = chance.dirichlet(np.ones(count))
    width = chance.uniform(0.2, 0.7, count)
    member = chance.choice(count, words, p=size)
    noise = chance.standard_normal((words, dim)) * width[member, None]
    return (centres[member] + noise).astype(np.float32)


def twins(words: int, dim: int, *, noise: float = 0.0, seed: int = 0) -> tuple[Vectors, Vectors]:
    """A space and the same turned: row ``i`` of the one translates row ``i`` of the other."""
    source = clusters(words, dim, seed)
    turned = source @ rotation(dim, seed + 1)
    extra = np.random.default_rng(seed + 2).standard_normal(source.shape) * noise
    return source, (turned + extra).astype(np.float32)
