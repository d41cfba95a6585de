"""Recipes: every key is read, none is ignored, and what cannot be run is refused with the key named."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from xsearch.errors import TrainingError
from xsearch.training.recipe import (
    BaseKind,
    BatchTable,
    CutTable,
    Keep,
    LossTable,
    OptimizerTable,
    Recipe,
    RunTable,
    TeacherTable,
    VocabularyTable,
)

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
SMALL = """
name = "small"
seed = 7
licence = "MIT"

[licences]
news = "CC0"

[base]
model = "somewhere/model"
kind = "static"
dim = 64
max_tokens = 32
pooling = "cls"

[vocabulary]
size = 500
min_probability = 1

[data]
folder = "data"
parallel = ["*.tsv", "more/*.tsv"]
sentences = 10

[data.languages]
de = 2
"zh-Hant" = 0.5

[teacher]
model = "teacher"
int8 = true

[batches]
tokens = 64
questions = 0.0

[loss]
matryoshka = [16, 32]

[optimizer]
steps = 3
rate = 1e-3

[run]
mlqa = "mlqa.zip"
"""


def small(**changes: Any) -> dict[str, Any]:
    """The small recipe with some values changed: ``small(loss__bank=3)`` sets ``bank`` in ``[loss]``."""
    content = tomllib.loads(SMALL)
    for key, value in changes.items():
        table, _, name = key.rpartition("__")
        (content[table] if table else content)[name] = value
    return content


def made(content: dict[str, Any]) -> Recipe:
    return Recipe.from_dict(content, Path("where"), name="r.toml")


def refused(content: dict[str, Any]) -> str:
    with pytest.raises(TrainingError) as caught:
        made(content)
    return str(caught.value)


def test_every_value_is_read(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    recipe = Recipe.read(path)
    assert (recipe.name, recipe.seed, recipe.licence, recipe.folder) == ("small", 7, "MIT", tmp_path)
    assert recipe.licences == {"news": "CC0"}
    assert recipe.base.kind is BaseKind.STATIC
    assert (recipe.base.model, recipe.base.dim, recipe.base.max_tokens, recipe.base.pooling) == (
        "somewhere/model",
        64,
        32,
        "cls",
    )
    assert recipe.vocabulary == VocabularyTable(size=500, min_probability=1.0)
    assert recipe.data.parallel == ("*.tsv", "more/*.tsv")
    assert recipe.data.languages == {"de": 2.0, "zh-Hant": 0.5}
    assert (recipe.data.folder, recipe.data.sentences, recipe.data.passage_words) == ("data", 10, 130)
    assert recipe.teacher == TeacherTable("teacher", int8=True)
    assert recipe.batches == BatchTable(tokens=64, questions=0.0)
    assert recipe.loss == LossTable(matryoshka=(16, 32))
    assert recipe.optimizer == OptimizerTable(steps=3, rate=0.001)
    assert recipe.run == RunTable(mlqa="mlqa.zip")


def test_tables_that_are_left_out_take_their_defaults() -> None:
    content = {"name": "n", "base": {"model": "m"}, "data": {"parallel": ["x"]}, "teacher": {"model": "t"}}
    recipe = made(content)
    assert recipe.vocabulary is None
    assert (recipe.base.kind, recipe.batches, recipe.run) == (BaseKind.TRANSFORMER, BatchTable(), RunTable())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_project_can_be_read(path: Path) -> None:
    recipe = Recipe.read(path)
    assert recipe.name in (path.stem, "my-encoder", "my-static-encoder", "xsearch-e5")
    assert recipe.folder == path.parent


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_sources_of_the_project_that_are_weighed_have_a_licence(path: Path) -> None:
    recipe = Recipe.read(path)
    if recipe.licences:
        assert recipe.data.sources.keys() - recipe.licences.keys() == set()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (small(steps=3), ["r.toml has the key 'steps'", "optimizer"]),
        (small(loss__cosine=1), ["r.toml: loss has the key 'cosine'", "distil_cosine"]),
        (small(data__language={"de": 1}), ["r.toml: data has the key 'language'", "languages"]),
        (small(folder="x"), ["'folder'", "data.folder"]),
        ({"base": {"model": "m"}, "data": {"parallel": ["x"]}}, ["r.toml lacks the key 'name'"]),
        ({"name": "n", "data": {"parallel": ["x"]}}, ["r.toml lacks the key 'base'"]),
        (small(base={"dim": 3}), ["r.toml: base lacks the key 'model'"]),
        (small(teacher={}), ["r.toml: teacher lacks the key 'model'"]),
    ],
)
def test_keys_that_are_unknown_or_missing_are_named(content: dict[str, Any], words: list[str]) -> None:
    message = refused(content)
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (small(name=3), ["name is 3", "text"]),
        (small(seed=1.5), ["seed is 1.5", "a whole number"]),
        (small(seed=True), ["seed is True", "a whole number"]),
        (small(optimizer__rate="fast"), ["optimizer: rate is 'fast'", "a finite number"]),
        (small(optimizer__rate=True), ["optimizer: rate is True", "a finite number"]),
        (small(optimizer__rate=float("nan")), ["optimizer: rate is nan", "a finite number"]),
        (small(loss__temperature=float("inf")), ["loss: temperature is inf"]),
        (small(teacher__int8=1), ["teacher: int8 is 1", "true or false"]),
        (small(base__kind="dense"), ["base: kind is 'dense'", "transformer, static"]),
        (small(base="model"), ["base is 'model'", "a table"]),
        (small(vocabulary=[1]), ["vocabulary is [1]", "a table"]),
        (small(data__parallel="*.tsv"), ["data: parallel is '*.tsv'", "a list, each entry text"]),
        (small(data__parallel=["x", 1]), ["data: parallel is 1", "text"]),
        (small(data__languages=["de"]), ["data: languages is ['de']", "a table, each value a finite number"]),
        (small(data__languages={"de": "much"}), ["data: languages.de is 'much'"]),
        (small(loss__matryoshka=[16, "x"]), ["loss: matryoshka is 'x'", "a whole number"]),
    ],
)
def test_values_of_another_type_are_named(content: dict[str, Any], words: list[str]) -> None:
    message = refused(content)
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (small(seed=-1), "seed is -1"),
        (small(batches__terms=0.5, batches__passages=0.5), "in sum at most 1"),
        (small(batches__english=-0.1), "shares from 0 to 1"),
        (small(batches__mixed_languages=1.5), "batches.mixed_languages is 1.5"),
        (small(batches__texts=0), "batches.texts is 0"),
        (small(batches__tokens=31), "batches.tokens is 31. It must be so that batches.tokens holds one text of base"),
        (small(base__max_tokens=2), "base.max_tokens is above 2"),
        (small(base__pooling="max"), "base.pooling is max"),
        (small(data__languages={"de": -1}), "weights of 0 and more"),
        (small(data__sources={"news": -0.5}), "weights of 0 and more"),
        (small(data__sentences=-1), "counts of 0 and more"),
        (small(data__passage_words=0), "data.passage_words is 0"),
        (small(data__parallel=[]), "names parallel or questions files"),
        (small(loss__temperature=0), "loss.temperature is 0.0"),
        (small(loss__matryoshka=[0]), "loss.matryoshka is (0,)"),
        (small(optimizer__steps=-1), "optimizer.steps is -1"),
        (small(optimizer__precision="float16"), "optimizer.precision is float16"),
        (small(run__checkpoint_every=0), "has checkpoint_every and log_every above 0"),
        (small(run__evaluate_every=-1), "counts of 0 and more"),
    ],
)
def test_values_that_cannot_be_run_are_named(content: dict[str, Any], words: str) -> None:
    assert words in refused(content)


def test_shares_may_fill_the_whole() -> None:
    content = small(batches__terms=0.3, batches__passages=0.3, batches__questions=0.1, batches__english=0.3)
    assert made(content).batches.english == 0.3


def test_distillation_needs_a_teacher() -> None:
    content = small()
    del content["teacher"]
    assert "teacher is None" in refused(content)
    content["loss"] = {"distil_contrastive": 0, "distil_cosine": 0, "contrastive": 1}
    assert made(content).teacher is None
    content["loss"]["distil_mse"] = 0.1
    assert "loss.distil_* is above 0" in refused(content)


class TestCut:
    """``[vocabulary]`` that keeps pieces of the base, beside the one that makes new ones."""

    def test_is_read(self) -> None:
        table = {"cut": 300, "texts": ["more.*.txt"], "prior": 2, "unseen_scripts": 0.5}
        assert made(small() | {"vocabulary": table}).vocabulary == CutTable(300, None, ("more.*.txt",), 2.0, 0.5)
        assert made(small() | {"vocabulary": {"keep": "all"}}).vocabulary == CutTable(keep=Keep.ALL)
        assert made(small() | {"vocabulary": {}}).vocabulary == VocabularyTable()

    @pytest.mark.parametrize(
        ("table", "words"),
        [
            ({"cut": 300, "size": 3, "candidates": 4}, "has the keys cut and the keys candidates, size. The first cut"),
            ({"keep": "all", "transplant": True}, "has the keys keep and the keys transplant"),
            ({"prior": 1, "size": 10}, "has the keys prior and the keys size"),
            ({"cut": 300, "pieces": 3}, "vocabulary has the key 'pieces'. Known keys: cut, keep, texts"),
            ({"keep": "some"}, "keep is 'some'. It must be one of all"),
            ({"cut": 2.5}, "cut is 2.5. It must be a whole number"),
            ({"texts": "a.de.txt", "cut": 3}, "texts is 'a.de.txt'"),
            ({"cut": 300, "keep": "all"}, "has either cut or keep"),
            ({"prior": 1.0}, "has either cut or keep"),
            ({"cut": 0}, "vocabulary.cut is 0. It must be so that vocabulary.cut is above 0"),
            ({"cut": 300, "prior": -1}, "has a prior and unseen_scripts of 0 and more"),
        ],
    )
    def test_what_cannot_be(self, table: dict[str, Any], words: str) -> None:
        assert words in refused(small() | {"vocabulary": table})

    def test_plain_text_is_enough_where_nothing_is_trained(self) -> None:
        content = small(data__parallel=[], optimizer__steps=0) | {"vocabulary": {"cut": 300, "texts": ["a.de.txt"]}}
        assert made(content).data.parallel == ()
        content["optimizer"]["steps"] = 1
        assert "data is without files to train on" in refused(content)


def test_without_steps_only_what_is_used_is_checked() -> None:
    content = small(optimizer__steps=0, loss__temperature=0, batches__texts=0)
    del content["teacher"]
    assert made(content).optimizer.steps == 0
    assert "base.max_tokens is above 2" in refused(small(optimizer__steps=0, base__max_tokens=2))


@pytest.mark.parametrize(
    ("name", "data"), [("none.toml", None), ("bad.toml", b"name = "), ("latin.toml", b"n = '\xe4'")]
)
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, name: str, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(TrainingError, match=name):
        Recipe.read(tmp_path / name)


class TestFingerprint:
    def test_is_that_of_the_values_not_of_their_order_or_place(self) -> None:
        content = small(data__languages={"de": 1, "fr": 2})
        turned = dict(reversed(small(data__languages={"fr": 2.0, "de": 1.0}).items()))
        assert made(content).fingerprint() == Recipe.from_dict(turned, Path("elsewhere")).fingerprint()

    def test_of_a_table_changes_with_its_values_alone(self) -> None:
        first, other = made(small()), made(small(optimizer__steps=4))
        assert first.fingerprint() != other.fingerprint()
        assert first.fingerprint("optimizer") != other.fingerprint("optimizer")
        assert first.fingerprint("data", "seed") == other.fingerprint("data", "seed")

    @pytest.mark.parametrize(
        ("table", "change"),
        [
            ("seed", {"seed": 8}),
            ("base", {"base__model": "other"}),
            ("vocabulary", {"vocabulary__size": 501}),
            ("data", {"data__languages": {"de": 3}}),
            ("teacher", {"teacher__int8": False}),
            ("batches", {"batches__texts": 3}),
            ("loss", {"loss__bank": 3}),
        ],
    )
    def test_changes_with_a_value(self, table: str, change: dict[str, Any]) -> None:
        assert made(small()).fingerprint(table) != made(small(**change)).fingerprint(table)

    def test_a_table_that_is_left_out_differs_from_its_defaults(self) -> None:
        content = small()
        content["vocabulary"] = {}
        with_defaults = made(content).fingerprint("vocabulary")
        del content["vocabulary"]
        assert made(content).fingerprint("vocabulary") != with_defaults

    def test_of_a_known_recipe_stays(self) -> None:
        """Prepared data and checkpoints are known again by it: a change here makes every run begin anew."""
        assert made(small()).fingerprint("data", "seed") == "1f6dd9e614fc17f3"
