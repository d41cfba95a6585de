"""``xsearch train``: what it hands to the library, what it says, and a small run from end to end."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Xsearch, refused
from tests.cli.test_show import STYLES, Terminal
from tests.encoder.checkpoints import mbert
from xsearch.cli import train_progress as module
from xsearch.cli.train import PACKAGES
from xsearch.cli.train_progress import TrainProgress, duration

pytest.importorskip("torch", reason="needs the extra 'train'")

from xsearch.training import run_folder, train
from xsearch.training.coverage import Coverage, LanguageCoverage
from xsearch.training.release import Parity
from xsearch.training.runlog import StepReport
from xsearch.training.train import Callbacks, Score, Trained

PAIRS = """\
The ferry leaves the harbour at noon.\tDie Fähre verlässt den Hafen am Mittag.
Our neighbour keeps three goats.\tUnser Nachbar hält drei Ziegen.
The bakery is closed on Mondays.\tDie Bäckerei hat montags geschlossen.
She repairs old clocks.\tSie repariert alte Uhren.
The bridge was built from granite.\tDie Brücke wurde aus Granit gebaut.
He plays the cello in the evening.\tEr spielt am Abend Cello.
The river froze last winter.\tDer Fluss ist im letzten Winter zugefroren.
We planted apple trees behind the barn.\tWir haben hinter der Scheune Apfelbäume gepflanzt.
The museum shows maps of the coast.\tDas Museum zeigt Karten der Küste.
The children count the passing trains.\tDie Kinder zählen die vorbeifahrenden Züge.
A heron stands in the shallow water.\tEin Reiher steht im flachen Wasser.
The letter arrived after two weeks.\tDer Brief kam nach zwei Wochen an.
The mayor opened the new library.\tDie Bürgermeisterin eröffnete die neue Bücherei.
Bread and cheese are on the table.\tBrot und Käse stehen auf dem Tisch.
The hikers lost their way in the fog.\tDie Wanderer verirrten sich im Nebel.
The lighthouse keeper writes a diary.\tDer Leuchtturmwärter führt ein Tagebuch.
My grandmother knits woollen socks.\tMeine Großmutter strickt wollene Socken.
The market sells fresh mushrooms.\tDer Markt verkauft frische Pilze.
The carpenter measures the door twice.\tDer Tischler misst die Tür zweimal.
Snow covers the roofs of the village.\tSchnee bedeckt die Dächer des Dorfes.
The orchestra rehearses a slow waltz.\tDas Orchester probt einen langsamen Walzer.
The farmer sells honey at the gate.\tDer Bauer verkauft Honig am Tor.
The doctor asks about the fever.\tDie Ärztin fragt nach dem Fieber.
Two boats race across the lake.\tZwei Boote fahren um die Wette über den See.
The teacher draws a circle on the board.\tDer Lehrer zeichnet einen Kreis an die Tafel.
The old mill grinds corn again.\tDie alte Mühle mahlt wieder Korn.
The cat sleeps under the warm stove.\tDie Katze schläft unter dem warmen Ofen.
The train to the mountains is late.\tDer Zug in die Berge hat Verspätung.
The swallows return in the spring.\tDie Schwalben kehren im Frühling zurück.
The well behind the church is deep.\tDer Brunnen hinter der Kirche ist tief.
"""
RECIPE = """\
name = "ours"
[base]
model = "base"
max_tokens = 48
[data]
parallel = ["*.en-de.tsv"]
passages = 0
english = 0
[batches]
tokens = 400
texts = 8
terms = 0
passages = 0
questions = 0
english = 0
[loss]
contrastive = 1
distil_contrastive = 0
distil_cosine = 0
[optimizer]
steps = 5
warmup = 1
[run]
checkpoint_every = 3
log_every = 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "ours.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@dataclass
class Stub:
    """Stands in for the library; ``act`` is what it does with the callbacks."""

    calls: list[tuple[Any, Path, str]] = field(default_factory=list)
    act: Callable[[Callbacks], None] = lambda told: None

    def __call__(self, recipe: Any, folder: Path, *, device: str = "cpu", callbacks: Callbacks) -> Trained:
        self.calls.append((recipe, folder, device))
        self.act(callbacks)
        package = folder / "package"
        package.mkdir(exist_ok=True)
        (package / "model.onnx").write_bytes(bytes(27_400_000))
        return Trained(
            encoder=folder / "encoder",
            package=package,
            resumed_at=0,
            parity=Parity(lowest=0.97, mean=0.998, same_nearest=0.99),
            score=Score(5, 60.12, 58.34),
            peak_share=0.43217,
        )


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    found = Stub()
    monkeypatch.setattr(train, "train", found)
    return found


def report(step: int, *, loss: float = 2.0, tokens: int = 1000, seconds: float = 0.5, peak: float = 0.0) -> StepReport:
    return StepReport(step, 100, loss, "sentence", "de", tokens, seconds, gflops=40.0, peak_gflops=peak)


def test_what_the_library_gets_and_what_is_printed(xsearch: Xsearch, recipe: Path, stub: Stub, tmp_path: Path) -> None:
    outcome = xsearch("train", recipe, "--steps", "7", "--seed", "3", "-q")
    assert outcome.code == 0, outcome.err
    ((given, folder, device),) = stub.calls
    assert (given.name, given.optimizer.steps, given.seed, given.optimizer.warmup) == ("ours", 7, 3, 1)
    assert (folder, device, given.folder) == (Path("runs/ours"), "cpu", tmp_path)
    assert outcome.err == ""
    assert outcome.out.splitlines() == [
        "Encoder   runs/ours/encoder (sentence-transformers, float32)",
        "Package   runs/ours/package (int8 for ONNX Runtime, 27 MB; mean cosine to float32 0.9980)",
        "MLQA dev  nDCG@10 60.1 same language, 58.3 across languages",
        "Use it:",
        "  xsearch bench mlqa --data MLQA_V1.zip --encoder runs/ours/package",
        "  xsearch index NAME SOURCE --encoder runs/ours/package",
    ]


def test_json(xsearch: Xsearch, recipe: Path, stub: Stub) -> None:
    outcome = xsearch("train", recipe, "-o", "elsewhere", "--json")
    assert outcome.json == {
        "name": "ours",
        "folder": "elsewhere",
        "encoder": str(Path("elsewhere/encoder")),
        "package": str(Path("elsewhere/package")),
        "steps": 5,
        "resumed_at": 0,
        "seed": 13,
        "gemm_peak_share": 0.4322,
        "pieces": None,
        "mlqa_dev": {"step": 5, "same_language": 60.12, "cross_language": 58.34},
        "int8_parity": {"lowest": 0.97, "mean": 0.998, "same_nearest": 0.99},
    }
    assert stub.calls[0][1] == Path("elsewhere")


def test_stages_and_scores_are_named_on_stderr(xsearch: Xsearch, recipe: Path, stub: Stub) -> None:
    def act(told: Callbacks) -> None:
        told.on_stage("reading and filtering the data")
        for number in range(9):
            told.on_stage(f"reading file{number}.tsv")
        told.on_stage("training")
        told.on_step(report(99))
        told.on_step(report(100, loss=1.0, peak=80.0))
        told.on_score(Score(100, 60.0, 58.0))

    stub.act = act
    outcome = xsearch("train", recipe)
    assert outcome.err.splitlines()[:-1] == [
        "Loading torch",
        "Reading and filtering the data",
        "Training",
        "Step 100 of 100: loss 1.500, 2,000 tokens/s, 25% of the GEMM peak",
        "MLQA dev after step 100: 60.0 same language, 58.0 across languages",
    ]
    assert re.fullmatch(r"Done in \d+ s\.", outcome.err.splitlines()[-1])
    assert "Reading file8.tsv" in xsearch("train", recipe, "-v").err


def test_an_interrupted_run_says_where_it_stands(xsearch: Xsearch, recipe: Path, stub: Stub) -> None:
    def act(told: Callbacks) -> None:
        raise KeyboardInterrupt

    stub.act = act
    outcome = xsearch("train", recipe, "-q")
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err == (
        "No step is saved yet, only what was prepared; the same command goes on from there.\n\nInterrupted.\n"
    )
    Path("runs/ours/checkpoints/step-00000250").mkdir(parents=True)
    assert "saved as of step 250; the same command goes on" in xsearch("train", recipe, "-q").err


def test_fresh_keeps_what_was_there(xsearch: Xsearch, recipe: Path, stub: Stub) -> None:
    folder = Path("runs/ours")
    (folder / "checkpoints" / "step-00000250").mkdir(parents=True)
    (folder / "prepared").mkdir()
    (folder / "log.jsonl").write_text("{}")
    outcome = xsearch("train", recipe, "--fresh")
    assert "Beginning anew; what an earlier run left is kept in runs/ours/before-1." in outcome.err
    assert (folder / "before-1" / "checkpoints" / "step-00000250").is_dir()
    assert (folder / "before-1" / "log.jsonl").read_text() == "{}"
    assert not (folder / "checkpoints").exists() and (folder / "prepared").is_dir()
    assert "Beginning anew" not in xsearch("train", recipe, "-o", "new", "--fresh").err


def test_a_second_run_in_the_same_folder_is_refused(xsearch: Xsearch, recipe: Path, stub: Stub) -> None:
    with run_folder.held(Path("runs/ours")):
        outcome = xsearch("train", recipe, "-q")
    refused(outcome, "A run is going on in runs/ours, of process", "One run trains in a folder at a time", "-o")
    assert stub.calls == []


def test_only_the_first_process_of_several_speaks(
    xsearch: Xsearch, recipe: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with run_folder.held(Path("runs/ours")):
        outcome = xsearch("train", recipe, "--fresh")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert len(stub.calls) == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_a_missing_package_is_named_before_anything_is_read(
    xsearch: Xsearch, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec

    def find_spec(name: str, within: str | None = None) -> importlib.machinery.ModuleSpec | None:
        return None if name == package else find(name, within)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    outcome = xsearch("train", "nowhere.toml")
    refused(outcome, f"Training needs the package {package.replace('_', '-')}", 'pip install "xsearch[train]"')


def test_wrong_recipes_and_devices(
    xsearch: Xsearch, recipe: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refused(xsearch("train", "nowhere.toml", "-q"), "The recipe nowhere.toml cannot be read", "No such file")
    recipe.write_text(RECIPE + "speed = 3\n", encoding="utf-8")
    refused(xsearch("train", recipe, "-q"), "ours.toml: run has the key 'speed'", "Known keys: checkpoint_every")
    recipe.write_text(RECIPE, encoding="utf-8")
    assert xsearch("train", recipe, "--device", "gpu").code == 2
    assert xsearch("train", recipe, "--steps", "-1").code == 2
    refused(xsearch("train", recipe, "-q", "--base", "nowhere"), "--base is nowhere, and there is no", "tokenizer.json")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused(xsearch("train", recipe, "-q", "--device", "cuda:1"), "torch sees no CUDA device", "--device cpu")
    assert stub.calls == []
    assert not (tmp_path / "runs").exists()


def test_a_small_run_from_end_to_end(xsearch: Xsearch, recipe: Path, tmp_path: Path) -> None:
    mbert(tmp_path / "base")
    (tmp_path / "ours.en-de.tsv").write_text(PAIRS, encoding="utf-8")
    first = xsearch("train", recipe, "--json", "-q", "--steps", "3")
    assert (first.code, first.json["resumed_at"]) == (0, 0), first.err
    outcome = xsearch("train", recipe, "--json")
    assert outcome.code == 0, outcome.err
    made = outcome.json
    assert (made["steps"], made["resumed_at"], made["mlqa_dev"]) == (5, 3, None)
    assert "Step 5 of 5: loss " in outcome.err
    log = [json.loads(line) for line in Path("runs/ours/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5]
    (tmp_path / "texts").mkdir()
    for number, pair in enumerate(PAIRS.splitlines()[:4]):
        (tmp_path / "texts" / f"{number}.txt").write_text(pair.split("\t")[1], encoding="utf-8")
    for kind in ("package", "encoder"):
        indexed = xsearch("index", kind, "texts", "--encoder", made[kind], "-q")
        assert indexed.code == 0, indexed.err
        found = xsearch("search", kind, "Sie repariert alte Uhren.", "-k", "1", "--json", "--encoder", made[kind])
        assert [hit["text"] for hit in found.json["hits"]] == ["Sie repariert alte Uhren."]
    again = xsearch("train", recipe, "--seed", "14", "-q")
    refused(again, "is a checkpoint of another recipe")


def test_another_base_and_no_steps(xsearch: Xsearch, recipe: Path, stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    outcome = xsearch("train", recipe, "--base", "elsewhere", "--steps", "0", "-q")
    assert outcome.code == 0, outcome.err
    assert xsearch("train", recipe, "-q").code == 0
    (given, _, _), (own, _, _) = stub.calls
    assert (given.base.model, given.optimizer.steps) == (str((tmp_path / "elsewhere").resolve()), 0)
    assert own.base.model == "base" and given.fingerprint("base") != own.fingerprint("base")


def test_options_are_checked_as_the_recipe_is(xsearch: Xsearch, recipe: Path, stub: Stub) -> None:
    recipe.write_text(RECIPE.replace("distil_cosine = 0", "distil_cosine = 1").replace("steps = 5", "steps = 0"))
    assert xsearch("train", recipe, "-q").code == 0
    refused(xsearch("train", recipe, "-q", "--steps", "3"), "teacher is None", "loss.distil_* is above 0")


def test_what_a_cut_did_is_shown(xsearch: Xsearch, recipe: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    languages = tuple(
        LanguageCoverage(lang, 1000, kept, 0.25, 0.25 * longer, 0.0, 0.0)
        for lang, kept, longer in (
            ("he", 0.88, 1.1), ("th", 0.9, 1.05), ("ru", 0.925, 1.041), ("zh-Hant", 0.95, 1.02), ("de", 0.993, 1.004),
        )
    )  # fmt: skip
    plain = stub.__call__

    def cut(*args: Any, **more: Any) -> Trained:
        return replace(plain(*args, **more), coverage=Coverage(250_002, 100_000, languages))

    monkeypatch.setattr(train, "train", cut)
    outcome = xsearch("train", recipe, "-q")
    lines = outcome.out.splitlines()
    assert [line.rstrip() for line in lines[2:5]] == [
        "Pieces    100,000 of 250,002; by language the share of running pieces kept, and how much longer texts get:",
        "he  88.0%  +10.0%  ru       92.5%  +4.1%  de  99.3%  +0.4%",
        "th  90.0%   +5.0%  zh-Hant  95.0%  +2.0%",
    ]
    assert xsearch("train", recipe, "--json").json["pieces"] == 100_000


# Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still unless it is set."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_line_every_30_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with TrainProgress() as progress:
        progress.stage("encoding the English side with the teacher")
        assert capsys.readouterr().err == "Encoding the English side with the teacher\n"
        progress.count("teacher", 8192, 100_000)
        clock[0] += 30
        progress.count("teacher", 16384, 100_000)
        assert capsys.readouterr().err == "Encoding the English side with the teacher: 16,384 of 100,000\n"
        progress.stage("training")
        capsys.readouterr()
        progress.step(report(1, seconds=30.0, tokens=30_000))
        clock[0] += 29
        progress.step(report(2, seconds=30.0, tokens=30_000))
        assert capsys.readouterr().err == ""
        clock[0] += 1
        progress.step(report(3, seconds=30.0, tokens=30_000, loss=0.5))
        assert capsys.readouterr().err == "Step 3 of 100: loss 1.500, 1,000 tokens/s, about 48 min left\n"
        clock[0] += 30
        progress.step(report(4, seconds=70.0, tokens=140_000, loss=1.0))
        assert capsys.readouterr().err == "Step 4 of 100: loss 1.000, 2,000 tokens/s, about 1 h 04 min left\n"


def test_files_alike_are_named_every_30_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with TrainProgress() as progress:
        for number in range(4):
            progress.stage(f"reading {number}.tsv")
            clock[0] += 15
    assert capsys.readouterr().err == "Reading 0.tsv\nReading 2.tsv\n"


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainProgress(quiet=True) as progress:
        progress.stage("training")
        progress.step(report(100))
        progress.score(Score(100, 60.0, 58.0))
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with TrainProgress() as progress:
        progress.stage("cutting the [texts]")
        progress.step(report(41, peak=80.0))
        progress.step(report(42, loss=1.0, peak=80.0))
        progress.score(Score(42, 60.0, 58.0))
    shown = STYLES.sub("", terminal.getvalue())
    assert "Cutting the [texts]" in shown
    assert "MLQA dev after step 42: 60.0 same language, 58.0 across languages" in shown
    assert "Training" in shown and "42/100" in shown
    assert "loss 1.500, 2,000 tokens/s, 50% of the GEMM peak" in shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "0 s"), (59.0, "59 s"), (61.0, "1 min"), (3590.0, "1 h 00 min"), (7500.0, "2 h 05 min")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
