"""Static models (a table of token vectors and a mean) as hub encoders: vectors, tokens, texts they know nothing of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xsearch.encoder.hub import HubEncoder
from xsearch.encoder.load import load_encoder
from xsearch.encoder.static import UNLIMITED_TOKENS
from xsearch.errors import EncoderError

WORDS = ["[UNK]", "dog", "hund", "cat", "house"]
TABLE = np.array([[0, 0, 0], [1, 0, 0], [0.6, 0.8, 0], [0, 3, 4], [0, 0, 2]], dtype=np.float32)


def write(folder: Path, *, table: np.ndarray = TABLE, cut: int | None = None, specials: bool = False) -> Path:
    """A static model as the library saves it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if cut is not None:
        tokenizer.enable_truncation(cut)
    if specials:
        tokenizer.post_processor = processors.TemplateProcessing(single="dog $A", special_tokens=[("dog", 1)])
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=table)], device="cpu")
    model.save(str(folder), create_model_card=False)
    return folder


def test_a_vector_is_the_mean_of_the_rows_at_length_1(tmp_path: Path) -> None:
    encoder = load_encoder(str(write(tmp_path / "static")))
    # (1, 0, 0) + (0, 3, 4) has the length sqrt(26); the unknown token is a row of zeros.
    vectors = encoder.encode_passages(["dog cat", "hund", "dog zzz cat"])
    expected = [[1 / 26**0.5, 3 / 26**0.5, 4 / 26**0.5], [0.6, 0.8, 0], [1 / 26**0.5, 3 / 26**0.5, 4 / 26**0.5]]
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    np.testing.assert_allclose(encoder.encode_queries(["dog cat"]), vectors[:1], atol=1e-7)
    assert (encoder.dim, encoder.max_tokens, encoder.overhead_tokens) == (3, UNLIMITED_TOKENS, 0)


@pytest.mark.parametrize("texts", [[""], [" ", "", "dog"], ["zzz", "狗"], ["dog", ""]])
def test_a_text_of_which_nothing_is_known_has_the_direction_of_the_mean(tmp_path: Path, texts: list[str]) -> None:
    vectors = HubEncoder(str(write(tmp_path / "static"))).encode_queries(texts)
    mean = np.array([1.6, 3.8, 6.0])
    expected = [[1, 0, 0] if text == "dog" else mean / np.linalg.norm(mean) for text in texts]
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_tokens_have_offsets_vectors_and_unknown_characters(tmp_path: Path) -> None:
    encoder = HubEncoder(str(write(tmp_path / "static", specials=True)))
    text = "cat, dogs dog"
    assert encoder.token_offsets([text]) == [[(0, 3), (3, 4), (5, 9), (10, 13)]]
    assert encoder.unknown_characters([text, "dog cat", ""]) == [5, 0, 0]
    np.testing.assert_array_equal(encoder.token_vectors([text])[0], TABLE[[3, 0, 0, 1]])
    assert encoder.token_vectors([""])[0].shape == (0, 3)
    assert encoder.overhead_tokens == 0


def test_a_tokenizer_that_cuts_says_so(tmp_path: Path) -> None:
    encoder = HubEncoder(str(write(tmp_path / "static", cut=2)))
    assert encoder.max_tokens == 2
    np.testing.assert_allclose(encoder.encode_queries(["dog dog cat cat"]), [[1, 0, 0]], atol=1e-6)
    assert [len(spans) for spans in encoder.token_offsets(["dog dog cat cat"])] == [4]
    np.testing.assert_array_equal(encoder.token_vectors(["dog cat house"])[0], TABLE[[1, 3]])


def test_the_fingerprint_says_what_the_model_is_and_changes_with_a_weight(tmp_path: Path) -> None:
    first = HubEncoder(str(write(tmp_path / "one"))).fingerprint
    assert (first.pooling, first.dim, first.dtype, first.max_tokens) == ("mean", 3, "float32", UNLIMITED_TOKENS)
    assert HubEncoder(str(write(tmp_path / "two"))).fingerprint.digest == first.digest
    changed = HubEncoder(str(write(tmp_path / "three", table=TABLE + 0.5))).fingerprint
    assert (changed.weights != first.weights, changed.tokenizer == first.tokenizer) == (True, True)


def test_half_precision_is_read_as_single_on_the_cpu(tmp_path: Path) -> None:
    encoder = HubEncoder(str(write(tmp_path / "half", table=TABLE.astype(np.float16))))
    assert encoder.fingerprint.dtype == "float32"
    np.testing.assert_allclose(encoder.encode_queries(["hund"]), [[0.6, 0.8, 0]], atol=1e-3)


def test_a_table_with_too_few_rows_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "static")
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["vocab"]["more"] = 5
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(EncoderError, match="has 6 tokens and 5 vectors"):
        HubEncoder(str(folder))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_folder_with_a_damaged_or_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    cut = write(tmp_path / "cut")
    (cut / name).write_bytes((cut / name).read_bytes()[:50])
    with pytest.raises(EncoderError):
        HubEncoder(str(cut))
    lost = write(tmp_path / "lost")
    (lost / name).unlink()
    with pytest.raises(EncoderError):
        HubEncoder(str(lost))
