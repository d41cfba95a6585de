"""An encoder that remembers: the other's vectors, each text asked for once, by door."""

from __future__ import annotations

from tests.evaluation.conftest import FakeEncoder
from xsearch.evaluation.remembering import RememberingEncoder


def test_each_text_is_encoded_once_by_door() -> None:
    inner = FakeEncoder(noise=0.3)
    encoder = RememberingEncoder(inner)
    first = encoder.encode_queries(["a cat", "a dog", "a cat"])
    assert inner.encoded == [("query", "a cat"), ("query", "a dog")]
    again = encoder.encode_queries(["a dog", "a bird", "a cat"])
    assert inner.encoded[2:] == [("query", "a bird")]
    assert again[[0, 2]].tolist() == first[[1, 0]].tolist()
    assert first[0].tolist() == FakeEncoder(noise=0.3).encode_queries(["a cat"])[0].tolist()
    encoder.encode_passages(["a cat"])
    assert inner.encoded[3:] == [("passage", "a cat")]


def test_no_texts_and_progress() -> None:
    encoder = RememberingEncoder(FakeEncoder())
    assert encoder.encode_passages([]).shape == (0, 8)
    told: list[int] = []
    encoder.encode_passages(["a", "b", "a"], on_progress=told.append)
    assert told == [3]


def test_the_rest_is_the_others() -> None:
    inner = FakeEncoder(name="inner")
    encoder = RememberingEncoder(inner)
    assert encoder.fingerprint == inner.fingerprint
    assert (encoder.dim, encoder.max_tokens, encoder.overhead_tokens) == (8, 8, 2)
    assert encoder.token_offsets(["ab c"]) == inner.token_offsets(["ab c"])
    assert encoder.unknown_characters(["☃ c"]) == [1]
