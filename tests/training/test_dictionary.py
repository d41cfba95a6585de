"""Dictionaries: reading, splitting, and precision worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zstandard

from xsearch.errors import EvaluationError, InvalidArgumentError, PairError
from xsearch.training.csls import Retrieval
from xsearch.training.dictionary import Dictionary, known_pairs, precision, read_dictionary, split_dictionary
from xsearch.training.word_vectors import WordVectors


def test_lines_with_tabs_and_with_spaces(tmp_path: Path) -> None:
    path = tmp_path / "d.tsv"
    path.write_text("ice cream\tEis\ndog\tHund\ndog\tRüde\ndog\tHund\n", encoding="utf-8")
    read = read_dictionary(path)
    assert (dict(read.translations), read.duplicates) == ({"ice cream": ("Eis",), "dog": ("Hund", "Rüde")}, 1)
    muse = tmp_path / "d.txt"
    muse.write_text("dog Hund\ncat  Katze\r\n", encoding="utf-8")
    assert dict(read_dictionary(muse).translations) == {"dog": ("Hund",), "cat": ("Katze",)}
    (tmp_path / "d.tsv.zst").write_bytes(zstandard.compress("dog\t狗\n".encode()))
    assert dict(read_dictionary(tmp_path / "d.tsv.zst").translations) == {"dog": ("狗",)}


@pytest.mark.parametrize("bad", ["dog", "ice cream Eis", "dog\t", "\tHund", "dog\tHund\tRüde", ""])
def test_a_malformed_line_is_named(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "d.tsv"
    path.write_text(f"cat\tKatze\n{bad}\n", encoding="utf-8")
    with pytest.raises(PairError, match=r"d\.tsv:2: this line is"):
        read_dictionary(path)


def test_an_empty_or_missing_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.tsv").write_text("")
    with pytest.raises(PairError, match="the file is empty"):
        read_dictionary(tmp_path / "d.tsv")
    with pytest.raises(PairError, match="cannot be read"):
        read_dictionary(tmp_path / "none.tsv")


def test_a_split_has_each_source_word_on_one_side() -> None:
    whole = Dictionary({f"w{number}": (f"a{number}", f"b{number}") for number in range(10)})
    train, test = split_dictionary(whole, 3, seed=1)
    assert {**train.translations, **test.translations} == dict(whole.translations)
    assert (len(train), len(test)) == (7, 3)
    assert split_dictionary(whole, 3, seed=1)[1] == test
    assert split_dictionary(whole, 3, seed=2)[1] != test
    for number in (0, 10):
        with pytest.raises(InvalidArgumentError, match=f"{number} words were to be held out of 10"):
            split_dictionary(whole, number)


def test_pairs_with_vectors_on_both_sides() -> None:
    dictionary = Dictionary({"dog": ("Hund", "Rüde"), "Cat": ("Katze",), "ice cream": ("Eis",), "sun": ("Sonne",)})
    pairs = known_pairs(dictionary, ["sun", "dog", "cat"], ["hund", "Katze", "katze", "eis"])
    # Hund is there in lower case only; Katze as it is written; Rüde, ice cream and Sonne have no vector.
    assert pairs.tolist() == [[1, 0], [2, 1]]
    assert known_pairs(Dictionary({"x": ("y",)}), ["a"], ["b"]).shape == (0, 2)


def on_circle(*degrees: float) -> np.ndarray:
    angles = np.deg2rad(np.array(degrees))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_precision_by_hand() -> None:
    """On a circle the nearest by cosine is the nearest by angle."""
    source = WordVectors(("a", "b", "c", "d"), on_circle(0, 90, 180, 270) * 3)
    target = WordVectors(("A", "B", "C1", "C2", "far", "x", "y"), on_circle(2, 130, 340, 200, 181, 95, 100))
    test = Dictionary({
        "a": ("A",),  # first
        "b": ("B", "none"),  # third, after x and y
        "c": ("C1", "C2"),  # C2 is second, after far
        "d": ("none",),  # its translation has no vector
        "e": ("A",),  # has no vector itself
    })  # fmt: skip
    found = precision(test, source, target, retrieval=Retrieval.NEAREST)
    assert (found.words, found.covered, found.coverage) == (5, 3, 0.6)
    assert dict(found.at) == {1: pytest.approx(1 / 3), 5: 1.0, 10: 1.0}


def test_precision_by_csls_sees_all_words_of_both_languages() -> None:
    """The hub is first for all three by cosine; only the words that are not asked tell that it is one."""
    source = np.array([[1, 0.2, 0], [0.6, 0.8, 0], [0.6, 0, 0.8]], dtype=np.float32)
    target = np.array([[1, 0.3, 0.3], [0.1, 1, -0.9], [0.1, -0.9, 1]], dtype=np.float32)
    sides = WordVectors(("a", "b", "c"), source), WordVectors(("A", "B", "C"), target)
    test = Dictionary({"b": ("B",)})
    assert precision(test, *sides, retrieval=Retrieval.NEAREST, k=3).at[1] == 0.0
    assert precision(test, *sides, retrieval=Retrieval.CSLS, k=3).at[1] == 1.0


def test_a_dictionary_of_other_languages_is_refused() -> None:
    side = WordVectors(("a",), on_circle(0))
    with pytest.raises(EvaluationError, match="None of the 1 words of the test dictionary can be asked"):
        precision(Dictionary({"x": ("y",)}), side, side)
