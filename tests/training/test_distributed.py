"""Two processes on one CPU: the same step in both, and that of the mean of their two gradients."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training import runs
from xsearch.errors import TrainingError
from xsearch.training.distributed import ALONE, Processes, joined
from xsearch.training.language_model import special_tokens
from xsearch.training.recipe import Recipe
from xsearch.training.trainer import Trainer

ROOT = Path(__file__).parents[2]
# Batches of terms have no masked words, so one process may use the head while the other does not.
TABLES: Mapping[str, Mapping[str, Any]] = {
    "teacher": {"model": "teacher"},
    "loss": {"distil_contrastive": 1, "distil_cosine": 5, "mlm": 0.5},
    "batches": {"terms": 0.4},
    "optimizer": {"steps": 4, "dropout": 0.1},
}

# All of it in one start: to load torch takes longer than the rest.
WORKER = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from tests.training import runs, test_distributed as here
from xsearch.errors import TrainingError
from xsearch.training.distributed import joined
torch.set_num_threads(1)
model, folder = Path(sys.argv[1]), Path(sys.argv[2])

def run(name, steps):
    place = folder / name
    trainer = here.trainer(here.recipe_of(place, steps), model, place, processes)
    resumed = trainer.resume()
    losses = []
    trainer.run(on_step=lambda report: losses.append((report.loss, float(report.tokens))))
    processes.wait()
    tensors = dict(trainer.student.state_dict())
    tensors |= {"rows": trainer.student.table.rows, "moments": trainer.student.table.second}
    tensors["head"] = trainer._language.head.dense.weight.detach()
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64).reshape(-1, 2)
    tensors["resumed"] = torch.tensor(resumed)
    save_file(tensors, folder / f"{name}{len(losses)}-rank{processes.rank}.safetensors")

with joined("cpu") as processes:
    # Each alone first: ids and gradients of two processes by hand.
    used = torch.tensor([[1, 4], [2, 4]][processes.rank])
    rows = torch.tensor([[[1.0], [2.0]], [[30.0], [40.0]]][processes.rank])
    ids, mean = processes.exchange(used, rows)
    assert (ids.tolist(), mean.tolist()) == ([1, 2, 4], [[0.5], [15.0], [21.0]]), (ids, mean)
    ids, mean = processes.exchange(used[: processes.rank], rows[: processes.rank])
    assert (ids.tolist(), mean.tolist()) == ([2], [[15.0]]), (ids, mean)
    first, second, third = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    first.grad = torch.tensor([1.0, 3.0]) * (processes.rank + 1)
    if processes.rank:
        second.grad = torch.ones(2)
    processes.average([first, second, third])
    assert first.grad.tolist() == [1.5, 4.5] and second.grad.tolist() == [0.5, 0.5] and third.grad is None
    assert processes.totals(1.0, processes.rank + 1.0) == (2.0, 3.0)
    shared = torch.tensor([float(processes.rank)])
    processes.share([shared])
    assert shared.item() == 0.0
    with processes.first_alone():
        mark = folder / "mark"
        assert mark.exists() == (processes.rank == 1)
        if processes.first:
            mark.write_text("")
    # Runs: of one step; of four; and the last two of these again, from the checkpoint before the last.
    run("one", 1)
    run("four", 4)
    if processes.first:
        (folder / "four" / "checkpoints" / "step-00000004" / "state.json").unlink()
    processes.wait()
    run("four", 4)
    # A NaN in the second, which without a resume does not take over the first one's weights.
    trainer = here.trainer(here.recipe_of(folder / "nan", 4), model, folder / "nan", processes)
    if processes.rank == 1:
        trainer.student.table.rows.fill_(float("nan"))
    try:
        trainer.run()
    except TrainingError as error:
        print(error)
"""


@dataclass(frozen=True)
class Two:
    folder: Path
    printed: tuple[str, ...]

    def both(self, name: str) -> list[dict[str, torch.Tensor]]:
        return [load_file(self.folder / f"{name}-rank{rank}.safetensors") for rank in (0, 1)]


def recipe_of(folder: Path, steps: int) -> Recipe:
    return runs.recipe(folder, **{**TABLES, "optimizer": {**TABLES["optimizer"], "steps": steps}})


def trainer(recipe: Recipe, model: Path, folder: Path, processes: Processes = ALONE) -> Trainer:
    prepared = runs.prepared_of(model)
    teacher = runs.teacher_vectors(prepared)
    special = special_tokens(runs.tokenizer_of(model))
    student = runs.tiny_student(model, dropout=0.1)
    return Trainer(student, prepared, teacher, recipe, folder, pad=0, special=special, processes=processes)


@pytest.fixture(scope="module")
def two(mbert: Path, tmp_path_factory: pytest.TempPathFactory) -> Two:
    """What two processes wrote and printed."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(mbert), str(folder)],
            env={**os.environ, **shared, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    try:
        ends = [process.communicate() for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "".join(err for _, err in ends)
    return Two(folder, tuple(out for out, _ in ends))


def test_both_stay_equal_and_a_step_is_that_of_the_mean_gradient(two: Two, mbert: Path, tmp_path: Path) -> None:
    ranks = two.both("one1")
    for name, value in ranks[0].items():
        assert torch.equal(value, ranks[1][name]), name

    # By hand: the gradients of the plan's first two batches, with the random numbers of batches 0 and 1.
    own = trainer(recipe_of(tmp_path, 2), mbert, tmp_path)
    own.student.train()
    optimizer, own._optimizer = own._optimizer, None  # the gradients only
    table = torch.zeros_like(own.student.table.rows)
    used, losses, tokens = [], [], 0
    gradients: list[list[torch.Tensor | None]] = []
    with pytest.MonkeyPatch.context() as patch:
        for number, rows in enumerate(islice(iter(own._plan), 2)):
            own.step = number  # alone, the number of the step is that of the batch
            stepped: list[tuple[torch.Tensor, torch.Tensor]] = []
            patch.setattr(own.student.table, "step", lambda ids, rows, _rate, to=stepped: to.append((ids, rows)))
            loss, read = own._update(rows)
            gradients.append([weight.grad for weight in own._weights])
            for weight in own._weights:
                weight.grad = None
            table[stepped[0][0]] += stepped[0][1] / 2
            used.append(stepped[0][0])
            losses.append(loss)
            tokens += read
    for weight, parts in zip(own._weights, zip(*gradients, strict=True), strict=True):
        there = [part for part in parts if part is not None]
        weight.grad = torch.stack(there).sum(0) / 2 if there else None
    torch.nn.utils.clip_grad_norm_(own._weights, 1.0)
    assert optimizer is not None
    for group in optimizer.param_groups:
        group["lr"] = 1e-3 * 0.5  # the first of two steps of warm-up
    optimizer.step()
    ids = torch.unique(torch.cat(used))
    own.student.table.step(ids, table[ids], 1e-3 * 0.5)
    for name, value in own.student.state_dict().items():
        assert float((value - ranks[0][name]).abs().max()) < 1e-6, name
    assert float((own.student.table.rows - ranks[0]["rows"]).abs().max()) < 1e-6
    assert float((own.student.table.second - ranks[0]["moments"]).abs().max()) < 1e-9
    assert ranks[0]["losses"][0].tolist() == pytest.approx([sum(losses) / 2, tokens], rel=1e-6)


def test_a_run_of_two_goes_on_from_its_checkpoint(two: Two) -> None:
    whole, again = two.both("four4"), two.both("four2")
    assert [int(each["resumed"]) for each in (*whole, *again)] == [0, 0, 2, 2]
    assert torch.equal(again[0]["losses"], whole[0]["losses"][2:])
    for name in set(whole[0]) - {"losses", "resumed"}:
        assert torch.equal(whole[0][name], again[0][name]) and torch.equal(whole[0][name], again[1][name]), name
    checkpoints = two.folder / "four" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["step-00000002", "step-00000004"]


def test_what_is_not_finite_in_one_stops_all(two: Two) -> None:
    first, second = two.printed
    assert "The loss of step 1" in first and "(in another process)" in first
    assert "The loss of step 1 is nan" in second and "examples of" in second
    assert not (two.folder / "nan" / "checkpoints").exists()


def test_alone_nothing_is_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as processes:
        assert (processes.rank, processes.size, processes.first) == (0, 1, True)
        used, gradient = torch.tensor([3]), torch.ones(1, 2)
        assert processes.exchange(used, gradient)[1] is gradient
        assert processes.totals(1.5, 2.0) == (1.5, 2.0)
        with processes.first_alone():
            processes.wait()


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(TrainingError, match=r"more processes than GPUs \(1\).*--nproc-per-node 1"), joined("cuda"):
        pass
