"""The loop: batches in, a better encoder out; a killed run goes on from its last checkpoint as if nothing had been."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xsearch.errors import TrainingError
from xsearch.training import checkpoint, objective, throughput
from xsearch.training.batches import MIXED, BatchPlan, BatchRows
from xsearch.training.checkpoint import Checkpoint
from xsearch.training.distributed import ALONE, Processes
from xsearch.training.gradcache import accumulate
from xsearch.training.language_model import LanguageModel, MaskedRows
from xsearch.training.masking import SpecialTokens
from xsearch.training.prepared import Prepared
from xsearch.training.recipe import Recipe
from xsearch.training.runlog import OnStep, StepReport
from xsearch.training.selection import Kind
from xsearch.training.student import Student, TakenRows, check_body
from xsearch.training.targets import TargetSource

# What must stay the same for a checkpoint to be gone on from.
FIXED_TABLES = ("base", "seed", "vocabulary", "data", "teacher", "batches", "loss")
Side = tuple[NDArray[np.int64], NDArray[np.int64]]
# Places of tokens among the rows taken from the table, and the attention mask; both (n, tokens).
Chunk = tuple[Tensor, Tensor]


class Trainer:
    """Trains a student on prepared data.

    The random choices of a step depend on the seed and the batch's number alone, so a run that goes on from a
    checkpoint computes what the whole run would have computed.

    Args:
        teacher: (m, dim) vectors of the English sides, or None without distillation.
        pad: the padding token's id.
        special: the tokens that language modelling must know; needed where the recipe has ``loss.mlm`` or ``loss.tlm``.
        processes: this one among those of the run; it takes every ``size``-th batch of the plan.

    Raises:
        TrainingError: the recipe asks for what this base, this teacher or these batches cannot do.
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
        special: SpecialTokens | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.student = student.to(device)
        self.peak_gflops = 0.0
        self._prepared = prepared
        self._distils = teacher is not None
        self._recipe = recipe
        self._folder = folder
        self._pad = pad
        self._device = torch.device(device)
        self._processes = processes
        self._plan = BatchPlan(prepared, recipe.batches, recipe.data, recipe.seed)
        _check(recipe, student, teacher, pad, self._plan)
        batches = recipe.optimizer.steps * processes.size
        used = self._plan.teacher_rows(batches) if teacher is not None else None
        self._targets = TargetSource(
            prepared, teacher, used, bank=recipe.loss.bank, seed=recipe.seed, device=self._device
        )
        self._fingerprint = recipe.fingerprint(*FIXED_TABLES)
        self._flops = throughput.training_flops(throughput.linear_shapes(student.body))
        self._language: LanguageModel | None = None
        if special is not None and max(recipe.loss.mlm, recipe.loss.tlm) > 0:
            self._language = LanguageModel(
                student, special, recipe.loss, max_tokens=recipe.base.max_tokens, seed=recipe.seed
            )
            self._language.head.to(device)
        table = recipe.optimizer
        self._weights = [*student.parameters(), *(self._head.parameters() if self._head is not None else ())]
        decayed = [weight for weight in self._weights if weight.ndim > 1]
        plain = [weight for weight in self._weights if weight.ndim <= 1]
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

    @property
    def _head(self) -> nn.Module | None:
        return None if self._language is None else self._language.head

    def resume(self, *, on_damaged: Callable[[str], None] | None = None) -> int:
        """Goes to the newest checkpoint, if there is one; the number of steps done.

        Args:
            on_damaged: told of each newer checkpoint that cannot be read.

        Raises:
            TrainingError: the checkpoints are of another recipe or number of processes, or none can be read.
        """
        found = checkpoint.latest(self._folder / "checkpoints", self._fingerprint, on_damaged=on_damaged)
        if found is not None:
            self._load(found)
        self._processes.share([*self._weights, *self.student.table.state().values()])
        return self.step

    def run(
        self,
        *,
        on_step: OnStep | None = None,
        on_checkpoint: Callable[[int], None] | None = None,
    ) -> None:
        """Trains to the recipe's last step, with checkpoints on the way.

        Args:
            on_checkpoint: told the step after each checkpoint; there is one before each measurement.

        Raises:
            TrainingError: a loss is not finite, or a checkpoint cannot be written; the last good checkpoint stays.
        """
        steps, run, size = self._recipe.optimizer.steps, self._recipe.run, self._processes.size
        self.student.train()
        batches = islice(iter(self._plan), self.step * size + self._processes.rank, steps * size, size)
        while self.step < steps:
            started = time.perf_counter()
            rows = next(batches)
            loss, tokens = self._update(rows)
            self.step += 1
            seconds = time.perf_counter() - started
            if on_step is not None:
                on_step(self._report(rows, loss, tokens, seconds))
            due = [every for every in (run.checkpoint_every, run.evaluate_every) if every and self.step % every == 0]
            if due or self.step == steps:
                self._save()
                if on_checkpoint is not None:
                    on_checkpoint(self.step)
        self.student.eval()

    def _update(self, rows: BatchRows) -> tuple[float, int]:
        """The loss of a batch and its tokens, both over all processes."""
        table = self._recipe.optimizer
        number = self.step * self._processes.size + self._processes.rank
        torch.manual_seed(int(np.random.default_rng((self._recipe.seed, 5, number)).integers(2**62)))
        share = self._rate_share()
        sides = self._sides(rows)
        masked = self._language.rows(rows.kind, self._prepared, rows.rows, number) if self._language else []
        taken = self.student.table.take(
            *(self._tensor(ids) for ids, _ in sides), *(part.ids.to(self._device) for part in masked)
        )
        loss = self._backward(rows, sides, masked, taken, number)
        gradient = torch.zeros_like(taken.leaf) if taken.leaf.grad is None else taken.leaf.grad
        wrong = not math.isfinite(loss) or not bool(torch.isfinite(gradient).all())
        tokens = sum(int(mask.sum()) for _, mask in sides) + sum(int(part.mask.sum()) for part in masked)
        all_wrong, all_loss, all_tokens = self._processes.totals(float(wrong), loss, float(tokens))
        if all_wrong:
            raise self._not_finite(rows if wrong else None, "loss", loss)
        self._processes.average(self._weights)
        if self._optimizer is not None:
            norm = torch.nn.utils.clip_grad_norm_(self._weights, table.max_norm)
            if not bool(torch.isfinite(norm)):
                raise self._not_finite(rows, "gradient's norm", float(norm))
            for group in self._optimizer.param_groups:
                group["lr"] = table.rate * share
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        self.student.table.step(*self._processes.exchange(taken.used, gradient), table.embedding_rate * share)
        return all_loss / self._processes.size, int(all_tokens)

    def _backward(
        self, rows: BatchRows, sides: list[Side], masked: list[MaskedRows], taken: TakenRows, number: int
    ) -> float:
        total = 0.0
        if sides:
            total += self._vectors_backward(rows, sides, taken, number)
        for part, places in zip(masked, taken.places[len(sides) :], strict=True):
            total += self._masked_backward(part, places, taken)
        return total

    def _vectors_backward(self, rows: BatchRows, sides: list[Side], taken: TakenRows, number: int) -> float:
        """The terms that compare vectors: at once, or by gradient caching where a batch is larger than a chunk."""
        masks = [self._tensor(mask) for _, mask in sides]

        def encode(chunk: Chunk) -> Tensor:
            places, mask = chunk
            with self._autocast():
                vectors: Tensor = self.student(taken.leaf[places], mask)
            return vectors.float()

        def loss_of(*vectors: Tensor) -> Tensor:
            return self._loss(rows, list(vectors), number)

        whole = list(zip(taken.places[: len(sides)], masks, strict=True))
        if sum(ids.size for ids, _ in sides) > self._recipe.batches.chunk_tokens:
            return accumulate(encode, [list(self._chunks(*side)) for side in whole], loss_of)
        loss = loss_of(*(encode(side) for side in whole))
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _masked_backward(self, part: MaskedRows, places: Tensor, taken: TakenRows) -> float:
        """A term of language modelling, chunk by chunk: a mean over hidden tokens is a weighted sum over chunks."""
        assert self._language is not None
        hidden = int((part.labels >= 0).sum())
        rows = max(1, self._recipe.batches.chunk_tokens // places.shape[1])
        total = 0.0
        for start in range(0, len(places), rows):
            chunk = part.part(start, start + rows).to(self._device)
            count = int((chunk.labels >= 0).sum())
            if not count:
                continue
            embedded = taken.leaf[places[start : start + rows, : chunk.ids.shape[1]]]
            with self._autocast():
                states = self.student.token_states(embedded, chunk.mask, positions=chunk.positions, types=chunk.types)
            loss = self._language.loss(self.student, states, chunk) * (part.weight * count / hidden)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total

    def _chunks(self, places: Tensor, mask: Tensor) -> Iterator[Chunk]:
        """Rows of a side that are encoded at once, without the columns that are padding in all of them."""
        size = max(1, self._recipe.batches.chunk_tokens // places.shape[1])
        for start in range(0, len(places), size):
            width = max(1, int(mask[start : start + size].sum(1).max()))
            yield places[start : start + size, :width], mask[start : start + size, :width]

    def _loss(self, rows: BatchRows, vectors: list[Tensor], number: int) -> Tensor:
        table = self._recipe.loss
        targets = self._targets.of(rows, number)
        if rows.kind is Kind.QUESTION:
            return objective.questions(vectors[0], vectors[1], targets, table)
        total = vectors[0].new_zeros(())
        if targets.teacher is not None:
            total = total + objective.distillation(vectors[0], targets, table)
        if len(vectors) > 1:
            total = total + objective.translation(vectors[0], vectors[1], targets, table)
        return total

    def _sides(self, rows: BatchRows) -> list[Side]:
        """The texts that the student reads: one side for distillation, both for what compares its own vectors."""
        if not objective.compares_vectors(rows.kind, self._recipe.loss, distils=self._distils):
            return []
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
        return StepReport(
            step=self.step,
            steps=self._recipe.optimizer.steps,
            loss=loss,
            kind=rows.kind.name.lower(),
            lang=self._lang(rows),
            tokens=tokens,
            seconds=seconds,
            gflops=self._flops * tokens / seconds / 1e9,
            peak_gflops=self.peak_gflops * self._processes.size,
        )

    def _not_finite(self, rows: BatchRows | None, what: str, value: float) -> TrainingError:
        batch = "in another process" if rows is None else self._describe(rows)
        return TrainingError(
            f"The {what} of step {self.step + 1} is {value} ({batch})",
            "Loss and gradients must be finite",
            f"Go on from the last checkpoint in {self._folder / 'checkpoints'} with a lower optimizer.rate",
        )

    def _lang(self, rows: BatchRows) -> str:
        return "*" if rows.lang == MIXED else self._prepared.languages[rows.lang]

    def _describe(self, rows: BatchRows) -> str:
        return f"{rows.kind.name.lower()} examples of {self._lang(rows)}, {len(rows.rows)} of them"

    def _save(self) -> None:
        tensors = {f"body.{name}": value for name, value in self.student.state_dict().items()}
        tensors |= {f"table.{name}": value for name, value in self.student.table.state().items()}
        if self._head is not None:
            tensors |= {f"head.{name}": value for name, value in self._head.state_dict().items()}
        if self._optimizer is not None:
            for number, state in self._optimizer.state_dict()["state"].items():
                tensors |= {f"adam.{number}.{name}": value for name, value in state.items()}
        if not checkpoint.all_finite(tensors):
            raise TrainingError(
                f"After step {self.step} a weight is NaN or infinite",
                "All weights must be finite",
                f"Go on from the last checkpoint in {self._folder / 'checkpoints'} with a lower optimizer.rate",
            )
        if self._processes.first:
            facts = {"name": self._recipe.name, "processes": self._processes.size}
            checkpoint.save(self._folder / "checkpoints", Checkpoint(self.step, tensors, facts), self._fingerprint)

    def _load(self, found: Checkpoint) -> None:
        processes = int(found.facts.get("processes", 1))
        if processes != self._processes.size:
            raise TrainingError(
                f"The checkpoint of step {found.step} is of a run of {processes} processes; this one has "
                f"{self._processes.size}",
                "Each process takes its share of the plan's batches, so their number stays the same",
                f"Start it with torchrun --nproc-per-node {processes}, or give another --output",
            )
        parts: dict[str, dict[str, Tensor]] = {"body": {}, "table": {}, "adam": {}, "head": {}}
        for name, value in found.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        try:
            self.student.load_weights(parts["body"])
            self.student.table.load(parts["table"])
            if self._head is not None:
                self._head.load_state_dict(parts["head"])
        except (RuntimeError, KeyError) as exc:
            raise TrainingError(
                f"The weights of the checkpoint of step {found.step} do not fit: {exc}",
                "Base model and vocabulary must be those that the run began with",
                "Bring the base model back, or give another --output",
            ) from exc
        if self._optimizer is not None:
            state = self._optimizer.state_dict()
            moments: dict[int, dict[str, Tensor]] = {}
            for name, value in parts["adam"].items():
                number, _, rest = name.partition(".")
                moments.setdefault(int(number), {})[rest] = value
            self._optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
        self.step = found.step


def _check(recipe: Recipe, student: Student, teacher: NDArray[Any] | None, pad: int, plan: BatchPlan) -> None:
    """Refuses what would fail, or teach nothing, at some step."""
    if student.body is not None:
        check_body(student.body, max_tokens=recipe.base.max_tokens, pad=pad)
    if teacher is not None and teacher.shape[1] != student.dim:
        raise TrainingError(
            f"The teacher's vectors have {teacher.shape[1]} dimensions and the student's {student.dim}",
            "The student learns the teacher's vectors, so both have as many",
            "Choose another teacher or base, or leave [teacher] out, with loss.distil_* at 0 and loss.contrastive at 1",
        )
    for kind in plan.kinds:
        if not objective.has_terms(kind, recipe.loss, distils=teacher is not None):
            raise TrainingError(
                f"No term of the loss is for batches of kind {kind.name.lower()}",
                "Each kind with a share in [batches] needs a term with a weight in [loss]",
                "Set its share to 0, or weigh a term: contrastive, distil_*, question, mlm or tlm",
            )
