"""Tatoeba: nearest neighbours in both directions, MTEB's F1, means over groups, and a baseline."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.conftest import FakeEncoder
from xsearch.errors import EvaluationError, InvalidArgumentError
from xsearch.evaluation.report import read_baseline, write_json
from xsearch.evaluation.run import RunOptions
from xsearch.evaluation.tatoeba import compare_tatoeba, evaluate_tatoeba, load_tatoeba, weighted_f1
from xsearch.evaluation.tatoeba_results import XTREME

# The fake encoder counts cats, dogs, birds and fish, and knows no Chinese: its two sentences have one vector.
FILES = {
    "tatoeba.deu-eng.deu": "Die Katze .\nDie Katze , ein Hund und eine Katze .\nEin Vogel .\n",
    "tatoeba.deu-eng.eng": "The cat .\nThe dog .\nA bird .\n",
    "tatoeba.cmn-eng.cmn": "魚在池塘裡。\n鳥在唱歌。\n",
    "tatoeba.cmn-eng.eng": "The fish .\nA bird .\n",
}


def archive(folder: Path, files: Mapping[str, str]) -> Path:
    path = folder / "tatoeba.zip"
    with zipfile.ZipFile(path, "w") as written:
        written.writestr("tatoeba/README.md", "Not data.")
        for name, content in files.items():
            written.writestr(f"tatoeba/{name}", content)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return archive(tmp_path, FILES)


def test_accuracies_worked_out_by_hand(data: Path) -> None:
    encoder = FakeEncoder()
    result = evaluate_tatoeba(load_tatoeba(data), encoder)
    chinese, german = result.languages
    # Two cats and a dog lie nearer to the cat (2 / sqrt 5) than to the dog (1 / sqrt 5); back, the dog finds them.
    assert (german.lang, german.sentences) == ("deu", 3)
    assert (german.into_english, german.from_english) == (pytest.approx(2 / 3), 1.0)
    assert german.accuracy == pytest.approx(5 / 6)
    assert german.per_pair.values.tolist() == [1.0, 0.5, 1.0]
    # Nearest of the three are 0, 0 and 2.
    assert german.f1 == pytest.approx((2 / 3 + 0 + 1) / 3)
    # Equal vectors are told apart by their places, so one of two is right, whichever way one looks.
    assert (chinese.into_english, chinese.from_english, chinese.f1) == (0.5, 0.5, pytest.approx(1 / 3))
    assert result.means() == {"mean": pytest.approx((5 / 6 + 1 / 2) / 2)}
    assert result.means("f1") == {"mean": pytest.approx((5 / 9 + 1 / 3) / 2)}
    # Each distinct text goes through one door, once.
    assert {side for side, _ in encoder.encoded} == {"query"}
    assert sorted(text for _, text in encoder.encoded) == sorted(
        {line for content in FILES.values() for line in content.splitlines()}
    )


def test_f1_is_that_of_scikit_learn() -> None:
    """sklearn.metrics.f1_score([0, 1, 2, 3], [1, 1, 1, 3], average="weighted") is 0.375."""
    assert weighted_f1(np.array([1, 1, 1, 3])) == pytest.approx((0 + 2 / 4 + 0 + 1) / 4)
    assert weighted_f1(np.array([0, 1, 2])) == 1.0
    assert weighted_f1(np.array([1, 0])) == 0.0


@pytest.mark.parametrize("langs", [["de"], ["deu"], ["DEU", "en"], ["German"]])
def test_languages_by_any_code(data: Path, langs: list[str]) -> None:
    (found,) = load_tatoeba(data, langs=langs)
    assert (found.key, found.english) == ("deu-eng", ("The cat .", "The dog .", "A bird ."))


def test_chinese_by_its_common_code(data: Path) -> None:
    assert [found.lang for found in load_tatoeba(data, langs=["zh", "de"])] == ["cmn", "deu"]


@pytest.mark.parametrize("langs", [["fr"], ["nonsense"], ["en"]])
def test_a_language_that_is_not_there(data: Path, langs: list[str]) -> None:
    with pytest.raises(EvaluationError, match=f"no data in {langs[0]}. The languages there are cmn, deu, each with"):
        load_tatoeba(data, langs=langs)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tatoeba.deu-eng.eng", "The cat .\nThe dog .\n", "deu-eng.deu has 3 lines, and tatoeba.deu-eng.eng 2"),
        ("tatoeba.deu-eng.deu", "Die Katze .\n\nEin Vogel .\n", r"deu-eng.deu:2 is empty"),
        ("tatoeba.deu-eng.deu", "", r"deu-eng.deu:1 is empty"),
        ("tatoeba.fra-eng.fra", "Le chat .\n", "holds tatoeba.fra-eng.fra alone. tatoeba.fra-eng.eng"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        load_tatoeba(archive(tmp_path, {**FILES, name: content}))


def test_a_folder_without_the_files(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"holds no tatoeba\.XXX-eng\.XXX"):
        load_tatoeba(tmp_path)


def test_white_space_and_line_ends_do_not_count(tmp_path: Path) -> None:
    files = {name: content.replace("\n", " \r\n") for name, content in FILES.items()}
    assert load_tatoeba(archive(tmp_path, files), langs=["de"])[0].sentences[0] == "Die Katze ."


def test_the_group_of_xtreme_is_whole_or_left_out(tmp_path: Path) -> None:
    assert len(XTREME) == 36
    files = {}
    for lang in sorted(XTREME | {"yid"}):
        right = "cat" if lang != "yid" else "dog"
        files[f"tatoeba.{lang}-eng.{lang}"] = f"{right}\nfish\n"
        files[f"tatoeba.{lang}-eng.eng"] = "cat\nfish\n" if lang != "yid" else "fish\ndog\n"
    result = evaluate_tatoeba(load_tatoeba(archive(tmp_path, files)), FakeEncoder(), options=RunOptions(bootstrap=0))
    assert result.means() == {"mean": pytest.approx(36 / 37), "xtreme36": 1.0}
    without = load_tatoeba(tmp_path / "tatoeba.zip")[1:]
    assert list(evaluate_tatoeba(without, FakeEncoder(), options=RunOptions(bootstrap=0)).means()) == ["mean"]


def test_the_report(data: Path) -> None:
    report = evaluate_tatoeba(load_tatoeba(data, langs=["de"]), FakeEncoder()).to_dict(per_query=True)
    scores = {"accuracy": 0.83333, "into_english": 0.66667, "from_english": 1.0, "f1": 0.55556}
    assert {key: report[key] for key in ("task", "split", "metric")} == {
        "task": "Tatoeba", "split": "test", "metric": "accuracy",
    }  # fmt: skip
    assert report["mean"] == {**scores, "languages": 1, "ci": [0.5, 1.0]}
    assert report["pairs"] == {"deu-eng": {**scores, "sentences": 3, "ci": [0.5, 1.0]}}
    # 9 words and marks in the second sentence, and room for 6 beside what the encoder adds.
    assert report["truncated"] == {"deu": 1}
    assert report["per_query"]["pairs"]["deu-eng"]["accuracy"] == [1.0, 0.5, 1.0]
    assert "xtreme36" not in report
    assert json.loads(json.dumps(report)) == report


def test_a_baseline(data: Path, tmp_path: Path) -> None:
    pairs = load_tatoeba(data)
    path = tmp_path / "before.json"
    write_json(evaluate_tatoeba(pairs, FakeEncoder(name="noisy", noise=0.9)).to_dict(per_query=True), path)
    baseline = read_baseline(path)
    ours = evaluate_tatoeba(pairs, FakeEncoder())
    before = {key: float(scores.values.mean()) for key, scores in baseline.per_query.items()}
    found = compare_tatoeba(ours, baseline.per_query, baseline=baseline.encoder, samples=200, seed=0)
    assert found.baseline["name"] == "noisy"
    assert found.pairs["deu-eng"].mean == pytest.approx(5 / 6 - before["deu-eng"], abs=1e-5)
    assert found.means["mean"].mean == pytest.approx(2 / 3 - sum(before.values()) / 2, abs=1e-5)
    only_german = {"deu-eng": baseline.per_query["deu-eng"]}
    with pytest.raises(InvalidArgumentError, match="Only one of the two runs has cmn-eng"):
        compare_tatoeba(ours, only_german, baseline=baseline.encoder, samples=200, seed=0)


def test_a_sentence_that_is_there_twice_keeps_its_own_score(tmp_path: Path) -> None:
    files = {"tatoeba.deu-eng.deu": "Hund\nKatze\nein Hund\n", "tatoeba.deu-eng.eng": "dog\ncat\ndog\n"}
    (found,) = evaluate_tatoeba(load_tatoeba(archive(tmp_path, files)), FakeEncoder()).languages
    assert len(set(found.per_pair.question_ids)) == 3


@pytest.mark.shared
def test_counts_are_as_published(shared: Path) -> None:
    """Artetxe and Schwenk, appendix: 112 languages; fewer than 1000 pairs where Tatoeba had no more."""
    counts = {found.lang: len(found.english) for found in load_tatoeba(shared / "data" / "eval" / "tatoeba.zip")}
    assert len(counts) == 112
    assert sum(count == 1000 for count in counts.values()) == 72
    assert {lang: counts[lang] for lang in ("deu", "cmn", "hin", "ara", "tha", "tam", "kat", "gsw", "tzl")} == {
        "deu": 1000, "cmn": 1000, "hin": 1000, "ara": 1000, "tha": 548, "tam": 307, "kat": 746, "gsw": 117, "tzl": 104,
    }  # fmt: skip
    assert counts.keys() >= XTREME
