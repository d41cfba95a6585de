"""A snapshot shows one state of text, filters and vectors together, whatever is written meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fakes import DIM, FakeEncoder, embed
from xsearch.errors import FilterError, IndexDamagedError
from xsearch.index import Index
from xsearch.records import Document
from xsearch.store.catalog import passages
from xsearch.store.location import find_catalog
from xsearch.store.snapshot import Snapshot
from xsearch.store.vectors import VECTORS_FOLDER

LANGUAGES = ["de", "zh", "zh-Hant", "yue", "pt-BR", "und", "ar", "arz"]


@pytest.fixture
def index(tmp_path: Path, catalog_url: str | None) -> Iterator[Index]:
    with Index.create(tmp_path / "index", encoder=FakeEncoder(), catalog=catalog_url) as made:
        made.add(
            [Document(f"d-{lang}", f"text {lang}", lang=lang, metadata={"n": n}) for n, lang in enumerate(LANGUAGES)]
        )
        yield made


@pytest.fixture
def snapshot(index: Index) -> Iterator[Snapshot]:
    with closing(take(index)) as taken:
        yield taken


def take(index: Index) -> Snapshot:
    return Snapshot(index.path, find_catalog(index.path), dim=DIM)


def test_it_does_not_see_later_writes(index: Index, snapshot: Snapshot) -> None:
    assert snapshot.generation == 1
    index.delete(["d-de"])
    index.add([Document("d-zh", "another text", lang="zh"), Document("new", "new text", lang="de")])
    # Vectors, filters and text are read only now.
    assert len(snapshot.searcher) == len(LANGUAGES)
    ids = snapshot.allowed(where="n >= 0")
    assert ids is not None
    assert ids.passage_ids.tolist() == list(range(1, 9))
    assert snapshot.passages([1, 2])[2].text == "text zh"
    with closing(take(index)) as later:
        assert later.generation == 3
        assert len(later.searcher) == len(LANGUAGES)
        assert later.searcher.search(embed(["another text"]), 1)[0].passage_ids.tolist() == [9]


@pytest.mark.parametrize(
    ("langs", "found"),
    [
        (["de"], ["de"]),
        (["zh"], ["zh", "zh-Hant", "yue"]),
        (["zh-Hant"], ["zh-Hant"]),
        (["pt"], ["pt-BR"]),
        (["ar", "de"], ["de", "ar", "arz"]),
        (["und"], ["und"]),
        (["fr"], []),
    ],
)
def test_languages(snapshot: Snapshot, langs: list[str], found: list[str]) -> None:
    ids = snapshot.allowed(langs=langs)
    assert ids is not None
    assert [LANGUAGES[passage_id - 1] for passage_id in ids.passage_ids.tolist()] == found


def test_languages_and_filter_together(snapshot: Snapshot) -> None:
    ids = snapshot.allowed(langs=["zh"], where="n in (1, 3, 4)")
    assert ids is not None
    assert [LANGUAGES[passage_id - 1] for passage_id in ids.passage_ids.tolist()] == ["zh", "yue"]
    assert snapshot.allowed() is None
    with pytest.raises(FilterError):
        snapshot.allowed(where="n >")


def test_passages_that_are_not_there(snapshot: Snapshot) -> None:
    """Pitfall 1: an id that the vectors have and the catalogue has not is damage, and no missing hit."""
    with pytest.raises(IndexDamagedError, match="lacks 1 passages"):
        snapshot.passages([1, 99])


def test_damaged_vectors_are_named(index: Index, snapshot: Snapshot) -> None:
    path = index.path / VECTORS_FOLDER / "000001.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IndexDamagedError, match=r"000001\.npy"):
        _ = snapshot.searcher


@pytest.mark.parametrize("lang", ["zh)Hant", "7"])
def test_a_language_that_is_none_is_damage(index: Index, lang: str) -> None:
    with find_catalog(index.path).transaction() as connection:
        connection.execute(passages.update().where(passages.c.passage_id == 3).values(lang=lang))
    with closing(take(index)) as taken, pytest.raises(IndexDamagedError, match=f"in a language '{re.escape(lang)}'"):
        taken.allowed(langs=["de"])


def test_a_passage_without_a_vector_is_not_passed_over(index: Index) -> None:
    """As many passages as vectors, but not the same."""
    with find_catalog(index.path).transaction() as connection:
        connection.execute(passages.update().where(passages.c.passage_id == 3).values(passage_id=5_000))
    with closing(take(index)) as taken:
        kept, lost = taken.allowed(langs=["de"]), taken.allowed(where="n = 2")
        assert taken.dense(embed(["text"]), 5, allowed=kept)[0].passage_ids.tolist() == [1]
        with pytest.raises(IndexDamagedError, match="lists 1 passages without vectors"):
            taken.dense(embed(["text"]), 5, allowed=lost)
