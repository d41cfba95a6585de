"""What makes two vectors comparable: the identity of the encoder that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xsearch.errors import FingerprintMismatchError


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Everything about an encoder that changes its vectors.

    Attributes:
        name: for people: ``builtin``, or the name or folder of the model. Not compared.
        weights: SHA-256 of the weights file(s).
        tokenizer: SHA-256 of the tokenizer file(s).
        pooling: ``mean``, ``cls``, ``lasttoken`` ...
        query_prompt, passage_prompt: put before the text on each side.
        max_tokens, dim: what is read, what comes out.
        dtype: the arithmetic, e.g. ``int8`` or ``float32``.
        step: digest of the linear step that follows the encoder, empty where none does.
    """

    name: str
    weights: str
    tokenizer: str
    pooling: str
    query_prompt: str
    passage_prompt: str
    max_tokens: int
    dim: int
    dtype: str
    step: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 over every field but the name, hexadecimal."""
        fields = {key: value for key, value in self.to_dict().items() if key != "name"}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.name} ({self.dim} dimensions, {self.digest[:12]})"

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON-serialisable values; no step is left out, as if there were no such field.

        So the digests of encoders without one are what they were before there were steps.
        """
        fields = asdict(self)
        if not self.step:
            del fields["step"]
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Fingerprint:
        """The fingerprint that :meth:`to_dict` wrote."""
        return cls(**fields)


def check_same(stored: Fingerprint, given: Fingerprint, *, index: str) -> None:
    """Refuses an encoder whose vectors do not belong with those of the index.

    Raises:
        FingerprintMismatchError: names both encoders, what differs, and the ways out.
    """
    if stored.digest == given.digest:
        return
    old, new = asdict(stored), asdict(given)
    differing = ", ".join(f"{key} {_short(old[key])} / {_short(new[key])}" for key in old if old[key] != new[key])
    raise FingerprintMismatchError(
        f"The index {index} was built with the encoder {stored}, the one given is {given}; they differ in: {differing}",
        "Vectors of two encoders cannot be compared, even where their dimensions agree",
        f"Search with --encoder {stored.name}, or build a new index with --encoder {given.name}",
    )


def hash_files(*paths: Path) -> str:
    """SHA-256 over the bytes of the files, in the order given, hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 24 else f"{text[:12]}..."
