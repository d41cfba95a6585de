"""Normal forms of text: ``clean`` for encoding and hashing, ``fold`` for matching words; both in any script.

Neither is NFKC over everything: x² and x2, H₂O and H2O, ½ and 1⁄2 stay different texts.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

# What nobody sees: soft hyphen, zero-width space, bidi marks and embeddings, word joiner, BOM, Hangul fillers,
# interlinear marks, tag characters. Tabs and line ends are not among them.
_INVISIBLE = (
    (0x0000, 0x0008), (0x000E, 0x001B), (0x007F, 0x0084), (0x0086, 0x009F), (0x00AD, 0x00AD), (0x034F, 0x034F),
    (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200B), (0x200E, 0x200F),
    (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF9, 0xFFFB),
    (0xE0000, 0xE00FF),
)  # fmt: skip
# ZWNJ and ZWJ shape Persian and Indic words and tie emoji together, and variation selectors pick a picture: they stay
# in ``clean`` and go in ``fold`` and in the hash, so that می‌خواهم and میخواهم are one word to match.
_JOINERS = ((0x200C, 0x200D), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
# Vowel signs and other marks that readers add and writers leave out: Arabic tashkeel, Hebrew points.
_POINTS = (
    (0x0591, 0x05BD), (0x05BF, 0x05BF), (0x05C1, 0x05C2), (0x05C4, 0x05C5), (0x05C7, 0x05C7), (0x0610, 0x061A),
    (0x064B, 0x065F), (0x0670, 0x0670), (0x06D6, 0x06DC), (0x06DF, 0x06E4), (0x06E7, 0x06E8),
    (0x06EA, 0x06ED), (0x08CA, 0x08E1), (0x08E3, 0x08FF),
)  # fmt: skip
# Compatibility forms that are only another width or glyph of a letter. The rest of NFKC (², ½, ℃, ㎏) is meaning.
# Half-width Hangul stays out: NFKC makes conjoining letters of it, and nobody writes it.
_GLYPH_FORMS = (
    (0xFB00, 0xFB06),
    (0xFB13, 0xFB17),
    (0xFB1D, 0xFDFF),
    (0xFE70, 0xFEFE),
    (0xFF01, 0xFF9F),
    (0xFFE0, 0xFFE2),
)
_TATWEEL = 0x0640
_JOINS_BACK = ((_TATWEEL, _TATWEEL), (0x1160, 0x11FF), (0xD7B0, 0xD7FF), (0xFF9E, 0xFF9F), (0x16D63, 0x16D6A))
_LETTERS = {
    "أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا",  # alef with hamza, madda, wasla
    "ى": "ي", "ی": "ي", "ک": "ك", "ڪ": "ك",  # alef maksura, Persian yeh; Persian and swash kaf
    "ہ": "ه", "ۀ": "ه", "ۂ": "ه",  # Urdu heh and heh with hamza
    "װ": "וו", "ױ": "וי", "ײ": "יי",  # Yiddish digraphs
    "ё": "е",  # Russian print leaves the dots out
    "ı": "i",  # so that ISPARTA and Isparta meet ısparta
    "‘": "'", "’": "'", "ʻ": "'", "ʼ": "'",  # one apostrophe for o‘zbek, aujourd’hui, комп’ютер
}  # fmt: skip
DOTTED_I = "i\u0307"  # what İ becomes in lower case


def clean(text: str) -> str:
    """``text`` in NFC without invisible characters: what is encoded, and what :func:`content_hash` hashes.

    Case, width, marks, joiners (ZWNJ, ZWJ) and white space stay. A lone surrogate becomes U+FFFD, because it can
    be written to no file.
    """
    # Looking is five times as fast as translating, and in most texts there is nothing to take out.
    return unicodedata.normalize("NFC", text.translate(_CLEAN) if _UNCLEAN.search(text) else text)


def fold(text: str) -> str:
    """``text`` as words are matched: :func:`clean`, then spellings that readers take for the same word made the same.

    Case, full and half width, Arabic presentation forms, tatweel, vowel points, hamza on alef, Persian and Arabic yeh
    and kaf, digits of any script, joiners, apostrophes. Accents of Latin letters stay: the index may drop them.
    Folding twice changes nothing more.
    """
    if text.isascii():
        return text.translate(FOLD)
    # NFC before the points go, or ئ in two code points would lose its hamza; and after, because case folding takes
    # some letters apart.
    composed = unicodedata.normalize("NFC", text.translate(PLAIN))
    return unicodedata.normalize("NFC", composed.translate(FOLD).replace(DOTTED_I, "i"))


@dataclass(frozen=True, slots=True)
class Folded:
    """Folded text that knows where each of its characters came from."""

    text: str
    source: str
    _starts: array[int] = field(repr=False)
    _ends: array[int] = field(repr=False)

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """The smallest span of the source that holds what became ``text[start:end]``."""
        if start >= end:
            at = self._starts[start] if start < len(self._starts) else len(self.source)
            return at, at
        return self._starts[start], self._ends[end - 1]


def fold_with_map(text: str) -> Folded:
    """``fold(text)`` with the way back to the offsets of ``text``."""
    parts: list[str] = []
    starts, ends = array("L"), array("L")
    start, length = 0, len(text)
    while start < length:
        end = start + 1
        while end < length and _joins_back(text[end]):
            end += 1
        folded = fold(text[start:end])
        parts.append(folded)
        starts.extend([start] * len(folded))
        ends.extend([end] * len(folded))
        start = end
    return Folded("".join(parts), text, starts, ends)


def content_hash(*fields: str) -> str:
    """The SHA-256 (hex) of the fields' clean form without joiners; the same for NFC and NFD, with a BOM or without.

    Each field is preceded by its length, so ``("ab", "c")`` and ``("a", "bc")`` differ.
    """
    return hash_of([(text if text.isascii() and text.isprintable() else _joined_up(text)).encode() for text in fields])


def hash_of(fields: Iterable[bytes]) -> str:
    """The SHA-256 (hex) of the fields, each preceded by its length."""
    parts: list[bytes] = []
    for data in fields:
        parts += len(data).to_bytes(8, "big"), data
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _joined_up(text: str) -> str:
    """The clean form without joiners."""
    form = clean(text)
    return unicodedata.normalize("NFC", form.translate(_NO_JOINERS)) if _JOINER.search(form) else form


@lru_cache(maxsize=8192)
def _joins_back(char: str) -> bool:
    """Whether a character may compose with what stands before it, or vanishes: marks, Hangul vowels and finals."""
    return unicodedata.category(char).startswith("M") or ord(char) in _MAY_JOIN


def _ranges(*groups: tuple[tuple[int, int], ...]) -> frozenset[int]:
    return frozenset(point for group in groups for first, last in group for point in range(first, last + 1))


def _any_of(*groups: tuple[tuple[int, int], ...]) -> re.Pattern[str]:
    """Matches one character of these ranges."""
    pairs = (f"\\U{first:08x}-\\U{last:08x}" for group in groups for first, last in group)
    return re.compile(f"[{''.join(pairs)}]")


_GONE = _ranges(_INVISIBLE, _JOINERS) | {_TATWEEL}
_POINT_MARKS = _ranges(_POINTS)
_GLYPHS = _ranges(_GLYPH_FORMS)
_MAY_JOIN = _ranges(_JOINS_BACK) | _GONE
_NO_JOINERS: dict[int, None] = dict.fromkeys(_ranges(_JOINERS))
_JOINER = _any_of(_JOINERS)
_UNCLEAN = _any_of(_INVISIBLE, ((0xD800, 0xDFFF),))
_CLEAN: dict[int, str | None] = {
    **dict.fromkeys(_ranges(_INVISIBLE)),
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),
}


class _Plain(dict[int, str]):
    """Glyph forms to plain letters and the invisible to nothing, before NFC: half-width ｶﾞ must compose to ガ."""

    def __missing__(self, point: int) -> str:
        char = chr(point)
        if point in _GONE:
            plain = ""
        elif point in _GLYPHS:
            # An isolated Arabic mark decomposes to a space that carries it.
            plain = unicodedata.normalize("NFKC", char).removeprefix(" ").translate(dict.fromkeys((_TATWEEL,)))
        else:
            plain = char
        self[point] = plain
        return plain


class _Fold(dict[int, str]):
    """Each code point as it is matched, worked out once; ``str.translate`` asks only for those it lacks."""

    def __missing__(self, point: int) -> str:
        char = chr(point)
        if point in _POINT_MARKS or point in _GONE:
            folded = ""
        elif 0xD800 <= point <= 0xDFFF:
            folded = "\ufffd"
        elif char.isspace():
            folded = " "
        elif unicodedata.category(char) == "Nd":
            folded = str(unicodedata.decimal(char))
        else:
            folded = "".join(_LETTERS.get(part, part) for part in char.casefold())
        self[point] = folded
        return folded


PLAIN = _Plain()
FOLD = _Fold()
