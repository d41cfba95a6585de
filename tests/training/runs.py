"""A small world to train in: three languages of a few words, a tiny encoder, and recipes of some steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from xsearch.training.prepared import Prepared
from xsearch.training.recipe import Recipe
from xsearch.training.selection import Example, Kind
from xsearch.training.student import EmbeddingTable, Student, frozen, load_body

WHO = [
    ("The dog", "Der Hund", "El perro"),
    ("A cat", "Eine Katze", "Un gato"),
    ("My teacher", "Mein Lehrer", "Mi maestro"),
    ("The old farmer", "Der alte Bauer", "El viejo granjero"),
    ("Her sister", "Ihre Schwester", "Su hermana"),
    ("The doctor", "Der Arzt", "El doctor"),
]
DOES = [
    ("sleeps", "schläft", "duerme"),
    ("waits", "wartet", "espera"),
    ("sings a song", "singt ein Lied", "canta una canción"),
    ("reads a long letter", "liest einen langen Brief", "lee una carta larga"),
    ("looks for water", "sucht Wasser", "busca agua"),
]
WHERE = [
    ("in the garden", "im Garten", "en el jardín"),
    ("behind the house", "hinter dem Haus", "detrás de la casa"),
    ("near the river this morning", "heute Morgen am Fluss", "cerca del río esta mañana"),
    ("at the market", "auf dem Markt", "en el mercado"),
]
LANGUAGES = ("en", "de", "es")


def sentences() -> list[tuple[str, str, str]]:
    """120 sentences in English, German and Spanish."""
    rows = []
    for who in WHO:
        for does in DOES:
            for where in WHERE:
                en, de, es = (f"{who[n]} {does[n]} {where[n]}." for n in range(3))
                rows.append((en, de, es))
    return rows


def examples() -> list[Example]:
    """Some of each kind; a passage is three sentences."""
    rows = sentences()
    found = []
    for place, lang in ((1, "de"), (2, "es")):
        found += [Example(Kind.SENTENCE, lang, row[place], row[0], "talk") for row in rows]
        found += [Example(Kind.TERM, lang, row[place], row[0], "words") for row in (*WHO, *WHERE)]
        for start in range(0, 60, 3):
            run = rows[start : start + 3]
            found.append(
                Example(
                    Kind.PASSAGE, lang, " ".join(row[place] for row in run), " ".join(row[0] for row in run), "talk"
                )
            )
    found += [Example(Kind.ENGLISH, "en", row[0], row[0], "english") for row in rows[:40]]
    for who in WHO:
        passage = " ".join(f"{who[0]} {does[0]} {WHERE[0][0]}." for does in DOES)
        found.append(Example(Kind.QUESTION, "en", f"What does {who[0].lower()} do?", passage, "quiz"))
    return found


def recipe(folder: Path, **tables: Mapping[str, Any]) -> Recipe:
    """A recipe of six steps, in which the given tables' keys replace those here."""
    content: dict[str, Any] = {
        "name": "tiny",
        "seed": 7,
        "base": {"model": "model", "max_tokens": 40},
        "data": {"parallel": ["*.tsv"], "languages": {"de": 1, "es": 1}},
        "batches": {"tokens": 160, "texts": 16, "terms": 0.1, "passages": 0.2, "questions": 0.1, "english": 0.1},
        "loss": {"distil_contrastive": 0, "distil_cosine": 0, "contrastive": 1, "bank": 20},
        "optimizer": {"steps": 6, "rate": 1e-3, "warmup": 2},
        "run": {"checkpoint_every": 2, "log_every": 1},
    }
    for name, table in tables.items():
        if table is None:
            content.pop(name, None)
        elif isinstance(table, Mapping):
            content[name] = {**content.get(name, {}), **table}
        else:
            content[name] = table
    return Recipe.from_dict(content, folder)


DISTILS: Mapping[str, Mapping[str, Any]] = {
    "teacher": {"model": "teacher"},
    "loss": {"distil_contrastive": 1, "distil_cosine": 5, "contrastive": 0},
}
CONTRASTS: Mapping[str, Mapping[str, Any]] = {"batches": {"english": 0}}


def tokenizer_of(model: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def student_of(model: Path, *, dropout: float = 0.0, pooling: str = "mean", pad: int = 0) -> Student:
    body, embeddings = load_body(model, dropout=dropout)
    return Student(body, EmbeddingTable(embeddings, pad), pooling)


class TinyBody(torch.nn.Module):
    """An encoder of torch alone, for processes that would load nothing else: a token, mixed with the mean of all."""

    def __init__(self, dim: int = 32, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.embedding = frozen(torch.zeros(1, dim))
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(2 * dim, dim), torch.nn.GELU(), torch.nn.Dropout(dropout), torch.nn.Linear(dim, dim)
            )
            self.norm = torch.nn.LayerNorm(dim)
        self.config = SimpleNamespace(hidden_size=dim, model_type="tiny")

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.embedding

    def forward(self, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        weight = attention_mask[..., None].float()
        mean = (inputs_embeds * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        both = torch.cat([inputs_embeds, mean.expand_as(inputs_embeds)], dim=-1)
        return SimpleNamespace(last_hidden_state=self.norm(inputs_embeds + self.layers(both)))


def tiny_student(model: Path, *, dropout: float = 0.0) -> Student:
    """With the vocabulary of a model, and nothing else of it."""
    size = tokenizer_of(model).get_vocab_size()
    rows = torch.randn(size, 32, generator=torch.Generator().manual_seed(4)) * 0.1
    return Student(TinyBody(dropout=dropout), EmbeddingTable(rows, 0), "mean")


def static_student(model: Path, dim: int = 16) -> Student:
    size = tokenizer_of(model).get_vocab_size()
    draw = torch.Generator().manual_seed(4)
    return Student(None, EmbeddingTable(torch.randn(size, dim, generator=draw) * 0.1, 0), "mean")


def prepared_of(model: Path, max_tokens: int = 40) -> Prepared:
    return Prepared.build(examples(), tokenizer_of(model), max_tokens)


def teacher_vectors(prepared: Prepared, dim: int = 32) -> NDArray[np.float16]:
    """A random unit vector for each English side."""
    rows = np.random.default_rng(3).normal(size=(int(prepared.teacher_rows.max()) + 1, dim))
    vectors: NDArray[np.float16] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    return vectors


def write_data(folder: Path) -> None:
    """The sentences as parallel files beside a recipe, and questions."""
    for place, lang in ((1, "de"), (2, "es")):
        lines = [f"{row[0]}\t{row[place]}\n" for row in sentences()]
        (folder / f"talk.en-{lang}.tsv").write_text("".join(lines), encoding="utf-8")
    with (folder / "quiz.en.jsonl").open("w", encoding="utf-8") as file:
        for example in examples():
            if example.kind is Kind.QUESTION:
                row = {"question": example.text, "context": example.english, "answers": ["it sleeps"]}
                file.write(json.dumps(row) + "\n")
