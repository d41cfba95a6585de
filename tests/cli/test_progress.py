"""Progress: a bar with documents a second and the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import pty
import re
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import GUARDED, start, write_lines
from tests.cli.test_search import _read
from tests.cli.test_show import STYLES, Terminal
from xsearch.cli import progress as module
from xsearch.cli.progress import IngestProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still unless it is set."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_line_now_and_then(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with IngestProgress(1000) as progress:
        progress.count(5)
        clock[0] += 29
        progress.count(5)
        assert capsys.readouterr().err == ""
        clock[0] += 1
        progress.advance(250)
        progress.count(1190)
        assert capsys.readouterr().err == "1,200 documents, 40.0/s, about 90 s left\n"
        clock[0] += 5
        progress.count(1)
        assert capsys.readouterr().err == ""
        progress.remark("Said in between.")
        assert capsys.readouterr().err == "Said in between.\n"


def test_no_time_left_where_the_end_is_not_known(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with IngestProgress(0) as progress:
        progress.advance(10)
        clock[0] += 40
        progress.count(10)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "10 documents, 0.2/s\n")


def test_quiet(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with IngestProgress(1000, quiet=True) as progress:
        clock[0] += 100
        progress.count(10)
        progress.remark("Not to be heard.")
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with IngestProgress(1000) as progress:
        progress.remark("Resuming [bold].")
        progress.advance(500)
        progress.count(1234)
    shown = STYLES.sub("", terminal.getvalue())
    assert "Resuming [bold]." in shown
    assert re.search(
        r"Indexing .*1,234 documents \d+\.\d/s \d:\d\d:\d\d|Indexing .*1,234 documents \d+\.\d/s -:--:--", shown
    )


def test_indexing_on_a_terminal(tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": f"Note {n}: the bridge has {n} arches."} for n in range(60)]
    write_lines(tmp_path / "many.jsonl", *rows)
    slow = (
        "import time, xsearch.ingest\nfrom xsearch.cli.progress import IngestProgress\n"
        "xsearch.ingest.LOOK_DOCUMENTS = xsearch.ingest.ENCODE_PASSAGES = 10\n"
        "count = IngestProgress.count\n"
        "IngestProgress.count = lambda self, documents: (count(self, documents), time.sleep(0.25))[0]\n"
    )
    master, slave = pty.openpty()
    env = {"TERM": "xterm", "COLUMNS": "120"}
    with start("index", "news", "many.jsonl", cwd=tmp_path, code=slow + GUARDED, env=env, stderr=slave) as running:
        os.close(slave)
        shown = b""
        while chunk := _read(master):
            shown += chunk
        out, _ = running.communicate(timeout=60)
    os.close(master)
    assert (running.returncode, out.splitlines()[0]) == (0, b"60 documents read: 60 added")
    frames = re.findall(r"Indexing .*? (\d+) documents ([\d.]+)/s (\S+)", STYLES.sub("", shown.decode()))
    counts = [int(count) for count, _, _ in frames]
    assert counts == sorted(counts) and counts[-1] == 60 and len(set(counts)) > 3
    assert any(float(rate) > 0 for _, rate, _ in frames)
    assert any(re.fullmatch(r"\d:\d\d:\d\d", left) for _, _, left in frames)
