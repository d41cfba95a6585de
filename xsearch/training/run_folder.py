"""The folder of a run: one process trains in it at a time, and what an earlier run left is kept for a new start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xsearch.errors import TrainingError
from xsearch.store.files import disk_errors, folder_lock

CHECKPOINTS_FOLDER = "checkpoints"
# What the steps of a run write. The data prepared before the first step is the same for any run of the recipe.
OF_THE_STEPS = (
    CHECKPOINTS_FOLDER,
    "log.jsonl",
    "scores.jsonl",
    "best",
    "measured",
    "encoder",
    "package",
    "package-float32",
)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds the folder for one run; makes it where there is none.

    Raises:
        TrainingError: another process trains in it.
        StoreError: it cannot be made or written.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)

    def refusal(holder: str) -> TrainingError:
        return TrainingError(
            f"A run is going on in {folder}, of {holder}",
            "One run trains in a folder at a time",
            "Give another folder with -o, or wait until it is done",
        )

    with folder_lock(folder, refusal):
        yield


def last_step(folder: Path) -> int:
    """The step of the newest checkpoint; 0 where there is none."""
    steps = [path.name.removeprefix("step-") for path in (folder / CHECKPOINTS_FOLDER).glob("step-*")]
    return max((int(step) for step in steps if step.isdecimal()), default=0)


def set_aside(folder: Path) -> Path | None:
    """Moves what the steps of an earlier run wrote to ``before-N`` within the folder; None where there is nothing.

    Raises:
        StoreError: it cannot be moved.
    """
    found = [folder / name for name in OF_THE_STEPS if (folder / name).exists()]
    if not found:
        return None
    taken = [path.name.removeprefix("before-") for path in folder.glob("before-*")]
    target = folder / f"before-{max((int(number) for number in taken if number.isdecimal()), default=0) + 1}"
    with disk_errors(target):
        target.mkdir()
        for path in found:
            path.rename(target / path.name)
    return target
