"""An index made as small and as fast as it can be: one segment, words of live passages only, a dense database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from xsearch.errors import InvalidArgumentError
from xsearch.store.catalog import Catalog, passages, runs, write_setting
from xsearch.store.files import writer_lock
from xsearch.store.folder import folder_size
from xsearch.store.generation import note_change
from xsearch.store.kinds import FLAT, make
from xsearch.store.lexical import TABLE
from xsearch.store.merge import OnStage, merge_all, remove_unlisted
from xsearch.store.words import renew_words

# Notes of earlier runs that are kept.
RUNS_KEPT = 100


@dataclass(frozen=True, slots=True)
class Compacted:
    """What compacting did.

    Attributes:
        before, after: bytes on disk.
        vectors: whether vectors were written anew.
        words: whether the full text was made anew.
    """

    before: int
    after: int
    vectors: bool
    words: bool


def compact(index: Path, catalog: Catalog, *, on_stage: OnStage | None = None) -> Compacted:
    """Gives back what deleted and replaced passages take, merges all segments, and builds the FAISS file anew.

    Nothing is done twice: a compacted index stays as it is. Killed at any point, it is as it was or compacted in part.

    Args:
        on_stage: told in a few words what takes long.

    Raises:
        IndexLockedError: somebody is writing.
    """
    told = on_stage or (lambda line: None)
    with writer_lock(index):
        remove_unlisted(index, catalog)
        before = folder_size(index) + catalog.size()
        vectors = merge_all(index, catalog, on_stage=on_stage)
        words = _renew_words(catalog, told)
        _forget_runs(catalog)
        _give_back(catalog, told)
        return Compacted(before, folder_size(index) + catalog.size(), vectors, words)


def set_search(index: Path, catalog: Catalog, *, dim: int, recall: float | None, factory: str | None) -> None:
    """Notes what is asked of the index's search; counts from the next time that a FAISS file is built.

    Args:
        recall: share of the true ten nearest that must be found, above 0 and at most 1; ``None`` leaves it.
        factory: kind of index, as a FAISS factory string; ``Flat`` for exact search at any size, empty for the fastest
            kind that reaches the recall; ``None`` leaves it.

    Raises:
        InvalidArgumentError: the recall is out of range, or FAISS cannot make such an index.
    """
    if recall is not None and not 0 < recall <= 1:
        raise InvalidArgumentError(
            f"The recall is {recall}", "It is a share of what there is to find: above 0, at most 1", "Pass e.g. 0.95"
        )
    if factory and factory != FLAT:
        make(factory, dim)
    with writer_lock(index), catalog.transaction() as connection:
        for key, value in (("recall", recall), ("factory", factory)):
            if value is not None:
                write_setting(connection, key, value)


def _renew_words(catalog: Catalog, told: OnStage) -> bool:
    """Makes the full text anew where it holds words of passages that are gone."""
    listed = TABLE if catalog.schema else f"{TABLE}_docsize"
    with catalog.reading() as connection:
        held = connection.exec_driver_sql(f"SELECT count(*) FROM {listed}").scalar_one()
        live = connection.execute(sa.select(sa.func.count()).select_from(passages)).scalar_one()
    if held == live:
        return False
    told(f"making the full text of {live:,} passages anew")
    with catalog.transaction() as connection:
        renew_words(connection)
        note_change(connection)
    return True


def _forget_runs(catalog: Catalog) -> None:
    with catalog.transaction() as connection:
        kept = sa.select(runs.c.run_id).order_by(runs.c.run_id.desc()).limit(RUNS_KEPT)
        old = runs.c.run_id.not_in(kept) & runs.c.finished.is_not(None)
        connection.execute(runs.delete().where(old))


def _give_back(catalog: Catalog, told: OnStage) -> None:
    """Has the database let go of empty pages and of its log."""
    told("giving back disk space")
    catalog.vacuum()
