"""Filters: what fits, what does not, and what is refused, with the place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import FakeEncoder
from xsearch.errors import FilterError
from xsearch.index import Index
from xsearch.records import Document
from xsearch.store.where import MAX_COMPARISONS, MAX_DEPTH, MAX_VALUES, parse_where

DOCUMENTS = [
    Document("a", "text", title="It's", lang="de", source="wiki", metadata={"year": 1999, "tag": "red", "ok": True}),
    Document(
        "b", "text", title="B 100%", lang="zh-Hant", source="web", metadata={"year": 2000, "tag": "Blue", "ok": False}
    ),
    Document("c", "text", lang="en", source="wiki", metadata={"year": 2000.5, "tag": None, "größe": "mittel"}),
    Document("d", "text", lang="en", source="web", metadata={"year": "2001", "tag": "x_y", "ok": "True", "年": 7}),
    Document("e", "text", lang="en", metadata={"year": "n/a", "a.b": 1, "a": {"b": 2}, "50%": "p", "it's": "q"}),
    Document("f", "text", lang="en", metadata={"big": 9007199254740993, "zero": "007", "tag": "", "list": ["x", 1]}),
    Document("1984", "text", lang="en", metadata={"sp ace": "müde 😀", "neg": -1.5, "year": False, "c\\d": "back"}),
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, catalog_url: str | None) -> Iterator[Index]:
    with Index.create(tmp_path_factory.mktemp("where") / "index", encoder=FakeEncoder(), catalog=catalog_url) as made:
        made.add(DOCUMENTS)
        yield made


def fits(index: Index, where: str) -> str:
    return " ".join(index.find(where))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        # The document's own fields.
        ("doc_id = 'a'", "a"),
        ("doc_id = '1984'", "1984"),
        ("doc_id in ('a', 'c', 'nobody')", "a c"),
        ("doc_id not in ('a', 'c')", "b d e f 1984"),
        ("doc_id > 'e'", "f"),
        ("title = 'It''s'", "a"),
        ("title like '%100\x25'", "b"),
        ("title != ''", "a b"),
        ("source = 'wiki'", "a c"),
        ("source <> 'wiki'", "b d e f 1984"),
        ("lang = 'zh-Hant'", "b"),
        ("lang == 'de'", "a"),
        ("lang like 'zh%'", "b"),
        ("title is null", ""),
        # Numbers: as numbers, whether the reader kept them as such or as text.
        ("year = 2000", "b"),
        ("year = 2000.0", "b"),
        ("year = 2e3", "b"),
        ("year = +2000", "b"),
        ("year != 2000", "a c d e 1984"),
        ("not year = 2000", "a c d e 1984"),
        ("year < 2000", "a"),
        ("year <= 2000", "a b"),
        ("year > 2000", "c d"),
        ("year >= 2000", "b c d"),
        ("not year >= 2000", "a"),
        ("year in (1999, 2001)", "a d"),
        ("year not in (1999, 2001)", "b c e 1984"),
        ("neg = -1.5", "1984"),
        ("neg < 0", "1984"),
        ("neg > -.5", ""),
        ("big = 9007199254740993", "f"),
        ("big = 9007199254740992", ""),
        ("big < 99999999999999999999999", "f"),
        ("big < 1e999", "f"),
        ("zero = 7", ""),
        ("年 = 7", "d"),
        ("年 = ٧", "d"),
        # Text next to text.
        ("year = '2000'", "b"),
        ("year = '2001'", "d"),
        ("year != '2000'", "a c d e 1984"),
        ("tag = 'red'", "a"),
        ("tag != 'red'", "b d f"),
        ("tag = ''", "f"),
        ("tag = 'blue'", ""),
        ("tag like 'bl%'", "b"),
        ("tag not like 'bl%'", "a d f"),
        ("tag like '_e_'", "a"),
        ("tag like 'x%y'", "d"),
        ("tag in ('red', 'x_y')", "a d"),
        ("year in ('n/a', 2000)", "b e"),
        ("year not in ('n/a', 2000)", "a c d 1984"),
        ("year in (true, 2000, 'n/a')", "b e"),
        ("list like '%\"x\"%'", "f"),
        # True and false.
        ("ok = true", "a d"),
        ("ok = FALSE", "b"),
        ("ok != true", "b"),
        ("ok = 'true'", "a"),
        ("ok = 1", ""),
        ("year = false", "1984"),
        # Missing, and null, fit nothing but "is null".
        ("tag is null", "c e 1984"),
        ("tag is not null", "a b d f"),
        ("nothing = 1", ""),
        ("nothing != 1", ""),
        ("not nothing = 1", ""),
        ("nothing not in (1, 'x')", ""),
        ("nothing not like 'x'", ""),
        ("not (nothing < 1 or nothing >= 1)", ""),
        ("nothing is null and source = 'wiki'", "a c"),
        # And, or, not.
        ("source = 'wiki' or source = 'web' and year = 2000", "a b c"),
        ("(source = 'wiki' or source = 'web') and year = 2000", "b"),
        ("not source = 'wiki' and year = 2000", "b"),
        ("not (source = 'wiki' and year = 1999) and year < 2001", "b c"),
        ("not not source = 'wiki'", "a c"),
        ("year = 1999 and tag = 'red' and ok = true", "a"),
        ("((((year = 1999))))", "a"),
        ("NOT year = 1999 AnD tag LIKE 'x%' Or doc_id IN ('e')", "d e"),
        (" \t\n year\n=\t1999 ", "a"),
        ("year=1999 or(year=2000)", "a b"),
        # Names of fields.
        ("\"größe\" = 'mittel'", "c"),
        ("größe = 'mittel'", "c"),
        ('"year" = 1999', "a"),
        ("\"sp ace\" = 'müde 😀'", "1984"),
        ("a.b = 1", "e"),
        ('"a.b" = 1', "e"),
        ("a like '%\"b\":%2%'", "e"),
        ("\"50%\" = 'p'", "e"),
        ("\"it's\" = 'q'", "e"),
        ("\"c\\d\" = 'back'", "1984"),
        ("\"and\" is null and doc_id = 'a'", "a"),
        ("\"doc_id\" = 'a'", "a"),
        ("Year = 1999", ""),
        ('"$[0]" is not null', ""),
        ('"" = 1 or year = 1999', None),
    ],
)
def test_what_fits(index: Index, where: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(FilterError):
            index.find(where)
    else:
        assert fits(index, where) == expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("source = 'wiki'", "record python"),
        ("source like '%.jsonl'", "file null"),
        ("source in ('wiki', 'b.jsonl')", "record python null"),
        ("source is null", ""),
        ("year >= 2000 and source = 'wiki'", "record"),
    ],
)
def test_a_source_among_the_metadata_goes_before_the_file(
    tmp_path: Path, where: str, expected: str, catalog_url: str | None
) -> None:
    with Index.create(tmp_path / "index", encoder=FakeEncoder(), catalog=catalog_url) as made:
        made.add(
            [
                Document("record", "text", source="a.jsonl", metadata={"source": "wiki", "year": 2000}),
                Document("file", "text", source="a.jsonl", metadata={"year": 2000}),
                Document("python", "text", metadata={"source": "wiki"}),
                Document("null", "text", source="b.jsonl", metadata={"source": None}),
            ]
        )
        assert fits(made, where) == expected


@pytest.mark.parametrize(
    ("where", "found", "expected"),
    [
        ("", "the end", "the name of a field"),
        ("   ", "the end", "the name of a field"),
        ("year", "the end", "a comparison: ="),
        ("year >", "the end", "a value: text in single quotes, a number, true or false"),
        ("year > 'x' and", "the end", "the name of a field"),
        ("year 5", "'5' at character 6", "a comparison: ="),
        ("5 = year", "'5' at character 1", "the name of a field"),
        ("year = 5 tag = 6", "'tag' at character 10", "the end, 'and' or 'or'"),
        ("year = null", "'null' at character 8", "a value"),
        ("year = tag", "'tag' at character 8", "a value"),
        ("(year = 5", "the end", "')'"),
        ("year = 5)", "')' at character 9", "the end, 'and' or 'or'"),
        ("year in 5", "'5' at character 9", "'('"),
        ("year in ()", "')' at character 10", "a value"),
        ("year in (5,)", "')' at character 12", "a value"),
        ("year in (5", "the end", "')'"),
        ("year is 5", "'5' at character 9", "'null'"),
        ("year is not true", "'true' at character 13", "'null'"),
        ("year like 5", "'5' at character 11", "text in single quotes after 'like'"),
        ("year not = 5", "'=' at character 10", "a comparison: ="),
        ("and = 5", "'and' at character 1", "the name of a field"),
        ("year = = 5", "'=' at character 8", "a value"),
        ("doc_id = 1984", "'1984' at character 10", "text in single quotes, because doc_id is text"),
        ("title in ('a', true)", "'true' at character 16", "text in single quotes, because title is text"),
        ("ok > true", "the end", "'=' or '!=' between a field and true or false"),
        ("grö = 'x' or 年 ~ 1", "'~ 1'", "A filter compares fields with values"),
        ("year = 'open", '"\'open"', "A filter compares fields with values"),
        ('"open = 5', "'\"open = 5'", "A filter compares fields with values"),
        ("year = 1.2.3", "'1.2.3'", "A filter compares fields with values"),
        ("year = 5; DROP TABLE documents", "'; DROP TABLE", "A filter compares fields with values"),
        ("year = 5 -- x", "'-- x'", "A filter compares fields with values"),
    ],
)
def test_what_is_refused(where: str, found: str, expected: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_where(where)
    assert found in caught.value.given
    assert caught.value.expected.startswith(("Expected was " + expected, expected))


@pytest.mark.parametrize(
    "where",
    [
        "doc_id = '''; DROP TABLE documents; --'",
        "tag = '\" OR 1=1 --'",
        "\"x' OR '1'='1\" = 'y'",
        '"x\') OR 1=1 --" = 5',
        "tag like '%'' UNION SELECT * FROM settings --'",
        "\"$.a') = 1 or ('1\" = 1",
        "tag = ':param_1 %(x)s ? %s'",
        '":x" = 1',
    ],
)
def test_injection_is_only_text(index: Index, where: str) -> None:
    assert fits(index, where) == ""
    assert len(index) == len(DOCUMENTS)


@pytest.mark.parametrize(
    "where",
    [
        " or ".join(f"year = {n}" for n in range(MAX_COMPARISONS)),
        " and ".join(["(year > 5 or not tag = 'red')"] * (MAX_COMPARISONS // 2)),
        "(" * (MAX_DEPTH - 1) + "year = 5" + ")" * (MAX_DEPTH - 1),
        "not " * (MAX_DEPTH - 1) + "year = 5",
        f"year in ({', '.join(map(str, range(MAX_VALUES)))})",
        f"doc_id in ({', '.join(repr(str(n)) for n in range(MAX_VALUES))})",
        f"tag not like '{'%a' * 100}'",
    ],
)
def test_long_filters_work_up_to_the_limit(index: Index, where: str) -> None:
    index.find(where)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (" or ".join(["year = 1"] * (MAX_COMPARISONS + 1)), f"at most {MAX_COMPARISONS} comparisons"),
        ("(" * 100_000, f"at most {MAX_DEPTH} parentheses"),
        ("not " * 100_000 + "year = 5", f"at most {MAX_DEPTH} parentheses"),
        (f"year in ({', '.join(['1'] * (MAX_VALUES + 1))})", "at most 10,000 values"),
    ],
)
def test_too_long_filters_are_refused(where: str, expected: str) -> None:
    """SQLite would call them an error of the database, and Python would run out of stack."""
    with pytest.raises(FilterError, match=expected):
        parse_where(where)


def test_what_cannot_be_stored_is_looked_for_as_it_was_stored(index: Index) -> None:
    with Index.open(index.path, encoder=FakeEncoder()) as other:
        other.add([Document("odd\ud800", "text", lang="en", metadata={"k": "v\udfff"})])
        assert other.find("k = 'v\udfff' and doc_id = 'odd\ud800'") == ["odd\ufffd"]
        assert other.delete(["odd\ud800"]) == 1


def test_names_that_no_document_has(index: Index) -> None:
    where = "YEAR > 1 or (tag = 'x' or \"sp ace\" = 'y') and not lang = 'de' and source = 'a' or never = 1 or YEAR < 3"
    assert index.unknown_names(where) == ["YEAR", "never"]
    with pytest.raises(FilterError):
        index.unknown_names("year >")
