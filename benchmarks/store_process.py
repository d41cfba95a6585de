"""An engine's process as ``store.py`` sees it: it is asked, answers in time, or is ended."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from store_engine import OWN

WORKER = Path(__file__).with_name("store_worker.py")
# What the engines' libraries read to know how many threads they may start.
THREADS = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS", "LANCE_CPU_THREADS", "OPENBLAS_NUM_THREADS")
TAIL_LINES = 8


@dataclass(frozen=True, slots=True)
class Setup:
    """What all processes of a run share: the folder, the rows, the threads, the limit, the peers' interpreter."""

    work: Path
    rows: int
    threads: int = 2
    limit_s: float = 3_600.0
    peers_python: str = sys.executable

    @property
    def folder(self) -> Path:
        """Where the engines' indexes and numbers of so many rows are."""
        return self.work / f"rows-{self.rows}"


class EngineFailedError(RuntimeError):
    """An engine took too long or ended; the message says which, and how its output ended."""


class EngineProcess:
    """A process that runs one engine; a context manager that ends it."""

    def __init__(self, name: str, setup: Setup, *, rows: int | None = None) -> None:
        self.name = name
        self._setup = setup
        python = sys.executable if name in OWN else setup.peers_python
        setup.folder.mkdir(parents=True, exist_ok=True)
        self._log = setup.folder / f"{name}.log"
        given = [str(setup.work), str(rows or setup.rows), str(setup.threads)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [python, str(WORKER), name, *given],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **dict.fromkeys(THREADS, str(setup.threads))},
            )

    def ask(self, do: str, **given: Any) -> Any:
        """The answer to a command.

        Raises:
            EngineFailedError: it took longer than the limit, or the process ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **given}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as exc:
            raise EngineFailedError(f"{self.name} ended: {self._tail()}") from exc
        until = time.monotonic() + self._setup.limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, until - time.monotonic())):
                self.end()
                raise EngineFailedError(f"{self.name} did not {do} within {self._setup.limit_s:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise EngineFailedError(f"{self.name} ended while it should {do}: {self._tail()}")
        return json.loads(line)

    def end(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()

    def _tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(line.strip() for line in lines[-TAIL_LINES:] if line.strip())
