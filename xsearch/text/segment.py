"""Words for the full-text index: scripts written without spaces become one token a character.

A Chinese word is not marked in its sentence, so no tokenizer finds it surely; a run of single characters matched as
a phrase always does, for words of one and two characters too.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from xsearch.text.normalise import DOTTED_I, FOLD, PLAIN, fold
from xsearch.text.translate import Translation, points_of, text_of

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
# Western Europe writes in these, without quotation marks and with them; bytes are translated fifty times as fast as
# characters. Both write ß alike.
_CODECS = ("latin-1", "cp1252")
_SHARP_S = "ß".encode("latin-1")
# Stands for characters that must be looked at together with their neighbours.
_TOGETHER = "\0"
_TOGETHER_BYTE = _TOGETHER.encode()
# Between joined texts, and what stands there for characters that must be looked at together: no text becomes either.
_BETWEEN, _LOOK = "\0", "\1"
# Characters that show whether a text is of the kind that must.
_SAMPLE = 32
# Letters, no marks, that Unicode composes with what stands before them: Hangul vowels and finals, Kirat Rai vowels.
_COMPOSING = ((0x1160, 0x11FF), (0xD7B0, 0xD7FF), (0x16D63, 0x16D6A))


def segment(text: str) -> str:
    """``fold(text)`` as tokens between single spaces, for an FTS5 table made with :data:`FTS5_TOKENIZE`.

    Every Han, kana, Hangul, Thai, Lao, Khmer and Burmese character is a token, every emoji and symbol too;
    in other scripts a word is. Punctuation is left out.
    """
    return " ".join(spread(text).split())


def spread(text: str) -> str:
    """:func:`segment` with any number of spaces between tokens: the same to FTS5, and made in a third of the time."""
    for codec in _CODECS:
        try:
            raw = text.encode(codec)
        except UnicodeEncodeError:
            continue
        found_bytes = raw.translate(*_bytes_table(codec))
        if _TOGETHER_BYTE in found_bytes:
            break
        return found_bytes.replace(_SHARP_S, b"ss").decode(codec)
    if _TOGETHER in text[:_SAMPLE].translate(_ALONE) or _TOGETHER in (found := text.translate(_ALONE)):
        return fold(text).translate(_SPREAD)
    return found


def spread_all(texts: Sequence[str]) -> list[str]:
    """:func:`spread` of each text, all in a few steps: where most are not Latin, in two fifths of the time."""
    joined = _BETWEEN.join(texts)
    if len(texts) < 2 or joined.count(_BETWEEN) != len(texts) - 1:
        return [spread(text) for text in texts]
    points = _ALL_ALONE(points_of(joined))
    found = text_of(points).split(_BETWEEN)
    places = np.flatnonzero(points == ord(_LOOK))
    if len(places):
        looked_at = np.unique(np.searchsorted(np.flatnonzero(points == ord(_BETWEEN)), places)).tolist()
        folded = _folded(_BETWEEN.join(texts[number] for number in looked_at))
        for number, text in zip(looked_at, text_of(_ALL_SPREAD(points_of(folded))).split(_BETWEEN), strict=True):
            found[number] = text
    return found


def _folded(joined: str) -> str:
    """``fold`` of texts that are joined."""
    plain = _composed(text_of(_ALL_PLAIN(points_of(joined))))
    return _composed(text_of(_ALL_FOLD(points_of(plain))).replace(DOTTED_I, "i"))


def _composed(joined: str) -> str:
    """Texts in NFC. One by one, for most are as they are, which is soon seen; composing takes ten times as long."""
    return _BETWEEN.join([unicodedata.normalize("NFC", text) for text in joined.split(_BETWEEN)])


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


@cache
def _bytes_table(codec: str) -> tuple[bytes, bytes]:
    """For ``bytes.translate``: what each character of a code page becomes, and those that vanish."""
    table, vanishing = bytearray(256), bytearray()
    for value in range(256):
        char = bytes([value]).decode(codec, errors="ignore")
        spread = char if char == "ß" else _ALONE[ord(char)] if char else _TOGETHER
        written = spread.encode(codec, errors="replace")
        if not written:
            vanishing.append(value)
        # What needs spaces around it, or is not in the code page, is rare.
        table[value] = written[0] if len(written) == 1 and written.decode(codec) == spread else ord(_TOGETHER)
    return bytes(table), bytes(vanishing)


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


class _Alone(dict[int, str]):
    """What :func:`segment` makes of each character, where that does not depend on its neighbours.

    Where it may (marks, Hangul letters, what is not composed), it is :data:`_TOGETHER`, which no text is made into.
    """

    def __missing__(self, point: int) -> str:
        char = chr(point)
        folded = fold(char)
        alone = unicodedata.normalize("NFC", char) == char and not any(map(_composes, char + folded))
        self[point] = spread = folded.translate(_SPREAD) if alone else _TOGETHER
        return spread


def _composes(char: str) -> bool:
    """Whether a character may become one with another that stands before it."""
    point = ord(char)
    return unicodedata.category(char)[0] == "M" or any(first <= point <= last for first, last in _COMPOSING)


_SPREAD = _Spread()
_ALONE = _Alone()


class _Joined(dict[int, str]):
    """A table for texts that are joined."""

    def __init__(self, table: Mapping[int, str]) -> None:
        super().__init__({ord(_BETWEEN): _BETWEEN})
        self._table = table

    def __missing__(self, point: int) -> str:
        written = self._table[point]
        return _LOOK if written == _TOGETHER else written


_ALL_ALONE, _ALL_SPREAD, _ALL_PLAIN, _ALL_FOLD = (
    Translation(_Joined(table)) for table in (_ALONE, _SPREAD, PLAIN, FOLD)
)
