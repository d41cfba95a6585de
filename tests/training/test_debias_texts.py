"""The sentences that a debias step is fitted to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.biased import english, translated, write_parallel
from xsearch.errors import InvalidArgumentError, TrainingError
from xsearch.training.debias_texts import TextOptions, collect_texts
from xsearch.training.filters import Reason

FEW = TextOptions(texts=40, min_texts=10)


def test_languages_are_given_the_same_english_sentences(tmp_path: Path) -> None:
    for lang in ("de", "fr"):
        write_parallel(tmp_path, lang, range(100))
    found = collect_texts(["*.tsv"], FEW, root=tmp_path)
    german, french = found.languages
    assert (german.lang, french.lang) == ("de", "fr")
    assert len(german.fitted) + len(german.held_out) == 40
    assert [one.english for one in german.fitted] == [one.english for one in french.fitted]
    rows = {english(row): row for row in range(100)}
    assert all(one.text == translated("fr", rows[one.english]) for one in french.fitted)


def test_what_is_held_out_is_fitted_in_no_language(tmp_path: Path) -> None:
    write_parallel(tmp_path, "de", range(100))
    write_parallel(tmp_path, "fr", range(30, 130))
    found = collect_texts(["*.tsv"], TextOptions(texts=100, min_texts=10), root=tmp_path)
    fitted = {one.english for language in found.languages for one in language.fitted}
    held_out = {one.english for language in found.languages for one in language.held_out}
    assert held_out
    assert not fitted & held_out
    assert len(fitted | held_out) == 130


def test_sources_have_equal_shares(tmp_path: Path) -> None:
    write_parallel(tmp_path, "de", range(100), origin="big")
    write_parallel(tmp_path, "de", range(100, 200), origin="other")
    write_parallel(tmp_path, "de", range(200, 206), origin="small")
    found = collect_texts(["*.tsv"], FEW, root=tmp_path).languages[0]
    rows = {english(row): row for row in range(206)}
    chosen = [rows[one.english] for one in (*found.fitted, *found.held_out)]
    assert [sum(row in part for row in chosen) for part in (range(100), range(100, 200), range(200, 206))] == [
        17,
        17,
        6,
    ]


def test_a_language_with_few_sentences_is_left_out_and_told(tmp_path: Path) -> None:
    write_parallel(tmp_path, "de", range(100))
    write_parallel(tmp_path, "nl", range(9))
    found = collect_texts(["*.tsv"], FEW, root=tmp_path)
    assert [language.lang for language in found.languages] == ["de"]
    assert found.left_out == {"nl": 9}


def test_nothing_but_english_is_an_error_with_the_counts(tmp_path: Path) -> None:
    write_parallel(tmp_path, "nl", range(9))
    with pytest.raises(TrainingError, match=r"No language besides English has 10 sentences \(nl 9\)"):
        collect_texts(["*.tsv"], FEW, root=tmp_path)


def test_words_repeats_and_malformed_lines_do_not_count(tmp_path: Path) -> None:
    path = write_parallel(tmp_path, "de", range(20))
    with path.open("a", encoding="utf-8") as file:
        file.write("ferry\tFähre\n" + f"{english(0)}\t{translated('de', 0)}\n" + "no tab here\n")
    found = collect_texts(["*.tsv"], FEW, root=tmp_path)
    assert len(found.languages[0].fitted) + len(found.languages[0].held_out) == 20
    assert found.report.removed(Reason.DUPLICATE) == 1
    assert sum(found.report.to_dict()["malformed"].values()) == 1


def test_evaluation_data_is_not_fitted_to(tmp_path: Path) -> None:
    write_parallel(tmp_path, "de", range(40))
    evaluation = tmp_path / "lines.txt"
    evaluation.write_text(f"{english(3)}\n{translated('de', 4)}\n", encoding="utf-8")
    found = collect_texts(["*.tsv"], TextOptions(40, 10, (evaluation,)), root=tmp_path)
    chosen = {one.english for one in (*found.languages[0].fitted, *found.languages[0].held_out)}
    assert chosen == {english(row) for row in range(40)} - {english(3), english(4)}
    assert found.report.removed(Reason.EVALUATION) == 2


def test_a_pattern_that_matches_nothing_is_told_as_it_was_given(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"No file matches .*nothing\.en-\*\.tsv"):
        collect_texts(["nothing.en-*.tsv"], FEW, root=tmp_path)
    with pytest.raises(TrainingError, match="No parallel text was given"):
        collect_texts([], FEW, root=tmp_path)


def test_fewer_texts_than_are_needed_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="50 texts of a language are asked for, at least 200"):
        TextOptions(texts=50)
