from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xsearch.corpus import extras
from xsearch.corpus.source import ReadOptions, SourceSize, measure_source, read_source, supported_suffixes
from xsearch.errors import InvalidArgumentError, MissingExtraError, ReadError
from xsearch.records import Document, Skipped


def write(path: Path, content: str = "text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def ids(source: Path | str) -> list[str]:
    items = read_source(str(source))
    return [item.doc_id if isinstance(item, Document) else f"{item.place}: {item.reason}" for item in items]


# --- folders


def test_a_folder_is_read_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a.md", "Z.TXT", "sub/c.html", "sub/deep/d.txt", "a2/x.txt", ".hidden.txt", ".git/e.txt"):
        write(tmp_path / name, "<p>text</p>" if name.endswith("html") else "text")
    expected = [str(tmp_path / name) for name in ("Z.TXT", "a.md", "b.txt", "a2/x.txt", "sub/c.html", "sub/deep/d.txt")]
    assert ids(tmp_path) == ids(tmp_path) == expected
    assert measure_source(str(tmp_path)) == SourceSize(6, 5 * 4 + 11)


def test_files_without_a_reader_are_reported(tmp_path: Path) -> None:
    """Pitfall 21: nothing is lost in silence."""
    for name in ("a.exe", "Makefile", "b.tar.gz", "notes.v2.txt"):
        write(tmp_path / name)
    assert ids(tmp_path) == [
        f"{tmp_path}/Makefile: no reader for files without an ending",
        f"{tmp_path}/a.exe: no reader for .exe",
        f"{tmp_path}/b.tar.gz: no reader for .gz",
        f"{tmp_path}/notes.v2.txt",
    ]
    assert measure_source(str(tmp_path)) == SourceSize(1, 4)


def test_bad_files_among_good_ones(tmp_path: Path) -> None:
    """Pitfall 21: one bad file of each family, and every good one is read."""
    for name in ("a.pdf", "c.docx", "e.parquet", "g.jsonl", "i.csv", "k.json"):
        write(tmp_path / name, "damaged")
    for name in ("b.txt", "d.txt", "f.txt", "h.txt", "j.txt", "l.txt"):
        write(tmp_path / name)
    items = list(read_source(str(tmp_path)))
    assert [item.doc_id[-5:] for item in items if isinstance(item, Document)] == [
        "b.txt", "d.txt", "f.txt", "h.txt", "j.txt", "l.txt",
    ]  # fmt: skip
    assert {Path(item.source).name for item in items if isinstance(item, Skipped)} == {
        "a.pdf", "c.docx", "e.parquet", "g.jsonl", "i.csv", "k.json",
    }  # fmt: skip


def test_a_table_without_text_in_a_folder_is_skipped_and_alone_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "config.json", '{"name": "x"}')
    (item,) = read_source(str(tmp_path))
    assert item == Skipped(str(path), "no field is known to hold the text; its fields are name")
    with pytest.raises(ReadError, match="no field is known to hold the text"):
        list(read_source(str(path)))


def test_a_beir_folder_is_its_corpus(tmp_path: Path) -> None:
    """Queries and qrels of a test collection are not documents."""
    write(tmp_path / "nfc/corpus.jsonl", '{"_id": "d1", "title": "T", "text": "Body", "metadata": {"url": "u"}}\n')
    write(tmp_path / "nfc/queries.jsonl", '{"_id": "q1", "text": "Question"}\n')
    write(tmp_path / "nfc/qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    expected = [Document("d1", "Body", "T", "", str(tmp_path / "nfc/corpus.jsonl"), {"metadata": {"url": "u"}})]
    assert list(read_source(str(tmp_path / "nfc"))) == list(read_source(str(tmp_path))) == expected


def test_links_go_round_no_loop_and_read_nothing_twice(tmp_path: Path) -> None:
    write(tmp_path / "real/a.txt")
    write(tmp_path / "elsewhere/b.txt")
    root = tmp_path / "root"
    write(root / "z/c.txt")
    for name, target in {
        "loop": root,
        "z/up": root,
        "a-link-to-z": root / "z",
        "outside": tmp_path / "elsewhere",
        "file.txt": tmp_path / "real/a.txt",
        "broken.txt": tmp_path / "nowhere",
    }.items():
        (root / name).symlink_to(target)
    assert ids(root) == [
        f"{root}/broken.txt: not a file: a broken link, a pipe or a device",
        f"{root}/file.txt",
        f"{root}/z/c.txt",
        f"{root}/outside/b.txt",
    ]


def test_a_pipe_in_a_folder_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    assert ids(tmp_path) == [f"{tmp_path}/pipe.txt: not a file: a broken link, a pipe or a device"]
    with pytest.raises(ReadError, match="this is a pipe or a device"):
        read_source(str(tmp_path / "pipe.txt"))


def test_names_that_are_not_valid_text(tmp_path: Path) -> None:
    """Pitfall 19: such a name comes from the file system with lone surrogates, which cannot be stored."""
    try:
        (tmp_path / "gr\udcfcn.txt").write_text("text", encoding="utf-8")
    except OSError:
        pytest.skip("this file system takes no such names")
    (item,) = read_source(str(tmp_path))
    assert isinstance(item, Document)
    assert (item.doc_id, item.source) == (f"{tmp_path}/gr\ufffdn.txt", f"{tmp_path}/gr\ufffdn.txt")


def test_an_empty_folder_is_empty(tmp_path: Path) -> None:
    assert ids(tmp_path) == []
    assert measure_source(str(tmp_path)) == SourceSize(0, 0)


# --- single files and globs


def test_a_link_to_itself_is_skipped_and_the_rest_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.txt")
    (tmp_path / "self.txt").symlink_to("self.txt")
    write(tmp_path / "z.txt")
    assert ids(tmp_path) == [
        str(tmp_path / "a.txt"),
        f"{tmp_path}/self.txt: cannot be read: {os.strerror(errno.ELOOP)}",
        str(tmp_path / "z.txt"),
    ]
    assert measure_source(str(tmp_path)) == SourceSize(2, 8)


def test_ids_are_absolute_paths_with_links_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.txt")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    monkeypatch.chdir(tmp_path / "sub")
    assert ids("../a.txt") == [f"{tmp_path}/a.txt"]
    assert ids("../link.txt") == [f"{tmp_path}/link.txt"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ids("~/a.txt") == [f"{tmp_path}/a.txt"]


def test_a_hidden_file_given_by_name_is_read(tmp_path: Path) -> None:
    assert ids(write(tmp_path / ".notes.txt")) == [f"{tmp_path}/.notes.txt"]


def test_globs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.txt", "a.txt", "c.bin", "sub/d.txt", "sub/deep/e.txt", ".x.txt"):
        write(tmp_path / name)
    assert ids(tmp_path / "*.txt") == [f"{tmp_path}/a.txt", f"{tmp_path}/b.txt"]
    assert ids(tmp_path / "**" / "*.txt") == [
        f"{tmp_path}/{name}" for name in ("a.txt", "b.txt", "sub/d.txt", "sub/deep/e.txt")
    ]
    assert ids(tmp_path / "*") == [
        f"{tmp_path}/a.txt",
        f"{tmp_path}/b.txt",
        f"{tmp_path}/c.bin: no reader for .bin",
        f"{tmp_path}/sub/d.txt",
        f"{tmp_path}/sub/deep/e.txt",
    ]
    monkeypatch.chdir(tmp_path)
    assert ids("?.txt") == [f"{tmp_path}/a.txt", f"{tmp_path}/b.txt"]
    assert measure_source(str(tmp_path / "*.txt")) == SourceSize(2, 8)


def test_a_name_with_brackets_is_a_name_first(tmp_path: Path) -> None:
    path = write(tmp_path / "a[1].txt")
    assert ids(path) == [str(path)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.txt", "there is no such file or folder. A path that exists is expected. Correct the path."),
        ("*.nothing", "no file matches. A pattern that matches files is expected. Correct the pattern."),
        ("a.exe", "there is no reader for .exe. Known are .csv, .docx, .htm, .html, .json, .jsonl, .markdown, .md, "),
    ],
)
def test_sources_that_cannot_be_read_at_all(tmp_path: Path, name: str, message: str) -> None:
    write(tmp_path / "a.exe")
    source = str(tmp_path / name)
    for call in (read_source, measure_source):
        with pytest.raises(ReadError) as caught:
            call(source)
        assert str(caught.value).startswith(f"{source}: {message}")


def test_an_unknown_encoding_is_an_error_at_once(tmp_path: Path) -> None:
    for encoding in ("klingon", "rot13"):
        with pytest.raises(ReadError, match=f"{encoding}: this is not the name of a text encoding"):
            read_source(str(write(tmp_path / "a.txt")), ReadOptions(encoding=encoding))


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pitfall 21; the refusal is made up, for root may read every file."""
    closed, other = write(tmp_path / "a.txt"), write(tmp_path / "b.txt")
    opened = Path.open

    def refuse(path: Path, *args: object, **kwargs: object) -> object:
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    assert ids(tmp_path) == [f"{closed}: cannot be read: Permission denied", str(other)]


def test_a_file_that_goes_away_while_reading(tmp_path: Path) -> None:
    """Pitfall 21."""
    for name in ("a.txt", "b.txt", "c.txt"):
        write(tmp_path / name)
    items = read_source(str(tmp_path))
    next(items)
    (tmp_path / "b.txt").unlink()
    missing, last = items
    assert missing == Skipped(str(tmp_path / "b.txt"), "cannot be read: No such file or directory")
    assert isinstance(last, Document) and last.doc_id == str(tmp_path / "c.txt")


def test_progress_of_a_folder_sums_up(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "x" * 1000)
    write(tmp_path / "b.jsonl", '{"text": "y"}\n' * 500)
    write(tmp_path / "c.html", "<p>z</p>")
    told: list[int] = []
    assert sum(1 for _ in read_source(str(tmp_path), on_bytes=told.append)) == 502
    assert sum(told) == measure_source(str(tmp_path)).bytes == 1000 + 7000 + 8


# --- standard input


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> list[Document | Skipped]:
    stream = io.TextIOWrapper(io.BytesIO(data))
    monkeypatch.setattr(sys, "stdin", stream)
    items = list(read_source("-", ReadOptions(lang="de")))
    assert not stream.closed and not stream.buffer.closed
    return items


def test_standard_input_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stdin(monkeypatch, "\ufeffErste Zeile\r\n\n  Größe  \n".encode()) == [
        Document("-#1", "Erste Zeile", "", "de", "-"),
        Document("-#3", "Größe", "", "de", "-"),
    ]


def test_standard_input_of_json_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b'\n  {"id": 1, "text": "eins"}\n{"id": 2, "text"\n{"id": 3, "text": "drei", "n": 4}\n'
    assert stdin(monkeypatch, data) == [
        Document("1", "eins", "", "de", "-"),
        Skipped("-", "not JSON: Expecting ':' delimiter (character 17)", 3),
        Document("3", "drei", "", "de", "-", {"n": 4}),
    ]


@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_standard_input_of_nothing(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    assert stdin(monkeypatch, data) == [Skipped("-", "there are no records in it")]
    assert measure_source("-") == SourceSize(1, 0)


def test_a_slow_pipe_is_read_as_it_comes() -> None:
    """A line is a document when it is written, not when the writer is done."""
    code = (
        "import sys\nfrom xsearch.corpus.source import read_source\n"
        "for item in read_source('-'): print(item.text, flush=True)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdin is not None and process.stdout is not None
        for text in ("eins", "zwei"):
            process.stdin.write(f"{text}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{text}\n"
        process.stdin.close()


# --- libraries


def test_nothing_heavy_is_imported_to_read_text(tmp_path: Path) -> None:
    write(tmp_path / "a.txt")
    write(tmp_path / "b.jsonl", '{"text": "x"}')
    code = (
        "import sys\nfrom xsearch.corpus.source import read_source\n"
        f"assert len(list(read_source({str(tmp_path)!r}))) == 2\n"
        "heavy = {'pypdf', 'docx', 'trafilatura', 'lxml', 'pyarrow', 'datasets', 'chardet', 'torch', 'faiss'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8").stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "extra"),
    [("z.pdf", extras.PDF), ("z.docx", extras.DOCX), ("z.html", extras.HTML), ("z.parquet", extras.PARQUET)],
)
def test_a_missing_library_is_told_before_the_first_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, extra: extras.Extra
) -> None:
    """Hours of indexing must not end at the first PDF with a missing package."""
    write(tmp_path / "a.txt")
    write(tmp_path / name)
    monkeypatch.setitem(sys.modules, extra.module, None)
    with pytest.raises(MissingExtraError) as caught:
        read_source(str(tmp_path))
    assert str(caught.value) == (
        f"{extra.feature} needs the package {extra.package}, which is not installed. "
        "It comes with the extra 'docs'. Run: pip install \"xsearch[docs]\"."
    )


def test_supported_suffixes() -> None:
    assert {".txt", ".md", ".html", ".pdf", ".docx", ".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz"} < set(
        supported_suffixes()
    )


# --- languages


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "x", "lang": "not a language"}'),
        ("a.csv", "text,lang\nx,n/a\n"),
        ("a.md", "---\nlang: 12\n---\nx"),
        ("a.md", '---\nlang: "not a language"\n---\nx'),
    ],
)
@pytest.mark.parametrize("given", ["", "de"])
def test_a_language_that_is_none_counts_as_not_said(tmp_path: Path, name: str, content: str, given: str) -> None:
    path = write(tmp_path / name, content)
    (item,) = read_source(str(path), ReadOptions(lang=given))
    assert isinstance(item, Document)
    assert (item.text.strip(), item.lang) == ("x", given)


@pytest.mark.parametrize("lang", ["not a language", "gernam", "12"])
def test_a_language_asked_for_that_is_none_is_refused_at_the_call(tmp_path: Path, lang: str) -> None:
    with pytest.raises(InvalidArgumentError, match="language"):
        read_source(str(write(tmp_path / "a.txt")), ReadOptions(lang=lang))
