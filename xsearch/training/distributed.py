"""Several processes that train one encoder: who is who, and what they tell each other.

A run is spread by ``torchrun --nproc-per-node 4 -m xsearch train RECIPE``: each process takes every fourth batch of the
plan, on a GPU of its own or on the CPU, and all of them make the same step with the mean of their gradients. All see
the same folder; the first alone writes to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from xsearch.errors import TrainingError

CPU = torch.device("cpu")
# The first process measures and writes while the others wait for its next gradient.
PATIENCE = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those of the run; all methods do nothing when it is alone.

    Attributes:
        rank: 0 for the first.
        size: how many there are.
        device: this one's.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        """Whether this one writes checkpoints, logs and encoders."""
        return self.rank == 0

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Within, the first process works before all others: what it writes, they find."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def wait(self) -> None:
        """Returns when all processes have come here."""
        if self.size > 1:
            distributed.barrier()

    def totals(self, *values: float) -> tuple[float, ...]:
        """The sums over all processes of some numbers."""
        if self.size == 1:
            return values
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(sums)
        return tuple(sums.tolist())

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Gives all processes the first one's values, in place."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor.detach(), src=0)

    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Makes each gradient the mean over all processes, in place.

        Where some have none (their batch did not use a part of the model), it counts as 0; where none has one,
        none gets one: the optimizer leaves such a weight alone.
        """
        trained = [weight for weight in parameters if weight.requires_grad]
        if self.size == 1 or not trained:
            return
        there = torch.tensor([float(weight.grad is not None) for weight in trained], device=self.device)
        distributed.all_reduce(there)
        used = [weight for weight, count in zip(trained, there.tolist(), strict=True) if count > 0]
        for weight in used:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        if not used:
            return
        gradients = [weight.grad for weight in used if weight.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.size
        for gradient, part in zip(gradients, torch.split(flat, [each.numel() for each in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def exchange(self, used: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The rows that any process used, and the mean of their gradients: the same in all, to the bit.

        A table of 250,000 tokens is some hundred times what a batch uses, so only rows that are used travel.

        Args:
            used: (n,) int64, ascending, each once.
            gradient: (n, dim) float32.
        """
        if self.size == 1:
            return used, gradient
        counts = self._gathered(torch.tensor([len(used)], device=self.device))
        sizes = [int(count) for count in counts]
        longest = max(sizes)
        all_ids = self._gathered(_lengthened(used, longest))
        all_rows = self._gathered(_lengthened(gradient, longest))
        ids = [each[:size] for each, size in zip(all_ids, sizes, strict=True)]
        together = torch.unique(torch.cat(ids))
        total = torch.zeros(len(together), gradient.shape[1], dtype=gradient.dtype, device=gradient.device)
        # One process after the other: adding all at once goes in any order on a GPU, and the tables would drift.
        for each, rows in zip(ids, all_rows, strict=True):
            total[torch.searchsorted(together, each)] += rows[: len(each)]
        return together, total / self.size

    def _gathered(self, tensor: Tensor) -> list[Tensor]:
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        distributed.all_gather(parts, tensor.contiguous())
        return parts


ALONE = Processes()


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """This process among those that ``torchrun`` started; alone where it did not start this one.

    Args:
        device: ``cpu`` (gloo), or ``cuda`` (NCCL): each process takes the GPU of its number on its machine.

    Raises:
        TrainingError: there are fewer GPUs than processes, or torch has no support for several.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size <= 1:
        yield Processes(device=torch.device(device))
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    own = torch.device(device)
    if not distributed.is_available():
        raise TrainingError(
            f"WORLD_SIZE is {size}", "This build of torch has no torch.distributed", "Start the run without torchrun"
        )
    if own.type == "cuda":
        if local >= torch.cuda.device_count():
            raise TrainingError(
                f"There are more processes than GPUs ({torch.cuda.device_count()}) on this machine",
                "Each process needs a GPU of its own",
                f"Pass --nproc-per-node {max(1, torch.cuda.device_count())} to torchrun",
            )
        own = torch.device("cuda", local)
        torch.cuda.set_device(own)
    distributed.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Processes(rank, size, own)
        # The first process holds the store: if it leaves early, gloo's threads abort the others.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def _lengthened(tensor: Tensor, rows: int) -> Tensor:
    """With rows of zeros at the end: all processes must send as many."""
    missing = torch.zeros(rows - len(tensor), *tensor.shape[1:], dtype=tensor.dtype, device=tensor.device)
    return torch.cat([tensor, missing])
