"""The examples of a run, from files: what is read, filtered, weighed and refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from xsearch.errors import PairError, TrainingError
from xsearch.training.collect import Collection, collect
from xsearch.training.filters import Reason
from xsearch.training.recipe import DataTable
from xsearch.training.selection import Kind

CONTEXT = "The old lighthouse on the northern cape was built of red brick in 1871 and still burns every night."
GERMAN_CONTEXT = "Der alte Leuchtturm am nördlichen Kap wurde 1871 aus roten Ziegeln gebaut und brennt noch jede Nacht."
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
ZAHLEN = ("eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf")


def english(row: int) -> str:
    first, second = NUMBERS[row % 12], NUMBERS[row // 12]
    more = " indeed" * (row % 4)
    return f"On the {first} of the {second} boats there was a captain who had sailed round the whole world{more}"


def german(row: int) -> str:
    first, second = ZAHLEN[row % 12], ZAHLEN[row // 12]
    more = " jawohl" * (row % 4)
    return f"Auf dem Boot {first} von {second} gab es einen Kapitän, der um die ganze Welt gesegelt war{more}"


def french(row: int) -> str:
    first, second = ("un", "deux", "trois")[row % 3], row // 3
    return f"Sur le bateau {first} de la flotte {second} il y avait un capitaine qui avait fait le tour du monde"


def write(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    path.write_text("".join(f"{left}\t{right}\n" for left, right in rows), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "news.en-de.tsv", [(english(row), german(row)) for row in range(60)])
    write(tmp_path / "news.en-fr.tsv", [(english(row), french(row)) for row in range(30)])
    names = [("Nvidia", "Nvidia"), ("dog", "Hund"), ("night watch", "Nachtwache"), ("boat", "Boot")]
    write(tmp_path / "names.of.things.en-de.tsv", names)
    return tmp_path


def table(**changes: Any) -> DataTable:
    values: dict[str, Any] = {
        "parallel": ("news.*.tsv",), "sentences": 1000, "term_pairs": 1000, "passages": 0, "english": 0,
    }  # fmt: skip
    return DataTable(**values | changes)


def texts(found: Collection, kind: Kind, lang: str) -> list[str]:
    return sorted(example.text for example in found.examples if example.kind is kind and example.lang == lang)


def test_all_that_passes_is_taken_where_more_is_asked_for(folder: Path) -> None:
    told: list[str] = []
    found = collect(
        table(terms=("names.*",), passages=2, english=10, passage_words=40),
        folder,
        13,
        on_file=lambda path: told.append(path.name),
    )
    assert texts(found, Kind.SENTENCE, "de") == sorted(german(row) for row in range(60))
    assert texts(found, Kind.SENTENCE, "fr") == sorted(french(row) for row in range(30))
    # A name may be the same in both languages.
    assert texts(found, Kind.TERM, "de") == ["Boot", "Hund", "Nachtwache", "Nvidia"]
    assert [(example.kind, example.lang) for example in found.examples if example.kind is Kind.PASSAGE] == [
        (Kind.PASSAGE, "de"),
        (Kind.PASSAGE, "de"),
        (Kind.PASSAGE, "fr"),
        (Kind.PASSAGE, "fr"),
    ]
    sides = [example.text for example in found.examples if example.kind is Kind.ENGLISH]
    assert len(sides) == 7 + min(3, len({e.english for e in found.examples if e.kind is Kind.PASSAGE}))
    assert set(sides) <= {example.english for example in found.examples if example.lang != "en"}
    assert told == ["news.en-de.tsv", "names.of.things.en-de.tsv", "news.en-fr.tsv"]
    assert [path.name for path in found.files] == ["names.of.things.en-de.tsv", "news.en-de.tsv", "news.en-fr.tsv"]
    assert (found.report.seen, found.report.kept) == (94, 94)


def test_each_language_takes_its_weight(folder: Path) -> None:
    found = collect(table(sentences=10, languages={"de": 3.0, "fr": 0.5}), folder, 13)
    assert Counter(example.lang for example in found.examples) == {"de": 30, "fr": 5}
    assert set(texts(found, Kind.SENTENCE, "fr")) < {french(row) for row in range(30)}
    only = collect(table(sentences=10, default_weight=0.0, languages={"de": 1.0}), folder, 13)
    assert Counter(example.lang for example in only.examples) == {"de": 10}
    assert [path.name for path in only.files] == ["news.en-de.tsv"]


def test_each_source_takes_its_weight(folder: Path) -> None:
    write(folder / "talks.en-de.tsv", [(f"{english(row)} twice", f"{german(row)} zweimal") for row in range(60)])
    write(folder / "noise.en-de.tsv", [(f"{english(row)} again", f"{german(row)} wieder") for row in range(60)])
    asked = table(
        parallel=("*.en-de.tsv",), terms=("names.*",), term_pairs=0, sentences=40, sources={"talks": 3.0, "noise": 0.0}
    )
    found = collect(asked, folder, 13)
    assert Counter(example.origin for example in found.examples) == {"news": 10, "talks": 30}


def test_the_seed_decides(folder: Path) -> None:
    asked = table(sentences=10, passages=2, english=5, passage_words=40)
    first = collect(asked, folder, 13).examples
    assert collect(asked, folder, 13).examples == first
    assert collect(asked, folder, 14).examples != first


def test_nothing_that_overlaps_evaluation_data_is_left(folder: Path) -> None:
    squad = {"data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": [
        {"id": "1", "question": "Who had sailed round the whole cape in a boat?", "answers": []}
    ]}]}]}  # fmt: skip
    (folder / "test.json").write_text(json.dumps(squad), encoding="utf-8")
    (folder / "lines.txt").write_text(f"{german(3)}\n{english(5)}\n", encoding="utf-8")
    rows = [(CONTEXT, GERMAN_CONTEXT), ("We know that the old lighthouse on the northern cape was white", "Wir wissen")]
    write(folder / "leaks.en-de.tsv", rows)
    questions = [
        {"question": "Who built it in that year?", "context": f"It is told that {CONTEXT}", "lang": "en"},
        {"question": "Who had sailed round the whole cape in a boat?", "context": "Ann had, long ago.", "lang": "en"},
        {"question": "Who had been round the world?", "context": "Ann had, long ago.", "lang": "en"},
        {"question": "", "context": "Ann had, long ago.", "lang": "en"},
    ]
    (folder / "ask.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions), encoding="utf-8")
    asked = table(
        parallel=("*.en-de.tsv",), terms=("names.*",), evaluation=("test.json", "lines.txt"), questions=("ask.jsonl",),
        passages=100, passage_words=40, english=100,
    )  # fmt: skip
    found = collect(asked, folder, 13)
    assert texts(found, Kind.SENTENCE, "de") == sorted(german(row) for row in range(60) if row not in (3, 5))
    every = [text for example in found.examples for text in (example.text, example.english)]
    assert [text for text in every if german(3) in text or english(5) in text or "lighthouse" in text] == []
    assert [(e.text, e.english, e.lang, e.origin) for e in found.examples if e.kind is Kind.QUESTION] == [
        ("Who had been round the world?", "Ann had, long ago.", "en", "ask")
    ]
    assert found.report.removed(Reason.EVALUATION) == 6
    assert found.report.to_dict()["malformed"] == {str(folder / "ask.jsonl"): 1}


def test_a_passage_that_overlaps_only_as_a_whole_is_left_out(folder: Path) -> None:
    run = " ".join(english(7).split()[-4:] + english(8).split()[:4])
    squad = {"data": [{"title": "t", "paragraphs": [{"context": run, "qas": []}]}]}
    (folder / "test.json").write_text(json.dumps(squad), encoding="utf-8")
    every = collect(table(passages=100, passage_words=40), folder, 13)
    found = collect(table(evaluation=("test.json",), passages=100, passage_words=40), folder, 13)
    touched = [example for example in every.examples if run in example.english]
    assert {example.kind for example in touched} == {Kind.PASSAGE}
    assert not any(run in example.english for example in found.examples)
    assert found.report.removed(Reason.EVALUATION) == len(touched)
    assert texts(found, Kind.SENTENCE, "de") == texts(every, Kind.SENTENCE, "de")


def test_repeats_and_wrong_scripts_go_and_are_counted(folder: Path) -> None:
    extra = [(english(0), german(0)), (english(61), "Авторские права"), ("Same text here", "same text here")]
    write(folder / "news2.en-de.tsv", extra)
    found = collect(table(parallel=("news*.en-de.tsv",)), folder, 13)
    assert texts(found, Kind.SENTENCE, "de") == sorted(german(row) for row in range(60))
    report = found.report
    assert [report.removed(why) for why in (Reason.DUPLICATE, Reason.SCRIPT, Reason.IDENTICAL)] == [1, 1, 1]


def test_files_with_english_second_are_turned_round(folder: Path) -> None:
    write(folder / "back.de-en.tsv", [(german(row), english(row)) for row in range(3)])
    found = collect(table(parallel=("back.*",)), folder, 13)
    assert sorted((e.lang, e.text, e.english) for e in found.examples) == sorted(
        ("de", german(row), english(row)) for row in range(3)
    )


def test_moses_pairs_are_named_by_their_two_languages(folder: Path) -> None:
    (folder / "talks.en").write_text("".join(f"{english(row)}\n" for row in range(5)), encoding="utf-8")
    (folder / "talks.de").write_text("".join(f"{german(row)}\n" for row in range(5)), encoding="utf-8")
    found = collect(table(parallel=("talks.en-de",)), folder, 13)
    assert texts(found, Kind.SENTENCE, "de") == sorted(german(row) for row in range(5))
    assert {example.origin for example in found.examples} == {"talks"}


def test_patterns_may_be_absolute(folder: Path) -> None:
    found = collect(table(parallel=(str(folder / "news.en-f*.tsv"),)), folder / "elsewhere", 13)
    assert texts(found, Kind.SENTENCE, "fr") == sorted(french(row) for row in range(30))


@pytest.mark.parametrize("lang", ["zho", "deu"])
def test_languages_are_known_under_any_code(folder: Path, lang: str) -> None:
    (folder / "news.en-de.tsv").rename(folder / f"old.en-{lang}.tsv")
    if lang == "deu":
        found = collect(table(parallel=("old.*",), sentences=10, languages={"de": 2.0}), folder, 13)
        assert Counter(example.lang for example in found.examples) == {"de": 20}
    else:
        with pytest.raises(TrainingError, match="No rows of zh are left"):  # German is not written in Chinese
            collect(table(parallel=("old.*",)), folder, 13)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parallel": ("none.*.tsv",)}, r"No file matches .*none\.\*\.tsv"),
        ({"parallel": ("",)}, "No file matches"),
        ({"terms": ("none.*",)}, "No file matches"),
        ({"questions": ("none.jsonl",)}, "No file matches"),
        ({"evaluation": ("none.zip",)}, "No file matches"),
        ({"languages": {"sw": 1.0}}, "data.languages names sw"),
    ],
)
def test_what_is_not_there_is_named(folder: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        collect(table(**changes), folder, 13)


def test_a_language_whose_rows_all_go_is_named(folder: Path) -> None:
    write(folder / "news.en-hi.tsv", [(english(row), german(row)) for row in range(5)])
    with pytest.raises(TrainingError, match="No rows of hi are left"):
        collect(table(), folder, 13)
    found = collect(table(languages={"hi": 0.0}), folder, 13)
    assert {example.lang for example in found.examples} == {"de", "fr"}


def test_a_file_without_english_is_named(folder: Path) -> None:
    write(folder / "odd.de-fr.tsv", [(german(row), french(row)) for row in range(5)])
    with pytest.raises(TrainingError, match=r"odd\.de-fr\.tsv is in de and fr"):
        collect(table(parallel=("odd.*",)), folder, 13)


def test_a_malformed_line_is_named_by_file_and_line(folder: Path) -> None:
    with (folder / "news.en-fr.tsv").open("a", encoding="utf-8") as file:
        file.write("only one column\n")
    with pytest.raises(PairError, match=r"news\.en-fr\.tsv:31: "):
        collect(table(), folder, 13)


def test_a_file_whose_name_says_no_language_is_named(folder: Path) -> None:
    write(folder / "plain.tsv", [("a", "b")])
    with pytest.raises(PairError, match=r"plain\.tsv"):
        collect(table(parallel=("plain.tsv",)), folder, 13)
