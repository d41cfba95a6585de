"""Checkpoints: whole or not there, two of them, of this recipe, and never at the cost of the last good one."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from xsearch.errors import TrainingError
from xsearch.training import checkpoint
from xsearch.training.checkpoint import Checkpoint, all_finite, latest, save


def at(step: int, *, name: str = "tiny") -> Checkpoint:
    return Checkpoint(
        step, {"body.w": torch.full((2, 3), float(step)), "table.rows": torch.arange(4.0)}, {"name": name}
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    assert latest(tmp_path, "abc") is None
    assert save(tmp_path, at(5), "abc") == tmp_path / "step-00000005"
    found = latest(tmp_path, "abc")
    assert found is not None and (found.step, found.facts) == (5, {"name": "tiny"})
    assert found.tensors["body.w"].tolist() == [[5.0] * 3] * 2
    assert found.tensors["table.rows"].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    (tmp_path / "step-00000099.tmp").mkdir()  # what a killed run left
    for step in (2, 10, 100):
        save(tmp_path, at(step), "abc")
    assert names(tmp_path) == ["step-00000010", "step-00000099.tmp", "step-00000100"]
    found = latest(tmp_path, "abc")
    assert found is not None and found.step == 100


def test_tensors_that_share_memory_are_saved_apart(tmp_path: Path) -> None:
    """T5 knows its embeddings by two names."""
    one = torch.arange(3.0)
    save(tmp_path, Checkpoint(1, {"a": one, "b": one, "c": one.view(1, 3)}, {}), "abc")
    found = latest(tmp_path, "abc")
    assert found is not None
    assert {name: value.tolist() for name, value in found.tensors.items()} == {
        "a": [0.0, 1.0, 2.0],
        "b": [0.0, 1.0, 2.0],
        "c": [[0.0, 1.0, 2.0]],
    }


def test_another_recipes_is_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path, at(3, name="other-recipe"), "abc")
    with pytest.raises(TrainingError, match=r"step-00000003 is .* another recipe \(other-recipe, abc; this one is xyz"):
        latest(tmp_path, "xyz")


def cut_tensors(path: Path) -> None:
    file = path / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


def cut_state(path: Path) -> None:
    (path / "state.json").write_text('{"step": 2, "rec', encoding="utf-8")


def lose_tensors(path: Path) -> None:
    (path / "tensors.safetensors").unlink()


def lose_a_fact(path: Path) -> None:
    (path / "state.json").write_text(json.dumps({"recipe": "abc"}), encoding="utf-8")


@pytest.mark.parametrize("damage", [cut_tensors, cut_state, lose_tensors, lose_a_fact])
def test_a_damaged_one_falls_back_to_the_one_before(damage: Callable[[Path], None], tmp_path: Path) -> None:
    save(tmp_path, at(1), "abc")
    damage(save(tmp_path, at(2), "abc"))
    told: list[str] = []
    found = latest(tmp_path, "abc", on_damaged=told.append)
    assert found is not None and found.step == 1
    assert len(told) == 1 and told[0].startswith(f"{tmp_path / 'step-00000002'}: ")
    assert save(tmp_path, at(2), "abc").is_dir()  # the run comes by there again
    again = latest(tmp_path, "abc")
    assert again is not None and again.step == 2


def test_when_none_is_whole_the_error_names_all(tmp_path: Path) -> None:
    for step in (1, 2):
        cut_tensors(save(tmp_path, at(step), "abc"))
    with pytest.raises(TrainingError, match=r"step-00000002: .*step-00000001: .*Delete the folder"):
        latest(tmp_path, "abc")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_keeps_the_last_good_one(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, at(1), "abc")

    def save_file(tensors: Any, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(safetensors.torch, "save_file", save_file)
    with pytest.raises(TrainingError, match=r"step-00000002 could not be written: .*No space left.*Free some space"):
        save(tmp_path, at(2), "abc")
    assert names(tmp_path) == ["step-00000001"]
    found = latest(tmp_path, "abc")
    assert found is not None and found.step == 1


def test_a_kill_before_the_rename_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, at(1), "abc")

    def killed(_path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "_flush", killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, at(2), "abc")
    monkeypatch.undo()
    found = latest(tmp_path, "abc")
    assert found is not None and found.step == 1
    save(tmp_path, at(2), "abc")
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_seen(wrong: float) -> None:
    assert all_finite({"a": torch.ones(2), "n": torch.tensor([3])})
    assert not all_finite({"a": torch.ones(2), "b": torch.tensor([0.0, wrong])})
