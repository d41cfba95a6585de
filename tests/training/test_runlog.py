"""The log of a run: means over its windows, each step once, whatever kills it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xsearch.training.runlog import StepReport, log_lines, read_log


def report(step: int, loss: float, kind: str = "sentence", *, seconds: float = 0.5, peak: float = 0.0) -> StepReport:
    return StepReport(step, 5, loss, kind, "de", 100 * step, seconds, gflops=10.0 * step, peak_gflops=peak)


def test_lines_are_means_since_the_last(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with log_lines(path, 2) as write:
        write(report(1, 1.0, peak=40.0))
        write(report(2, 2.0, "term", seconds=1.5, peak=40.0))
        write(report(3, 3.0))
        write(report(4, 5.0))
        write(report(5, 6.0))
    assert read_log(path) == [
        {
            "step": 2,
            "loss": 1.5,
            "tokens_per_s": 150.0,
            "seconds_left": 3.0,
            "gflops": pytest.approx((10 * 0.5 + 20 * 1.5) / 2),
            "peak_share": pytest.approx(17.5 / 40),
            "losses": {"sentence": 1.0, "term": 2.0},
        },
        {
            "step": 4,
            "loss": 4.0,
            "tokens_per_s": 700.0,
            "seconds_left": 0.5,
            "gflops": 35.0,
            "losses": {"sentence": 4.0},
        },
        {
            "step": 5,
            "loss": 6.0,
            "tokens_per_s": 1000.0,
            "seconds_left": 0.0,
            "gflops": 50.0,
            "losses": {"sentence": 6.0},
        },
    ]


def test_steps_after_the_checkpoint_and_torn_lines_go(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 2.0}\n{"step": 3, "lo', encoding="utf-8")
    with log_lines(path, 1, after=1) as write:
        write(report(2, 7.0))
    assert [(line["step"], line["loss"]) for line in map(json.loads, path.read_text().splitlines())] == [
        (1, 1.0),
        (2, 7.0),
    ]


def test_the_share_of_the_peak() -> None:
    assert report(2, 1.0, peak=80.0).peak_share == 0.25
    assert report(2, 1.0).peak_share == 0.0
    assert read_log(Path("nowhere.jsonl")) == []
