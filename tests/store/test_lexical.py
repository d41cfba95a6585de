"""Full text by shared words: every script, short queries, deleted passages, comparable scores."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import sqlalchemy as sa

from xsearch.store.lexical import add_words, create_words, match_expression, search_words

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


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    """A catalogue's words over a few passages in many scripts."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE passages (passage_id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO passages VALUES (?)", [(passage_id,) for passage_id in TEXTS])
        create_words(connection)
        add_words(connection, ((passage_id, title, text) for passage_id, (title, text) in TEXTS.items()))
        yield connection


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
    connection.exec_driver_sql("DELETE FROM passages WHERE passage_id = 1")
    assert found(connection, "coffee") == [8]
    assert search_words(connection, "coffee tea", 5, allowed=np.array([2, 3])).passage_ids.tolist() == []
    assert search_words(connection, "coffee", 5, allowed=np.array([], dtype=np.int64)).passage_ids.tolist() == []


def test_k_bounds_what_is_found_and_ties_go_to_the_higher_id(connection: sa.Connection) -> None:
    connection.exec_driver_sql("INSERT INTO passages VALUES (20), (21)")
    add_words(connection, [(20, "", "same words"), (21, "", "same words")])
    assert found(connection, "same words", k=1) == [21]
    assert found(connection, "same words", k=2) == [21, 20]


def test_terms_become_quoted_phrases() -> None:
    assert match_expression([["nvidia"], ["時", "価"], ['a"b']]) == '"nvidia" OR "時 価" OR "a""b"'
