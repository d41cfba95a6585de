"""Records: plain values for JSON, hits as a sequence, safe HTML in any direction of writing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, replace
from html.parser import HTMLParser
from types import MappingProxyType

import pytest

from xsearch.records import Document, Hit, Hits, Query, Skipped, Span, is_rtl


def hit(rank: int = 1, **changes: object) -> Hit:
    base = Hit(
        rank=rank,
        score=0.875,
        passage_id=40 + rank,
        doc_id=f"d{rank}",
        lang="de",
        doc_lang="de",
        title="Kurzer Titel",
        text="Erster Satz. Zweiter Satz.",
        source="news/a.txt",
        start=10,
        end=36,
        metadata={"year": 2024, "tags": ["a", "b"]},
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def hits(*found: Hit, text: str = "Wer?", lang: str = "de") -> Hits:
    return Hits(query=Query("q1", text, lang), hits=found)


# --- plain values


def test_a_document_goes_through_json() -> None:
    document = Document(
        "d1", "Text é 中", title="T", lang="zh", source="a.txt", metadata={"n": 1, "deep": {"x": [None]}}
    )
    expected = {
        "doc_id": "d1",
        "text": "Text é 中",
        "title": "T",
        "lang": "zh",
        "source": "a.txt",
        "metadata": {"n": 1, "deep": {"x": [None]}},
    }
    assert json.loads(json.dumps(document.to_dict())) == expected
    assert Document(**document.to_dict()) == document


def test_a_hit_goes_through_json() -> None:
    plain = json.loads(json.dumps(hit(best=Span(0, 12, 0.5)).to_dict()))
    assert plain == {
        "rank": 1,
        "score": 0.875,
        "passage_id": 41,
        "doc_id": "d1",
        "lang": "de",
        "doc_lang": "de",
        "title": "Kurzer Titel",
        "text": "Erster Satz. Zweiter Satz.",
        "source": "news/a.txt",
        "start": 10,
        "end": 36,
        "metadata": {"year": 2024, "tags": ["a", "b"]},
        "best": {"start": 0, "end": 12, "score": 0.5},
        "cosine": None,
        "bm25": None,
    }
    assert hit().to_dict()["best"] is None
    both = hit(cosine=0.75, bm25=0.125).to_dict()
    assert (both["cosine"], both["bm25"]) == (0.75, 0.125)


def test_hits_go_through_json() -> None:
    found = hits(hit(1), hit(2))
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["query"] == {"query_id": "q1", "text": "Wer?", "lang": "de"}
    assert [each["doc_id"] for each in plain["hits"]] == ["d1", "d2"]


def test_metadata_may_be_any_mapping() -> None:
    metadata = MappingProxyType({"year": 2024})
    assert json.dumps(Document("d", "t", metadata=metadata).to_dict()["metadata"]) == '{"year": 2024}'
    assert json.dumps(hit(metadata=metadata).to_dict()["metadata"]) == '{"year": 2024}'


def test_changing_the_dict_leaves_the_record_alone() -> None:
    document = Document("d", "t", metadata={"year": 2024})
    document.to_dict()["metadata"]["year"] = 1
    assert document.metadata == {"year": 2024}


def test_records_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        hit().rank = 2  # type: ignore[misc]


@pytest.mark.parametrize(("line", "place"), [(None, "a.csv"), (7, "a.csv:7")])
def test_where_something_was_skipped(line: int | None, place: str) -> None:
    assert Skipped("a.csv", "empty", line).place == place


# --- a sequence


def test_hits_are_a_sequence() -> None:
    one, two, three = hit(1), hit(2), hit(3)
    found = hits(one, two, three)
    assert isinstance(found, Sequence)
    assert (len(found), found[0], found[-1], found[1:]) == (3, one, three, (two, three))
    assert (list(found), list(reversed(found))) == ([one, two, three], [three, two, one])
    assert (two in found, hit(9) in found, found.index(two), found.count(three)) == (True, False, 1, 1)
    with pytest.raises(IndexError):
        found[3]


def test_no_hits() -> None:
    found = hits()
    assert (len(found), list(found), bool(found), found[:5]) == (0, [], False, ())
    assert found._repr_html_().endswith("<tbody></tbody></table>")


# --- HTML


class Cells(HTMLParser):
    """The tags with their attributes, and the text inside each ``td``, ``b`` and ``mark``."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"td": [], "b": [], "mark": []}
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        if tag in self.texts:
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in {"td", "b", "mark"} & set(self.open):
            self.texts[tag][-1] += data


HOSTILE = "<script>alert('x')</script> & \"quoted\" <b>"


def test_everything_is_escaped() -> None:
    worst = hit(text=HOSTILE, title=HOSTILE, source=f'"{HOSTILE}', lang='"><i>', doc_lang='"><u>', best=Span(0, 9, 0.5))
    cells = Cells(hits(worst, text=HOSTILE, lang='"><s>')._repr_html_())
    assert {tag for tag, _ in cells.tags} == {"p", "b", "table", "thead", "tbody", "tr", "th", "td", "mark"}
    assert cells.texts["td"] == ["1", "0.875", '"><i>', HOSTILE, HOSTILE]
    assert cells.texts["b"] == [HOSTILE]
    attributes = [attrs for tag, attrs in cells.tags if tag == "td" and attrs]
    assert attributes == [
        {"dir": "auto", "lang": '"><u>', "title": f'"{HOSTILE}'},
        {"dir": "auto", "lang": '"><i>', "style": "text-align:start"},
    ]
    assert ("p", {"dir": "auto", "lang": '"><s>'}) in cells.tags


def test_an_id_with_markup_stands_in_for_a_missing_title() -> None:
    assert Cells(hits(hit(title="", doc_id="<x>"))._repr_html_()).texts["td"][3] == "<x>"


def test_each_text_has_its_language_and_finds_its_direction() -> None:
    arabic = hit(text="الطقس جميل", title="Wetter", lang="ar", doc_lang="de")
    cells = Cells(hits(arabic, text="Wie ist das Wetter?", lang="de")._repr_html_())
    directed = [(tag, attrs["lang"], attrs["dir"]) for tag, attrs in cells.tags if "dir" in attrs]
    assert directed == [("p", "de", "auto"), ("td", "de", "auto"), ("td", "ar", "auto")]


def test_the_best_span_is_marked() -> None:
    html = hits(hit(best=Span(13, 26, 0.5)))._repr_html_()
    assert "Erster Satz. <mark>Zweiter Satz.</mark></td>" in html


def test_the_best_span_is_marked_by_characters_and_not_by_escapes() -> None:
    text = "a < b & c. Κόσμος 😀 <ok>. Ende"
    start, end = text.index("Κ"), text.index(" Ende")
    assert Cells(hits(hit(text=text, best=Span(start, end, 0.5)))._repr_html_()).texts["mark"] == ["Κόσμος 😀 <ok>."]


def test_without_a_best_span_nothing_is_marked() -> None:
    assert "<mark>" not in hits(hit())._repr_html_()


def test_one_hit_shows_as_a_table_of_one() -> None:
    html = hit()._repr_html_()
    assert Cells(html).texts["td"] == ["1", "0.875", "de", "Kurzer Titel", "Erster Satz. Zweiter Satz."]
    assert "<p" not in html


@pytest.mark.parametrize(
    ("lang", "right_to_left"),
    [
        ("ar", True),
        ("ar-EG", True),
        ("AR", True),
        ("he", True),
        ("fa", True),
        ("ur-PK", True),
        ("ckb", True),
        ("yi", True),
        ("az-Arab", True),
        ("pa-arab-PK", True),
        ("ar-Latn", False),
        ("en", False),
        ("zh-Hant", False),
        ("de-1901", False),
        ("ar-1901", True),
        ("und", False),
        ("", False),
        ("arn", False),
    ],
)
def test_direction_of_a_language(lang: str, right_to_left: bool) -> None:
    assert is_rtl(lang) is right_to_left
