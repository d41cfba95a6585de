"""Tables, JSON, baselines and pictures of a result."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.evaluation.conftest import FakeEncoder
from xsearch.errors import EvaluationError, MissingExtraError
from xsearch.evaluation import heatmap
from xsearch.evaluation.report import check_comparable, read_baseline, render, to_json, truncation_notes, write_json
from xsearch.evaluation.results import TaskResult
from xsearch.evaluation.run import compare_runs, evaluate
from xsearch.evaluation.tasks import load_mlqa

Write = Callable[[Mapping[str, Any]], Path]


@pytest.fixture
def result(mlqa_files: Mapping[str, Any], write_files: Write) -> TaskResult:
    return evaluate(load_mlqa(write_files(mlqa_files)), FakeEncoder(noise=0.6))


def mono_only(result: TaskResult) -> TaskResult:
    pairs = tuple(pair for pair in result.pairs if pair.doc_lang == pair.query_lang)
    return replace(result, task="XQuADRetrieval", split="validation", pairs=pairs)


def printed(renderable: Any, *, width: int = 120) -> str:
    file = StringIO()
    Console(file=file, width=width).print(renderable)
    return file.getvalue()


def test_json(result: TaskResult) -> None:
    report = json.loads(to_json(result.to_dict()))
    assert (report["task"], report["split"], report["metric"]) == ("MLQARetrieval", "dev", "ndcg@10")
    assert report["encoder"]["name"] == "fake"
    assert report["encoder"]["fingerprint"]["max_tokens"] == 8
    assert report["encoder"]["digest"] == result.encoder.digest
    assert list(report["pairs"]) == ["de-de", "de-en", "en-de", "en-en"]
    scores = {key: pair["ndcg@10"] for key, pair in report["pairs"].items()}
    assert report["mono"] == pytest.approx((scores["de-de"] + scores["en-en"]) / 2, abs=2e-5)
    assert report["cross"] == pytest.approx((scores["de-en"] + scores["en-de"]) / 2, abs=2e-5)
    assert report["mean"] == pytest.approx(sum(scores.values()) / 4, abs=2e-5)
    pair = report["pairs"]["en-de"]
    assert list(pair) == [
        "ndcg@10", "recall@1", "recall@10", "recall@100", "mrr@10", "map", "documents", "queries", "ci",
    ]  # fmt: skip
    assert (pair["documents"], pair["queries"], pair["recall@10"]) == (4, 4, 1.0)
    assert pair["ci"][0] <= pair["ndcg@10"] <= pair["ci"][1]
    for name in ("mono", "cross", "mean"):
        assert report[f"{name}_ci"][0] <= report[name] <= report[f"{name}_ci"][1]
    assert report["truncated"]["en"] == {"documents": 1, "queries": 0}
    assert report["encoded"]["de"] == {"documents": 4, "queries": 4}
    assert {"python", "numpy"} <= report["versions"].keys()
    assert report["date"].endswith("+00:00")
    assert "per_query" not in report


def test_json_with_per_query_scores_reads_back_the_same(result: TaskResult) -> None:
    report = result.to_dict(per_query=True)
    assert json.loads(to_json(report)) == report
    assert to_json(report).count("\n") < 130


def test_the_table_shows_every_pair_and_mean(result: TaskResult) -> None:
    text = printed(render(result))
    matrix = result.matrix()
    assert "MLQARetrieval (dev), fake" in text
    assert "rows: context language, columns: question language" in text
    row = next(line for line in text.splitlines() if line.startswith("│ en"))
    expected = [matrix.get("en", "de"), matrix.get("en", "en"), matrix.row_mean("en")]
    assert [cell.strip() for cell in row.split("│")[2:5]] == [f"{100 * (value or 0):.1f}" for value in expected]
    assert f"mono {100 * (matrix.mono or 0):.1f} [" in text
    assert f"cross {100 * (matrix.cross or 0):.1f} [" in text


def test_monolingual_results_are_a_list(result: TaskResult) -> None:
    text = printed(render(mono_only(result)), width=80)
    header = next(line for line in text.splitlines() if "nDCG@10" in line)
    headings = [cell.strip() for cell in header.strip("┃").split("┃")]
    assert headings == ["", "nDCG@10", "R@1", "R@10", "R@100", "MRR@10", "MAP", "docs", "queries"]
    assert "…" not in text
    assert "cross" not in text
    assert sum(line.startswith(("│ de", "│ en", "│ mean")) for line in text.splitlines()) == 3


def test_truncation_is_said(result: TaskResult) -> None:
    assert list(truncation_notes(result)) == ["en: 1 of 4 documents are longer than 8 tokens and were cut"]


def test_a_baseline_reads_back(result: TaskResult, tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    write_json(result.to_dict(per_query=True), path)
    baseline = read_baseline(path)
    assert (baseline.task, baseline.split, baseline.encoder["name"]) == ("MLQARetrieval", "dev", "fake")
    check_comparable(baseline, task="MLQARetrieval", split="dev", pairs=["en-de"])
    comparison = compare_runs(result, baseline.per_query, baseline=baseline.encoder, samples=100, seed=0)
    assert {key: round(pair.mean, 4) for key, pair in comparison.pairs.items()} == dict.fromkeys(baseline.per_query, 0)
    text = printed(render(result, comparison))
    assert "Against fake" in text
    assert "0 of 4 pairs better, 0 worse" in text


def test_baselines_that_will_not_do(result: TaskResult, tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    with pytest.raises(EvaluationError, match="cannot be read as a benchmark report"):
        read_baseline(path)
    write_json(result.to_dict(), path)
    with pytest.raises(EvaluationError, match=r"no per-query scores.*--per-query -o"):
        read_baseline(path)
    report = result.to_dict(per_query=True)
    write_json(report, path)
    with pytest.raises(EvaluationError, match="is of MLQARetrieval dev, and this run is of MLQARetrieval test"):
        check_comparable(read_baseline(path), task="MLQARetrieval", split="test", pairs=[])
    with pytest.raises(EvaluationError, match="no scores for en-vi"):
        check_comparable(read_baseline(path), task="MLQARetrieval", split="dev", pairs=["en-en", "en-vi"])
    for spoiled in ("[]", "{}", to_json(report).replace('"questions":[0,1,2,3]', '"questions":[0,1,2,9]')):
        path.write_text(spoiled)
        with pytest.raises(EvaluationError, match="cannot be read as a benchmark report"):
            read_baseline(path)


def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"mono": float("nan")}, path)
    assert path.read_text() == "old"
    with pytest.raises(EvaluationError, match="cannot be written"):
        write_json({}, tmp_path / "absent" / "scores.json")
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "data"] == ["scores.json"]


def test_pictures(result: TaskResult, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'bench'")
    for name, pictured in (("matrix.png", result), ("bars.png", mono_only(result))):
        heatmap.plot(pictured, tmp_path / name)
        content = (tmp_path / name).read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
        assert width > 600
        assert height > 250
    assert "matplotlib.pyplot" not in sys.modules
    with pytest.raises(EvaluationError, match="cannot be written"):
        heatmap.plot(result, tmp_path / "absent" / "matrix.png")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(MissingExtraError, match=r"xsearch\[bench\]"):
        heatmap.check_plotting()
