"""Work in other processes, of one thread each, that may end in any way but must not hang.

A test has one process a core do a share of its work, each a run of the test's own file. They fork: the processes that
are killed on purpose, or crash, are children that have everything loaded already. One that hangs is ended by an alarm,
and the test fails with the name of what it was doing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = str(Path(__file__).resolve().parents[1])
# A process that has threads, of OpenMP or of BLAS, must not be forked: the child would wait for those that it has not.
ONE_THREAD = (
    os.environ
    | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    | {"PYTHONPATH": HERE}
)
# What one piece of work may take, and a child of it. Both need a second, but others may need the cores.
PIECE_S, CHILD_S = 300, 120
# Pieces of work that one process does one after the other.
NEIGHBOURS = 24
# What all of a test may take, by its mark.
ORDINARY_S, EXHAUSTIVE_S = 1_200, 3_600
NOW, REPORT, ERRORS = "now", "report", "errors"
# The folder that such a process works in, so that a file with a wrong name is seen.
EMPTY = "empty"


def run_shares(module: str, folder: Path, *arguments: object, limit_s: float, processes: int = 0) -> list[Any]:
    """Has other processes do the work of a module's ``main()``; each must end, and leave a report.

    Args:
        arguments: that each gets, after its own folder, its number and how many there are.
        limit_s: for all of it.
        processes: as many as there are cores by default.

    Returns:
        The reports.
    """
    count = processes or len(os.sched_getaffinity(0))
    places = [folder / f"share-{number}" for number in range(count)]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number, place in enumerate(places):
            (place / EMPTY).mkdir(parents=True)
            command = [sys.executable, "-m", module, str(place), f"{number}", f"{count}", *map(str, arguments)]
            with (place / ERRORS).open("wb") as errors:
                # In a session of its own, so that nothing of it is left where it is ended.
                started.append(
                    subprocess.Popen(
                        command,
                        stdout=errors,
                        stderr=errors,
                        cwd=place / EMPTY,
                        env=ONE_THREAD,
                        start_new_session=True,
                    )
                )
        until = time.monotonic() + limit_s
        ends = [_end(process, until - time.monotonic()) for process in started]
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    for place, end in zip(places, ends, strict=True):
        assert end == "", f"{end}, at: {_read(place / NOW)}\n{_read(place / ERRORS)}"
        assert os.listdir(place / EMPTY) == []
    return [json.loads((place / REPORT).read_text()) for place in places]


def _end(process: subprocess.Popen[bytes], limit_s: float) -> str:
    """What was wrong with a process's end."""
    try:
        code = process.wait(max(limit_s, 0.1))
    except subprocess.TimeoutExpired:
        return "Took too long"
    return "" if code == 0 else "Hung" if code == -signal.SIGALRM else f"Ended with {code}"


def _read(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else "the beginning"


# What the other processes do.


def my_share(arguments: list[str], work: list[Any]) -> list[Any]:
    """The part of the work that is this process's: neighbours, which have much in common, from all over."""
    number, count = map(int, arguments[2:4])
    return [one for place, one in enumerate(work) if place // NEIGHBOURS % count == number]


def begin(folder: Path, what: str, *, limit_s: int = PIECE_S) -> None:
    """Notes what this process is doing from now on; ends it if the next piece does not begin in time."""
    (folder / NOW).write_text(what)
    signal.alarm(limit_s)


def leave(folder: Path, report: object) -> None:
    """Leaves the report, at the end."""
    (folder / REPORT).write_text(json.dumps(report))
    signal.alarm(0)


def fork(do: Callable[[], int]) -> int:
    """Does something in a child; returns its exit code, or the signal that ended it, negative.

    That is the alarm's where it hung; the code is 1 where something was raised.
    """
    threads = len(os.listdir("/proc/self/task"))
    assert threads == 1, f"{threads} threads: a child may hang"
    child = os.fork()
    if child == 0:
        signal.alarm(CHILD_S)
        code = 1
        try:
            code = do()
        except BaseException:  # noqa: BLE001  # the child must end here, whatever it was
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def outcome(code: int, *, alarm_s: int = CHILD_S) -> str:
    """How a child ended, in words."""
    return f"hung for {alarm_s} s" if code == -signal.SIGALRM else f"ended with {code}"
