"""What a training run is made of, read from a TOML file: every key is checked, and none is ignored in silence."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from xsearch.errors import TrainingError

T = TypeVar("T")


class BaseKind(StrEnum):
    """What the encoder starts from."""

    TRANSFORMER = "transformer"
    STATIC = "static"


@dataclass(frozen=True, slots=True)
class BaseModel:
    """``[base]``: the model that is trained.

    Attributes:
        model: a sentence-transformers or Hugging Face encoder by name or folder, or ``package:NAME/FOLDER`` for a
            folder inside an installed Python package.
        kind: ``static`` starts from token embeddings alone (with the tokenizer of ``model``, or a new vocabulary).
        dim: of the vectors of a static encoder; a transformer has its own.
        max_tokens: what the trained encoder reads of a text, special tokens included.
        pooling: ``mean`` or ``cls``, for a model whose folder does not say.
    """

    model: str
    kind: BaseKind = BaseKind.TRANSFORMER
    dim: int = 384
    max_tokens: int = 256
    pooling: str = "mean"


@dataclass(frozen=True, slots=True)
class VocabularyTable:
    """``[vocabulary]``: a new multilingual vocabulary for an English base; without this table the base keeps its own.

    Attributes:
        size: pieces in all.
        candidates: pieces of other languages that are looked at, of which the most used fill ``size``.
        characters: of text a unit of language weight that the pieces are trained on.
        min_character_count: a character seen less often becomes unknown.
        alignment_rows: sentences a unit of language weight that the word alignment reads, and as many terms.
        transplant: whether embeddings come from the alignment; else new pieces start at random.
        min_probability: translations less likely than this do not count.
    """

    size: int = 62_000
    candidates: int = 80_000
    characters: int = 400_000
    min_character_count: int = 3
    alignment_rows: int = 8_000
    transplant: bool = True
    min_probability: float = 0.02


@dataclass(frozen=True, slots=True)
class DataTable:
    """``[data]``: the files, and how much of each language is taken.

    Attributes:
        folder: what the patterns start from; relative to the recipe. A pattern may also be an absolute path, or
            ``NAME.LANG-LANG`` for the two files of Moses pairs.
        parallel: patterns of parallel files (sentences, paragraphs).
        terms: patterns of parallel files that hold words and names.
        questions: patterns of question files (question, passage, answers).
        evaluation: files that no training text may overlap.
        languages: weight of each target language; ``default_weight`` for those not named, 0 leaves one out.
        sources: weight of each source within its language; 1 where not named, 0 leaves one out.
        sentences, term_pairs, passages: examples a unit of language weight.
        english: sentences in English that are their own translation, in all.
        passage_words: rows that follow one another are joined to passages of about this many English words.
    """

    folder: str = "."
    parallel: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    evaluation: tuple[str, ...] = ()
    languages: Mapping[str, float] = field(default_factory=dict)
    default_weight: float = 1.0
    sources: Mapping[str, float] = field(default_factory=dict)
    sentences: int = 3_000
    term_pairs: int = 2_000
    passages: int = 300
    english: int = 20_000
    passage_words: int = 130


@dataclass(frozen=True, slots=True)
class TeacherTable:
    """``[teacher]``: whose vectors of the English side the student learns; without this table there is no distillation.

    Attributes:
        model: as in ``[base]``.
        int8: encodes with the int8 graph of ONNX Runtime (BERT only): 2 to 3 times as fast on a CPU.
    """

    model: str
    int8: bool = False


@dataclass(frozen=True, slots=True)
class BatchTable:
    """``[batches]``: what is in a batch.

    Attributes:
        tokens: of the student's texts in a batch, padding included; of a question and its passage the longer counts.
        texts: at most so many texts in a batch.
        chunk_tokens: encoded at once; a larger batch goes through gradient caching.
        terms, passages, questions, english: share of the batches that hold these; the rest holds sentences.
        mixed_languages: share of the batches that hold all languages instead of one.
        temperature: languages are drawn with probability proportional to weight ** temperature.
    """

    tokens: int = 2_048
    texts: int = 256
    chunk_tokens: int = 16_384
    terms: float = 0.125
    passages: float = 0.2
    questions: float = 0.1
    english: float = 0.08
    mixed_languages: float = 0.3
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class LossTable:
    """``[loss]``: weights of the terms of the loss; 0 leaves one out.

    Attributes:
        contrastive: InfoNCE of translation against translation, both through the student (English by the student too).
        distil_contrastive: InfoNCE of the student's vectors against the teacher's of the batch and of the bank.
        distil_cosine: 1 - cosine to the teacher's vector.
        distil_mse: squared error to the teacher's vector.
        question: InfoNCE of questions against passages.
        mlm, tlm: masked language modelling on one text, and on a text with its translation.
        temperature, margin: of the contrastive terms.
        bank: other teacher vectors that serve as negatives beside those of the batch.
        matryoshka: lengths that the contrastive terms are also computed at.
    """

    contrastive: float = 0.0
    distil_contrastive: float = 1.0
    distil_cosine: float = 5.0
    distil_mse: float = 0.0
    question: float = 1.0
    mlm: float = 0.0
    tlm: float = 0.0
    temperature: float = 0.05
    margin: float = 0.0
    bank: int = 1_024
    matryoshka: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class OptimizerTable:
    """``[optimizer]``: AdamW; the embeddings are updated only in rows that a batch used.

    Attributes:
        steps: updates in all; the rate falls linearly to 0 at the last.
        rate, embedding_rate: highest learning rates of the body and of the token embeddings.
        warmup: steps of linear rise.
        weight_decay: of the body's matrices.
        max_norm: gradients of the body are scaled down to this norm.
        dropout: in the body.
        precision: ``float32`` or ``bfloat16`` (on a GPU that has it).
    """

    steps: int = 1_000
    rate: float = 2e-4
    embedding_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.01
    max_norm: float = 1.0
    dropout: float = 0.0
    precision: str = "float32"


@dataclass(frozen=True, slots=True)
class RunTable:
    """``[run]``: where a run keeps its work, and how often it saves and measures.

    Attributes:
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of the log.
        evaluate_every: steps between measurements on ``mlqa``; 0 measures at the end only.
        mlqa: the MLQA archive to measure on; nothing is measured without.
    """

    checkpoint_every: int = 250
    log_every: int = 25
    evaluate_every: int = 0
    mlqa: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """All of a run. Paths are relative to the folder of the recipe.

    Attributes:
        name: of the encoder.
        base, data, vocabulary, teacher, batches, loss, optimizer, run: the tables.
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
    vocabulary: VocabularyTable | None = None
    teacher: TeacherTable | None = None
    batches: BatchTable = field(default_factory=BatchTable)
    loss: LossTable = field(default_factory=LossTable)
    optimizer: OptimizerTable = field(default_factory=OptimizerTable)
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
        recipe = _table(cls, {**content, "folder": folder}, name)
        recipe._check(name)
        return recipe

    def fingerprint(self, *tables: str) -> str:
        """A hash of the named tables (all, without any), by which prepared data and checkpoints are known again."""
        content = dataclasses.asdict(self)
        del content["folder"]
        chosen = {key: content[key] for key in tables} if tables else content
        return hashlib.sha256(json.dumps(chosen, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def _check(self, name: str) -> None:
        batches, data, run = self.batches, self.data, self.run
        shares = (batches.terms, batches.passages, batches.questions, batches.english)
        weights = (data.default_weight, *data.languages.values(), *data.sources.values())
        counts = (data.sentences, data.term_pairs, data.passages, data.english, self.loss.bank, run.evaluate_every)
        checks: tuple[tuple[bool, str, object, str], ...] = (
            (self.seed >= 0, "seed", self.seed, "is 0 or more"),
            (
                min(shares) >= 0 and sum(shares) <= 1 + 1e-9,
                "batches",
                shares,
                "has shares from 0 to 1, in sum at most 1",
            ),
            (0 <= batches.mixed_languages <= 1, "batches.mixed_languages", batches.mixed_languages, "lies in 0 to 1"),
            (batches.texts > 0, "batches.texts", batches.texts, "is above 0"),
            (
                batches.tokens >= self.base.max_tokens > 2,
                "batches.tokens",
                batches.tokens,
                f"holds one text of base.max_tokens ({self.base.max_tokens}), which is above 2",
            ),
            (min(weights) >= 0, "data", min(weights), "has weights of 0 and more"),
            (min(counts) >= 0, "data, loss.bank, run.evaluate_every", min(counts), "have counts of 0 and more"),
            (data.passage_words > 0, "data.passage_words", data.passage_words, "is above 0"),
            (bool(data.parallel or data.questions), "data", "without files", "names parallel or questions files"),
            (self.base.pooling in ("mean", "cls"), "base.pooling", self.base.pooling, "is mean or cls"),
            (self.loss.temperature > 0, "loss.temperature", self.loss.temperature, "is above 0"),
            (min(self.loss.matryoshka, default=1) > 0, "loss.matryoshka", self.loss.matryoshka, "has lengths above 0"),
            (self.optimizer.steps > 0, "optimizer.steps", self.optimizer.steps, "is above 0"),
            (
                self.optimizer.precision in ("float32", "bfloat16"),
                "optimizer.precision",
                self.optimizer.precision,
                "is float32 or bfloat16",
            ),
            (min(run.checkpoint_every, run.log_every) > 0, "run", run, "has checkpoint_every and log_every above 0"),
            (
                self.teacher is not None or not self._distils(),
                "teacher",
                None,
                "is there when loss.distil_* is above 0",
            ),
        )
        for right, key, given, rule in checks:
            if not right:
                raise TrainingError(f"{name}: {key} is {given}", f"It must be so that {key} {rule}", "Mend the recipe")

    def _distils(self) -> bool:
        return self.loss.distil_contrastive > 0 or self.loss.distil_cosine > 0 or self.loss.distil_mse > 0


def _table(cls: type[T], content: Mapping[str, Any], where: str) -> T:
    """A dataclass from a table of TOML, its values checked against the fields' types."""
    fields = {entry.name: entry for entry in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in content:
        if key not in fields:
            raise TrainingError(
                f"{where} has the key {key!r}", f"Known keys: {', '.join(fields)}", "Mend the name, or remove the key"
            )
    for key, entry in fields.items():
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if required and key not in content:
            raise TrainingError(f"{where} lacks the key {key!r}", "It has no default", "Add it; see recipes/")
    return cls(**{key: _value(hints[key], value, f"{where}: {key}") for key, value in content.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _table(hint, value, where)  # type: ignore[arg-type]
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        if value in list(hint):
            return hint(value)
    elif origin is tuple and isinstance(value, list):
        part = typing.get_args(hint)[0]
        return tuple(_value(part, item, where) for item in value)
    elif origin is not None and isinstance(value, dict):
        part = typing.get_args(hint)[1]
        return {str(key): _value(part, item, f"{where}.{key}") for key, item in value.items()}
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise TrainingError(f"{where} is {value!r}", f"It must be {_words(hint)}", "Mend the value; see recipes/")


def _words(hint: Any) -> str:
    """What a value must be, for people."""
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return f"one of {', '.join(hint)}"
    if dataclasses.is_dataclass(hint):
        return "a table"
    kinds = {str: "text", int: "a whole number", float: "a finite number", bool: "true or false"}
    parts = [kinds.get(part, "") for part in typing.get_args(hint)]
    if typing.get_origin(hint) is tuple:
        return f"a list, each entry {parts[0]}"
    if parts:
        return f"a table, each value {parts[1]}"
    return kinds.get(hint, str(hint))
