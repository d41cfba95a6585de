"""Full text: passages by the words they share with a query, in any script, ranked by BM25 as SQLite's FTS5 has it.

The table holds words only, no texts: :func:`xsearch.text.segment.segment` writes scripts without spaces one character a
token, so that words of one and two characters are found. Rows of deleted passages stay until the table is filled anew;
a search leaves them out by looking at the passages themselves. In PostgreSQL, :mod:`xsearch.store.postgres_words` does
the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa

from xsearch.ranking import order
from xsearch.store.postgres_words import add_postgres_words, best_postgres_matches, create_postgres_words
from xsearch.store.sqlite import insert_many
from xsearch.store.vectors import Nearest, PassageIds
from xsearch.text.segment import FTS5_TOKENIZE, query_terms, spread_all

TABLE = "passage_words"
# Terms of one query that are looked up; a longer one is a pasted page.
MAX_TERMS = 64
# Titles say what a document is about in few words: a match there counts this many times one in the text.
TITLE_WEIGHT = 2.0
# FTS5's BM25 has k1 = 1.2, and gives a term at most its inverse document frequency times k1 + 1.
BM25_SATURATION = 2.2
# FTS5 gathers words in memory and writes them when it has a megabyte of them; with the words of a large batch together
# it merges less: measured at half the time. The table remembers it.
MANY_ROWS = 8_192
HASH_BYTES = 2**26
# Characters whose words are made in one step: few enough for a processor's cache, and for memory not to be noticed.
SEGMENTED_AT_ONCE = 65_536
# Fetched beyond k, so that a few deleted passages cost no second search.
SPARE_MATCHES = 32
# More than any table holds, and few enough for SQLite to count.
MAX_MATCHES = 2**40


def create_words(connection: sa.Connection) -> None:
    """Makes the full-text table."""
    if _is_postgres(connection):
        create_postgres_words(connection)
        return
    tokenizer = FTS5_TOKENIZE.replace("'", "''")
    connection.exec_driver_sql(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {TABLE} USING fts5(title, body, content='', tokenize='{tokenizer}')"
    )


def segmented(passages: Sequence[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    """Passages (id, title, text) as the full-text table takes them: ids, and the words of titles and of texts."""
    rows: list[tuple[int, str, str]] = []
    some: list[tuple[int, str, str]] = []
    characters = 0
    for passage in passages:
        some.append(passage)
        characters += len(passage[2])
        if characters >= SEGMENTED_AT_ONCE:
            rows += _segmented(some)
            some, characters = [], 0
    return rows + _segmented(some)


def _segmented(some: Sequence[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    titles = spread_all([title for _, title, _ in some]) if any(title for _, title, _ in some) else [""] * len(some)
    texts = spread_all([text for _, _, text in some])
    return [(row[0], title, text) for row, title, text in zip(some, titles, texts, strict=True)]


def add_words(connection: sa.Connection, passages: Sequence[tuple[int, str, str]]) -> None:
    """Adds passages: their ids, titles and texts."""
    insert_words(connection, segmented(passages))


def insert_words(connection: sa.Connection, rows: Sequence[tuple[int, str, str]]) -> None:
    """Adds passages that are :func:`segmented`."""
    if _is_postgres(connection):
        add_postgres_words(connection, rows)
        return
    if len(rows) >= MANY_ROWS:
        connection.exec_driver_sql(f"INSERT INTO {TABLE} ({TABLE}, rank) VALUES ('hashsize', {HASH_BYTES})")
    insert_many(connection, TABLE, ("rowid", "title", "body"), rows)


def search_words(
    connection: sa.Connection,
    query: str,
    k: int,
    *,
    count: int,
    allowed: PassageIds | None = None,
    also: PassageIds | None = None,
) -> Nearest:
    """The ``k`` passages that share most with the query, or as many as share anything, and given others that do.

    Scores are BM25 as a share of the most that any passage could get for this query, in [0, 1]: one chance word out of
    ten scores low, whatever the other passages have. Any shared term is enough; phrases stand for runs of
    single-character tokens.

    Args:
        count: of all passages.
        allowed: ids to search among, sorted; ``None`` for all.
        also: passages whose scores are wanted wherever they rank; those of them that share nothing are left out. They
            must be live and allowed.
    """
    also = np.empty(0, dtype=np.int64) if also is None else also
    terms = query_terms(query)[:MAX_TERMS]
    if not terms or (allowed is not None and not len(allowed)):
        return Nearest(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
    if _is_postgres(connection):
        limit = min(MAX_MATCHES, k + SPARE_MATCHES)
        found = best_postgres_matches(connection, terms, limit, title_weight=TITLE_WEIGHT, allowed=allowed, also=also)
    else:
        found = _best_matches(connection, match_expression(terms), k, count=count, allowed=allowed, also=also)
    ids = np.array([passage_id for passage_id, _ in found], dtype=np.int64)
    most = len(terms) * math.log(count + 1) * BM25_SATURATION
    scores = (np.array([score for _, score in found], dtype=np.float32) / max(most, 1e-9)).clip(0, 1)
    # Again, because what differed may be equal in float32.
    best = order(scores, ids)
    best = best[(np.arange(len(best)) < k) | np.isin(ids[best], also)]
    return Nearest(ids[best], scores[best])


def _best_matches(
    connection: sa.Connection,
    expression: str,
    k: int,
    *,
    count: int,
    allowed: PassageIds | None,
    also: PassageIds,
) -> list[tuple[int, float]]:
    """The ``k`` best live and allowed passages with their BM25, or a few more, and those of ``also``; in no order.

    A common word is in most passages: SQLite keeps only the best of them (LIMIT), and more are asked for where those
    turn out to be deleted or not allowed. Those of ``also`` come before all others, so that one pass finds both.
    """
    first = "rowid IN (SELECT value FROM json_each(?)) DESC, " if len(also) else ""
    listed = (json.dumps(also.tolist()),) if len(also) else ()
    statement = (
        "SELECT word.passage_id, word.score, passages.passage_id IS NOT NULL FROM ("
        f"SELECT rowid AS passage_id, -bm25({TABLE}, {TITLE_WEIGHT}, 1.0) AS score FROM {TABLE} WHERE {TABLE} MATCH ? "
        f"ORDER BY {first}score DESC, rowid DESC LIMIT ?) AS word "
        "LEFT JOIN passages ON passages.passage_id = word.passage_id"
    )
    # As many as hold k, if the allowed ones are spread evenly.
    share = 1.0 if allowed is None else min(1.0, len(allowed) / max(count, 1))
    limit = min(MAX_MATCHES, math.ceil((k + SPARE_MATCHES) / share)) + len(also)
    while True:
        met = 0
        found: list[tuple[int, float]] = []
        for passage_id, score, live in connection.exec_driver_sql(statement, (expression, *listed, limit)):
            met += 1
            if live and (allowed is None or _contains(allowed, passage_id)):
                found.append((passage_id, score))
        if len(found) >= k + len(also) or met < limit:
            return found
        limit *= 4


def match_expression(terms: Sequence[Sequence[str]]) -> str:
    """The FTS5 query for terms: quoted phrases joined by OR.

    >>> match_expression([["nvidia"], ["時", "価"]])
    '"nvidia" OR "時 価"'
    """
    return " OR ".join('"' + " ".join(term).replace('"', '""') + '"' for term in terms)


def _is_postgres(connection: sa.Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _contains(ids: PassageIds, wanted: int) -> bool:
    place = int(np.searchsorted(ids, wanted))
    return place < len(ids) and int(ids[place]) == wanted
