"""The teacher's vectors of all English texts of a run, encoded once and kept on disk."""

from __future__ import annotations

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
    path: Path, texts: Sequence[str], wanted: NDArray[np.int64], encoder: Encoder, *, on_count: OnCount | None = None
) -> NDArray[np.float16]:
    """The vectors of ``texts``, ``(n, dim) float16``, memory-mapped from ``path``.

    Only the ``wanted`` rows are sure to be there; the others are zero until a run wants them. What was encoded before is
    kept: a killed run goes on after the last whole chunk, and a longer run encodes what it needs besides.

    Args:
        wanted: rows; encoded by length, so that little is padded.

    Raises:
        TrainingError: a vector holds NaN or infinity.
    """
    known = _known(path, len(texts), encoder.dim)
    mode = "r+" if known.any() else "w+"
    shape = None if known.any() else (len(texts), encoder.dim)
    vectors = np.lib.format.open_memmap(path, mode=mode, dtype=np.float16, shape=shape)
    missing = np.unique(wanted[~known[wanted]])
    for start in range(0, len(missing), CHUNK_TEXTS):
        if on_count is not None:
            on_count(start, len(missing))
        rows = missing[start : start + CHUNK_TEXTS]
        chunk = encoder.encode_passages([texts[row] for row in rows])
        if not np.isfinite(chunk).all():
            raise TrainingError(
                "The teacher gave NaN or infinity", "Every vector must be finite", "Check the teacher's weights"
            )
        vectors[rows] = chunk
        vectors.flush()
        known[rows] = True
        np.save(_known_path(path), known, allow_pickle=False)
    if on_count is not None:
        on_count(len(missing), len(missing))
    stored: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    return stored


def _known(path: Path, count: int, dim: int) -> NDArray[np.bool_]:
    """Which rows of ``path`` hold vectors."""
    none = np.zeros(count, dtype=np.bool_)
    try:
        known: NDArray[np.bool_] = np.load(_known_path(path), allow_pickle=False)
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (OSError, ValueError):
        return none
    return known if known.shape == none.shape and shape == (count, dim) else none


def _known_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.known.npy")
