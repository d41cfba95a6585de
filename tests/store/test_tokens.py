"""Tokens as FTS5 makes them: character for character what SQLite's own table holds."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing

import pytest

from xsearch.store.postgres_words import word_hash
from xsearch.store.tokens import fts5_tokens
from xsearch.text.segment import FTS5_TOKENIZE

# Letters with accents and without, marks alone, scripts that FTS5 knows and does not, symbols, separators.
ALPHABET = "aZéßŁİıÅﬁΩωЖж\u0301\u0338\u20dd أبﷲहिं்中国ㄅ한ไท☕😀²½٣_-'’.,\u200b\u00a0\ufffd\U0001e900\U00031350\t0\ue000"


def held(text: str) -> list[str]:
    with closing(sqlite3.connect(":memory:")) as connection:
        tokenizer = FTS5_TOKENIZE.replace("'", "''")
        connection.execute(f"CREATE VIRTUAL TABLE words USING fts5(word, content='', tokenize='{tokenizer}')")
        connection.execute("CREATE VIRTUAL TABLE tokens USING fts5vocab(words, 'instance')")
        connection.execute("INSERT INTO words (rowid, word) VALUES (1, ?)", (text,))
        return [token or "" for (token,) in connection.execute("SELECT term FROM tokens ORDER BY offset")]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Crème BRÛLÉE", ["creme", "brulee"]),
        ("x\u0301y z", ["xy", "z"]),
        ("\u0301 a \u0301b", ["", "a", "b"]),
        ("हिन्दी தமிழ்", ["हिन्दी", "தமிழ்"]),
        ("中 国 😀", ["中", "国", "😀"]),
        ("a-b, c", ["a", "b", "c"]),
        (" . ", []),
        ("", []),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert fts5_tokens(text) == tokens == held(text)


@pytest.mark.parametrize("seed", range(40))
def test_any_text(seed: int) -> None:
    rng = random.Random(seed)
    text = "".join(rng.choices(ALPHABET + chr(rng.randrange(0x80, 0xD800)) * 3, k=80))
    assert fts5_tokens(text) == held(text)


def test_a_hash_is_a_number_of_64_bits_and_stays_the_same() -> None:
    """It is on servers' disks."""
    assert [word_hash(token) for token in ("", "tea", "茶")] == [
        -1970711489451281740,
        -5015453343862700912,
        3804419968879761507,
    ]
    assert all(-(2**63) <= word_hash(str(n)) < 2**63 for n in range(100))
