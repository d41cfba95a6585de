"""Checkpoints: safetensors and JSON in one folder that appears whole or not at all; the last two are kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xsearch.errors import TrainingError

STATE_FILE = "state.json"
TENSOR_FILE = "tensors.safetensors"
KEPT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run as it stood after a step.

    Attributes:
        step: updates done.
        tensors: weights and moments, by name.
        facts: what else the run must know again.
    """

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint, fingerprint: str) -> Path:
    """Writes ``folder/step-N`` and removes those older than the last two.

    Raises:
        TrainingError: the disk is full, or the folder cannot be written; earlier checkpoints stay.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    final = folder / f"step-{checkpoint.step:08d}"
    work = folder / f"{final.name}.tmp"
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        save_file(_apart(checkpoint.tensors), work / TENSOR_FILE)
        state = {"step": checkpoint.step, "recipe": fingerprint, "facts": checkpoint.facts}
        (work / STATE_FILE).write_text(json.dumps(state, indent=2), encoding="utf-8")
        for path in work.iterdir():
            _flush(path)
        shutil.rmtree(final, ignore_errors=True)
        work.rename(final)
        _flush(folder)
    except (OSError, RuntimeError, SafetensorError) as exc:  # safetensors reports a full disk in its own way
        shutil.rmtree(work, ignore_errors=True)
        raise _cannot_write(final, exc) from exc
    for old in _found(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def latest(folder: Path, fingerprint: str, *, on_damaged: Callable[[str], None] | None = None) -> Checkpoint | None:
    """The newest checkpoint in ``folder`` that is whole; None where there is none.

    Args:
        on_damaged: told of each newer one that is not whole, and why; with none at all the error tells.

    Raises:
        TrainingError: it belongs to another recipe, or there are some and none is whole.
    """
    damaged: list[str] = []
    for path in reversed(_found(folder)):
        try:
            found = _load(path, fingerprint)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as exc:
            damaged.append(f"{path}: {exc}")
            continue
        for each in damaged:
            if on_damaged is not None:
                on_damaged(each)
        return found
    if damaged:
        raise TrainingError(
            f"No checkpoint in {folder} can be read: {'; '.join(damaged)}",
            "A run goes on from its last whole checkpoint",
            "Delete the folder to start anew",
        )
    return None


def _load(path: Path, fingerprint: str) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
    if state["recipe"] != fingerprint:
        name = state["facts"].get("name", "without a name")
        raise TrainingError(
            f"{path} is a checkpoint of another recipe ({name}, {state['recipe']}; this one is {fingerprint})",
            "A run goes on with the recipe it began with; only [run] and [optimizer] may change",
            "Give another --output, or delete the checkpoints to start anew",
        )
    try:
        tensors = load_file(path / TENSOR_FILE)
    except SafetensorError as exc:
        raise ValueError(str(exc)) from exc
    return Checkpoint(int(state["step"]), tensors, dict(state["facts"]))


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, and none of them in the memory of another: safetensors refuses what T5 knows by two names."""
    apart: dict[str, Tensor] = {}
    met: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        apart[name] = own.clone() if own.data_ptr() in met else own
        met.add(own.data_ptr())
    return apart


def _found(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir() and not path.name.endswith(".tmp"))


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cannot_write(path: Path, exc: Exception) -> TrainingError:
    return TrainingError(
        f"The checkpoint {path} could not be written: {exc}",
        "The disk needs room for two checkpoints; the last good one is kept",
        "Free some space and start the same command again: the run goes on from there",
    )


def all_finite(tensors: dict[str, Tensor]) -> bool:
    """Whether no tensor holds NaN or infinity."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values() if tensor.is_floating_point())
