"""The teacher's vectors of all English texts of a run, encoded once and kept on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.builtin import BuiltinEncoder
from xsearch.encoder.export import Precision, write_encoder
from xsearch.encoder.protocol import Encoder
from xsearch.errors import TrainingError

OnCount = Callable[[int, int], None]
CHUNK_TEXTS = 8_192


def teacher_encoder(model: Path, *, int8: bool, work: Path, device: str) -> Encoder:
    """The frozen teacher: as it is, or its int8 graph, that is exported to ``work`` first.

    Raises:
        EncoderError: ``int8`` was asked of a model that is not BERT with mean pooling.
    """
    if not int8:
        from xsearch.encoder.hub import HubEncoder

        return HubEncoder(str(model), device=device)
    write_encoder(model, work, Precision.INT8)
    return BuiltinEncoder(work)


def cached_vectors(
    path: Path, texts: Sequence[str], encoder: Encoder, *, on_count: OnCount | None = None
) -> NDArray[np.float16]:
    """The vectors of ``texts``, ``(n, dim) float16``, memory-mapped from ``path``; what was encoded before is kept.

    A killed run goes on after the last whole chunk.

    Raises:
        TrainingError: a vector holds NaN or infinity, or ``path`` is of other texts.
    """
    shape = (len(texts), encoder.dim)
    state = path.with_suffix(".json")
    done = _done(state, shape) if path.is_file() else 0
    mode = "r+" if done else "w+"
    vectors = np.lib.format.open_memmap(path, mode=mode, dtype=np.float16, shape=None if done else shape)
    for start in range(done, len(texts), CHUNK_TEXTS):
        if on_count is not None:
            on_count(start, len(texts))
        chunk = encoder.encode_passages(texts[start : start + CHUNK_TEXTS])
        if not np.isfinite(chunk).all():
            raise TrainingError(
                "The teacher gave NaN or infinity", "Every vector must be finite", "Check the teacher's weights"
            )
        vectors[start : start + len(chunk)] = chunk
        vectors.flush()
        state.write_text(json.dumps({"shape": shape, "done": start + len(chunk)}), encoding="utf-8")
    if on_count is not None:
        on_count(len(texts), len(texts))
    return np.load(path, mmap_mode="r")


def _done(state: Path, shape: tuple[int, int]) -> int:
    try:
        content = json.loads(state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
    return int(content["done"]) if tuple(content["shape"]) == shape else 0
