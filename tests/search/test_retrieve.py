"""The three modes of search over one index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import FakeEncoder
from xsearch import Document, Index, SearchOptions
from xsearch.encoder.builtin import BuiltinEncoder
from xsearch.errors import InvalidArgumentError
from xsearch.search.fuse import fuse
from xsearch.search.retrieve import Mode

DOCUMENTS = [
    Document("de", "Kaffee wurde zuerst in Äthiopien getrunken."),
    Document("en-name", "Zbigniew Xanadorf opened a bakery in Lodz in 1911."),
    Document("zh", "光合作用把光能变成化学能。"),
    Document("es", "El té se bebe en toda Asia desde hace siglos."),
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """An index with the built-in encoder."""
    with Index.create(tmp_path_factory.mktemp("modes") / "index", encoder=BuiltinEncoder()) as index:
        index.add(DOCUMENTS)
        yield index


def test_dense_scores_are_cosines(index: Index) -> None:
    query = "Where was coffee first drunk?"
    vector = index.encoder.encode_queries([query])[0]
    for hit in index.search(query, mode="dense"):
        passage = index.encoder.encode_passages([hit.text])[0]
        assert hit.score == pytest.approx(float(passage @ vector), abs=2e-3)
    assert index.search(query, mode="dense")[0].doc_id == "de"


def test_lexical_finds_only_what_shares_words(index: Index) -> None:
    assert [hit.doc_id for hit in index.search("Xanadorf", mode="lexical")] == ["en-name"]
    assert len(index.search("coffee", mode="lexical")) == 0


def test_hybrid_finds_names_and_meanings(index: Index) -> None:
    assert index.search("Xanadorf", mode="hybrid")[0].doc_id == "en-name"
    assert index.search("Where was coffee first drunk?", mode="hybrid")[0].doc_id == "de"


def test_without_shared_words_hybrid_ranks_as_dense_does(index: Index) -> None:
    """Pitfall 17: a query that shares no word with a corpus in another language finds what dense search finds."""
    query = "तेल और चाय के बारे में"
    dense = [hit.doc_id for hit in index.search(query, mode="dense")]
    assert [hit.doc_id for hit in index.search(query, mode="hybrid")] == dense
    assert len(index.search(query, mode="lexical")) == 0


def test_hybrid_scores_are_the_fused_ones_and_fall(index: Index) -> None:
    query = "Xanadorf bakery"
    words = {hit.doc_id: hit.score for hit in index.search(query, mode="lexical")}
    dense = index.search(query, mode="dense")
    hits = index.search(query, mode="hybrid")
    langs = ["de", "en", "zh", "es"]
    expected = fuse(
        np.array([hit.score for hit in dense], dtype=np.float32),
        np.array([words.get(hit.doc_id, 0.0) for hit in dense], dtype=np.float32),
        np.array([langs.index(hit.lang) for hit in dense]),
        np.array([hit.passage_id for hit in dense]),
        passages=len(index),
    )
    fused = {hit.doc_id: score for hit, score in zip(dense, expected.tolist(), strict=True)}
    assert {hit.doc_id: hit.score for hit in hits} == pytest.approx(fused, abs=1e-6)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[0].doc_id == "en-name"
    assert hits[0].score > dense[0].score


def test_hits_say_what_each_leg_gives_them(index: Index) -> None:
    query = "Xanadorf té"
    dense = {hit.doc_id: (hit.cosine, hit.bm25) for hit in index.search(query, mode="dense")}
    words = {hit.doc_id: (hit.cosine, hit.bm25) for hit in index.search(query, mode="lexical")}
    hybrid = {hit.doc_id: (hit.cosine, hit.bm25) for hit in index.search(query, mode="hybrid")}
    assert set(words) == {"en-name", "es"}
    assert len(hybrid) == len(DOCUMENTS)
    for doc_id, (cosine, bm25) in hybrid.items():
        assert cosine == pytest.approx(dense[doc_id][0], abs=1e-6)
        assert bm25 == words.get(doc_id, (None, 0.0))[1]
    assert {bm25 for _, bm25 in dense.values()} == {None}
    assert {cosine for cosine, _ in words.values()} == {None}
    for mode, leg in (("dense", "cosine"), ("lexical", "bm25")):
        assert all(getattr(hit, leg) == hit.score for hit in index.search(query, mode=mode))


def test_hybrid_is_the_default(index: Index) -> None:
    query = "Xanadorf"
    assert SearchOptions().mode is Mode.HYBRID
    assert index.search(query) == index.search(query, mode="hybrid")
    assert index.search_many([query]) == index.search_many([query], SearchOptions(mode="hybrid"))


def test_words_searched_alone_need_no_encoder(tmp_path: Path) -> None:
    path = tmp_path / "index"
    with Index.create(path, encoder=FakeEncoder()) as made:
        made.add(DOCUMENTS)
    with Index.open(path) as index:
        # Nobody knows an encoder of this name.
        assert [hit.doc_id for hit in index.search("Xanadorf", mode="lexical")] == ["en-name"]


def test_variants_of_a_language_are_one_language(tmp_path: Path) -> None:
    """Simplified and traditional Chinese share words: the better one takes the first place of both."""
    with Index.create(tmp_path / "index", encoder=FakeEncoder()) as index:
        index.add([Document("hans", "他喝咖啡。", lang="zh"), Document("hant", "他喝咖啡。", lang="zh-Hant")])
        assert [hit.bm25 for hit in index.search("喝")] == [hit.bm25 for hit in index.search("喝", mode="lexical")]
        scores = [hit.score for hit in index.search("喝")]
    # Both share the same, so neither stands out.
    assert scores[0] == pytest.approx(scores[1])


ODD = {
    "one letter": "a",
    "one Chinese character": "茶",
    "emoji": "😀👍🏽",
    "a flag and a joiner": "🇩🇪\u200d",
    "punctuation": "?!… – »«",
    "a quotation mark": '"',
    "quotation marks in pairs": '""" "tea" \'',
    "operators": 'tea AND (NOT coffee OR NEAR("a b", 5)) *',
    "a column filter": "title : té - {body} ^x",
    "a star": "té*",
    "a zero byte": "té\0Kaffee",
    "half a pair": "té \ud800",
    "a language that is not there": "Kahawa ilinywewa kwanza wapi?",
    "ten thousand characters": "Kaffee und Tee " * 667,
    "ten thousand characters without a space": "茶" * 10_000,
    "right to left": "أين شُرِبت القهوة أول مرة؟",
}


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
@pytest.mark.parametrize("query", ODD.values(), ids=ODD.keys())
def test_odd_queries_have_an_answer(odd: Index, query: str, mode: str) -> None:
    """Query syntax is text; meaning ranks all passages, words only those that share some."""
    hits = odd.search(query, mode=mode, mark=True)
    found = [hit.doc_id for hit in hits]
    assert len(found) == len(set(found))
    if mode == "lexical":
        assert set(found) == SHARING.get(query, set())
    else:
        assert set(found) == {document.doc_id for document in DOCUMENTS}
    keys = [(hit.score, hit.passage_id) for hit in hits]
    assert keys == sorted(keys, reverse=True)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert all(hit.best is not None and -1 <= hit.score <= 1 for hit in hits)
    if mode == "hybrid" and query not in SHARING:
        assert found == [hit.doc_id for hit in odd.search(query, mode="dense")]


# Of the odd queries, those that share words with a document.
SHARING = {
    ODD["one letter"]: {"en-name"},
    ODD["quotation marks in pairs"]: set(),
    ODD["a column filter"]: {"es"},
    ODD["a star"]: {"es"},
    ODD["half a pair"]: {"es"},
    ODD["ten thousand characters"]: {"de"},
    ODD["operators"]: {"en-name"},
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """The documents behind an encoder that takes any text."""
    with Index.create(tmp_path_factory.mktemp("odd") / "index", encoder=FakeEncoder()) as index:
        index.add(DOCUMENTS)
        yield index


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_indexes_of_no_and_of_one_passage(tmp_path: Path, mode: str) -> None:
    with Index.create(tmp_path / "index", encoder=FakeEncoder()) as index:
        assert len(index.search("Xanadorf", mode=mode, mark=True)) == 0
        index.add([DOCUMENTS[1]])
        (hit,) = index.search("Xanadorf", mode=mode, mark=True)
        assert (hit.rank, hit.doc_id) == (1, "en-name")
        assert len(index.search("Xanadorf", mode=mode, langs=["sw"])) == 0
        assert len(index.search("Xanadorf", mode=mode, where="year > 2000")) == 0
        (hit,) = index.search("Xanadorf", mode=mode, k=1000)
        assert hit.score <= 1


def test_words_never_keep_out_what_meaning_finds(tmp_path: Path) -> None:
    """Five hundred German passages with the query's words do not crowd out the others: their places stay theirs."""
    texts = [Document(f"de{n}", f"der die das und Wort{n}", lang="de") for n in range(500)]
    others = [Document(f"zh{n}", f"第{n}篇文章。", lang="zh") for n in range(50)]
    with Index.create(tmp_path / "index", encoder=FakeEncoder()) as index:
        index.add(texts + others)
        for query in ("der die das und was", "文章和字"):
            dense = [hit.lang for hit in index.search(query, mode="dense", k=50)]
            hybrid = [hit.lang for hit in index.search(query, k=50)]
            assert hybrid.count("zh") >= dense.count("zh") - 3
            assert hybrid.count("zh") <= dense.count("zh") + 3


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_filters_hold_in_every_mode(index: Index, mode: str) -> None:
    for hit in index.search("Xanadorf té Kaffee", mode=mode, langs=["de", "es"]):
        assert hit.lang in ("de", "es")


def test_deleted_documents_are_in_no_mode(index: Index) -> None:
    index.add([Document("gone", "Quixotic zephyrs vex bold Jim.")])
    assert index.search("zephyrs", mode="lexical")[0].doc_id == "gone"
    index.delete(["gone"])
    assert all(
        "gone" not in {hit.doc_id for hit in index.search("zephyrs", mode=mode)} for mode in ("lexical", "hybrid")
    )


def test_an_unknown_mode_is_refused(index: Index) -> None:
    with pytest.raises(InvalidArgumentError, match="mode"):
        index.search("x", mode="magic")
