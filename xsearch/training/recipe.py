"""What a training run is made of, read from a TOML file: every key is checked, and none is ignored in silence."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xsearch.encoder.export import ExportOptions
from xsearch.errors import TrainingError
from xsearch.training.recipe_tables import (
    BaseKind,
    BaseModel,
    BatchTable,
    CutTable,
    DataTable,
    DebiasTable,
    Keep,
    LossTable,
    OptimizerTable,
    RunTable,
    TeacherTable,
    VocabularyTable,
)
from xsearch.training.recipe_values import read_table

__all__ = [
    "BaseKind",
    "BaseModel",
    "BatchTable",
    "CutTable",
    "DataTable",
    "DebiasTable",
    "Keep",
    "LossTable",
    "OptimizerTable",
    "Recipe",
    "RunTable",
    "TeacherTable",
    "VocabularyTable",
]
# Whether it holds, the key, what the recipe has there, and what must be so, in words.
Rule = tuple[bool, str, object, str]


@dataclass(frozen=True, slots=True)
class Recipe:
    """All of a run. Paths are relative to the folder of the recipe.

    Attributes:
        name: of the encoder.
        base, data, vocabulary, teacher, batches, loss, optimizer, debias, export, run: the tables.
        folder: where the recipe lies.
        seed: of all that is drawn.
        licence: of the encoder that comes out.
        licences: of each source, for the model card.
    """

    name: str
    base: BaseModel
    data: DataTable
    folder: Path
    seed: int = 13
    licence: str = ""
    licences: Mapping[str, str] = field(default_factory=dict)
    vocabulary: VocabularyTable | CutTable | None = None
    teacher: TeacherTable | None = None
    batches: BatchTable = field(default_factory=BatchTable)
    loss: LossTable = field(default_factory=LossTable)
    optimizer: OptimizerTable = field(default_factory=OptimizerTable)
    debias: DebiasTable | None = None
    export: ExportOptions = field(default_factory=ExportOptions)
    run: RunTable = field(default_factory=RunTable)

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """The recipe in a TOML file.

        Raises:
            TrainingError: the file cannot be read, has a key that is not known, or lacks one.
        """
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise TrainingError(
                f"The recipe {path} cannot be read: {exc}", "It must be a TOML file", "See recipes/ for examples"
            ) from exc
        return cls.from_dict(content, path.parent, name=str(path))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], folder: Path, *, name: str = "recipe") -> Recipe:
        """The recipe of a parsed TOML file, whose paths start from ``folder``."""
        if "folder" in content:
            raise TrainingError(
                f"{name} has the key 'folder'",
                "The folder of a recipe is where it lies",
                "Write data.folder to say where the data is",
            )
        plain = {key: value for key, value in content.items() if key != "vocabulary"}
        recipe = read_table(cls, {**plain, "folder": folder}, name)
        if "vocabulary" in content:
            recipe = dataclasses.replace(recipe, vocabulary=_vocabulary(content["vocabulary"], f"{name}: vocabulary"))
        recipe.check(name)
        return recipe

    def fingerprint(self, *tables: str) -> str:
        """A hash of the named tables (all, without any), by which prepared data and checkpoints are known again."""
        content = dataclasses.asdict(self)
        del content["folder"]
        chosen = {key: content[key] for key in tables} if tables else content
        return hashlib.sha256(json.dumps(chosen, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def check(self, name: str) -> None:
        """Refuses values that cannot be run.

        Args:
            name: what the error calls the recipe.

        Raises:
            TrainingError: one of them.
        """
        for right, key, given, rule in (*self._rules(), *(self._rules_of_steps() if self.optimizer.steps > 0 else ())):
            if not right:
                raise TrainingError(
                    f"{name}: {key} is {given}", f"It must be so that {key} {rule}", "Correct the recipe"
                )

    def _rules(self) -> tuple[Rule, ...]:
        """What holds for every recipe: whether it does, the key, its value, and the rule in words."""
        data, table = self.data, self.vocabulary
        weights = (data.default_weight, *data.languages.values(), *data.sources.values())
        counts = (data.sentences, data.term_pairs, data.passages, data.english, self.run.evaluate_every)
        cut = table if isinstance(table, CutTable) else CutTable(keep=Keep.ALL)
        priors = (cut.prior, cut.unseen_scripts)
        files = data.parallel or data.questions or cut.texts
        return (
            (self.seed >= 0, "seed", self.seed, "is 0 or more"),
            (self.base.max_tokens > 2, "base.max_tokens", self.base.max_tokens, "is above 2"),
            (min(weights) >= 0, "data", min(weights), "has weights of 0 and more"),
            (min(counts) >= 0, "data, run.evaluate_every", min(counts), "have counts of 0 and more"),
            (data.passage_words > 0, "data.passage_words", data.passage_words, "is above 0"),
            (bool(files), "data", "without files", "names parallel or questions files"),
            (self.base.pooling in ("mean", "cls"), "base.pooling", self.base.pooling, "is mean or cls"),
            (self.optimizer.steps >= 0, "optimizer.steps", self.optimizer.steps, "is 0 or more"),
            ((cut.cut is None) != (cut.keep is None), "vocabulary", cut, "has either cut or keep"),
            (cut.cut is None or cut.cut > 0, "vocabulary.cut", cut.cut, "is above 0"),
            (min(priors) >= 0, "vocabulary", priors, "has a prior and unseen_scripts of 0 and more"),
        )

    def _rules_of_steps(self) -> tuple[Rule, ...]:
        """What holds besides where something is trained."""
        batches, run = self.batches, self.run
        shares = (batches.terms, batches.passages, batches.questions, batches.english)
        matryoshka, precision = self.loss.matryoshka, self.optimizer.precision
        return (
            (
                min(shares) >= 0 and sum(shares) <= 1 + 1e-9,
                "batches",
                shares,
                "has shares from 0 to 1, in sum at most 1",
            ),
            (0 <= batches.mixed_languages <= 1, "batches.mixed_languages", batches.mixed_languages, "lies in 0 to 1"),
            (batches.texts > 0, "batches.texts", batches.texts, "is above 0"),
            (
                batches.tokens >= self.base.max_tokens,
                "batches.tokens",
                batches.tokens,
                f"holds one text of base.max_tokens ({self.base.max_tokens})",
            ),
            (
                bool(self.data.parallel or self.data.questions),
                "data",
                "without files to train on",
                "names parallel or questions files",
            ),
            (self.loss.bank >= 0, "loss.bank", self.loss.bank, "is 0 or more"),
            (self.loss.temperature > 0, "loss.temperature", self.loss.temperature, "is above 0"),
            (min(matryoshka, default=1) > 0, "loss.matryoshka", matryoshka, "has lengths above 0"),
            (precision in ("float32", "bfloat16"), "optimizer.precision", precision, "is float32 or bfloat16"),
            (min(run.checkpoint_every, run.log_every) > 0, "run", run, "has checkpoint_every and log_every above 0"),
            (
                self.teacher is not None or not self._distils(),
                "teacher",
                None,
                "is there when loss.distil_* is above 0",
            ),
        )

    def _distils(self) -> bool:
        return self.loss.distil_contrastive > 0 or self.loss.distil_cosine > 0 or self.loss.distil_mse > 0


def _vocabulary(content: Any, where: str) -> VocabularyTable | CutTable:
    """The table of whichever kind the keys say: one keeps pieces of the base, the other makes new ones."""
    if not isinstance(content, dict):
        raise TrainingError(f"{where} is {content!r}", "It must be a table", "Correct the value; see recipes/")
    grown, cut = ({entry.name for entry in dataclasses.fields(kind)} for kind in (VocabularyTable, CutTable))
    own, other = (sorted(key for key in content if key in keys) for keys in (cut, grown))
    if own and other:
        raise TrainingError(
            f"{where} has the keys {', '.join(own)} and the keys {', '.join(other)}",
            "The first cut the base's own vocabulary, the others make a new one; it is one of the two",
            "Remove the keys of one of them",
        )
    return read_table(CutTable, content, where) if own else read_table(VocabularyTable, content, where)
