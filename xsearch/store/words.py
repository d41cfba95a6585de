"""The full-text table as a whole: checked without writing to it, and made anew from the texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from xsearch.store.catalog import documents, passages
from xsearch.store.lexical import TABLE, add_words, create_words
from xsearch.store.postgres_words import empty_postgres_words
from xsearch.store.sqlite import read_any_bytes
from xsearch.store.tokens import fts5_tokens
from xsearch.text.segment import FTS5_TOKENIZE, segment

# The tables that FTS5 keeps its own in.
SHADOWS = ("data", "idx", "docsize", "config")
COPY = "checked_words"
WORDS_AT_ONCE = 2_000
# The number of FTS5's record of sums.
AVERAGES = 1
PLACES = "checked_places"
# Ids of passages count by their remainder, so that sums over all stay within 64 bits.
FEW = 65_521
# Passages, spread over all, whose words are looked up: FTS5's own check misses an index to its leaves that lacks some,
# and takes an emptied structure for that of a new table.
LOOKED_UP = 64


def words_fault(connection: sa.Connection) -> str:
    """What is wrong with the full text; empty where it is in order. A reading connection will do.

    FTS5 checks a table only for somebody who may write to it; so it is given a copy among the temporary tables, which
    this connection alone sees.
    """
    read_any_bytes(connection)
    placed = True
    if connection.dialect.name == "sqlite":
        try:
            # A search reads what the copy does not take over: the table's format.
            connection.exec_driver_sql(f"SELECT rowid FROM {TABLE} WHERE {TABLE} MATCH '\"x\"' LIMIT 1").all()
            _make(connection, f"temp.{COPY}")
            for name in SHADOWS:
                connection.exec_driver_sql(f"DELETE FROM temp.{COPY}_{name}")
                connection.exec_driver_sql(f"INSERT INTO temp.{COPY}_{name} SELECT * FROM main.{TABLE}_{name}")
            connection.exec_driver_sql(f"INSERT INTO temp.{COPY} ({COPY}) VALUES ('integrity-check')")
            placed = _places_fit(connection)
        except DatabaseError as exc:
            return f"holds a full-text table that is damaged ({exc.orig})"
        if not all(_finds(connection, *one) for one in _spread(connection)):
            return "holds a full-text table that does not find what it should"
    listed = f"{TABLE}_docsize" if connection.dialect.name == "sqlite" else TABLE
    key = "id" if connection.dialect.name == "sqlite" else "passage_id"
    missing = connection.exec_driver_sql(
        f"SELECT count(*) FROM passages WHERE passage_id NOT IN (SELECT {key} FROM {listed})"
    ).scalar_one()
    if missing:
        return f"lacks the words of {missing:,} passages"
    return "" if placed else "holds a full-text table that has words at other places than were written"


def renew_words(connection: sa.Connection, on_done: Callable[[int], None] = lambda count: None) -> int:
    """Makes the full text anew from the passages' texts, whatever became of it; returns how many passages there are.

    Needs a writing transaction; rows of deleted passages are not there afterwards.
    """
    read_any_bytes(connection)
    if connection.dialect.name == "sqlite":
        _empty(connection)
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS main.{TABLE}")
    else:
        empty_postgres_words(connection)
    create_words(connection)
    count = 0
    for some in _words(connection):
        add_words(connection, some)
        count += len(some)
        on_done(len(some))
    return count


def _words(connection: sa.Connection) -> Iterator[list[tuple[int, str, str]]]:
    """Ids, titles and texts of all passages, some at a time, in order of their ids."""
    text = sa.func.substr(documents.c.text, passages.c.start + 1, passages.c.end - passages.c.start)
    query = (
        sa.select(passages.c.passage_id, documents.c.title, text)
        .join(documents, passages.c.doc_key == documents.c.doc_key)
        .order_by(passages.c.passage_id)
        .limit(WORDS_AT_ONCE)
    )
    last = 0
    while rows := [
        (row[0], str(row[1]), str(row[2])) for row in connection.execute(query.where(passages.c.passage_id > last))
    ]:
        yield rows
        last = rows[-1][0]


def _spread(connection: sa.Connection) -> Iterator[tuple[int, str]]:
    """Ids and texts of some passages."""
    first, last = connection.execute(
        sa.select(sa.func.min(passages.c.passage_id), sa.func.max(passages.c.passage_id))
    ).one()
    if first is None:
        return
    text = sa.func.substr(documents.c.text, passages.c.start + 1, passages.c.end - passages.c.start)
    query = sa.select(passages.c.passage_id, text).join(documents, passages.c.doc_key == documents.c.doc_key)
    for place in range(LOOKED_UP):
        start = first + (last - first) * place // LOOKED_UP
        for row in connection.execute(query.where(passages.c.passage_id >= start).order_by("passage_id").limit(1)):
            yield row[0], str(row[1])


def _finds(connection: sa.Connection, passage_id: int, text: str) -> bool:
    """Whether a search for all words of a passage finds it."""
    words = dict.fromkeys(word for word in fts5_tokens(segment(text)) if word)
    if not words:
        return True
    query = sa.text(f"SELECT 1 FROM {TABLE} WHERE {TABLE} MATCH :words AND rowid = :passage_id")
    expression = " AND ".join(f'"{word}"' for word in words)
    return connection.execute(query, {"words": expression, "passage_id": passage_id}).first() is not None


def _places_fit(connection: sa.Connection) -> bool:
    """Whether words stand at places that fit the lengths of passages, and these their sums; FTS5 checks neither.

    Lengths are variable-length integers: of each passage the tokens of its title and of its text, of all passages their
    number and then the same (https://sqlite.org/fts5.html#the_docsize_table). The tokens of a text of n stand at 0 to
    n - 1, which is compared by their number and by sums.
    """
    sums = connection.exec_driver_sql(f"SELECT block FROM main.{TABLE}_data WHERE id = {AVERAGES}").scalar()
    met, places = [0, 0, 0], [0, 0, 0, 0]
    for passage_id, sizes in connection.exec_driver_sql(f"SELECT id, sz FROM main.{TABLE}_docsize"):
        lengths = _integers(sizes)
        if len(lengths) != len(met) - 1:
            return False
        met = [before + one for before, one in zip(met, (1, *lengths), strict=True)]
        for length in lengths:
            among = length * (length - 1) // 2
            here = (length, among, passage_id % FEW * length, passage_id % FEW * among)
            places = [before + one for before, one in zip(places, here, strict=True)]
    connection.exec_driver_sql(f"CREATE VIRTUAL TABLE temp.{PLACES} USING fts5vocab(main, {TABLE}, instance)")
    found = connection.exec_driver_sql(
        f"SELECT count(*), coalesce(sum(offset), 0), coalesce(sum(doc % {FEW}), 0), coalesce(sum(doc % {FEW} * offset),"
        f" 0), coalesce(sum(col = 'title'), 0), coalesce(sum(col = 'body'), 0) FROM temp.{PLACES}"
    ).one()
    connection.exec_driver_sql(f"DROP TABLE temp.{PLACES}")
    return (_integers(sums) or [0, 0, 0]) == met and list(found) == [*places, *met[1:]]


def _integers(data: object) -> list[int]:
    """Variable-length integers as SQLite writes them: seven bits a byte, the high bit set in all but the last."""
    found: list[int] = []
    value = 0
    for byte in data if isinstance(data, bytes) else b"":
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            found.append(value)
            value = 0
    return found


def _make(connection: sa.Connection, name: str) -> None:
    tokenizer = FTS5_TOKENIZE.replace("'", "''")
    connection.exec_driver_sql(
        f"CREATE VIRTUAL TABLE {name} USING fts5(title, body, content='', tokenize='{tokenizer}')"
    )


def _empty(connection: sa.Connection) -> None:
    """Gives FTS5's table the contents of an empty one: it drops none that it cannot open."""
    _make(connection, f"main.{COPY}")
    made = sa.text("SELECT sql FROM main.sqlite_master WHERE name = :name")
    for name in SHADOWS:
        statement = connection.execute(made, {"name": f"{COPY}_{name}"}).scalar_one()
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS main.{TABLE}_{name}")
        connection.exec_driver_sql(statement.replace(f"{COPY}_{name}", f"{TABLE}_{name}", 1))
        connection.exec_driver_sql(f"INSERT INTO main.{TABLE}_{name} SELECT * FROM main.{COPY}_{name}")
    connection.exec_driver_sql(f"DROP TABLE main.{COPY}")
