"""Where data goes: standard output or a file, and JSON that survives any console's encoding."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from xsearch.errors import InvalidArgumentError


@contextmanager
def output(path: Path | None, *, utf8: bool = False) -> Iterator[IO[str]]:
    """Standard output, or a file that is begun anew, in UTF-8.

    Args:
        utf8: standard output is UTF-8 too, whatever the console's encoding: what is written is for programs.

    Raises:
        InvalidArgumentError: the file cannot be written.
    """
    if path is None:
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if utf8 and reconfigure is not None:
            reconfigure(encoding="utf-8")
        yield sys.stdout
        return
    try:
        file = path.open("w", encoding="utf-8", errors="replace")
    except OSError as exc:
        raise InvalidArgumentError(
            f"{path} cannot be written: {exc.strerror or exc}",
            "-o names a file in a folder that is there and writable",
            "Make the folder, or name another file",
        ) from exc
    with file:
        yield file


def write_json(value: Any, out: IO[str], *, indent: int | None = None) -> None:
    """One JSON value and a line end; characters come as escapes where the stream's encoding is not Unicode."""
    encoding = codecs.lookup(getattr(out, "encoding", None) or "utf-8").name
    out.write(json.dumps(value, ensure_ascii=not encoding.startswith("utf"), indent=indent) + "\n")
