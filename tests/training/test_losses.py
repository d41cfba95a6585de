"""Losses: values by hand, gradients, the order of rows, exclusions, and agreement with sentence-transformers."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from xsearch.errors import InvalidArgumentError
from xsearch.training import losses
from xsearch.training.losses import contrastive, masked_language, matryoshka, question_passage, same_group

E = math.e


def unit_rows(rows: int, dim: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=1)


def value(loss: Tensor) -> float:
    assert loss.shape == ()
    return float(loss)


class TestContrastive:
    def test_two_by_two(self) -> None:
        # cos = [[1, 0], [0.6, 0.8]], t = 1.
        # Forwards:  row 0: log(1 + e^(0 - 1)) = 0.31326;  row 1: log(1 + e^(0.6 - 0.8)) = 0.59814.
        # Backwards: column 0: log(1 + e^(0.6 - 1)) = 0.51302;  column 1: log(1 + e^(0 - 0.8)) = 0.37110.
        anchors, positives = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.eye(2)
        forwards, backwards = (0.31326 + 0.59814) / 2, (0.51302 + 0.37110) / 2
        assert value(contrastive(anchors, positives, temperature=1.0, symmetric=False)) == pytest.approx(
            forwards, abs=1e-5
        )
        assert value(contrastive(anchors, positives, temperature=1.0)) == pytest.approx(
            (forwards + backwards) / 2, abs=1e-5
        )

    def test_the_example_in_the_docstring(self) -> None:
        anchors = torch.tensor([[1.0, 0.0], [0.5, 0.5]])  # not unit rows, but the cosines said there
        assert value(contrastive(anchors, torch.eye(2), temperature=1.0)) == pytest.approx(0.4886, abs=5e-5)

    def test_three_by_three_with_a_margin_and_a_temperature(self) -> None:
        # cos = [[1, 0, 0], [0, 1, 0], [0.6, 0.8, 0]], t = 0.5, margin 0.2; logits (cos - 0.2 on the diagonal) / 0.5:
        # [[1.6, 0, 0], [0, 1.6, 0], [1.2, 1.6, -0.4]].
        # Forwards:  rows 0 and 1: log(e^1.6 + 2) - 1.6;  row 2: log(e^1.2 + e^1.6 + e^-0.4) + 0.4.
        #            0.33918 twice and 2.59093, on average 1.08976.
        # Backwards: column 0: log(e^1.6 + 1 + e^1.2) - 1.6;  column 1: log(1 + e^1.6 + e^1.6) - 1.6;
        #            column 2: log(1 + 1 + e^-0.4) + 0.4;  0.62712, 0.78932 and 1.38220, on average 0.93288.
        anchors = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0]])
        forwards = (2 * (math.log(E**1.6 + 2) - 1.6) + math.log(E**1.2 + E**1.6 + E**-0.4) + 0.4) / 3
        backwards = (
            (math.log(E**1.6 + 1 + E**1.2) - 1.6) + (math.log(1 + 2 * E**1.6) - 1.6) + math.log(2 + E**-0.4) + 0.4
        ) / 3
        loss = contrastive(anchors, torch.eye(3), temperature=0.5, margin=0.2)
        assert value(loss) == pytest.approx((forwards + backwards) / 2, abs=1e-6)
        assert value(loss) == pytest.approx(1.01132, abs=1e-5)

    def test_extra_negatives_count_forwards_only(self) -> None:
        # cos = [[1, 0, 0.6], [0, 1, 0.8]], t = 1: row 0: log(e + 1 + e^0.6) - 1; row 1: log(e + 1 + e^0.8) - 1;
        # backwards both log(1 + e^-1), as without the third.
        positives = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        forwards = (math.log(E + 1 + E**0.6) + math.log(E + 1 + E**0.8)) / 2 - 1
        loss = contrastive(torch.eye(2), positives, temperature=1.0)
        assert value(loss) == pytest.approx((forwards + math.log(1 + 1 / E)) / 2, abs=1e-6)

    def test_an_excluded_column_is_as_if_not_there(self) -> None:
        anchors, positives = unit_rows(4, 8, 1), unit_rows(6, 8, 2)
        excluded = torch.zeros(4, 6, dtype=torch.bool)
        excluded[:, 5] = True
        assert value(contrastive(anchors, positives, excluded=excluded)) == pytest.approx(
            value(contrastive(anchors, positives[:5])), abs=1e-12
        )

    def test_an_excluded_duplicate_no_longer_contributes(self) -> None:
        # Rows 0 and 2 are the same sentence, all cosines 1 or 0, t = 0.1. Without the mask each takes the other's
        # translation for a negative: log(2 + e^-10) = 0.69317. With it: log(1 + e^-10) = 0.0000454. Row 1 has both of
        # them as negatives either way: log(1 + 2 e^-10) = 0.0000908.
        rows = torch.eye(2)[[0, 1, 0]]
        groups = torch.tensor([[7], [8], [7]])
        excluded = same_group(groups, groups)
        plain = contrastive(rows, rows, temperature=0.1)
        masked = contrastive(rows, rows, temperature=0.1, excluded=excluded)
        assert value(plain) == pytest.approx((2 * 0.69317 + 0.0000908) / 3, abs=1e-5)
        assert value(masked) == pytest.approx((2 * 0.0000454 + 0.0000908) / 3, abs=1e-7)

    def test_an_excluded_column_gets_no_gradient(self) -> None:
        anchors, positives = unit_rows(3, 8, 1), unit_rows(3, 8, 2).requires_grad_()
        excluded = torch.ones(3, 3, dtype=torch.bool)
        excluded[0, 1] = False  # row 0 has the one negative 1; the rows 1 and 2 have none
        contrastive(anchors, positives, temperature=0.1, excluded=excluded, symmetric=False).backward()  # type: ignore[no-untyped-call]
        assert positives.grad is not None
        assert positives.grad[2].abs().max() == 0.0
        assert (positives.grad[:2].norm(dim=1) > 1e-2).all()

    def test_the_other_direction_is_excluded_transposed(self) -> None:
        anchors, positives = unit_rows(3, 8, 1), unit_rows(3, 8, 2)
        excluded = torch.zeros(3, 3, dtype=torch.bool)
        excluded[0, 2] = True
        turned = contrastive(positives, anchors, excluded=excluded.T)
        assert value(contrastive(anchors, positives, excluded=excluded)) == pytest.approx(value(turned), abs=1e-12)

    @pytest.mark.parametrize("margin", [0.0, 0.3])
    def test_all_excluded_is_a_loss_of_zero_with_a_finite_gradient(self, margin: float) -> None:
        anchors, positives = unit_rows(3, 8, 1).requires_grad_(), unit_rows(5, 8, 2).requires_grad_()
        loss = contrastive(anchors, positives, margin=margin, excluded=torch.ones(3, 5, dtype=torch.bool))
        loss.backward()  # type: ignore[no-untyped-call]
        assert value(loss.detach()) == 0.0
        assert anchors.grad is not None and anchors.grad.abs().max() == 0.0
        assert positives.grad is not None and positives.grad.abs().max() == 0.0

    def test_one_pair_has_no_negatives(self) -> None:
        assert value(contrastive(unit_rows(1, 8, 1), unit_rows(1, 8, 2))) == 0.0

    def test_the_gradient(self) -> None:
        anchors, positives = unit_rows(3, 4, 1).requires_grad_(), unit_rows(5, 4, 2).requires_grad_()
        excluded = torch.zeros(3, 5, dtype=torch.bool)
        excluded[0, 1] = excluded[2, 4] = True

        def loss(left: Tensor, right: Tensor) -> Tensor:
            return contrastive(left, right, temperature=0.3, margin=0.1, excluded=excluded)

        assert torch.autograd.gradcheck(loss, (anchors, positives))
        loss(anchors, positives).backward()  # type: ignore[no-untyped-call]
        assert anchors.grad is not None and (anchors.grad.norm(dim=1) > 1e-2).all()
        assert positives.grad is not None and (positives.grad.norm(dim=1) > 1e-2).all()

    def test_the_order_of_pairs_and_of_negatives_does_not_matter(self) -> None:
        anchors, positives, negatives = unit_rows(5, 8, 1), unit_rows(5, 8, 2), unit_rows(3, 8, 3)
        excluded = torch.zeros(5, 8, dtype=torch.bool)
        excluded[0, 3] = excluded[4, 6] = True
        pairs, others = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([2, 0, 1])
        columns = torch.cat([pairs, others + 5])
        loss = contrastive(anchors, torch.cat([positives, negatives]), margin=0.1, excluded=excluded)
        shuffled = contrastive(
            anchors[pairs],
            torch.cat([positives[pairs], negatives[others]]),
            margin=0.1,
            excluded=excluded[pairs][:, columns],
        )
        assert value(shuffled) == pytest.approx(value(loss), abs=1e-12)

    @pytest.mark.parametrize("symmetric", [True, False])
    @pytest.mark.parametrize("hard", [0, 6])
    def test_agrees_with_sentence_transformers(self, symmetric: bool, hard: int) -> None:
        """Its loss in both directions sees the hard negatives in the first one alone, as ours does."""
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

        anchors, positives, negatives = unit_rows(6, 16, 1), unit_rows(6, 16, 2), unit_rows(6, 16, 3)
        theirs = MultipleNegativesRankingLoss(
            SentenceTransformer(modules=[torch.nn.Identity()], device="cpu"),
            scale=20.0,
            directions=("query_to_doc", "doc_to_query") if symmetric else ("query_to_doc",),
            partition_mode="per_direction",
        )
        columns = [anchors, positives, negatives] if hard else [anchors, positives]
        expected = theirs.compute_loss_from_embeddings(columns, torch.zeros(6))
        ours = contrastive(anchors, torch.cat(columns[1:]), temperature=0.05, symmetric=symmetric)
        assert value(ours) == pytest.approx(float(expected), abs=1e-9)

    def test_bf16_autocast_changes_nothing(self) -> None:
        anchors, positives = unit_rows(64, 32, 1).float(), unit_rows(64, 32, 2).float()
        expected = value(contrastive(anchors, positives, temperature=0.01))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = contrastive(anchors, positives, temperature=0.01)
        assert loss.dtype is torch.float32
        assert value(loss) == expected
        rounded = contrastive(anchors.bfloat16(), positives.bfloat16(), temperature=0.01)
        assert rounded.dtype is torch.float32
        assert value(rounded) == pytest.approx(expected, rel=0.02)

    @pytest.mark.parametrize(
        ("anchors", "positives", "options", "message"),
        [
            ((2, 3), (2, 4), {}, r"vectors are \(2, 3\) and \(2, 4\)"),
            ((2,), (2,), {}, r"vectors are \(2\) and \(2\)"),
            ((0, 3), (2, 3), {}, r"vectors are \(0, 3\)"),
            ((3, 3), (2, 3), {}, "3 anchors and 2 positives"),
            ((2, 3), (2, 3), {"temperature": 0.0}, "temperature is 0"),
            ((2, 3), (2, 3), {"temperature": -1.0}, "temperature is -1"),
            ((2, 3), (2, 3), {"temperature": math.nan}, "temperature is nan"),
            ((2, 3), (2, 3), {"margin": math.inf}, "margin is inf"),
            ((2, 3), (3, 3), {"excluded": torch.zeros(2, 2, dtype=torch.bool)}, r"excluded is \(2, 2\)"),
            ((2, 3), (2, 3), {"excluded": torch.zeros(2, 2)}, r"of torch.float32"),
        ],
    )
    def test_bad_arguments_are_refused(
        self, anchors: tuple[int, ...], positives: tuple[int, ...], options: dict[str, object], message: str
    ) -> None:
        with pytest.raises(InvalidArgumentError, match=message):
            contrastive(torch.ones(anchors), torch.ones(positives), **options)  # type: ignore[arg-type]


class TestQuestionPassage:
    def test_three_questions_by_hand(self) -> None:
        # cos of each question with the passages: 1 and 0, 0; with the one negative 0.6, 0.8, 0; t = 1:
        # log(e + 2 + e^0.6) - 1, log(e + 2 + e^0.8) - 1, log(e + 2 + 1) - 1.
        negatives = torch.tensor([[0.6, 0.8, 0.0]])
        expected = sum(math.log(E + 2 + E**cosine) - 1 for cosine in (0.6, 0.8, 0.0)) / 3
        assert value(question_passage(torch.eye(3), torch.eye(3), negatives, temperature=1.0)) == pytest.approx(
            expected, abs=1e-6
        )

    def test_without_negatives_it_is_one_direction_of_the_contrastive_loss(self) -> None:
        questions, passages = unit_rows(4, 8, 1), unit_rows(4, 8, 2)
        expected = contrastive(questions, passages, temperature=0.1, symmetric=False)
        assert value(question_passage(questions, passages, temperature=0.1)) == value(expected)

    def test_an_excluded_negative_no_longer_contributes(self) -> None:
        questions, passages, negatives = unit_rows(4, 8, 1), unit_rows(4, 8, 2), unit_rows(2, 8, 3)
        excluded = torch.zeros(4, 6, dtype=torch.bool)
        excluded[:, 4:] = True
        masked = question_passage(questions, passages, negatives, temperature=0.1, excluded=excluded)
        without = question_passage(questions, passages, temperature=0.1)
        assert value(masked) == pytest.approx(value(without), abs=1e-12)
        assert value(question_passage(questions, passages, negatives, temperature=0.1)) > value(without) + 1e-3

    def test_the_gradient_reaches_all_three(self) -> None:
        sides = [unit_rows(3, 8, seed).requires_grad_() for seed in (1, 2, 3)]
        question_passage(*sides, temperature=0.3).backward()  # type: ignore[no-untyped-call]
        for side in sides:
            assert side.grad is not None and (side.grad.norm(dim=1) > 1e-3).all()

    def test_bad_arguments_are_refused(self) -> None:
        with pytest.raises(InvalidArgumentError, match=r"questions are \(2, 3\) and passages \(3, 3\)"):
            question_passage(torch.ones(2, 3), torch.ones(3, 3))
        with pytest.raises(InvalidArgumentError, match=r"negatives are \(1, 4\)"):
            question_passage(torch.ones(2, 3), torch.ones(2, 3), torch.ones(1, 4))


STUDENT = [[1.0, 0.0], [0.0, 1.0]]
TEACHER = [[1.0, 0.0], [0.6, 0.8]]


class TestDistillation:
    @pytest.mark.parametrize(
        ("loss", "expected"),
        [
            # Differences [[0, 0], [-0.6, 0.2]]: (0.36 + 0.04) / 4.
            (losses.mse_distillation, 0.1),
            # Cosines 1 and 0.8: (0 + 0.2) / 2.
            (losses.cosine_distillation, 0.1),
        ],
    )
    def test_by_hand(self, loss: Callable[[Tensor, Tensor], Tensor], expected: float) -> None:
        student = torch.tensor(STUDENT, requires_grad=True)
        teacher = torch.tensor(TEACHER, requires_grad=True)
        found = loss(student, teacher)
        assert value(found.detach()) == pytest.approx(expected, abs=1e-6)
        found.backward()  # type: ignore[no-untyped-call]
        assert student.grad is not None and student.grad[1].norm() > 0.1
        assert teacher.grad is None
        # Row 0 is where it should be already.
        assert student.grad[0].tolist() == pytest.approx([0.0, 0.0], abs=1e-7)
        turned = loss(student.detach().flip(0), teacher.detach().flip(0))
        assert value(turned) == pytest.approx(expected, abs=1e-6)

    def test_the_contrastive_one_by_hand(self) -> None:
        # cos = [[1, 0.6], [0, 0.8]], t = 1: forwards log(1 + e^-0.4), log(1 + e^-0.8); backwards log(1 + e^-1) and
        # log(1 + e^-0.2).
        student = torch.tensor(STUDENT, requires_grad=True)
        teacher = torch.tensor(TEACHER, requires_grad=True)
        loss = losses.contrastive_distillation(student, teacher, temperature=1.0)
        expected = sum(math.log(1 + E**-gap) for gap in (0.4, 0.8, 1.0, 0.2)) / 4
        assert value(loss.detach()) == pytest.approx(expected, abs=1e-6)
        loss.backward()  # type: ignore[no-untyped-call]
        assert student.grad is not None and (student.grad.norm(dim=1) > 1e-2).all()
        assert teacher.grad is None

    def test_cosine_ignores_lengths_and_takes_zero_rows(self) -> None:
        student = (3 * torch.tensor(STUDENT)).requires_grad_()
        assert value(losses.cosine_distillation(student, 0.5 * torch.tensor(TEACHER)).detach()) == pytest.approx(0.1)
        nothing = torch.zeros(1, 2, requires_grad=True)
        loss = losses.cosine_distillation(nothing, torch.tensor([[1.0, 0.0]]))
        loss.backward()  # type: ignore[no-untyped-call]
        assert value(loss.detach()) == 1.0
        assert nothing.grad is not None and nothing.grad.isfinite().all()

    def test_cosine_is_half_dim_times_mse_for_unit_rows(self) -> None:
        student, teacher = unit_rows(5, 12, 1), unit_rows(5, 12, 2)
        assert value(losses.cosine_distillation(student, teacher)) == pytest.approx(
            6 * value(losses.mse_distillation(student, teacher)), abs=1e-12
        )

    def test_bf16_autocast_changes_nothing(self) -> None:
        student, teacher = unit_rows(64, 32, 1).float(), unit_rows(64, 32, 2).float()
        for loss in (losses.mse_distillation, losses.cosine_distillation, losses.contrastive_distillation):
            expected = value(loss(student, teacher))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert value(loss(student, teacher)) == expected
            assert loss(student.bfloat16(), teacher).dtype is torch.float32

    def test_unlike_shapes_are_refused(self) -> None:
        for loss in (losses.mse_distillation, losses.cosine_distillation):
            with pytest.raises(InvalidArgumentError, match="2 student rows and 1 teacher rows"):
                loss(torch.ones(2, 3), torch.ones(1, 3))  # would broadcast in silence
            with pytest.raises(InvalidArgumentError, match=r"\(2, 3\) and \(2, 1\)"):
                loss(torch.ones(2, 3), torch.ones(2, 1))


class TestMatryoshka:
    def test_by_hand(self) -> None:
        # Full: cos 0.8 * 0.6 + 0.6 * 0.8 = 0.96, so 0.04. First alone: 1 and 1, so 0. Weights 3 and 1: 0.03.
        student, teacher = torch.tensor([[0.8, 0.6]]), torch.tensor([[0.6, 0.8]])
        assert value(matryoshka(losses.cosine_distillation, (student, teacher), [2, 1])) == pytest.approx(0.02)
        assert value(matryoshka(losses.cosine_distillation, (student, teacher), [2, 1], [3, 1])) == pytest.approx(0.03)
        assert value(matryoshka(losses.cosine_distillation, (student, teacher), [2, 1], [0, 5])) == pytest.approx(0.0)

    def test_the_prefixes_are_unit_rows_again(self) -> None:
        # [0.6, 0.8, 0] cut to one dimension is [1], and [0, 0, 1] cut to two has no direction and stays zero.
        seen: list[list[list[float]]] = []

        def loss(rows: Tensor) -> Tensor:
            seen.append(rows.tolist())
            return rows.sum()

        matryoshka(loss, [torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])], [1, 2])
        assert seen == [[[1.0], [0.0]], [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]]

    def test_one_full_dim_is_the_plain_loss(self) -> None:
        anchors, positives = unit_rows(5, 8, 1), unit_rows(7, 8, 2)
        assert value(matryoshka(contrastive, (anchors, positives), [8])) == pytest.approx(
            value(contrastive(anchors, positives)), abs=1e-12
        )

    def test_the_gradient_is_largest_in_the_shared_prefix(self) -> None:
        vectors = [unit_rows(4, 8, seed).requires_grad_() for seed in (1, 2)]
        matryoshka(contrastive, vectors, [4]).backward()  # type: ignore[no-untyped-call]
        gradient = vectors[0].grad
        assert gradient is not None
        assert gradient[:, 4:].abs().max() == 0.0
        assert (gradient[:, :4].norm(dim=1) > 1e-2).all()

    @pytest.mark.parametrize(
        ("dims", "weights", "message"),
        [
            ([], None, r"dims are \[\]"),
            ([4], None, r"dims are \[4\]"),
            ([0], None, r"dims are \[0\]"),
            ([3, 2], [1.0], r"weights are \[1.0\] for 2 dims"),
            ([3, 2], [0.0, 0.0], r"weights are \[0.0, 0.0\]"),
            ([3, 2], [2.0, -1.0], r"weights are \[2.0, -1.0\]"),
        ],
    )
    def test_bad_arguments_are_refused(self, dims: list[int], weights: list[float] | None, message: str) -> None:
        with pytest.raises(InvalidArgumentError, match=message):
            matryoshka(contrastive, (torch.ones(2, 3), torch.ones(2, 3)), dims, weights)
        with pytest.raises(InvalidArgumentError, match=r"vectors are \(2, 3\), \(2, 4\)"):
            matryoshka(contrastive, (torch.ones(2, 3), torch.ones(2, 4)), [2])


class TestMaskedLanguage:
    def test_by_hand(self) -> None:
        # Position 0: logits 0, 0, log 2, label 2: probability 2 / 4. Position 1 is not masked, whatever it says.
        # Position 2: equal logits: 1 / 3.
        logits = torch.tensor([[[0.0, 0.0, math.log(2)], [9.0, -9.0, 0.0], [5.0, 5.0, 5.0]]], requires_grad=True)
        loss = masked_language(logits, torch.tensor([[2, -100, 0]]))
        assert value(loss.detach()) == pytest.approx((math.log(2) + math.log(3)) / 2, abs=1e-6)
        loss.backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        # (softmax - one hot) / 2 masked positions.
        assert logits.grad[0, 0].tolist() == pytest.approx([0.125, 0.125, -0.25], abs=1e-6)
        assert logits.grad[0, 1].tolist() == [0.0, 0.0, 0.0]

    def test_nothing_masked_is_zero_with_a_finite_gradient(self) -> None:
        logits = torch.ones(2, 3, 5, requires_grad=True)
        loss = masked_language(logits, torch.full((2, 3), -100))
        loss.backward()  # type: ignore[no-untyped-call]
        assert value(loss.detach()) == 0.0
        assert logits.grad is not None and logits.grad.abs().max() == 0.0

    def test_agrees_with_torch_and_is_computed_in_float32(self) -> None:
        generator = torch.Generator().manual_seed(3)
        logits = 10 * torch.randn(4, 6, 11, generator=generator)
        labels = torch.randint(11, (4, 6), generator=generator)
        labels[:, ::2] = 0
        expected = functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=0)
        assert value(masked_language(logits, labels, ignore=0)) == pytest.approx(float(expected), abs=1e-6)
        assert masked_language(logits.bfloat16(), labels).dtype is torch.float32

    def test_bad_arguments_are_refused(self) -> None:
        with pytest.raises(InvalidArgumentError, match=r"logits are \(2, 3, 5\) and labels \(2, 4\)"):
            masked_language(torch.ones(2, 3, 5), torch.zeros(2, 4, dtype=torch.int64))
        with pytest.raises(InvalidArgumentError, match="labels run from -1 to 5"):
            masked_language(torch.ones(3, 5), torch.tensor([-1, 5, -100]))


class TestSameGroup:
    def test_by_hand(self) -> None:
        # 1 is shared by left 0 and right 2, in different columns; 3 by left 1 and right 0; -1 is never shared.
        left = torch.tensor([[1, -1], [2, 3], [-1, -1]])
        right = torch.tensor([[3, -1, -1], [-1, -1, -1], [7, 8, 1], [4, 5, 6]])
        assert same_group(left, right).tolist() == [
            [False, False, True, False],
            [True, False, False, False],
            [False, False, False, False],
        ]
        assert torch.equal(same_group(right, left), same_group(left, right).T)

    def test_no_columns_share_nothing(self) -> None:
        nothing = torch.zeros(2, 0, dtype=torch.int64)
        assert same_group(nothing, torch.tensor([[1]])).tolist() == [[False], [False]]

    def test_bad_arguments_are_refused(self) -> None:
        with pytest.raises(InvalidArgumentError, match=r"group ids are \(2\) of torch.int64"):
            same_group(torch.tensor([1, 2]), torch.tensor([[1]]))
        with pytest.raises(InvalidArgumentError, match=r"of torch\.float32"):
            same_group(torch.tensor([[1]]), torch.tensor([[1.0]]))
