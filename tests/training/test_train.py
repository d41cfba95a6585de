"""Whole runs: from files to an encoder, killed in the middle or not, measured on the way, with the best one kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.conftest import DE, DE_Q, EN, EN_Q, squad
from tests.training import runs
from xsearch.encoder.load import load_encoder
from xsearch.errors import TrainingError
from xsearch.training import train as module
from xsearch.training.recipe import Recipe
from xsearch.training.runlog import read_log
from xsearch.training.train import Callbacks, Score, train

ROOT = Path(__file__).parents[2]
TABLES: Mapping[str, Mapping[str, Any]] = {
    "data": {
        "parallel": ["talk.*.tsv"],
        "questions": ["quiz.*.jsonl"],
        "sentences": 80,
        "term_pairs": 0,
        "passages": 0,
        "english": 20,
    },
    "batches": {"terms": 0, "passages": 0, "english": 0},
    "optimizer": {"steps": 12, "dropout": 0.1},
    "run": {"checkpoint_every": 4, "log_every": 1},
}
# The recipe and folder are given; after a step it says so, and after the last it waits to be killed.
CHILD = """
import sys, time
from pathlib import Path
from tests.training import test_train as here
from xsearch.training.train import Callbacks, train

def on_step(report):
    print(report.step, flush=True)
    if report.step == 7:
        time.sleep(600)

train(here.recipe_of(Path(sys.argv[1])), Path(sys.argv[2]), callbacks=Callbacks(on_step=on_step))
"""


def recipe_of(folder: Path, **more: Mapping[str, Any]) -> Recipe:
    tables = {name: {**TABLES.get(name, {}), **more.get(name, {})} for name in {*TABLES, *more}}
    return runs.recipe(folder, **tables)


@pytest.fixture
def world(mbert: Path, tmp_path: Path) -> Path:
    """A folder with the base, the data and a small MLQA beside the recipe."""
    shutil.copytree(mbert, tmp_path / "model")
    runs.write_data(tmp_path)
    with zipfile.ZipFile(tmp_path / "mlqa.zip", "w") as archive:
        for doc, contexts in (("en", EN), ("de", DE)):
            for query, questions in (("en", EN_Q), ("de", DE_Q)):
                rows = [(context, [(f"id{i}", questions[i])]) for i, context in enumerate(contexts)]
                name = f"dev-context-{doc}-question-{query}.json"
                archive.writestr(f"MLQA_V1/dev/{name}", json.dumps(squad(rows)))
    return tmp_path


def scripted(monkeypatch: pytest.MonkeyPatch, *values: float) -> list[Path]:
    """Makes measurements come out so, one after the other; the folders that were measured."""
    left: Iterator[float] = iter(values)
    folders: list[Path] = []

    def score(_run: object, encoder: Path, step: int) -> Score:
        folders.append(encoder)
        value = next(left)
        return Score(step, value, value)

    monkeypatch.setattr(module._Run, "_score", score)
    return folders


def vectors(folder: Path) -> np.ndarray:
    return load_encoder(str(folder)).encode_passages(["Der Hund schläft im Garten.", "The doctor waits."])


def test_a_run_that_was_killed_goes_on_to_the_same_losses(world: Path) -> None:
    whole = train(recipe_of(world), world / "whole")
    assert (whole.resumed_at, whole.score) == (0, None)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(world), str(world / "killed")],
        env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None and child.stderr is not None
        said = [child.stdout.readline() for _ in range(7)]
        assert said == [f"{step}\n" for step in range(1, 8)], child.stderr.read()
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    log = world / "killed" / "log.jsonl"
    assert [line["step"] for line in read_log(log)] == [1, 2, 3, 4, 5, 6, 7]
    told: list[str] = []
    again = train(recipe_of(world), world / "killed", callbacks=Callbacks(on_stage=told.append))
    assert again.resumed_at == 4 and "training from step 4" in told
    expected = read_log(world / "whole" / "log.jsonl")
    assert [line["step"] for line in read_log(log)] == list(range(1, 13))
    for line, wanted in zip(read_log(log), expected, strict=True):
        assert line["loss"] == pytest.approx(wanted["loss"], abs=1e-5)
        assert line["losses"] == pytest.approx(wanted["losses"], abs=1e-5)
    assert vectors(again.encoder) == pytest.approx(vectors(whole.encoder), abs=1e-5)


def test_what_a_run_makes_and_says(world: Path) -> None:
    told: list[str] = []
    made = train(recipe_of(world), world / "run", callbacks=Callbacks(on_stage=told.append))
    assert made.package == world / "run" / "package"
    assert made.float_parity is not None and made.float_parity.lowest > 0.9999
    assert made.parity is not None and made.parity.lowest > 0.95
    assert 0 < made.peak_share < 5  # other work on this machine may slow either down
    (said,) = [stage for stage in told if "GFLOP/s" in stage]
    assert said.endswith("they reach alone")
    for line in read_log(world / "run" / "log.jsonl"):
        assert float(str(line["peak_share"])) > 0 and float(str(line["tokens_per_s"])) > 0
    for folder in (made.encoder, made.package):
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "| de | 80 | talk 80 |" in card and "The float32 graph against torch" in card
    cosines = (vectors(made.package) * vectors(made.encoder)).sum(1)
    assert float(cosines.min()) > 0.95
    # A run that is done is not trained again.
    again = train(recipe_of(world), world / "run")
    assert (again.resumed_at, again.peak_share) == (12, 0.0)
    assert vectors(again.encoder) == pytest.approx(vectors(made.encoder), abs=1e-6)


def test_it_measures_on_the_way_by_mlqas_protocol(world: Path) -> None:
    scores: list[Score] = []
    recipe = recipe_of(
        world, run={"mlqa": "mlqa.zip", "evaluate_every": 3, "checkpoint_every": 5}, optimizer={"steps": 7}
    )
    made = train(recipe, world / "run", callbacks=Callbacks(on_score=scores.append))
    assert [score.step for score in scores] == [3, 6, 7]
    assert made.score == scores[-1]
    # Four texts of which one is right: nDCG@10 is the mean of 1 / log2(1 + rank), and all ranks are 1 to 4.
    for score in scores:
        assert 100 * np.log(2) / np.log(5) - 1e-6 <= score.same_language <= 100
        assert 100 * np.log(2) / np.log(5) - 1e-6 <= score.cross_language <= 100
    lines = read_log(world / "run" / "scores.jsonl")
    assert [(line["step"], line["same_language"], line["cross_language"]) for line in lines] == [
        (score.step, score.same_language, score.cross_language) for score in scores
    ]
    assert [line["best"] for line in lines] == [True, scores[1].mean > scores[0].mean, False]
    assert f"MLQA dev, nDCG@10 x 100: {scores[-1].same_language:.1f}" in (made.encoder / "README.md").read_text()


def test_the_best_encoder_is_kept_and_survives_a_stop(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {"run": {"mlqa": "mlqa.zip", "evaluate_every": 2, "checkpoint_every": 50}, "optimizer": {"steps": 6}}
    recipe = recipe_of(world, **tables)
    folder = world / "run"
    scripted(monkeypatch, 30.0)
    seen: list[int] = []

    def stop(report: Any) -> None:
        seen.append(report.step)
        if report.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, folder, callbacks=Callbacks(on_step=stop))
    best = vectors(folder / "best")
    scores: list[Score] = []
    told: list[str] = []
    # After the stop: 25 at step 4 is no new best, and nor is 20 at the end.
    measured = scripted(monkeypatch, 25.0, 20.0)
    made = train(recipe, folder, callbacks=Callbacks(on_score=scores.append, on_stage=told.append))
    assert (made.resumed_at, seen) == (2, [1, 2, 3])
    assert [score.mean for score in scores] == [25.0, 20.0]
    assert measured == [folder / "measured", folder / "package"]
    assert vectors(folder / "best") == pytest.approx(best, abs=1e-6)
    assert f"the encoder of step 2 was better; it lies in {folder / 'best'}" in told
    assert [line["best"] for line in read_log(folder / "scores.jsonl")] == [True, False, False]


def test_a_run_stopped_while_it_measures_measures_again(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {"run": {"mlqa": "mlqa.zip", "evaluate_every": 2, "checkpoint_every": 50}, "optimizer": {"steps": 3}}
    recipe = recipe_of(world, **tables)

    def killed(*_: object) -> Score:
        raise KeyboardInterrupt

    monkeypatch.setattr(module._Run, "_score", killed)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, world / "run")
    assert not (world / "run" / "best").exists()
    scores: list[Score] = []
    scripted(monkeypatch, 30.0, 40.0)
    train(recipe, world / "run", callbacks=Callbacks(on_score=scores.append))
    assert [(score.step, score.mean) for score in scores] == [(2, 30.0), (3, 40.0)]
    assert vectors(world / "run" / "best").shape == (2, 32)


def test_a_damaged_checkpoint_is_named_and_left_out(world: Path) -> None:
    train(recipe_of(world, optimizer={"steps": 8}), world / "run")
    newest = world / "run" / "checkpoints" / "step-00000008" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    told: list[str] = []
    made = train(recipe_of(world), world / "run", callbacks=Callbacks(on_stage=told.append))
    assert made.resumed_at == 4
    assert any(stage.startswith(f"left out a damaged checkpoint, {newest.parent}: ") for stage in told)
    changed = recipe_of(world, loss={"temperature": 0.1})
    with pytest.raises(TrainingError, match=r"another recipe \(tiny"):
        train(changed, world / "run")


def test_a_static_encoder_with_a_teacher(world: Path, mbert: Path) -> None:
    """No special tokens, no ONNX, and the vectors that it was trained to have."""
    shutil.copytree(mbert, world / "teacher")
    told: list[str] = []
    recipe = recipe_of(
        world,
        base={"kind": "static", "dim": 32},
        teacher={"model": "teacher"},
        loss={"distil_contrastive": 1, "distil_cosine": 5, "contrastive": 0},
        batches={"english": 0.1},
        optimizer={"steps": 30, "embedding_rate": 0.05},
    )
    made = train(recipe, world / "run", callbacks=Callbacks(on_stage=told.append))
    assert (made.package, made.parity, made.peak_share) == (None, None, 0.0)
    assert any(stage.startswith("no ONNX export: ") for stage in told)
    encoder = load_encoder(str(made.encoder))
    losses = [float(str(line["loss"])) for line in read_log(world / "run" / "log.jsonl")]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    # The teacher's place of an English sentence is where its German translation went.
    german, english = [row[1] for row in runs.sentences()[:30]], [row[0] for row in runs.sentences()[:30]]
    taught = load_encoder(str(world / "teacher")).encode_passages(english)
    assert float((encoder.encode_passages(german) * taught).sum(1).mean()) > 0.5


def test_a_base_that_pools_by_cls_goes_on_doing_so(world: Path) -> None:
    (world / "model" / "1_Pooling").mkdir()
    config = world / "model" / "1_Pooling" / "config.json"
    config.write_text(json.dumps({"word_embedding_dimension": 32, "pooling_mode_cls_token": True}))
    made = train(recipe_of(world, optimizer={"steps": 2}), world / "run")
    assert made.package is None
    pooling = json.loads((made.encoder / "1_Pooling" / "config.json").read_text())
    assert (pooling["pooling_mode_cls_token"], pooling["pooling_mode_mean_tokens"]) == (True, False)
    config.write_text(json.dumps({"embedding_dimension": 32, "pooling_mode": "max"}))
    with pytest.raises(TrainingError, match="pools its tokens by max"):
        train(recipe_of(world), world / "other")
