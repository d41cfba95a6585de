"""The quick ways of making words give what the slow one gives, for any characters side by side."""

from __future__ import annotations

import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsearch.text.normalise import clean, content_hash, fold
from xsearch.text.segment import _SPREAD, segment, spread_all
from xsearch.text.translate import Translation, points_of, text_of

EXAMPLES = settings(max_examples=300, deadline=None)
LATIN = st.characters(max_codepoint=0x24F)
WESTERN = st.sampled_from("abcXYZ äÖß€“”’–™©°µ\xa0\xad\x07\n.,;!1²ÿŸŒ")
COMBINING = st.sampled_from("eEiIİǰıo\u0301\u0307\u0323\u200d\ufe0fｶﾞᄀ\u1161\u11a8각ク゚กิकि")
TEXTS = st.one_of(*(st.text(alphabet, max_size=40) for alphabet in (LATIN, WESTERN, COMBINING, st.characters())))


def slowly(text: str) -> str:
    """What ``segment`` promises, said in the plainest way."""
    return " ".join(fold(text).translate(_SPREAD).split())


@EXAMPLES
@given(TEXTS)
def test_quick_and_slow_agree(text: str) -> None:
    assert segment(text) == slowly(text)


def test_every_character_alone_and_between_letters() -> None:
    wrong = [
        point
        for point in range(0x30000)
        if segment(chr(point)) != slowly(chr(point)) or segment(f"e{chr(point)}x") != slowly(f"e{chr(point)}x")
    ]
    assert wrong == []


@EXAMPLES
@given(st.lists(TEXTS, max_size=6))
def test_many_at_once(texts: list[str]) -> None:
    assert [" ".join(words.split()) for words in spread_all(texts)] == list(map(slowly, texts))


def test_every_character_among_many_texts() -> None:
    texts = [text for point in range(0x30000) for text in (chr(point), f"e{chr(point)}x")]
    texts = [text for text in texts if "\0" not in text]
    found = [" ".join(words.split()) for words in spread_all(texts)]
    assert [text for text, words in zip(texts, found, strict=True) if words != slowly(text)] == []


@pytest.mark.parametrize(
    "texts", [[], [""], ["", ""], ["a\0b", "c", ""], ["\u0301", "e", "\u0301"], ["\1", "e\u0301\1"]]
)
def test_texts_do_not_touch_each_other(texts: list[str]) -> None:
    assert [words.split() for words in spread_all(texts)] == [slowly(text).split() for text in texts]


@given(st.text(max_size=30))
def test_translation_is_that_of_strings(text: str) -> None:
    table = {ord("a"): "", ord("b"): "xyz", ord("c"): "\U0001f600!"} | {ord(char): char * 2 for char in text[:3]}
    full = {point: chr(point) for point in map(ord, text)} | table
    assert text_of(Translation(full)(points_of(text))) == text.translate(table)


def test_translation_in_several_threads() -> None:
    class Slow(dict[int, str]):
        def __missing__(self, point: int) -> str:
            time.sleep(1e-5)
            return chr(point) * (point % 4)

    texts = ["".join(map(chr, range(start, 900, 7))) for start in range(200, 207)] * 4
    for _ in range(5):
        translation = Translation(Slow())
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda text, of=translation: text_of(of(points_of(text))), texts))
        assert found == ["".join(char * (ord(char) % 4) for char in text) for text in texts]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Quick, brown FOX!", "the quick brown fox"),
        ("Größe: STRASSE, Straße", "grösse strasse strasse"),
        ("“Cœur” – l’été…", "cœur l été"),
        ("20 °C © Müller™", "20 ° c © müller ™"),
        ("so\xadft\x00 hy\xa0phen\x85end", "soft hy phen end"),
        ("5 µm", "5 μm"),
        ("Žluťoučký kůň", "žluťoučký kůň"),
        ("Zˇ e\u0301 İstanbul", "zˇ é istanbul"),
        ("Москва — столица", "москва столица"),
    ],
)
def test_words(text: str, words: str) -> None:
    assert segment(text) == words


@EXAMPLES
@given(st.one_of(TEXTS, st.text(st.sampled_from("aé\u0301\xad\u200b\u200c\ufe0f\ud800\ufeff"), max_size=12)))
def test_nothing_invisible_is_left(text: str) -> None:
    """Where nothing is to be taken out, nothing is translated: the result must be the same."""
    gone = {0xAD, 0x200B, 0x200E, 0x200F, 0xFEFF, *range(9)}
    assert not gone & set(map(ord, clean(text)))
    assert content_hash(text) == content_hash(f"\ufeff{text}\u200b") == content_hash(unicodedata.normalize("NFD", text))
