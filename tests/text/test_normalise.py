"""Golden tables for clean, fold, segment and the content hash (pitfalls 16 and 18)."""

from __future__ import annotations

import sqlite3
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsearch.text.normalise import clean, content_hash, fold, fold_with_map
from xsearch.text.segment import FTS5_TOKENIZE, query_terms, segment

SEVERAL_SCRIPTS = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.characters(min_codepoint=0x300, max_codepoint=0x36F),
        st.characters(min_codepoint=0x590, max_codepoint=0x6FF),
        st.characters(min_codepoint=0x900, max_codepoint=0xEFF),
        st.characters(min_codepoint=0x1100, max_codepoint=0x11FF),
        st.characters(min_codepoint=0x200B, max_codepoint=0x206F),
        st.characters(min_codepoint=0x3041, max_codepoint=0x309F),
        st.characters(min_codepoint=0xFB00, max_codepoint=0xFFEF),
        st.sampled_from("aeiIİıßǰΐςΣéカﾞｶﾟ가각\u0307\u0327\u0654\u0653"),
    ),
    max_size=12,
)
EXAMPLES = settings(derandomize=True, deadline=None, max_examples=600)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ﻣﺤﻤﺪ", "محمد"),  # presentation forms
        ("ﻻ", "لا"),  # a ligature
        ("مـــحمد", "محمد"),  # tatweel
        ("مُحَمَّدٌ", "محمد"),  # tashkeel
        ("أحمد إلى آخر ٱلله", "احمد الي اخر الله"),
        ("ي\u0654", "ئ"),  # NFD keeps the hamza that NFC has
        ("می\u200cخواهم", "ميخواهم"),  # ZWNJ joins, as without it
        ("کتابی", "كتابي"),  # Persian kaf and yeh
        ("שָׁלוֹם", "שלום"),
        ("װאָס", "וואס"),
        ("Ｈｅｌｌｏ　１２３", "hello 123"),
        ("ｶﾞｷﾞﾊﾟ", "ガギパ"),
        ("١٢٣ ۱۲۳ १२३ ๑๒๓", "123 123 123 123"),
        ("e\u0301", "é"),
        ("Straße", "strasse"),
        ("İstanbul ISPARTA ısparta", "istanbul isparta isparta"),
        ("ΣΊΣΥΦΟΣ σίσυφος", "σίσυφοσ σίσυφοσ"),
        ("ﬁn", "fin"),
        ("ёлка", "елка"),
        ("o‘zbek комп’ютер", "o'zbek комп'ютер"),
        ("co\u00adoperate", "cooperate"),
        ("\ufeffBOM", "bom"),
        ("\u202bעברית\u202c", "עברית"),
        ("ze\u200bro", "zero"),
        ("x²", "x²"),
        ("H₂O", "h₂o"),
        ("½", "½"),
        ("℃ ㎏ Ⅷ", "℃ ㎏ ⅷ"),
        ("a\u00a0b\tc\nd", "a b c d"),
        ("👨\u200d👩\u200d👧 ❤\ufe0f", "👨👩👧 ❤"),
        ("\ud800x", "\ufffdx"),
        ("각 \u1100\u1161\u11a8", "각 각"),
        ("Việt Nam", "việt nam"),
        ("", ""),
    ],
)
def test_fold(text: str, wanted: str) -> None:
    """Pitfall 18: what readers take for the same word becomes the same, and x² does not become x2."""
    assert fold(text) == wanted
    assert fold(unicodedata.normalize("NFD", text)) == wanted
    assert fold_with_map(text).text == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("\ufeffCafe\u0301\u00ad", "Café"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # the joiner is spelling
        ("👨\u200d👩", "👨\u200d👩"),
        ("Ｈ²ﻣ", "Ｈ²ﻣ"),
        ("a\x00b\x07\tc\r\nd", "ab\tc\r\nd"),
        ("\u200fאב\u200e", "אב"),
        ("\udfff", "\ufffd"),
        ("", ""),
    ],
)
def test_clean(text: str, wanted: str) -> None:
    assert clean(text) == wanted


def test_spans_lead_back_to_the_original() -> None:
    """Pitfall 18: a highlight found in the folded text is drawn on the text the reader wrote."""
    source = "\ufeffDie STRA\u00adSSE, ﷺ cafe\u0301!"
    folded = fold_with_map(source)
    for word, original in (("die", "Die"), ("strasse", "STRA\u00adSSE"), ("الله", "ﷺ"), ("café", "cafe\u0301")):
        start = folded.text.index(word)
        left, right = folded.original_span(start, start + len(word))
        assert source[left:right] == original
    assert folded.original_span(0, 0) == (1, 1)
    assert folded.original_span(len(folded.text), len(folded.text)) == (len(source), len(source))


@EXAMPLES
@given(SEVERAL_SCRIPTS)
def test_folding_piece_by_piece_equals_folding_at_once(text: str) -> None:
    folded = fold_with_map(text)
    assert folded.text == fold(text)
    for at, char in enumerate(folded.text):
        start, end = folded.original_span(at, at + 1)
        assert 0 <= start < end <= len(text)
        assert char in fold(text[start:end])
    if folded.text:
        start, end = folded.original_span(0, len(folded.text))
        assert fold(text[start:end]) == folded.text


@EXAMPLES
@given(SEVERAL_SCRIPTS)
def test_twice_is_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert clean(clean(text)) == clean(text)
    assert segment(segment(text)) == segment(text)


@EXAMPLES
@given(SEVERAL_SCRIPTS)
def test_nfc_and_nfd_are_one(text: str) -> None:
    """Pitfall 18: the same text typed on two systems has one form and one hash."""
    nfc, nfd = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    assert clean(nfc) == clean(nfd)
    assert content_hash(nfc) == content_hash(nfd)


def test_content_hash() -> None:
    stored = "5c6c4d728807a47f608d5330d2b4b8a81305c08c54049ecf47528bde942036b3"
    assert content_hash("title", "Café") == stored  # another value would re-index everyone's documents
    assert content_hash("\ufefftitle", "Cafe\u0301") == stored
    assert content_hash("café") == content_hash("cafe\u0301")
    assert content_hash("می\u200cخواهم") == content_hash("میخواهم")
    assert content_hash("ab", "c") != content_hash("a", "bc")
    assert content_hash("ab", "") != content_hash("ab")
    assert content_hash("") != content_hash()
    assert content_hash("x²") != content_hash("x2")
    assert content_hash("Abc") != content_hash("abc")
    assert len(content_hash("\ud800")) == 64


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("nvidia 時価総額", "nvidia 時 価 総 額"),
        ("NVIDIAの時価", "nvidia の 時 価"),
        ("한국어 AI", "한 국 어 ai"),
        ("ภาษาไทย 3.5%", "ภ า ษ า ไ ท ย 3 5"),
        ("हिन्दी भाषा", "हिन्दी भाषा"),
        ("தமிழ்", "தமிழ்"),
        ("မြန်မာ", "မ ြ န ် မ ာ"),
        ("ខ្មែរ", "ខ ្ ម ែ រ"),
        ("l'été, x² 🙂🙂", "l été x² 🙂 🙂"),
        ("\U00020000字", "\U00020000 字"),
        ("—…!?", ""),
        ("", ""),
    ],
)
def test_segment(text: str, wanted: str) -> None:
    """Pitfalls 15 and 16: both sides of a mixed text become tokens."""
    assert segment(text) == wanted


def test_query_terms() -> None:
    assert query_terms("nvidia 時価総額") == [["nvidia"], ["時", "価"], ["価", "総"], ["総", "額"]]
    assert query_terms("nvidia 時価総額", ngrams=False) == [["nvidia"], ["時", "価", "総", "額"]]
    assert query_terms("東") == [["東"]]
    assert query_terms("東京") == [["東", "京"]]
    assert query_terms("ไทย") == [["ไ", "ท", "ย"]]
    assert query_terms("ภาษาไ") == [["ภ", "า", "ษ", "า"], ["า", "ษ", "า", "ไ"]]
    assert query_terms("Tom und Tom") == [["tom"], ["und"]]
    assert query_terms("a-b 🙂") == [["a"], ["b"], ["🙂"]]
    assert query_terms("?!") == []


@pytest.mark.parametrize(
    ("document", "queries"),
    [
        ("東京都の人口は一千四百万人です", ["東", "東京", "人口は", "東京都の人口は何人"]),
        ("北京是中国的首都", ["京", "首都", "中国的"]),
        ("ประเทศไทยมีกรุงเทพเป็นเมืองหลวง", ["ไ", "ไทย", "กรุงเทพ"]),
        ("서울은 대한민국의 수도이다", ["수", "서울", "대한민국", "서울에서"]),
        ("القاهرة عاصمة مصر", ["مصر", "القَاهِرة", "ﻋﺎﺻﻤﺔ"]),
        ("हिन्दी भारत की भाषा है", ["हिन्दी", "भाषा"]),
        ("ភ្នំពេញជារាជធានី", ["ភ្នំពេញ"]),
        ("Die Universität München 🙂", ["universitat", "MÜNCHEN", "🙂"]),
    ],
)
def test_full_text_index_finds_short_words(document: str, queries: list[str]) -> None:
    """Pitfall 16: queries of one, two and three characters match in SQLite's FTS5."""
    connection = sqlite3.connect(":memory:")
    connection.execute(f'CREATE VIRTUAL TABLE texts USING fts5(body, tokenize="{FTS5_TOKENIZE}")')
    connection.executemany("INSERT INTO texts VALUES (?)", [(segment(document),), (segment("nothing of it"),)])
    for query in queries:
        expression = " OR ".join('"' + " ".join(term) + '"' for term in query_terms(query))
        found = connection.execute("SELECT rowid FROM texts WHERE texts MATCH ?", (expression,)).fetchall()
        assert found == [(1,)], query
    connection.close()
