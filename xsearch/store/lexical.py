"""Full text: passages by the words they share with a query, in any script, ranked by BM25 (SQLite FTS5).

The table holds words only, no texts: :func:`xsearch.text.segment.segment` writes scripts without spaces one character a
token, so that words of one and two characters are found. Rows of deleted passages stay until the table is filled anew;
a search leaves them out by looking at the passages themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import sqlalchemy as sa

from xsearch.store.vectors import Nearest, PassageIds
from xsearch.text.segment import FTS5_TOKENIZE, query_terms, segment

TABLE = "passage_words"
# Terms of one query that are looked up; a longer one is a pasted page.
MAX_TERMS = 64
# Titles say what a document is about in few words: a match there counts this many times one in the text.
TITLE_WEIGHT = 2.0
# FTS5's BM25 has k1 = 1.2, and gives a term at most its inverse document frequency times k1 + 1.
BM25_SATURATION = 2.2


def create_words(connection: sa.Connection) -> None:
    """Makes the full-text table."""
    tokenizer = FTS5_TOKENIZE.replace("'", "''")
    connection.exec_driver_sql(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {TABLE} USING fts5(title, body, content='', tokenize='{tokenizer}')"
    )


def add_words(connection: sa.Connection, passages: Iterable[tuple[int, str, str]]) -> None:
    """Adds passages: their ids, titles and texts."""
    rows = [(passage_id, segment(title), segment(text)) for passage_id, title, text in passages]
    if rows:
        connection.exec_driver_sql(f"INSERT INTO {TABLE} (rowid, title, body) VALUES (?, ?, ?)", rows)


def check_words(connection: sa.Connection) -> None:
    """Has FTS5 read and check all of the table; damage is an error of the database. Needs a writing transaction."""
    connection.exec_driver_sql(f"INSERT INTO {TABLE} ({TABLE}) VALUES ('integrity-check')")


def search_words(connection: sa.Connection, query: str, k: int, *, allowed: PassageIds | None = None) -> Nearest:
    """The ``k`` passages that share most with the query, or as many as share anything.

    Scores are BM25 as a share of the most that any passage could get for this query, in [0, 1]: one chance word out of
    ten scores low, whatever the other passages have. Any shared term is enough; phrases stand for runs of
    single-character tokens.

    Args:
        allowed: ids to search among, sorted; ``None`` for all.
    """
    terms = query_terms(query)[:MAX_TERMS]
    if not terms or (allowed is not None and not len(allowed)):
        return Nearest(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
    statement = (
        f"SELECT {TABLE}.rowid, -bm25({TABLE}, {TITLE_WEIGHT}, 1.0) AS score FROM {TABLE} "
        f"JOIN passages ON passages.passage_id = {TABLE}.rowid WHERE {TABLE} MATCH ? "
        f"ORDER BY score DESC, {TABLE}.rowid DESC"
    )
    found: list[tuple[int, float]] = []
    for passage_id, score in connection.exec_driver_sql(statement, (match_expression(terms),)):
        if allowed is None or _contains(allowed, passage_id):
            found.append((passage_id, score))
            if len(found) == k:
                break
    count = connection.exec_driver_sql("SELECT count(*) FROM passages").scalar_one()
    most = len(terms) * math.log(count + 1) * BM25_SATURATION
    scores = np.array([score for _, score in found], dtype=np.float32) / max(most, 1e-9)
    return Nearest(np.array([passage_id for passage_id, _ in found], dtype=np.int64), scores.clip(0, 1))


def match_expression(terms: Sequence[Sequence[str]]) -> str:
    """The FTS5 query for terms: quoted phrases joined by OR.

    >>> match_expression([["nvidia"], ["時", "価"]])
    '"nvidia" OR "時 価"'
    """
    return " OR ".join('"' + " ".join(term).replace('"', '""') + '"' for term in terms)


def _contains(ids: PassageIds, wanted: int) -> bool:
    place = int(np.searchsorted(ids, wanted))
    return place < len(ids) and int(ids[place]) == wanted
