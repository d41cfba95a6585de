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
from numpy.typing import NDArray

from tests.evaluation.conftest import DE, DE_Q, EN, EN_Q, squad
from tests.training import runs
from xsearch.encoder.load import load_encoder
from xsearch.encoder.stepped import read_step
from xsearch.errors import TrainingError
from xsearch.training import train as module
from xsearch.training.recipe import Recipe
from xsearch.training.runlog import read_log
from xsearch.training.selection import Kind
from xsearch.training.stages import chosen_examples, make_ready
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


class TestWithoutSteps:
    """``steps = 0``: the base, with its vocabulary cut where the recipe says so."""

    def cut(self, world: Path, size: int = 150, **more: Mapping[str, Any]) -> Recipe:
        table = {"vocabulary": {"cut": size}, "optimizer": {"steps": 0}, "data": {"default_weight": 1}}
        return recipe_of(world, **{**table, **more})

    def test_the_base_itself_is_written_exported_and_measured(self, world: Path) -> None:
        told: list[str] = []
        scores: list[Score] = []
        callbacks = Callbacks(on_stage=told.append, on_score=scores.append)
        recipe = recipe_of(world, optimizer={"steps": 0}, run={"mlqa": "mlqa.zip"}, vocabulary={"keep": "all"})
        made = train(recipe, world / "run", callbacks=callbacks)
        assert (made.resumed_at, made.peak_share, made.coverage) == (0, 0.0, None)
        assert vectors(made.encoder) == pytest.approx(vectors(world / "model"), abs=1e-6)
        assert made.parity is not None and made.parity.lowest > 0.95
        assert made.package is not None and load_encoder(str(made.package)).dim == 32
        assert made.score is not None and made.score.step == 0 and scores == [made.score]
        assert "without training" in (made.encoder / "README.md").read_text(encoding="utf-8")
        assert not any("training" in stage or "cutting" in stage for stage in told)
        assert {path.name for path in (world / "run" / "prepared").iterdir()} == {"examples.jsonl.zst", "filters.json"}

    def test_a_cut_keeps_the_vectors_of_what_is_spelled_as_before(self, world: Path) -> None:
        base = runs.tokenizer_of(world / "model")
        made = train(self.cut(world), world / "run")
        tokenizer = runs.tokenizer_of(made.encoder)
        assert tokenizer.get_vocab_size() == 150 < base.get_vocab_size()
        config = json.loads((made.encoder / "config.json").read_text())
        assert (config["vocab_size"], config["pad_token_id"]) == (150, tokenizer.token_to_id("[PAD]"))
        texts = [row[n] for row in runs.sentences() for n in range(3)]
        before, after = (load_encoder(str(folder)).encode_passages(texts) for folder in (world / "model", made.encoder))
        rows = [(text, base.encode(text).tokens) for text in texts]
        same = [len(row) <= 40 and row == tokenizer.encode(text).tokens for text, row in rows]
        assert np.mean(same) > 0.1
        cosines = (before * after).sum(1)
        assert float(cosines[same].min()) > 0.99999
        for text, row in rows:  # the tiny base itself does not know all words; the cut knows no fewer
            assert tokenizer.encode(text).tokens.count("[UNK]") == row.count("[UNK]")
        assert made.parity is not None and made.package is not None

        # What the run says of it, and again when nothing is left to do.
        assert made.coverage is not None
        content = json.loads((world / "run" / "coverage.json").read_text(encoding="utf-8"))
        assert (content["pieces_before"], content["pieces_after"]) == (base.get_vocab_size(), 150)
        assert {entry["lang"] for entry in content["languages"]} == {"de", "es", "en"}
        for language in made.coverage.languages:
            assert 0.3 < language.kept <= 1.0 and language.longer >= 0.0
            assert language.unknown_after <= language.unknown_before < 0.5
        told: list[str] = []
        again = train(self.cut(world), world / "run", callbacks=Callbacks(on_stage=told.append))
        assert "counting pieces" not in told and again.coverage is not None
        assert [each.lang for each in again.coverage.languages] == [each.lang for each in made.coverage.languages]
        card = (again.encoder / "README.md").read_text(encoding="utf-8")
        assert f"| Vocabulary | 150 of the base's {base.get_vocab_size()} pieces |" in card

    def test_a_cut_can_be_trained(self, world: Path) -> None:
        made = train(self.cut(world, optimizer={"steps": 3}), world / "run")
        assert load_encoder(str(made.encoder)).encode_passages(["Der Hund"]).shape == (1, 32)
        assert runs.tokenizer_of(made.encoder).get_vocab_size() == 150
        with pytest.raises(TrainingError, match="holds a run that was trained to step 3"):
            train(self.cut(world), world / "run")

    def test_plain_text_of_other_languages_counts(self, world: Path) -> None:
        lines = [f"Le chien numéro {number} dort dans le jardin." for number in range(50)]
        (world / "more.fr.txt").write_text("\n".join(lines), encoding="utf-8")
        table = {"cut": 150, "texts": ["more.*"]}
        data = {"languages": {"de": 1, "es": 1, "fr": 3}}
        made = train(self.cut(world, vocabulary=table, data=data), world / "run")
        assert made.coverage is not None and "fr" in {each.lang for each in made.coverage.languages}
        # And alone: then they are what the exported encoder is compared on.
        alone = self.cut(
            world,
            vocabulary=table,
            data={"parallel": [], "questions": [], "languages": {"fr": 3}},
        )
        made = train(alone, world / "alone")
        assert made.coverage is not None and [each.lang for each in made.coverage.languages] == ["fr"]
        assert made.parity is not None

    def test_a_language_without_any_text_is_named(self, world: Path) -> None:
        data = {"languages": {"de": 1, "es": 1, "fr": 3}}
        with pytest.raises(TrainingError, match=r"data\.languages names fr. No file of pairs or questions"):
            train(self.cut(world, data=data), world / "run")

    def test_prompts_of_the_base_are_kept(self, world: Path) -> None:
        prompts = {"query": "query: ", "document": "passage: "}
        path = world / "model" / "config_sentence_transformers.json"
        path.write_text(json.dumps({"prompts": prompts}), encoding="utf-8")
        made = train(self.cut(world), world / "run")
        written = json.loads((made.encoder / "config_sentence_transformers.json").read_text(encoding="utf-8"))
        assert written["prompts"] == prompts
        before = runs.tokenizer_of(world / "model").encode("query: passage: ").tokens
        assert runs.tokenizer_of(made.encoder).encode("query: passage: ").tokens == before
        without = train(self.cut(world, base={"prompts": False}), world / "without")
        written = json.loads((without.encoder / "config_sentence_transformers.json").read_text(encoding="utf-8"))
        assert written["prompts"] == {"query": "", "document": ""}
        for damaged, words in (("{", "is damaged"), ('{"prompts": {"query": 3}}', r"has the prompts \{'query': 3\}")):
            path.write_text(damaged, encoding="utf-8")
            with pytest.raises(TrainingError, match=words):
                train(self.cut(world), world / "damaged")


def test_texts_are_trained_behind_the_prompts_of_the_base(world: Path) -> None:
    path = world / "model" / "config_sentence_transformers.json"
    path.write_text(json.dumps({"prompts": {"query": "query: ", "document": "passage: "}}), encoding="utf-8")
    tokenizer = runs.tokenizer_of(world / "model")
    ready = make_ready(recipe_of(world, base={"max_tokens": 60}), world / "run")
    assert ready.prepared is not None
    examples = chosen_examples(recipe_of(world, base={"max_tokens": 60}), world / "run")
    for number in range(0, len(examples), 7):
        example = examples[number]
        door = "query: " if example.kind is Kind.QUESTION else "passage: "
        ids, _ = ready.prepared.texts.padded([number], 0)
        assert ids[0].tolist() == tokenizer.encode(door + example.text).ids[:60]
        ids, _ = ready.prepared.english.padded([number], 0)
        assert ids[0, :30].tolist() == tokenizer.encode("passage: " + example.english).ids[:30]


def test_an_xlmr_vocabulary_is_cut_and_its_positions_hold(xlmr: Path, tmp_path: Path) -> None:
    shutil.copytree(xlmr, tmp_path / "model")
    runs.write_data(tmp_path)
    told: list[str] = []
    recipe = recipe_of(tmp_path, vocabulary={"cut": 130}, optimizer={"steps": 0})
    made = train(recipe, tmp_path / "run", callbacks=Callbacks(on_stage=told.append))
    base, tokenizer = runs.tokenizer_of(xlmr), runs.tokenizer_of(made.encoder)
    assert tokenizer.get_vocab_size() == 130 < base.get_vocab_size()
    config = json.loads((made.encoder / "config.json").read_text())
    assert [config[f"{role}_token_id"] for role in ("pad", "bos", "eos")] == [1, 0, 2] and config["vocab_size"] == 130
    texts = [row[n] for row in runs.sentences() for n in range(3)]
    before, after = (load_encoder(str(folder)).encode_passages(texts) for folder in (tmp_path / "model", made.encoder))
    rows = [(text, base.encode(text).tokens) for text in texts]
    same = [len(row) <= 40 and row == tokenizer.encode(text).tokens for text, row in rows]
    assert any(same)
    assert float((before * after).sum(1)[same].min()) > 0.99999
    # XLM-R's own layers are not BERT's: said, not failed.
    assert made.package is None and any(stage.startswith("no ONNX export: ") for stage in told)


def test_the_language_bias_is_taken_out_of_what_is_written(world: Path) -> None:
    table = {"directions": 2, "centre": 1.0, "texts": 80, "min_texts": 20}
    recipe = recipe_of(world, optimizer={"steps": 0}, vocabulary={"keep": "all"}, debias=table)
    told: list[str] = []
    made = train(recipe, world / "run", callbacks=Callbacks(on_stage=told.append))
    assert made.package is not None and made.float_parity is not None and made.float_parity.lowest > 0.9999

    step = read_step(made.encoder)
    config = json.loads((made.package / "xsearch_encoder.json").read_text(encoding="utf-8"))
    assert step is not None and config["step"]["digest"] == step.digest
    assert (step.facts["method"], step.facts["directions"]) == ("projection", 2)
    texts = [text for row in runs.sentences()[:40] for text in row[:2]]
    whole, packed = load_encoder(str(made.encoder)), load_encoder(str(made.package))
    assert float((whole.encode_passages(texts) * packed.encode_passages(texts)).sum(1).min()) > 0.9
    assert packed.fingerprint.step == step.digest and whole.fingerprint.step

    # What differs between the languages on average lies mostly in the direction that was taken out.
    def gap(vectors: NDArray[np.float32]) -> float:
        return float(np.linalg.norm(vectors[1::2].mean(0) - vectors[::2].mean(0)))

    bare = load_encoder(str(world / "model"))
    assert whole.encode_passages(texts) == pytest.approx(step.passages(bare.encode_passages(texts)), abs=1e-6)
    projected = bare.encode_passages(texts) @ step.matrix
    assert gap(projected) < 0.5 * gap(bare.encode_passages(texts))

    # Done again, nothing is encoded again; with other sentences it is.
    stage = "encoding sentences in all languages"
    assert stage in told
    told.clear()
    train(recipe, world / "run", callbacks=Callbacks(on_stage=told.append))
    assert stage not in told
    fewer = recipe_of(world, optimizer={"steps": 0}, vocabulary={"keep": "all"}, debias={**table, "texts": 60})
    train(fewer, world / "run", callbacks=Callbacks(on_stage=told.append))
    assert stage in told


def test_too_few_sentences_for_a_step_are_said(world: Path) -> None:
    recipe = recipe_of(world, optimizer={"steps": 0}, vocabulary={"keep": "all"}, debias={"min_texts": 500})
    with pytest.raises(TrainingError, match=r"two languages|500"):
        train(recipe, world / "run")
