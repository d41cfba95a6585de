"""Bytes of files and pipes: counted as they are read, unpacked where they are gzip, with a look ahead."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from xsearch.corpus.decode import detect_encoding
from xsearch.corpus.options import OnBytes, no_progress
from xsearch.errors import UnreadableError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK_BYTES = 256 * 1024


class ByteStream(io.RawIOBase):
    """A readable stream over another one that reports what it consumes and can be looked into first.

    Args:
        raw: where the bytes come from; the caller closes it.
        on_bytes: told the number of bytes after each read from ``raw``.
    """

    def __init__(self, raw: io.BufferedIOBase | BinaryIO, on_bytes: OnBytes = no_progress) -> None:
        super().__init__()
        self._raw = raw
        self._on_bytes = on_bytes
        self._ahead = b""
        self._failure: Exception | None = None

    def sample(self, *, wait: bool) -> bytes:
        """The first bytes, which stay to be read; at most ``CHUNK_BYTES`` of them.

        Args:
            wait: True fills the sample; False takes what one read gives, as a pipe must not be
                made to wait for bytes its writer has yet to think of.
        """
        while len(self._ahead) < CHUNK_BYTES:
            try:
                chunk = self._fetch(CHUNK_BYTES - len(self._ahead))
            except (OSError, EOFError, zlib.error) as exc:
                self._failure = exc  # told when reading gets there: what stands before it is good
                break
            self._ahead += chunk
            if not chunk or not wait:
                break
        return self._ahead

    def readable(self) -> bool:
        """True: this is what it is for."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """The number of bytes put into ``buffer``; 0 at the end."""
        view = memoryview(buffer).cast("B")
        if self._ahead:
            chunk, self._ahead = self._ahead[: len(view)], self._ahead[len(view) :]
        else:
            chunk = self._fetch(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

    def _fetch(self, size: int) -> bytes:
        if self._failure is not None:
            raise self._failure
        # read1 gives what is there; read would wait for a pipe to fill the whole buffer.
        chunk = self._raw.read1(size) if isinstance(self._raw, io.BufferedIOBase) else self._raw.read(size)
        if chunk:
            self._on_bytes(len(chunk))
        return chunk


@contextmanager
def open_stream(path: str, on_bytes: OnBytes = no_progress) -> Iterator[ByteStream]:
    """The bytes of a file, unpacked when its name ends in ``.gz``; progress counts bytes on disk."""
    with Path(path).open("rb") as file:
        counted = ByteStream(file, on_bytes)
        if path.lower().endswith(".gz"):
            with gzip.GzipFile(fileobj=io.BufferedReader(counted, CHUNK_BYTES), mode="rb") as unpacked:
                yield ByteStream(unpacked)
        else:
            yield counted


def read_all(path: str, limit: int, on_bytes: OnBytes = no_progress) -> bytes | None:
    """All bytes of a file, unpacked when it is gzip; None when there are more than ``limit``."""
    with open_stream(path, on_bytes) as stream:
        data = bytearray()
        while chunk := stream.read(CHUNK_BYTES):
            data += chunk
            if len(data) > limit:
                return None
        return bytes(data)


def text_of(
    stream: ByteStream, source: str, *, encoding: str | None, newline: str | None, wait: bool
) -> io.TextIOWrapper:
    """The stream as text: bytes that do not belong to the encoding become escapes, so that one bad line costs one line.

    Args:
        newline: as for :func:`open`: None makes every line end ``\\n``, ``""`` leaves them to the csv module.
        wait: see :meth:`ByteStream.sample`.

    Raises:
        UnreadableError: the bytes are not text.
    """
    name = encoding or detect_encoding(stream.sample(wait=wait), complete=False)
    if name is None:
        raise UnreadableError(
            source,
            "this is binary data or text in an unknown encoding",
            "Text is expected",
            "Pass --encoding if it is text",
        )
    buffered = io.BufferedReader(stream, CHUNK_BYTES)
    return io.TextIOWrapper(buffered, encoding=name, errors="surrogateescape", newline=newline)


def lines(text: TextIO, limit: int) -> Iterator[tuple[int, str | None]]:
    """Each line's number and content; None for the content of a line of more than ``limit`` characters."""
    number = 0
    while line := text.readline(limit):
        number += 1
        if len(line) < limit or line.endswith("\n"):
            yield number, line
            continue
        while line and not line.endswith("\n"):
            line = text.readline(limit)
        yield number, None
