"""Vectors on disk: immutable segments, and their rows read through the memory map, checked block by block.

A segment is one ``.npy`` file, ``(rows, dim) float16``, rows L2-normalised. Its rows belong to passages in runs of
consecutive ids, which the catalogue keeps: ids ascend within a segment, and the ids of two segments never interleave.

Opening a segment reads no vector. Each block of rows is compared with its checksum when a row of it is first read, so
that a damaged file is never searched and an index of gigabytes opens at once.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from xsearch.errors import IndexDamagedError, InvalidArgumentError
from xsearch.store.files import disk_errors, publish, sha256_of

VECTORS_FOLDER = "vectors"
DTYPE = np.dtype(np.float16)
# Rows of one checksum. A search reads a few hundred rows here and there: with 16 rows of 384 dimensions the first read
# of each block hashes 12 KiB, 7 microseconds.
BLOCK_BITS = 4
BLOCK_ROWS = 2**BLOCK_BITS
BLOCK_SUM_BYTES = 8
# An array file's head: this, two bytes for the length of what follows, and a description filled up with spaces.
MAGIC = b"\x93NUMPY\x01\x00"
HEAD_START = 10
HEAD_BYTES = 4096
# Rows turned to float32 at a time where all of a segment is read.
READ_ROWS = 65_536
# Turns a float16's bits, moved to where float32 has its exponent, into its value times 2 ** -112: see read_rows.
HALF_SCALE = np.float32(2.0**112)
HALF_BITS = np.array(0x8FFFFFFF, dtype=np.uint32).view(np.int32)[()]
PassageIds = NDArray[np.int64]
Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]
Halves = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Segment:
    """One vector file, as the catalogue knows it.

    Attributes:
        runs: little-endian int64 pairs ``(first row, first passage id)``, one a run of consecutive ids.
        block_sums: the first 8 bytes of SHA-256 of each block of 16 rows; empty where an older xsearch wrote the file,
            which is then hashed as a whole when it is opened.
    """

    number: int
    rows: int
    dim: int
    size: int
    sha256: str
    runs: bytes
    block_sums: bytes = b""

    @property
    def name(self) -> str:
        """The file's name in the vectors folder."""
        return f"{self.number:06d}.npy"

    @property
    def first_passage_id(self) -> int:
        """The lowest id."""
        return int(self.id_runs()[0, 1])

    def id_runs(self) -> NDArray[np.int64]:
        """``(runs, 2)``: first row and first passage id of each run."""
        return np.frombuffer(self.runs, dtype="<i8").reshape(-1, 2)


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of a part and their scores, best first, both ``(queries, found)``, or ``(found,)`` of one query.

    A loop goes over the queries.
    """

    rows: Rows
    scores: Vectors

    @classmethod
    def nothing(cls, queries: int) -> Found:
        """What is found where there is nothing."""
        return cls(np.empty((queries, 0), dtype=np.int64), np.empty((queries, 0), dtype=np.float32))

    @classmethod
    def of_each(cls, found: Sequence[Found]) -> Found:
        """What single queries have found, the same number each, at least one query."""
        return cls(np.stack([one.rows for one in found]), np.stack([one.scores for one in found]))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, query: int) -> Found:
        return Found(self.rows[query], self.scores[query])

    def __iter__(self) -> Iterator[Found]:
        return (self[query] for query in range(len(self)))


@dataclass(frozen=True, slots=True)
class Nearest:
    """What one query found: ids and scores, both ``(found,)``, best first."""

    passage_ids: PassageIds
    scores: Vectors


def consecutive(first_passage_id: int) -> bytes:
    """The runs of a segment whose ids are consecutive."""
    return np.array([[0, first_passage_id]], dtype="<i8").tobytes()


def runs_of(passage_ids: PassageIds) -> bytes:
    """The runs of a segment whose rows belong to these ids, which ascend.

    >>> np.frombuffer(runs_of(np.array([4, 5, 6, 9, 10]))).size
    4
    """
    starts = np.flatnonzero(np.diff(passage_ids, prepend=passage_ids[:1] - 2) != 1)
    return np.stack([starts, passage_ids[starts]], axis=1).astype("<i8").tobytes()


def write_segment(
    index: Path, number: int, runs: bytes, shape: tuple[int, int], blocks: Iterable[Vectors | Halves]
) -> Segment:
    """Puts vectors on disk for good, and returns what the catalogue has to say of them.

    Args:
        index: the index's folder.
        runs: which ids the rows belong to, from :func:`consecutive` or :func:`runs_of`.
        shape: rows and dimensions.
        blocks: ``(some, dim)`` float16 or float32, rows L2-normalised; together all rows, so that they need not be in
            memory at once. A multiple of 16 rows each, but for the last.
    """
    folder = index / VECTORS_FOLDER
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
    sums = bytearray()

    def write(file: IO[bytes]) -> None:
        file.write(_header(shape))
        rows = 0
        for block in blocks:
            if not len(block):
                continue
            if rows % BLOCK_ROWS or block.shape[1] != shape[1]:
                raise _unfit(f"{len(block)} vectors of {block.shape[1]} dimensions come after {rows}", shape)
            halves = np.ascontiguousarray(block, dtype=DTYPE)
            file.write(halves.data.cast("B"))
            sums.extend(b"".join(_sum(halves[at : at + BLOCK_ROWS]) for at in range(0, len(halves), BLOCK_ROWS)))
            rows += len(halves)
        if rows != shape[0]:
            raise _unfit(f"{rows} vectors came", shape)

    written = publish(folder / f"{number:06d}.npy", write)
    return Segment(number, *shape, written.size, written.sha256, runs, bytes(sums))


class VectorSource(Protocol):
    """Vectors by row: of a file, or in memory."""

    rows: int
    dim: int

    @property
    def array(self) -> Halves | Vectors:
        """All rows, ``(rows, dim)`` float16 or float32, contiguous; to be read where :meth:`check_rows` has been."""
        ...

    def check_rows(self, rows: Rows) -> None:
        """Makes sure that these rows are as they were written, or raises ``IndexDamagedError``."""
        ...

    def vectors(self, rows: Rows) -> Vectors:
        """These rows, ``(n, dim) float32``."""
        ...

    def read_range(self, start: int, stop: int) -> Vectors:
        """Rows ``start`` to ``stop``, ``(stop - start, dim) float32``."""
        ...

    def scores(self, rows: Rows, queries: Vectors, scratch: Scratch) -> Vectors:
        """Inner products of rows ``(queries, n)`` with the queries ``(queries, dim)``, ``(queries, n) float32``."""
        ...


class RawVectors:
    """The vectors of a segment through the memory map; every row is checked before it is read for the first time.

    Safe for several threads.

    Raises:
        IndexDamagedError: the file is missing, has another size or head, or, when rows are read, other vectors.
    """

    def __init__(self, index: Path, segment: Segment) -> None:
        self.path = index / VECTORS_FOLDER / segment.name
        self.segment = segment
        self.rows, self.dim = segment.rows, segment.dim
        self.array = _mapped(self.path, segment)
        self._bits = self.array.view(np.int16)
        self._sums = np.frombuffer(segment.block_sums, dtype=np.uint64)
        blocks = -(-segment.rows // BLOCK_ROWS)
        self._checked = np.zeros(blocks, dtype=bool)
        if not segment.block_sums:
            self.check()
            self._checked[:] = True
        elif len(self._sums) != blocks:
            raise _damaged(self.path, f"has {blocks} blocks and {len(self._sums)} checksums of blocks")
        self._all_checked = bool(self._checked.all())

    def check(self) -> None:
        """Compares the whole file with its SHA-256."""
        with _reading(self.path):
            if sha256_of(self.path) != self.segment.sha256:
                raise _damaged(self.path, "has another checksum than when it was written")

    def vectors(self, rows: Rows) -> Vectors:
        """These rows, ``(n, dim) float32``."""
        self.check_rows(rows)
        scaled = self._scaled(rows, Scratch(len(rows), self.dim))
        scaled *= HALF_SCALE
        return scaled

    def half_rows(self, rows: Rows) -> Halves:
        """These rows as they are on disk, ``(n, dim) float16``."""
        self.check_rows(rows)
        return self.array[rows]

    def scores(self, rows: Rows, queries: Vectors, scratch: Scratch) -> Vectors:
        """Inner products of rows ``(queries, n)`` with the queries ``(queries, dim)``, ``(queries, n) float32``."""
        flat = rows.ravel()
        self.check_rows(flat)
        scaled = self._scaled(flat, scratch).reshape(*rows.shape, self.dim)
        return inner_products(scaled, queries[:, None] * HALF_SCALE)

    def read_range(self, start: int, stop: int) -> Vectors:
        """Rows ``start`` to ``stop``, ``(stop - start, dim) float32``."""
        self._check_blocks(np.arange(start // BLOCK_ROWS, -(-stop // BLOCK_ROWS)))
        wide = self._bits[start:stop].astype(np.int32)
        wide <<= 13
        wide &= HALF_BITS
        vectors: Vectors = wide.view(np.float32)
        vectors *= HALF_SCALE
        return vectors

    def _scaled(self, rows: Rows, scratch: Scratch) -> Vectors:
        """The rows times 2 ** -112.

        numpy turns float16 to float32 one number at a time, 3 ns each. Widening the bits keeps a number's sign at the
        top, and a shift by 13 puts exponent and mantissa where float32 has them; the exponent is then too small by 112.
        That is a tenth of the time, and exact, of subnormal numbers too.
        """
        bits, wide = scratch.bits[: len(rows)], scratch.wide[: len(rows)]
        np.take(self._bits, rows, axis=0, out=bits, mode="clip")
        np.copyto(wide, bits)
        np.left_shift(wide, 13, out=wide)
        np.bitwise_and(wide, HALF_BITS, out=wide)
        return wide.view(np.float32)

    def check_rows(self, rows: Rows) -> None:
        """Compares the rows, of any shape, with their checksums, unless that was done before."""
        if not self._all_checked:
            # Half the time of a division.
            blocks = rows.ravel() >> BLOCK_BITS
            checked = self._checked[blocks]
            if not checked.all():
                self._check_blocks(np.unique(blocks[~checked]))

    def _check_blocks(self, blocks: NDArray[np.int64]) -> None:
        if self._all_checked:
            return
        for block in blocks[~self._checked[blocks]].tolist():
            if _sum(self.array[block * BLOCK_ROWS : (block + 1) * BLOCK_ROWS]) != self._sums[block].tobytes():
                raise _damaged(self.path, f"has another checksum in the rows from {block * BLOCK_ROWS} on")
            self._checked[block] = True
        self._all_checked = bool(self._checked.all())


class Scratch:
    """Memory for the rows of one query after the other; not for two threads at once."""

    def __init__(self, rows: int, dim: int) -> None:
        self.bits = np.empty((rows, dim), dtype=np.int16)
        self.wide = np.empty((rows, dim), dtype=np.int32)


def inner_products(vectors: Vectors, queries: Vectors) -> Vectors:
    """Inner products along the last axis, pair by pair: to the last bit the same in any company.

    Those of a matrix product are not, and a passage would not have the same score in every search.
    """
    products: Vectors = np.vecdot(vectors, queries)
    return products


def _header(shape: tuple[int, int]) -> bytes:
    head = BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": np.lib.format.dtype_to_descr(DTYPE), "fortran_order": False, "shape": shape}
    )
    return head.getvalue()


def _sum(halves: NDArray[np.float16]) -> bytes:
    return hashlib.sha256(halves.data).digest()[:BLOCK_SUM_BYTES]


def _mapped(path: Path, segment: Segment) -> NDArray[np.float16]:
    """The file's array, after its size, type and shape were checked."""
    with _reading(path):
        size = path.stat().st_size
        if size != segment.size:
            raise _damaged(path, f"has {size} bytes, not {segment.size}")
        shape = segment.rows, segment.dim
        mapped = np.memmap(path, dtype=DTYPE, mode="r", offset=_head_size(path, segment), shape=shape)
    _read_here_and_there(mapped)
    return mapped.view(np.ndarray)


def _unfit(what: str, shape: tuple[int, int]) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"For a segment of {shape[0]} vectors of {shape[1]} dimensions {what}",
        f"All must come, {BLOCK_ROWS} or a multiple of it at a time but for the last",
        "Report this as a bug",
    )


def _head_size(path: Path, segment: Segment) -> int:
    """How many bytes stand before the vectors.

    The head is compared, not read: numpy evaluates it as Python, and a flipped bit there gets anything from a warning
    to an error of the tokenizer. How many spaces fill it up depends on the version of numpy.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    described = _header((segment.rows, segment.dim))[HEAD_START:].rstrip()
    length = HEAD_START + int.from_bytes(head[HEAD_START - 2 : HEAD_START], "little")
    if head[: HEAD_START - 2] != MAGIC or length > len(head):
        raise _damaged(path, "is not an array file")
    found = head[HEAD_START:length].rstrip()
    if found != described:
        raise _damaged(path, f"holds {found.decode('ascii', 'replace')}, not {described.decode('ascii')}")
    if length + segment.rows * segment.dim * DTYPE.itemsize != segment.size:
        raise _damaged(path, f"has a head of {length} bytes")
    return length


def _read_here_and_there(mapped: np.memmap) -> None:
    """Tells the system that single rows are read, so that it fetches no neighbours from the disk."""
    memory = getattr(mapped, "_mmap", None)
    if isinstance(memory, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
        memory.madvise(mmap.MADV_RANDOM)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what goes wrong with a file into the error that names it."""
    try:
        yield
    except FileNotFoundError as exc:
        raise _damaged(path, "is missing") from exc
    except OSError as exc:
        raise _damaged(path, f"cannot be read ({exc.strerror or exc})") from exc
    except ValueError as exc:
        raise _damaged(path, f"is not an array file ({exc})") from exc


def _damaged(path: Path, what: str) -> IndexDamagedError:
    return IndexDamagedError(
        f"The vector file {path} {what}",
        "It must be as it was written; vectors are never read from a damaged file",
        "Encode its passages again with: xsearch repair NAME; or restore the file from a backup",
    )
