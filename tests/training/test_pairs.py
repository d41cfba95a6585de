"""Parallel TSV, whole and damaged in every way we could think of."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from xsearch.errors import PairError
from xsearch.training import lines
from xsearch.training.pairs import OnError, Pair, PairOptions, read_pairs

ROWS = "The cat sleeps.\tDie Katze schläft.\nGood morning\tGuten Morgen\n"
PAIRS = [
    Pair("The cat sleeps.", "Die Katze schläft.", "en", "de", "news", 1),
    Pair("Good morning", "Guten Morgen", "en", "de", "news", 2),
]
SKIP = PairOptions(on_error=OnError.SKIP)


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes | str], Path]:
    """Writes a file by name, packed as the name says."""

    def write(name: str, content: bytes | str) -> Path:
        data = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.write_bytes(zst(data) if name.endswith(".zst") else gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


Write = Callable[[str, bytes | str], Path]


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_tsv(write: Write, packing: str) -> None:
    assert list(read_pairs(write(f"news.en-de.tsv{packing}", ROWS))) == PAIRS


@pytest.mark.parametrize(
    ("name", "origin", "source_lang", "target_lang"),
    [
        ("ms-iot.en-zh-Hant.tsv", "ms-iot", "en", "zh-Hant"),
        ("mozilla-www.en-pt-BR.tsv", "mozilla-www", "en", "pt-BR"),
        ("a.b.eng-deu.TSV", "a.b", "en", "de"),
        ("x.iw-en.tsv", "x", "he", "en"),
    ],
)
def test_languages_and_origin_come_from_the_name(
    write: Write, name: str, origin: str, source_lang: str, target_lang: str
) -> None:
    assert list(read_pairs(write(name, "a\tb"))) == [Pair("a", "b", source_lang, target_lang, origin, 1)]


def test_the_caller_knows_better_than_the_name(write: Write) -> None:
    options = PairOptions(source_lang="fra", target_lang="zh-TW", origin="mine")
    assert list(read_pairs(write("some.data.tsv", "a\tb"), options)) == [Pair("a", "b", "fr", "zh-Hant", "mine", 1)]
    options = PairOptions(source_lang="fr", target_lang="de")
    assert list(read_pairs(write("some.data.tsv", "a\tb"), options)) == [Pair("a", "b", "fr", "de", "some.data", 1)]
    assert list(read_pairs(write("news.en-de.tsv", "a\tb"), options)) == [Pair("a", "b", "fr", "de", "news", 1)]


@pytest.mark.parametrize("name", ["rows.tsv", "rows.de.tsv", "rows.en-.tsv"])
def test_a_name_without_languages_is_an_error(write: Write, name: str) -> None:
    with pytest.raises(PairError, match=r"does not say its languages.*news\.en-de\.tsv"):
        read_pairs(write(name, ROWS))


@pytest.mark.parametrize("name", ["rows.en-und.tsv", "rows.en-xx.tsv", "rows.en-q7.tsv"])
def test_languages_that_nobody_knows_are_an_error(write: Write, name: str) -> None:
    with pytest.raises(PairError, match="Pass the languages"):
        read_pairs(write(name, ROWS))


def test_other_files_are_an_error(write: Write, tmp_path: Path) -> None:
    with pytest.raises(PairError, match="no parallel data of a known format"):
        read_pairs(write("rows.en-de.xlsx", ROWS))
    with pytest.raises(PairError, match="there is no such file"):
        read_pairs(tmp_path / "rows.en-de.tsv")
    (tmp_path / "folder.en-de.tsv").mkdir()
    with pytest.raises(PairError, match="there is no such file"):
        read_pairs(tmp_path / "folder.en-de.tsv")


def test_an_empty_file_has_no_pairs(write: Write) -> None:
    assert list(read_pairs(write("a.en-de.tsv", ""))) == []
    assert list(read_pairs(write("a.en-de.tsv.zst", ""))) == []


def test_odd_line_ends_and_characters_are_kept_apart_from_lines(write: Write) -> None:
    content = "\ufeffone\u2028more\t eins\x0bnoch \r\ntwo\u0085\tzwei"  # U+2028, VT and NEL end no line
    assert list(read_pairs(write("a.en-de.tsv", content))) == [
        Pair("one\u2028more", "eins\x0bnoch", "en", "de", "a", 1),
        Pair("two", "zwei", "en", "de", "a", 2),
    ]


MALFORMED = [
    (b"only one column\n", "columns: 1"),
    (b"one\ttwo\tthree\n", "columns: 3"),
    (b"\n", "this line is empty"),
    (b"\tempty first\n", "the first column is empty"),
    (b"empty second\t \xc2\xa0 \n", "the second column is empty"),
    (b"caf\xe9\tKaffee\n", r"not UTF-8 \(invalid continuation byte at byte 3\)"),
    (b"\xed\xa0\x80\tlone surrogate\n", "not UTF-8"),
]


@pytest.mark.parametrize(("line", "reason"), MALFORMED)
@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_a_malformed_line_names_file_and_line(write: Write, line: bytes, reason: str, packing: str) -> None:
    path = write(f"news.en-de.tsv{packing}", b"good\tgut\n" + line + b"better\tbesser\n")
    with pytest.raises(PairError, match=reason) as caught:
        list(read_pairs(path))
    assert str(caught.value).startswith(f"{path}:2: ")
    skipped: list[PairError] = []
    kept = list(read_pairs(path, SKIP, on_skip=skipped.append))
    assert kept == [Pair("good", "gut", "en", "de", "news", 1), Pair("better", "besser", "en", "de", "news", 3)]
    assert [error.line for error in skipped] == [2]


def test_a_line_without_end_costs_no_memory_and_one_line(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 64)
    path = write("a.en-de.tsv", "x" * 200 + "\ty\nfine\tgut\n")
    skipped: list[PairError] = []
    assert list(read_pairs(path, SKIP, on_skip=skipped.append)) == [Pair("fine", "gut", "en", "de", "a", 2)]
    assert [error.line for error in skipped] == [1]


def test_skipped_lines_are_logged_when_nobody_listens(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write("a.en-de.tsv", "bad\ngood\tgut\nbad\n")
    with caplog.at_level(logging.WARNING):
        assert [pair.line for pair in read_pairs(path, SKIP)] == [2]
    assert "skipped malformed lines: 2" in caplog.text
    assert f"{path}:1: " in caplog.text


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_truncated_file_is_an_error_that_keeps_what_was_read(write: Write, packing: str, tmp_path: Path) -> None:
    # Numbers written out do not pack well, so half of the bytes hold about half of the rows.
    rows = "".join(f"{i * 7919 % 10007} {i}\t{i * 104729 % 10007} {i}\n" for i in range(50_000))
    whole = write(f"a.en-de.tsv{packing}", rows).read_bytes()
    cut = tmp_path / f"cut.en-de.tsv{packing}"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PairError, match="cannot be read from here on") as caught:
        list(read_pairs(cut))
    skipped: list[PairError] = []
    kept = list(read_pairs(cut, SKIP, on_skip=skipped.append))
    assert [pair.line for pair in kept] == list(range(1, len(kept) + 1))
    assert 1000 < len(kept) < 49_999
    assert [error.line for error in skipped] == [caught.value.line] == [len(kept) + 1]


@pytest.mark.parametrize("content", [b"not packed at all", b""])
@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_file_that_is_not_packed_as_its_name_says(tmp_path: Path, content: bytes, packing: str) -> None:
    path = tmp_path / f"a.en-de.tsv{packing}"
    path.write_bytes(content)
    if packing == ".gz" and not content:  # gzip takes it for no members at all
        assert list(read_pairs(path)) == []
    else:
        with pytest.raises(PairError, match=r"tsv\.(gz|zst):1: the file cannot be read"):
            list(read_pairs(path))


def test_several_zstd_frames_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.en-de.tsv.zst"
    path.write_bytes(zst(b"one\tei") + zst(b"ns\ntwo\tzwei\n"))
    assert [(pair.source, pair.target) for pair in read_pairs(path)] == [("one", "eins"), ("two", "zwei")]
