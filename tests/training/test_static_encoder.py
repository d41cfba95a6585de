"""The folder of a static encoder: its vectors by hand, its words, and that the hub loader takes it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xsearch.encoder.load import load_encoder
from xsearch.errors import InvalidArgumentError, StoreError, TrainingError
from xsearch.training.static_encoder import write_static_encoder
from xsearch.training.word_vectors import WordVectors

ENGLISH = WordVectors(
    ("the", "dog", "cat", "sleeps"),
    np.array([[2, 2, 2, 2], [5, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.5, 0]], dtype=np.float32),
)
GERMAN = WordVectors(
    ("der", "hund", "schläft", "katze", "dog"),
    np.array([[1, 1, 1, 0.9], [9, 1, 0, 0], [0, 0, 1, 0.1], [0, 3, 0.1, 0], [0, 0, 0, 1]], dtype=np.float32),
)


def test_a_translation_comes_first(tmp_path: Path) -> None:
    assert write_static_encoder(tmp_path / "static", [ENGLISH, GERMAN]) == 8
    encoder = load_encoder(str(tmp_path / "static"))
    passages = ["der Hund", "der Katze", "Der Hund SCHLÄFT.", "Die Katze schläft!"]
    scores = encoder.encode_queries(["The cat sleeps", "the dog sleeps?"]) @ encoder.encode_passages(passages).T
    assert scores.argmax(axis=1).tolist() == [3, 2]


def test_a_vector_is_the_mean_of_words_that_count_as_told(tmp_path: Path) -> None:
    write_static_encoder(tmp_path / "plain", [ENGLISH], sif=None)
    plain = load_encoder(str(tmp_path / "plain"))
    half = 0.5**0.5
    # "bird" is unknown, so the directions of dog and cat are what there is.
    np.testing.assert_allclose(plain.encode_queries(["Dog, bird. Cat"]), [[half, half, 0, 0]], atol=1e-6)
    assert plain.unknown_characters(["Dog bird cat"]) == [4]

    # Zipf: ranks 1, 2, 3, 4 have the shares 12, 6, 4, 3 of 25. With a = 0.24 dog (0.24) counts 1/2, cat (0.16) 3/5.
    write_static_encoder(tmp_path / "sif", [ENGLISH], sif=0.24)
    expected = np.array([5, 6, 0, 0]) / 61**0.5
    np.testing.assert_allclose(load_encoder(str(tmp_path / "sif")).encode_queries(["dog cat"])[0], expected, atol=1e-6)


def test_a_word_of_both_languages_has_the_mean(tmp_path: Path) -> None:
    write_static_encoder(tmp_path / "static", [ENGLISH, GERMAN], sif=None)
    half = 0.5**0.5
    found = load_encoder(str(tmp_path / "static")).encode_queries(["dog"])
    np.testing.assert_allclose(found, [[half, 0, 0, half]], atol=1e-6)


def test_capitals_stay_where_the_words_have_them(tmp_path: Path) -> None:
    words = WordVectors(("Reading", "reading"), np.eye(2, dtype=np.float32))
    write_static_encoder(tmp_path / "static", [words])
    found = load_encoder(str(tmp_path / "static")).encode_queries(["Reading", "reading"])
    np.testing.assert_allclose(found, np.eye(2), atol=1e-6)


def test_words_are_found_in_any_normal_form_and_script(tmp_path: Path) -> None:
    words = WordVectors(("schläft", "नमस्ते", "狗", "?"), np.eye(4, dtype=np.float32))
    write_static_encoder(tmp_path / "static", [words])
    encoder = load_encoder(str(tmp_path / "static"))
    found = encoder.encode_queries(["schla\u0308ft", "«नमस्ते»", "狗。", "what?"])
    np.testing.assert_allclose(found, np.eye(4), atol=1e-6)
    assert encoder.token_offsets(["schla\u0308ft?"]) == [[(0, 8), (8, 9)]]


def test_the_word_that_stands_for_unknown_ones_is_none(tmp_path: Path) -> None:
    words = WordVectors(("[UNK]", "dog"), np.eye(2, dtype=np.float32))
    assert write_static_encoder(tmp_path / "static", [words]) == 1
    np.testing.assert_allclose(load_encoder(str(tmp_path / "static")).encode_queries(["dog zzz"]), [[0, 1]], atol=1e-6)


def test_the_library_loads_the_folder_by_itself(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    write_static_encoder(tmp_path / "static", [ENGLISH], sif=None)
    assert sorted(path.name for path in (tmp_path / "static").iterdir()) == [
        "config_sentence_transformers.json", "model.safetensors", "modules.json", "tokenizer.json",
    ]  # fmt: skip
    model = SentenceTransformer(str(tmp_path / "static"), device="cpu", local_files_only=True)
    np.testing.assert_allclose(model.encode(["dog cat", "zzz"]), [[0.5, 0.5, 0, 0], [0, 0, 0, 0]], atol=1e-6)
    assert json.loads((tmp_path / "static" / "modules.json").read_text())[0]["path"] == ""


def test_what_makes_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"dimensions \[3, 4\]"):
        write_static_encoder(tmp_path / "a", [ENGLISH, WordVectors(("a",), np.ones((1, 3), dtype=np.float32))])
    with pytest.raises(InvalidArgumentError, match="There are no word vectors"):
        write_static_encoder(tmp_path / "a", [])
    with pytest.raises(InvalidArgumentError, match="sif is 0"):
        write_static_encoder(tmp_path / "a", [ENGLISH], sif=0)
    assert not (tmp_path / "a").exists()
    (tmp_path / "b" / "model.safetensors.tmp").mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be written"):
        write_static_encoder(tmp_path / "b", [ENGLISH])
