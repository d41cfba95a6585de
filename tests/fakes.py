"""A small encoder for tests: words become fixed vectors, texts the sum of their words, and every call is remembered."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from xsearch.encoder.fingerprint import Fingerprint
from xsearch.encoder.protocol import OnProgress, Vectors, unit_vectors
from xsearch.records import Document

DIM = 16
TOKEN = re.compile(r"\S{1,6}")


@lru_cache(maxsize=100_000)
def _word(word: str, salt: str) -> Vectors:
    digest = hashlib.sha256(f"{salt}/{word.lower()}".encode("utf-8", "surrogatepass")).digest()
    return np.frombuffer(digest, dtype=np.int8)[:DIM].astype(np.float32)


def embed(texts: Sequence[str], salt: str = "fake") -> Vectors:
    """``(n, 16) float32, rows L2-normalised``: the sum of the texts' tokens, and a little of something always there."""
    rows = np.zeros((len(texts), DIM), dtype=np.float32)
    for place, text in enumerate(texts):
        rows[place] = sum((_word(token, salt) for token in TOKEN.findall(text)), _word("", salt) / 8)
    return unit_vectors(rows)


class FakeEncoder:
    """An encoder that needs no model.

    Args:
        name: of the fingerprint; two names are two encoders of the same dimension.
        delay_s: slept in every call, so that a test can come in between.
        spoil: gets the number of the call (from 1) and its vectors, and returns others or raises.
    """

    dim = DIM
    overhead_tokens = 2

    def __init__(
        self,
        name: str = "fake",
        *,
        max_tokens: int = 64,
        delay_s: float = 0.0,
        spoil: Callable[[int, Vectors], Vectors] | None = None,
    ) -> None:
        self.name = name
        self.max_tokens = max_tokens
        self._delay_s = delay_s
        self._spoil = spoil
        self.calls: list[list[str]] = []

    @property
    def encoded(self) -> list[str]:
        """Every passage that was ever encoded, as it came, title included."""
        return [text for call in self.calls for text in call]

    def encode_queries(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        return embed(texts, self.name)

    def encode_passages(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        self.calls.append(list(texts))
        if self._delay_s:
            time.sleep(self._delay_s)
        vectors = embed(texts, self.name)
        return vectors if self._spoil is None else self._spoil(len(self.calls), vectors)

    def token_vectors(self, texts: Sequence[str]) -> list[Vectors]:
        return [
            np.array([_word(token, self.name) for token in TOKEN.findall(text)], dtype=np.float32).reshape(-1, DIM)
            for text in texts
        ]

    def unknown_characters(self, texts: Sequence[str]) -> list[int]:
        """None: it knows every character but U+2603."""
        return [text.count("\u2603") for text in texts]

    def token_offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        return [[match.span() for match in TOKEN.finditer(text)] for text in texts]

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(
            name=self.name,
            weights=hashlib.sha256(self.name.encode()).hexdigest(),
            tokenizer="words",
            pooling="mean",
            query_prompt="",
            passage_prompt="",
            max_tokens=self.max_tokens,
            dim=DIM,
            dtype="float32",
        )


def docs(*texts: str, lang: str = "en", **fields: str) -> list[Document]:
    """Documents ``d1``, ``d2`` ... with these texts."""
    return [Document(f"d{number}", text, lang=lang, **fields) for number, text in enumerate(texts, 1)]  # type: ignore[arg-type]


def numbered(count: int, *, start: int = 0) -> list[Document]:
    """Documents with ids, texts, languages and metadata that follow from their numbers; some of several passages."""
    return [
        Document(
            f"doc-{number:05d}",
            " ".join(f"word{number} part{place} number{number * place % 97}." for place in range(1 + number % 7 * 4)),
            title=f"Title {number}" if number % 3 == 0 else "",
            lang=("en", "de", "zh-Hant", "ar")[number % 4],
            source=f"file-{number % 5}.txt",
            metadata={"number": number, "even": number % 2 == 0},
        )
        for number in range(start, start + count)
    ]
