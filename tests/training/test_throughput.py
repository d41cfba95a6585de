"""The peak of a body's own matrix products, and the arithmetic of a token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training import runs
from xsearch.training import throughput
from xsearch.training.throughput import gemm_peak, linear_shapes, training_flops


def test_the_shapes_of_a_body(mbert: Path, mt5: Path) -> None:
    """Two layers of four products 32 x 32 and one of 32 x 64 and back; mT5's gated feed-forward has two ways in."""
    body = runs.student_of(mbert).body
    assert linear_shapes(body) == {(32, 32): 8, (32, 64): 2, (64, 32): 2}
    assert linear_shapes(runs.student_of(mt5).body) == {(32, 32): 8, (32, 64): 4, (64, 32): 2}
    assert linear_shapes(None) == {}
    assert training_flops(linear_shapes(body)) == 6 * (8 * 32 * 32 + 4 * 32 * 64)


def test_the_peak_is_all_arithmetic_by_the_fastest_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers of 10 x 20, 100 tokens: 240 kFLOP. Three products, at best 1, 1, 2 ms, twice: 8 ms, 0.03 GFLOP/s."""
    times = iter([5e-3, 1e-3, 9e-3, 1e-3, 1e-3, 2e-3])
    shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def timed(left: torch.Tensor, right: torch.Tensor, place: torch.device) -> float:
        shapes.append((tuple(left.shape), tuple(right.shape)))
        return next(times)

    monkeypatch.setattr(throughput, "_timed", timed)
    assert gemm_peak("cpu", {(10, 20): 2}, tokens=100, seconds=0) == pytest.approx(0.03)
    assert shapes[:3] == [((100, 10), (10, 20)), ((100, 20), (20, 10)), ((20, 100), (100, 10))]


def test_it_measures_here_and_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert gemm_peak(torch.device("cpu"), {(64, 64): 1}, tokens=64, seconds=0.01) > 0.001
    assert gemm_peak("cpu", {(64, 64): 1}, tokens=64, dtype=torch.bfloat16, seconds=0) > 0
    assert gemm_peak("cpu", {}) == 0.0
    assert torch.equal(torch.rand(2), expected)
