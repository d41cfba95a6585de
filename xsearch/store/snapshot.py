"""One consistent state of an index, for reading: a database transaction and the vectors that belong to it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from xsearch.errors import InvalidArgumentError
from xsearch.store.catalog import (
    Catalog,
    documents,
    passages,
    read_settings,
    tombstones,
)
from xsearch.store.gpu import Gpu, open_gpu
from xsearch.store.hits import PassageRow, fetch_langs, fetch_passages
from xsearch.store.lexical import search_words
from xsearch.store.listing import read_ann_files, read_segments
from xsearch.store.searcher import Selections, VectorSearcher
from xsearch.store.vectors import Nearest, PassageIds, Vectors
from xsearch.store.where import parse_where
from xsearch.text.tags import matches

# Filters whose passages are remembered for one state of an index, the last used ones.
FILTERS_KEPT = 32
# Ids of passages that they may hold together.
FILTERED_IDS_KEPT = 8_000_000


class Allowed:
    """What a filter leaves: ids of passages, sorted, and where their vectors are."""

    def __init__(self, passage_ids: PassageIds) -> None:
        self.passage_ids = passage_ids
        self._selections: tuple[VectorSearcher, Selections] | None = None

    def selections(self, searcher: VectorSearcher) -> Selections:
        """The rows of these passages; found once."""
        known = self._selections
        if known is None or known[0] is not searcher:
            known = self._selections = searcher, searcher.select(self.passage_ids)
        return known[1]


class LoadedState:
    """What was read of one state of an index, for all searches of that state; safe for several threads.

    A snapshot pins the database's log, so none is held between searches; what was read in one is.

    Args:
        generation: of the state.
        before: the searcher of an earlier state, of which the new one takes over what did not change.
    """

    def __init__(self, generation: int, before: VectorSearcher | None) -> None:
        self.generation = generation
        self.lock = threading.RLock()
        self.before = before
        self.searcher: VectorSearcher | None = None
        self.count: int | None = None
        self._filters: OrderedDict[tuple[tuple[str, ...], str], Allowed] = OrderedDict()

    def filtered(self, key: tuple[tuple[str, ...], str]) -> Allowed | None:
        """What is remembered of a filter."""
        with self.lock:
            found = self._filters.get(key)
            if found is not None:
                self._filters.move_to_end(key)
            return found

    def remember(self, key: tuple[tuple[str, ...], str], allowed: Allowed) -> None:
        """Remembers what a filter leaves, and forgets what was not used for longest."""
        with self.lock:
            self._filters[key] = allowed
            while len(self._filters) > 1 and (
                len(self._filters) > FILTERS_KEPT
                or sum(len(one.passage_ids) for one in self._filters.values()) > FILTERED_IDS_KEPT
            ):
                self._filters.popitem(last=False)


class Loaded:
    """What an open index has read of its last state; safe for several threads.

    Args:
        device: where big parts are searched: ``cpu``, ``cuda``, ``cuda:1``.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self._lock = threading.Lock()
        self._state = LoadedState(-1, None)

    @cached_property
    def gpu(self) -> Gpu | None:
        """The GPU that vectors are searched on, if there is one to be used."""
        return open_gpu(self._device)

    def of(self, generation: int) -> LoadedState:
        """The state of that number: the newest stays, an older one is of its snapshot alone."""
        with self._lock:
            newest = self._state
            if newest.generation == generation:
                return newest
            # Not "or": a searcher of no live row is false.
            state = LoadedState(generation, newest.before if newest.searcher is None else newest.searcher)
            if generation > newest.generation:
                self._state = state
            return state

    def forget(self) -> None:
        """Lets go of all that was read."""
        with self._lock:
            self._state = LoadedState(-1, None)


class Snapshot:
    """What the index held at one moment; later writes do not show. Not safe for several threads at once.

    Attributes:
        identity: of the index; another one that is built at the same place has another.
        generation: counts the commits.

    Args:
        index: the index's folder.
        dim: of its vectors.
        loaded: by earlier snapshots of this index; by default all is read anew.
    """

    def __init__(self, index: Path, catalog: Catalog, *, dim: int, loaded: Loaded | None = None) -> None:
        self._index = index
        self._dim = dim
        self._catalog = catalog
        self._connection = catalog.snapshot()
        with catalog.own_errors():
            values = read_settings(self._connection, ("identity", "generation"))
        self.identity: str = values["identity"]
        self.generation: int = values["generation"]
        self._loaded = loaded or Loaded()
        self._state = self._loaded.of(self.generation)

    @property
    def searcher(self) -> VectorSearcher:
        """Search over the vectors of this state; reading them happens at the first use."""
        state = self._state
        if state.searcher is not None:
            return state.searcher
        with state.lock:
            if state.searcher is None:
                state.searcher = self._read_searcher(state.before)
                state.before = None
            return state.searcher

    def _read_searcher(self, before: VectorSearcher | None) -> VectorSearcher:
        with self._catalog.own_errors():
            deleted = self._connection.execute(sa.select(tombstones.c.passage_id).order_by(tombstones.c.passage_id))
            gone = np.fromiter(deleted.scalars(), dtype=np.int64)
            segments, files = read_segments(self._connection), read_ann_files(self._connection)
        searcher = VectorSearcher(self._index, segments, ann_files=files, deleted=gone, dim=self._dim, before=before)
        if len(searcher) != self.count:
            raise self._catalog.damaged(f"lists {self.count} passages for {len(searcher)} vectors")
        if self._loaded.gpu is not None:
            searcher.move_to(self._loaded.gpu, before=before)
        return searcher

    @property
    def count(self) -> int:
        """How many passages there are."""
        if self._state.count is None:
            with self._catalog.own_errors():
                count = sa.select(sa.func.count()).select_from(passages)
                self._state.count = int(self._connection.execute(count).scalar_one())
        return self._state.count

    def allowed(self, *, langs: Sequence[str] = (), where: str = "") -> Allowed | None:
        """The passages in any of the languages and under the filter; ``None`` where neither is given.

        ``zh`` takes in ``zh-Hant`` and ``yue``; see :mod:`xsearch.store.where` for the filter.
        """
        if not langs and not where:
            return None
        key = (tuple(langs), where)
        found = self._state.filtered(key)
        if found is None:
            found = Allowed(self._passage_ids(langs, where))
            self._state.remember(key, found)
        return found

    def _passage_ids(self, langs: Sequence[str], where: str) -> PassageIds:
        query = sa.select(passages.c.passage_id).order_by(passages.c.passage_id)
        if langs:
            tags = [tag for tag in self._languages() if any(self._matches(tag, lang) for lang in langs)]
            query = query.where(passages.c.lang.in_(tags))
        if where:
            query = query.join(documents, passages.c.doc_key == documents.c.doc_key).where(parse_where(where))
        with self._catalog.own_errors():
            return np.fromiter(self._connection.execute(query).scalars(), dtype=np.int64)

    def dense(self, queries: Vectors, k: int, *, allowed: Allowed | None = None) -> list[Nearest]:
        """The ``k`` passages nearest to each query (:mod:`xsearch.store.searcher`)."""
        searcher = self.searcher
        if allowed is None:
            return searcher.search(queries, k)
        among = allowed.selections(searcher)
        found = sum(selection.count for selection in among)
        if found != len(allowed.passage_ids):
            raise self._catalog.damaged(f"lists {len(allowed.passage_ids) - found} passages without vectors")
        return searcher.search(queries, k, among=among)

    def words(self, query: str, k: int, *, allowed: Allowed | None = None, also: PassageIds | None = None) -> Nearest:
        """The ``k`` passages that share most words with the query, and those of ``also`` that share any.

        See :mod:`xsearch.store.lexical`; ``also`` must be among the allowed ones.
        """
        ids = None if allowed is None else allowed.passage_ids
        with self._catalog.own_errors():
            return search_words(self._connection, query, k, count=self.count, allowed=ids, also=also)

    def langs(self, passage_ids: PassageIds) -> list[str]:
        """The language of each of these passages, in their order."""
        with self._catalog.own_errors():
            found = fetch_langs(self._connection, passage_ids.tolist())
        missing = len(passage_ids) - len(found)
        if missing:
            raise self._catalog.damaged(f"lacks {missing} passages of which there are vectors")
        return [found[passage_id] for passage_id in passage_ids.tolist()]

    def _matches(self, tag: object, lang: str) -> bool:
        try:
            return matches(str(tag), lang)
        except InvalidArgumentError as exc:
            raise self._catalog.damaged(f"holds passages in a language {tag!r}, which is none") from exc

    def _languages(self) -> list[str]:
        """The languages of all passages."""
        with self._catalog.own_errors():
            return list(self._connection.execute(sa.select(passages.c.lang).distinct()).scalars())

    def passages(self, passage_ids: Sequence[int]) -> dict[int, PassageRow]:
        """The passages with these ids, by id."""
        with self._catalog.own_errors():
            found = fetch_passages(self._catalog, self._connection, passage_ids)
        if len(found) != len(passage_ids):
            raise self._catalog.damaged(f"lacks {len(passage_ids) - len(found)} passages of which there are vectors")
        return found

    def close(self) -> None:
        """Lets go of the state; the object is of no use afterwards."""
        self._connection.close()
