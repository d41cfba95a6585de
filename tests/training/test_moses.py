"""Moses pairs: which files belong together, and what happens when they do not."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import zstandard

from xsearch.errors import PairError
from xsearch.training.pairs import OnError, Pair, PairOptions, read_pairs

EXPECTED = [Pair("one", "eins", "en", "de", "corpus", 1), Pair("two", "zwei", "en", "de", "corpus", 2)]


def write(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        name = name.replace("__", "-").replace("_", ".")
        packed = gzip.compress(data) if name.endswith(".gz") else data
        (folder / name).write_bytes(zstandard.compress(data) if name.endswith(".zst") else packed)
    return folder / "corpus.en-de"


@pytest.mark.parametrize(
    "names",
    [
        ("corpus_en", "corpus_de"),
        ("corpus_en_gz", "corpus_de_zst"),
        ("corpus_en__de_en", "corpus_en__de_de"),  # as OPUS names them
    ],
)
def test_two_files_are_one_text(tmp_path: Path, names: tuple[str, str]) -> None:
    path = write(tmp_path, **{names[0]: "one\ntwo\n", names[1]: "eins\r\nzwei"})
    assert list(read_pairs(path)) == EXPECTED


def test_codes_are_found_as_written_and_tags_are_canonical(tmp_path: Path) -> None:
    write(tmp_path, corpus_eng="one", corpus_zh__TW="一")
    assert list(read_pairs(tmp_path / "corpus.eng-zh-TW")) == [Pair("one", "一", "en", "zh-Hant", "corpus", 1)]
    options = PairOptions(target_lang="yue", origin="mine")
    assert list(read_pairs(tmp_path / "corpus.eng-zh-TW", options)) == [Pair("one", "一", "en", "yue", "mine", 1)]


@pytest.mark.parametrize("on_error", list(OnError))
@pytest.mark.parametrize(("english", "german", "counts"), [("a\nb\nc\n", "x\ny\n", "3 .* 2"), ("", "x", "0 .* 1")])
def test_different_numbers_of_lines_are_an_error_before_the_first_pair(
    tmp_path: Path, english: str, german: str, counts: str, on_error: OnError
) -> None:
    path = write(tmp_path, corpus_en=english, corpus_de=german)
    first, second = counts.split(" .* ")
    with pytest.raises(PairError) as caught:
        next(read_pairs(path, PairOptions(on_error=on_error)))
    assert f"{tmp_path / 'corpus.en'}: it has {first} lines, and {tmp_path / 'corpus.de'} has {second}" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("english", "german", "place"),
    [
        ("one\n \nthree", "eins\nzwei\ndrei", "corpus.en:2: this line is empty"),
        ("one\ntwo\nthree", "eins\n\ndrei", "corpus.de:2: this line is empty"),
        ("one\n\nthree", "eins\n\ndrei", "corpus.en:2: this line is empty"),
        ("one\ntwo\nthree", b"eins\nzw\xffei\ndrei", "corpus.de:2: this line is not UTF-8"),
    ],
)
def test_a_malformed_line_names_its_file_and_shifts_nothing(
    tmp_path: Path, english: str, german: str | bytes, place: str
) -> None:
    path = write(tmp_path, corpus_en=english, corpus_de=german)
    with pytest.raises(PairError, match=place):
        list(read_pairs(path))
    skipped: list[PairError] = []
    kept = list(read_pairs(path, PairOptions(on_error=OnError.SKIP), on_skip=skipped.append))
    assert [(pair.source, pair.target, pair.line) for pair in kept] == [("one", "eins", 1), ("three", "drei", 3)]
    assert [error.line for error in skipped] == [2]


def test_a_truncated_side_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, corpus_en="".join(f"line {i * i}\n" for i in range(5000)), corpus_de="x\n" * 5000)
    packed = zstandard.compress((tmp_path / "corpus.en").read_bytes())
    (tmp_path / "corpus.en").unlink()
    (tmp_path / "corpus.en.zst").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(PairError, match=r"corpus\.en\.zst: it has \d+ lines, and .*corpus\.de has 5000"):
        list(read_pairs(path))


def test_a_missing_side(tmp_path: Path) -> None:
    path = write(tmp_path, corpus_de="eins")
    with pytest.raises(PairError, match=r"corpus\.de: the other side, corpus\.en, is not there"):
        read_pairs(path)
    with pytest.raises(PairError, match=r"corpus\.fr-it: there is no such file"):
        read_pairs(tmp_path / "corpus.fr-it")


def test_unknown_languages(tmp_path: Path) -> None:
    write(tmp_path, corpus_xx="a", corpus_en="b")
    with pytest.raises(PairError, match="'xx' is not known"):
        read_pairs(tmp_path / "corpus.en-xx")
