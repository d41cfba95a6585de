"""An encoder with a language bias, and parallel text in made-up languages, for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.fakes import DIM, FakeEncoder
from xsearch.encoder.fingerprint import Fingerprint
from xsearch.encoder.protocol import OnProgress, Vectors, unit_vectors

BIAS = 6.0
AXES = {"de": 0, "fr": 1, "nl": 2}
ADJECTIVES = ("quick", "lazy", "green", "heavy", "quiet", "proud", "early", "round")
NOUNS = ("ferry", "baker", "tower", "garden", "letter", "winter", "sailor", "market")


def english(row: int) -> str:
    """A sentence of five words; 64 differ."""
    return f"the {ADJECTIVES[row % 8]} one sees {NOUNS[row // 8 % 8]} here{row // 64 or ''}"


def translated(lang: str, row: int) -> str:
    """The same sentence as it is in a language whose words end in the language's code."""
    return " ".join(f"{word}{lang}" for word in english(row).split())


def write_parallel(folder: Path, lang: str, rows: range, *, origin: str = "news") -> Path:
    """A file of parallel text."""
    path = folder / f"{origin}.en-{lang}.tsv"
    path.write_text("".join(f"{english(row)}\t{translated(lang, row)}\n" for row in rows), encoding="utf-8")
    return path


class BiasedEncoder(FakeEncoder):
    """Knows what a sentence of :func:`translated` says, and gives the language an axis of its own.

    Args:
        query_bias: how much a query's vector tells the language more than a passage's.
        prompts: whether the doors have prompts, by which they are known to differ.
    """

    def __init__(self, name: str = "biased", *, query_bias: float = 1.0, prompts: bool = False) -> None:
        super().__init__(name)
        self._query_bias = query_bias
        self._prompts = prompts
        self.queries: list[str] = []

    def encode_queries(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        self.queries += texts
        return self._encode(texts, BIAS * self._query_bias)

    def encode_passages(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        self.calls.append(list(texts))
        return self._encode(texts, BIAS)

    @property
    def fingerprint(self) -> Fingerprint:
        prompt = "query: " if self._prompts else ""
        return replace(super().fingerprint, query_prompt=prompt)

    def _encode(self, texts: Sequence[str], bias: float) -> Vectors:
        rows = np.zeros((len(texts), DIM), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            lang = next((lang for lang in AXES if all(word.endswith(lang) for word in text.split())), "")
            row[4:] = sum(_meaning(word.removesuffix(lang)) for word in text.split())
            row[3] = 4.0
            if lang:
                row[AXES[lang]] = bias
        return unit_vectors(rows)


def _meaning(word: str) -> Vectors:
    digest = np.frombuffer(hashlib.sha256(word.encode()).digest()[: DIM - 4], dtype=np.uint8)
    return (digest.astype(np.float32) - 127.5) / 100
