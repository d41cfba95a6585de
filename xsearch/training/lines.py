"""The lines of a text file, plain or packed (``.gz``, ``.zst``), one at a time and with their numbers."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.errors import MissingExtraError, PairError
from xsearch.training.bitext import Skips

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_LINE_BYTES = 4 * 2**20
"""A longer line is no sentence, paragraph or question; it is malformed."""

PACKINGS = (".gz", ".zst")
_CHUNK_BYTES = 8 * 1024  # small, because zstd may make 128 kB out of each 4 bytes
_BUFFER_BYTES = 256 * 1024
_BOM = b"\xef\xbb\xbf"


class _UnpackError(Exception):
    """A packed file is damaged or cut short; leaves this module as a PairError."""


class _ZstdStream(io.RawIOBase):
    """Unpacked zstd. Unlike zstandard's own reader it notices when the file ends within a frame."""

    def __init__(self, raw: io.BufferedReader) -> None:
        super().__init__()
        try:
            import zstandard
        except ImportError as exc:
            raise MissingExtraError("reading .zst files", "zstandard", "train") from exc
        self._raw = raw
        self._unpacker = zstandard.ZstdDecompressor()
        self._error = zstandard.ZstdError
        self._frame = self._unpacker.decompressobj()
        self._begun = False
        self._empty = True
        self._ahead = b""
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        while not self._ready:
            packed = self._ahead or self._raw.read(_CHUNK_BYTES)
            if not packed:
                if self._begun or self._empty:
                    raise _UnpackError("the zstd data is cut short")
                return 0
            self._empty = False
            self._unpack(packed)
        view = memoryview(buffer).cast("B")
        chunk, self._ready = self._ready[: len(view)], self._ready[len(view) :]
        view[: len(chunk)] = chunk
        return len(chunk)

    def _unpack(self, packed: bytes) -> None:
        self._ahead = b""
        try:
            self._ready = self._frame.decompress(packed)
        except self._error as exc:
            raise _UnpackError(f"the zstd data is damaged ({exc})") from exc
        self._begun = not self._frame.eof
        if self._frame.eof:  # another frame may follow
            self._ahead = self._frame.unused_data
            self._frame = self._unpacker.decompressobj()


READ_FAILURES = (_UnpackError, OSError, EOFError, zlib.error)
"""What reading a file may raise after it was opened; :func:`torn` makes an error of ours of it."""


def unpacked_name(name: str) -> str:
    """A file's name without the ending of its packing: ``a.tsv.zst`` gives ``a.tsv``."""
    return name[: name.rindex(".")] if name.lower().endswith(PACKINGS) else name


@contextmanager
def open_unpacked(path: Path) -> Iterator[io.BufferedIOBase]:
    """The bytes of a file, unpacked as its name says; reading them may raise any of ``READ_FAILURES``.

    Raises:
        PairError: the file cannot be opened.
        MissingExtraError: the file is ``.zst`` and zstandard is not installed.
    """
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb"))
        except OSError as exc:
            raise PairError(
                str(path), f"cannot be read ({exc.strerror})", "A file was expected", "Check the path"
            ) from exc
        if path.name.lower().endswith(".zst"):
            yield stack.enter_context(io.BufferedReader(_ZstdStream(raw), _BUFFER_BYTES))
        elif path.name.lower().endswith(".gz"):
            yield stack.enter_context(gzip.GzipFile(fileobj=raw, mode="rb"))
        else:
            yield raw


def read_lines(path: Path, skips: Skips) -> Iterator[tuple[int, str | None]]:
    """Number and text of each line, without its line end; None for the text of a line that went to ``skips``.

    Lines end with LF or CRLF and nothing else, so that a U+2028 within a sentence does not shift the numbers. A BOM
    before the first is dropped. What is no UTF-8 or has more than ``MAX_LINE_BYTES`` goes to ``skips``, and so does
    the place where a packed file is damaged or cut short; nothing can be read after that.

    Raises:
        PairError: the file cannot be opened; or any of the above where ``skips`` stops.
        MissingExtraError: the file is ``.zst`` and zstandard is not installed.
    """
    number = 0
    with open_unpacked(path) as stream:
        while True:
            number += 1
            try:
                raw, whole = _next_line(stream)
            except READ_FAILURES as exc:
                skips.add(torn(path, number, exc), exc)
                return
            if not raw:
                return
            yield number, _decoded(raw, whole, path, number, skips)


def count_lines(path: Path) -> int:
    """How many lines :func:`read_lines` will give; up to the damage, where there is some."""
    count = 0
    with open_unpacked(path) as stream, suppress(*READ_FAILURES):
        while _next_line(stream)[0]:
            count += 1
    return count


def torn(path: Path, number: int, exc: Exception) -> PairError:
    """The error for a file that cannot be read from this line on."""
    return PairError(
        str(path),
        f"the file cannot be read from here on: {exc}",
        "A whole file was expected",
        "Make or fetch the file again",
        line=number,
    )


def _next_line(stream: io.BufferedIOBase) -> tuple[bytes, bool]:
    """The next line with its end, empty at the end of the file; False with it when it is too long to be kept."""
    raw = stream.readline(MAX_LINE_BYTES)
    if len(raw) < MAX_LINE_BYTES or raw.endswith(b"\n"):
        return raw, True
    rest = raw
    while rest and not rest.endswith(b"\n"):
        rest = stream.readline(MAX_LINE_BYTES)
    return raw, False


def _decoded(raw: bytes, whole: bool, path: Path, number: int, skips: Skips) -> str | None:
    """The line as text, or None after its error has gone to ``skips``."""
    if not whole:
        skips.add(
            PairError(
                str(path),
                f"this line has more than {MAX_LINE_BYTES >> 20} MiB",
                "A sentence or a paragraph a line was expected",
                "Split the file into lines",
                line=number,
            )
        )
        return None
    if number == 1:
        raw = raw.removeprefix(_BOM)
    try:
        return raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as exc:
        error = PairError(
            str(path),
            f"this line is not UTF-8 ({exc.reason} at byte {exc.start})",
            "Training data is UTF-8",
            "Convert the file, or skip malformed lines (on_error = skip)",
            line=number,
        )
        skips.add(error, exc)
        return None
