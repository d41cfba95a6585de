"""A run that writes to an index: documents in, with vectors or to be encoded, and those that are gone out."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from xsearch.encoder.protocol import Encoder
from xsearch.errors import InvalidArgumentError
from xsearch.given import GivenOptions, take_in
from xsearch.ingest import DuplicatePolicy, IngestOptions, IngestReport, OnDone, ingest
from xsearch.records import Document
from xsearch.store.catalog import storable
from xsearch.store.writer import Interrupted, Pruned, Writer
from xsearch.text.passages import PassageLimits
from xsearch.vectors import batches_of


class IndexingRun:
    """A run that writes to an index and holds it for itself; from ``Index.run``.

    Attributes:
        interrupted: the earlier run over the same sources that this one takes up, where there was one.

    Args:
        encoder: ``None`` where all documents come with their vectors.
        dim: of the index's vectors.
    """

    def __init__(self, writer: Writer, encoder: tuple[Encoder, PassageLimits] | None, *, dim: int) -> None:
        self._writer = writer
        self._encoder = encoder
        self._dim = dim
        self.interrupted: Interrupted | None = writer.interrupted

    def add(
        self,
        documents: Iterable[Document],
        *,
        vectors: Any = None,
        origin: str = "",
        on_duplicate: DuplicatePolicy = DuplicatePolicy.REPLACE,
        on_done: OnDone | None = None,
    ) -> IngestReport:
        """Takes in documents; unchanged ones are not encoded or written again.

        Args:
            vectors: of the documents, each then one passage (see ``Index.add``); by default they are encoded.
            origin: the SOURCE they come under, one of those that the run was opened with.
            on_duplicate: what to do with an id met before in this run.
            on_done: called with the number of documents that are dealt with since the last call.
        """
        origin = storable(origin)
        if vectors is not None:
            options = GivenOptions(self._dim, on_duplicate=on_duplicate, origin=origin)
            return take_in(batches_of(documents, vectors), self._writer, options, on_done=on_done)
        if self._encoder is None:
            raise InvalidArgumentError(
                "Documents came without vectors to a run that was opened without an encoder",
                "A run encodes unless it was opened with encode=False",
                "Pass vectors=, or leave out encode=False",
            )
        encoder, limits = self._encoder
        return ingest(documents, self._writer, encoder, IngestOptions(limits, on_duplicate, origin), on_done=on_done)

    def prune(self, unreadable: Collection[str] = ()) -> Pruned:
        """Deletes documents that came under this run's sources before and were not met now.

        Args:
            unreadable: files and folders that could not be read; the documents from there may be there still, and stay.
        """
        return self._writer.prune(unreadable)
