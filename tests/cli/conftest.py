"""The command as users run it: in a process of its own, or, where that says as much, in this one."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from xsearch.cli.main import main
from xsearch.encoder import load
from xsearch.encoder.builtin import BuiltinEncoder

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = REPOSITORY / "demo" / "corpus"

# The command in a process that cannot reach any network.
GUARDED = """
import socket
def refuse(*arguments, **options):
    raise AssertionError(f"network: {arguments}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
from xsearch.cli.main import main
main()
"""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Xsearch = Callable[..., Outcome]


@lru_cache(maxsize=1)
def builtin() -> BuiltinEncoder:
    """The built-in encoder, loaded once for all tests."""
    return BuiltinEncoder()


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests counts."""
    for name in [name for name in os.environ if name.startswith("XSEARCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def xsearch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Xsearch]:
    """Runs the command in this process, in an empty folder that has its indexes in ``indexes``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(load, "BuiltinEncoder", lambda *folder: BuiltinEncoder(*folder) if folder else builtin())

    def run(*arguments: object, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["xsearch", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), printed.out, printed.err)

    yield run


def start(
    *arguments: object, cwd: Path, env: Mapping[str, str] | None = None, code: str = GUARDED, **options: Any
) -> subprocess.Popen[bytes]:
    """Starts the command in a process of its own, without network."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUTF8": "1", **(env or {})},
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def process(*arguments: object, cwd: Path, stdin: bytes = b"", encoding: str = "utf-8", **options: Any) -> Outcome:
    """Runs the command in a process of its own, without network."""
    with start(*arguments, cwd=cwd, stdin=subprocess.PIPE, **options) as running:
        out, err = running.communicate(stdin, timeout=120)
    return Outcome(running.returncode, out.decode(encoding), err.decode(encoding))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A folder with the index ``demo`` of the demo corpus, not to be changed, and how it was made."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, process("index", "demo", DEMO, "--json", "--index-dir", folder, cwd=folder)


@pytest.fixture
def find(xsearch: Xsearch, demo: tuple[Path, Outcome]) -> Xsearch:
    """Runs ``xsearch search demo`` on the demo index."""

    def run(*arguments: object, stdin: bytes = b"") -> Outcome:
        return xsearch("search", "--index-dir", demo[0], "demo", *arguments, stdin=stdin)

    return run


def write_lines(path: Path, *records: Mapping[str, Any]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def refused(outcome: Outcome, *parts: str) -> None:
    """The command ended with an error of ours that says all of this, and printed nothing else."""
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("Error: ")
    assert outcome.err.count("\n") == 1, outcome.err
    for part in parts:
        assert part in outcome.err
