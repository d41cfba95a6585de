"""The exported graph computes what torch computes; int8 stays near it; other models are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.encoder import checkpoints
from xsearch.encoder.builtin import MINI_FOLDER, BuiltinEncoder
from xsearch.encoder.export import (
    BertShape,
    Precision,
    export_bert,
    quantise_columns,
    quantise_rows,
    write_encoder,
)
from xsearch.encoder.fingerprint import hash_files
from xsearch.errors import EncoderError, NonFiniteVectorError

TEXTS = checkpoints.SENTENCES


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose weights are large enough for attention to matter."""
    return checkpoints.mbert(tmp_path_factory.mktemp("export") / "wide", scale=6.0)


def torch_vectors(folder: Path, texts: list[str]) -> tuple[list[np.ndarray], np.ndarray]:
    """Token vectors and unit sentence vectors, one text at a time."""
    import torch
    from transformers import AutoTokenizer, BertModel

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="eager").eval()
    tokens, means = [], []
    with torch.inference_mode():
        for text in texts:
            batch = tokenizer(text, return_tensors="pt", truncation=True)
            hidden = model(**batch).last_hidden_state[0].numpy()
            tokens.append(hidden[1:-1])
            means.append(hidden.mean(axis=0))
    stacked = np.stack(means)
    return tokens, stacked / np.linalg.norm(stacked, axis=1, keepdims=True)


def test_float32_gives_the_vectors_of_torch(wide: Path, tmp_path: Path) -> None:
    write_encoder(wide, tmp_path, Precision.FLOAT32)
    encoder = BuiltinEncoder(tmp_path)
    tokens, sentences = torch_vectors(wide, TEXTS)
    np.testing.assert_allclose(encoder.encode_passages(TEXTS), sentences, atol=1e-4)
    for ours, theirs in zip(encoder.token_vectors(TEXTS), tokens, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    # The vectors differ among themselves, so that agreement says something.
    assert (sentences @ sentences.T - np.eye(len(TEXTS))).max() < 0.99


def test_the_mask_hides_padding(wide: Path, tmp_path: Path) -> None:
    write_encoder(wide, tmp_path, Precision.FLOAT32)
    encoder = BuiltinEncoder(tmp_path)
    texts = ["dog", " ".join(TEXTS)]
    np.testing.assert_allclose(
        encoder.encode_passages(texts), np.vstack([encoder.encode_passages([text]) for text in texts]), atol=1e-5
    )


def test_int8_stays_near_float32(wide: Path, tmp_path: Path) -> None:
    write_encoder(wide, tmp_path / "8", Precision.INT8)
    eight = BuiltinEncoder(tmp_path / "8")
    _, sentences = torch_vectors(wide, TEXTS)
    cosines = (eight.encode_passages(TEXTS) * sentences).sum(axis=1)
    # Measured on these random weights: 0.99993 at the least.
    assert cosines.min() > 0.999
    assert eight.fingerprint.dtype == "int8"


def test_int8_does_not_depend_on_the_batch(wide: Path, tmp_path: Path) -> None:
    write_encoder(wide, tmp_path, Precision.INT8)
    encoder = BuiltinEncoder(tmp_path)
    alone = np.vstack([encoder.encode_passages([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode_passages(TEXTS), alone, atol=1e-6)


def test_int8_of_a_layer_that_puts_out_zeros_is_right(mbert: Path, tmp_path: Path) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "zeros")
    change_weights(folder, "intermediate.dense", lambda array: np.zeros_like(array))
    write_encoder(folder, tmp_path / "out", Precision.INT8)
    _, sentences = torch_vectors(folder, TEXTS)
    cosines = (BuiltinEncoder(tmp_path / "out").encode_passages(TEXTS) * sentences).sum(axis=1)
    assert cosines.min() > 0.995


def test_what_is_written_loads_and_describes_itself(mbert: Path, tmp_path: Path) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "prompted")
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "query: ", "document": "passage: "}}), encoding="utf-8"
    )
    write_encoder(folder, tmp_path / "out", Precision.FLOAT32)
    config = json.loads((tmp_path / "out" / "xsearch_encoder.json").read_text(encoding="utf-8"))
    assert config == {
        "dim": 32,
        "max_tokens": 64,
        "dtype": "float32",
        "query_prompt": "query: ",
        "passage_prompt": "passage: ",
        "sha256": {
            "model.onnx": hash_files(tmp_path / "out" / "model.onnx"),
            "tokenizer.json": hash_files(tmp_path / "out" / "tokenizer.json"),
        },
    }
    written, given = (json.loads((place / "tokenizer.json").read_text("utf-8")) for place in (tmp_path / "out", folder))
    assert written == given
    assert BuiltinEncoder(tmp_path / "out").overhead_tokens > 2


@pytest.mark.parametrize("stated", [10**30, 512, None])
def test_max_tokens_is_never_more_than_the_positions(mbert: Path, tmp_path: Path, stated: int | None) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "long")
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("model_max_length")
    path.write_text(json.dumps(config | ({"model_max_length": stated} if stated else {})), encoding="utf-8")
    write_encoder(folder, tmp_path / "out", Precision.FLOAT32)
    encoder = BuiltinEncoder(tmp_path / "out")
    assert encoder.max_tokens == 64
    assert len(encoder.token_vectors(["dog " * 100])[0]) == 62


def test_the_packaged_files_are_those_that_its_configuration_names() -> None:
    hashes = json.loads((MINI_FOLDER / "xsearch_encoder.json").read_text(encoding="utf-8"))["sha256"]
    assert hashes == {name: hash_files(MINI_FOLDER / name) for name in ("model.onnx", "tokenizer.json")}


# --- refusals


@pytest.mark.parametrize("change", [{"model_type": "roberta"}, {"hidden_act": "relu"}, {"hidden_act": "gelu_new"}])
def test_another_architecture_is_refused(mbert: Path, tmp_path: Path, change: dict[str, str]) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
    with pytest.raises(EncoderError, match=r"The export knows BERT encoders with exact GELU.*hub extra"):
        BertShape.read(folder)


@pytest.mark.parametrize(
    "pooling",
    [{"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, {"pooling_mode": "cls"}],
    ids=["flags", "name"],
)
def test_another_pooling_is_refused_and_nothing_written(
    mbert: Path, tmp_path: Path, pooling: dict[str, object]
) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "cls")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    with pytest.raises(EncoderError, match=r"pools its tokens by cls.*mean pooling"):
        write_encoder(folder, tmp_path / "out", Precision.FLOAT32)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pooling", [{"pooling_mode_mean_tokens": True}, {"pooling_mode": "mean"}])
def test_mean_pooling_is_taken(mbert: Path, tmp_path: Path, pooling: dict[str, object]) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "mean")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    write_encoder(folder, tmp_path / "out", Precision.FLOAT32)
    assert BuiltinEncoder(tmp_path / "out").dim == 32


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_named(mbert: Path, tmp_path: Path, bad: float) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "nan")

    def spoil(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array.flat[3] = bad
        return array

    change_weights(folder, "layer.1.output.dense.weight", spoil)
    with pytest.raises(NonFiniteVectorError, match=r"The weight encoder\.layer\.1\.output\.dense\.weight .* NaN"):
        export_bert(folder, Precision.FLOAT32)


def test_a_missing_weight_is_named(mbert: Path, tmp_path: Path) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "head")
    rename_weights(folder, lambda name: f"bert.{name}")
    with pytest.raises(EncoderError, match=r"has no weight 'embeddings\.word_embeddings\.weight'"):
        export_bert(folder, Precision.FLOAT32)


@pytest.mark.parametrize("content", [None, "{"])
def test_a_configuration_that_cannot_be_read_is_named(mbert: Path, tmp_path: Path, content: str | None) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "broken")
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(EncoderError, match=r"config\.json cannot be read"):
        write_encoder(folder, tmp_path / "out", Precision.FLOAT32)


# --- quantisation


def test_quantise_rows_by_hand() -> None:
    table = np.array([[1.27, -0.635, 0.01], [0, 0, 0], [-2.54, 2.54, 0.03]], dtype=np.float32)
    quantised, scale = quantise_rows(table)
    # Scales 1.27/127, one for the zeros, 2.54/127; -63.5 rounds to the even -64, 1.5 to 2.
    np.testing.assert_allclose(scale, [[0.01], [1.0], [0.02]], rtol=1e-6)
    assert quantised.dtype == np.int8
    assert quantised[0, [0, 2]].tolist() == [127, 1]
    assert int(quantised[0, 1]) in (-64, -63)  # -63.5 in binary lies a hair on either side
    assert quantised[1].tolist() == [0, 0, 0]
    assert quantised[2, :2].tolist() == [-127, 127]


def test_quantise_columns_scales_each_output() -> None:
    matrix = np.array([[1.27, 0.0], [-0.5, 0.0], [0.02, 0.0]], dtype=np.float32)
    quantised, scale = quantise_columns(matrix)
    assert quantised.tolist() == [[127, 0], [-50, 0], [2, 0]]
    np.testing.assert_allclose(scale, [0.01, 1.0], rtol=1e-6)


def test_quantised_rows_are_within_half_a_step() -> None:
    table = np.random.default_rng(5).normal(size=(50, 30)).astype(np.float32)
    quantised, scale = quantise_rows(table)
    assert (np.abs(quantised * scale - table) <= scale / 2 + 1e-6).all()


def change_weights(folder: Path, part: str, change) -> None:  # type: ignore[no-untyped-def]
    from safetensors.numpy import load_file, save_file

    path = folder / "model.safetensors"
    weights = load_file(path)
    assert any(part in name for name in weights)
    save_file({n: change(w) if part in n else w for n, w in weights.items()}, path, metadata={"format": "pt"})


def rename_weights(folder: Path, rename) -> None:  # type: ignore[no-untyped-def]
    from safetensors.numpy import load_file, save_file

    path = folder / "model.safetensors"
    save_file({rename(name): weight for name, weight in load_file(path).items()}, path, metadata={"format": "pt"})
