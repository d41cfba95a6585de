"""Where a student with a new vocabulary starts from, on disk: its tokenizer and first embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from xsearch.errors import TrainingError

TOKENIZER_FILE = "tokenizer.json"
EMBEDDINGS_FILE = "embeddings.npy"
STATE_FILE = "state.json"


@dataclass(frozen=True, slots=True)
class Start:
    """A tokenizer, and the embeddings of its pieces.

    Attributes:
        tokenizer: of all languages.
        embeddings: (pieces, dim) float32.
    """

    tokenizer: Tokenizer
    embeddings: NDArray[np.float32]


def save_start(folder: Path, start: Start, fingerprint: str, facts: Mapping[str, int]) -> None:
    """Writes tokenizer and embeddings; the file that says whose they are, with some ``facts``, comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STATE_FILE).unlink(missing_ok=True)
    np.save(folder / EMBEDDINGS_FILE, start.embeddings, allow_pickle=False)
    start.tokenizer.save(str(folder / TOKENIZER_FILE))
    (folder / STATE_FILE).write_text(json.dumps({"fingerprint": fingerprint, **facts}), encoding="utf-8")


def load_start(folder: Path, fingerprint: str) -> Start | None:
    """What :func:`save_start` wrote; None where there is nothing, or another recipe's.

    Raises:
        TrainingError: a file is damaged.
    """
    try:
        facts = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(facts, dict) or facts.get("fingerprint") != fingerprint:
        return None
    tokenizer = read_tokenizer(folder)
    try:
        embeddings: NDArray[np.float32] = np.load(folder / EMBEDDINGS_FILE, allow_pickle=False)
    except (OSError, ValueError, EOFError) as exc:
        raise _damaged(folder / EMBEDDINGS_FILE, str(exc)) from exc
    if len(embeddings) != tokenizer.get_vocab_size():
        raise _damaged(folder, f"{len(embeddings)} embeddings for {tokenizer.get_vocab_size()} pieces")
    return Start(tokenizer, embeddings)


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a folder.

    Raises:
        TrainingError: it cannot be read.
    """
    path = folder / TOKENIZER_FILE
    try:
        text = path.read_text(encoding="utf-8")
        json.loads(text)  # what the library raises of half a file is a bare Exception
    except (OSError, ValueError) as exc:
        raise _damaged(path, str(exc)) from exc
    return Tokenizer.from_str(text)


def _damaged(path: Path, what: str) -> TrainingError:
    return TrainingError(
        f"{path} is damaged: {what}",
        "A tokenizer, with an embedding for each of its pieces, was expected",
        "Fetch the model again; of a run's own folder, delete it: the next run makes it anew",
    )
