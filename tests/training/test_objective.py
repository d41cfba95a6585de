"""Which terms a batch's loss has, with what weight, and who is no negative of whom."""

from __future__ import annotations

import math

import pytest
import torch

from xsearch.training import objective
from xsearch.training.objective import Targets
from xsearch.training.recipe import LossTable
from xsearch.training.selection import Kind

X, Y = [1.0, 0.0], [0.0, 1.0]
ALONE = torch.tensor([[1], [2]])
NOTHING = LossTable(distil_contrastive=0, distil_cosine=0, question=0, temperature=1.0)


def weighed(**weights: float) -> LossTable:
    return LossTable(**{**{name: getattr(NOTHING, name) for name in LossTable.__slots__}, **weights})  # type: ignore[arg-type]


def vectors(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, requires_grad=True)


def test_distillation_is_the_weighted_sum_of_its_terms() -> None:
    """Students (x, x) against teachers (x, y): 1 - cos is 0 and 1, squared errors 0 and 2 over 4 numbers; of InfoNCE,
    forwards log(1 + e^-1) and log(1 + e), backwards log 2 twice."""
    targets = Targets(torch.tensor([X, Y]), None, ALONE, None)
    student = vectors(X, X)
    assert objective.distillation(student, targets, weighed(distil_cosine=2)).item() == pytest.approx(2 * 0.5)
    assert objective.distillation(student, targets, weighed(distil_mse=3)).item() == pytest.approx(3 * 0.5)
    forwards = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2
    expected = (forwards + math.log(2)) / 2
    found = objective.distillation(student, targets, weighed(distil_contrastive=1))
    assert found.item() == pytest.approx(expected, abs=1e-6)
    both = objective.distillation(student, targets, weighed(distil_contrastive=1, distil_cosine=2))
    assert both.item() == pytest.approx(expected + 1, abs=1e-6)
    both.backward()
    assert student.grad is not None and float(student.grad.abs().max()) > 0.1


def test_the_bank_gives_more_negatives_but_not_the_text_itself() -> None:
    teacher, bank = torch.tensor([X]), torch.tensor([Y, Y])
    one = torch.tensor([[1]])
    table = weighed(distil_contrastive=1)

    def loss(bank_groups: list[list[int]]) -> float:
        targets = Targets(teacher, bank, one, torch.tensor(bank_groups))
        return float(objective.distillation(torch.tensor([X]), targets, table))

    # Backwards there is one student row, and so no loss.
    assert loss([[5], [6]]) == pytest.approx(math.log(1 + 2 * math.exp(-1)) / 2, abs=1e-6)
    assert loss([[1], [6]]) == pytest.approx(math.log(1 + math.exp(-1)) / 2, abs=1e-6)


def test_texts_that_the_teacher_finds_alike_are_no_negatives() -> None:
    near = [0.95, math.sqrt(1 - 0.95**2)]
    _, excluded = objective.candidates_of(
        Targets(torch.tensor([X, near, Y]), None, torch.tensor([[1], [2], [3]]), None)
    )
    assert excluded.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_translation_and_its_exclusions() -> None:
    """As in losses.contrastive: cosines [[1, 0], [0, 1]] at temperature 1 give log(1 + e^-1) in both directions."""
    table = weighed(contrastive=2)
    student, english = torch.tensor([X, Y]), torch.tensor([X, Y])
    found = objective.translation(student, english, Targets(None, None, ALONE, None), table)
    assert float(found) == pytest.approx(2 * math.log(1 + math.exp(-1)), abs=1e-6)
    same = Targets(None, None, torch.tensor([[1], [1]]), None)
    assert float(objective.translation(student, english, same, table)) == 0.0
    alike = Targets(torch.tensor([X, X]), None, ALONE, None)
    assert float(objective.translation(student, english, alike, table)) == 0.0
    margin = objective.translation(
        student, english, Targets(None, None, ALONE, None), weighed(contrastive=1, margin=0.5)
    )
    assert float(margin) == pytest.approx(math.log(1 + math.exp(-0.5)), abs=1e-6)


def test_questions_of_one_passage_are_no_negatives() -> None:
    question, passage = torch.tensor([X, X]), torch.tensor([X, Y])
    found = objective.questions(question, passage, Targets(None, None, ALONE, None), weighed(question=1))
    assert float(found) == pytest.approx((math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2, abs=1e-6)
    shared = Targets(None, None, torch.tensor([[7, 1], [7, 2]]), None)
    assert float(objective.questions(question, passage, shared, weighed(question=1))) == 0.0


def test_matryoshka_is_the_mean_over_lengths() -> None:
    rows = torch.tensor([[0.6, 0.8], [0.8, -0.6]])
    targets = Targets(None, None, ALONE, None)
    short = torch.tensor([[1.0], [1.0]])  # cut to one number and made unit, both are alike
    whole = objective.translation(rows, rows, targets, weighed(contrastive=1))
    cut = objective.translation(short, short, targets, weighed(contrastive=1))
    found = objective.translation(rows, rows, targets, weighed(contrastive=1, matryoshka=(2, 1)))  # type: ignore[arg-type]
    assert float(found) == pytest.approx((float(whole) + float(cut)) / 2, abs=1e-6)
    assert float(cut) == pytest.approx(math.log(2), abs=1e-6)


def test_the_bank_of_a_step_is_drawn_by_seed_and_step() -> None:
    first = objective.bank_rows(100, 10, 7, 3)
    assert objective.bank_rows(100, 10, 7, 3).tolist() == first.tolist()
    assert objective.bank_rows(100, 10, 7, 4).tolist() != first.tolist()
    assert objective.bank_rows(100, 10, 8, 3).tolist() != first.tolist()
    assert len(objective.bank_rows(4, 10, 7, 3)) == 4 and max(objective.bank_rows(4, 10, 7, 3)) < 4


@pytest.mark.parametrize(
    ("weights", "teacher", "compared", "with_terms"),
    [
        ({"distil_cosine": 1}, True, "STPE", "STPE"),
        ({"distil_cosine": 1}, False, "", ""),
        ({"contrastive": 1}, False, "STP", "STP"),
        ({"question": 1}, False, "Q", "Q"),
        ({"mlm": 1}, False, "", "SPE"),
        ({"tlm": 1}, False, "", "SP"),
        ({"contrastive": 1, "mlm": 1}, True, "STP", "STPE"),
    ],
)
def test_which_kinds_have_terms(weights: dict[str, float], teacher: bool, compared: str, with_terms: str) -> None:
    table = weighed(**weights)
    kinds = {kind: kind.name[0] for kind in Kind}
    found = {name for kind, name in kinds.items() if objective.compares_vectors(kind, table, distils=teacher)}
    assert found == set(compared)
    assert {name for kind, name in kinds.items() if objective.has_terms(kind, table, distils=teacher)} == set(
        with_terms
    )
