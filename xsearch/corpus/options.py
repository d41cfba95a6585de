"""What a caller may say about how to read, and what the readers say about progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

OnBytes = Callable[[int], None]
"""Called with the number of bytes of the source consumed since its last call."""

MAX_DOCUMENT_BYTES = 256 * 2**20
"""A single document (text, Markdown, HTML) above this size, after unpacking, is skipped instead of loaded."""

MAX_RECORD_CHARS = 64 * 2**20
"""A single record of a table above this size is skipped instead of loaded."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a source; every field may be left out.

    Attributes:
        text_field, id_field, title_field, lang_field: the names of a table's fields; None finds
            them among the well-known names (``xsearch.corpus.rows``).
        lang: the language of every document; empty means what the document says of itself, or "find
            out later". A named ``lang_field`` goes before it where the record has a value.
        encoding: the encoding of text files and tables; None detects it.
    """

    text_field: str | None = None
    id_field: str | None = None
    lang_field: str | None = None
    title_field: str | None = None
    lang: str = ""
    encoding: str | None = None


class EvenProgress:
    """Bytes reported in step with rows, for formats that do not tell where in the file a row lies.

    Args:
        size: the bytes of the whole; ``rows``: its rows.
    """

    def __init__(self, size: int, rows: int, on_bytes: OnBytes) -> None:
        self._size = size
        self._rows = max(rows, 1)
        self._on_bytes = on_bytes
        self._met = 0
        self._told = 0

    def advance(self, rows: int) -> None:
        """Report the bytes of so many more rows."""
        self._met += rows
        self._tell(self._size * self._met // self._rows)

    def finish(self) -> None:
        """Report the bytes not yet reported."""
        self._tell(self._size)

    def _tell(self, reached: int) -> None:
        self._on_bytes(reached - self._told)
        self._told = reached


def no_progress(_count: int) -> None:
    """Takes a count of bytes and does nothing with it."""
