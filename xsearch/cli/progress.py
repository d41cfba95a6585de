"""Progress on stderr while documents are taken in: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_SECONDS = 30.0


class IngestProgress:
    """Documents done, documents a second and time left.

    Args:
        total_bytes: of all sources; 0 where it is not known, and then no time left is shown.
        quiet: show nothing.
        title: what is done.
        what: is counted.
    """

    def __init__(
        self, total_bytes: int, *, quiet: bool = False, title: str = "Indexing", what: str = "documents"
    ) -> None:
        self._title = title
        self._what = what
        self._total = total_bytes
        self._quiet = quiet
        self._documents = 0
        self._bytes = 0
        self._began = self._said = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn(f"{{task.fields[documents]:,}} {self._what}"),
                TextColumn("{task.fields[rate]:.1f}/s"),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total or None, documents=0, rate=0.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int) -> None:
        """So many bytes more are read."""
        self._bytes += count

    def count(self, documents: int) -> None:
        """So many documents more are dealt with."""
        self._documents += documents
        elapsed = max(time.monotonic() - self._began, 1e-9)
        rate = self._documents / elapsed
        if self._bar is not None and self._task is not None:
            done = min(self._bytes, self._total)
            self._bar.update(self._task, completed=done, documents=self._documents, rate=rate)
        elif not self._quiet and time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            left = ""
            if self._total and 0 < self._bytes <= self._total:
                left = f", about {elapsed * (self._total - self._bytes) / self._bytes:,.0f} s left"
            click.echo(f"{self._documents:,} {self._what}, {rate:.1f}/s{left}", err=True)

    def remark(self, text: str) -> None:
        """Says something without disturbing the bar."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            click.echo(text, err=True)
