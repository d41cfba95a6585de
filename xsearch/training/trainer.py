"""The loop: batches in, a better encoder out; a killed run goes on from its last checkpoint as if nothing had been."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xsearch.errors import TrainingError
from xsearch.training import checkpoint, objective
from xsearch.training.batches import MIXED, BatchPlan, BatchRows
from xsearch.training.checkpoint import Checkpoint
from xsearch.training.objective import Targets
from xsearch.training.prepared import NO_TEACHER, Prepared
from xsearch.training.recipe import Recipe
from xsearch.training.selection import Kind
from xsearch.training.student import Student, TakenRows

# What must stay the same for a checkpoint to be gone on from.
FIXED_TABLES = ("base", "seed", "vocabulary", "data", "teacher", "batches", "loss")


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step brought.

    Attributes:
        step: updates done.
        steps: updates in all.
        loss: of the batch.
        kind, lang: what the batch held; ``*`` for all languages.
        tokens: that the student read, padding left out.
        seconds: the step took.
        gflops: arithmetic of the matrix products of body and backward pass, a second.
    """

    step: int
    steps: int
    loss: float
    kind: str
    lang: str
    tokens: int
    seconds: float
    gflops: float


OnStep = Callable[[StepReport], None]
Side = tuple[NDArray[np.int64], NDArray[np.int64]]


class Trainer:
    """Trains a student on prepared data.

    The random choices of a step depend on the seed and the step's number alone, so a run that goes on from a
    checkpoint computes what the whole run would have computed.

    Args:
        teacher: (m, dim) vectors of the English sides, or None without distillation.
        pad: the padding token's id.
    """

    def __init__(
        self,
        student: Student,
        prepared: Prepared,
        teacher: NDArray[Any] | None,
        recipe: Recipe,
        folder: Path,
        *,
        pad: int,
        device: str = "cpu",
    ) -> None:
        self.student = student.to(device)
        self._prepared = prepared
        self._teacher = teacher
        self._recipe = recipe
        self._folder = folder
        self._pad = pad
        self._device = torch.device(device)
        self._plan = BatchPlan(prepared, recipe.batches, recipe.data, recipe.seed)
        self._used = self._plan.teacher_rows(recipe.optimizer.steps) if teacher is not None else None
        self._bank_groups = _teacher_groups(prepared)
        self._fingerprint = recipe.fingerprint(*FIXED_TABLES)
        table = recipe.optimizer
        decayed = [weight for weight in student.parameters() if weight.ndim > 1]
        plain = [weight for weight in student.parameters() if weight.ndim <= 1]
        self._optimizer = (
            torch.optim.AdamW(
                [{"params": decayed, "weight_decay": table.weight_decay}, {"params": plain, "weight_decay": 0.0}],
                lr=table.rate,
                fused=True,
            )
            if decayed or plain
            else None
        )
        self.step = 0

    def resume(self) -> int:
        """Goes to the newest checkpoint, if there is one; the number of steps done.

        Raises:
            TrainingError: the checkpoints are of another recipe, or none can be read.
        """
        found = checkpoint.latest(self._folder / "checkpoints", self._fingerprint)
        if found is not None:
            self._load(found)
        return self.step

    def run(self, *, on_step: OnStep | None = None, on_checkpoint: Callable[[int], None] | None = None) -> None:
        """Trains to the recipe's last step, with checkpoints on the way.

        Raises:
            TrainingError: a loss is not finite, or a checkpoint cannot be written; the last good checkpoint stays.
        """
        steps = self._recipe.optimizer.steps
        self.student.train()
        for rows in islice(iter(self._plan), self.step, steps):
            started = time.perf_counter()
            loss, tokens = self._update(rows)
            self.step += 1
            seconds = time.perf_counter() - started
            if on_step is not None:
                on_step(self._report(rows, loss, tokens, seconds))
            if self.step % self._recipe.run.checkpoint_every == 0 or self.step == steps:
                self._save()
                if on_checkpoint is not None:
                    on_checkpoint(self.step)
        self.student.eval()

    def _update(self, rows: BatchRows) -> tuple[float, int]:
        table = self._recipe.optimizer
        torch.manual_seed(int(np.random.default_rng((self._recipe.seed, 5, self.step)).integers(2**62)))
        share = self._rate_share()
        sides = self._sides(rows)
        taken = self.student.table.take(*(self._tensor(ids) for ids, _ in sides))
        loss = self._backward(rows, sides, taken)
        if not math.isfinite(loss) or taken.leaf.grad is None or not bool(torch.isfinite(taken.leaf.grad).all()):
            raise TrainingError(
                f"The loss of step {self.step + 1} is {loss} ({self._describe(rows)})",
                "Loss and gradients must be finite",
                f"Go on from the last checkpoint in {self._folder / 'checkpoints'} with a lower optimizer.rate",
            )
        if self._optimizer is not None:
            torch.nn.utils.clip_grad_norm_(self.student.parameters(), table.max_norm)
            for group in self._optimizer.param_groups:
                group["lr"] = table.rate * share
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        self.student.table.step(taken.used, taken.leaf.grad, table.embedding_rate * share)
        return loss, sum(int(mask.sum()) for _, mask in sides)

    def _backward(self, rows: BatchRows, sides: list[Side], taken: TakenRows) -> float:
        masks = [self._tensor(mask) for _, mask in sides]
        with self._autocast():
            vectors = [self.student(taken.leaf[places], mask) for places, mask in zip(taken.places, masks, strict=True)]
        loss = self._loss(rows, [vector.float() for vector in vectors])
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss)

    def _loss(self, rows: BatchRows, vectors: list[Tensor]) -> Tensor:
        table = self._recipe.loss
        targets = self._targets(rows)
        if rows.kind is Kind.QUESTION:
            return objective.questions(vectors[0], vectors[1], targets, table)
        total = vectors[0].new_zeros(())
        if targets.teacher is not None:
            total = total + objective.distillation(vectors[0], targets, table)
        if len(vectors) > 1:
            total = total + objective.translation(vectors[0], vectors[1], targets, table)
        return total

    def _targets(self, rows: BatchRows) -> Targets:
        groups = self._tensor(self._prepared.groups[rows.rows])
        if self._teacher is None or rows.kind is Kind.QUESTION:
            return Targets(None, None, groups, None)
        teacher = self._vectors(self._prepared.teacher_rows[rows.rows])
        bank = bank_groups = None
        if self._recipe.loss.bank and self._used is not None:
            places = objective.bank_rows(len(self._used), self._recipe.loss.bank, self._recipe.seed, self.step)
            chosen = self._used[places]
            bank, bank_groups = self._vectors(chosen), self._tensor(self._bank_groups[chosen, None])
        return Targets(teacher, bank, groups, bank_groups)

    def _vectors(self, rows: NDArray[np.int64]) -> Tensor:
        assert self._teacher is not None
        vectors = torch.from_numpy(np.asarray(self._teacher[rows], dtype=np.float32)).to(self._device)
        return torch.nn.functional.normalize(vectors, dim=-1)

    def _sides(self, rows: BatchRows) -> list[Side]:
        """The texts that the student reads: one side for distillation, both for what compares its own vectors."""
        sides = [self._prepared.texts.padded(rows.rows, self._pad)]
        both = rows.kind is Kind.QUESTION or (self._recipe.loss.contrastive > 0 and rows.kind is not Kind.ENGLISH)
        if both:
            sides.append(self._prepared.english.padded(rows.rows, self._pad))
        return sides

    def _rate_share(self) -> float:
        table = self._recipe.optimizer
        rise = (self.step + 1) / max(1, table.warmup)
        fall = (table.steps - self.step) / max(1, table.steps - table.warmup)
        return max(0.0, min(1.0, rise, fall))

    def _autocast(self) -> torch.autocast:
        wanted = self._recipe.optimizer.precision == "bfloat16"
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=wanted)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    def _report(self, rows: BatchRows, loss: float, tokens: int, seconds: float) -> StepReport:
        weights = sum(weight.numel() for weight in self.student.parameters() if weight.ndim > 1)
        return StepReport(
            step=self.step,
            steps=self._recipe.optimizer.steps,
            loss=loss,
            kind=rows.kind.name.lower(),
            lang=self._lang(rows),
            tokens=tokens,
            seconds=seconds,
            gflops=6 * weights * tokens / seconds / 1e9,
        )

    def _lang(self, rows: BatchRows) -> str:
        return "*" if rows.lang == MIXED else self._prepared.languages[rows.lang]

    def _describe(self, rows: BatchRows) -> str:
        return f"{rows.kind.name.lower()} examples of {self._lang(rows)}, {len(rows.rows)} of them"

    def _save(self) -> None:
        tensors = {f"body.{name}": value for name, value in self.student.state_dict().items()}
        tensors |= {f"table.{name}": value for name, value in self.student.table.state().items()}
        if self._optimizer is not None:
            for number, state in self._optimizer.state_dict()["state"].items():
                tensors |= {f"adam.{number}.{name}": value for name, value in state.items()}
        if not checkpoint.all_finite(tensors):
            raise TrainingError(
                f"After step {self.step} a weight is NaN or infinite",
                "All weights must be finite",
                f"Go on from the last checkpoint in {self._folder / 'checkpoints'} with a lower optimizer.rate",
            )
        checkpoint.save(self._folder / "checkpoints", Checkpoint(self.step, tensors, {}), self._fingerprint)

    def _load(self, found: Checkpoint) -> None:
        parts: dict[str, dict[str, Tensor]] = {"body": {}, "table": {}, "adam": {}}
        for name, value in found.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        self.student.load_state_dict(parts["body"])
        self.student.table.load(parts["table"])
        if self._optimizer is not None:
            state = self._optimizer.state_dict()
            moments: dict[int, dict[str, Tensor]] = {}
            for name, value in parts["adam"].items():
                number, _, rest = name.partition(".")
                moments.setdefault(int(number), {})[rest] = value
            self._optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
        self.step = found.step


def _teacher_groups(prepared: Prepared) -> NDArray[np.int64]:
    """For each row of the teacher's vectors the group id of its text."""
    rows = prepared.teacher_rows
    groups = np.full(int(rows.max(initial=NO_TEACHER)) + 1, -1, dtype=np.int64)
    known = rows != NO_TEACHER
    groups[rows[known]] = prepared.groups[known, 0]
    return groups


@contextmanager
def log_lines(path: Path, every: int) -> Iterator[OnStep]:
    """A callback that appends a line of JSON to ``path`` every so many steps, with means since the last."""
    with path.open("a", encoding="utf-8") as file:
        window: list[StepReport] = []

        def write(report: StepReport) -> None:
            window.append(report)
            if report.step % every and report.step != report.steps:
                return
            seconds = sum(entry.seconds for entry in window)
            tokens = sum(entry.tokens for entry in window)
            line = {
                "step": report.step,
                "loss": sum(entry.loss for entry in window) / len(window),
                "tokens_per_s": tokens / seconds,
                "gflops": sum(entry.gflops * entry.seconds for entry in window) / seconds,
                "losses": _by_kind(window),
            }
            file.write(json.dumps(line) + "\n")
            file.flush()
            window.clear()

        yield write


def _by_kind(window: list[StepReport]) -> dict[str, float]:
    kinds = sorted({entry.kind for entry in window})
    return {
        kind: sum(entry.loss for entry in window if entry.kind == kind) / sum(entry.kind == kind for entry in window)
        for kind in kinds
    }
