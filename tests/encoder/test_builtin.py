"""The built-in encoder: order, independence of the batch, odd texts, offsets, damaged files."""

from __future__ import annotations

import json
import re
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsearch.encoder.builtin import MINI_FOLDER, BuiltinEncoder
from xsearch.encoder.export import EXACT, write_encoder
from xsearch.encoder.exported import EncoderConfig, Precision
from xsearch.encoder.fingerprint import hash_files
from xsearch.errors import ConfigError, EncoderError, EncoderNotFoundError

MIXED = [
    "Die Katze schläft auf dem Sofa.",
    "水",
    "The council approved the new budget for public schools on Tuesday after a long debate.",
    "",
    "مرحبا بالعالم",
    "word " * 300,
    "a" * 50,
    "Hola, ¿qué tal estás?",
    "स्कूल आज बंद है।",
    "水",
]
# What one text's vector differed by at most, alone and in a batch, over 200 texts of 1 to 200 words: 1.4e-7.
BATCH_TOLERANCE = 1e-6


def close(one: np.ndarray, two: np.ndarray, tolerance: float = BATCH_TOLERANCE) -> None:
    np.testing.assert_allclose(one, two, rtol=0, atol=tolerance)


def test_each_row_is_the_vector_of_its_text_alone(builtin: BuiltinEncoder) -> None:
    together = builtin.encode_passages(MIXED)
    alone = np.vstack([builtin.encode_passages([text]) for text in MIXED])
    close(together, alone)
    # Different texts are further apart than that, so a wrong order cannot pass.
    distances = np.abs(alone[:, None] - alone[None]).max(axis=2) + np.eye(len(MIXED))
    distances[1, 9] = distances[9, 1] = 1  # the same text twice
    assert distances.min() > 1000 * BATCH_TOLERANCE


def test_order_holds_beyond_one_chunk(builtin: BuiltinEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"number {place}" + " and on" * (place % 7) for place in range(40)]
    whole = builtin.encode_passages(texts)
    monkeypatch.setattr("xsearch.encoder.builtin.CHUNK_TEXTS", 7)
    monkeypatch.setattr("xsearch.encoder.builtin.BATCH_TOKENS", 20)
    reports: list[int] = []
    close(builtin.encode_passages(texts, on_progress=reports.append), whole)
    assert sum(reports) == 40


def test_rows_are_unit_vectors(builtin: BuiltinEncoder) -> None:
    close(np.linalg.norm(builtin.encode_queries(MIXED), axis=1), np.ones(len(MIXED)))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_nothing(builtin: BuiltinEncoder, threads: int) -> None:
    close(BuiltinEncoder(threads=threads).encode_passages(MIXED), builtin.encode_passages(MIXED))


def test_no_texts(builtin: BuiltinEncoder) -> None:
    assert builtin.encode_queries([]).shape == (0, 384)
    assert builtin.encode_passages([]).shape == (0, 384)
    assert builtin.token_vectors([]) == []
    assert builtin.token_offsets([]) == []


def test_a_text_without_tokens_gets_the_vector_of_the_special_tokens(e5: Path, tmp_path: Path) -> None:
    import onnxruntime
    from tokenizers import Tokenizer

    write_encoder(e5, tmp_path, EXACT)
    prompt = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("query: ", add_special_tokens=False).ids
    session = onnxruntime.InferenceSession(str(tmp_path / "model-float32.onnx"), providers=["CPUExecutionProvider"])
    (specials,) = session.run(["token_vectors"], {"input_ids": np.array([[0, *prompt, 2]])})
    mean = specials[0].mean(axis=0)
    encoder = BuiltinEncoder(tmp_path)
    close(encoder.encode_queries([""])[0], mean / np.linalg.norm(mean))
    assert [vectors.shape for vectors in encoder.token_vectors([""])] == [(0, 32)]
    assert encoder.token_offsets(["", "a"]) == [[], [(0, 1)]]


@pytest.mark.parametrize(
    "text", [" ", "  \n\t ", "\u200b", "😀", "👨‍👩‍👧‍👦", "\ufeff", "水", "น", "م", "ड", ".", "\ud800"]
)
def test_odd_and_one_character_queries_get_a_vector(builtin: BuiltinEncoder, text: str) -> None:
    vector = builtin.encode_queries([text])
    close(np.linalg.norm(vector, axis=1), np.ones(1))


def test_a_lone_surrogate_counts_as_the_replacement_character(builtin: BuiltinEncoder) -> None:
    broken, replaced = "Preis \ud83d Liste", "Preis \ufffd Liste"
    one, two = builtin.encode_passages([broken, replaced])
    close(one, two)


def test_two_surrogates_side_by_side_are_two_characters(builtin: BuiltinEncoder) -> None:
    text = "\ud83d\ude00 price list"
    spans = builtin.token_offsets([text])[0]
    assert [text[start:end].strip() for start, end in spans][-2:] == ["price", "list"]  # XLM-R: " price"


def test_the_same_words_composed_and_decomposed_have_one_vector(builtin: BuiltinEncoder) -> None:
    composed, decomposed = builtin.encode_queries(["café à la crème", "cafe\u0301 a\u0300 la cre\u0300me"])
    close(composed, decomposed)


def test_a_long_text_equals_the_text_cut_at_max_tokens(builtin: BuiltinEncoder) -> None:
    text = "The council approved the budget. " * 100
    spans = builtin.token_offsets([text])[0]
    # In front of this text the prompt is a token shorter than by itself: its last space is the text's.
    room = builtin.max_tokens - builtin.overhead_tokens + 1
    assert len(spans) > room
    cut = text[: spans[room - 1][1]]
    shorter = text[: spans[room - 2][1]]
    long_vector, cut_vector, shorter_vector = builtin.encode_passages([text, cut, shorter])
    close(long_vector, cut_vector)
    assert np.abs(long_vector - shorter_vector).max() > 1e-4
    assert [len(vectors) for vectors in builtin.token_vectors([text, shorter])] == [room, room - 1]


ENGLISH = [
    "The dog chases the ball in the park.",
    "The central bank raised interest rates again.",
    "She cooks tomato soup for dinner.",
    "The train to Berlin is two hours late.",
    "Our team lost the football match yesterday.",
    "The doctor wrote a prescription for antibiotics.",
]


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("Der Hund jagt den Ball im Park.", 0),
        ("El banco central volvió a subir los tipos de interés.", 1),
        ("她晚餐煮番茄汤。", 2),
        ("القطار إلى برلين متأخر ساعتين", 3),
        ("Hôm qua đội của chúng tôi thua trận bóng đá.", 4),
        ("डॉक्टर ने एंटीबायोटिक का पर्चा लिखा।", 5),
    ],
    ids=["de", "es", "zh", "ar", "vi", "hi"],
)
def test_a_sentence_is_nearest_to_its_translation(builtin: BuiltinEncoder, query: str, place: int) -> None:
    scores = builtin.encode_passages(ENGLISH) @ builtin.encode_queries([query])[0]
    assert int(scores.argmax()) == place
    assert scores[place] - np.delete(scores, place).max() > 0.15


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The quick dog", ["The", " quick", " dog"]),  # XLM-R's pieces begin with the space before them
        ("cafe\u0301 noir", ["cafe", " noir"]),
        ("狗在公园里", ["狗", "在", "公园", "里"]),
    ],
)
def test_offsets_slice_the_original_text(builtin: BuiltinEncoder, text: str, words: list[str]) -> None:
    (spans,) = builtin.token_offsets([text])
    assert [text[start:end] for start, end in spans][-len(words) :] == words


@pytest.mark.parametrize(
    "text",
    ["Cafe\u0301 a\u0300 la cre\u0300me", "الطقس جميل اليوم", "مَرْحَبًا بك", "สวัสดีครับ น้ำ", "ﬁne ﷺ ①½", "नमस्ते दुनिया"],
)
def test_token_vectors_line_up_with_offsets(builtin: BuiltinEncoder, text: str) -> None:
    vectors, spans = builtin.token_vectors([text])[0], builtin.token_offsets([text])[0]
    assert len(vectors) == len(spans)
    starts = [start for start, _ in spans]
    assert starts == sorted(starts)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    covered = {place for start, end in spans for place in range(start, end)}
    uncovered = [c for place, c in enumerate(text) if place not in covered]
    # A mark that became part of the letter before it has no place of its own.
    assert all(c.isspace() or unicodedata.category(c) == "Mn" for c in uncovered)


def test_token_vectors_are_those_of_the_text_alone(builtin: BuiltinEncoder) -> None:
    together = builtin.token_vectors(MIXED)
    for text, vectors in zip(MIXED, together, strict=True):
        close(vectors, builtin.token_vectors([text])[0], 1e-4)


def test_the_mean_of_all_token_vectors_points_along_the_sentence_vector(builtin: BuiltinEncoder) -> None:
    texts = [text for text in dict.fromkeys(MIXED) if text]
    means = np.stack([vectors.mean(axis=0) for vectors in builtin.token_vectors(texts)])
    vectors = builtin.encode_passages(texts)
    # Special tokens, the prompt and the step are in the text's vector and not in this mean, for all texts alike.
    centred = [rows - rows.mean(axis=0) for rows in (means / np.linalg.norm(means, axis=1, keepdims=True), vectors)]
    own, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in centred)
    assert (own @ other.T).argmax(axis=1).tolist() == list(range(len(texts)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=6))
def test_any_text_has_a_finite_vector_and_offsets_inside_it(builtin: BuiltinEncoder, texts: list[str]) -> None:
    assert np.isfinite(builtin.encode_passages(texts)).all()
    for text, spans in zip(texts, builtin.token_offsets(texts), strict=True):
        assert all(0 <= start <= end <= len(text) for start, end in spans)


def test_fingerprint_of_the_packaged_encoder(builtin: BuiltinEncoder) -> None:
    fingerprint = builtin.fingerprint
    assert (fingerprint.name, fingerprint.pooling) == ("builtin", "mean")
    assert fingerprint.dtype.startswith("int8")
    assert (fingerprint.dim, fingerprint.max_tokens) == (builtin.dim, builtin.max_tokens)
    assert fingerprint.tokenizer == hash_files(MINI_FOLDER / "tokenizer.json")


@pytest.mark.parametrize("name", ["weights.bin", "model-int8.onnx", "model-float32.onnx"])
def test_other_weights_or_graphs_are_another_encoder(small: Path, tmp_path: Path, name: str) -> None:
    config = json.loads((small / "xsearch_encoder.json").read_text(encoding="utf-8"))
    other = shutil.copytree(small, tmp_path / "other")
    configure(other, sha256={**config["sha256"], name: "0" * 64})
    one, two = (EncoderConfig.read(folder).weights_digest for folder in (small, other))
    assert one != two and EncoderConfig.read(small).weights_digest == one


# --- prompts, bodies and damaged folders, on a small encoder


@pytest.fixture(scope="module")
def small(e5: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported encoder of 32 dimensions with prompts and both bodies."""
    folder = tmp_path_factory.mktemp("builtin") / "small"
    write_encoder(e5, folder)
    return folder


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small, tmp_path / "mini")


def configure(folder: Path, **changes: object) -> None:
    path = folder / "xsearch_encoder.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def test_prompts_go_to_their_own_side(small: Path, copy: Path) -> None:
    configure(copy, query_prompt="", passage_prompt="")
    prompted, plain = BuiltinEncoder(small), BuiltinEncoder(copy)
    for text in ("the dog in the park", "狗", ""):
        as_query, as_passage = plain.encode_passages([f"query: {text}", f"passage: {text}"])
        close(prompted.encode_queries([text])[0], as_query)
        close(prompted.encode_passages([text])[0], as_passage)
        assert np.abs(as_query - as_passage).max() > 1e-3
    assert prompted.fingerprint.digest != plain.fingerprint.digest
    assert prompted.fingerprint.name == str(small)


@pytest.mark.parametrize(
    "text", ["the dog", " the dog", "狗在公园里", "(the) dog", "", " ", "a", "e\u0301tang", "😀 dog"]
)
def test_the_prompt_gets_no_token_vectors_and_no_offsets(small: Path, copy: Path, text: str) -> None:
    prompted = BuiltinEncoder(small)
    configure(copy, query_prompt="", passage_prompt="")
    whole = BuiltinEncoder(copy).token_vectors([f"passage: {text}"])[0]
    vectors, spans = prompted.token_vectors([text])[0], prompted.token_offsets([text])[0]
    assert len(vectors) == len(spans)
    np.testing.assert_array_equal(vectors, whole[len(whole) - len(vectors) :])
    assert all(0 <= start < end <= len(text) for start, end in spans)
    covered = {place for start, end in spans for place in range(start, end)}
    uncovered = [text[place] for place in set(range(len(text))) - covered]
    assert all(character.isspace() or unicodedata.category(character) == "Mn" for character in uncovered)


def test_the_prompt_counts(small: Path) -> None:
    prompted = BuiltinEncoder(small)
    tokens = prompted._tokenizer.encode("passage: ", add_special_tokens=False).tokens
    # Its last space is a token by itself, but joins a word that follows it.
    assert tokens[-1] == "▁"
    assert prompted.overhead_tokens == 2 + len(tokens)
    long = prompted.token_vectors(["dog " * 400])[0]
    assert len(long) == prompted.max_tokens - prompted.overhead_tokens + 1 == 64 - 1 - len(tokens)


@pytest.mark.parametrize("name", ["weights.bin", "model-int8.onnx", "tokenizer.json", "xsearch_encoder.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(EncoderNotFoundError, match=f"has no {name}"):
        BuiltinEncoder(copy)


@pytest.mark.parametrize("name", ["weights.bin", "model-int8.onnx", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_named_and_never_used(copy: Path, name: str, damage: str) -> None:
    path = copy / name
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes({"cut": content[:-1000], "flipped": content, "empty": b""}[damage])
    with pytest.raises(EncoderError, match=rf"{re.escape(name)} is damaged: its SHA-256 is .* Install xsearch again"):
        BuiltinEncoder(copy, body=Precision.INT8)


@pytest.mark.parametrize("content", [b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 2}', b'{"format": 2, "dim": 384}'])
def test_a_configuration_that_is_not_one_is_named(copy: Path, content: bytes) -> None:
    (copy / "xsearch_encoder.json").write_bytes(content)
    with pytest.raises(EncoderError, match=r"xsearch_encoder\.json is not a valid encoder configuration"):
        BuiltinEncoder(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"dim": "384"},
        {"dim": 0},
        {"token_dim": None},
        {"max_tokens": 25.6},
        {"max_tokens": True},
        {"query_prompt": None},
        {"dtype": 8},
        {"special_tokens": {"before": [1], "after": [], "unknown": "<unk>"}},
        {"special_tokens": {"before": ["<s>"], "after": ["</s>"]}},
        {"bodies": []},
        {"bodies": ["int4"]},
        {"bodies": ["float32"]},
        {"step": None},
        {"sha256": {}},
        {"sha256": None},
    ],
    ids=str,
)
def test_a_configuration_with_a_wrong_value_is_refused(copy: Path, change: dict[str, object]) -> None:
    configure(copy, **change)
    with pytest.raises(EncoderError, match=r"xsearch_encoder\.json is not a valid encoder configuration"):
        BuiltinEncoder(copy)


@pytest.mark.parametrize("found", [1, 3, "2"])
def test_another_format_is_refused(copy: Path, found: object) -> None:
    configure(copy, format=found)
    with pytest.raises(
        EncoderError, match=rf"has the format {found}\. .*reads the format 2\. Export the encoder again"
    ):
        BuiltinEncoder(copy)
    # The first one did not say which it was.
    path = copy / "xsearch_encoder.json"
    path.write_text('{"dim": 384, "max_tokens": 256, "dtype": "int8", "sha256": {}}', encoding="utf-8")
    with pytest.raises(EncoderError, match=r"has the format 1\."):
        BuiltinEncoder(copy)


def test_a_special_token_that_the_tokenizer_lacks_is_named(copy: Path) -> None:
    configure(copy, special_tokens={"before": ["[CLS]"], "after": ["</s>"], "unknown": "<unk>"})
    with pytest.raises(EncoderError, match=r"has no token \[CLS\].*special_tokens"):
        BuiltinEncoder(copy)


@pytest.mark.parametrize(("fast", "body"), [(True, Precision.INT8), (False, Precision.FLOAT32)])
def test_the_body_is_the_one_that_the_processor_is_faster_with(
    small: Path, monkeypatch: pytest.MonkeyPatch, fast: bool, body: Precision
) -> None:
    monkeypatch.delenv("XSEARCH_BODY", raising=False)
    monkeypatch.setattr("xsearch.encoder.builtin.has_fast_int8", lambda: fast)
    assert BuiltinEncoder(small).body is body
    other = Precision.FLOAT32 if fast else Precision.INT8
    monkeypatch.setenv("XSEARCH_BODY", other)
    assert BuiltinEncoder(small).body is other
    assert BuiltinEncoder(small, body=body).body is body


def test_a_body_that_is_none_or_not_there_is_refused(
    e5: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XSEARCH_BODY", "int16")
    with pytest.raises(ConfigError, match=r"XSEARCH_BODY is 'int16'\. It must be one of float32, int8"):
        BuiltinEncoder(small)
    monkeypatch.delenv("XSEARCH_BODY")
    write_encoder(e5, tmp_path / "float", EXACT)
    assert BuiltinEncoder(tmp_path / "float").body is Precision.FLOAT32
    with pytest.raises(EncoderError, match=r"A body of int8 was asked for\. The encoder in .* has float32"):
        BuiltinEncoder(tmp_path / "float", body=Precision.INT8)


def test_texts_of_one_length_go_together() -> None:
    from xsearch.encoder.builtin import _batches

    found = [places.tolist() for places in _batches([100, 3, 100, 300, 3, 100, 2, 120, 120])]
    # Up to 256 tokens: two of 100 or 120, many of 3; longest first, in their own order.
    assert found == [[3], [7, 8], [0, 2], [5], [1, 4], [6]]
    assert list(_batches([])) == []


def test_characters_outside_the_vocabulary_are_counted(builtin: BuiltinEncoder) -> None:
    assert builtin.unknown_characters(["hello world", "", "ᏣᎳᎩᎧᏬᏂ", "hello ᏣᎳᎩᎧᏬᏂ"]) == [0, 0, 6, 6]


def test_many_threads_get_what_one_gets(builtin: BuiltinEncoder) -> None:
    """Nothing is kept between calls: tokenizer and session are shared as they were loaded."""
    texts = [f"Satz {number} " * (1 + number % 30) for number in range(24)]
    calls: list[Callable[[], Sequence[object]]] = [
        lambda: list(builtin.encode_queries(texts[:6])),
        lambda: list(builtin.encode_passages(texts)),
        lambda: builtin.token_vectors(texts[:4]),
        lambda: builtin.token_offsets(texts),
        lambda: builtin.unknown_characters(texts),
    ]
    expected = [call() for call in calls]

    def call(number: int) -> None:
        found = calls[number % len(calls)]()
        for one, other in zip(found, expected[number % len(calls)], strict=True):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(40)))
