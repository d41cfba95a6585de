"""What an index must hold and answer, worked out without it: by brute force over documents and numpy's products."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from tests.fakes import FakeEncoder, embed
from xsearch.index import Index
from xsearch.maintain.verify import verify_index
from xsearch.records import Document, Hit, Hits
from xsearch.search.retrieve import SearchOptions
from xsearch.store.ann import ANN_FOLDER
from xsearch.store.catalog import CATALOG_FILE
from xsearch.store.files import LOCK_FILE
from xsearch.store.vectors import VECTORS_FOLDER
from xsearch.text.passages import with_title
from xsearch.text.segment import query_terms, segment

ALL = 10_000
QUERIES = ("word7 part2", "word31 number5")
# A filter, and what it leaves.
FILTERS: tuple[tuple[dict[str, Any], Callable[[Hit], bool]], ...] = (
    ({}, lambda hit: True),
    ({"langs": ["de"]}, lambda hit: hit.lang == "de"),
    ({"where": "even = true and source != 'file-2.txt'"}, lambda hit: bool(hit.metadata.get("even"))
     and hit.source != "file-2.txt"),
)  # fmt: skip
WORDS = ("part1", "word9 title")


@dataclass(frozen=True)
class State:
    """All that an index holds and finds, but for the numbers of passages.

    Attributes:
        encoder: the name of the one that made the vectors.
        documents: as stored, by id.
        hits: of the first query: every passage, with its score.
        answers: to every query under every filter.
    """

    encoder: str
    documents: dict[str, Document]
    hits: tuple[Hit, ...]
    answers: tuple[tuple[tuple[object, ...], ...], ...]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State):
            return NotImplemented
        return (self.encoder, self.documents, self.answers) == (other.encoder, other.documents, other.answers)


def open_index(path: Path, **options: Any) -> Index:
    """The index with the fake encoder that it was built with."""
    with Index.open(path) as index:
        name = index.fingerprint.name
    return Index.open(path, encoder=FakeEncoder(name, **options))


def read_state(path: Path) -> State:
    """What the index in a folder holds and finds, with as many hits as there are."""
    with open_index(path) as index:
        answers = [search(index, QUERIES, k=ALL, mode="dense", **asked) for asked, _ in FILTERS]
        found = [tuple(_shown(hit) for hit in hits) for some in answers for hits in some]
        # BM25 depends on deleted passages until the index is compacted: only what is found counts.
        worded = [search(index, WORDS, k=ALL, mode="lexical", **asked) for asked, _ in FILTERS]
        found += [tuple(sorted(_shown(hit)[1:] for hit in hits)) for some in worded for hits in some]
        stored = {item.doc_id: item for item in index}
        return State(index.fingerprint.name, stored, tuple(answers[0][0]), tuple(found))


def search(index: Index, queries: Sequence[str], **asked: Any) -> list[Hits]:
    """The hits of each query, on one state of the index."""
    return index.search_many(queries, SearchOptions(**asked))


def _shown(hit: Hit) -> tuple[object, ...]:
    return (hit.score, hit.doc_id, hit.start, hit.end, hit.text, hit.lang, hit.title, hit.source, repr(hit.metadata))


def check_state(state: State, documents: Iterable[Document]) -> None:
    """That a state is that of these documents, by the passages' texts alone."""
    expected = {item.doc_id: item for item in documents}
    assert state.documents == expected
    pieces: dict[str, list[Hit]] = {}
    for hit in sorted(state.hits, key=lambda hit: hit.start):
        pieces.setdefault(hit.doc_id, []).append(hit)
        document = expected[hit.doc_id]
        assert (hit.text, hit.title, hit.source, hit.metadata) == (
            document.text[hit.start : hit.end], document.title, document.source, document.metadata
        )  # fmt: skip
    assert {name: " ".join(hit.text for hit in own) for name, own in pieces.items()} == {
        name: document.text for name, document in expected.items()
    }
    vectors = stored_vectors(state.hits, state.encoder)
    answers = iter(state.answers)
    for _, fits in FILTERS:
        for query, found in zip(QUERIES, answers, strict=False):
            true = scores(vectors, query, state.encoder).tolist()
            met = {(hit.doc_id, hit.start): score for hit, score in zip(state.hits, true, strict=True) if fits(hit)}
            fitting = sorted(_shown(hit)[1:] for hit in state.hits if fits(hit))
            assert sorted(row[1:] for row in found) == fitting
            assert_allclose([row[0] for row in found], [met[row[1], row[2]] for row in found], atol=1e-6)
            assert [row[0] for row in found] == sorted((row[0] for row in found), reverse=True)
    for _, fits in FILTERS:
        for query, found in zip(WORDS, answers, strict=False):
            terms = {token for term in query_terms(query) for token in term}
            worded = [hit for hit in state.hits if terms & set(segment(f"{hit.title} {hit.text}").split())]
            assert found == tuple(sorted(_shown(hit)[1:] for hit in worded if fits(hit)))
    assert next(answers, None) is None


def stored_vectors(hits: Iterable[Hit], encoder: str = "fake") -> NDArray[np.float32]:
    """The vectors that an index keeps of passages."""
    return embed([with_title(hit.title, hit.text) for hit in hits], encoder).astype(np.float16).astype(np.float32)


def scores(vectors: NDArray[np.float32], query: str, encoder: str = "fake") -> NDArray[np.float32]:
    """The true scores of passages."""
    found: NDArray[np.float32] = vectors @ embed([query], encoder)[0]
    return found


def check_approximate(path: Path, state: State) -> None:
    """That a search for the best few finds most of them, with their true scores, and only what fits."""
    vectors = stored_vectors(state.hits, state.encoder)
    places = {(hit.doc_id, hit.start): place for place, hit in enumerate(state.hits)}
    met = asked_for = 0
    queries = (*QUERIES, "number3 part4", "word2")
    with open_index(path) as index:
        for asked, fits in FILTERS:
            fitting = [place for place, hit in enumerate(state.hits) if fits(hit)]
            for query, hits in zip(queries, search(index, queries, k=5, mode="dense", **asked), strict=True):
                every = scores(vectors, query, state.encoder)
                found = [places[hit.doc_id, hit.start] for hit in hits]
                assert set(found) <= set(fitting)
                assert len(set(found)) == len(found) == min(5, len(fitting))
                assert_allclose([hit.score for hit in hits], every[found], atol=1e-6)
                best = np.sort(every[fitting])[::-1][:5]
                asked_for += len(best)
                met += int((every[found] >= best[-1] - 1e-6).sum()) if len(best) else 0
    assert met >= 0.9 * asked_for, f"{met} of {asked_for}"


def check_in_order(path: Path) -> None:
    """That nothing on disk is damaged."""
    with open_index(path) as index:
        name, count = index.fingerprint.name, index.info().passages
    report = verify_index(path, encoder=FakeEncoder(name), sample=8, seed=1)
    assert (report.damages, report.remarks, report.passages) == ((), (), count)


def check_swept(path: Path) -> None:
    """That every file in the folder is one that the catalogue knows."""
    from xsearch.store.listing import read_ann_files, read_segments
    from xsearch.store.location import find_catalog

    with find_catalog(path).reading() as connection:
        names = {f"{VECTORS_FOLDER}/{one.name}" for one in read_segments(connection)}
        names |= {f"{ANN_FOLDER}/{one.name}" for one in read_ann_files(connection)}
    found = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert found == names | {CATALOG_FILE, LOCK_FILE}
    assert (path / LOCK_FILE).read_bytes() == b""
