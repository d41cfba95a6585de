"""What a batch's vectors are compared with: the teacher's vectors, a bank of others, and who is nobody's negative."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xsearch.training import objective
from xsearch.training.batches import BatchRows
from xsearch.training.objective import Targets
from xsearch.training.prepared import NO_TEACHER, Prepared
from xsearch.training.selection import Kind


class TargetSource:
    """The targets of any batch.

    Args:
        teacher: (m, dim) vectors of the English sides, or None without distillation.
        used: rows of ``teacher`` that hold vectors, from which the bank is drawn.
        bank: how many are drawn.
    """

    def __init__(
        self,
        prepared: Prepared,
        teacher: NDArray[Any] | None,
        used: NDArray[np.int64] | None,
        *,
        bank: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._prepared = prepared
        self._teacher = teacher
        self._used = used
        self._bank = bank
        self._seed = seed
        self._device = device
        self._bank_groups = _teacher_groups(prepared)

    def of(self, rows: BatchRows, number: int) -> Targets:
        """The targets of the batch of that number; the same each time."""
        groups = torch.from_numpy(self._prepared.groups[rows.rows]).to(self._device)
        if self._teacher is None or rows.kind is Kind.QUESTION:
            return Targets(None, None, groups, None)
        teacher = self._vectors(self._teacher[self._prepared.teacher_rows[rows.rows]])
        bank = bank_groups = None
        if self._bank and self._used is not None:
            chosen = self._used[objective.bank_rows(len(self._used), self._bank, self._seed, number)]
            bank = self._vectors(self._teacher[chosen])
            bank_groups = torch.from_numpy(self._bank_groups[chosen, None]).to(self._device)
        return Targets(teacher, bank, groups, bank_groups)

    def _vectors(self, vectors: NDArray[Any]) -> Tensor:
        found = torch.from_numpy(np.asarray(vectors, dtype=np.float32)).to(self._device)
        return torch.nn.functional.normalize(found, dim=-1)


def _teacher_groups(prepared: Prepared) -> NDArray[np.int64]:
    """For each row of the teacher's vectors the group id of its text."""
    rows = prepared.teacher_rows
    groups = np.full(int(rows.max(initial=NO_TEACHER)) + 1, -1, dtype=np.int64)
    known = rows != NO_TEACHER
    groups[rows[known]] = prepared.groups[known, 0]
    return groups
