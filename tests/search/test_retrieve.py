"""The three modes of search over one index."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from xsearch import Document, Index
from xsearch.encoder.builtin import BuiltinEncoder
from xsearch.errors import InvalidArgumentError
from xsearch.search.fuse import fuse

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
    for hit in index.search(query):
        passage = index.encoder.encode_passages([hit.text])[0]
        assert hit.score == pytest.approx(float(passage @ vector), abs=2e-3)
    assert index.search(query)[0].doc_id == "de"


def test_lexical_finds_only_what_shares_words(index: Index) -> None:
    assert [hit.doc_id for hit in index.search("Xanadorf", mode="lexical")] == ["en-name"]
    assert len(index.search("coffee", mode="lexical")) == 0


def test_hybrid_finds_names_and_meanings(index: Index) -> None:
    assert index.search("Xanadorf", mode="hybrid")[0].doc_id == "en-name"
    assert index.search("Where was coffee first drunk?", mode="hybrid")[0].doc_id == "de"


def test_without_shared_words_hybrid_ranks_as_dense_does(index: Index) -> None:
    """Pitfall 17: a query that shares no word with a corpus in another language finds what dense search finds."""
    query = "तेल और चाय के बारे में"
    dense = [hit.doc_id for hit in index.search(query)]
    assert [hit.doc_id for hit in index.search(query, mode="hybrid")] == dense
    assert len(index.search(query, mode="lexical")) == 0


def test_hybrid_scores_are_the_fused_ones_and_fall(index: Index) -> None:
    query = "Xanadorf bakery"
    words = {hit.doc_id: hit.score for hit in index.search(query, mode="lexical")}
    dense = {hit.doc_id: hit.score for hit in index.search(query)}
    hits = index.search(query, mode="hybrid")
    for hit in hits:
        expected = fuse(
            np.array([dense[hit.doc_id]], dtype=np.float32), np.array([words.get(hit.doc_id, 0.0)], dtype=np.float32)
        )
        assert hit.score == pytest.approx(float(expected[0]), abs=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


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
