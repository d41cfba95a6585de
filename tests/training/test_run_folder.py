"""The folder of a run: held by one process, and emptied of nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from xsearch.errors import StoreError, TrainingError
from xsearch.training.run_folder import OF_THE_STEPS, held, last_step, set_aside

HOLD = """
import sys
from pathlib import Path
from xsearch.training.run_folder import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(TrainingError, match=f"going on in .*one, of process {other.pid} on .* since .*-o"):
            held(folder).__enter__()
        other.kill()
    with held(folder):
        assert (folder / "LOCK").is_file()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/run cannot be written"), held(tmp_path / "file" / "run"):
        pass


def test_the_last_step(tmp_path: Path) -> None:
    assert last_step(tmp_path) == 0
    for name in ("step-00000250", "step-00000500", "step-00000750.tmp"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert last_step(tmp_path) == 500


def test_what_the_steps_wrote_is_kept_and_what_was_prepared_stays(tmp_path: Path) -> None:
    assert set_aside(tmp_path) is None
    for round_number in (1, 2):
        (tmp_path / "prepared").mkdir(exist_ok=True)
        (tmp_path / "checkpoints" / "step-00000250").mkdir(parents=True)
        (tmp_path / "log.jsonl").write_text(f"round {round_number}")
        assert set_aside(tmp_path) == tmp_path / f"before-{round_number}"
        assert (tmp_path / f"before-{round_number}" / "log.jsonl").read_text() == f"round {round_number}"
        assert (tmp_path / f"before-{round_number}" / "checkpoints" / "step-00000250").is_dir()
        assert last_step(tmp_path) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before-1", "before-2", "prepared"]


def test_the_names_are_those_that_a_run_writes() -> None:
    from xsearch.training import train

    names = {train.ENCODER_FOLDER, train.PACKAGE_FOLDER, train.BEST_FOLDER, train.LOG_FILE, train.SCORES_FILE}
    assert names < set(OF_THE_STEPS)
