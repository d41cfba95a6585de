"""Search on a GPU: the rows of a part in a FAISS index on the device, the part itself for what a GPU cannot do."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Protocol

import numpy as np

from xsearch.errors import InvalidArgumentError
from xsearch.store.exact import SPARE_ROWS, best_of
from xsearch.store.kinds import TRAINING_ROUNDS, TRAINING_VECTORS_A_LIST, lists_for, some_rows
from xsearch.store.selection import Selection, import_faiss
from xsearch.store.vectors import READ_ROWS, Found, Rows, Vectors, inner_products

log = logging.getLogger("xsearch")

# FAISS returns no more than these from a GPU.
MOST_ROWS = 2_048
# While at least this share of the rows may be found, the others are passed over; FAISS has no selectors on a GPU.
PASS_OVER_SHARE = 0.5
# Of the lists of an inverted file, those that are looked into: a GPU has room for many.
PROBED_SHARE = 1 / 8
CAGRA_DEGREE = 64
CAGRA_SEARCH_WIDTH = 256
DEVICE = re.compile(r"cuda(?::(\d+))?")


class GpuKind(StrEnum):
    """What an index on a GPU is: exact, inverted lists, or a graph."""

    FLAT = "flat"
    IVF = "ivf"
    CAGRA = "cagra"


class CpuPart(Protocol):
    """A part whose rows can be read in order."""

    rows: int

    def read_range(self, start: int, stop: int) -> Vectors:
        """Rows ``start`` to ``stop``, ``(stop - start, dim) float32``."""
        ...

    def vectors(self, rows: Rows) -> Vectors:
        """These rows, ``(n, dim) float32``."""
        ...

    def search(self, queries: Vectors, k: int, selection: Selection) -> Found:
        """The ``k`` best rows of each query, or as many as there are; of equals the later one comes first."""
        ...


class Gpu:
    """One GPU, and FAISS's memory on it.

    Args:
        number: of the device.
        kind: of the indexes that are made on it; by default exact ones, which fit: 10 million vectors of 384 numbers
            take 7.7 GB.
    """

    def __init__(self, number: int, kind: GpuKind = GpuKind.FLAT) -> None:
        faiss = import_faiss()
        if kind is GpuKind.CAGRA and not hasattr(faiss, "GpuIndexCagra"):
            raise InvalidArgumentError(
                "This build of FAISS has no CAGRA", "Graphs on a GPU come with NVIDIA cuVS", "Use flat or ivf"
            )
        self.number = number
        self.kind = kind
        self.resources: Any = faiss.StandardGpuResources()
        # FAISS's GPU indexes are for one thread at a time.
        self.lock = threading.Lock()


def open_gpu(device: str) -> Gpu | None:
    """The GPU of ``cuda`` or ``cuda:1``; ``None`` for another device, and where FAISS cannot use it, which is logged.

    Raises:
        InvalidArgumentError: there is no GPU of that number.
    """
    match = DEVICE.fullmatch(device)
    if match is None:
        return None
    faiss = import_faiss()
    if not hasattr(faiss, "StandardGpuResources"):
        log.warning(
            'Vectors are searched on the CPU: this FAISS has no GPU support; pip install "xsearch[gpu]" has it.'
        )
        return None
    number, count = int(match.group(1) or 0), int(faiss.get_num_gpus())
    if count == 0:
        log.warning("Vectors are searched on the CPU: FAISS finds no GPU here.")
        return None
    if number >= count:
        raise InvalidArgumentError(
            f"The device is {device}", f"There are {count} GPUs, numbered from 0", f"Pass cuda:{count - 1} or less"
        )
    return Gpu(number)


class GpuPart:
    """A part whose rows lie on a GPU too; safe for several threads, which take turns there."""

    def __init__(self, part: CpuPart, gpu: Gpu) -> None:
        self.rows = part.rows
        self._part = part
        self._gpu = gpu
        with gpu.lock:
            self._faiss = _built(part, gpu)
        self._parameters = _parameters(self._faiss, gpu.kind)

    def vectors(self, rows: Rows) -> Vectors:
        """These rows, ``(n, dim) float32``."""
        return self._part.vectors(rows)

    def read_range(self, start: int, stop: int) -> Vectors:
        """Rows ``start`` to ``stop``, ``(stop - start, dim) float32``."""
        return self._part.read_range(start, stop)

    def search(self, queries: Vectors, k: int, selection: Selection) -> Found:
        """The ``k`` best rows of each query, or as many as there are; of equals the later one comes first.

        Narrow filters, and more answers than FAISS gives from a GPU, are left to the part on the CPU.
        """
        count = min(k, selection.count)
        fetched = math.ceil(count / max(selection.share, 1e-9)) + 4 * SPARE_ROWS
        if selection.share < PASS_OVER_SHARE or fetched > MOST_ROWS:
            return self._part.search(queries, k, selection)
        with self._gpu.lock:
            _, found = self._faiss.search(queries, min(fetched, self.rows), params=self._parameters)
        kept = [selection.keep(rows[rows >= 0]) for rows in found]
        best = [
            best_of(rows, inner_products(self.vectors(rows), query), count)
            for rows, query in zip(kept, queries, strict=True)
        ]
        missing = [place for place, one in enumerate(best) if len(one.rows) < count]
        if missing:
            for place, one in zip(missing, self._part.search(queries[missing], k, selection), strict=True):
                best[place] = one
        return Found.of_each(best) if best else Found.nothing(0)


def _built(part: CpuPart, gpu: Gpu) -> Any:
    """A FAISS index of all rows of a part on a GPU."""
    faiss = import_faiss()
    dim = part.read_range(0, 1).shape[1]
    metric = faiss.METRIC_INNER_PRODUCT
    if gpu.kind is GpuKind.FLAT:
        config = faiss.GpuIndexFlatConfig()
        config.device = gpu.number
        config.useFloat16 = True
        made = faiss.GpuIndexFlat(gpu.resources, dim, metric, config)
    elif gpu.kind is GpuKind.IVF:
        ivf = faiss.GpuIndexIVFFlatConfig()
        ivf.device = gpu.number
        made = faiss.GpuIndexIVFFlat(gpu.resources, dim, lists_for(part.rows), metric, ivf)
        made.cp.niter = TRAINING_ROUNDS
        made.cp.min_points_per_centroid = 1
        made.train(part.vectors(some_rows(part.rows, lists_for(part.rows) * TRAINING_VECTORS_A_LIST, seed=0)))
    else:
        cagra = faiss.GpuIndexCagraConfig()
        cagra.device = gpu.number
        cagra.graph_degree = CAGRA_DEGREE
        cagra.intermediate_graph_degree = 2 * CAGRA_DEGREE
        made = faiss.GpuIndexCagra(gpu.resources, dim, metric, cagra)
        # A graph is built of all vectors at once.
        made.train(np.concatenate(list(_blocks(part))))
        return made
    for block in _blocks(part):
        made.add(block)
    return made


def _blocks(part: CpuPart) -> Iterator[Vectors]:
    for start in range(0, part.rows, READ_ROWS):
        yield part.read_range(start, min(start + READ_ROWS, part.rows))


def _parameters(made: Any, kind: GpuKind) -> Any:
    faiss = import_faiss()
    if kind is GpuKind.IVF:
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = max(1, round(made.nlist * PROBED_SHARE))
        return parameters
    if kind is GpuKind.CAGRA:
        parameters = faiss.SearchParametersCagra()
        parameters.itopk_size = CAGRA_SEARCH_WIDTH
        return parameters
    return None
