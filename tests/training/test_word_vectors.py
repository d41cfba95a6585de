"""Files of word vectors: what is read and written, what is left out, what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from xsearch.errors import InvalidArgumentError, PairError
from xsearch.training.word_vectors import WordVectors, read_word_vectors, write_word_vectors

WORDS = ("the", "狗", "new\u00a0york", "e\u0301", "line\u2028sep", "🎉")
VECTORS = np.array(
    [[1, -2, 0.1], [1e-38, 3.4e38, 1 / 3], [0, 0, 1], [np.pi, 0, 0], [7, 8, 9], [-0.5, 1e-7, 123456789]],
    dtype=np.float32,
)


@pytest.mark.parametrize("name", ["a.vec", "a.vec.gz", "a.vec.zst"])
def test_what_is_written_is_read_to_the_last_bit(tmp_path: Path, name: str) -> None:
    write_word_vectors(tmp_path / name, WordVectors(WORDS, VECTORS))
    read = read_word_vectors(tmp_path / name)
    assert read.found.words == WORDS
    np.testing.assert_array_equal(read.found.vectors, VECTORS)
    assert (read.duplicates, read.non_finite, read.zero, read.found.dim) == (0, 0, 0, 3)


def test_the_format_is_that_of_word2vec(tmp_path: Path) -> None:
    write_word_vectors(tmp_path / "a.vec", WordVectors(("dog", "cat"), VECTORS[[0, 2]]))
    assert (tmp_path / "a.vec").read_bytes() == b"2 3\ndog 1 -2 0.100000001\ncat 0 0 1\n"
    write_word_vectors(tmp_path / "a.vec.gz", WordVectors(("dog",), VECTORS[[2]]))
    assert gzip.decompress((tmp_path / "a.vec.gz").read_bytes()) == b"1 3\ndog 0 0 1\n"


def test_fasttext_s_spaces_at_line_ends_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.vec"
    path.write_bytes(b"2 2\r\ndog 1 2 \r\nchien 3e0 -.5 \r\n")
    read = read_word_vectors(path).found
    assert read.words == ("dog", "chien")
    np.testing.assert_array_equal(read.vectors, [[1, 2], [3, -0.5]])


def test_duplicates_zeros_and_what_is_not_finite_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.vec"
    path.write_text("8 2\na 1 2\na 3 4\nb 0 0\nc nan 1\nd 1 inf\ne 5 6\nf 1e99 0\ng 0 -0.0\n")
    read = read_word_vectors(path)
    assert read.found.words == ("a", "e")
    np.testing.assert_array_equal(read.found.vectors, [[1, 2], [5, 6]])
    assert (read.duplicates, read.zero, read.non_finite) == (1, 2, 3)


def test_no_more_words_are_read_than_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.vec"
    path.write_text("4 1\na 1\nzero 0\nb 2\nthis is not read\n")
    assert read_word_vectors(path, max_words=2).found.words == ("a", "b")
    with pytest.raises(InvalidArgumentError, match="max_words is 0"):
        read_word_vectors(path, max_words=0)


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("", 1, "the first line is ''"),
        ("dog 1 2\n", 1, "the first line is 'dog 1 2'"),
        ("2 0\n", 1, "the first line is '2 0'"),
        ("-1 3\n", 1, "the first line is '-1 3'"),
        ("2 3\ndog 1 2 3\ncat 1 2\n", 3, "the word 'cat' has 2 numbers"),
        ("2 3\ndog 1 2 3 4\ncat 1 2 3\n", 2, "the word 'dog' has 4 numbers"),
        ("1 3\nnew york 1 2 3\n", 2, "the word 'new' has 4 numbers"),
        ("1 3\n 1 2 3\n", 2, "this line has no word"),
        ("1 3\n\n", 2, "this line has no word"),
        ("1 2\ndog 1 x\n", 2, "the word 'dog'"),
        ("3 1\ndog 1\ncat 2\n", 3, "the file has 2 words, and its first line says 3"),
        ("1 1\ndog 1\ncat 2\n", 3, "the file has 2 words, and its first line says 1"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, content: str, line: int, said: str) -> None:
    path = tmp_path / "a.vec"
    path.write_text(content)
    with pytest.raises(PairError) as caught:
        read_word_vectors(path)
    assert (caught.value.source, caught.value.line) == (str(path), line)
    assert said in caught.value.given


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.vec").write_bytes(b"2 1\ndog 1\nca\xff 2\n")
    with pytest.raises(PairError, match=r"a\.vec:3: this line is not UTF-8"):
        read_word_vectors(tmp_path / "a.vec")


def test_files_that_are_not_there_or_cut_short_or_useless_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PairError, match="cannot be read"):
        read_word_vectors(tmp_path / "none.vec")
    for name in ("a.vec.gz", "a.vec.zst"):
        write_word_vectors(tmp_path / name, WordVectors(WORDS, VECTORS))
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-12])
        with pytest.raises(PairError, match="cannot be read from here on"):
            read_word_vectors(tmp_path / name)
    (tmp_path / "zero.vec").write_text("1 2\ndog 0 0\n")
    with pytest.raises(PairError, match="no word has a usable vector"):
        read_word_vectors(tmp_path / "zero.vec")


@pytest.mark.parametrize("word", ["", "new york", "a\nb", "a\r"])
def test_a_word_that_the_format_cannot_carry_is_refused(tmp_path: Path, word: str) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be written"):
        write_word_vectors(tmp_path / "a.vec", WordVectors((word,), VECTORS[:1]))
    assert list(tmp_path.iterdir()) == []


def test_words_and_vectors_go_together() -> None:
    with pytest.raises(InvalidArgumentError, match=r"There are 2 words and vectors of shape \(6, 3\)"):
        WordVectors(("a", "b"), VECTORS)
