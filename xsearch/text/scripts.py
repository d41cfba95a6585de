"""Scripts: which writing system a character belongs to, and how much of a text is in each."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

# ISO 15924 codes. Only letters count: digits, punctuation and marks are shared or follow their letter.
# Hira and Kana are one here ("Kana"): both say Japanese, and no rule of ours tells them apart.
_RANGES: tuple[tuple[int, int, str], ...] = (
    (0x0041, 0x02AF, "Latn"),
    (0x0370, 0x03FF, "Grek"),
    (0x0400, 0x052F, "Cyrl"),
    (0x0530, 0x058F, "Armn"),
    (0x0590, 0x05FF, "Hebr"),
    (0x0600, 0x06FF, "Arab"),
    (0x0700, 0x074F, "Syrc"),
    (0x0750, 0x077F, "Arab"),
    (0x0780, 0x07BF, "Thaa"),
    (0x07C0, 0x07FF, "Nkoo"),
    (0x0860, 0x086F, "Syrc"),
    (0x0870, 0x08FF, "Arab"),
    (0x0900, 0x097F, "Deva"),
    (0x0980, 0x09FF, "Beng"),
    (0x0A00, 0x0A7F, "Guru"),
    (0x0A80, 0x0AFF, "Gujr"),
    (0x0B00, 0x0B7F, "Orya"),
    (0x0B80, 0x0BFF, "Taml"),
    (0x0C00, 0x0C7F, "Telu"),
    (0x0C80, 0x0CFF, "Knda"),
    (0x0D00, 0x0D7F, "Mlym"),
    (0x0D80, 0x0DFF, "Sinh"),
    (0x0E00, 0x0E7F, "Thai"),
    (0x0E80, 0x0EFF, "Laoo"),
    (0x0F00, 0x0FFF, "Tibt"),
    (0x1000, 0x109F, "Mymr"),
    (0x10A0, 0x10FF, "Geor"),
    (0x1100, 0x11FF, "Hang"),
    (0x1200, 0x139F, "Ethi"),
    (0x13A0, 0x13FF, "Cher"),
    (0x1400, 0x167F, "Cans"),
    (0x1780, 0x17FF, "Khmr"),
    (0x1800, 0x18AF, "Mong"),
    (0x1C50, 0x1C7F, "Olck"),
    (0x1C80, 0x1C8F, "Cyrl"),
    (0x1C90, 0x1CBF, "Geor"),
    (0x1D00, 0x1DBF, "Latn"),
    (0x1E00, 0x1EFF, "Latn"),
    (0x1F00, 0x1FFF, "Grek"),
    (0x2C60, 0x2C7F, "Latn"),
    (0x2D00, 0x2D2F, "Geor"),
    (0x2D30, 0x2D7F, "Tfng"),
    (0x2D80, 0x2DDF, "Ethi"),
    (0x2DE0, 0x2DFF, "Cyrl"),
    (0x2E80, 0x2FDF, "Hani"),
    (0x3005, 0x3007, "Hani"),
    (0x3021, 0x3029, "Hani"),
    (0x3041, 0x30FF, "Kana"),
    (0x3100, 0x312F, "Bopo"),
    (0x3130, 0x318F, "Hang"),
    (0x31A0, 0x31BF, "Bopo"),
    (0x31F0, 0x31FF, "Kana"),
    (0x3400, 0x4DBF, "Hani"),
    (0x4E00, 0x9FFF, "Hani"),
    (0xA000, 0xA4CF, "Yiii"),
    (0xA640, 0xA69F, "Cyrl"),
    (0xA720, 0xA7FF, "Latn"),
    (0xA8E0, 0xA8FF, "Deva"),
    (0xA960, 0xA97F, "Hang"),
    (0xA9E0, 0xA9FF, "Mymr"),
    (0xAA60, 0xAA7F, "Mymr"),
    (0xAB00, 0xAB2F, "Ethi"),
    (0xAB30, 0xAB6F, "Latn"),
    (0xAB70, 0xABBF, "Cher"),
    (0xABC0, 0xABFF, "Mtei"),
    (0xAC00, 0xD7FF, "Hang"),
    (0xF900, 0xFAFF, "Hani"),
    (0xFB00, 0xFB06, "Latn"),
    (0xFB13, 0xFB17, "Armn"),
    (0xFB1D, 0xFB4F, "Hebr"),
    (0xFB50, 0xFDFF, "Arab"),
    (0xFE70, 0xFEFE, "Arab"),
    (0xFF21, 0xFF5A, "Latn"),
    (0xFF66, 0xFF9F, "Kana"),
    (0xFFA0, 0xFFDC, "Hang"),
    (0x20000, 0x3FFFF, "Hani"),
)
_STARTS = tuple(start for start, _, _ in _RANGES)

# One Han character says about as much as a short word, so 時価総額 outweighs "nvidia" beside it.
_WEIGHT = {"Hani": 3.0, "Kana": 2.0, "Hang": 2.0}


@lru_cache(maxsize=8192)
def script_of(char: str) -> str:
    """The ISO 15924 code of a letter's script (``Kana`` for both kana), or ``""`` for what is no letter.

    Letters of scripts outside the table give ``Zzzz``.
    """
    return block_of(char) or "Zzzz" if char.isalpha() else ""


def block_of(char: str) -> str:
    """The script in whose range of Unicode a character lies, marks and digits of the script too; ``""`` outside all."""
    at = bisect_right(_STARTS, ord(char)) - 1
    return _RANGES[at][2] if at >= 0 and ord(char) <= _RANGES[at][1] else ""


def count_scripts(text: str) -> dict[str, int]:
    """How many letters of each script ``text`` has."""
    counts: dict[str, int] = {}
    for char, times in Counter(text).items():  # Counter runs in C; a text has few distinct characters
        script = script_of(char)
        if script:
            counts[script] = counts.get(script, 0) + times
    return counts


def script_weights(counts: Mapping[str, int]) -> dict[str, float]:
    """Letter counts turned into shares that add up to 1; Han, kana and Hangul count for more than one letter."""
    weights = {script: count * _WEIGHT.get(script, 1.0) for script, count in counts.items()}
    total = sum(weights.values())
    return {script: weight / total for script, weight in weights.items()} if total else {}


def keep_script(text: str, script: str) -> str:
    """``text`` with the letters of every other script turned into spaces."""
    foreign = {ord(char): " " for char in set(text) if script_of(char) not in ("", script)}
    return text.translate(foreign) if foreign else text
