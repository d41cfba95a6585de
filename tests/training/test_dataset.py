"""Parallel data of the datasets library, from folders; and what is said when it is not there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from xsearch.errors import MissingExtraError, PairError
from xsearch.training.dataset import DatasetName, parse_dataset_name
from xsearch.training.pairs import OnError, Pair, PairOptions, read_pairs

datasets = pytest.importorskip("datasets", reason="needs the extra train")

EN_DE = PairOptions(source_lang="en", target_lang="de")
ROWS = [{"translation": {"en": "one", "de": "eins"}}, {"translation": {"en": " two", "de": "zwei "}}]


def save(folder: Path, **splits: list[dict[str, Any]]) -> str:
    made = {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}
    datasets.DatasetDict(made).save_to_disk(str(folder / "books"))
    return f"datasets:{folder / 'books'}"


def sides(source: str, options: PairOptions = EN_DE) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in read_pairs(source, options)]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("datasets:opus_books", DatasetName("opus_books", "", "")),
        ("datasets:Helsinki-NLP/opus-100:de-en", DatasetName("Helsinki-NLP/opus-100", "de-en", "")),
        ("datasets:Helsinki-NLP/opus-100:de-en:test", DatasetName("Helsinki-NLP/opus-100", "de-en", "test")),
        ("datasets:flores:dev", DatasetName("flores", "", "dev")),
        ("datasets:flores::devtest", DatasetName("flores", "", "devtest")),
    ],
)
def test_names(source: str, name: DatasetName) -> None:
    assert parse_dataset_name(source) == name


@pytest.mark.parametrize("source", ["datasets:", "datasets::a", "datasets:a:b:c:d"])
def test_names_that_are_none(source: str) -> None:
    with pytest.raises(PairError, match="this does not name a dataset"):
        list(read_pairs(source, EN_DE))


def test_a_translation_column(tmp_path: Path) -> None:
    source = save(tmp_path, train=ROWS)
    assert list(read_pairs(source, EN_DE)) == [
        Pair("one", "eins", "en", "de", "books", 1),
        Pair("two", "zwei", "en", "de", "books", 2),
    ]
    assert sides(source, PairOptions(source_lang="de", target_lang="en")) == [("eins", "one"), ("zwei", "two")]


def test_splits(tmp_path: Path) -> None:
    source = save(tmp_path, train=ROWS[:1], test=ROWS[1:])
    assert sides(source) == [("one", "eins")]
    assert sides(f"{source}:test") == [("two", "zwei")]
    with pytest.raises(PairError, match=r"no split 'dev'\. The splits there are train, test"):
        sides(f"{source}:dev")


def test_the_only_split_needs_no_name(tmp_path: Path) -> None:
    assert sides(save(tmp_path, validation=ROWS[:1])) == [("one", "eins")]


def test_columns_by_language_and_by_name(tmp_path: Path) -> None:
    source = save(tmp_path, train=[{"id": 7, "eng": "one", "deu_Latn": "eins", "src": "two", "tgt": "zwei"}])
    assert sides(source) == [("one", "eins")]
    named = PairOptions(source_lang="en", target_lang="de", source_field="src", target_field="tgt", origin="o")
    assert list(read_pairs(source, named)) == [Pair("two", "zwei", "en", "de", "o", 1)]


def test_a_folder_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    assert sides(f"datasets:{folder}") == [("one", "eins"), ("two", "zwei")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"en": "two", "de": None}, "this row has no text in 'de'. It has 'en', 'de'"),
        ({"en": "  ", "de": "zwei"}, "this row has no text in 'en'"),
    ],
)
def test_malformed_rows(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    source = save(tmp_path, train=[{"en": "one", "de": "eins"}, row, {"en": "three", "de": "drei"}])
    with pytest.raises(PairError) as caught:
        sides(source)
    assert f"{source}:2: {reason}" in str(caught.value)
    skipped: list[PairError] = []
    options = PairOptions(source_lang="en", target_lang="de", on_error=OnError.SKIP)
    assert [pair.line for pair in read_pairs(source, options, on_skip=skipped.append)] == [1, 3]
    assert [error.line for error in skipped] == [2]


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    source = save(tmp_path, train=[{"french": "un", "german": "eins"}])
    with pytest.raises(PairError, match=r"no text for 'en'\. It has 'french', 'german'"):
        sides(source)


def test_languages_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(PairError, match="does not say its languages"):
        list(read_pairs(save(tmp_path, train=ROWS)))


def test_the_hub_is_not_asked_offline() -> None:
    with pytest.raises(PairError, match=r"^datasets:opus_books: this dataset lies on the hub, and HF_HUB_OFFLINE"):
        sides("datasets:opus_books")


def test_a_damaged_folder(tmp_path: Path) -> None:
    source = save(tmp_path, train=ROWS)
    next((tmp_path / "books" / "train").glob("*.arrow")).write_bytes(b"ARROW?")
    with pytest.raises(PairError, match="the dataset cannot be opened"):
        sides(source)


def test_the_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r'pip install "xsearch\[train\]"'):
        list(read_pairs("datasets:anything", EN_DE))
