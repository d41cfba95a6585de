"""The texts that pieces are counted on: both sides of pairs, questions, plain files; what is refused is named."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from xsearch.errors import PairError, TrainingError
from xsearch.training import language_texts as module
from xsearch.training.language_texts import language_texts, read_texts, text_languages
from xsearch.training.recipe import DataTable
from xsearch.training.selection import Example, Kind

ENGLISH = [f"The farmer number {number} keeps goats behind his old house by the river." for number in range(30)]
GERMAN = [f"Der Bauer Nummer {number} hält Ziegen hinter seinem alten Haus am Fluss." for number in range(30)]


def pairs(lang: str = "de") -> list[Example]:
    return [Example(Kind.SENTENCE, lang, de, en, "news") for de, en in zip(GERMAN, ENGLISH, strict=True)]


def test_both_sides_count_each_text_once() -> None:
    found = language_texts([*pairs(), *pairs()[:5]], {}, DataTable(), 1)
    assert Counter(found["de"]) == Counter(GERMAN)
    assert Counter(found["en"]) == Counter(ENGLISH)
    assert list(found) == ["de", "en"]
    assert found["de"] != GERMAN  # in random order, the same for the same seed
    assert found == language_texts([*pairs(), *pairs()[:5]], {}, DataTable(), 1)
    assert found["de"] != language_texts(pairs(), {}, DataTable(), 2)["de"]


def test_a_passage_counts_in_its_questions_language_or_else_in_english() -> None:
    asked = [
        *(Example(Kind.QUESTION, "de", "Wer hält Ziegen?", passage, "quiz") for passage in GERMAN),
        *(Example(Kind.QUESTION, "sw", f"Nani anafuga mbuzi {n}? " * 9, ENGLISH[n], "afri") for n in range(9)),
    ]
    found = language_texts(asked, {"en": ENGLISH}, DataTable(), 1)
    assert Counter(found["de"]) == Counter([*GERMAN, "Wer hält Ziegen?"])
    assert not set(found["sw"]) & set(ENGLISH)
    assert Counter(found["en"]) == Counter(ENGLISH)


def test_a_language_of_weight_0_is_left_out() -> None:
    table = DataTable(languages={"de": 0.0})
    assert list(language_texts(pairs(), {}, table, 1)) == ["en"]
    assert list(language_texts(pairs(), {}, DataTable(languages={"en": 1.0}, default_weight=0.0), 1)) == ["en"]


def test_more_texts_join_those_of_the_examples() -> None:
    found = language_texts(
        pairs(), {"de": ["Noch ein Satz.", GERMAN[0]], "cs": ["Ještě jedna věta. " * 70]}, DataTable(), 1
    )
    assert Counter(found["de"]) == Counter([*GERMAN, "Noch ein Satz."])
    assert found["cs"] == ["Ještě jedna věta. " * 70]


def test_much_text_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CHARACTERS", 1_100)
    found = language_texts(pairs(), {}, DataTable(), 1)["de"]
    assert sum(map(len, found[:-1])) < 1_100 <= sum(map(len, found))
    assert set(found) < set(GERMAN)


def test_a_language_with_too_little_text_is_named() -> None:
    few = [*pairs(), Example(Kind.SENTENCE, "hy", "Բարև", "Hello", "udhr")]
    with pytest.raises(TrainingError) as caught:
        language_texts(few, {}, DataTable(), 1)
    assert str(caught.value) == (
        "hy has the weight 1, and the data has 4 characters of it. At least 1,000 are needed to count its pieces. "
        "Set data.languages.hy to 0, or name texts of it in vocabulary.texts."
    )
    assert "hy" not in language_texts(few, {}, DataTable(languages={"hy": 0}), 1)


class TestFiles:
    def test_lines_by_the_language_in_the_name(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "news.cs.txt").write_text("Jedna věta.\n\n  Druhá věta.  \n", encoding="utf-8")
        (tmp_path / "data" / "more.news.zh-hant.txt.gz").write_bytes(gzip.compress("一個句子。\n".encode()))
        table = DataTable(folder="data")
        assert read_texts(table, ["*.txt*"], tmp_path) == {
            "zh-Hant": ["一個句子。"],
            "cs": ["Jedna věta.", "Druhá věta."],
        }
        assert text_languages(table, ["*.txt*"], tmp_path) == {"cs", "zh-Hant"}
        assert read_texts(table, [], tmp_path) == {} and text_languages(table, [], tmp_path) == set()

    def test_what_overlaps_the_evaluation_is_left_out(self, tmp_path: Path) -> None:
        held = "Der Hund des Nachbarn schläft heute wieder unter dem Apfelbaum."
        (tmp_path / "test.txt").write_text(held + "\n", encoding="utf-8")
        (tmp_path / "own.de.txt").write_text(f"{held}\nDie Katze wartet.\n", encoding="utf-8")
        table = DataTable(evaluation=("test.txt",))
        assert read_texts(table, ["own.*"], tmp_path) == {"de": ["Die Katze wartet."]}

    @pytest.mark.parametrize(
        ("name", "words"),
        [("news.txt", r"news\.txt is named"), ("a.xx1.txt", "'xx1' is no lang"), ("a.de.tsv", "a.de.tsv")],
    )
    def test_a_name_without_a_language(self, tmp_path: Path, name: str, words: str) -> None:
        (tmp_path / name).write_text("Text\n")
        with pytest.raises(TrainingError, match=words + r".*NAME\.LANG\.txt.*Rename it"):
            read_texts(DataTable(), [name], tmp_path)

    def test_files_that_are_not_there_or_not_text(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match="No file matches"):
            read_texts(DataTable(), ["none.*.txt"], tmp_path)
        (tmp_path / "a.de.txt").write_bytes(b"gut\n\xff\xfe\n")
        with pytest.raises(PairError, match=r"a\.de\.txt:2: this line is not UTF-8"):
            read_texts(DataTable(), ["a.de.txt"], tmp_path)
