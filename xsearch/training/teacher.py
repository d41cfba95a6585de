"""The teacher's vectors of all English texts of a run, encoded once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.builtin import BuiltinEncoder
from xsearch.encoder.export import INT8, write_encoder
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
    write_encoder(model, work, INT8)
    return BuiltinEncoder(work)


def cached_vectors(
    path: Path,
    texts: Sequence[str],
    wanted: NDArray[np.int64],
    load: Callable[[], Encoder],
    *,
    key: str,
    on_count: OnCount | None = None,
) -> NDArray[np.float16]:
    """The vectors of ``texts``, ``(n, dim) float16``, memory-mapped from ``path``.

    Only the ``wanted`` rows are sure to be there; the others are zero until a run wants them. What was encoded before
    is kept: a killed run goes on after the last whole chunk, and a longer run encodes what it needs besides.

    Args:
        wanted: rows.
        load: gives the teacher; called only when there is something to encode.
        key: of the teacher. Vectors of another one, or of other texts, are not taken for these.

    Raises:
        TrainingError: a vector holds NaN or infinity, or the disk has no room for the vectors.
    """
    key = _key(key, texts)
    known = _known(path, len(texts), key)
    missing = np.unique(wanted[~known[wanted]])
    if len(missing) or not known.any():
        _encode(path, texts, missing, known, load(), key, on_count)
    stored: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    return stored


def _encode(
    path: Path,
    texts: Sequence[str],
    missing: NDArray[np.int64],
    known: NDArray[np.bool_],
    encoder: Encoder,
    key: str,
    on_count: OnCount | None,
) -> None:
    """Fills in the ``missing`` rows; after each chunk it is on disk which rows are known."""
    if known.any():
        vectors = np.lib.format.open_memmap(path, mode="r+")
    else:
        _check_room(path, len(texts) * encoder.dim * np.dtype(np.float16).itemsize)
        for old in (_key_path(path), _known_path(path), path):  # not written over: another run may read them
            old.unlink(missing_ok=True)
        vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(len(texts), encoder.dim))
        _save_known(path, known)
        _key_path(path).write_text(json.dumps({"key": key}), encoding="utf-8")
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
        _save_known(path, known)
    if on_count is not None:
        on_count(len(missing), len(missing))


def _known(path: Path, count: int, key: str) -> NDArray[np.bool_]:
    """Which rows of ``path`` hold vectors; none where they are damaged, or those of another key."""
    none = np.zeros(count, dtype=np.bool_)
    try:
        facts = json.loads(_key_path(path).read_text(encoding="utf-8"))
        known: NDArray[np.bool_] = np.load(_known_path(path), allow_pickle=False)
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (OSError, ValueError, EOFError):
        return none
    same = facts == {"key": key} and known.shape == none.shape and len(shape) == 2 and shape[0] == count
    return known if same else none


def _save_known(path: Path, known: NDArray[np.bool_]) -> None:
    target = _known_path(path).resolve()  # a run may share what another one prepared, by links
    temporary = target.with_name(f"{path.stem}.known.tmp.npy")
    np.save(temporary, known, allow_pickle=False)
    temporary.replace(target)


def _check_room(path: Path, size: int) -> None:
    """Refuses to begin where the disk would be full before the end: a memory map cannot say so."""
    free = shutil.disk_usage(path.parent).free + (path.stat().st_size if path.is_file() else 0)
    if free < size:
        raise TrainingError(
            f"The teacher's vectors take {size / 2**20:,.0f} MiB, and {path.parent} has room for {free / 2**20:,.0f}",
            "They are kept on disk",
            "Make room, or choose fewer examples in [data]",
        )


def _key(teacher: str, texts: Sequence[str]) -> str:
    """A hash of the teacher's key and all texts in order."""
    digest = hashlib.sha256(teacher.encode())
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:16]


def _known_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.known.npy")


def _key_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.json")
