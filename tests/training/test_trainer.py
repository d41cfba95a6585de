"""The loop: the same step in one piece or in chunks, resumed or not, and no step on numbers that are not finite."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training import runs
from xsearch.errors import TrainingError
from xsearch.training.language_model import special_tokens
from xsearch.training.prepared import Prepared
from xsearch.training.recipe import Recipe
from xsearch.training.runlog import StepReport
from xsearch.training.trainer import Trainer

Tables = Mapping[str, Mapping[str, Any]]
TAUGHT: Tables = {"teacher": {"model": "teacher"}, "loss": {"distil_contrastive": 1, "distil_cosine": 5}}


@pytest.fixture(scope="module")
def prepared(mbert: Path) -> Prepared:
    return runs.prepared_of(mbert)


def trainer(recipe: Recipe, model: Path, prepared: Prepared, folder: Path) -> Trainer:
    teacher = runs.teacher_vectors(prepared) if recipe.teacher is not None else None
    student = runs.student_of(model, dropout=recipe.optimizer.dropout, pooling=recipe.base.pooling)
    modelled = max(recipe.loss.mlm, recipe.loss.tlm) > 0
    special = special_tokens(runs.tokenizer_of(model)) if modelled else None
    return Trainer(student, prepared, teacher, recipe, folder, pad=0, special=special)


def reports(own: Trainer) -> list[StepReport]:
    found: list[StepReport] = []
    own.run(on_step=found.append)
    return found


def losses(own: Trainer) -> list[float]:
    return [report.loss for report in reports(own)]


def weights(own: Trainer) -> list[torch.Tensor]:
    return [*(weight.detach().clone() for weight in own.student.parameters()), own.student.table.rows.clone()]


def changed(tables: Tables, **more: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: {**tables.get(name, {}), **more.get(name, {})} for name in {*tables, *more}}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_batch_in_chunks_makes_the_same_step(dropout: float, mbert: Path, prepared: Prepared, tmp_path: Path) -> None:
    """Every kind of batch comes up. With dropout the chunks draw other numbers, so only the path can be told then."""
    found = []
    for number, chunk_tokens in enumerate((16_384, 48)):
        given = changed(
            TAUGHT,
            batches={"chunk_tokens": chunk_tokens, "questions": 0.3},
            optimizer={"steps": 8, "dropout": dropout},
        )
        own = trainer(runs.recipe(tmp_path, **given), mbert, prepared, tmp_path / str(number))
        before = weights(own)
        found.append((reports(own), weights(own)))
    (whole, whole_weights), (chunked, chunked_weights) = found
    assert {report.kind for report in whole} >= {"sentence", "question"}
    assert [report.tokens for report in whole] == [report.tokens for report in chunked]
    if dropout:
        assert [report.loss for report in chunked] == pytest.approx([report.loss for report in whole], abs=2.0)
        return
    assert [report.loss for report in chunked] == pytest.approx([report.loss for report in whole], abs=1e-4)
    moved = [float((one - first).abs().max()) for one, first in zip(whole_weights, before, strict=True)]
    apart = [float((one - other).abs().max()) for one, other in zip(whole_weights, chunked_weights, strict=True)]
    assert max(moved) > 3e-3 and max(apart) < 1e-4


def test_a_batch_in_chunks_has_the_same_gradients(
    mbert: Path, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one step hands to the optimizer, of the body and of the table."""
    caught: list[list[torch.Tensor]] = []

    def keep(parameters: list[torch.nn.Parameter], max_norm: float) -> torch.Tensor:
        caught.append([weight.grad.clone() for weight in parameters if weight.grad is not None])
        return torch.tensor(1.0)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", keep)
    tables: list[torch.Tensor] = []
    for number, chunk_tokens in enumerate((16_384, 48)):
        given = changed(TAUGHT, batches={"chunk_tokens": chunk_tokens}, optimizer={"steps": 1})
        own = trainer(runs.recipe(tmp_path, **given), mbert, prepared, tmp_path / str(number))
        own.run()
        tables.append(own.student.table.first)
    assert len(caught[0]) == len(caught[1]) > 30
    for one, other in zip(caught[0], caught[1], strict=True):
        assert float((one - other).abs().max()) < 1e-5 * max(1.0, float(one.abs().max()))
    assert float(tables[0].abs().max()) > 1e-4
    assert float((tables[0] - tables[1]).abs().max()) < 1e-6


def test_a_resumed_run_computes_what_the_whole_run_would_have(mbert: Path, prepared: Prepared, tmp_path: Path) -> None:
    given = changed(TAUGHT, loss={"mlm": 0.5, "tlm": 0.5}, optimizer={"steps": 7, "dropout": 0.2})
    recipe = runs.recipe(tmp_path, **given, run={"checkpoint_every": 3})
    whole = trainer(recipe, mbert, prepared, tmp_path / "whole")
    expected = losses(whole)
    part = tmp_path / "part" / "checkpoints"
    part.mkdir(parents=True)
    shutil.copytree(tmp_path / "whole" / "checkpoints" / "step-00000006", part / "step-00000006")
    resumed = trainer(recipe, mbert, prepared, tmp_path / "part")
    assert resumed.resume() == 6
    assert losses(resumed) == expected[6:]
    assert all(torch.equal(one, other) for one, other in zip(weights(whole), weights(resumed), strict=True))


def test_the_loss_falls_and_reports_say_what_was_read(mbert: Path, prepared: Prepared, tmp_path: Path) -> None:
    rates = {"steps": 50, "rate": 3e-3, "embedding_rate": 2e-2}
    own = trainer(runs.recipe(tmp_path, **runs.CONTRASTS, optimizer=rates), mbert, prepared, tmp_path)
    own.peak_gflops = 50.0
    found = [report for report in reports(own) if report.kind == "sentence"]
    assert np.mean([report.loss for report in found[-8:]]) < 0.8 * np.mean([report.loss for report in found[:8]])
    last = found[-1]
    assert last.gflops == pytest.approx(98_304 * last.tokens / last.seconds / 1e9)
    assert (last.steps, last.peak_gflops) == (50, 50.0)
    assert {report.lang for report in found} >= {"de", "es"}


@pytest.mark.parametrize(("mlm", "tlm"), [(1.0, 0.0), (0.0, 1.0)])
def test_language_modelling_alone_learns(
    mlm: float, tlm: float, mbert: Path, prepared: Prepared, tmp_path: Path
) -> None:
    shares = {"terms": 0, "questions": 0, "english": 0.2 if mlm else 0}
    recipe = runs.recipe(
        tmp_path,
        loss={"contrastive": 0, "mlm": mlm, "tlm": tlm},
        batches=shares,
        optimizer={"steps": 50, "rate": 3e-2, "embedding_rate": 1e-2},
    )
    found = losses(trainer(recipe, mbert, prepared, tmp_path))
    assert np.mean(found[:5]) > 0.8 * np.log(runs.tokenizer_of(mbert).get_vocab_size())
    assert np.mean(found[-5:]) < 0.9 * np.mean(found[:5])


def test_language_modelling_in_chunks_makes_the_same_loss(mbert: Path, prepared: Prepared, tmp_path: Path) -> None:
    found = []
    for chunk_tokens in (16_384, 60):
        recipe = runs.recipe(
            tmp_path,
            loss={"contrastive": 0, "mlm": 1, "tlm": 2},
            batches={"terms": 0, "questions": 0, "chunk_tokens": chunk_tokens},
            optimizer={"steps": 4},
        )
        found.append(losses(trainer(recipe, mbert, prepared, tmp_path / str(chunk_tokens))))
    assert found[1] == pytest.approx(found[0], abs=1e-3)


def test_the_head_is_saved_and_brought_back_and_is_none_of_the_student(
    mbert: Path, prepared: Prepared, tmp_path: Path
) -> None:
    recipe = runs.recipe(tmp_path, loss={"mlm": 1}, optimizer={"steps": 2})
    own = trainer(recipe, mbert, prepared, tmp_path)
    own.run()
    assert not any(name.startswith("head") for name in own.student.state_dict())
    head = own._language.head  # type: ignore[union-attr]
    other = trainer(recipe, mbert, prepared, tmp_path)
    assert other.resume() == 2
    for name, value in other._language.head.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(value, head.state_dict()[name])
    assert float(head.state_dict()["bias"].abs().max()) > 0


def test_bfloat16_runs_close_to_float32_and_keeps_float32_weights(
    mbert: Path, prepared: Prepared, tmp_path: Path
) -> None:
    found = []
    for precision in ("float32", "bfloat16"):
        given = changed(TAUGHT, loss={"mlm": 0.5}, optimizer={"precision": precision})
        own = trainer(runs.recipe(tmp_path, **given), mbert, prepared, tmp_path / precision)
        found.append(losses(own))
        assert {weight.dtype for weight in weights(own)} == {torch.float32}
    assert found[1] == pytest.approx(found[0], rel=0.05)
    assert found[1] != found[0]


def test_a_static_student_learns(mbert: Path, prepared: Prepared, tmp_path: Path) -> None:
    recipe = runs.recipe(tmp_path, **runs.CONTRASTS, optimizer={"steps": 40, "embedding_rate": 0.02})
    own = Trainer(runs.static_student(mbert), prepared, None, recipe, tmp_path, pad=0)
    found = [report.loss for report in reports(own) if report.kind == "sentence"]
    assert np.mean(found[-5:]) < 0.7 * np.mean(found[:5])


# What must not go on


def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_batch(
    mbert: Path, prepared: Prepared, tmp_path: Path
) -> None:
    recipe = runs.recipe(tmp_path, **TAUGHT)
    own = trainer(recipe, mbert, prepared, tmp_path)

    def poison(step: int) -> None:
        if step == 4:
            own.student.table.rows.fill_(float("nan"))

    with pytest.raises(
        TrainingError, match=r"The loss of step 5 is nan \((\w+) examples of (de|es|en|\*), \d+ of them"
    ):
        own.run(on_checkpoint=poison)
    found = trainer(recipe, mbert, prepared, tmp_path)
    assert found.resume() == 4
    assert all(bool(torch.isfinite(weight).all()) for weight in weights(found))


def test_a_gradient_that_is_not_finite_stops_the_run(
    mbert: Path, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    own = trainer(runs.recipe(tmp_path, **TAUGHT), mbert, prepared, tmp_path)
    before = weights(own)
    with pytest.raises(TrainingError, match="gradient's norm of step 1 is inf"):
        own.run()
    assert all(torch.equal(one, other) for one, other in zip(before, weights(own), strict=True))


def test_a_weight_that_is_not_finite_is_never_saved(mbert: Path, prepared: Prepared, tmp_path: Path) -> None:
    own = trainer(runs.recipe(tmp_path, **TAUGHT), mbert, prepared, tmp_path)

    def poison(report: StepReport) -> None:
        if report.step == 4:
            own.student.table.rows[5] = float("inf")

    with pytest.raises(TrainingError, match="After step 4 a weight is NaN or infinite"):
        own.run(on_step=poison)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]


def test_what_cannot_be_trained_is_refused_before_the_first_step(
    mbert: Path, mt5: Path, prepared: Prepared, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="No term of the loss is for batches of kind english"):
        trainer(runs.recipe(tmp_path), mbert, prepared, tmp_path)
    with pytest.raises(TrainingError, match=r"No term .* kind question"):
        trainer(runs.recipe(tmp_path, **changed(TAUGHT, loss={"question": 0})), mbert, prepared, tmp_path)
    recipe = runs.recipe(tmp_path, **TAUGHT)
    with pytest.raises(TrainingError, match=r"teacher's vectors have 16 dimensions and the student's 32"):
        Trainer(runs.student_of(mbert), prepared, runs.teacher_vectors(prepared, 16), recipe, tmp_path, pad=0)
    with pytest.raises(TrainingError, match=r"base\.max_tokens is 90"):
        trainer(runs.recipe(tmp_path, **TAUGHT, base={"max_tokens": 90}), mbert, prepared, tmp_path)
    with pytest.raises(TrainingError, match=r"none of the tokens \[CLS\] <s>"):
        special_tokens(runs.tokenizer_of(mt5))
    modelled = runs.recipe(tmp_path, loss={"mlm": 1})
    tokens = special_tokens(runs.tokenizer_of(mbert))
    with pytest.raises(TrainingError, match="static encoder"):
        Trainer(runs.static_student(mbert), prepared, None, modelled, tmp_path, pad=0, special=tokens)


def test_checkpoints_of_another_recipe_base_or_number_of_processes(
    mbert: Path, prepared: Prepared, tmp_path: Path
) -> None:
    from xsearch.training.distributed import Processes

    trainer(runs.recipe(tmp_path, **TAUGHT), mbert, prepared, tmp_path).run()
    other = runs.recipe(tmp_path, **TAUGHT, seed=8)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match=r"another recipe \(tiny"):
        trainer(other, mbert, prepared, tmp_path).resume()
    faster = runs.recipe(tmp_path, **TAUGHT, optimizer={"rate": 1e-5, "steps": 9})
    assert trainer(faster, mbert, prepared, tmp_path).resume() == 6
    student = runs.student_of(mbert)
    student.table.rows = torch.zeros(7, 32)
    teacher = runs.teacher_vectors(prepared)
    with pytest.raises(TrainingError, match="of step 6 do not fit"):
        Trainer(student, prepared, teacher, faster, tmp_path, pad=0).resume()
    two = Processes(0, 2)
    with pytest.raises(TrainingError, match="is of a run of 1 processes; this one has 2"):
        Trainer(runs.student_of(mbert), prepared, teacher, faster, tmp_path, pad=0, processes=two).resume()
