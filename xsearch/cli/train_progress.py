"""Progress on stderr while an encoder is trained: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from xsearch.training.runlog import StepReport
    from xsearch.training.train import Score

LINE_SECONDS = 30.0
# The bar's loss and speed are means over so many steps: those of one jump with the length of its texts.
BAR_STEPS = 50


class TrainProgress:
    """Stages by name; steps with loss, tokens a second and time left; scores as they come.

    Args:
        quiet: show nothing.
        verbose: name every file too, where there is no terminal.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._stage = ""
        self._said = time.monotonic()
        self._line: deque[StepReport] = deque()
        self._recent: deque[StepReport] = deque(maxlen=BAR_STEPS)
        self._steps, self._seconds = 0, 0.0
        self._training = False
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=None, detail="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def stage(self, name: str) -> None:
        """What begins now; of stages alike, such as the files that are read, a line names one every 30 s."""
        alike = name.split(" ", 1)[0] == self._stage.split(" ", 1)[0]
        self._stage = name
        self._training = False
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, total=None, description=_capital(name), detail="")
        elif self._verbose or not alike or self._due():
            self.remark(_capital(name))

    def count(self, _what: str, done: int, total: int) -> None:
        """How much of a stage is done."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif self._due() or self._verbose:
            self.remark(f"{_capital(self._stage)}: {done:,} of {total:,}")

    def step(self, report: StepReport) -> None:
        """A step is done."""
        self._steps += 1
        self._seconds += report.seconds
        self._line.append(report)
        self._recent.append(report)
        if self._bar is not None and self._task is not None:
            if not self._training:
                self._bar.reset(self._task, total=report.steps, completed=report.step - 1, description="Training")
            self._bar.update(self._task, completed=report.step, detail=_detail(self._recent))
        elif self._due() or report.step == report.steps:
            left = (report.steps - report.step) * self._seconds / self._steps
            rest = f", about {duration(left)} left" if report.step < report.steps else ""
            self.remark(f"Step {report.step:,} of {report.steps:,}: {_detail(self._line)}{rest}")
            self._line.clear()
        self._training = True

    def score(self, score: Score) -> None:
        """The encoder was measured."""
        self.remark(
            f"MLQA dev after step {score.step:,}: {score.same_language:.1f} same language, "
            f"{score.cross_language:.1f} across languages"
        )

    def remark(self, text: str) -> None:
        """Says something without disturbing the bar."""
        if self._quiet:
            return
        self._said = time.monotonic()
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            click.echo(text, err=True)

    def _due(self) -> bool:
        return time.monotonic() - self._said >= LINE_SECONDS


def duration(seconds: float) -> str:
    """A length of time for people: ``45 s``, ``12 min``, ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _detail(reports: deque[StepReport]) -> str:
    seconds = sum(report.seconds for report in reports)
    loss = sum(report.loss for report in reports) / len(reports)
    text = f"loss {loss:.3f}, {sum(report.tokens for report in reports) / max(seconds, 1e-9):,.0f} tokens/s"
    share = sum(report.peak_share * report.seconds for report in reports) / max(seconds, 1e-9)
    return f"{text}, {share:.0%} of the GEMM peak" if share else text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
