"""The language of a text: script first, then a statistical detector among the languages of that script.

Unsure means ``und``. A search never needs the language of its query, so a wrong name costs more than none.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from xsearch.text.scripts import count_scripts, keep_script, script_weights
from xsearch.text.tags import UND, canonical_tag, language_name, matches, to_iso639_3

__all__ = [
    "UND",
    "Detection",
    "canonical_tag",
    "detect",
    "detect_many",
    "detect_with_confidence",
    "language_name",
    "matches",
    "to_iso639_3",
]


class _Ranker(Protocol):
    """What we use of py3langid's ``LanguageIdentifier``."""

    def rank(self, text: str) -> list[tuple[str, float]]:
        """Every label with its probability, best first."""
        ...


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Scripts that one language owns, for us: the script is the answer.
_ONE_LANGUAGE = {
    "Armn": "hy", "Beng": "bn", "Cher": "chr", "Ethi": "am", "Geor": "ka", "Grek": "el", "Gujr": "gu", "Guru": "pa",
    "Hang": "ko", "Hebr": "he", "Khmr": "km", "Knda": "kn", "Laoo": "lo", "Mlym": "ml", "Mtei": "mni", "Mymr": "my",
    "Nkoo": "nqo", "Olck": "sat", "Orya": "or", "Sinh": "si", "Syrc": "syr", "Taml": "ta", "Telu": "te", "Tfng": "zgh",
    "Thaa": "dv", "Thai": "th", "Tibt": "bo", "Yiii": "ii", "Cans": "iu",
}  # fmt: skip
# Letters that only one language of the script writes; any of them decides.
_TELLTALE = {
    "Beng": {"as": "ৰৱ"},
    "Ethi": {"ti": "ቐቑቒቓቔቕ"},
    "Arab": {"sd": "ٻڀٺڄڃڦڱڻڏڙ", "ckb": "ڵڕێ"},
}
# The languages of the detector by script; Latin has all that no other script claims.
_BY_SCRIPT = {
    "Cyrl": _words("ba be bg kk ky mk mn ru sr tg tt uk uz"),
    "Arab": _words("ar ary arz fa ps sdh ug ur uzs"),
    "Deva": _words("gom hi mr ne sa"),
}
_NOT_LATIN = (
    _words("am as bn dz el grc gu hbo he hy ja ka km kn ko lo ml my or pa si ta te th wuu yue zh zxx")
    | (_BY_SCRIPT["Cyrl"] - {"sr", "uz", "tt"})
    | _BY_SCRIPT["Arab"]
    | _BY_SCRIPT["Deva"]
)
# The detector's labels that are not our tags. Dialects that a sentence seldom tells apart join their language.
_OUR_TAG = {
    "ary": "ar",
    "arz": "ar",
    "no": "nb",
    "sdh": "ckb",
    "uzs": "uz-Arab",
    "wuu": "zh",
    "fuv": "ff",
    "gug": "gn",
    "kik": "ki",
}
_SCRIPTED = {("sr", "Latn"): "sr-Latn", ("uz", "Cyrl"): "uz-Cyrl", ("tt", "Latn"): "tt-Latn"}
# Seldom written, often guessed: short Spanish looks Extremaduran, short German looks Luxembourgish. A caller whose
# corpus holds them says so with a prior.
_SELDOM = _words("ace an ba bcl crh ext ff gcf gcr gn gom guw ki lij ltg nso pcm rw sa se sn ckb st uz-Arab vec vo wa")
_SELDOM_WEIGHT = 0.1
_PRIOR_FLOOR = 0.02  # what a language weighs that the prior does not name, beside the one it names most

# Below these the answer is "und". Chosen on Tatoeba (benchmarks/results/language.json): of the texts that are named,
# more than 0.95 are named rightly in every length class from four letters on. Weighing letters that a language does
# not write (ы is not Bulgarian) was tried and gained 0.2 points of coverage at 0.1 of precision: not worth a table.
_MIN_SHARE = 0.5
_MIN_CONFIDENCE = 0.45
_MIN_CONFIDENCE_SHORT = 0.5
_SHORT = 12  # letters

_MIN_CONFIDENCE_HAN = 0.75

# Han without kana. A character that a language does not write makes it ten times less likely. Function words and a
# sentence's worth of characters without kana speak against Japanese; a short name (北京, 東京) stays open.
_MISS = 0.1
_CHINESE_ONLY = frozenset("你您她它们們这這吗嗎呢吧啊很啥谁么麼是怎")
_CANTONESE_ONLY = frozenset("嘅咗唔佢哋喺冇啲嘢咁嚟瞓諗乜嗰啱攞搵俾喎嘞啫咩噉")
_SENTENCE_HAN = 4
_LONG_HAN = 12
_SLICE = 1000  # characters; a long text is judged by its start, middle and end


@dataclass(frozen=True, slots=True)
class Detection:
    """A language and how sure we are of it.

    Attributes:
        lang: BCP-47 tag; ``und`` when unsure.
        confidence: in [0, 1]; of the best guess even where ``lang`` is ``und``.
    """

    lang: str
    confidence: float


def detect(text: str, *, prior: Mapping[str, float] | None = None) -> str:
    """The BCP-47 tag of the language ``text`` is mostly in, or ``und`` when unsure.

    Args:
        prior: how common each language is where the text comes from (counts or shares by tag); it settles
            short texts, and a language it does not name needs strong evidence.
    """
    return detect_with_confidence(text, prior=prior).lang


def detect_many(texts: Iterable[str], *, prior: Mapping[str, float] | None = None) -> list[str]:
    """``detect`` for each text, in order."""
    return [detect(text, prior=prior) for text in texts]


def detect_with_confidence(text: str, *, prior: Mapping[str, float] | None = None) -> Detection:
    """The language ``text`` is mostly in with our confidence; see :func:`detect`."""
    text = unicodedata.normalize("NFC", _sample(text))
    counts = count_scripts(text)
    shares = script_weights(counts)
    script, share = _main_script(shares)
    if not script or share < _MIN_SHARE:
        return Detection(UND, share)
    if script == "Hani":
        lang, confidence = _detect_han(text, counts, prior)
        enough = _MIN_CONFIDENCE_HAN
    elif script in _ONE_LANGUAGE:
        lang, confidence = _by_letters(text, script), 1.0
        enough = 0.0
    elif script == "Latn" or script in _BY_SCRIPT:
        lang = _by_letters(text, script)
        lang, confidence = (lang, 1.0) if lang else _by_model(keep_script(text, script), script, prior)
        enough = _MIN_CONFIDENCE_SHORT if counts[script] < _SHORT else _MIN_CONFIDENCE
    else:  # a script we know no language for
        return Detection(UND, 0.0)
    return Detection(lang if confidence >= enough else UND, confidence * share)


def _sample(text: str) -> str:
    """The whole text, or its start, middle and end where it is long."""
    if len(text) <= 3 * _SLICE:
        return text
    middle = (len(text) - _SLICE) // 2
    return f"{text[:_SLICE]}\n{text[middle : middle + _SLICE]}\n{text[-_SLICE:]}"


def _main_script(shares: Mapping[str, float]) -> tuple[str, float]:
    """The script with the largest share and that share; Han and kana count as one, ``Hani``.

    On a tie Latin loses: Latin letters inside other text are names and units more often than the reverse.
    """
    merged: dict[str, float] = {}
    for script, share in shares.items():
        name = "Hani" if script in ("Kana", "Bopo") else script
        merged[name] = merged.get(name, 0.0) + share
    if not merged:
        return "", 0.0
    best = max(sorted(merged), key=lambda script: (merged[script], script != "Latn"))
    return best, merged[best]


def _by_letters(text: str, script: str) -> str:
    """The language that letters of its own give away, else the script's one language, else empty."""
    for lang, letters in _TELLTALE.get(script, {}).items():
        if any(letter in text for letter in letters):
            return lang
    if script == "Hebr" and _looks_yiddish(text):
        return "yi"
    return _ONE_LANGUAGE.get(script, "")


# Yiddish writes its vowels: digraphs and a pointed alef. Hebrew may be pointed too, but then on every letter.
_YIDDISH_DIGRAPHS = ("\u05f0", "\u05f1", "\u05f2")
_YIDDISH_ALEFS = ("\u05d0\u05b7", "\u05d0\u05b8")
_HEBREW_POINTS = "\u05b0\u05b5\u05b6\u05b9\u05c1\u05c2"  # sheva, tsere, segol, holam, shin and sin dots
_YIDDISH_WORDS = _words(
    "איז נישט ניט האט האב האבן האסט דער דעם און זי עס ער איר איך דו מיר מיט פון אויף פאר קיין וואס ווי ווען זיך "
    "געווען זענען זיין מיין דיין צו קען ביסט בין וועל וועט וויל אז ביי נאר אלע דא אונדז דאס די א אים"
)


def _looks_yiddish(text: str) -> bool:
    """Whether text in Hebrew letters is Yiddish: its digraphs, its pointed alef, or its commonest words."""
    if any(sign in text for sign in _YIDDISH_DIGRAPHS):
        return True
    if any(sign in text for sign in _YIDDISH_ALEFS) and not any(point in text for point in _HEBREW_POINTS):
        return True
    bare = "".join(char if char.isalpha() else " " for char in text if not "\u0591" <= char <= "\u05c7")
    words = bare.split()
    return sum(word in _YIDDISH_WORDS for word in words) * 4 > len(words)


@lru_cache(maxsize=16384)
def _written_in(char: str) -> frozenset[str]:
    """Which everyday character sets have a Han character: ``zh`` (GB 2312), ``zh-Hant`` (Big5), ``ja`` (JIS level 1).

    The national character sets of the 1980s are lists of what each place writes; Python ships them.
    """
    found = set()
    for lang, codec in (("zh", "gb2312"), ("zh-Hant", "big5")):
        if _encodes(char, codec):
            found.add(lang)
    if _encodes(char, "shift_jis") and char.encode("shift_jis") < b"\x98\x9f":  # level 2 holds old and rare forms
        found.add("ja")
    return frozenset(found)


def _encodes(char: str, codec: str) -> bool:
    try:
        char.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def _detect_han(text: str, counts: Mapping[str, int], prior: Mapping[str, float] | None) -> tuple[str, float]:
    """Japanese, simplified or traditional Chinese, or Cantonese, with a confidence, for text in Han and kana."""
    han, kana = counts.get("Hani", 0), counts.get("Kana", 0)
    if kana * 10 >= han + kana:  # one の in a Chinese name is not Japanese
        return "ja", 1.0
    if not han:
        return UND, 0.0
    misses = dict.fromkeys(("zh", "zh-Hant", "ja"), 0)
    for char in text:
        if "\u4e00" <= char <= "\u9fff":
            written = _written_in(char)
            for lang in misses:
                misses[lang] += lang not in written
            misses["ja"] += han >= _SENTENCE_HAN and char in _CHINESE_ONLY
    if han >= _LONG_HAN and not kana:
        misses["ja"] += 2
    # Chinese is one candidate in two scripts, so each starts with half.
    weights = {
        lang: _MISS ** min(count, 12) * (1.0 if lang == "ja" else 0.5) * _weigh(lang, prior)
        for lang, count in misses.items()
    }
    chinese = weights["zh"] + weights["zh-Hant"]
    total = chinese + weights["ja"]
    if weights["ja"] >= chinese:
        return "ja", weights["ja"] / total
    lang = "zh-Hant" if weights["zh-Hant"] > weights["zh"] else "zh"
    # Which of the two scripts may stay open (both write 北京大): that it is Chinese is what must be sure.
    confidence = chinese / total
    if any(char in _CANTONESE_ONLY for char in text):
        return "yue", confidence
    return lang, confidence


def _weigh(lang: str, prior: Mapping[str, float] | None) -> float:
    """What a language weighs before the text is read: by the caller's prior, else 1, or 0.1 where seldom written."""
    if not prior:
        return _SELDOM_WEIGHT if lang in _SELDOM else 1.0
    share = prior.get(lang, prior.get(lang.split("-")[0], 0.0))
    return max(share / max(max(prior.values()), 1e-9), _PRIOR_FLOOR)


def _by_model(text: str, script: str, prior: Mapping[str, float] | None) -> tuple[str, float]:
    """The likeliest language of a script by the statistical detector, and its probability among them."""
    weights: dict[str, float] = {}
    for label, probability in _model().rank(text):
        if (label in _BY_SCRIPT[script]) if script in _BY_SCRIPT else (label not in _NOT_LATIN):
            lang = _SCRIPTED.get((label, script)) or _OUR_TAG.get(label, label)
            weights[lang] = weights.get(lang, 0.0) + probability * _weigh(lang, prior)
    total = sum(weights.values())
    if total <= 0.0:
        return UND, 0.0
    best = max(sorted(weights), key=weights.__getitem__)
    return best, weights[best] / total


@lru_cache(maxsize=1)
def _model() -> _Ranker:
    """The detector, loaded at the first text that needs it (0.7 s, 100 MB)."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier: _Ranker = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return identifier
