"""Which passage a row belongs to and the other way round."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from xsearch.store.vectors import PassageIds, Rows, Segment


class IdMap:
    """Passages and rows over the rows of segments laid end to end."""

    def __init__(self, segments: Iterable[Segment]) -> None:
        first_rows: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        first_ids: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        self.rows = 0
        for segment in segments:
            runs = segment.id_runs()
            first_rows.append(runs[:, 0] + self.rows)
            first_ids.append(runs[:, 1])
            self.rows += segment.rows
        self._first_rows = np.concatenate(first_rows)
        self._first_ids = np.concatenate(first_ids)
        self._lengths = np.diff(self._first_rows, append=self.rows)

    def ids_of(self, rows: Rows) -> PassageIds:
        """The ids of these rows."""
        run = np.searchsorted(self._first_rows, rows, side="right") - 1
        ids: PassageIds = self._first_ids[run] + rows - self._first_rows[run]
        return ids

    def all_ids(self) -> PassageIds:
        """The ids of all rows, ascending."""
        return self.ids_of(np.arange(self.rows))

    def holds(self, ids: PassageIds) -> NDArray[np.bool_]:
        """Which of these ids are in some segment."""
        if not len(ids) or not self.rows:
            return np.zeros(len(ids), dtype=bool)
        run = np.searchsorted(self._first_ids, ids, side="right") - 1
        return (run >= 0) & (ids - self._first_ids[run] < self._lengths[run])

    def rows_of(self, ids: PassageIds) -> Rows:
        """The rows of those of these ids that are in some segment, in their order."""
        ids = ids[self.holds(ids)]
        run = np.searchsorted(self._first_ids, ids, side="right") - 1
        rows: Rows = self._first_rows[run] + ids - self._first_ids[run]
        return rows
