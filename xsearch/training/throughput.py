"""How fast matrices are multiplied here, and how much of that a training step makes use of."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

import torch
from torch import nn

# A shape is (inputs, outputs) of a linear layer, and how often the body has it.
Shapes = Mapping[tuple[int, int], int]
MAX_TOKENS_CPU = 512


def linear_shapes(body: nn.Module | None) -> Counter[tuple[int, int]]:
    """The linear layers of a body by shape; none in a static encoder."""
    layers = [] if body is None else [layer for layer in body.modules() if isinstance(layer, nn.Linear)]
    return Counter((layer.in_features, layer.out_features) for layer in layers)


def training_flops(shapes: Shapes) -> int:
    """Multiplications and additions a token: forward, and backward to the inputs and to the weights, of all layers.

    6 x inputs x outputs each. Attention's own products are left out: 5 % more at 128 tokens and dimension 384. So is
    what gradient caching computes twice.
    """
    return sum(6 * inputs * outputs * count for (inputs, outputs), count in shapes.items())


def gemm_peak(
    device: torch.device | str,
    shapes: Shapes,
    *,
    tokens: int = 2_048,
    dtype: torch.dtype = torch.float32,
    seconds: float = 0.3,
) -> float:
    """GFLOP/s of a body's matrix products by themselves, the fastest of several rounds; 0 without any.

    The three products of each shape (forward, gradient of the inputs, gradient of the weights) are timed apart, and the
    result is all arithmetic by the sum of the fastest times, each shape as often as the body has it.

    Args:
        tokens: of a batch; a CPU is as fast with fewer and gets at most 512.
        dtype: what the products are computed in.
        seconds: about how long it takes; two rounds at least.
    """
    if not shapes:
        return 0.0
    place = torch.device(device)
    rows = min(tokens, MAX_TOKENS_CPU) if place.type == "cpu" else tokens
    draw = torch.Generator().manual_seed(0)  # the run's own random numbers stay as they are
    operands = []
    for inputs, outputs in shapes:
        sizes = ((rows, inputs), (outputs, inputs), (rows, outputs))
        x, weight, y = (torch.randn(size, generator=draw).to(place, dtype) for size in sizes)
        operands.append(((inputs, outputs), [(x, weight.T), (y, weight), (y.T, x)]))
    fastest: dict[tuple[tuple[int, int], int], float] = {}
    started, rounds = time.perf_counter(), 0
    while rounds < 2 or time.perf_counter() - started < seconds:
        rounds += 1
        for shape, products in operands:
            for number, (left, right) in enumerate(products):
                taken = _timed(left, right, place)
                fastest[shape, number] = min(taken, fastest.get((shape, number), taken))
    arithmetic = rows * training_flops(shapes)
    return arithmetic / sum(shapes[shape] * taken for (shape, _), taken in fastest.items()) / 1e9


@torch.no_grad()
def _timed(left: torch.Tensor, right: torch.Tensor, place: torch.device) -> float:
    _finish(place)
    started = time.perf_counter()
    left @ right
    _finish(place)
    return max(time.perf_counter() - started, 1e-9)


def _finish(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize(place)
