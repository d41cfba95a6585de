"""A small bilingual world: a fake encoder, MLQA-shaped files, and the task they make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xsearch.encoder.fingerprint import Fingerprint
from xsearch.encoder.protocol import OnProgress, Vectors, unit_vectors

# Concepts by word: the fake encoder knows that these mean the same.
CONCEPTS = {"cat": 0, "Katze": 0, "dog": 1, "Hund": 1, "bird": 2, "Vogel": 2, "fish": 3, "Fisch": 3}


class FakeEncoder:
    """Counts known words; a token is a run of non-blanks, and a prompt takes two of them."""

    dim = 8
    max_tokens = 8
    overhead_tokens = 2

    def __init__(self, *, name: str = "fake", noise: float = 0.0) -> None:
        self.name = name
        self.noise = noise
        self.encoded: list[tuple[str, str]] = []

    def encode_queries(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        return self._encode("query", texts)

    def encode_passages(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        return self._encode("passage", texts)

    def token_vectors(self, texts: Sequence[str]) -> list[Vectors]:
        raise NotImplementedError

    def token_offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        return [[(0, len(word)) for word in text.split()] for text in texts]

    def unknown_characters(self, texts: Sequence[str]) -> list[int]:
        return [text.count("☃") for text in texts]

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.name, "w", "t", "mean", "", "", self.max_tokens, self.dim, "float32")

    def _encode(self, side: str, texts: Sequence[str]) -> Vectors:
        self.encoded += [(side, text) for text in texts]
        rows = np.full((len(texts), self.dim), 0.01, dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.replace(".", " ").replace("?", " ").split():
                if word in CONCEPTS:
                    row[CONCEPTS[word]] += 1.0
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
            row += self.noise * np.random.default_rng(seed).normal(size=self.dim).astype(np.float32)
        return unit_vectors(rows)


def squad(paragraphs: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> dict[str, Any]:
    """SQuAD's layout of (context, [(id, question)])."""
    return {
        "version": "1.0",
        "data": [
            {
                "title": "t",
                "paragraphs": [
                    {
                        "context": context,
                        "qas": [{"id": qid, "question": question, "answers": []} for qid, question in qas],
                    }
                ],
            }
            for context, qas in paragraphs
        ],
    }


EN = ["The cat sleeps.", "The dog barks.", "A bird sings.", "The fish swims in a pond that is deep."]
DE = ["Die Katze schläft.", "Der Hund bellt.", "Ein Vogel singt.", "Der Fisch schwimmt."]
EN_Q = ["Who is the cat?", "Where is the dog?", "Which bird?", "What fish?"]
DE_Q = ["Wer ist die Katze?", "Wo ist der Hund?", "Welcher Vogel?", "Was für ein Fisch?"]


@pytest.fixture
def mlqa_files() -> Mapping[str, Any]:
    """The four dev files of a small MLQA in English and German, by name."""
    files = {}
    for doc, contexts in (("en", EN), ("de", DE)):
        for query, questions in (("en", EN_Q), ("de", DE_Q)):
            rows = [(context, [(f"id{i}", questions[i])]) for i, context in enumerate(contexts)]
            files[f"dev-context-{doc}-question-{query}.json"] = squad(rows)
    return files


@pytest.fixture
def write_files(tmp_path: Path) -> Callable[[Mapping[str, Any]], Path]:
    """Writes files by name into a folder of a folder, and gives the outer one."""

    def write(files: Mapping[str, Any]) -> Path:
        inner = tmp_path / "data" / "MLQA_V1" / "dev"
        inner.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (inner / name).write_text(json.dumps(content), encoding="utf-8")
        return tmp_path / "data"

    return write
