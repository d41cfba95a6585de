"""SIB-200 as a bitext: rows joined by id, accuracy and spelling by hand, languages by any code."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.evaluation.conftest import FakeEncoder
from xsearch.errors import EvaluationError
from xsearch.evaluation.report import read_baseline, write_json
from xsearch.evaluation.run import RunOptions, compare_runs
from xsearch.evaluation.sib200 import Sib200Split, evaluate_sib200, load_sib200, measure_spelling

HEAD = "index_id\tcategory\ttext\n"
ENGLISH = {9: "the cat", 10: "the dog", 200: "a bird"}
# Two cats and a dog, where the dog is meant; the rows are in another order.
GERMAN = {200: "ein Vogel", 10: "Katze Katze Hund", 9: "die Katze"}
CHINESE = {9: "貓", 10: "狗", 200: "鳥"}


def rows(sentences: Mapping[int, str]) -> str:
    return HEAD + "".join(f"{number}\tsports\t{text}\n" for number, text in sentences.items())


def files(**languages: Mapping[int, str]) -> dict[str, str]:
    """The sentence 200 is in the test part, 10 in dev, 9 in train."""
    parts = {"train": 9, "dev": 10, "test": 200}
    return {
        f"{code}/{part}.tsv": rows({key: text for key, text in sentences.items() if key == number})
        for code, sentences in languages.items()
        for part, number in parts.items()
    }


FILES = files(eng_Latn=ENGLISH, deu_Latn=GERMAN, zho_Hant=CHINESE)


def archive(folder: Path, content: Mapping[str, str]) -> Path:
    path = folder / "sib.zip"
    with zipfile.ZipFile(path, "w") as written:
        written.writestr("README.md", "Not data.")
        for name, text in content.items():
            written.writestr(f"annotated/{name}", text)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return archive(tmp_path, FILES)


def test_rows_join_on_their_ids_in_the_order_of_numbers(data: Path) -> None:
    found = load_sib200(data)
    assert found.ids == ("9", "10", "200")
    assert found.texts == {
        "deu_Latn": ("die Katze", "Katze Katze Hund", "ein Vogel"),
        "eng_Latn": ("the cat", "the dog", "a bird"),
        "zho_Hant": ("貓", "狗", "鳥"),
    }


def test_one_part(data: Path) -> None:
    found = load_sib200(data, split=Sib200Split.TEST)
    assert (found.split, found.ids, found.texts["deu_Latn"]) == (Sib200Split.TEST, ("200",), ("ein Vogel",))


def test_a_folder(tmp_path: Path) -> None:
    for name, text in FILES.items():
        path = tmp_path / "data" / "annotated" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert load_sib200(tmp_path / "data") == load_sib200(archive(tmp_path, FILES))


@pytest.mark.parametrize("langs", [["de"], ["deu_Latn"], ["German", "en"], ["deu"]])
def test_languages_by_any_code(data: Path, langs: list[str]) -> None:
    assert list(load_sib200(data, langs=langs).texts) == ["deu_Latn", "eng_Latn"]


def test_a_script_that_is_not_the_usual_one(data: Path) -> None:
    assert "zho_Hant" in load_sib200(data, langs=["zh-Hant"]).texts
    with pytest.raises(EvaluationError, match="There is no data in zh"):
        load_sib200(data, langs=["zh"])


@pytest.mark.parametrize("langs", [["fr"], ["nonsense"], ["en"]])
def test_a_language_that_is_not_there(data: Path, langs: list[str]) -> None:
    with pytest.raises(
        EvaluationError, match=f"no data in {langs[0]}. The languages there are deu_Latn, eng_Latn, zho"
    ):
        load_sib200(data, langs=langs)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("deu_Latn/dev.tsv", "id\tcategory\ttext\n", r"deu_Latn/dev.tsv:1 is not a row of SIB-200"),
        ("deu_Latn/dev.tsv", HEAD + "10\tsports\n", r"deu_Latn/dev.tsv:2 is not a row"),
        ("deu_Latn/dev.tsv", HEAD + "10\tsports\t \n", r"deu_Latn/dev.tsv:2 is not a row"),
        ("deu_Latn/dev.tsv", rows(ENGLISH) + "10\tsports\tHund\n", r"deu_Latn/dev.tsv:2 is not a row"),
        ("deu_Latn/dev.tsv", HEAD + "11\tsports\tHund\n", r"the sentence 10 in only one of eng_Latn and deu_Latn"),
        ("deu_Latn/dev.tsv", "", r"deu_Latn/dev.tsv:1 is empty"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        load_sib200(archive(tmp_path, {**FILES, name: content}))


def test_a_part_or_english_missing(tmp_path: Path) -> None:
    without = {name: text for name, text in FILES.items() if name != "deu_Latn/dev.tsv"}
    with pytest.raises(EvaluationError, match=r"has no deu_Latn/dev\.tsv"):
        load_sib200(archive(tmp_path, without))
    with pytest.raises(EvaluationError, match=r"has no eng_Latn/train\.tsv"):
        load_sib200(archive(tmp_path, files(deu_Latn=GERMAN)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match=r"holds no LANG_Script/train\.tsv"):
        load_sib200(tmp_path / "empty")


def test_accuracies_worked_out_by_hand(data: Path) -> None:
    encoder = FakeEncoder()
    result = evaluate_sib200(load_sib200(data), encoder)
    german, chinese = result.languages
    # Two cats and a dog lie nearer to the cat (2 / sqrt 5) than to the dog (1 / sqrt 5); back, the dog finds them.
    assert (german.code, german.lang) == ("deu_Latn", "de")
    assert (german.into_english, german.from_english) == (pytest.approx(2 / 3), 1.0)
    assert german.per_pair.values.tolist() == [1.0, 0.5, 1.0]
    # Chinese is unknown to it: one vector, of equal ones the last place, so one of three is right each way.
    assert (chinese.lang, chinese.into_english, chinese.from_english) == (
        "zh-Hant",
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
    )
    assert result.mean == pytest.approx((5 / 6 + 1 / 3) / 2)
    assert result.median == result.mean
    assert [language.code for language in result.worst] == ["zho_Hant", "deu_Latn"]
    assert result.sentences == 3
    assert {side for side, _ in encoder.encoded} == {"query"}
    assert len(encoder.encoded) == len(set(encoder.encoded)) == 9


def test_the_median_and_the_ten_worst_of_many(tmp_path: Path) -> None:
    # Language n has its first n of 3 sentences right, the others empty of what the encoder knows.
    right = list(ENGLISH.values())
    languages = {f"a{letter}{letter}_Latn": {9: right[0], 10: right[1], 200: right[2]} for letter in "bcdefghijklm"}
    languages["xxx_Latn"] = {9: "dog", 10: "bird", 200: "cat"}
    result = evaluate_sib200(
        load_sib200(archive(tmp_path, files(eng_Latn=ENGLISH, **languages))),
        FakeEncoder(),
        options=RunOptions(bootstrap=0),
    )
    assert (result.mean, result.median) == (pytest.approx(12 / 13), 1.0)
    assert len(result.worst) == 10
    assert (result.worst[0].code, result.worst[0].accuracy) == ("xxx_Latn", 0.0)
    assert result.interval is None


def test_spelling_worked_out_by_hand() -> None:
    # The fake encoder has a token for each word, knows no ☃, and reads six words beside its own two tokens.
    found = measure_spelling(FakeEncoder(), ["ab cd", "☃☃ x", "1 2 3 4 5 6 7"])
    assert found.unknown == pytest.approx(2 / 14)
    assert found.tokens_per_character == pytest.approx((2 + 2 + 7) / 14)
    assert found.cut == 1
    nothing = measure_spelling(FakeEncoder(), [])
    assert (nothing.unknown, nothing.tokens_per_character, nothing.cut) == (0.0, 0.0, 0)


def test_the_report(data: Path) -> None:
    report = evaluate_sib200(load_sib200(data, langs=["de"]), FakeEncoder()).to_dict(per_query=True)
    assert {key: report[key] for key in ("task", "split", "metric", "candidates", "median", "worst")} == {
        "task": "SIB-200", "split": "all", "metric": "accuracy", "candidates": 3, "median": 0.83333,
        "worst": {"deu_Latn": 0.83333},
    }  # fmt: skip
    assert report["mean"] == {"accuracy": 0.83333, "languages": 1, "ci": [0.5, 1.0]}
    # die Katze, Katze Katze Hund, ein Vogel: 7 words of 30 letters.
    assert report["pairs"]["deu_Latn-eng_Latn"] == {
        "lang": "de", "accuracy": 0.83333, "into_english": 0.66667, "from_english": 1.0, "unknown": 0.0,
        "tokens_per_character": round(7 / 30, 5), "cut": 0, "ci": [0.5, 1.0],
    }  # fmt: skip
    assert report["english"]["tokens_per_character"] == round(6 / 17, 5)
    assert json.loads(json.dumps(report)) == report


def test_a_baseline(data: Path, tmp_path: Path) -> None:
    sentences, path = load_sib200(data), tmp_path / "before.json"
    noisy = evaluate_sib200(sentences, FakeEncoder(name="noisy", noise=0.9))
    write_json(noisy.to_dict(per_query=True), path)
    baseline = read_baseline(path)
    ours = evaluate_sib200(sentences, FakeEncoder())
    found = compare_runs(ours, baseline.per_query, baseline=baseline.encoder, samples=100, seed=0)
    assert found.means["mean"].mean == pytest.approx(ours.mean - noisy.mean, abs=1e-5)
    assert list(found.pairs) == ["deu_Latn-eng_Latn", "zho_Hant-eng_Latn"]


@pytest.mark.shared
def test_counts_are_as_published(shared: Path) -> None:
    """Adelani et al., table 1: 205 languages, 701 + 99 + 204 sentences."""
    data = shared / "data" / "eval" / "sib-200.zip"
    found = load_sib200(data)
    assert (len(found.texts), len(found.ids)) == (205, 1004)
    assert {len(texts) for texts in found.texts.values()} == {1004}
    counts = {split: len(load_sib200(data, split=split, langs=["de"]).ids) for split in Sib200Split}
    assert list(counts.values()) == [1004, 701, 99, 204]
