"""The best sentence of a passage, for questions in other languages."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from xsearch.encoder.builtin import BuiltinEncoder
from xsearch.records import Span
from xsearch.search.answer import _shared, best_sentences

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


def best(encoder: BuiltinEncoder, question: str, text: str, lang: str) -> Span:
    (span,) = best_sentences(encoder, question, vector=query(encoder, question), texts=[text], langs=[lang])
    assert span is not None
    return span


@pytest.mark.parametrize(("query_lang", "question", "place"), QUESTIONS)
@pytest.mark.parametrize("lang", ["en", "zh", "ar"])
def test_the_sentence_that_answers(
    encoder: BuiltinEncoder, lang: str, query_lang: str, question: str, place: int
) -> None:
    text = joined(lang)
    span = best(encoder, question, text, lang)
    assert text[span.start : span.end] == PASSAGES[lang][place]
    alone = float(encoder.encode_passages([PASSAGES[lang][place]])[0] @ query(encoder, question))
    assert span.score == pytest.approx(alone, abs=1e-5)


def test_each_passage_gets_its_own_span_in_order(encoder: BuiltinEncoder) -> None:
    texts = [joined("zh"), "   ", joined("en"), "", joined("ar")]
    question = "Wann öffnet das Museum?"
    langs = ["zh", "en", "en", "und", "ar"]
    spans = best_sentences(encoder, question, vector=query(encoder, question), texts=texts, langs=langs)
    found = [span and text[span.start : span.end] for span, text in zip(spans, texts, strict=True)]
    assert found == [PASSAGES["zh"][0], None, PASSAGES["en"][0], None, PASSAGES["ar"][0]]


def test_no_hits(encoder: BuiltinEncoder) -> None:
    assert best_sentences(encoder, "Wann?", vector=query(encoder, "Wann?"), texts=[], langs=[]) == []


@pytest.mark.parametrize("text", ["", " ", "\n\n \n\n", "\u3000\u00a0"])
def test_a_passage_without_text_has_none(encoder: BuiltinEncoder, text: str) -> None:
    vector = query(encoder, "Wann?")
    assert best_sentences(encoder, "Wann?", vector=vector, texts=[text, text], langs=["en", "zh"]) == [None, None]


def test_offsets_leave_out_the_spaces_around_a_sentence(encoder: BuiltinEncoder) -> None:
    text = "  It rained.\r\n\r\n   The museum opens at nine.  \n\n  Nobody came.  "
    span = best(encoder, "Wann öffnet das Museum?", text, "en")
    assert text[span.start : span.end] == "The museum opens at nine."


def test_offsets_count_code_points(encoder: BuiltinEncoder) -> None:
    text = "😀👍🏽 Cafe\u0301! The museum opens at nine. \ud800 The end."
    span = best(encoder, "Wann öffnet das Museum?", text, "en")
    assert text[span.start : span.end] == "The museum opens at nine."


def test_an_answer_beyond_what_the_encoder_reads_at_once_is_found(encoder: BuiltinEncoder) -> None:
    text = "Nobody came to the river that day. " * 60 + "The museum opens at nine in the morning."
    assert len(encoder.token_offsets([text])[0]) > encoder.max_tokens
    span = best(encoder, "Wann öffnet das Museum?", text, "en")
    assert text[span.start : span.end] == "The museum opens at nine in the morning."


class Numbered:
    """An encoder that puts ``#x#y`` texts at the direction ``(x, y)``; enough for :func:`best_sentences`.

    Four characters are a token.
    """

    overhead_tokens = 4

    def __init__(self) -> None:
        self.read: list[str] = []

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        self.read += texts
        found = [text.strip(".").split("#")[1:3] for text in texts]
        rows = np.array([[float(part.split()[0]) for part in parts] or [1, 1] for parts in found], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def token_offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        return [[(start, min(start + 4, len(text))) for start in range(0, len(text), 4)] for text in texts]


def numbered(query: str, *texts: str, vector: tuple[float, float] = (1, 0)) -> tuple[list[Span | None], list[str]]:
    """The spans, and what was encoded for them."""
    encoder = Numbered()
    found = best_sentences(
        encoder,  # type: ignore[arg-type]
        query,
        vector=np.array(vector, dtype=np.float32),
        texts=texts,
        langs=["en"] * len(texts),
    )
    return found, encoder.read


def test_scores_by_hand() -> None:
    spans, _ = numbered("Zz?", "Aa #3#4. Bb #4#3. Cc #0#1.", "Dd #-1#0. Ee #-3#4.")
    assert spans == [Span(9, 17, pytest.approx(0.8)), Span(10, 19, pytest.approx(-0.6))]


def test_the_first_of_two_equal_sentences_is_taken() -> None:
    ((span,), _) = numbered("Zz?", "Aa #1#1. Bb #1#1.")
    assert span is not None
    assert (span.start, span.end) == (0, 8)


def test_scores_never_leave_the_range_of_a_cosine() -> None:
    ((span,), _) = numbered("Zz?", "Aa #1#0.", vector=(1.0000002, 0))
    assert span is not None
    assert span.score == 1.0


def test_shared_words_decide_between_sentences_that_are_about_as_near() -> None:
    """Cosines of 0.8 and 0.707; the second has the one word of the query, worth 0.2, and the score stays a cosine."""
    ((without,), _) = numbered("Zz?", "Aa #4#3. Bb #1#1.")
    ((span,), _) = numbered("Bb?", "Aa #4#3. Bb #1#1.")
    assert without is not None and span is not None
    assert (without.start, without.score) == (0, pytest.approx(0.8))
    assert (span.start, span.score) == (9, pytest.approx(2**-0.5))


def test_words_that_all_sentences_have_decide_nothing() -> None:
    """In two sentences, a word of both is worth log(3 / 2), one of a single sentence log(3)."""
    assert _shared(["the"], ["The one.", "The two."]).tolist() == pytest.approx([math.log(1.5) / math.log(3)] * 2)
    assert _shared(["the", "two"], ["The one.", "The two."]).tolist() == pytest.approx(
        [math.log(1.5) / (2 * math.log(3)), (math.log(1.5) + math.log(3)) / (2 * math.log(3))]
    )


def test_words_stand_as_words_in_any_script() -> None:
    assert _shared(["art"], ["Party.", "Art."]).tolist() == [0.0, 1.0]
    assert _shared(["茶 叶"], ["茶和叶。", "中国茶叶很好。"]).tolist() == [0.0, 1.0]
    assert _shared([], ["Art."]).tolist() == [0.0]
    assert _shared(["art"], []).tolist() == []


def test_of_a_long_sentence_the_first_48_tokens_are_read_and_all_of_it_is_marked() -> None:
    text = "Aa #1#0 " + "long " * 60 + "end."
    ((span,), read) = numbered("Zz?", text)
    assert read == [text[: 48 * 4]]
    assert span is not None
    assert (span.start, span.end) == (0, len(text))


def test_of_later_hits_less_is_read() -> None:
    """Of the fourth: sentences cut at 32 tokens, with 4 more for each; three fit in 140, so the nearest is not read."""
    sentences = [f"Xx #1#{place} " + "long " * 60 + f"w{place}." for place in range(4, 0, -1)]
    text = " ".join(sentences)
    spans, read = numbered("Zz?", text, text, text, text)
    assert read == [sentence[: 48 * 4] for sentence in sentences] * 3 + [
        sentence[: 32 * 4] for sentence in sentences[:3]
    ]
    starts = [text.index(sentence) for sentence in sentences]
    assert [span and span.start for span in spans] == [starts[3]] * 3 + [starts[2]]


def test_of_later_hits_sentences_with_the_words_of_the_query_are_read_first() -> None:
    sentences = [f"Xx #1#{place} " + "long " * 60 + f"w{place}." for place in range(4, 0, -1)]
    text = " ".join(sentences)
    spans, read = numbered("W1?", *[text] * 4)
    assert read[12:] == [sentences[place][: 32 * 4] for place in (0, 1, 3)]
    assert spans[3] is not None
    assert spans[3].start == text.index(sentences[3])


def test_ten_long_passages_cost_no_more_than_was_promised() -> None:
    """Three passages of 20 sentences whole, of each other one 140 tokens."""
    text = " ".join(f"Xx #1#{place} and this is what it says." for place in range(20))
    spans, read = numbered("Zz?", *[text] * 10)
    assert None not in spans
    tokens = [sum(len(offsets) + 4 for offsets in Numbered().token_offsets(part)) for part in (read[:60], read[60:])]
    assert tokens == [3 * 20 * 13, 7 * 10 * 13]
    assert len(read) == 3 * 20 + 7 * 10


def test_a_sentence_longer_than_all_that_a_later_hit_may_cost_is_read_all_the_same() -> None:
    """One sentence of a hit always is."""
    spans, read = numbered("Zz?", *["Aa #1#0 " + "long " * 600] * 5)
    assert len(read) == 5
    assert [span and span.score for span in spans] == [1.0] * 5
