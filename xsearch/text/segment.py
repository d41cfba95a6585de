"""Words for the full-text index: scripts written without spaces become one token a character.

A Chinese word is not marked in its sentence, so no tokenizer finds it surely; a run of single characters matched as
a phrase always does, for words of one and two characters too.
"""

from __future__ import annotations

import unicodedata

from xsearch.text.normalise import fold

# The tokenizer to give SQLite's FTS5. Its default splits words at every mark, which takes Hindi, Tamil and
# Khmer words apart (हिन्दी becomes three tokens), and drops emoji; we hand it text in which the tokens are already made.
FTS5_TOKENIZE = "unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc So'"

# Scripts without spaces between words, and Hangul, whose words carry endings. (first, last, characters in a phrase)
_UNSPACED = (
    (0x0E00, 0x0E7F, 4),  # Thai
    (0x0E80, 0x0EFF, 4),  # Lao
    (0x1000, 0x109F, 4),  # Burmese
    (0x1100, 0x11FF, 2),  # Hangul letters
    (0x1780, 0x17FF, 4),  # Khmer
    (0x2E80, 0x2FDF, 2),  # Han radicals
    (0x3005, 0x3007, 2),
    (0x3021, 0x3029, 2),
    (0x3041, 0x3096, 2),  # Hiragana
    (0x309D, 0x309F, 2),
    (0x30A1, 0x30FA, 2),  # Katakana
    (0x30FC, 0x30FF, 2),  # and its long-vowel sign
    (0x3105, 0x312F, 2),  # Bopomofo
    (0x3131, 0x318E, 2),  # Hangul compatibility letters
    (0x31A0, 0x31BF, 2),
    (0x31F0, 0x31FF, 2),
    (0x3400, 0x4DBF, 2),  # Han
    (0x4E00, 0x9FFF, 2),
    (0xA9E0, 0xA9FE, 4),  # Burmese, extended
    (0xAA60, 0xAA7F, 4),
    (0xAC00, 0xD7A3, 2),  # Hangul syllables
    (0xF900, 0xFAFF, 2),
    (0x20000, 0x3FFFD, 2),
)
_SEPARATOR, _WORD, _SYMBOL = -1, 0, 1  # other kinds are phrase lengths


def segment(text: str) -> str:
    """``fold(text)`` as tokens between single spaces, for an FTS5 table made with :data:`FTS5_TOKENIZE`.

    Every Han, kana, Hangul, Thai, Lao, Khmer and Burmese character is a token, every emoji and symbol too;
    in other scripts a word is. Punctuation is left out.
    """
    return " ".join(fold(text).translate(_SPREAD).split())


def query_terms(text: str, *, ngrams: bool = True) -> list[list[str]]:
    """The terms of a query, each a list of tokens that must stand side by side: a word alone, or a phrase.

    A run of single-character tokens is a phrase. A long run (a whole question in Chinese or Thai) would match
    nothing, so it is given as its overlapping phrases of two characters (four in Thai, Lao, Khmer and Burmese, whose
    characters say less), for the caller to join with OR; with ``ngrams=False`` each run stays whole.
    Terms keep the query's order, each once.
    """
    terms: list[list[str]] = []
    run: list[str] = []
    length = 0
    for token in segment(text).split():
        kind = _kind(token) if len(token) == 1 else _WORD
        if run and kind != length:
            terms += _phrases(run, length if ngrams else len(run))
            run = []
        if kind > _SYMBOL:
            run.append(token)
            length = kind
        else:
            length = 0
            terms.append([token])
    terms += _phrases(run, length if ngrams else len(run))
    return [list(term) for term in dict.fromkeys(map(tuple, terms))]


def _phrases(run: list[str], length: int) -> list[list[str]]:
    """The run itself where it is short, else every ``length`` neighbours of it."""
    if not run:
        return []
    return [run[start : start + length] for start in range(max(1, len(run) - length + 1))]


def _kind(char: str) -> int:
    """Separator, part of a word, a symbol of its own, or for an unspaced script the length of its phrases."""
    category = unicodedata.category(char)
    if category[0] not in "LNM" and category not in ("So", "Co"):
        return _SEPARATOR
    point = ord(char)
    for first, last, length in _UNSPACED:
        if first <= point <= last:
            return _WORD if category == "Nd" else length
    if category in ("So", "Sk") or char == "\ufffd":
        return _SYMBOL
    return _WORD if category != "Me" else _SEPARATOR


class _Spread(dict[int, str]):
    """Each character with the spaces it needs; worked out once for each that occurs."""

    def __missing__(self, point: int) -> str:
        char = chr(point)
        kind = _kind(char)
        self[point] = spread = {_SEPARATOR: " ", _WORD: char}.get(kind, f" {char} ")
        return spread


_SPREAD = _Spread()
