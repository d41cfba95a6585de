"""Full text by shared words: every script, short queries, deleted passages, comparable scores."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from tests.backends import SQLITE_ONLY
from xsearch.store import lexical
from xsearch.store.lexical import add_words, create_words, match_expression
from xsearch.store.postgres import create_schema, postgres_engine
from xsearch.store.vectors import Nearest

TEXTS = {
    1: ("Coffee", "Coffee was first drunk in Ethiopia and spread to Yemen."),
    2: ("茶", "茶起源于中国西南部,后来传到日本。"),
    3: ("ข้าว", "ข้าวเป็นอาหารหลักของคนไทยและปลูกในนาน้ำ"),
    4: ("चाय", "भारत में चाय असम और दार्जिलिंग में उगाई जाती है।"),
    5: ("", "エヌビディア nvidia の時価総額は三兆ドルを超えた。"),
    6: ("القهوة", "شُرِبت القهوة أول مرة في إثيوبيا."),
    7: ("한국의 차", "한국에서는 녹차를 많이 마신다."),
    8: ("Tea", "Tea and coffee are drunk everywhere; this text is about neither of them in particular."),
}


PASSAGES = sa.Table("passages", sa.MetaData(), sa.Column("passage_id", sa.BigInteger, primary_key=True))


@pytest.fixture
def connection(catalog_url: str | None) -> Iterator[sa.Connection]:
    """A catalogue's words over a few passages in many scripts; what is done with it is not kept."""
    with opened(catalog_url) as connection:
        add_passages(connection, TEXTS)
        add_words(connection, [(passage_id, title, text) for passage_id, (title, text) in TEXTS.items()])
        yield connection


@contextmanager
def opened(catalog_url: str | None) -> Iterator[sa.Connection]:
    """A database with empty tables of passages and words, in a transaction that is rolled back at the end."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.NullPool)
    if catalog_url is not None:
        url = sa.make_url(catalog_url).set(drivername="postgresql+psycopg")
        engine = postgres_engine(url.render_as_string(hide_password=False), "xsearch_words")
    with engine.connect().execution_options(xsearch_writes=True) as connection, connection.begin() as transaction:
        if catalog_url is not None:
            create_schema(connection, "xsearch_words")
        PASSAGES.create(connection)
        create_words(connection)
        yield connection
        transaction.rollback()


def add_passages(connection: sa.Connection, ids: Iterable[int]) -> None:
    connection.execute(PASSAGES.insert(), [{"passage_id": int(number)} for number in ids])


def delete_passages(connection: sa.Connection, ids: Iterable[int]) -> None:
    connection.execute(PASSAGES.delete().where(PASSAGES.c.passage_id.in_(list(ids))))


def search_words(
    connection: sa.Connection,
    query: str,
    k: int,
    *,
    allowed: NDArray[np.int64] | None = None,
    also: NDArray[np.int64] | None = None,
) -> Nearest:
    count = connection.exec_driver_sql("SELECT count(*) FROM passages").scalar_one()
    return lexical.search_words(connection, query, k, count=count, allowed=allowed, also=also)


def found(connection: sa.Connection, query: str, k: int = 10) -> list[int]:
    return search_words(connection, query, k).passage_ids.tolist()


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("茶", 2),
        ("日本", 2),
        ("西南部", 2),
        ("ข้าว", 3),
        ("ไทย", 3),
        ("चाय", 4),
        ("दार्जिलिंग", 4),
        ("nvidia 時価総額", 5),
        ("ＮＶＩＤＩＡ", 5),
        ("القهوة", 6),
        ("الـقـهوة", 6),
        ("녹차", 7),
        ("차", 7),
        ("coffee ETHIOPIA", 1),
    ],
)
def test_words_of_any_length_are_found_in_any_script(connection: sa.Connection, query: str, first: int) -> None:
    """Pitfall 16: one- and two-character queries in zh, ja, th and ko find what holds them."""
    assert found(connection, query)[0] == first


def test_a_query_without_words_finds_nothing(connection: sa.Connection) -> None:
    for query in ("", "   ", "?!…", '"', "''", "xylophone", "NOT", "* OR *"):
        assert found(connection, query) == []


def test_query_syntax_is_only_text(connection: sa.Connection) -> None:
    assert found(connection, 'coffee" OR "tea') == found(connection, "coffee or tea")
    assert found(connection, "title:coffee")[0] == 1


def test_a_match_in_the_title_counts_more(connection: sa.Connection) -> None:
    assert found(connection, "coffee") == [1, 8]
    assert found(connection, "tea") == [8]


def test_scores_are_shares_of_what_the_query_could_get(connection: sa.Connection) -> None:
    one = search_words(connection, "Ethiopia", 1).scores[0]
    among_others = search_words(connection, "Ethiopia zzz yyy xxx", 1).scores[0]
    assert 0 < among_others < one <= 1
    assert among_others == pytest.approx(one / 4, rel=1e-5)


def test_passages_that_are_gone_or_not_allowed_are_left_out(connection: sa.Connection) -> None:
    delete_passages(connection, [1])
    assert found(connection, "coffee") == [8]
    assert search_words(connection, "coffee tea", 5, allowed=np.array([2, 3])).passage_ids.tolist() == []
    assert search_words(connection, "coffee", 5, allowed=np.array([], dtype=np.int64)).passage_ids.tolist() == []


def test_k_bounds_what_is_found_and_ties_go_to_the_higher_id(connection: sa.Connection) -> None:
    add_passages(connection, [20, 21])
    add_words(connection, [(20, "", "same words"), (21, "", "same words")])
    assert found(connection, "same words", k=1) == [21]
    assert found(connection, "same words", k=2) == [21, 20]


@pytest.mark.parametrize("k", [1, 7, 40, 10**12])
def test_a_word_of_most_passages_gives_the_best_live_and_allowed_ones(connection: sa.Connection, k: int) -> None:
    """However many of the best are deleted or not allowed."""
    rng = np.random.default_rng(7)
    ids = np.arange(100, 500)
    add_passages(connection, ids)
    add_words(connection, [(int(n), "", "common " * int(rng.integers(1, 4)) + "word " * (int(n) % 5)) for n in ids])
    ranked = found(connection, "common", k=1000)
    assert sorted(ranked) == ids.tolist()
    assert found(connection, "common", k=k) == ranked[:k]
    some = np.sort(np.array(ranked[150::9]))
    assert search_words(connection, "common", k, allowed=some).passage_ids.tolist() == ranked[150::9][:k]
    delete_passages(connection, ranked[:300])
    assert found(connection, "common", k=k) == ranked[300:][:k]
    assert search_words(connection, "common", k, allowed=ids).passage_ids.tolist() == ranked[300:][:k]


def test_passages_that_are_asked_for_come_with_their_scores_wherever_they_rank(connection: sa.Connection) -> None:
    ids = np.arange(100, 200)
    add_passages(connection, ids)
    add_words(connection, [(int(n), "", "common " + "other " * (int(n) % 50)) for n in ids])
    everything = search_words(connection, "common", 1000)
    ranked = everything.passage_ids.tolist()
    scores = dict(zip(ranked, everything.scores.tolist(), strict=True))
    # The first, one among the best, the last; 2 shares nothing, and 10**6 is not there.
    also = np.array([ranked[0], ranked[3], ranked[-1], 2])
    for k, expected in ((1, [ranked[0], ranked[3], ranked[-1]]), (5, [*ranked[:5], ranked[-1]]), (1000, ranked)):
        got = search_words(connection, "common", k, also=also)
        assert got.passage_ids.tolist() == expected
        assert got.scores.tolist() == [scores[passage_id] for passage_id in expected]
    delete_passages(connection, ranked[:90])
    got = search_words(connection, "common", 2, also=np.array(ranked[95:97]))
    assert got.passage_ids.tolist() == [*ranked[90:92], *ranked[95:97]]
    some = np.sort(np.array(ranked[91::2]))
    got = search_words(connection, "common", 2, also=np.array([ranked[97]]), allowed=some)
    assert got.passage_ids.tolist() == [ranked[91], ranked[93], ranked[97]]
    assert search_words(connection, "zzz", 2, also=also).passage_ids.tolist() == []


@SQLITE_ONLY
def test_no_more_rows_are_read_than_are_needed(connection: sa.Connection) -> None:
    add_passages(connection, range(100, 3000))
    add_words(connection, [(number, "", "common") for number in range(100, 3000)])
    read: list[object] = []
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.row_factory = lambda cursor, row: read.append(row) or row
    assert search_words(connection, "common", 5).passage_ids.tolist() == [2999, 2998, 2997, 2996, 2995]
    assert len(read) < 50


def test_terms_become_quoted_phrases() -> None:
    assert match_expression([["nvidia"], ["時", "価"], ['a"b']]) == '"nvidia" OR "時 価" OR "a""b"'
