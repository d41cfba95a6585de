"""Aligning whole languages: with a dictionary, and without by similarities and by an adversary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests.training import spaces
from xsearch.errors import InvalidArgumentError, TrainingError
from xsearch.training.adversarial import AdversarialOptions, adversarial_start
from xsearch.training.align import AlignOptions, Start, align
from xsearch.training.dictionary import Dictionary, precision
from xsearch.training.procrustes import prepare
from xsearch.training.self_learning import SelfLearningOptions, self_learn, similarity_start
from xsearch.training.word_vectors import WordVectors

WORDS = 500
EVERYTHING = Dictionary({f"s{row}": (f"t{row}",) for row in range(WORDS)})
OPTIONS = AlignOptions(
    self_learning=SelfLearningOptions(patience=3),
    adversarial=AdversarialOptions(epochs=3, steps=250, hidden=64),
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Such small products are slower on several threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def languages(dim: int, *, noise: float = 0.02) -> tuple[WordVectors, WordVectors]:
    """Two languages whose word ``s7`` is ``t7``; the target's words are in another order."""
    source, target = spaces.twins(WORDS, dim, noise=noise, seed=3)
    order = np.random.default_rng(9).permutation(WORDS)
    return (
        WordVectors(tuple(f"s{row}" for row in range(WORDS)), source),
        WordVectors(tuple(f"t{row}" for row in order), target[order]),
    )


def test_with_a_dictionary() -> None:
    source, target = languages(20)
    known = Dictionary({f"s{row}": (f"t{row}",) for row in range(0, WORDS, 10)} | {"no": ("vector",)})
    seen: list[str] = []
    done = align(source, target, known, on_stage=seen.append)
    assert (done.start, done.first_pairs, list(done.rotations)) == (Start.DICTIONARY, 50, [Start.DICTIONARY])
    assert precision(EVERYTHING, done.source, done.target).at[1] > 0.98
    assert (done.source.words, done.target.words) == (source.words, target.words)
    np.testing.assert_allclose(np.linalg.norm(done.source.vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(done.source.vectors, prepare(source.vectors) @ done.rotation.matrix, atol=1e-6)
    assert seen[0] == "dictionary: 50 pairs of words to begin with"
    assert seen[1].startswith("refinement 0: 50 pairs, mean cosine 0.")


@pytest.mark.parametrize("start", [Start.SIMILARITY, Start.ADVERSARIAL])
def test_without_a_dictionary_a_turned_space_is_found(start: Start) -> None:
    source, target = languages(4 if start is Start.ADVERSARIAL else 20, noise=0.0)
    # Three quarters of a minute of the game in place of a few seconds: with less it ends in one of the turns that look
    # nearly as good (criterion 0.987, precision 0.19, with any seed).
    longer = AdversarialOptions(epochs=5, steps=1000, hidden=64)
    done = align(source, target, options=replace(OPTIONS, starts=(start,), adversarial=longer))
    assert done.start is start
    assert precision(EVERYTHING, done.source, done.target).at[1] > 0.95


def test_of_two_starts_the_one_with_the_higher_criterion_is_kept() -> None:
    source, target = languages(20)
    hopeless = replace(OPTIONS, adversarial=AdversarialOptions(epochs=1, steps=1, hidden=4))
    done = align(source, target, options=hopeless)
    cosines = {start: rotation.cosine for start, rotation in done.rotations.items()}
    assert cosines[Start.SIMILARITY] > cosines[Start.ADVERSARIAL]
    assert done.start is Start.SIMILARITY
    assert precision(EVERYTHING, done.source, done.target).at[1] > 0.95


def test_the_start_by_similarity_is_mostly_right_on_a_turned_space() -> None:
    source, target = (prepare(side) for side in spaces.twins(200, 10))
    pairs = similarity_start(source, target)
    assert pairs.shape == (400, 2)
    assert float((pairs[:, 0] == pairs[:, 1]).mean()) > 0.9


def test_self_learning_leaves_a_poor_start_and_repeats_itself() -> None:
    source, target = (prepare(side) for side in spaces.twins(200, 10, noise=0.05))
    chance = np.random.default_rng(0)
    poor = np.stack([np.arange(200), np.arange(200)], axis=1)
    poor[30:, 1] = chance.integers(0, 200, 170)  # one in seven is right
    shares: list[float] = []
    options = SelfLearningOptions(patience=3, seed=4)
    found = self_learn(source, target, poor, options, on_step=lambda step, share, cosine: shares.append(share))
    assert float((found[:, 0] == found[:, 1]).mean()) > 0.9
    assert list(dict.fromkeys(shares)) == [0.1, 0.2, 0.4, 0.8, 1.0]
    np.testing.assert_array_equal(found, self_learn(source, target, poor, options))


def test_the_adversary_is_seeded_and_leaves_others_random_numbers_alone() -> None:
    import torch

    source, target = (prepare(side) for side in spaces.twins(100, 6))
    options = AdversarialOptions(epochs=2, steps=20, hidden=16, seed=5)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    losses: list[float] = []
    first = adversarial_start(source, target, options, on_epoch=lambda epoch, loss, cosine: losses.append(loss))
    torch.testing.assert_close(torch.rand(3), expected)
    np.testing.assert_array_equal(first, adversarial_start(source, target, options))
    assert not np.array_equal(first, adversarial_start(source, target, replace(options, seed=6)))
    np.testing.assert_allclose(first @ first.T, np.eye(6), atol=1e-5)
    assert all(0.3 < loss < 1 for loss in losses)


def test_an_exploding_adversary_is_an_error() -> None:
    source, target = (prepare(side) for side in spaces.twins(100, 6))
    with pytest.raises(TrainingError, match="is not finite"):
        adversarial_start(source, target, AdversarialOptions(epochs=1, steps=5, hidden=16, learning_rate=1e12))
    with pytest.raises(InvalidArgumentError, match="0 epochs"):
        adversarial_start(source, target, AdversarialOptions(epochs=0))


def test_what_cannot_be_aligned_is_refused() -> None:
    source, target = languages(6)
    with pytest.raises(TrainingError, match="The vectors have 6 and 5 dimensions"):
        align(source, WordVectors(target.words, target.vectors[:, :5]), EVERYTHING)
    with pytest.raises(TrainingError, match="There are no pairs of words to learn from"):
        align(source, target, Dictionary({"x": ("y",)}))
