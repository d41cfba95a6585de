"""The recipes that come with xsearch can be read, and name nothing that is ours alone."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from xsearch.errors import TrainingError
from xsearch.training.recipe import BaseKind, CutTable, Recipe, VocabularyTable

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))


def test_the_recipes_are_these() -> None:
    assert {path.stem for path in RECIPES} >= {"builtin", "english-to-multilingual", "finetune-hub", "static"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_reads(path: Path) -> None:
    recipe = Recipe.read(path)
    assert recipe.folder == path.parent
    if recipe.optimizer.steps == 0:
        return
    # Every kind of example that has a share in the batches has a term in the loss and files in the data.
    distils = recipe.teacher is not None
    assert distils or recipe.batches.english == 0
    assert distils or recipe.loss.contrastive > 0
    assert recipe.batches.terms == 0 or recipe.data.terms
    assert recipe.batches.questions == 0 or recipe.data.questions
    assert recipe.batches.passages == 0 or recipe.data.passages > 0


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_key_that_is_not_known_is_refused_in_every_table(path: Path) -> None:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    for table in [name for name, value in content.items() if isinstance(value, dict) and name != "licences"]:
        wrong = {**content, table: {**content[table], "speed": 3}}
        with pytest.raises(TrainingError, match=f"{table} has the key 'speed'"):
            Recipe.from_dict(wrong, path.parent)


def test_what_they_are_for() -> None:
    found = {path.stem: Recipe.read(path) for path in RECIPES}
    tuned = found["finetune-hub"]
    assert (tuned.base.model, tuned.base.kind) == ("intfloat/multilingual-e5-small", BaseKind.TRANSFORMER)
    assert (tuned.vocabulary, tuned.teacher, tuned.loss.contrastive) == (None, None, 1.0)
    static = found["static"]
    assert (static.base.kind, static.base.dim, static.teacher) == (BaseKind.STATIC, 256, None)
    assert isinstance(static.vocabulary, VocabularyTable) and not static.vocabulary.transplant
    assert max(static.loss.matryoshka) == static.base.dim
    built = found["builtin"]
    assert (built.base.model, built.base.max_tokens) == ("intfloat/multilingual-e5-small", 512)
    assert isinstance(built.vocabulary, CutTable) and built.vocabulary.cut == 100_000
    assert (built.optimizer.steps, built.teacher) == (0, None)
    assert isinstance(found["english-to-multilingual"].vocabulary, VocabularyTable)
    for recipe in (tuned, static):
        assert recipe.data.folder == "." and recipe.data.parallel == ("data/*.en-de.tsv",)
