"""The tokens that SQLite's FTS5 makes of text, for databases that rank words as it does.

FTS5 folds characters by tables of its own (accents go, and letters that its Unicode does not know stay as they are), so
it is asked what becomes of each.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import lru_cache

from xsearch.text.segment import FTS5_TOKENIZE

# Characters asked for at once.
_BLOCK = 256
# Stands where a character is dropped: a token of marks alone is empty, and counts.
_DROPPED = "\0"


def fts5_tokens(text: str) -> list[str]:
    """The tokens of a text in order, as a table made with :data:`~xsearch.text.segment.FTS5_TOKENIZE` holds them.

    >>> fts5_tokens("crème — brûlée")
    ['creme', 'brulee']
    """
    tokens = text.translate(_FOLDED).split()
    return [token.replace(_DROPPED, "") for token in tokens] if any(_DROPPED in token for token in tokens) else tokens


class _Folded(dict[int, str]):
    """Each character as FTS5 writes it: a space where it ends a token, a mark where it is dropped."""

    def __missing__(self, point: int) -> str:
        first = point - point % _BLOCK
        self.update(_folded_block(first))
        return self[point]


@lru_cache(maxsize=1)
def _statements() -> tuple[str, str]:
    tokenizer = FTS5_TOKENIZE.replace("'", "''")
    return (
        f"CREATE VIRTUAL TABLE words USING fts5(word, content='', tokenize='{tokenizer}')",
        "CREATE VIRTUAL TABLE tokens USING fts5vocab(words, 'instance')",
    )


def _folded_block(first: int) -> dict[int, str]:
    """A block of characters, each tried between two letters that nothing joins with."""
    # Half of a pair and nothing at all are no text.
    points = [point for point in range(first, first + _BLOCK) if point and not 0xD800 <= point < 0xE000]
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in _statements():
            connection.execute(statement)
        rows = ((point, f"x{chr(point)}y") for point in points)
        connection.executemany("INSERT INTO words (rowid, word) VALUES (?, ?)", rows)
        found = connection.execute("SELECT doc, term FROM tokens WHERE offset = 0").fetchall()
    folded = dict.fromkeys(range(first, first + _BLOCK), " ")
    for point, token in found:
        if token != "x":
            folded[point] = token[1:-1] or _DROPPED
    return folded


_FOLDED = _Folded()
