"""Gradient caching: the loss and the gradients of one big batch, from chunks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from xsearch.errors import InvalidArgumentError
from xsearch.training.gradcache import accumulate
from xsearch.training.losses import contrastive


class Tower(nn.Module):
    """Embedding, dropout, two layers, unit rows."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(12, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 8), nn.Dropout(dropout)
        )

    def forward(self, rows: Tensor) -> Tensor:
        vectors: Tensor = functional.normalize(self.layers(rows), dim=1)
        return vectors


def tower(dropout: float = 0.0) -> Tower:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return Tower(dropout)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def inputs(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, 12, generator=torch.Generator().manual_seed(seed))


def gradients(model: nn.Module) -> list[Tensor]:
    found = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None for gradient in found)
    return [gradient.clone() for gradient in found if gradient is not None]


def loss(anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    return contrastive(anchors, torch.cat([positives, negatives]), temperature=0.2)


ANCHORS, POSITIVES, NEGATIVES = inputs(10, 1), inputs(10, 2), inputs(5, 3)
SIDES = [list(ANCHORS.split(4)), list(POSITIVES.split(3)), [NEGATIVES]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_as_one_big_batch(dtype: torch.dtype) -> None:
    model = tower().to(dtype)
    expected = loss(*(model(rows.to(dtype)) for rows in (ANCHORS, POSITIVES, NEGATIVES)))
    expected.backward()  # type: ignore[no-untyped-call]
    wanted = gradients(model)
    model.zero_grad()
    found = accumulate(lambda rows: model(rows.to(dtype)), SIDES, loss)
    assert found == pytest.approx(expected.item(), abs=1e-6)
    for gradient, other in zip(gradients(model), wanted, strict=True):
        assert other.abs().max() > 1e-3
        assert (gradient - other).abs().max() < 1e-6


def test_as_one_big_batch_with_dropout() -> None:
    """The reference keeps the graphs of all chunks, which are encoded in the same order with the same numbers."""
    model = tower(dropout=0.3)
    with seeded(9):
        expected = loss(*(torch.cat([model(chunk) for chunk in side]) for side in SIDES))
        expected.backward()  # type: ignore[no-untyped-call]
        after = torch.rand(3)
    wanted = gradients(model)
    model.zero_grad()
    with seeded(9):
        found = accumulate(model, SIDES, loss)
        # What comes next is what would have come, as if each chunk had been encoded once.
        assert torch.equal(torch.rand(3), after)
    assert found == pytest.approx(expected.item(), abs=1e-6)
    for gradient, other in zip(gradients(model), wanted, strict=True):
        assert other.abs().max() > 1e-3
        assert (gradient - other).abs().max() < 1e-6
    with seeded(10):
        assert accumulate(model, SIDES, loss) != pytest.approx(expected.item(), abs=1e-3)


def test_under_autocast() -> None:
    """Autocast keeps cast weights; those that were cast without a graph must not serve the pass that needs one."""
    model = tower()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = loss(*(torch.cat([model(chunk) for chunk in side]) for side in SIDES))
    expected.backward()  # type: ignore[no-untyped-call]
    wanted = gradients(model)
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = accumulate(model, SIDES, loss)
    assert found == pytest.approx(expected.item(), abs=1e-6)
    for gradient, other in zip(gradients(model), wanted, strict=True):
        assert (gradient - other).abs().max() < 0.02 * other.abs().max()  # bf16 sums in another order


def test_it_adds_to_the_gradient_that_is_there() -> None:
    model = tower()
    accumulate(model, SIDES, loss)
    once = gradients(model)
    accumulate(model, SIDES, loss)
    for gradient, other in zip(gradients(model), once, strict=True):
        assert torch.allclose(gradient, 2 * other, atol=1e-6)


def test_a_parameter_of_the_loss_and_a_fixed_side() -> None:
    # A learned scale, and teacher vectors that are bound in the loss. d/ds of s * mean(cos) is mean(cos).
    model, scale = tower(), torch.tensor(2.0, requires_grad=True)
    teacher = functional.normalize(inputs(10, 4)[:, :8], dim=1)
    found = accumulate(model, [SIDES[0]], lambda vectors: scale * (vectors * teacher).sum(1).mean())
    mean = float((model(ANCHORS) * teacher).sum(1).mean().detach())
    assert found == pytest.approx(2 * mean, abs=1e-6)
    assert scale.grad is not None and float(scale.grad) == pytest.approx(mean, abs=1e-6)


def test_a_side_that_the_loss_leaves_out_is_encoded_once() -> None:
    model = tower()
    seen: list[int] = []

    def encode(rows: Tensor) -> Tensor:
        seen.append(len(rows))
        return model(rows)  # type: ignore[no-any-return]

    accumulate(encode, SIDES, lambda anchors, positives, negatives: anchors.square().sum() + positives.sum())
    assert seen == [4, 4, 2, 3, 3, 3, 1, 5, *(4, 4, 2, 3, 3, 3, 1)]


def test_no_more_than_one_chunk_has_a_graph() -> None:
    model = tower()
    graphs: list[bool] = []

    def encode(rows: Tensor) -> Tensor:
        vectors: Tensor = model(rows)
        graphs.append(vectors.requires_grad)
        return vectors

    accumulate(encode, SIDES, loss)
    assert graphs == [False] * 8 + [True] * 8


@pytest.mark.parametrize(
    ("sides", "encode", "of", "message"),
    [
        ([], tower(), loss, r"numbers of chunks are \[\]"),
        ([[ANCHORS], []], tower(), loss, r"numbers of chunks are \[1, 0\]"),
        ([[ANCHORS]], tower(), lambda vectors: vectors.sum(1), r"shape \(10,\) and has a gradient"),
        ([[ANCHORS]], tower(), lambda vectors: vectors.detach().sum(), r"shape \(\) and lacks a gradient"),
        ([[ANCHORS]], lambda rows: rows, lambda vectors: vectors.sum(), r"encode gave \(10, 12\) without a gradient"),
    ],
)
def test_bad_arguments_are_refused(
    sides: list[list[Tensor]], encode: Callable[[Tensor], Tensor], of: Callable[..., Tensor], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        accumulate(encode, sides, of)
