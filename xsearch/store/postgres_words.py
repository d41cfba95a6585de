"""Full text in PostgreSQL, ranked as SQLite's FTS5 ranks it: the same tokens, the same BM25, the same order.

A passage's words are an array of numbers, a 64-bit hash a token, in their order: PostgreSQL's own text search stops at
256 places of a word, at place 16,383 and at words of 2 KB, and its dictionaries know few languages. How many passages
hold a word is counted when it is written.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import sqlalchemy as sa

from xsearch.store.tokens import fts5_tokens
from xsearch.store.vectors import PassageIds

# FTS5's bm25().
K1, B = 1.2, 0.75
# Of a word that most passages hold.
LEAST_IDF = 1e-6
# Passages (w) with their words read once (r): else each look at one of them would fetch and unpack all of a long array.
READ = "passage_words w CROSS JOIN LATERAL (SELECT w.words[1:] AS words OFFSET 0) AS r"
# Between title and text, so that no phrase goes across.
BREAK = 0

TABLES = ("passage_words", "word_counts", "word_totals")
STATEMENTS = (
    # title: how many of the words are of the title; they come first. size: words in all, without the break.
    "CREATE TABLE passage_words (passage_id bigint PRIMARY KEY, title integer NOT NULL, size integer NOT NULL, "
    "words bigint[] NOT NULL) WITH (toast_tuple_target = 8160)",
    # Hashes cannot be packed, and a usual passage has its words in the row.
    "ALTER TABLE passage_words ALTER words SET STORAGE EXTERNAL",
    "CREATE INDEX passage_words_words ON passage_words USING gin (words)",
    "CREATE TABLE word_counts (word bigint PRIMARY KEY, passages bigint NOT NULL)",
    "CREATE TABLE word_totals (passages bigint NOT NULL, words bigint NOT NULL)",
)

Phrase = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Term:
    """A word or phrase of a query, how rare it is, and its place in the query."""

    phrase: Phrase
    passages: int
    idf: float
    place: int


def create_postgres_words(connection: sa.Connection) -> None:
    """Makes the tables, empty, unless they are all there."""
    if _are_there(connection):
        return
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {', '.join(TABLES)}")
    for statement in STATEMENTS:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql("INSERT INTO word_totals VALUES (0, 0)")


def empty_postgres_words(connection: sa.Connection) -> None:
    """Takes all out of the tables that are there; readers that began before see what they saw."""
    if not _are_there(connection):
        return
    for table in TABLES:
        connection.exec_driver_sql(f"DELETE FROM {table}")
    connection.exec_driver_sql("INSERT INTO word_totals VALUES (0, 0)")


def add_postgres_words(connection: sa.Connection, rows: Iterable[tuple[int, str, str]]) -> None:
    """Adds passages: their ids, segmented titles and segmented texts."""
    ids: list[int] = []
    titles: list[int] = []
    sizes: list[int] = []
    arrays: list[str] = []
    counts: Counter[int] = Counter()
    for passage_id, title, body in rows:
        named, told = [word_hash(token) for token in fts5_tokens(title)], [word_hash(t) for t in fts5_tokens(body)]
        words = [*named, BREAK, *told] if named else told
        ids.append(passage_id)
        titles.append(len(named))
        sizes.append(len(named) + len(told))
        arrays.append(_array(words))
        counts.update({*named, *told})
    if not ids:
        return
    connection.exec_driver_sql(
        "INSERT INTO passage_words (passage_id, title, size, words) SELECT id, title, size, words::bigint[] "
        "FROM unnest(%s::bigint[], %s::integer[], %s::integer[], %s::text[]) AS row (id, title, size, words)",
        (_array(ids), _array(titles), _array(sizes), arrays),
    )
    met = sorted(counts)
    connection.exec_driver_sql(
        "INSERT INTO word_counts (word, passages) SELECT * FROM unnest(%s::bigint[], %s::bigint[]) "
        "ON CONFLICT (word) DO UPDATE SET passages = word_counts.passages + excluded.passages",
        (_array(met), _array([counts[word] for word in met])),
    )
    connection.exec_driver_sql(
        "UPDATE word_totals SET passages = passages + %s, words = words + %s", (len(ids), sum(sizes))
    )


def best_postgres_matches(
    connection: sa.Connection,
    terms: Sequence[Sequence[str]],
    limit: int,
    *,
    title_weight: float,
    allowed: PassageIds | None = None,
    also: PassageIds,
) -> list[tuple[int, float]]:
    """The ``limit`` best live and allowed passages with their BM25, and those of ``also`` that have any; in no order.

    The rarest words name candidates. A passage without any of them can get no more than what the other words give at
    most; when the last one found has more than that, none is missed, and passages of common words are never looked at.
    """
    passages, words = connection.exec_driver_sql("SELECT passages, words FROM word_totals").one()
    found = _rare_first(connection, [_phrase(term) for term in terms], passages)
    scored = _scored(found, mean=words / passages, title_weight=title_weight) if found else ""
    best: list[tuple[int, float]] = []
    taken, enough = 0, limit
    while taken < len(found):
        reach = 0
        while taken < len(found) and reach < enough:
            reach += found[taken].passages
            taken += 1
        candidates = " OR ".join(_has_all(term.phrase) for term in found[:taken])
        among = "" if allowed is None else "JOIN unnest(%s::bigint[]) AS allowed (id) ON allowed.id = w.passage_id "
        rows = connection.exec_driver_sql(
            f"SELECT s.passage_id, s.score FROM ({scored} {among}WHERE ({candidates}) AND "
            "EXISTS (SELECT FROM passages p WHERE p.passage_id = w.passage_id) OFFSET 0) AS f) AS s "
            f"WHERE s.score > 0 ORDER BY s.score DESC, s.passage_id DESC LIMIT {limit}",
            () if allowed is None else (_array(allowed.tolist()),),
        )
        best = [(row[0], row[1]) for row in rows]
        if len(best) == limit and best[-1][1] > sum(term.idf for term in found[taken:]) * (K1 + 1):
            break
        enough = 4 * reach
    if len(best) < limit or not len(also):
        return best
    rows = connection.exec_driver_sql(
        f"SELECT s.passage_id, s.score FROM ({scored} WHERE w.passage_id = ANY (%s::bigint[]) OFFSET 0) AS f) AS s "
        "WHERE s.score > 0",
        (_array(also.tolist()),),
    )
    return list({**dict(best), **{row[0]: row[1] for row in rows}}.items())


@lru_cache(maxsize=2**17)
def word_hash(token: str) -> int:
    """A token's number: 64 bits of its BLAKE2b, signed, and not that of the break."""
    digest = hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True) or 1


def _are_there(connection: sa.Connection) -> bool:
    found = ", ".join(f"to_regclass('{table}')" for table in TABLES)
    return None not in connection.exec_driver_sql(f"SELECT {found}").one()


def _phrase(term: Sequence[str]) -> Phrase:
    return tuple(word_hash(token) for token in fts5_tokens(" ".join(term)))


def _rare_first(connection: sa.Connection, phrases: Sequence[Phrase], passages: int) -> list[_Term]:
    """The phrases that any passage holds, deleted ones included as in FTS5, those that few hold first."""
    single = {phrase[0] for phrase in phrases if len(phrase) == 1}
    counts: dict[Phrase, int] = {}
    if single:
        query = "SELECT word, passages FROM word_counts WHERE word = ANY (%s::bigint[])"
        rows = connection.exec_driver_sql(query, (_array(sorted(single)),))
        counts.update(((row[0],), row[1]) for row in rows)
    several = list(dict.fromkeys(phrase for phrase in phrases if len(phrase) > 1))
    if several:
        parts = ", ".join(f"(SELECT count(*) FROM {READ} WHERE {_holds(phrase)})" for phrase in several)
        counts.update(zip(several, connection.exec_driver_sql(f"SELECT {parts}").one(), strict=True))
    terms = []
    for place, phrase in enumerate(phrases):
        held = counts.get(phrase, 0)
        if held:
            idf = math.log((passages - held + 0.5) / (held + 0.5))
            terms.append(_Term(phrase, held, idf if idf > 0 else LEAST_IDF, place))
    return sorted(terms, key=lambda term: (-term.idf, term.place))


def _scored(terms: Sequence[_Term], *, mean: float, title_weight: float) -> str:
    """The beginning of a query for passages (``w``) and their score of all terms; two parentheses are left open.

    The arithmetic is FTS5's, step by step, so that equal passages stay equal.
    """
    ordered = sorted(terms, key=lambda term: term.place)
    frequencies = ", ".join(f"{_frequency(term.phrase, title_weight)} AS f{term.place}" for term in ordered)
    score = " + ".join(
        f"{_float(term.idf)} * ((f.f{term.place} * {_float(K1 + 1.0)}) / "
        f"(f.f{term.place} + {_float(K1)} * ({_float(1 - B)} + {_float(B)} * f.size / {_float(mean)})))"
        for term in ordered
    )
    return (
        f"SELECT f.passage_id, {score} AS score FROM ("
        f"SELECT w.passage_id, w.size::float8 AS size, {frequencies} FROM {READ}"
    )


def _has_all(phrase: Phrase) -> str:
    """Whether all words of a phrase are there, anywhere: what the index knows."""
    return f"w.words @> '{_array(phrase)}'::bigint[]"


def _holds(phrase: Phrase) -> str:
    """Whether the phrase is there."""
    return f"{_has_all(phrase)} AND EXISTS (SELECT {_places(phrase)})"


def _places(phrase: Phrase) -> str:
    """The places where a phrase begins, as the table ``p`` with the column ``place``."""
    follow = "".join(f" AND r.words[p.place + {n}] = '{word}'::bigint" for n, word in enumerate(phrase) if n)
    return f"FROM unnest(array_positions(r.words, '{phrase[0]}'::bigint)) AS p (place) WHERE true{follow}"


def _frequency(phrase: Phrase, title_weight: float) -> str:
    """How often the phrase is there, one in the title counted as many times as titles weigh."""
    if len(phrase) == 1:
        word = f"'{phrase[0]}'::bigint"
        named = f"cardinality(array_positions(r.words[1:w.title], {word})) * {_float(title_weight - 1)}"
        return f"(cardinality(array_positions(r.words, {word})) + CASE WHEN w.title > 0 THEN {named} ELSE 0 END)"
    weight = f"CASE WHEN p.place <= w.title THEN {_float(title_weight)} ELSE {_float(1.0)} END"
    return f"(SELECT coalesce(sum({weight}), 0) {_places(phrase)})"


def _array(numbers: Iterable[int]) -> str:
    return f"{{{','.join(map(str, numbers))}}}"


def _float(number: float) -> str:
    return f"'{number!r}'::float8"
