from __future__ import annotations

import csv
import gzip
import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xsearch.corpus import delimited, jsontext
from xsearch.corpus.options import ReadOptions
from xsearch.corpus.rows import find_fields
from xsearch.corpus.source import measure_source, read_source
from xsearch.errors import ReadError
from xsearch.records import Document, Skipped


def read(path: Path, content: str | bytes, options: ReadOptions | None = None) -> list[Document | Skipped]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_source(str(path), options))


def texts(items: list[Document | Skipped]) -> list[str]:
    return [item.text if isinstance(item, Document) else f"skipped: {item.reason}" for item in items]


# --- which field is what


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"_id": "7", "title": "T", "text": "Body", "metadata": {}}, ("7", "T", "Body", "")),
        ({"docid": "d1", "document_text": "Body"}, ("d1", "", "Body", "")),
        ({"docid": "d1", "title": "T", "text": "Body"}, ("d1", "T", "Body", "")),
        ({"id": "p", "lang": "zho", "date": "2020-01-01", "text": "正文"}, ("p", "", "正文", "zho")),
        ({"ID": 12, "Title": "T", "Text": "Body", "Language": "eng_Latn"}, ("12", "T", "Body", "eng_Latn")),
        ({"docno": "x", "contents": "Body"}, ("x", "", "Body", "")),
    ],
    ids=["beir", "tevatron", "tevatron with title", "patapsco", "capitals and a number", "anserini"],
)
def test_well_known_fields_are_found(tmp_path: Path, record: dict[str, Any], expected: tuple[str, ...]) -> None:
    (item,) = read(tmp_path / "a.jsonl", json.dumps(record))
    assert isinstance(item, Document)
    assert (item.doc_id, item.title, item.text, item.lang) == expected


def test_named_fields_go_first_and_the_rest_is_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    record = {"text": "summary", "long": "Body", "key": 5, "heading": "H", "l": "pt", "year": 2001}
    options = ReadOptions(text_field="long", id_field="key", title_field="heading", lang_field="l", lang="es")
    assert read(path, json.dumps(record), options) == [
        Document("5", "Body", "H", "pt", str(path), {"text": "summary", "year": 2001})
    ]


def test_a_language_given_goes_before_a_field_nobody_named(tmp_path: Path) -> None:
    (item,) = read(tmp_path / "a.jsonl", '{"text": "x", "lang": "en"}', ReadOptions(lang="sco"))
    assert isinstance(item, Document)
    assert item.lang == "sco"


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_named_field_that_is_not_there_is_an_error(tmp_path: Path, name: str) -> None:
    content = '{"a": "1", "text": "x"}' if name == "a.jsonl" else "a,text\n1,x\n"
    with pytest.raises(ReadError) as caught:
        read(tmp_path / name, content, ReadOptions(id_field="uid"))
    assert str(caught.value) == (
        f"{tmp_path / name}: there is no field 'uid' in it. Its fields are a, text. Pass one of them as --id-field."
    )


def test_a_table_without_a_text_field_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"its fields are name, size\. Known names are text, .*--text-field\."):
        read(tmp_path / "a.csv", "name,size\nx,1\n")


def test_fields_that_differ_in_case_alone_can_both_be_named() -> None:
    names = ["ID", "id", "text"]
    assert find_fields(names, ReadOptions(id_field="id"), source="s").doc_id == "id"
    assert find_fields(names, ReadOptions(), source="s").doc_id == "ID"


# --- ids, texts and metadata


def test_ids(tmp_path: Path) -> None:
    """Pitfall 6: a record without a usable id is reported with its line, and gets no made-up id."""
    path = tmp_path / "a.jsonl"
    ids = ["a", 12, 12.0, 1.5, " b ", "", " ", None, True, [1], float("nan"), 10**20]
    lines = [json.dumps({"id": value, "text": "x"}) for value in ids] + ['{"text": "x"}']
    items = read(path, "\n".join(lines))
    assert [item.doc_id for item in items if isinstance(item, Document)] == ["a", "12", "12", "1.5", "b", str(10**20)]
    assert [(item.line, item.reason) for item in items if isinstance(item, Skipped)] == [
        (line, "the field 'id' holds no id") for line in (6, 7, 8, 9, 10, 11, 13)
    ]


def test_a_table_without_ids_gives_path_and_number(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    items = read(path, "text,n\nfirst,1\n,2\nthird,3\n")
    assert items == [
        Document(f"{path}#1", "first", source=str(path), metadata={"n": "1"}),
        Skipped(str(path), "no text", 3, empty=True),
        Document(f"{path}#3", "third", source=str(path), metadata={"n": "3"}),
    ]


def test_texts_that_are_none(tmp_path: Path) -> None:
    """Pitfall 21: whitespace-only and missing texts are counted, and reading goes on."""
    lines = [
        '{"text": " \\n\\u3000"}',
        '{"text": null}',
        '{"text": 5}',
        '{"text": ["a"]}',
        '{"other": 1}',
        '{"text": "ok"}',
    ]
    assert texts(read(tmp_path / "a.jsonl", "\n".join(lines))) == [
        "skipped: no text",
        "skipped: no text",
        "skipped: the field 'text' holds int, not text",
        "skipped: the field 'text' holds list, not text",
        "skipped: no text",
        "ok",
    ]


def test_a_record_of_a_title_alone_is_found_by_it(tmp_path: Path) -> None:
    (item,) = read(tmp_path / "corpus.jsonl", '{"_id": "1", "title": "Only a title", "text": ""}')
    assert isinstance(item, Document)
    assert (item.text, item.title) == ("Only a title", "")


def test_lone_surrogates_and_nuls_are_replaced(tmp_path: Path) -> None:
    """Pitfall 19: JSON may hold half a character, which nothing behind the reader could store."""
    line = r'{"id": "a\ud800", "title": "t\udfff", "text": "x\ud83d\ude00y\ud800z\u0000", "k\ud800": ["\udc00"]}'
    (item,) = read(tmp_path / "a.jsonl", line)
    assert isinstance(item, Document)
    assert item.text == "x😀y\ufffdz\ufffd"
    assert (item.doc_id, item.title, item.metadata) == ("a\ufffd", "t\ufffd", {"k\ufffd": ["\ufffd"]})
    json.dumps(item.to_dict(), ensure_ascii=False).encode("utf-8")


def test_nothing_is_normalised(tmp_path: Path) -> None:
    """Pitfall 18: NFD, zero-width joiners, full width and tatweel are stored as they came."""
    text = "e\u0301 می\u200cخواهم ｆｕｌｌ كـتاب x² ﻻ"
    assert texts(read(tmp_path / "a.jsonl", json.dumps({"text": text}))) == [text]


# --- JSON lines


def test_a_bad_line_costs_that_line(tmp_path: Path) -> None:
    """Pitfall 21: a malformed record is named by file and line, and the rest is read."""
    path = tmp_path / "a.jsonl"
    items = read(
        path,
        '{"text": "Größe, Länge, Höhe, Stärke, Fläche, Öffnung, Übung, Ärger"}'.encode()
        + b'\n\n{"text": "tw\n[1]\n{"text": "\xff"}\n'
        + b'{"a":' * 100_000
        + b'\n{"text": "six"}',
    )
    assert items == [
        Document(f"{path}#1", "Größe, Länge, Höhe, Stärke, Fläche, Öffnung, Übung, Ärger", source=str(path)),
        Skipped(str(path), "not JSON: Unterminated string starting at (character 10)", 3),
        Skipped(str(path), "not a JSON object", 4),
        Skipped(str(path), "bytes that do not belong to the encoding of the file", 5),
        Skipped(str(path), "not JSON: nested too deeply", 6),
        Document(f"{path}#7", "six", source=str(path)),
    ]


def test_bad_lines_before_the_first_good_one(tmp_path: Path) -> None:
    items = read(tmp_path / "a.jsonl", "nonsense\n" * 60 + "{}\n" + '{"docid": "a", "text": "x"}\n')
    assert [type(item) for item in items] == [Skipped] * 61 + [Document]
    assert (items[60].source, items[61]) == (items[0].source, Document("a", "x", source=str(tmp_path / "a.jsonl")))


def test_a_line_without_end_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pitfall 22: one endless line must not fill the memory."""
    monkeypatch.setattr(jsontext, "MAX_RECORD_CHARS", 100)
    path = tmp_path / "a.jsonl"
    items = read(path, '{"text": "one"}\n{"text": "' + "x" * 1000 + '"}\n{"text": "three"}\n')
    assert [
        (item.line, item.doc_id) if isinstance(item, Document) else item.line
        for item in items
        if isinstance(item, Skipped)
    ] == [2]
    assert [item.doc_id for item in items if isinstance(item, Document)] == [f"{path}#1", f"{path}#3"]


def test_an_empty_table_says_so(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.json", "a.csv", "a.tsv"):
        path = tmp_path / name
        assert read(path, "\n") == [Skipped(str(path), "there are no records in it")]


# --- JSON


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"text": "a"}, {"text": "b"}]', ["a", "b"]),
        ('{"version": 2, "tags": ["x"], "data": [{"text": "a"}, {"text": "b"}], "end": null}', ["a", "b"]),
        ('{"id": "1", "text": "a", "tags": ["x", "y"]}', ["a"]),
        ('{"text": "a"}\n{"text": "b"}\n', ["a", "b"]),
        ('\ufeff [ {"text": "a"} ]', ["a"]),
        (
            '[{"text": "a"}, 5, "x", {"text": "b"}]',
            ["a", "skipped: not a JSON object", "skipped: not a JSON object", "b"],
        ),
    ],
)
def test_shapes_of_json(tmp_path: Path, content: str, expected: list[str]) -> None:
    assert texts(read(tmp_path / "a.json", content)) == expected


def test_json_is_read_over_the_edges_of_its_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [
        {"id": f"d{n}", "text": f'Text Ünï {n} \\ "q" 😀' * (n % 5 + 1), "n": n * 1.5, "t": True} for n in range(60)
    ]
    for size in (1, 2, 3, 7, 64):
        monkeypatch.setattr(jsontext, "CHUNK_BYTES", size)
        items = read(tmp_path / "a.json", json.dumps({"data": records}, indent=1, ensure_ascii=size % 2 == 0))
        assert [(i.doc_id, i.text, i.metadata) for i in items if isinstance(i, Document)] == [
            (r["id"], r["text"], {"n": r["n"], "t": True}) for r in records
        ]


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ('[{"text": "a"},\n{"text": "b"', 2, "not JSON: Expecting ',' delimiter"),
        ('[{"text": "a"},\n{"text" "b"}, {"text": "c"}          ]', 2, "not JSON: Expecting ':' delimiter"),
        ('[{"text": "a"},\n{"text": "b', 2, "not JSON: Unterminated string"),
        ('[{"text": "a"}\n{"text": "b"}]', 2, "not JSON: a comma or the end of the list is expected"),
        ('{"a": [{"text": "a"}],\n"b": [{"text": "b"}]}', 2, "a second list of objects, 'b'"),
    ],
)
def test_json_that_breaks_off(tmp_path: Path, content: str, line: int, reason: str) -> None:
    """Pitfall 21: what stands before the damage is kept, and the loss of the rest is reported."""
    first, second = read(tmp_path / "a.json", content)
    assert isinstance(first, Document) and first.text == "a"
    assert isinstance(second, Skipped) and second.line == line
    assert second.reason.startswith(reason) and second.reason.endswith("; the rest of the file is left out")


# --- CSV and TSV


def test_csv_with_quotes_newlines_and_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    content = '\ufeffid,text,note\r\n1,"a ""b"", c\nd",x\r\n\r\n2,short\r\n3,last,"y"\r\n'
    assert read(path, content) == [
        Document("1", 'a "b", c\nd', source=str(path), metadata={"note": "x"}),
        Skipped(str(path), "2 values where the first line names 3 fields", 5),
        Document("3", "last", source=str(path), metadata={"note": "y"}),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_csv_with_semicolons_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    """Pitfall 19: what spreadsheets save in much of Europe."""
    content = 'id;text;"a,b,c,d"\n1;Größe, Länge und Straße;5,0\n2;Müller fährt nach Köln;7,5\n'
    items = read(tmp_path / "a.csv", content.encode(encoding))
    assert texts(items) == ["Größe, Länge und Straße", "Müller fährt nach Köln"]
    assert isinstance(items[0], Document) and items[0].metadata == {"a,b,c,d": "5,0"}


def test_csv_with_a_large_field(tmp_path: Path) -> None:
    text = "word " * 100_000
    assert texts(read(tmp_path / "a.csv", f'id,text\n1,"{text}"\n')) == [text]


def test_csv_with_bytes_of_another_encoding(tmp_path: Path) -> None:
    data = b"id,text\n" + "1,größer\n".encode() * 40_000 + b"2,gr\xf6\xdfe\n" + "3,schön\n".encode()
    items = read(tmp_path / "a.csv", data)
    assert texts(items[-2:]) == ["skipped: bytes that do not belong to the encoding of the file", "schön"]


def test_names_of_fields_in_another_encoding(tmp_path: Path) -> None:
    """Pitfall 19: what is said of a bad file must be printable, too."""
    items = read(tmp_path / "a.csv", b"\xa4\xffid,size\n1,2\n", ReadOptions(encoding="utf-8", text_field="size"))
    assert texts(items) == ["2"]
    with pytest.raises(ReadError) as caught:
        read(tmp_path / "a.csv", b"\xa4\xffid,size\n1,2\n", ReadOptions(encoding="utf-8"))
    assert "its fields are \ufffd\ufffdid, size" in str(caught.value)


@pytest.mark.parametrize("names", [("id", "text", "note"), ("id", "note", "text"), ("text", "id", "note")])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tsv_with_line_ends_in_quoted_values(tmp_path: Path, names: tuple[str, ...], end: str) -> None:
    """What csv.writer, pandas and spreadsheets write of texts with paragraphs."""
    path = tmp_path / "a.tsv"
    rows = [
        {"id": "1", "text": 'one\n\n"two", he said\nthree', "note": "x"},
        {"id": "2", "text": "plain", "note": "a\nb"},
        {"id": "3", "text": "\nlast\n", "note": "c\n\nd"},
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, delimiter="\t", lineterminator=end)
        writer.writeheader()
        writer.writerows(rows)
    found = [
        (item.doc_id, item.text, item.metadata["note"]) for item in read_source(str(path)) if isinstance(item, Document)
    ]
    assert found == [(row["id"], row["text"], row["note"]) for row in rows]


def test_tsv_joins_no_lines_that_are_rows_of_their_own(tmp_path: Path) -> None:
    """A quotation that nothing ends costs at most its own row."""
    path = tmp_path / "a.tsv"
    lines = [
        "id\ttext\tnote",
        '1\t"Hello',
        "2\tgood\tx",
        '3\tsaid "so\ty',
        '4\tfine\t"open',
        "5\tgood\tz",
        '6\t"end',
        "7",
    ]
    items = read(path, "\n".join(lines))
    assert texts(items) == [
        "skipped: 2 values where the first line names 3 fields",
        "good",
        'said "so',
        "fine",
        "good",
        "skipped: 2 values where the first line names 3 fields",
        "skipped: 1 values where the first line names 3 fields",
    ]
    assert [item.line for item in items if isinstance(item, Skipped)] == [2, 7, 8]


def test_tsv_leaves_lone_quotation_marks_alone(tmp_path: Path) -> None:
    """A passage that opens with a quotation mark must not swallow the lines after it."""
    path = tmp_path / "a.tsv"
    content = 'id\ttext\n1\t"Open quote\n2\t"all ""quoted"" text"\n3\t"a" or "b"\n4\ttoo\tmany\n5\tlast\n'
    assert texts(read(path, content)) == [
        '"Open quote',
        'all "quoted" text',
        '"a" or "b"',
        "skipped: 3 values where the first line names 2 fields",
        "last",
    ]


def test_the_limit_of_the_csv_module_is_raised_and_never_lowered(tmp_path: Path) -> None:
    import csv

    before = csv.field_size_limit(2**30)
    try:
        read(tmp_path / "a.csv", "text\nx\n")
        assert csv.field_size_limit() == 2**30
    finally:
        csv.field_size_limit(before)
    read(tmp_path / "a.csv", "text\nx\n")
    assert csv.field_size_limit() == delimited.MAX_RECORD_CHARS


# --- packed tables


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl.gz", '{"text": "größer"}\n'),
        ("a.json.gz", '[{"text": "größer"}]'),
        ("a.csv.gz", "id,text\n1,größer\n"),
        ("a.tsv.gz", "id\ttext\n1\tgrößer\n"),
        ("a.txt.gz", "größer"),
    ],
)
def test_gzip_is_unpacked(tmp_path: Path, name: str, content: str) -> None:
    assert texts(read(tmp_path / name, gzip.compress(content.encode()))) == ["größer"]


def test_damaged_gzip(tmp_path: Path) -> None:
    """Pitfalls 2 and 21: a truncated archive gives what is whole and says that the rest is not."""
    path = tmp_path / "a.jsonl.gz"
    content = "".join(json.dumps({"text": f"text {n} {n * n % 7919}"}) + "\n" for n in range(20_000))
    items = read(path, gzip.compress(content.encode())[:-5000])
    assert len(items) > 10_000
    assert isinstance(items[0], Document) and items[0].text == "text 0 0"
    assert isinstance(items[-1], Skipped) and items[-1].reason.startswith("cannot be read: Compressed file ended")
    (only,) = read(path, b"this is no gzip")
    assert isinstance(only, Skipped) and "Not a gzipped file" in only.reason


# --- Parquet


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    when = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)
    table = pa.table(
        {
            "id": [1, 2, None],
            "text": ["eins", "", "drei"],
            "lang": ["de", "de", "de"],
            "when": [when, None, when],
            "score": [0.5, float("nan"), 1.0],
            "raw": [b"\x00", b"", None],
            "tags": [["a", "b"], [], None],
            "inner": [{"k": 1, "b": b"x"}] * 3,
        }
    )
    pq.write_table(table, path)
    assert list(read_source(str(path))) == [
        Document(
            "1",
            "eins",
            "",
            "de",
            str(path),
            {"when": "2024-05-01T12:30:00+00:00", "score": 0.5, "tags": ["a", "b"], "inner": {"k": 1}},
        ),
        Skipped(str(path), "no text", 2, empty=True),
        Skipped(str(path), "the field 'id' holds no id", 3),
    ]


def test_nan_becomes_null(tmp_path: Path) -> None:
    (item,) = read(tmp_path / "a.jsonl", '{"text": "x", "a": NaN, "b": [Infinity, 1.5]}')
    assert isinstance(item, Document)
    assert item.metadata == {"a": None, "b": [None, 1.5]}


@pytest.mark.parametrize("kept", [0, 4, 500, -100])
def test_damaged_parquet(tmp_path: Path, kept: int) -> None:
    """Pitfall 2: a truncated table is a reason, not a crash."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(1000)]}), path)
    (item,) = read(path, path.read_bytes()[:kept])
    assert isinstance(item, Skipped)
    assert item.reason.startswith("not a Parquet file")


def test_a_damaged_page_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"text": [f"text {n}" for n in range(5000)]}), path, row_group_size=1000, use_dictionary=False
    )
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = b"\xff" * 2000
    items = read(path, bytes(data))
    assert isinstance(items[0], Document) and items[0].text == "text 0"
    assert isinstance(items[-1], Skipped) and items[-1].reason.startswith("the rest of the file cannot be read")


# --- progress and memory


def _write(path: Path, rows: int) -> None:
    records = ({"id": str(n), "text": f"Sentence number {n}. " * 20} for n in range(rows))
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(records)), path, row_group_size=1000)
    elif path.suffix == ".csv":
        path.write_text("id,text\n" + "".join(f"{r['id']},{r['text']}\n" for r in records), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(list(records)), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_progress_sums_up_to_the_size(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    _write(path, 2500)
    told: list[int] = []
    assert sum(1 for _ in read_source(str(path), on_bytes=told.append)) == 2500
    assert sum(told) == path.stat().st_size == measure_source(str(path)).bytes
    assert len(told) > 2


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
def test_memory_does_not_grow_with_the_table(tmp_path: Path, suffix: str) -> None:
    """Pitfall 22: five times the rows, the same peak."""

    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}.{suffix}"
        _write(path, rows)
        tracemalloc.start()
        try:
            assert _count(read_source(str(path))) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(5000) < 1.3 * peak(1000) < 8 * 2**20


def _count(items: Iterator[Document | Skipped]) -> int:
    return sum(1 for item in items if isinstance(item, Document))


def test_a_reader_left_early_closes_its_file(tmp_path: Path) -> None:
    """An unclosed file would be a ResourceWarning, and warnings are errors here."""
    path = tmp_path / "a.jsonl"
    _write(path, 2000)
    items = read_source(str(path))
    assert isinstance(next(items), Document)
    del items


def test_metadata_nested_beyond_measure_cost_their_record_alone(tmp_path: Path) -> None:
    deep = "[" * 900 + "]" * 900
    path = tmp_path / "a.jsonl"
    items = read(path, f'{{"text": "one", "m": {deep}}}\n{{"text": "two"}}\n')
    assert items == [
        Skipped(str(path), "its metadata are nested too deeply", 1),
        Document(f"{path}#2", "two", source=str(path)),
    ]
