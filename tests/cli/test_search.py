"""``xsearch search``: what comes out, in which form, and what is done with queries of all kinds."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import termios
from pathlib import Path

import ir_measures
import pytest

from tests.cli.conftest import Outcome, Xsearch, process, refused, start, write_lines
from tests.cli.test_show import BOLD, STYLES, cells
from xsearch.cli.search import trec_lines
from xsearch.records import Hit, Hits, Query

HELIUM = "During which eclipse was helium first noticed?"


def test_a_question_is_answered_across_languages(find: Xsearch) -> None:
    outcome = find(HELIUM, "-k", "3")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(" 1. 0.")
    lines = outcome.out.splitlines()
    assert [line[:4] for line in lines if line[:3].strip()] == [" 1. ", " 2. ", " 3. "]
    assert "/solar-eclipse." in lines[0]
    assert outcome.out.count(">>") == outcome.out.count("<<") == 3
    assert max(map(cells, lines)) <= 100


def test_json(find: Xsearch) -> None:
    found = find("printing press", "-k", "2", "--json", "--lang", "ru").json
    assert found["query"] == {"query_id": "1", "text": "printing press", "lang": "und"}
    assert [hit["rank"] for hit in found["hits"]] == [1, 2]
    first, second = found["hits"]
    assert isinstance(first["score"], float) and -1 <= second["score"] <= first["score"] <= 1
    assert (first["lang"], first["doc_lang"], first["best"]) == ("ru", "ru", None)
    assert -1 <= first["cosine"] <= 1 and 0 <= first["bm25"] <= 1
    assert Path(first["source"]).is_file()
    assert first["metadata"]["topic"]
    modes = {mode: find("tea", "-k", "1", "--json", "--mode", mode).json["hits"][0] for mode in ("dense", "lexical")}
    assert (modes["dense"]["cosine"], modes["dense"]["bm25"]) == (modes["dense"]["score"], None)
    assert (modes["lexical"]["cosine"], modes["lexical"]["bm25"]) == (None, modes["lexical"]["score"])
    marked = find("printing press", "-k", "1", "--json", "--mark").json["hits"][0]
    assert 0 <= marked["best"]["start"] < marked["best"]["end"] <= len(marked["text"])
    assert isinstance(marked["best"]["score"], float)
    assert ">>" not in find("printing press", "-k", "1", "--no-mark").out


def test_languages_and_filters(find: Xsearch) -> None:
    hits = find("tea", "-k", "50", "--json", "--lang", "deu", "--lang", "ZH", "--where", "topic != 'coffee'").json[
        "hits"
    ]
    assert {hit["lang"] for hit in hits} == {"de", "zh"}
    assert "coffee" not in {hit["metadata"].get("topic") for hit in hits}
    refused(find("tea", "--where", "topic = "), "topic = ")
    refused(find("tea", "--lang", "klingonese!"), "klingonese!")
    nothing = find("tea", "--where", "topic = 'no such topic'")
    assert (nothing.code, nothing.out) == (0, "No passage fits.\n")


@pytest.mark.parametrize("query", ["茶", "น", "چ", "च", "?", "🍵", "e\u0301"])
def test_one_character(find: Xsearch, query: str) -> None:
    found = find(query, "-k", "2", "--json").json
    assert found["query"]["text"] == query
    assert len(found["hits"]) == 2


@pytest.mark.parametrize("query", ["", " ", "\n\t"])
def test_an_empty_query(find: Xsearch, query: str) -> None:
    refused(find(query), "has no text", "at least one character", "Leave it out")


def test_a_query_that_looks_like_an_option(find: Xsearch) -> None:
    assert find("-k", "1", "--json", "--", "-k -v --help").json["query"]["text"] == "-k -v --help"


def test_more_hits_than_passages(find: Xsearch, demo: tuple[Path, Outcome]) -> None:
    assert len(find("tea", "-k", "100000", "--json", "--no-mark").json["hits"]) == demo[1].json["passages"]


def test_another_encoder_is_refused(find: Xsearch, tmp_path: Path) -> None:
    refused(find("tea", "--encoder", str(tmp_path)), str(tmp_path))


# Batches


def test_queries_from_standard_input(find: Xsearch) -> None:
    stdin = "\ufeffq1\tprinting press\r\n\r\n  \r\n鲸\r\nq 3\t  الشاي \t أخضر\nq4\t\n\tno id\nlast".encode()
    outcome = find("-", "-k", "1", "--json", stdin=stdin)
    assert outcome.code == 0
    found = [json.loads(line) for line in outcome.out.splitlines()]
    assert [(line["query"]["query_id"], line["query"]["text"]) for line in found] == [
        ("q1", "printing press"),
        ("4", "鲸"),
        ("q 3", "الشاي \t أخضر"),
        ("7", "no id"),
        ("8", "last"),
    ]
    assert all(len(line["hits"]) == 1 for line in found)
    assert outcome.err == "The query q4 has no text and is left out\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_queries_in_other_encodings(find: Xsearch, encoding: str) -> None:
    stdin = "q1\tWer erfand den Buchdruck für Bücher?\nq2\t茶\n".encode(encoding)
    lines = find("-", "-k", "1", "--json", stdin=stdin).out.splitlines()
    assert [json.loads(line)["query"]["text"] for line in lines] == ["Wer erfand den Buchdruck für Bücher?", "茶"]


def test_queries_are_read_alike_in_every_locale(demo: tuple[Path, Outcome]) -> None:
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "XSEARCH_INDEX_DIR": str(demo[0])}
    outcome = process("search", "demo", "-", "-k", "1", "--json", cwd=demo[0], env=env, stdin="茶\n".encode())
    assert outcome.json["query"]["text"] == "茶"


def test_a_query_that_is_no_text(find: Xsearch) -> None:
    outcome = find("-", "-k", "1", "--json", stdin="\ufeffgood\n".encode() * 9 + b"t\xff\xe9\x81 bad\n")
    refused(outcome, "-:10: this query is not in the encoding of the rest")
    refused(find("-", stdin=bytes(range(256)) * 9), "-: this is binary data")


def test_no_queries(find: Xsearch) -> None:
    assert find("-", stdin=b"") == find("-", stdin=b"\n\r\n") == Outcome(0, "", "")


def test_a_batch_says_what_was_asked(find: Xsearch) -> None:
    out = find("-", "-k", "1", stdin="the nile\n茶\n".encode()).out
    first, second = out.split("\n\n")[:2]
    assert first.startswith("the nile\n 1. ")
    assert second.startswith("茶\n 1. ")


def test_a_filter_with_a_name_that_no_document_has(find: Xsearch) -> None:
    outcome = find("tea", "--where", "Yaer > 2000")
    assert outcome.out.strip() == "No passage fits."
    assert outcome.err == "No document has 'Yaer' among its metadata; names count with their case.\n"
    assert find("tea", "--where", "source = 'nowhere'").err == ""


def test_queries_as_json_lines(find: Xsearch) -> None:
    stdin = '\ufeff\n{"_id": "q1", "text": "printing press", "metadata": {}}\n\n{"_id": 7, "text": "鲸"}\n'.encode()
    answers = [json.loads(line)["query"] for line in find("-", "-k", "1", "--json", stdin=stdin).out.splitlines()]
    assert [(query["query_id"], query["text"]) for query in answers] == [("q1", "printing press"), ("7", "鲸")]
    (line,) = find("-", "-k", "1", "--json", stdin=b'\n{"text": "no id"}\n').out.splitlines()
    assert json.loads(line)["query"]["query_id"] == "-#2"
    (line,) = find("-", "-k", "1", "--json", stdin=b"{x} in braces\n").out.splitlines()
    assert json.loads(line)["query"]["text"] == "{x} in braces"


def test_a_query_of_json_lines_that_cannot_be_read(find: Xsearch) -> None:
    refused(find("-", stdin=b'{"_id": "1", "text": "tea"}\n{"_id": \n'), "-:2: ", "not JSON", '{"_id": "q1"')
    refused(find("-", stdin=b'{"_id": "1", "text": "tea"}\n{"_id": "2"}\n'), "-:2: ", "no text")
    refused(find("-", stdin=b'{"question": "tea"}\n'), "no field is known to hold the text")


def test_a_batch_gives_what_single_queries_give(find: Xsearch) -> None:
    queries = ["the nile", "茶", HELIUM]
    batch = find("-", "-k", "5", "--json", stdin="\n".join(queries).encode()).out.splitlines()
    for query, line in zip(queries, batch, strict=True):
        together, alone = json.loads(line)["hits"], find(query, "-k", "5", "--json").json["hits"]
        assert [hit["passage_id"] for hit in together] == [hit["passage_id"] for hit in alone]
        assert [hit["score"] for hit in together] == pytest.approx([hit["score"] for hit in alone], abs=1e-6)


# TREC


def test_a_trec_run(find: Xsearch, tmp_path: Path) -> None:
    outcome = find("-", "--trec", "-k", "40", "-o", "run.txt", stdin=b"q1\ttea\nq2\tthe nile\n")
    assert outcome == Outcome(0, "", "")
    text = (tmp_path / "run.txt").read_text(encoding="utf-8")
    run = list(ir_measures.read_trec_run(text))
    assert {item.query_id for item in run} == {"q1", "q2"}
    pairs = [(item.query_id, item.doc_id) for item in run]
    assert len(set(pairs)) == len(pairs)
    for query_id in ("q1", "q2"):
        lines = [line.split(" ") for line in text.splitlines() if line.startswith(query_id)]
        assert [(len(line), line[1], int(line[3]), line[5]) for line in lines] == [
            (6, "Q0", rank, "xsearch") for rank in range(1, len(lines) + 1)
        ]
        # The order that trec_eval makes of it is the order of the lines.
        assert lines == sorted(lines, key=lambda line: (float(line[4]), line[2]), reverse=True)
    best = find("tea", "-k", "1", "--json").json["hits"][0]
    assert (run[0].doc_id, run[0].score) == (best["doc_id"], pytest.approx(best["score"], abs=1e-8))


def hit(doc_id: str, score: float) -> Hit:
    return Hit(1, score, 1, doc_id, "en", "en", "", "x", "", 0, 1)


def test_trec_ids_scores_and_ties() -> None:
    near = 0.5000001
    hits = (hit("b", near), hit("a b", 0.5), hit("c\u3000d", 0.5), hit("b", 0.5), hit("a_b", 0.25), hit("z", -1e-7))
    assert list(trec_lines(Hits(Query("my query", "x"), hits))) == [
        "my_query Q0 b 1 0.500000100 xsearch\n",
        "my_query Q0 c_d 2 0.500000000 xsearch\n",
        "my_query Q0 a_b 3 0.500000000 xsearch\n",
        "my_query Q0 z 4 -0.000000100 xsearch\n",
    ]
    assert list(trec_lines(Hits(Query("1", "x"), ()))) == []


# Files and terminals


def test_output_goes_to_a_file_in_utf8(find: Xsearch) -> None:
    assert find("茶", "-k", "1", "--lang", "ja", "-o", "out.txt") == Outcome(0, "", "")
    text = Path("out.txt").read_text(encoding="utf-8")
    assert text.startswith(" 1. ") and "茶" in text and "\x1b" not in text
    assert find("tea", "-k", "1", "--json", "-o", "out.txt").code == 0
    assert len(json.loads(Path("out.txt").read_text(encoding="utf-8"))["hits"]) == 1


def test_a_file_that_cannot_be_written(find: Xsearch, tmp_path: Path) -> None:
    refused(find("tea", "-o", "nowhere/out.txt"), f"{Path('nowhere/out.txt')} cannot be written", "Make the folder")
    assert find("tea", "-o", tmp_path).code == 2


@pytest.mark.parametrize("columns", [40, 90])
def test_on_a_terminal(demo: tuple[Path, Outcome], columns: int) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {"TERM": "xterm-256color", "XSEARCH_INDEX_DIR": str(demo[0]), "COLUMNS": ""}
    with start("search", "demo", "الشاي", "-k", "4", cwd=demo[0], env=env, stdout=slave) as running:
        os.close(slave)
        output = b""
        while chunk := _read(master):
            output += chunk
        _, err = running.communicate(timeout=60)
    os.close(master)
    assert (running.returncode, err) == (0, b"")
    text = output.decode().replace("\r\n", "\n")
    assert len(BOLD.findall(text)) >= 4
    widths = [cells(line) for line in STYLES.sub("", text).splitlines()]
    assert columns - 12 < max(widths) <= columns


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's way to say that the other side is closed
        return b""


def test_duplicates_and_odd_ids(xsearch: Xsearch, tmp_path: Path) -> None:
    write_lines(
        tmp_path / "odd.jsonl",
        {"id": "with space", "text": "Tea is grown in the hills."},
        {"id": "b", "text": "Tea is grown in the hills."},
        {"id": "c", "text": "Tea is grown in the hills."},
    )
    assert xsearch("index", "odd", "odd.jsonl", "-q").code == 0
    run = list(ir_measures.read_trec_run(xsearch("search", "odd", "tea in hills", "--trec").out))
    assert [item.doc_id for item in run] == ["with_space", "c", "b"]
    assert len({item.score for item in run}) == 1


def test_modes(find: Xsearch) -> None:
    words = find("Joseph Meister", "--mode", "lexical", "--json").json["hits"]
    assert "Joseph Meister" in words[0]["text"]
    assert all("Joseph" in hit["text"] or "Meister" in hit["text"] for hit in words)
    both = find("Joseph Meister", "--mode", "hybrid", "-k", "3", "--json").json["hits"]
    assert both[0]["doc_id"] in {hit["doc_id"] for hit in words}
    assert find("qwxyz", "--mode", "lexical").out == "No passage fits.\n"
    assert "The encoder does not know" in find("ᏣᎳᎩ", "-k", "1").err
    assert find("ᏣᎳᎩ", "-k", "1", "--mode", "lexical").err == find("tea", "-k", "1").err == ""
    assert find("x", "--mode", "telepathic").code == 2
    assert find("कोई", "--mode", "lexical", "--lang", "hi", "--trec").code == 0


def test_trec_gives_k_documents_however_many_passages_they_have(xsearch: Xsearch, tmp_path: Path) -> None:
    long = " ".join(f"The river Nile floods in summer, as it did in the year {year}." for year in range(1, 400))
    rows = [{"id": "long", "text": long}, *({"id": f"d{n}", "text": f"A short note {n}."} for n in range(6))]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    xsearch("index", "rivers", tmp_path / "rows.jsonl")
    passages = xsearch("search", "rivers", "When does the Nile flood?", "-k", "5", "--json").json["hits"]
    assert {hit["doc_id"] for hit in passages} == {"long"}
    lines = xsearch("search", "rivers", "When does the Nile flood?", "-k", "5", "--trec").out.splitlines()
    assert len(lines) == len({line.split()[2] for line in lines}) == 5
    assert lines[0].split()[2:4] == ["long", "1"]
    everything = xsearch("search", "rivers", "When does the Nile flood?", "-k", "50", "--trec").out.splitlines()
    assert len(everything) == 7
