"""What a step brought, and the log of a run: lines of JSON, one every so many steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step brought, over all processes.

    Attributes:
        step: updates done.
        steps: updates in all.
        loss: of the batch.
        kind, lang: what the batch (the first process's) held; ``*`` for all languages.
        tokens: that the student read, padding left out.
        seconds: the step took.
        gflops: arithmetic of the body's linear layers, forward and backward, a second; padding counts as none.
        peak_gflops: what such products reach by themselves here; 0 where it was not measured.
    """

    step: int
    steps: int
    loss: float
    kind: str
    lang: str
    tokens: int
    seconds: float
    gflops: float
    peak_gflops: float = 0.0

    @property
    def peak_share(self) -> float:
        """Part of the peak that the step reached; 0 where that is not known."""
        return self.gflops / self.peak_gflops if self.peak_gflops else 0.0


OnStep = Callable[[StepReport], None]


@contextmanager
def log_lines(path: Path, every: int, *, after: int = 0) -> Iterator[OnStep]:
    """A callback that appends a line of JSON to ``path`` every so many steps, with means since the last.

    Args:
        after: the step that the run goes on from; lines of later steps, which a killed run left, are taken out.
    """
    _cut(path, after)
    with path.open("a", encoding="utf-8") as file:
        window: list[StepReport] = []

        def write(report: StepReport) -> None:
            window.append(report)
            if report.step % every and report.step != report.steps:
                return
            file.write(json.dumps(_line(window)) + "\n")
            file.flush()
            window.clear()

        yield write


def read_log(path: Path) -> list[dict[str, object]]:
    """The lines of a log; one that a kill cut short is left out."""
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(dict(json.loads(line)))
        except ValueError:
            continue
    return lines


def _line(window: list[StepReport]) -> dict[str, object]:
    last = window[-1]
    seconds = sum(entry.seconds for entry in window)
    gflops = sum(entry.gflops * entry.seconds for entry in window) / seconds
    line: dict[str, object] = {
        "step": last.step,
        "loss": sum(entry.loss for entry in window) / len(window),
        "tokens_per_s": sum(entry.tokens for entry in window) / seconds,
        "seconds_left": (last.steps - last.step) * seconds / len(window),
        "gflops": gflops,
    }
    if last.peak_gflops:
        line["peak_share"] = gflops / last.peak_gflops
    return line | {"losses": _by_kind(window)}


def _cut(path: Path, after: int) -> None:
    lines = read_log(path)
    kept = [line for line in lines if int(str(line.get("step", 0))) <= after]
    if path.is_file():
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(path)


def _by_kind(window: list[StepReport]) -> dict[str, float]:
    kinds = sorted({entry.kind for entry in window})
    return {
        kind: sum(entry.loss for entry in window if entry.kind == kind) / sum(entry.kind == kind for entry in window)
        for kind in kinds
    }
