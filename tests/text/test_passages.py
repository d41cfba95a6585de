"""Splitting: nothing lost, nothing over the limit, sentences whole, in any script and at any length."""

from __future__ import annotations

import time
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsearch.encoder.builtin import BuiltinEncoder
from xsearch.errors import InvalidArgumentError
from xsearch.text.passages import (
    WINDOW_CHARS,
    PassageLimits,
    Split,
    encodable,
    sentence_spans,
    split_text,
    with_title,
)

LIMITS = PassageLimits(target=128, hard=256, overhead=2)
ENGLISH = "The council approved the new budget for public schools on Tuesday. Residents had asked for it since May. "


@pytest.fixture(scope="module")
def encoder() -> BuiltinEncoder:
    return BuiltinEncoder()


def words(texts: list[str]) -> list[list[tuple[int, int]]]:
    """A tokenizer of our own: a word is a token for each four of its letters, a wide character is one."""
    spans = []
    for text in texts:
        found: list[tuple[int, int]] = []
        for place, character in enumerate(text):
            if character.isspace():
                continue
            begin = found[-1][0] if found else 0
            if found and found[-1][1] == place and character.isascii() and text[begin].isascii() and place - begin < 4:
                found[-1] = (begin, place + 1)
            else:
                found.append((place, place + 1))
        spans.append(found)
    return spans


def split(text: str, title: str = "", lang: str = "en", limits: PassageLimits = LIMITS, token_spans=words) -> Split:  # type: ignore[no-untyped-def]
    return split_text(text, title, lang=lang, limits=limits, token_spans=token_spans)


def check(text: str, result: Split, limits: PassageLimits, token_spans) -> None:  # type: ignore[no-untyped-def]
    """Slices in order, no overlap, no character lost, no passage over the limit, counts right."""
    assert [text[piece.start : piece.end] for piece in result.pieces] == [piece.text for piece in result.pieces]
    assert all(one.end <= two.start for one, two in pairwise(result.pieces))
    edges = [0, *(edge for piece in result.pieces for edge in (piece.start, piece.end)), len(text)]
    assert "".join(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)).strip() == ""
    assert all(piece.text == piece.text.strip() != "" for piece in result.pieces)
    encoded = [with_title(result.title, piece.text) for piece in result.pieces]
    assert [piece.tokens for piece in result.pieces] == [len(t) + limits.overhead for t in token_spans(encoded)]
    assert all(piece.tokens <= limits.hard for piece in result.pieces)


# --- properties

ALPHABET = [
    *"abcXYZ019 .,!?\n\t'\"()",
    "\r\n",
    "\n\n",
    " Dr. ",
    "é",
    "e\u0301",
    "中",
    "文。",
    "カ",
    "ไทย",
    "น้ำ",
    "क्षि",
    "है।",
    "مَ",
    "ر",
    "؟",
    "한",
    "\u1112\u1161\u11ab",
    "👨\u200d👩\u200d👧",
    "👍🏽",
    "\ud800",
    "\u200b",
    "\ufeff",
    "\u00a0",
    "\u2028",
    "\u3000",
    "A",
    "longwordwithoutanyspace" * 3,
]
texts = st.lists(st.sampled_from(ALPHABET), max_size=150).map("".join)
langs = st.sampled_from(["en", "de", "zh", "ja", "hi", "ar", "th", "fr", "und", "", "zh-Hant", "xx"])
some_limits = st.sampled_from([LIMITS, PassageLimits(20, 24, 2), PassageLimits(10, 10, 2), PassageLimits(30, 256, 4)])


@settings(max_examples=300, deadline=None)
@given(
    text=texts,
    title=st.sampled_from(["", "Titel", " Ein langer Titel aus sieben Wörtern "]),
    lang=langs,
    limits=some_limits,
)
def test_any_text_is_split_without_loss(
    encoder: BuiltinEncoder, text: str, title: str, lang: str, limits: PassageLimits
) -> None:
    check(text, split(text, title, lang, limits, encoder.token_offsets), limits, encoder.token_offsets)


@settings(max_examples=400, deadline=None)
@given(text=st.one_of(texts, st.text(max_size=200)), lang=langs)
def test_sentences_touch_and_cover_the_text(text: str, lang: str) -> None:
    spans = sentence_spans(text, lang)
    assert [start for start, _ in spans] == [0, *(end for _, end in spans)][: len(spans)]
    assert (spans[-1][1] if spans else 0) == len(text)
    assert all(start < end for start, end in spans)


@settings(max_examples=150, deadline=None)
@given(text=st.lists(st.sampled_from(["e\u0301", "ก็", "น้ำ", "क्षि", "👍🏽", "a", "中", "مَّ"]), max_size=120).map("".join))
def test_no_cut_before_a_mark(encoder: BuiltinEncoder, text: str) -> None:
    for piece in split(text, limits=PassageLimits(12, 16, 2), token_spans=encoder.token_offsets).pieces:
        assert unicodedata.category(text[piece.start]) not in ("Mn", "Mc", "Me")
        assert not "\U0001f3fb" <= text[piece.start] <= "\U0001f3ff"


# --- sentences


@pytest.mark.parametrize(
    ("lang", "sentences"),
    [
        ("en", ["Dr. Smith paid $3.50 for it. ", "He left at 5 p.m. yesterday! ", "Did she stay?"]),
        ("de", ["Am 3. Mai kam Dr. Müller. ", "Er blieb z. B. bis Montag. ", "Warum?"]),
        ("es", ["¿Dónde está la Sra. López? ", "No lo sé. ", "¡Vamos!"]),
        ("vi", ["Hôm nay trời đẹp. ", "Chúng ta đi chơi nhé!"]),
        ("zh", ["今天天气很好。", "我们去公园吧！", "你来吗？"]),
        ("zh-Hant", ["今天天氣很好。", "我們去公園吧！"]),
        ("ja", ["今日は晴れです。", "公園に行きましょう！", "来ますか？"]),
        ("hi", ["मैं घर जा रहा हूँ। ", "तुम कहाँ हो? ", "चलो।"]),
        ("ar", ["ذهبت إلى السوق. ", "هل رأيت أحمد؟ ", "نعم، رأيته."]),
        ("th", ["ผมไปตลาด เธออยู่บ้าน"]),
        ("und", ["One here. ", "Two there."]),
    ],
)
def test_sentences(lang: str, sentences: list[str]) -> None:
    text = "".join(sentences)
    assert [text[start:end] for start, end in sentence_spans(text, lang)] == sentences


@pytest.mark.parametrize("space", ["\u00a0", "\u2028", "\u3000", "\x85", "\u202f"])
@pytest.mark.parametrize("lang", ["en", "fr", "hi", "zh"])
def test_a_capital_a_wide_space_and_a_full_stop(space: str, lang: str) -> None:
    """sentencex 1.0.32 panics on these; a panic is no Exception and would end the run."""
    text = f"Plan A{space}. Next."
    assert sentence_spans(text, lang)[-1][1] == len(text)


def test_surrogates_keep_their_places() -> None:
    text = "Bad \ud83d\ude00 pair. Next \ud800 one."
    assert encodable(text) == "Bad \ufffd\ufffd pair. Next \ufffd one."
    assert [text[start:end] for start, end in sentence_spans(text, "en")] == [
        "Bad \ud83d\ude00 pair. ",
        "Next \ud800 one.",
    ]


@pytest.mark.parametrize(
    ("lang", "sentence"), [("en", "The dog ran home. "), ("zh", "今天天气很好我们去公园。"), ("hi", "मैं घर गया। ")]
)
def test_windows_leave_no_trace(lang: str, sentence: str) -> None:
    count = 3 * WINDOW_CHARS // len(sentence)
    spans = sentence_spans(sentence * count, lang)
    size = len(sentence)
    assert spans == [(place * size, (place + 1) * size) for place in range(count)]


def test_blank_lines_are_seen_however_long_the_text() -> None:
    paragraph = "First sentence of it. Second one.\n\n"
    text = paragraph * 1000
    assert [text[start:end] for start, end in sentence_spans(text, "en")][-3:] == [
        "First sentence of it. ",
        "Second one.",
        "\n\n",
    ]
    assert len(sentence_spans(text, "en")) == 3000


def test_a_sentence_longer_than_a_window_is_cut_at_a_space() -> None:
    text = "word " * 4000
    assert all(
        text[start:end].startswith("word ") and text[end - 1] == " " for start, end in sentence_spans(text, "en")
    )


# --- passages


def test_passages_hold_whole_sentences(encoder: BuiltinEncoder) -> None:
    text = "".join(f"In {year} the council met in room {year % 7}. " for year in range(1900, 1980))
    result = split(text, token_spans=encoder.token_offsets)
    check(text, result, LIMITS, encoder.token_offsets)
    assert all(piece.text.startswith("In ") and piece.text.endswith(".") for piece in result.pieces)
    assert all(100 <= piece.tokens <= 128 for piece in result.pieces[:-1])


def test_passages_by_hand() -> None:
    text = "Aa bb cc dd. Ee ff gg hh. Ii jj kk ll.  Mm nn oo pp."
    # Each sentence has four tokens, overhead two: two sentences fill ten.
    result = split(text, limits=PassageLimits(10, 10, 2))
    assert [(piece.start, piece.end, piece.text, piece.tokens) for piece in result.pieces] == [
        (0, 25, "Aa bb cc dd. Ee ff gg hh.", 10),
        (26, 52, "Ii jj kk ll.  Mm nn oo pp.", 10),
    ]


def test_a_half_full_passage_ends_with_its_paragraph() -> None:
    text = "Aa bb cc dd ee ff.\n\nGg hh ii.\n\nJj kk."
    result = split(text, limits=PassageLimits(12, 20, 2))
    assert [piece.text for piece in result.pieces] == ["Aa bb cc dd ee ff.", "Gg hh ii.\n\nJj kk."]


def test_a_very_short_rest_joins_the_passage_before() -> None:
    text = "Aa bb cc dd ee ff gg.\n\nHh."
    assert [piece.text for piece in split(text, limits=PassageLimits(12, 20, 2)).pieces] == [text]


@pytest.mark.parametrize("text", ["", " ", "\n\n\t \u3000", "\u00a0"])
def test_nothing_to_read_gives_no_passage(text: str) -> None:
    assert split(text, "Title") == Split(pieces=(), title="Title")


def test_windows_line_ends(encoder: BuiltinEncoder) -> None:
    text = "First sentence here.\r\n\r\nSecond one is here, on two\r\nlines.\r\n" * 60
    result = split(text, token_spans=encoder.token_offsets)
    check(text, result, LIMITS, encoder.token_offsets)
    assert all(piece.text.endswith(".") for piece in result.pieces)


@pytest.mark.parametrize(
    ("lang", "text"),
    [
        ("en", "a" * 20_000),
        ("zh", "中文测试没有空格的句子" * 500),
        ("th", "ประเทศไทยมีประชากรมากมาย" * 500),
        ("ja", "日本語のテストカタカナ" * 500),
        ("ko", "한국어" * 3000),
        ("hi", "क्षि" * 1500),
        ("ar", "ﷺ" * 500),
        ("und", "👨‍👩‍👧‍👦" * 600),
        ("und", "\u200d" * 3000),
        ("und", "a" + "\u0301" * 5000),
        ("und", "\x00" * 3000),
        ("und", "\ud800" * 3000),
        ("en", "x" + " " * 50_000 + "y"),
    ],
    ids=["word", "zh", "th", "ja", "ko", "hi", "ligature", "family", "joiner", "marks", "nul", "surrogates", "spaces"],
)
def test_text_without_sentences_is_split_all_the_same(encoder: BuiltinEncoder, lang: str, text: str) -> None:
    result = split(text, lang=lang, token_spans=encoder.token_offsets)
    check(text, result, LIMITS, encoder.token_offsets)
    # White space is no token, and there may be any amount of it between two.
    assert max(len("".join(piece.text.split())) for piece in result.pieces) <= 128 * 18


def test_a_script_that_the_vocabulary_does_not_know_is_no_single_passage(encoder: BuiltinEncoder) -> None:
    """One unknown token would else stand for a whole book."""
    text = "ᏣᎳᎩᎦᏬᏂᎯᏍᏗᎠᏂᏴᏫᏯᎢ" * 800
    assert len(encoder.token_offsets([text])[0]) < 10
    pieces = split(text, lang="chr", token_spans=encoder.token_offsets).pieces
    assert len(pieces) >= len(text) // (128 * 18)


def test_a_long_sentence_is_cut_at_spaces(encoder: BuiltinEncoder) -> None:
    text = "and the councillors talked " * 300
    for piece in split(text, token_spans=encoder.token_offsets).pieces:
        assert text[piece.start - 1 : piece.start].strip() == text[piece.end : piece.end + 1].strip() == ""


def test_a_needle_in_the_tail_of_fifty_pages_is_read(encoder: BuiltinEncoder) -> None:
    needle = "The password of the archive is cormorant."
    text = ENGLISH * 1500 + needle
    assert len(text) > 50 * 3000
    result = split(text, "Minutes of the council", token_spans=encoder.token_offsets)
    check(text, result, LIMITS, encoder.token_offsets)
    last = result.pieces[-1]
    assert needle in last.text
    # What is encoded of it is not cut either.
    assert len(encoder.token_vectors([with_title(result.title, last.text)])[0]) == last.tokens - 2


# --- titles


def test_the_title_counts_in_every_passage(encoder: BuiltinEncoder) -> None:
    title = "Minutes of the town council"
    bare, titled = (split(ENGLISH * 30, t, token_spans=encoder.token_offsets) for t in ("", f"  {title}\n"))
    assert titled.title == title
    check(ENGLISH * 30, titled, LIMITS, encoder.token_offsets)
    more = len(encoder.token_offsets([title])[0])
    assert [piece.tokens for piece in titled.pieces] == [piece.tokens + more for piece in bare.pieces]


def test_the_title_takes_room_from_the_text() -> None:
    text = "Aa bb cc dd. Ee ff gg hh. "
    assert [piece.tokens for piece in split(text, limits=PassageLimits(10, 10, 2)).pieces] == [10]
    assert [piece.tokens for piece in split(text, "T", limits=PassageLimits(10, 10, 2)).pieces] == [7, 7]


@pytest.mark.parametrize(("count", "kept"), [(6, True), (7, False)])
def test_a_title_over_a_third_of_the_passage_is_left_out(count: int, kept: bool) -> None:
    title = " ".join(["Word"] * count)
    result = split("Aa bb cc.", title, limits=PassageLimits(20, 24, 2))
    assert result.title == (title if kept else "")
    assert [piece.tokens for piece in result.pieces] == [2 + 3 + (count if kept else 0)]


# --- limits


@pytest.mark.parametrize(("target", "hard", "overhead"), [(9, 256, 2), (257, 256, 2), (0, 256, 2), (20, 256, 13)])
def test_limits_that_cannot_be_met_are_refused(target: int, hard: int, overhead: int) -> None:
    with pytest.raises(InvalidArgumentError, match=f"between {overhead + 8} and {hard}.*--passage-tokens"):
        PassageLimits(target, hard, overhead)


@pytest.mark.parametrize(("target", "hard", "overhead"), [(10, 10, 2), (256, 256, 2), (21, 256, 13)])
def test_limits_at_the_edges_are_taken(target: int, hard: int, overhead: int) -> None:
    assert PassageLimits(target, hard, overhead).target == target


# --- time


@pytest.mark.parametrize(
    ("lang", "sentence"),
    [("en", ENGLISH), ("zh", "今天天气很好，我们去公园。"), ("en", '("«'), ("th", "ประเทศไทยมีประชากร"), ("en", "x")],
    ids=["en", "zh", "quotes", "th", "word"],
)
def test_time_grows_with_the_length_and_not_with_its_square(lang: str, sentence: str) -> None:
    """A million characters; quotes and Chinese took minutes when given to the sentence splitter in one go."""
    text = (sentence * (1_000_000 // len(sentence) + 1))[:1_000_000]
    started = time.process_time()
    spans = sentence_spans(text, lang)
    assert time.process_time() - started < 8
    assert spans[-1][1] == 1_000_000


def test_a_long_document_is_split_in_seconds(encoder: BuiltinEncoder) -> None:
    text = ENGLISH * 2500
    started = time.process_time()
    result = split(text, token_spans=encoder.token_offsets)
    assert time.process_time() - started < 6  # measured: 0.6
    assert result.pieces[-1].end == len(text) - 1
