"""``xsearch bench``: what it prints where, what it writes, and what it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.evaluation.conftest import EN, EN_Q, FakeEncoder, mlqa_files, squad, write_files
from xsearch.cli.bench import bench
from xsearch.errors import EvaluationError, XsearchError

__all__ = ["mlqa_files", "write_files"]  # fixtures

Run = Callable[..., Result]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Stands in for the loading of encoders; records what was asked for. A name ``noisy`` gives a worse encoder."""
    calls: list[tuple[str, str]] = []

    def load_encoder(name: str = "builtin", *, device: str = "cpu") -> FakeEncoder:
        calls.append((name, device))
        return FakeEncoder(name=name, noise=0.6 if name == "noisy" else 0.0)

    module = ModuleType("xsearch.encoder.load")
    module.load_encoder = load_encoder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "xsearch.encoder.load", module)
    return calls


@pytest.fixture
def run(asked: list[tuple[str, str]]) -> Run:
    def invoke(*args: object) -> Result:
        return CliRunner().invoke(bench, [str(arg) for arg in args])

    return invoke


@pytest.fixture
def data(mlqa_files: Mapping[str, Any], write_files: Callable[[Mapping[str, Any]], Path]) -> Path:
    return write_files(mlqa_files)


def refusal(result: Result) -> XsearchError:
    assert result.exit_code == 1
    assert isinstance(result.exception, XsearchError)
    return result.exception


def test_the_table_is_on_stdout_and_notes_on_stderr(run: Run, data: Path, asked: list[tuple[str, str]]) -> None:
    result = run("mlqa", "--data", data, "--device", "cuda:1")
    assert result.exit_code == 0, result.output
    assert asked == [("builtin", "cuda:1")]
    assert "MLQARetrieval (dev), builtin" in result.stdout
    assert "mono 100.0 [100.0, 100.0]   cross 100.0 [100.0, 100.0]" in result.stdout
    assert result.stderr == "en: 1 of 4 documents are longer than 8 tokens and were cut\n"


def test_quiet_and_verbose(run: Run, data: Path) -> None:
    assert run("mlqa", "--data", data, "-q").stderr == ""
    assert "encoding documents (de): 0 of 8" in run("mlqa", "--data", data, "-v").stderr


def test_json_on_stdout_and_in_a_file(run: Run, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    result = run("mlqa", "--data", data, "--json", "-o", path, "--encoder", "noisy", "--seed", "3")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert json.loads(path.read_text()) == report
    assert report["encoder"]["name"] == "noisy"
    assert 0 < report["pairs"]["en-de"]["ndcg@10"] < 1
    assert "per_query" not in report
    again = json.loads(run("mlqa", "--data", data, "--json", "--encoder", "noisy", "--seed", "3").stdout)
    assert {**again, "date": ""} == {**report, "date": ""}


def test_langs(run: Run, data: Path) -> None:
    report = json.loads(run("mlqa", "--data", data, "--json", "--langs", "en").stdout)
    assert list(report["pairs"]) == ["en-en"]
    assert report["cross"] is None
    assert run("mlqa", "--data", data, "--langs", "de, eng").exit_code == 0


def test_a_baseline(run: Run, data: Path, tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    assert run("mlqa", "--data", data, "--encoder", "noisy", "--per-query", "-o", before, "-q").exit_code == 0
    result = run("mlqa", "--data", data, "--baseline", before)
    assert result.exit_code == 0, result.output
    assert "Against noisy" in result.stdout
    report = json.loads(run("mlqa", "--data", data, "--baseline", before, "--json").stdout)
    comparison = report["comparison"]
    assert comparison["baseline"]["name"] == "noisy"
    noisy = json.loads(before.read_text())
    assert comparison["cross"]["mean"] == pytest.approx(report["cross"] - noisy["cross"], abs=2e-5)
    assert list(comparison["pairs"]) == ["de-de", "de-en", "en-de", "en-en"]


def test_a_baseline_of_another_task_is_refused_before_the_run(
    run: Run, data: Path, tmp_path: Path, asked: list[tuple[str, str]]
) -> None:
    (tmp_path / "xquad.en.json").write_text(json.dumps(squad([(EN[0], [("1", EN_Q[0])])])))
    before = tmp_path / "before.json"
    assert run("xquad", "--data", tmp_path, "--per-query", "-o", before).exit_code == 0
    asked.clear()
    assert "is of XQuADRetrieval validation" in str(refusal(run("mlqa", "--data", data, "--baseline", before)))
    assert asked == []


def test_xquad(run: Run, tmp_path: Path) -> None:
    rows = [(context, [(f"id{i}", EN_Q[i])]) for i, context in enumerate(EN)]
    (tmp_path / "xquad.en.json").write_text(json.dumps(squad(rows)))
    result = run("xquad", "--data", tmp_path)
    assert result.exit_code == 0, result.output
    assert "XQuADRetrieval (validation), builtin" in result.stdout
    assert "mono 100.0" in result.stdout
    report = json.loads(run("xquad", "--data", tmp_path, "--json").stdout)
    assert (report["mono"], report["cross"], report["pairs"]["en-en"]["queries"]) == (1.0, None, 4)


def test_lareqa(run: Run, tmp_path: Path) -> None:
    paragraph = {
        "context": "The cat sleeps. The dog barks.",
        "sentences": ["The cat sleeps.", "The dog barks."],
        "sentence_breaks": [[0, 15], [16, 30]],
        "qas": [{"id": "1", "question": "Which dog?", "answers": [{"text": "dog", "answer_start": 20}]}],
    }
    (tmp_path / "en.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    result = run("lareqa", "--data", tmp_path, "--plot", tmp_path / "bars.png")
    assert result.exit_code == 0, result.output
    assert "LAReQA (sentences), builtin" in result.stdout
    assert "mean 100.0" in result.stdout
    report = json.loads(run("lareqa", "--data", tmp_path, "--context", "--json").stdout)
    assert (report["metric"], report["mean"], report["pairs"]["all-en"]["documents"]) == ("map", 1.0, 2)


def test_a_plot(run: Run, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'bench'")
    assert run("mlqa", "--data", data, "--plot", tmp_path / "matrix.png").exit_code == 0
    assert (tmp_path / "matrix.png").read_bytes()[1:4] == b"PNG"


def test_usage_errors(run: Run, data: Path, tmp_path: Path) -> None:
    assert run("mlqa").exit_code == 2
    assert run("mlqa", "--data", data, "--split", "train").exit_code == 2
    assert run("mlqa", "--data", data, "--bootstrap", "-1").exit_code == 2
    result = run("mlqa", "--data", data, "-o", tmp_path / "absent" / "scores.json")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_errors_of_ours_reach_the_entry_point(run: Run, data: Path, tmp_path: Path) -> None:
    error = refusal(run("mlqa", "--data", tmp_path / "absent"))
    assert isinstance(error, EvaluationError)
    assert "is not there" in str(error)
    assert "--split dev" in str(refusal(run("mlqa", "--data", data, "--split", "test")))


@pytest.mark.parametrize("command", ["mlqa", "mlqa-pool", "xquad", "lareqa", "sib200", "tatoeba"])
def test_help_has_examples(run: Run, command: str) -> None:
    assert f"  xsearch bench {command} --data" in run(command, "--help").stdout


def test_importing_the_command_loads_nothing_heavy() -> None:
    heavy = ["numpy", "torch", "faiss", "rich", "matplotlib", "onnxruntime"]
    code = f"import sys, xsearch.cli.bench; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    folder = tmp_path / "tatoeba"
    folder.mkdir()
    (folder / "tatoeba.deu-eng.deu").write_text("die Katze\nder Hund\nKatze und Hund und Hund\n")
    (folder / "tatoeba.deu-eng.eng").write_text("the cat\nthe dog\na bird\n")
    return folder


def test_tatoeba(run: Run, sentences: Path, asked: list[tuple[str, str]]) -> None:
    result = run("tatoeba", "--data", sentences, "--device", "cuda:1", "--bootstrap", "0")
    assert result.exit_code == 0, result.output
    assert asked == [("builtin", "cuda:1")]
    assert "Tatoeba (test), builtin" in result.stdout
    # Into English the third sentence is a dog; from English a bird is as far from all three.
    assert re.search(r"deu +. German +. +66\.7 +. +66\.7 +. +66\.7 +. +55\.6 +. +3", result.stdout)
    assert "mean 66.7" in result.stdout
    report = json.loads(run("tatoeba", "--data", sentences, "--json", "--langs", "de").stdout)
    assert report["pairs"]["deu-eng"]["into_english"] == 0.66667
    assert "is not there" in str(refusal(run("tatoeba", "--data", sentences / "nowhere")))


def test_tatoeba_against_a_baseline(run: Run, sentences: Path, tmp_path: Path, data: Path) -> None:
    before = tmp_path / "before.json"
    assert run("tatoeba", "--data", sentences, "--encoder", "noisy", "--per-query", "-o", before).exit_code == 0
    result = run("tatoeba", "--data", sentences, "--baseline", before)
    assert result.exit_code == 0, result.output
    assert "Against noisy: accuracy × 100" in result.stdout
    assert "is of Tatoeba test" in str(refusal(run("mlqa", "--data", data, "--baseline", before)))
    assert run("tatoeba", "--data", sentences, "--plot", "x.png").exit_code == 2


def test_mlqa_in_one_pool(run: Run, data: Path, tmp_path: Path, asked: list[tuple[str, str]]) -> None:
    result = run("mlqa-pool", "--data", data, "--device", "cuda:1")
    assert result.exit_code == 0, result.output
    assert asked == [("builtin", "cuda:1")]
    assert "MLQAPool (dev), builtin" in result.stdout
    assert "in one pool of 8 documents in de, en" in result.stdout
    assert "must cross, right first 100.0 [100.0, 100.0]" in result.stdout
    assert result.stderr == "1 texts are longer than 8 tokens and were cut\n"
    before = tmp_path / "before.json"
    arguments = ("mlqa-pool", "--data", data, "--bootstrap", "0")
    assert run(*arguments, "--encoder", "noisy", "--per-query", "-o", before).exit_code == 0
    report = json.loads(run(*arguments, "--baseline", before, "--json").stdout)
    assert (report["mean"]["map"], report["mean"]["must_cross"]) == (1.0, 1.0)
    assert report["comparison"]["mean"]["mean"] == pytest.approx(
        1 - json.loads(before.read_text())["mean"]["map"], abs=2e-5
    )
    assert "no data in fr" in str(refusal(run("mlqa-pool", "--data", data, "--langs", "fr")))


@pytest.fixture
def flores(tmp_path: Path) -> Path:
    archive = tmp_path / "sib-200.zip"
    with zipfile.ZipFile(archive, "w") as written:
        for code, texts in (("eng_Latn", ("a cat", "a dog")), ("arb_Arab", ("cat", "cat cat dog"))):
            for part, numbers in (("train", (1,)), ("dev", ()), ("test", (0,))):
                lines = "".join(f"{number}\tsports\t{texts[number]}\n" for number in numbers)
                written.writestr(f"{code}/{part}.tsv", f"index_id\tcategory\ttext\n{lines}")
    return archive


def test_sib200(run: Run, flores: Path, tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    result = run("sib200", "--data", flores, "--per-query", "-o", before)
    assert result.exit_code == 0, result.output
    assert "SIB-200 (all), builtin" in result.stdout
    assert "nearest neighbour among 2 sentences" in result.stdout
    # Into English both are cats; from English each finds its own. 4 words of 13 letters.
    assert re.search(r"ar +. Arabic +. +75\.0 +. +50\.0 +. +100\.0 +. +0\.0 +. +0\.33", result.stdout)
    assert "mean 75.0" in result.stdout
    assert "worst: ar 75.0" in result.stdout
    again = run("sib200", "--data", flores, "--baseline", before, "--json", "--langs", "ar")
    assert json.loads(again.stdout)["comparison"]["mean"]["mean"] == 0.0
    test = json.loads(run("sib200", "--data", flores, "--split", "test", "--json").stdout)
    assert (test["candidates"], test["mean"]["accuracy"]) == (1, 1.0)
    wrong = run("sib200", "--data", flores, "--split", "test", "--baseline", before)
    assert "is of SIB-200 all, and this run is of SIB-200 test" in str(refusal(wrong))
    assert run("sib200", "--data", flores, "--split", "validation").exit_code == 2
