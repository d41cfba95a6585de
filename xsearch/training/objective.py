"""The loss of one batch: which terms it has, by what the batch holds and what the recipe weighs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xsearch.training import losses
from xsearch.training.recipe import LossTable
from xsearch.training.selection import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

# Two texts whose teacher vectors are this close say the same: they are no negatives of each other. Guided in-batch
# negatives, as in GISTEmbed (Solatorio 2024), with a fixed threshold: paraphrases in pawsx lie above 0.9.
SAME_MEANING = 0.9


@dataclass(frozen=True, slots=True)
class Targets:
    """What the student's vectors of a batch are compared with.

    Attributes:
        teacher: (n, dim), the teacher's vectors of the English sides; None for questions and without a teacher.
        bank: (m, dim), other teacher vectors, negatives for all.
        groups: (n, g) int64, examples that share an id are no negatives of each other.
        bank_groups: (m, 1) int64, ids of the bank's texts, comparable with the first column of ``groups``.
    """

    teacher: Tensor | None
    bank: Tensor | None
    groups: Tensor
    bank_groups: Tensor | None


def compares_vectors(kind: Kind, table: LossTable, *, distils: bool) -> bool:
    """Whether a batch of this kind has a term that compares vectors.

    Args:
        distils: whether there is a teacher.
    """
    if kind is Kind.QUESTION:
        return table.question > 0
    distilled = distils and max(table.distil_contrastive, table.distil_cosine, table.distil_mse) > 0
    return distilled or (table.contrastive > 0 and kind is not Kind.ENGLISH)


def has_terms(kind: Kind, table: LossTable, *, distils: bool) -> bool:
    """Whether a batch of this kind has any term; an English text is its own translation, and has none by contrast."""
    guessed = kind in (Kind.SENTENCE, Kind.PASSAGE) and max(table.mlm, table.tlm) > 0
    guessed = guessed or (kind is Kind.ENGLISH and table.mlm > 0)
    return guessed or compares_vectors(kind, table, distils=distils)


def distillation(student: Tensor, targets: Targets, table: LossTable) -> Tensor:
    """The weighted sum of the distillation terms: cosine, squared error, and InfoNCE against batch and bank.

    Args:
        student: (n, dim) unit rows.
        targets: must hold the teacher's vectors.
    """
    teacher = targets.teacher
    assert teacher is not None
    total = student.new_zeros(())
    if table.distil_cosine > 0:
        total = total + table.distil_cosine * losses.cosine_distillation(student, teacher)
    if table.distil_mse > 0:
        total = total + table.distil_mse * losses.mse_distillation(student, teacher)
    if table.distil_contrastive > 0:
        candidates, excluded = candidates_of(targets)

        def term(anchors: Tensor, positives: Tensor) -> Tensor:
            return losses.contrastive_distillation(anchors, positives, temperature=table.temperature, excluded=excluded)

        total = total + table.distil_contrastive * _at_lengths(term, [student, candidates], table.matryoshka)
    return total


def translation(student: Tensor, english: Tensor, targets: Targets, table: LossTable) -> Tensor:
    """Symmetric InfoNCE of texts against their English side, both through the student."""
    excluded = losses.same_group(targets.groups, targets.groups)
    if targets.teacher is not None:
        excluded |= targets.teacher @ targets.teacher.T > SAME_MEANING

    def term(anchors: Tensor, positives: Tensor) -> Tensor:
        return losses.contrastive(
            anchors, positives, temperature=table.temperature, margin=table.margin, excluded=excluded
        )

    return table.contrastive * _at_lengths(term, [student, english], table.matryoshka)


def questions(question: Tensor, passage: Tensor, targets: Targets, table: LossTable) -> Tensor:
    """InfoNCE of questions against the passages of the batch; several questions can share one passage."""
    excluded = losses.same_group(targets.groups, targets.groups)

    def term(anchors: Tensor, positives: Tensor) -> Tensor:
        return losses.question_passage(anchors, positives, temperature=table.temperature, excluded=excluded)

    return table.question * _at_lengths(term, [question, passage], table.matryoshka)


def candidates_of(targets: Targets) -> tuple[Tensor, Tensor]:
    """Teacher vectors of batch and bank, (n + m, dim), and which of them are no negatives, (n, n + m) bool."""
    teacher = targets.teacher
    assert teacher is not None
    excluded = losses.same_group(targets.groups, targets.groups)
    candidates = teacher
    if targets.bank is not None and targets.bank_groups is not None:
        candidates = torch.cat([teacher, targets.bank])
        excluded = torch.cat([excluded, losses.same_group(targets.groups[:, :1], targets.bank_groups)], dim=1)
    return candidates, excluded | (teacher @ candidates.T > SAME_MEANING)


def bank_rows(count: int, size: int, seed: int, step: int) -> NDArray[np.int64]:
    """Rows of the teacher's vectors that serve as negatives in a step; the same for the same seed and step."""
    return np.random.default_rng((seed, 4, step)).integers(0, count, size=min(size, count))


def _at_lengths(term: Callable[..., Tensor], vectors: list[Tensor], lengths: tuple[int, ...]) -> Tensor:
    return losses.matryoshka(term, vectors, lengths) if lengths else term(*vectors)
