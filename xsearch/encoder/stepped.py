"""An encoder followed by a linear step, the file that keeps a step, and the folder that names an encoder and its step.

A step lies in ``xsearch_step.npz``: ``matrix``, ``query_offset``, ``passage_offset`` (float32) and ``about``, the bytes
of a JSON object with the digest of the encoder that it was fitted for, the facts of the fit, and the step's own digest.
In the folder of a sentence-transformers model it follows that model. In a folder with ``xsearch_debiased.json`` it
follows the encoder which that file names.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xsearch.encoder.fingerprint import Fingerprint
from xsearch.encoder.protocol import Encoder, OnProgress, Vectors
from xsearch.encoder.step import LinearStep
from xsearch.errors import EncoderError

STEP_FILE = "xsearch_step.npz"
REFERENCE_FILE = "xsearch_debiased.json"
_ARRAYS = ("matrix", "query_offset", "passage_offset")
# 16,384 dimensions squared in float32; what claims more is not a step.
_MAX_NUMBERS = 2**28


class SteppedEncoder:
    """An encoder whose sentence vectors go through a step; token vectors and all else are the encoder's own.

    Args:
        encoder: the one that the step was fitted for.
        name: of the fingerprint; that of the encoder by default.

    Raises:
        EncoderError: the step was fitted for another encoder.
    """

    def __init__(self, encoder: Encoder, step: LinearStep, *, name: str | None = None) -> None:
        check_fits(step, encoder)
        self.encoder = encoder
        self.step = step
        self.dim = step.dim_out
        self.max_tokens = encoder.max_tokens
        self.overhead_tokens = encoder.overhead_tokens
        self._name = name

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The encoder's, with the step in it."""
        return stepped_fingerprint(self.encoder.fingerprint, self.step, name=self._name)

    def encode_queries(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        """``(n, dim) float32, rows L2-normalised``, in the order of ``texts``."""
        return self.step.queries(self.encoder.encode_queries(texts, on_progress=on_progress))

    def encode_passages(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        """``(n, dim) float32, rows L2-normalised``, in the order of ``texts``."""
        return self.step.passages(self.encoder.encode_passages(texts, on_progress=on_progress))

    def token_vectors(self, texts: Sequence[str]) -> list[Vectors]:
        """Those of the encoder, which the step does not touch."""
        return self.encoder.token_vectors(texts)

    def token_offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Those of the encoder."""
        return self.encoder.token_offsets(texts)

    def unknown_characters(self, texts: Sequence[str]) -> list[int]:
        """Those of the encoder."""
        return self.encoder.unknown_characters(texts)


def stepped_fingerprint(bare: Fingerprint, step: LinearStep, *, name: str | None = None) -> Fingerprint:
    """The fingerprint of an encoder that the step follows."""
    steps = "+".join(part for part in (bare.step, step.digest) if part)
    return replace(bare, step=steps, dim=step.dim_out, name=bare.name if name is None else name)


def check_fits(step: LinearStep, encoder: Encoder) -> None:
    """Refuses a step that was fitted for another encoder.

    Raises:
        EncoderError
    """
    if step.dim != encoder.dim:
        raise EncoderError(
            f"The step takes vectors of {step.dim} dimensions, and {encoder.fingerprint.name} gives {encoder.dim}",
            "A step follows the encoder that it was fitted for",
            "Fit one for this encoder: xsearch debias ENCODER -o FOLDER --parallel FILE...",
        )
    if step.encoder != encoder.fingerprint.digest:
        raise EncoderError(
            f"The step was fitted for the encoder {step.encoder[:12]}, and this is {encoder.fingerprint}",
            "A step follows the encoder that it was fitted for, with the same weights, tokenizer and prompts",
            "Fit one for this encoder: xsearch debias ENCODER -o FOLDER --parallel FILE...",
        )


def write_step(folder: Path, step: LinearStep) -> Path:
    """Writes ``xsearch_step.npz`` into a folder, which is made if it is not there; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / STEP_FILE
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_bytes(step_bytes(step))
    temporary.replace(path)
    return path


def read_step(folder: Path) -> LinearStep | None:
    """The step in a folder; ``None`` where there is none.

    Raises:
        EncoderError: the file is damaged.
    """
    path = folder / STEP_FILE
    if not path.exists():
        return None
    try:
        return step_from_bytes(path.read_bytes())
    except OSError as exc:
        raise _damaged(str(path), f"cannot be read ({exc.strerror})") from exc
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, NotImplementedError) as exc:
        raise _damaged(str(path), f"is not one ({exc})") from exc


def step_bytes(step: LinearStep) -> bytes:
    """The content of a step's file; the same bytes for the same step."""
    about = {"encoder": step.encoder, "facts": dict(step.facts), "digest": step.digest}
    matrix, query_offset, passage_offset = (np.ascontiguousarray(getattr(step, name), dtype="<f4") for name in _ARRAYS)
    text = np.frombuffer(json.dumps(about, ensure_ascii=False, sort_keys=True).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, matrix=matrix, query_offset=query_offset, passage_offset=passage_offset, about=text)
    return buffer.getvalue()


def step_from_bytes(content: bytes) -> LinearStep:
    """The step that :func:`step_bytes` wrote.

    Raises:
        ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, NotImplementedError: the bytes are damaged.
        EncoderError: they hold what is not a step.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        # What a header says of a size is believed by whoever unpacks it.
        if sum(member.file_size for member in packed.infolist()) > 4 * _MAX_NUMBERS:
            raise ValueError("it is larger than any step")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in _ARRAYS}
        about: Any = json.loads(arrays["about"].tobytes())
    wrong = [name for name, array in found.items() if array.dtype != np.float32]
    if wrong or not isinstance(about, dict) or not isinstance(about.get("facts"), Mapping):
        raise ValueError(f"{wrong[0] if wrong else 'about'} is of another type")
    step = LinearStep(**found, encoder=str(about["encoder"]), facts=about["facts"])
    if step.digest != about["digest"]:
        raise ValueError("its numbers are not those that were written")
    return step


def write_reference(folder: Path, encoder: str, step: LinearStep) -> None:
    """Makes a folder that stands for an encoder and the step after it.

    Args:
        folder: made if it is not there.
        encoder: a name that :func:`xsearch.encoder.load.load_encoder` takes; of a local folder, its absolute path.
    """
    write_step(folder, step)
    path = folder / REFERENCE_FILE
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_text(json.dumps({"encoder": encoder, "step": STEP_FILE}, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_reference(folder: Path) -> str | None:
    """The name of the encoder that a folder of :func:`write_reference` stands for; ``None`` for any other folder.

    Raises:
        EncoderError: its file is damaged.
    """
    path = folder / REFERENCE_FILE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise _damaged(str(path), f"cannot be read ({exc})") from exc
    if not isinstance(found, dict) or not isinstance(found.get("encoder"), str) or not found["encoder"]:
        raise _damaged(str(path), "does not name an encoder")
    return str(found["encoder"])


def _damaged(place: str, problem: str) -> EncoderError:
    return EncoderError(
        f"{place} {problem}",
        "It must be what xsearch debias wrote",
        "Fit the step again: xsearch debias ENCODER -o FOLDER --parallel FILE...",
    )
