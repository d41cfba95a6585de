"""Two languages' word vectors into one space, with a dictionary or without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from xsearch.encoder.protocol import Vectors
from xsearch.errors import TrainingError
from xsearch.training.adversarial import AdversarialOptions, adversarial_start
from xsearch.training.csls import DEFAULT_K, Rows, induce
from xsearch.training.dictionary import Dictionary, known_pairs
from xsearch.training.procrustes import RefineOptions, Rotation, prepare, refine
from xsearch.training.self_learning import SelfLearningOptions, self_learn, similarity_start
from xsearch.training.word_vectors import WordVectors


class Start(StrEnum):
    """Where the first pairs of words come from.

    ``dictionary``: they are given. ``similarity``: from the words' similarities with their own language, and
    self-learning (Artetxe et al. 2018). ``adversarial``: from a map that deceives a discriminator (MUSE; Conneau et
    al. 2018).
    """

    DICTIONARY = "dictionary"
    SIMILARITY = "similarity"
    ADVERSARIAL = "adversarial"


UNSUPERVISED = (Start.SIMILARITY, Start.ADVERSARIAL)


@dataclass(frozen=True, slots=True)
class AlignOptions:
    """How two languages are aligned.

    Attributes:
        csls_k: neighbours of CSLS, everywhere.
        seed: of all that is drawn at random.
        starts: those tried without a dictionary; the one with the higher mean cosine of CSLS neighbours is kept. That
            compares the starts, and does not say that one of them is right: on vectors of a few million words wrong
            rotations had a higher mean cosine than that of a dictionary (benchmarks/results/align.json).
        refinement, self_learning, adversarial: of the stages; their ``k`` and ``seed`` are those from here.
    """

    csls_k: int = DEFAULT_K
    seed: int = 0
    starts: tuple[Start, ...] = UNSUPERVISED
    refinement: RefineOptions = field(default_factory=RefineOptions)
    self_learning: SelfLearningOptions = field(default_factory=SelfLearningOptions)
    adversarial: AdversarialOptions = field(default_factory=AdversarialOptions)


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """Two languages in one space.

    Attributes:
        source, target: all words, with vectors of length 1 in the target's space; each language's mean is taken out.
        start: where the first pairs came from.
        first_pairs: how many there were; of a dictionary those that have vectors.
        rotations: of each start that was tried.
    """

    source: WordVectors
    target: WordVectors
    start: Start
    first_pairs: int
    rotations: Mapping[Start, Rotation]

    @property
    def rotation(self) -> Rotation:
        """The one that was kept."""
        return self.rotations[self.start]


OnStage = Callable[[str], None]
"""Called with a line of text on what was just done."""


def align(
    source: WordVectors,
    target: WordVectors,
    dictionary: Dictionary | None = None,
    *,
    options: AlignOptions | None = None,
    on_stage: OnStage | None = None,
) -> Alignment:
    """Both languages in one space: from a dictionary's pairs, or without one from the starts that ``options`` name.

    Args:
        source, target: of one dimension, the most frequent word first.

    Raises:
        TrainingError: the dimensions differ, or the dictionary has no pair whose sides both have vectors.
        NonFiniteVectorError: a vector is zero or not finite.
        MissingExtraError: the adversarial start needs torch.
    """
    options = options or AlignOptions()
    tell = on_stage or (lambda _: None)
    if source.dim != target.dim:
        raise TrainingError(
            f"The vectors have {source.dim} and {target.dim} dimensions",
            "Both languages' vectors have one dimension",
            "Train them with the same dimension",
        )
    left, right = prepare(source.vectors), prepare(target.vectors)
    refinement = replace(options.refinement, k=options.csls_k)
    rotations: dict[Start, Rotation] = {}
    pairs_of: dict[Start, int] = {}
    for start in options.starts if dictionary is None else (Start.DICTIONARY,):
        if dictionary is not None:
            pairs = known_pairs(dictionary, source.words, target.words)
        elif start is Start.SIMILARITY:
            pairs = _by_similarity(left, right, options, tell)
        else:
            pairs = _by_adversary(left, right, options, tell)
        pairs_of[start] = len(pairs)
        tell(f"{start}: {len(pairs):,} pairs of words to begin with")
        rotations[start] = refine(
            left,
            right,
            pairs,
            options=refinement,
            keep=start is Start.DICTIONARY,
            on_round=lambda number, done: tell(
                f"refinement {number}: {done.pairs:,} pairs, mean cosine {done.cosine:.4f}"
            ),
        )
    best = max(rotations, key=lambda start: rotations[start].cosine)
    return Alignment(
        source=WordVectors(source.words, rotations[best].apply(left)),
        target=WordVectors(target.words, right),
        start=best,
        first_pairs=pairs_of[best],
        rotations=rotations,
    )


def _by_similarity(source: Vectors, target: Vectors, options: AlignOptions, tell: OnStage) -> Rows:
    settings = replace(options.self_learning, k=options.csls_k, seed=options.seed)
    last = 0.0

    def on_step(step: int, share: float, cosine: float) -> None:
        nonlocal last
        if share != last:
            tell(f"self-learning step {step}: {share:.0%} of the pairs open, mean cosine {cosine:.4f}")
            last = share

    return self_learn(source, target, similarity_start(source, target, settings), settings, on_step=on_step)


def _by_adversary(source: Vectors, target: Vectors, options: AlignOptions, tell: OnStage) -> Rows:
    settings = replace(options.adversarial, k=options.csls_k, seed=options.seed)
    matrix = adversarial_start(
        source,
        target,
        settings,
        on_epoch=lambda epoch, loss, cosine: tell(
            f"adversary, epoch {epoch + 1}: loss of the discriminator {loss:.4f}, mean cosine {cosine:.4f}"
        ),
    )
    words = options.refinement.frequent
    return induce(source[:words] @ matrix, target[:words], options.csls_k).mutual()
