"""What an index holds and how it was built, in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from xsearch.encoder.fingerprint import Fingerprint
from xsearch.store.ann import AnnFile
from xsearch.store.catalog import Catalog, documents, passages, read_setting, runs
from xsearch.store.folder import folder_size
from xsearch.store.listing import read_ann_files, read_segments
from xsearch.store.merge import read_wanted
from xsearch.store.passport import read_kept_step
from xsearch.store.tuning import DEFAULT_RECALL


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index holds and how it was built.

    Attributes:
        languages: passages by BCP-47 tag, most first.
        size: bytes on disk, those of the catalogue's database among them.
        unfinished: when the last indexing run began, if it was interrupted.
        catalog: the database that holds the catalogue, if it is not in the folder.
        recall_asked, factory: what is asked of approximate search; an empty factory is the fastest kind.
        step: how the step was fitted that the index keeps and that follows its encoder; ``None`` where there is none.
        ann: FAISS files, with what was measured when they were built; passages that are in none are searched exactly.
    """

    path: str
    documents: int
    passages: int
    languages: dict[str, int]
    size: int
    segments: int
    passage_tokens: int
    fingerprint: Fingerprint
    generation: int
    unfinished: str | None = None
    catalog: str | None = None
    recall_asked: float = DEFAULT_RECALL
    factory: str = ""
    step: dict[str, Any] | None = None
    ann: tuple[AnnFile, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON-serialisable values."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {**fields, "fingerprint": self.fingerprint.to_dict(), "ann": [asdict(file) for file in self.ann]}


def read_info(path: Path, catalog: Catalog, fingerprint: Fingerprint) -> IndexInfo:
    """What the index in a folder holds at this moment."""
    count = sa.func.count()
    with catalog.reading() as connection:
        step = read_kept_step(catalog, read_setting(connection, "step"))
        by_language = (
            sa.select(passages.c.lang, count).group_by(passages.c.lang).order_by(count.desc(), passages.c.lang)
        )
        wanted = read_wanted(connection)
        languages = {row.lang: int(row[1]) for row in connection.execute(by_language)}
        open_runs = sa.select(runs.c.started).where(runs.c.finished.is_(None)).order_by(runs.c.run_id.desc())
        return IndexInfo(
            path=str(path),
            documents=int(connection.execute(sa.select(count).select_from(documents)).scalar_one()),
            passages=sum(languages.values()),
            languages=languages,
            size=folder_size(path) + catalog.size(),
            segments=len(read_segments(connection)),
            passage_tokens=read_setting(connection, "passage_tokens"),
            fingerprint=fingerprint,
            generation=read_setting(connection, "generation"),
            unfinished=connection.execute(open_runs).scalar(),
            catalog=catalog.place if catalog.schema else None,
            recall_asked=wanted.recall,
            factory=wanted.factory,
            step=None if step is None else dict(step.facts),
            ann=tuple(read_ann_files(connection)),
        )
