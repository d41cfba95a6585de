"""An index moved to another encoder: encoded anew beside itself, and exchanged in one commit at the end.

The new vectors grow in an ordinary index in the folder ``migration``, while the old ones answer; so an interrupted
migration goes on as an interrupted run of ``xsearch index`` does.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from xsearch.encoder.load import load_encoder
from xsearch.encoder.protocol import Encoder
from xsearch.errors import IndexDamagedError, IndexNotFoundError, StoreError
from xsearch.index import Index
from xsearch.maintain.exchange import Place, exchange
from xsearch.maintain.split import stored_documents
from xsearch.records import Document
from xsearch.store.catalog import Catalog, documents, read_setting, write_setting
from xsearch.store.files import disk_errors, writer_lock
from xsearch.store.folder import MIGRATION_FOLDER, check_is_index
from xsearch.store.location import find_catalog
from xsearch.store.passport import passport_settings, read_passport
from xsearch.store.upgrade import upgrade
from xsearch.store.writer import open_writer

OnDone = Callable[[int], None]
# What the run that fills the new index calls its source.
SOURCE = "migration"


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What a migration did.

    Attributes:
        encoder: the name of the new one.
        documents, passages: that the index holds now.
        encoded: documents that this call encoded; fewer than all where an interrupted migration went on.
        resumed: when the interrupted one began, where there was one.
        changed: whether anything was to do.
        step_dropped: whether the index kept a debias step; it was fitted for the old encoder and is gone.
    """

    path: str
    encoder: str
    documents: int
    passages: int
    encoded: int
    resumed: str | None = None
    changed: bool = True
    step_dropped: bool = False

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON-serialisable values."""
        return asdict(self)


def migrate_index(
    path: str | Path,
    encoder: Encoder | str,
    *,
    passage_tokens: int | None = None,
    device: str = "cpu",
    on_done: OnDone = lambda count: None,
) -> MigrationReport:
    """Splits and encodes all documents anew with another encoder; searches get answers from the old vectors meanwhile.

    When it is killed the index is the old one or the new one; called again, it encodes nothing twice. Whoever has the
    index open is told to open it again. A debias step that the index keeps belongs to the old encoder and is dropped,
    also where both are the same model; a folder of ``xsearch debias`` brings one.

    Args:
        encoder: an encoder, or the name or folder of one.
        passage_tokens: how long passages may be from now on; as long as before, or what the new encoder reads if less.
        on_done: called with the number of characters of documents that are dealt with since the last call.

    Raises:
        IndexNotFoundError: there is no index.
        IndexLockedError: somebody is writing.
        StoreError: documents gave no passages with the new encoder; the index is the old one.
    """
    path = Path(path)
    check_is_index(path)
    catalog = find_catalog(path)
    name = encoder if isinstance(encoder, str) else encoder.fingerprint.name
    with Index.open(path) as old:
        loaded = load_encoder(encoder, device=device) if isinstance(encoder, str) else encoder
        tokens = passage_tokens or min(old.passage_tokens, loaded.max_tokens)
        with writer_lock(path):
            upgrade(path, catalog)
            if old.fingerprint.digest == loaded.fingerprint.digest and tokens == old.passage_tokens:
                _remove_side(path)
                info = old.info()
                report = MigrationReport(str(path), name, info.documents, info.passages, 0, changed=False)
            else:
                report = _migrate(old, catalog, (loaded, name, tokens), on_done)
        with open_writer(path, catalog) as writer:  # which sweeps the old files
            writer.finish()
    return report


def remove_finished(index: Index) -> bool:
    """Removes what a migration left that was killed after its commit; returns whether there was anything.

    The caller holds the writer's lock.
    """
    try:
        with Index.open(index.path / MIGRATION_FOLDER) as side:
            finished = (side.fingerprint.digest, side.passage_tokens) == (
                index.fingerprint.digest,
                index.passage_tokens,
            )
    except (IndexNotFoundError, IndexDamagedError):
        # Without a catalogue it is what a killed removal or creation left.
        finished = (index.path / MIGRATION_FOLDER).exists()
    if finished:
        _remove_side(index.path)
    return finished


def characters(path: str | Path) -> int:
    """Characters of all documents: what ``on_done`` adds up to."""
    with find_catalog(Path(path)).reading() as connection:
        return int(connection.execute(sa.select(sa.func.sum(sa.func.length(documents.c.text)))).scalar() or 0)


def _migrate(old: Index, catalog: Catalog, target: tuple[Encoder, str, int], on_done: OnDone) -> MigrationReport:
    encoder, name, tokens = target
    with _opened_side(old.path, catalog, encoder, tokens) as side:
        with side.run([SOURCE]) as run:
            resumed = run.interrupted.started if run.interrupted is not None else None
            done = run.add(_documents(catalog, old.passage_tokens, on_done), origin=SOURCE)
            run.prune()
        _check_complete(old, side)
        info = side.info()
        settings = passport_settings(encoder, name, passage_tokens=tokens)
        dropped = read_passport(catalog).step is not None
        if dropped:
            settings["step"] = None
        exchange(
            Place(old.path, catalog),
            Place(side.path, find_catalog(side.path)),
            settings,
            same_hashes=tokens == old.passage_tokens,
        )
    _remove_side(old.path)
    encoded = done.added + done.updated
    return MigrationReport(str(old.path), name, info.documents, info.passages, encoded, resumed, step_dropped=dropped)


def _opened_side(path: Path, catalog: Catalog, encoder: Encoder, tokens: int) -> Index:
    """The index that grows beside the old one: that of an interrupted migration to the same encoder, or a new one."""
    place = path / MIGRATION_FOLDER
    try:
        side = Index.open(place)
        if side.fingerprint.digest == encoder.fingerprint.digest and side.passage_tokens == tokens:
            side.close()
            return Index.open(place, encoder=encoder)
        side.close()
    except (IndexNotFoundError, IndexDamagedError):
        pass
    _remove_side(path)
    side = Index.create(place, encoder=encoder, passage_tokens=tokens)
    with catalog.reading() as connection:
        first = read_setting(connection, "next_passage_id")
    with find_catalog(place).transaction() as connection:
        # So that no passage gets an id that another one had.
        write_setting(connection, "next_passage_id", first)
    return side


def _remove_side(path: Path) -> None:
    place = path / MIGRATION_FOLDER
    if place.exists():
        with disk_errors(place):
            shutil.rmtree(place)


def _documents(catalog: Catalog, passage_tokens: int, on_done: OnDone) -> Iterator[Document]:
    with catalog.reading() as connection:
        for one in stored_documents(connection, passage_tokens):
            yield one.document
            on_done(len(one.document.text))


def _check_complete(old: Index, side: Index) -> None:
    """Refuses a new index that lacks documents of the old one.

    Raises:
        StoreError
    """
    if len(old) == len(side):
        return
    missing = [document.doc_id for document in old if side.get(document.doc_id) is None]
    raise StoreError(
        f"{len(missing):,} documents gave no passages with the new encoder: {', '.join(missing[:5])}",
        "All documents of an index go with it to another encoder",
        "Delete these documents first, or choose another encoder; the index is as it was",
    )
