"""Aligning without a dictionary by an adversary (MUSE; Conneau et al. 2018, https://arxiv.org/abs/1710.04087).

A discriminator learns to tell mapped source words from target words; the map learns to deceive it. The two losses:

    L_D = -mean log D(W x) - mean log (1 - D(y))        labels smoothed: 0.9 and 0.1
    L_W = -mean log (1 - D(W x)) - mean log D(y)

and after each step of the map it is drawn towards the rotations: ``W <- (1 + beta) W - beta (W W^T) W``.

Such games often end nowhere, which shows in the criterion alone; so there are two of them, one that begins with the
identity and one with a reflection (near the rotations the sign of the determinant changes only by a large step).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.encoder.protocol import Vectors
from xsearch.errors import InvalidArgumentError, MissingExtraError, TrainingError
from xsearch.training.csls import DEFAULT_K, induce
from xsearch.training.procrustes import nearest_orthogonal

if TYPE_CHECKING:
    import torch

OnEpoch = Callable[[int, float, float], None]
"""Called with the number of the epoch in its game, the discriminator's loss, and the mean cosine of CSLS neighbours."""


@dataclass(frozen=True, slots=True)
class AdversarialOptions:
    """How the adversary and the map are trained.

    The paper's values are named where these differ; they differ for a CPU, and for vectors at another scale.

    Attributes:
        epochs: of each of the two games; after each the criterion is asked, and the best map is kept.
        steps: of the map, an epoch (the paper: 31,250).
        batch: words of each language a step (the paper: 32).
        hidden: width of the discriminator's two layers (the paper: 2048).
        dropout: of the discriminator's input.
        smoothing: of the labels.
        discriminator_steps: of the discriminator, for each of the map.
        learning_rate, decay, shrink: of both, by SGD (the paper: 0.1); times ``decay`` each epoch, and times ``shrink``
            when the criterion has fallen twice.
        beta: how fast the map is drawn towards the rotations (the paper: 0.001); 0 leaves it free.
        frequent: words that are drawn, the first ones (the paper: 75,000).
        criterion_words: words that the criterion looks at, the first ones (the paper: 10,000).
        k: neighbours of CSLS.
        seed: of weights, batches and dropout.
    """

    epochs: int = 5
    steps: int = 1000
    batch: int = 64
    hidden: int = 512
    dropout: float = 0.1
    smoothing: float = 0.1
    discriminator_steps: int = 5
    learning_rate: float = 0.5
    decay: float = 0.98
    shrink: float = 0.5
    beta: float = 0.01
    frequent: int = 20_000
    criterion_words: int = 5000
    k: int = DEFAULT_K
    seed: int = 0


def adversarial_start(
    source: Vectors, target: Vectors, options: AdversarialOptions | None = None, *, on_epoch: OnEpoch | None = None
) -> Vectors:
    """``(dim, dim) float32``, orthogonal: the map of the epoch whose CSLS neighbours have the highest mean cosine.

    Args:
        source, target: from :func:`~xsearch.training.procrustes.prepare`, the most frequent word first.
        on_epoch: told of each epoch.

    Raises:
        TrainingError: a loss is not finite.
        MissingExtraError: torch is not installed.
    """
    options = options or AdversarialOptions()
    if min(options.epochs, options.steps, options.batch, options.hidden, options.discriminator_steps) < 1:
        raise InvalidArgumentError(
            f"The adversary was to have {options.epochs} epochs of {options.steps} steps",
            "Epochs, steps, batch and width are 1 or more",
            "Leave them as they are by default",
        )
    best, best_cosine = np.eye(source.shape[1], dtype=np.float32), -np.inf
    for reflected in (False, True):
        matrix, cosine = _play(_Game(source, target, options, reflected), source, target, options, on_epoch)
        if cosine > best_cosine:
            best, best_cosine = matrix, cosine
    return best


def _play(
    game: _Game, source: Vectors, target: Vectors, options: AdversarialOptions, on_epoch: OnEpoch | None
) -> tuple[Vectors, float]:
    """The best map of one game, and its criterion."""
    words, others = source[: options.criterion_words], target[: options.criterion_words]
    best, best_cosine, fallen = game.rotation(), -np.inf, False
    for epoch in range(options.epochs):
        loss = game.play()
        matrix = game.rotation()
        cosine = induce(words @ matrix, others, options.k).cosine
        if on_epoch is not None:
            on_epoch(epoch, loss, cosine)
        factor = options.decay
        if cosine > best_cosine:
            best, best_cosine = matrix, cosine
        else:
            factor *= options.shrink if fallen else 1.0
            fallen = True
        game.slow_down(factor)
    return best, best_cosine


class _Game:
    """The map and the discriminator, with what trains them."""

    def __init__(self, source: Vectors, target: Vectors, options: AdversarialOptions, reflected: bool) -> None:
        try:
            import torch
            from torch import nn
        except ImportError as exc:
            raise MissingExtraError("Aligning by an adversary", "torch", "train") from exc
        self._torch = torch
        self._options = options
        dim = source.shape[1]
        # Unit vectors have coordinates of about 1 / sqrt(dim); the learning rate is meant for coordinates of about 1.
        self._source = torch.from_numpy(source[: options.frequent]) * dim**0.5
        self._target = torch.from_numpy(target[: options.frequent]) * dim**0.5
        # Of our own, so that the seed decides, and nobody else's random numbers are touched.
        self._chance = torch.Generator().manual_seed(options.seed)
        start = torch.eye(dim)
        start[0, 0] = -1 if reflected else 1
        self._map = nn.Parameter(start)
        layers = ((dim, options.hidden), (options.hidden, options.hidden), (options.hidden, 1))
        self._layers = [self._layer(inputs, outputs) for inputs, outputs in layers]
        weights = [weight for layer in self._layers for weight in layer]
        self._learners = {
            "map": torch.optim.SGD([self._map], lr=options.learning_rate),
            "discriminator": torch.optim.SGD(weights, lr=options.learning_rate),
        }
        half = torch.full((options.batch,), 1 - options.smoothing)
        self._labels = torch.cat([half, 1 - half])

    def play(self) -> float:
        """One epoch; returns the discriminator's mean loss (ln 2 = 0.69 is a discriminator that guesses)."""
        total = 0.0
        for _ in range(self._options.steps):
            for _ in range(self._options.discriminator_steps):
                total += self._step("discriminator", self._labels)
            self._step("map", 1 - self._labels)
            self._straighten()
        mean = total / (self._options.steps * self._options.discriminator_steps)
        if not np.isfinite(mean):
            raise TrainingError(
                "The loss of the discriminator is not finite", "A finite loss", "Lower the learning rate"
            )
        return mean

    def rotation(self) -> Vectors:
        """``(dim, dim) float32``: the rotation that is nearest to the map."""
        matrix = self._map.detach().numpy().astype(np.float64)
        if not np.isfinite(matrix).all():
            raise TrainingError("The map is not finite", "A finite map", "Lower the learning rate")
        return nearest_orthogonal(matrix).astype(np.float32)

    def slow_down(self, factor: float) -> None:
        """Multiplies the learning rates."""
        for learner in self._learners.values():
            for group in learner.param_groups:
                group["lr"] *= factor

    def _step(self, learner: str, labels: torch.Tensor) -> float:
        optimiser = self._learners[learner]
        optimiser.zero_grad(set_to_none=True)
        # The discriminator's own step needs no gradient of the map.
        learns = learner == "discriminator"
        mapping = self._map.detach() if learns else self._map
        words = self._torch.cat([self._draw(self._source) @ mapping, self._draw(self._target)])
        logits = self._judge(words, self._options.dropout if learns else 0.0)
        loss = self._torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return float(loss.detach())

    def _judge(self, words: torch.Tensor, dropout: float) -> torch.Tensor:
        """The discriminator: for each word the logit of its being a source word."""
        functional: Any = self._torch.nn.functional
        values = words
        if dropout:
            values = words * (self._torch.rand(words.shape, generator=self._chance) >= dropout) / (1 - dropout)
        for number, (weight, bias) in enumerate(self._layers):
            values = functional.linear(values, weight, bias)
            if number < len(self._layers) - 1:
                values = functional.leaky_relu(values, 0.2)
        return values.squeeze(-1)

    def _straighten(self) -> None:
        beta = self._options.beta
        with self._torch.no_grad():
            matrix = self._map
            matrix.copy_((1 + beta) * matrix - beta * (matrix @ matrix.T) @ matrix)

    def _draw(self, words: torch.Tensor) -> torch.Tensor:
        return words[self._torch.randint(len(words), (self._options.batch,), generator=self._chance)]

    def _layer(self, inputs: int, outputs: int) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
        """Weight and bias as torch's own linear layer begins: uniform within 1 / sqrt(inputs)."""
        bound = inputs**-0.5
        weight = (2 * self._torch.rand((outputs, inputs), generator=self._chance) - 1) * bound
        bias = (2 * self._torch.rand((outputs,), generator=self._chance) - 1) * bound
        return self._torch.nn.Parameter(weight), self._torch.nn.Parameter(bias)
