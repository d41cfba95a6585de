"""The benchmarks of training: what an ablation takes away, what its runs share, and what a run's folder tells."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("zstandard", reason="needs the extra 'train'")

import zstandard

from xsearch.training.recipe import Recipe

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("ablation")


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("training")


def recipe(folder: Path, **tables: Mapping[str, Any]) -> Recipe:
    content = {"name": "tiny", "base": {"model": "base"}, "data": {"parallel": ["*.tsv"], "terms": ["*.words.tsv"]}}
    return Recipe.from_dict({**content, **tables}, folder)


def test_one_part_off_each(ablation: ModuleType, tmp_path: Path) -> None:
    whole = recipe(tmp_path, vocabulary={}, teacher={"model": "base"})
    found = ablation.variants(whole)
    assert list(found) == [
        "whole recipe", "transplant off", "distillation off", "contrastive off", "names off", "batch mix off",
    ]  # fmt: skip
    assert found["whole recipe"] is whole
    assert not found["transplant off"].vocabulary.transplant
    alone = found["distillation off"]
    assert (alone.teacher, alone.batches.english) == (None, 0.0)
    assert (alone.loss.contrastive, alone.loss.distil_contrastive, alone.loss.distil_cosine) == (1.0, 0.0, 0.0)
    cosine = found["contrastive off"].loss
    assert (cosine.contrastive, cosine.distil_contrastive, cosine.distil_cosine) == (0.0, 0.0, 5.0)
    assert found["names off"].batches.terms == 0.0
    assert found["batch mix off"].batches.mixed_languages == 0.0
    # Nothing else differs, and the examples are the same in all.
    assert {variant.fingerprint("base", "data", "seed", "optimizer", "run") for variant in found.values()} == {
        whole.fingerprint("base", "data", "seed", "optimizer", "run")
    }
    same_batches = ("transplant off", "contrastive off")
    assert {found[name].batches for name in same_batches} == {whole.batches}


def test_parts_that_a_recipe_lacks_are_no_variants(ablation: ModuleType, tmp_path: Path) -> None:
    contrastive = recipe(
        tmp_path,
        loss={"contrastive": 1, "distil_contrastive": 0, "distil_cosine": 0},
        batches={"terms": 0, "english": 0, "mixed_languages": 0.5},
    )
    assert list(ablation.variants(contrastive)) == ["whole recipe", "batch mix off"]


def test_a_budget(ablation: ModuleType, tmp_path: Path) -> None:
    small = ablation.budgeted(
        recipe(tmp_path, teacher={"model": "base"}, optimizer={"steps": 9000, "warmup": 150},
               run={"mlqa": "MLQA.zip", "evaluate_every": 100}), 500,
    )  # fmt: skip
    assert (small.optimizer.steps, small.optimizer.warmup) == (500, 50)
    assert (small.run.mlqa, small.run.evaluate_every) == ("", 0)


def test_runs_share_what_they_have_in_common(ablation: ModuleType, tmp_path: Path) -> None:
    first, other, third = (tmp_path / name for name in ("first", "other", "third"))
    for name in ("start", "arrays", "teacher_int8"):
        (first / "prepared" / name).mkdir(parents=True)
    for name in ("examples.jsonl.zst", "filters.json", "teacher.npy", "teacher.known.npy", "teacher.json"):
        (first / "prepared" / name).write_text(name)
    of_the_data = [
        "examples.jsonl.zst",
        "filters.json",
        "teacher.npy",
        "teacher.known.npy",
        "teacher.json",
        "teacher_int8",
    ]
    assert ablation.share(first, other, same_vocabulary=True) == [*of_the_data, "start", "arrays"]
    assert (other / "prepared" / "examples.jsonl.zst").read_text() == "examples.jsonl.zst"
    assert ablation.share(first, other, same_vocabulary=True) == []
    assert ablation.share(first, third, same_vocabulary=False) == of_the_data
    assert not (third / "prepared" / "start").exists()


def test_what_another_run_prepared_is_copied_once(ablation: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "other" / "prepared").mkdir(parents=True)
    (tmp_path / "other" / "prepared" / "filters.json").write_text("1")
    ablation.take_over(tmp_path / "other", tmp_path / "first")
    (tmp_path / "first" / "prepared" / "filters.json").write_text("2")
    ablation.take_over(tmp_path / "other", tmp_path / "first")
    assert (tmp_path / "first" / "prepared" / "filters.json").read_text() == "2"
    assert (tmp_path / "other" / "prepared" / "filters.json").read_text() == "1"


def write_run(folder: Path) -> Path:
    (folder / "prepared").mkdir(parents=True)
    log = [
        {"step": 10, "loss": 4.0, "tokens_per_s": 900.0, "seconds_left": 60.0, "gflops": 100.0, "peak_share": 0.5,
         "losses": {"sentence": 4.0}},
        {"step": 20, "loss": 3.0, "tokens_per_s": 1100.0, "seconds_left": 40.0, "gflops": 120.0, "peak_share": 0.6,
         "losses": {"sentence": 2.0, "term": 4.0}},
        {"step": 30, "loss": 1.5, "tokens_per_s": 1000.0, "seconds_left": 0.0, "gflops": 110.0, "peak_share": 0.55,
         "losses": {"sentence": 1.5}},
    ]  # fmt: skip
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    score = {"step": 30, "same_language": 60.0, "cross_language": 58.0}
    (folder / "scores.jsonl").write_text(json.dumps(score) + "\n")
    report = {"seen": 9, "kept": 7, "removed": {"duplicate": 2}, "malformed": {}, "sources": []}
    (folder / "prepared" / "filters.json").write_text(json.dumps(report))
    rows = [
        {"fingerprint": "x", "count": 4},
        {"kind": 0, "lang": "de", "text": "Der Hund\u2028bellt.", "english": "The dog barks.", "origin": "news"},
        {"kind": 0, "lang": "de", "text": "Die Katze schläft.", "english": "The cat sleeps.", "origin": "talks"},
        {"kind": 1, "lang": "fr", "text": "chien", "english": "dog", "origin": "words"},
        {"kind": 4, "lang": "en", "text": "Who barks?", "english": "The dog barks.", "origin": "quiz"},
    ]
    packed = zstandard.compress("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    (folder / "prepared" / "examples.jsonl.zst").write_bytes(packed)
    return folder


def test_the_numbers_of_a_run(training: ModuleType, tmp_path: Path) -> None:
    """A step takes 60 / 20 = 3 s, then 40 / 10 = 4 s; the last ten count 3.5 s each: 105 s."""
    found = training.summary(write_run(tmp_path / "mine"))
    assert (found["run"], found["steps"], found["hours"]) == ("mine", 30, round(105 / 3600, 2))
    assert training.hours(training.read_lines(tmp_path / "mine" / "log.jsonl")) == pytest.approx(105 / 3600)
    assert found["tokens_per_s"] == {"min": 900.0, "median": 1000.0, "max": 1100.0}
    assert (found["gflops"]["median"], found["gemm_peak_share"]) == (110.0, 0.55)
    assert found["losses"]["first"] == {"step": 10, "loss": 4.0, "sentence": 4.0}
    assert found["losses"]["last"] == {"step": 30, "loss": 1.5, "sentence": 1.5}
    assert found["mlqa_dev"] == [{"step": 30, "same_language": 60.0, "cross_language": 58.0}]
    assert found["filters"] == {"seen": 9, "kept": 7, "removed": {"duplicate": 2}, "malformed": {}}
    assert found["examples"] == {
        "total": 4,
        "by_language": {"de": {"sentence": 2}, "en": {"question": 1}, "fr": {"term": 1}},
        "by_source": {"news": 1, "quiz": 1, "talks": 1, "words": 1},
    }


def test_the_log_of_an_older_run_tells_no_hours(training: ModuleType, tmp_path: Path) -> None:
    run = write_run(tmp_path / "old")
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds_left"], line["peak_share"]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = training.summary(run)
    assert found["hours"] is None and "gemm_peak_share" not in found


def test_a_folder_without_a_run(training: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no step"):
        training.summary(tmp_path)
