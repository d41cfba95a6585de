"""One consistent state of an index, for reading: a database transaction and the vectors that belong to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from xsearch.store.catalog import (
    Catalog,
    PassageRow,
    documents,
    fetch_passages,
    passages,
    read_segments,
    read_setting,
    tombstones,
)
from xsearch.store.lexical import search_words
from xsearch.store.vectors import ExactSearcher, Nearest, PassageIds
from xsearch.store.where import parse_where
from xsearch.text.tags import matches


@dataclass(slots=True)
class LoadedVectors:
    """The searcher that the last snapshot used, for the next one, which reads only what is new.

    A snapshot pins the database's log, so none is held between searches; their vectors are.
    """

    generation: int = -1
    searcher: ExactSearcher | None = None


class Snapshot:
    """What the index held at one moment; later writes do not show. Not safe for several threads at once.

    Attributes:
        identity: of the index; another one that is built at the same place has another.
        generation: counts the commits.

    Args:
        index: the index's folder.
        dim: of its vectors.
        loaded: of earlier snapshots of this index, which must not be used any more; by default all is read anew.
    """

    def __init__(self, index: Path, catalog: Catalog, *, dim: int, loaded: LoadedVectors | None = None) -> None:
        self._index = index
        self._dim = dim
        self._catalog = catalog
        self._loaded = loaded or LoadedVectors()
        self._connection = catalog.snapshot()
        with catalog.own_errors():
            self.identity: str = read_setting(self._connection, "identity")
            self.generation: int = read_setting(self._connection, "generation")

    @cached_property
    def searcher(self) -> ExactSearcher:
        """Search over the vectors of this state; reading them happens at the first use."""
        before, generation = self._loaded.searcher, self._loaded.generation
        if before is not None and generation == self.generation:
            return before
        # Whatever goes wrong below, nobody goes on with vectors of which only some were taken over.
        self._loaded.searcher = None
        with self._catalog.own_errors():
            deleted = self._connection.execute(sa.select(tombstones.c.passage_id).order_by(tombstones.c.passage_id))
            gone = np.fromiter(deleted.scalars(), dtype=np.int64)
            segments = read_segments(self._connection)
        searcher = ExactSearcher(self._index, segments, deleted=gone, dim=self._dim, before=before)
        if len(searcher) != self._count:
            raise self._catalog.damaged(f"lists {self._count} passages for {len(searcher)} vectors")
        self._loaded.searcher, self._loaded.generation = searcher, self.generation
        return searcher

    @cached_property
    def _count(self) -> int:
        """How many passages there are."""
        with self._catalog.own_errors():
            count = sa.select(sa.func.count()).select_from(passages)
            return int(self._connection.execute(count).scalar_one())

    def passage_ids(self, *, langs: Sequence[str] = (), where: str = "") -> PassageIds | None:
        """Ids of the passages in any of the languages and under the filter, sorted; ``None`` where neither is given.

        ``zh`` takes in ``zh-Hant`` and ``yue``; see :mod:`xsearch.store.where` for the filter.
        """
        if not langs and not where:
            return None
        query = sa.select(passages.c.passage_id).order_by(passages.c.passage_id)
        if langs:
            tags = [tag for tag in self._languages() if any(matches(tag, lang) for lang in langs)]
            query = query.where(passages.c.lang.in_(tags))
        if where:
            query = query.join(documents, passages.c.doc_key == documents.c.doc_key).where(parse_where(where))
        with self._catalog.own_errors():
            return np.fromiter(self._connection.execute(query).scalars(), dtype=np.int64)

    def words(self, query: str, k: int, *, allowed: PassageIds | None = None) -> Nearest:
        """The ``k`` passages that share most words with the query (:mod:`xsearch.store.lexical`)."""
        with self._catalog.own_errors():
            return search_words(self._connection, query, k, count=self._count, allowed=allowed)

    def _languages(self) -> list[str]:
        """The languages of all passages."""
        with self._catalog.own_errors():
            return list(self._connection.execute(sa.select(passages.c.lang).distinct()).scalars())

    def passages(self, passage_ids: Sequence[int]) -> dict[int, PassageRow]:
        """The passages with these ids, by id."""
        with self._catalog.own_errors():
            found = fetch_passages(self._connection, passage_ids)
        if len(found) != len(passage_ids):
            raise self._catalog.damaged(f"lacks {len(passage_ids) - len(found)} passages of which there are vectors")
        return found

    def close(self) -> None:
        """Lets go of the state; the object is of no use afterwards."""
        self._connection.close()
