"""The best sentence of a passage, for questions in other languages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from xsearch.encoder.builtin import BuiltinEncoder
from xsearch.records import Span
from xsearch.search.answer import best_sentences

PASSAGES = {
    "en": [
        "The museum opens at nine in the morning.",
        "Tickets cost twelve euros for adults.",
        "Children under six do not pay.",
    ],
    "zh": ["博物馆早上九点开门。", "成人票价十二欧元。", "六岁以下儿童免费。"],
    "ar": ["يفتح المتحف في التاسعة صباحا.", "سعر التذكرة للبالغين اثنا عشر يورو.", "الأطفال دون السادسة لا يدفعون."],
}
QUESTIONS = [
    ("en", "When does the museum open?", 0),
    ("de", "Wann öffnet das Museum?", 0),
    ("hi", "संग्रहालय कितने बजे खुलता है?", 0),
    ("en", "How much is a ticket for adults?", 1),
    ("de", "Wie viel kostet eine Eintrittskarte?", 1),
    ("zh", "成年人的门票价格是多少？", 1),
    ("ar", "كم سعر التذكرة؟", 1),
    ("vi", "Bảo tàng mở cửa lúc mấy giờ?", 0),
    ("es", "¿Tienen que pagar los niños?", 2),
]


@pytest.fixture(scope="module")
def encoder() -> BuiltinEncoder:
    return BuiltinEncoder()


def joined(lang: str) -> str:
    return ("" if lang == "zh" else " ").join(PASSAGES[lang])


def query(encoder: BuiltinEncoder, text: str) -> np.ndarray:
    return encoder.encode_queries([text])[0]


@pytest.mark.parametrize(("query_lang", "question", "place"), QUESTIONS)
@pytest.mark.parametrize("lang", ["en", "zh", "ar"])
def test_the_sentence_that_answers(
    encoder: BuiltinEncoder, lang: str, query_lang: str, question: str, place: int
) -> None:
    text = joined(lang)
    (span,) = best_sentences(encoder, query(encoder, question), [text], [lang])
    assert span is not None
    assert text[span.start : span.end] == PASSAGES[lang][place]
    alone = float(encoder.encode_passages([PASSAGES[lang][place]])[0] @ query(encoder, question))
    assert span.score == pytest.approx(alone, abs=1e-5)


def test_each_passage_gets_its_own_span_in_order(encoder: BuiltinEncoder) -> None:
    texts = [joined("zh"), "   ", joined("en"), "", joined("ar")]
    spans = best_sentences(encoder, query(encoder, "Wann öffnet das Museum?"), texts, ["zh", "en", "en", "und", "ar"])
    found = [span and text[span.start : span.end] for span, text in zip(spans, texts, strict=True)]
    assert found == [PASSAGES["zh"][0], None, PASSAGES["en"][0], None, PASSAGES["ar"][0]]


def test_no_hits(encoder: BuiltinEncoder) -> None:
    assert best_sentences(encoder, query(encoder, "Wann?"), [], []) == []


@pytest.mark.parametrize("text", ["", " ", "\n\n \n\n", "\u3000\u00a0"])
def test_a_passage_without_text_has_none(encoder: BuiltinEncoder, text: str) -> None:
    assert best_sentences(encoder, query(encoder, "Wann?"), [text, text], ["en", "zh"]) == [None, None]


def test_offsets_leave_out_the_spaces_around_a_sentence(encoder: BuiltinEncoder) -> None:
    text = "  It rained.\r\n\r\n   The museum opens at nine.  \n\n  Nobody came.  "
    (span,) = best_sentences(encoder, query(encoder, "Wann öffnet das Museum?"), [text], ["en"])
    assert span is not None
    assert text[span.start : span.end] == "The museum opens at nine."


def test_offsets_count_code_points(encoder: BuiltinEncoder) -> None:
    text = "😀👍🏽 Cafe\u0301! The museum opens at nine. \ud800 The end."
    (span,) = best_sentences(encoder, query(encoder, "Wann öffnet das Museum?"), [text], ["en"])
    assert span is not None
    assert text[span.start : span.end] == "The museum opens at nine."


def test_an_answer_beyond_what_the_encoder_reads_at_once_is_found(encoder: BuiltinEncoder) -> None:
    text = "Nobody came to the river that day. " * 60 + "The museum opens at nine in the morning."
    assert len(encoder.token_offsets([text])[0]) > encoder.max_tokens
    (span,) = best_sentences(encoder, query(encoder, "Wann öffnet das Museum?"), [text], ["en"])
    assert span is not None
    assert text[span.start : span.end] == "The museum opens at nine in the morning."


class Numbered:
    """An encoder that puts ``#x#y`` texts at the direction ``(x, y)``; enough for :func:`best_sentences`."""

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.array([[float(part) for part in text.strip(".").split("#")[1:]] for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_scores_by_hand() -> None:
    spans = best_sentences(
        Numbered(),  # type: ignore[arg-type]
        np.array([1, 0], dtype=np.float32),
        ["Aa #3#4. Bb #4#3. Cc #0#1.", "Dd #-1#0. Ee #-3#4."],
        ["en", "en"],
    )
    assert spans == [Span(9, 17, pytest.approx(0.8)), Span(10, 19, pytest.approx(-0.6))]


def test_the_first_of_two_equal_sentences_is_taken() -> None:
    text = "Aa #1#1. Bb #1#1."
    (span,) = best_sentences(Numbered(), np.array([1, 0], dtype=np.float32), [text], ["en"])  # type: ignore[arg-type]
    assert span is not None
    assert (span.start, span.end) == (0, 8)


def test_scores_never_leave_the_range_of_a_cosine() -> None:
    query_vector = np.array([1.0000002, 0], dtype=np.float32)
    (span,) = best_sentences(Numbered(), query_vector, ["Aa #1#0."], ["en"])  # type: ignore[arg-type]
    assert span is not None
    assert span.score == 1.0
