"""The folder of an exported encoder: what its configuration says, and the check of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from xsearch.encoder.fingerprint import hash_files
from xsearch.errors import EncoderError, EncoderNotFoundError

CONFIG_FILE = "xsearch_encoder.json"
WEIGHTS_FILE = "weights.bin"
TOKENIZER_FILE = "tokenizer.json"
# Of the folder. Written into it; a folder of another format is refused.
FORMAT = 2


class Precision(StrEnum):
    """The arithmetic of the body: all layers, but not the embeddings."""

    FLOAT32 = "float32"
    INT8 = "int8"


# The graph of each arithmetic. They share one file of weights.
GRAPH_FILES: Mapping[Precision, str] = {Precision.FLOAT32: "model-float32.onnx", Precision.INT8: "model-int8.onnx"}


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """What the tokenizer puts around a text, and what it reads where it knows no piece.

    Attributes:
        before, after: tokens at either end of every text.
        unknown: stands for what the vocabulary lacks.
    """

    before: tuple[str, ...]
    after: tuple[str, ...]
    unknown: str


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """What ``xsearch_encoder.json`` holds.

    Attributes:
        dim: of a text's vector.
        token_dim: of a token's vector.
        max_tokens: tokens that are read, special ones and prompt included.
        dtype: how the weights are stored, for the fingerprint.
        query_prompt, passage_prompt: put before the text, by door.
        special: the tokenizer's own tokens.
        bodies: the arithmetics that the folder has a graph for.
        step: what is known of the linear step in the graph: its digest, its encoder, how it was fitted; empty without.
        sha256: of every file but this one.
    """

    dim: int
    token_dim: int
    max_tokens: int
    dtype: str
    query_prompt: str
    passage_prompt: str
    special: SpecialTokens
    bodies: tuple[Precision, ...]
    step: Mapping[str, Any]
    sha256: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> EncoderConfig:
        """The configuration of the encoder in ``folder``.

        Raises:
            EncoderNotFoundError: a file of the folder is missing.
            EncoderError: the configuration is of another format, or not a valid one.
        """
        path = folder / CONFIG_FILE
        if not path.is_file():
            raise _missing(folder, CONFIG_FILE)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found = content.get("format", 1)
        except (ValueError, AttributeError) as exc:
            raise _invalid(path, exc) from exc
        if found != FORMAT:
            raise EncoderError(
                f"The encoder in {folder} has the format {found}",
                f"This version of xsearch reads the format {FORMAT}",
                "Export the encoder again, or install the version of xsearch that it was exported with",
            )
        try:
            config = cls._parsed(content)
        except (ValueError, KeyError, TypeError) as exc:
            raise _invalid(path, exc) from exc
        for name in config.sha256:
            if not (folder / name).is_file():
                raise _missing(folder, name)
        return config

    @classmethod
    def _parsed(cls, content: Mapping[str, Any]) -> EncoderConfig:
        special = content["special_tokens"]
        config = cls(
            dim=_count(content["dim"]),
            token_dim=_count(content["token_dim"]),
            max_tokens=_count(content["max_tokens"]),
            dtype=_text(content["dtype"]),
            query_prompt=_text(content["query_prompt"]),
            passage_prompt=_text(content["passage_prompt"]),
            special=SpecialTokens(
                before=tuple(map(_text, special["before"])),
                after=tuple(map(_text, special["after"])),
                unknown=_text(special["unknown"]),
            ),
            bodies=tuple(map(Precision, content["bodies"])),
            step=dict(content["step"]),
            sha256={_text(name): _text(digest) for name, digest in dict(content["sha256"]).items()},
        )
        needed = {WEIGHTS_FILE, TOKENIZER_FILE, *(GRAPH_FILES[body] for body in config.bodies)}
        if not config.bodies or set(config.sha256) != needed:
            raise ValueError("sha256 must name the weights, the tokenizer and a graph for each of the bodies")
        return config

    def write(self, folder: Path) -> None:
        """Writes the configuration into ``folder``."""
        fields = asdict(self)
        fields["special_tokens"] = fields.pop("special")
        content = json.dumps({"format": FORMAT, **fields}, indent=2, ensure_ascii=False)
        (folder / CONFIG_FILE).write_text(content + "\n", encoding="utf-8")

    @property
    def weights_digest(self) -> str:
        """SHA-256 over those of the weights and the graphs, hexadecimal."""
        hashes = {name: digest for name, digest in self.sha256.items() if name != TOKENIZER_FILE}
        return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()

    def check_file(self, folder: Path, name: str) -> Path:
        """The path of a file whose bytes are those that were exported.

        Raises:
            EncoderError: they are others.
        """
        self._check_digest(folder / name, hash_files(folder / name))
        return folder / name

    def read_file(self, folder: Path, name: str) -> bytes:
        """The bytes of a file, which are those that were exported.

        Raises:
            EncoderError: they are others.
        """
        content = (folder / name).read_bytes()
        self._check_digest(folder / name, hashlib.sha256(content).hexdigest())
        return content

    def _check_digest(self, path: Path, found: str) -> None:
        expected = self.sha256[path.name]
        if found != expected:
            raise EncoderError(
                f"{path} is damaged: its SHA-256 is {found[:12]}..., not {expected[:12]}...",
                f"It must be the file that {CONFIG_FILE} beside it describes",
                "Install xsearch again, or export the encoder again",
            )


def _missing(folder: Path, name: str) -> EncoderNotFoundError:
    return EncoderNotFoundError(
        f"The encoder folder {folder} has no {name}",
        f"It must hold {CONFIG_FILE} and the files that it names",
        "Install xsearch again, or name another folder with --encoder",
    )


def _invalid(path: Path, exc: Exception) -> EncoderError:
    return EncoderError(
        f"{path} is not a valid encoder configuration: {exc!r}",
        "It must be JSON as the export writes it",
        "Export the encoder again",
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise TypeError(f"{value!r} is not a whole number above 0")
    return value
