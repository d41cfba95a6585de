"""The chosen examples of a run on disk: lines of JSON, packed, behind a line that says whose they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xsearch.errors import MissingExtraError, TrainingError
from xsearch.training.selection import Example, Kind

if TYPE_CHECKING:
    from types import ModuleType


def save_examples(path: Path, examples: Sequence[Example], fingerprint: str) -> None:
    """Writes the examples; they appear under their name whole or not at all."""
    zstandard = _zstandard()
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as raw, zstandard.ZstdCompressor(level=3).stream_writer(raw) as file:
        file.write((json.dumps({"fingerprint": fingerprint, "count": len(examples)}) + "\n").encode())
        for example in examples:
            file.write((json.dumps(asdict(example), ensure_ascii=False) + "\n").encode())
    temporary.replace(path)


def load_examples(path: Path, fingerprint: str) -> list[Example] | None:
    """The examples in a file; None where there is none, or it is another recipe's.

    Raises:
        TrainingError: the file is damaged.
    """
    if not path.is_file():
        return None
    zstandard = _zstandard()
    try:
        with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as file:
            # Not splitlines(), which also cuts at the line separators that a text may hold.
            lines = file.read().decode().split("\n")
        head = json.loads(lines[0])
        if head["fingerprint"] != fingerprint:
            return None
        examples = [_example(json.loads(line)) for line in lines[1:-1]]
    except (OSError, ValueError, KeyError, TypeError, zstandard.ZstdError) as exc:
        raise _damaged(path, str(exc)) from exc
    if lines[-1] or len(examples) != head.get("count"):
        raise _damaged(path, f"it has {len(examples)} examples of {head.get('count')}")
    return examples


def _example(fields: dict[str, Any]) -> Example:
    return Example(Kind(fields["kind"]), fields["lang"], fields["text"], fields["english"], fields["origin"])


def _damaged(path: Path, what: str) -> TrainingError:
    return TrainingError(
        f"{path} is damaged: {what}", "It holds the examples chosen before", "Delete it; they are chosen anew"
    )


def _zstandard() -> ModuleType:
    try:
        import zstandard
    except ImportError as exc:
        raise MissingExtraError("Keeping the examples of a run", "zstandard", "train") from exc
    return zstandard
