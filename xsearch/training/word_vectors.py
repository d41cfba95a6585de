"""Word vectors as word2vec and fastText write them in text: ``.vec``, plain or packed (``.gz``, ``.zst``)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from xsearch.encoder.protocol import Vectors
from xsearch.errors import InvalidArgumentError, MissingExtraError, PairError
from xsearch.store.files import publish
from xsearch.training.bitext import OnError, Skips
from xsearch.training.lines import read_lines

# Words written between two calls of the compressor.
_WRITE_WORDS = 1000
# Nine digits give back every float32 as it was.
_NUMBER = "%.9g"


@dataclass(frozen=True, slots=True, eq=False)
class WordVectors:
    """Words and their vectors, the most frequent first, as the files have them.

    Attributes:
        words: each once.
        vectors: ``(n, dim) float32``, row ``i`` that of ``words[i]``; not normalised.
    """

    words: tuple[str, ...]
    vectors: Vectors

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.words) != len(self.vectors):
            raise InvalidArgumentError(
                f"There are {len(self.words)} words and vectors of shape {self.vectors.shape}",
                "Vectors have the shape (words, dimension)",
                "Pass a row for each word",
            )

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.vectors.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class ReadVectors:
    """What a file of word vectors holds, and what was left out of it.

    Attributes:
        found: the words that can be used.
        duplicates: lines with a word that had come before; the first counts.
        non_finite: lines with NaN or infinity.
        zero: lines whose vector is all zeros and so has no direction.
    """

    found: WordVectors
    duplicates: int
    non_finite: int
    zero: int


def read_word_vectors(path: Path, *, max_words: int | None = None) -> ReadVectors:
    """The words of a file, in its order; duplicates, zero and non-finite vectors are left out and counted.

    The first line says ``n dim``, each of the ``n`` others ``word v1 ... vdim``, with single spaces.

    Args:
        max_words: stop after this many usable words; files have the most frequent first.

    Raises:
        PairError: a line is malformed (named as ``path:123``), the file is cut short, or nothing in it can be used.
        MissingExtraError: the file is ``.zst`` and zstandard is not installed.
    """
    if max_words is not None and max_words < 1:
        raise InvalidArgumentError(f"max_words is {max_words}", "It must be at least 1", "Leave it out to read all")
    # The first malformed line raises, so that each of the others has a text.
    lines = ((row, text) for row, text in read_lines(path, Skips(str(path), OnError.STOP)) if text is not None)
    count, dim = _read_header(path, lines)
    words: dict[str, None] = {}
    rows = bytearray()
    number, duplicates, non_finite, zero = 1, 0, 0, 0
    for number, line in lines:
        word, row = _read_line(path, number, line, dim)
        if word in words:
            duplicates += 1
        elif not np.isfinite(row).all():
            non_finite += 1
        elif not row.any():
            zero += 1
        else:
            words[word] = None
            rows += row.tobytes()
        if len(words) == max_words:
            break
    else:
        if number - 1 != count:
            raise PairError(
                str(path),
                f"the file has {number - 1} words, and its first line says {count}",
                "A whole file has as many words as it says",
                "Make or fetch the file again",
                line=number,
            )
    if not words:
        raise PairError(str(path), "no word has a usable vector", "Vectors are finite and not zero", "Train them again")
    vectors = np.frombuffer(rows, dtype=np.float32).reshape(len(words), dim)
    return ReadVectors(WordVectors(tuple(words), vectors), duplicates, non_finite, zero)


def write_word_vectors(path: Path, vectors: WordVectors) -> None:
    """Writes the text format, packed as the file's name says; reading it gives the same numbers again.

    Raises:
        InvalidArgumentError: a word is empty or holds a space or a line end, which the format cannot carry.
        StoreError: the file cannot be written.
        MissingExtraError: the file is ``.zst`` and zstandard is not installed.
    """
    wrong = next((word for word in vectors.words if not word or any(mark in word for mark in " \n\r")), None)
    if wrong is not None:
        raise InvalidArgumentError(
            f"The word {wrong!r} cannot be written",
            "A word of this format has no spaces and no line ends",
            "Leave it out",
        )
    pack, finish = _packer(path)

    def write(file: IO[bytes]) -> None:
        for chunk in _chunks(vectors):
            file.write(pack(chunk))
        file.write(finish())

    publish(path, write)


def _read_header(path: Path, lines: Iterator[tuple[int, str]]) -> tuple[int, int]:
    _, line = next(lines, (1, ""))
    fields = line.split()
    if len(fields) != 2 or not all(field.isascii() and field.isdigit() and int(field) > 0 for field in fields):
        raise PairError(
            str(path),
            f"the first line is {line[:60]!r}",
            "It says how many words there are and their dimension, as in '20000 300'",
            "Put it there, if the file came without (GloVe)",
            line=1,
        )
    return int(fields[0]), int(fields[1])


def _read_line(path: Path, number: int, line: str, dim: int) -> tuple[str, Vectors]:
    # Split at spaces alone: fastText keeps others, such as U+00A0, within words. Its lines end with a space.
    word, *fields = line.rstrip(" ").split(" ")
    if not word or len(fields) != dim:
        raise PairError(
            str(path),
            "this line has no word" if not word else f"the word {word[:60]!r} has {len(fields)} numbers",
            f"A word and {dim} numbers, with single spaces, as the first line says",
            "Make or fetch the file again",
            line=number,
        )
    try:
        with np.errstate(over="ignore"):
            return word, np.array(fields, dtype=np.float32)
    except ValueError as exc:
        raise PairError(
            str(path), f"{exc} (the word {word[:60]!r})", f"A word and {dim} numbers", "Mend the line", line=number
        ) from exc


def _chunks(vectors: WordVectors) -> Iterator[bytes]:
    yield f"{len(vectors.words)} {vectors.dim}\n".encode()
    layout = " ".join([_NUMBER] * vectors.dim)
    for start in range(0, len(vectors.words), _WRITE_WORDS):
        stop = start + _WRITE_WORDS
        rows = zip(vectors.words[start:stop], vectors.vectors[start:stop].tolist(), strict=True)
        yield "".join(f"{word} {layout % tuple(row)}\n" for word, row in rows).encode()


def _packer(path: Path) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    """What packs a piece of the content, and what gives the rest of it at the end."""
    name = path.name.lower()
    if name.endswith(".zst"):
        try:
            import zstandard
        except ImportError as exc:
            raise MissingExtraError("writing .zst files", "zstandard", "train") from exc
        zstd = zstandard.ZstdCompressor().compressobj()
        return zstd.compress, zstd.flush
    if name.endswith(".gz"):
        gzip = zlib.compressobj(wbits=31)
        return gzip.compress, gzip.flush
    return lambda chunk: chunk, lambda: b""
