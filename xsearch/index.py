"""The index: create it, open it, put documents in, search it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa

from xsearch.encoder.load import BUILTIN, load_encoder
from xsearch.encoder.protocol import Encoder
from xsearch.encoder.step import LinearStep
from xsearch.errors import IndexDamagedError, InvalidArgumentError, SettingsMismatchError
from xsearch.records import Document, Hits, Query
from xsearch.search.retrieve import Mode, SearchOptions, retrieve
from xsearch.store.catalog import Catalog, documents, read_setting, storable
from xsearch.store.compact import Compacted, compact, set_search
from xsearch.store.documents import read_documents
from xsearch.store.files import disk_errors, writer_lock
from xsearch.store.folder import check_free, check_is_index
from xsearch.store.generation import check_identity
from xsearch.store.info import IndexInfo, read_info
from xsearch.store.location import find_catalog, make_catalog
from xsearch.store.merge import OnStage
from xsearch.store.passport import passport_settings, read_passport
from xsearch.store.snapshot import Loaded, Snapshot
from xsearch.store.verify import check_store, raise_damages
from xsearch.store.where import metadata_names, parse_where
from xsearch.store.writer import open_writer
from xsearch.text.passages import PassageLimits

if TYPE_CHECKING:
    from xsearch.ingest import DuplicatePolicy, IngestReport
    from xsearch.run import IndexingRun

# Half a page: long enough to hold an answer with its context, short enough to be about one thing.
DEFAULT_PASSAGE_TOKENS = 160
ITERATE_ROWS = 500
# States that a search tries, each of which a writer may have overtaken.
SNAPSHOTS_TRIED = 5


class Index:
    """Documents of any language, and search over them; a context manager.

    >>> with Index.open("indexes/news") as index:
    ...     for hit in index.search("Wer hat den Vertrag unterschrieben?", k=5):
    ...         print(hit.score, hit.doc_lang, hit.text)

    Any number of processes may read an index while one writes; a search sees the last commit. Methods may be called
    from several threads.
    """

    def __init__(self, path: Path, catalog: Catalog, encoder: Encoder | None, *, device: str = "cpu") -> None:
        self._path = path
        self._catalog = catalog
        self._device = device
        self._lock = threading.RLock()
        self._loaded = Loaded(device)
        self._passport = read_passport(catalog)
        self._identity = self._passport.identity
        self.passage_tokens = self._passport.passage_tokens
        self.fingerprint = self._passport.fingerprint
        self._given_encoder = None if encoder is None else self._passport.admitted(encoder, index=str(path))

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        encoder: Encoder | str = BUILTIN,
        passage_tokens: int | None = None,
        device: str = "cpu",
        catalog: str | None = None,
        step: LinearStep | None = None,
    ) -> Self:
        """A new, empty index.

        Args:
            path: its folder; must not be there, or be empty.
            encoder: an encoder, or the name or folder of one.
            passage_tokens: how long passages may be, in the encoder's tokens; 160, or what the encoder reads if less.
            catalog: URL of a PostgreSQL database to hold all but the vectors; an SQLite file in the folder by default.
            step: follows the encoder here from now on, whoever opens the index; fitted by ``xsearch debias``.

        Raises:
            IndexExistsError: there is something at ``path``.
            EncoderError: ``step`` was fitted for another encoder.
            StoreError: the folder cannot be made or written, or the database cannot be reached.
            InvalidArgumentError: ``catalog`` is not the URL of a PostgreSQL database.
        """
        path = Path(path)
        check_free(path)
        name = encoder if isinstance(encoder, str) else encoder.fingerprint.name
        loaded = load_encoder(encoder, device=device) if isinstance(encoder, str) else encoder
        limits = _limits(loaded, passage_tokens or min(DEFAULT_PASSAGE_TOKENS, loaded.max_tokens))
        values = passport_settings(loaded, name, passage_tokens=limits.target, step=step)
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        with writer_lock(path):
            check_free(path)
            made = make_catalog(path, values, catalog)
        return cls(path, made, loaded, device=device)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        encoder: Encoder | str | None = None,
        device: str = "cpu",
        catalog: str | None = None,
    ) -> Self:
        """The index in a folder.

        Args:
            encoder: an encoder, or the name or folder of one; by default the one it was built with, loaded when needed.
                A step that the index keeps follows it, unless it brings that step itself.
            catalog: URL of the PostgreSQL database that holds its catalogue, refused where that is another one; the
                folder knows it, but for the password.

        Raises:
            IndexNotFoundError: there is no index.
            IndexDamagedError, IndexTooNewError: there is one that cannot be read.
            FingerprintMismatchError: it was built with another encoder.
        """
        path = Path(path)
        check_is_index(path)
        found = find_catalog(path, catalog)
        found.check()
        loaded = load_encoder(encoder, device=device) if isinstance(encoder, str) else encoder
        return cls(path, found, loaded, device=device)

    @property
    def path(self) -> Path:
        """The index's folder."""
        return self._path

    @property
    def encoder(self) -> Encoder:
        """The index's encoder, followed by the step that the index keeps; loaded at the first use.

        Raises:
            FingerprintMismatchError: the model of that name has changed since the index was built.
        """
        with self._lock:
            if self._given_encoder is None:
                loaded = load_encoder(self._passport.encoder, device=self._device)
                self._given_encoder = self._passport.admitted(loaded, index=str(self._path))
            return self._given_encoder

    def check_passage_tokens(self, tokens: int | None) -> None:
        """Refuses passages of another length than the index's; ``None`` is any.

        Raises:
            SettingsMismatchError: the index holds passages of another length.
        """
        if tokens not in (None, self.passage_tokens):
            raise SettingsMismatchError(
                f"The index {self._path} was built with passages of {self.passage_tokens} tokens, not {tokens}",
                "All passages of an index are cut alike",
                "Leave out --passage-tokens, or build another index; or start over with --rebuild",
            )

    @contextmanager
    def run(
        self,
        sources: Sequence[str] = (),
        *,
        passage_tokens: int | None = None,
        encode: bool = True,
        on_stage: OnStage | None = None,
    ) -> Iterator[IndexingRun]:
        """A run that writes; nobody else can until the block is left. Left by an error, it counts as interrupted.

        Args:
            sources: where the documents come from; a later run over the same takes up an interrupted one.
            passage_tokens: refused where the index was built with another number.
            encode: ``False`` where all documents come with their vectors; no encoder is loaded then.
            on_stage: told in a few words what takes long at the end: building the search index of many passages.

        Raises:
            IndexLockedError: somebody else is writing.
            SettingsMismatchError: the index holds passages of another length.
        """
        self.check_passage_tokens(passage_tokens)
        encoder = (self.encoder, _limits(self.encoder, self.passage_tokens)) if encode else None
        # Taking in needs splitting and language detection, which a search does not wait for.
        from xsearch.run import IndexingRun

        names = [storable(source) for source in sources]
        with open_writer(self._path, self._catalog, names, identity=self._identity) as writer:
            yield IndexingRun(writer, encoder, dim=self.fingerprint.dim)
            writer.finish(on_stage=on_stage)

    def add(
        self, documents: Iterable[Document], *, vectors: Any = None, on_duplicate: DuplicatePolicy | str = "replace"
    ) -> IngestReport:
        """Takes in documents: new ids are added, known ids with another text are replaced, the rest is left alone.

        Args:
            vectors: one of each document, which is then one passage, neither split nor encoded: an array ``(n, dim)``,
                memory-mapped too, or an iterable of such arrays or of single vectors. They must be of the index's
                encoder, of which only their size can tell; they are normalised here.
            on_duplicate: what to do with an id that comes twice: ``replace``, ``skip`` or ``error``.

        Raises:
            IndexLockedError: somebody else is writing.
            DuplicateDocumentError: an id came twice and the policy is ``error``; what came before is committed.
            InvalidArgumentError: something is no document, or one that cannot be stored, or vectors are of another size
                or number; what came before is committed.
            NonFiniteVectorError: a vector holds NaN or infinity, or is all zero; what came before is committed.
        """
        policy = _policy(on_duplicate)
        if isinstance(documents, Document):
            raise InvalidArgumentError(
                f"documents is the one document {documents.doc_id!r}",
                "It must be a list of documents",
                "Pass [document]",
            )
        with self.run(encode=vectors is None) as run:
            return run.add(documents, vectors=vectors, on_duplicate=policy)

    def delete(self, doc_ids: Iterable[str]) -> int:
        """Deletes documents from every later answer; returns how many there were."""
        if isinstance(doc_ids, str):
            raise InvalidArgumentError(
                f"doc_ids is the text {doc_ids!r}", "It must be a list of ids", f"Pass [{doc_ids!r}]"
            )
        wanted = list(dict.fromkeys(storable(doc_id) for doc_id in doc_ids))
        with open_writer(self._path, self._catalog) as writer:
            count = sum(
                writer.delete(wanted[start : start + ITERATE_ROWS]) for start in range(0, len(wanted), ITERATE_ROWS)
            )
            writer.finish()
        return count

    def search(
        self,
        query: str | Query,
        *,
        k: int = 10,
        langs: Sequence[str] = (),
        where: str = "",
        mode: str = Mode.HYBRID,
        mark: bool = False,
    ) -> Hits:
        """The ``k`` passages that fit the query best, in any language.

        Args:
            langs: only passages in these languages, e.g. ``["de", "zh"]``.
            where: only documents that fit, e.g. ``"year >= 2000 and source = 'wiki'"``.
            mode: ``hybrid`` ranks by meaning, and within each language by shared words too; ``dense`` by meaning alone,
                ``lexical`` by words alone.
            mark: whether each hit says which of its sentences is nearest to the query.
        """
        return self.search_many([query], SearchOptions(k=k, langs=langs, where=where, mode=mode, mark=mark))[0]

    def search_many(self, queries: Sequence[str | Query], options: SearchOptions | None = None) -> list[Hits]:
        """The hits of each query, on one state of the index; faster than one by one."""
        if isinstance(queries, str):
            raise InvalidArgumentError(
                f"queries is the text {queries!r}",
                "It must be a list of queries",
                f"Pass [{queries!r}], or call search",
            )
        asked = [Query(str(n), query) if isinstance(query, str) else query for n, query in enumerate(queries, 1)]
        tries = SNAPSHOTS_TRIED
        while True:
            with self._snapshot() as snapshot:
                try:
                    return retrieve(snapshot, lambda: self.encoder, asked, options or SearchOptions())
                except IndexDamagedError:
                    tries -= 1
                    # A writer may have merged files, and removed the old ones before this state was read.
                    if not tries or self._generation() == snapshot.generation:
                        raise

    def get(self, doc_id: str) -> Document | None:
        """The document with this id, as stored, or ``None``.

        Raises:
            IndexDamagedError: it is not as it was written.
        """
        with self._catalog.reading() as connection:
            found = list(read_documents(self._catalog, connection, doc_id=storable(doc_id)))
        return found[0] if found else None

    def find(self, where: str) -> list[str]:
        """Ids of the documents that fit a filter, in the order in which they were added."""
        query = sa.select(documents.c.doc_id).where(parse_where(where)).order_by(documents.c.doc_key)
        with self._catalog.reading() as connection:
            return list(connection.execute(query).scalars())

    def unknown_names(self, where: str) -> list[str]:
        """The names in a filter that stand in no document's metadata: mistakes in spelling, mostly."""
        query = sa.select(documents.c.doc_key).limit(1)
        with self._catalog.reading() as connection:
            return [
                name
                for name in metadata_names(where)
                if connection.execute(query.where(parse_where(f'"{name}" is not null'))).first() is None
            ]

    def __iter__(self) -> Iterator[Document]:
        """All documents, in the order in which they were added, on one state of the index."""
        with self._catalog.reading() as connection:
            yield from read_documents(self._catalog, connection)

    def __len__(self) -> int:
        """How many documents there are."""
        with self._catalog.reading() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(documents)).scalar_one())

    def info(self) -> IndexInfo:
        """What the index holds and how it was built."""
        return read_info(self._path, self._catalog, self.fingerprint)

    def verify(self) -> int:
        """Reads all that is on disk and checks it; returns how many passages were found in order.

        Raises:
            IndexDamagedError: names all that is not as it was written.
        """
        checked = check_store(self._path, self._catalog, self.fingerprint.dim)
        raise_damages(checked.damages)
        return checked.passages

    def set_search(self, *, recall: float | None = None, factory: str | None = None) -> None:
        """Notes what is asked of search in a big index (:func:`xsearch.store.compact.set_search`)."""
        set_search(self._path, self._catalog, dim=self.fingerprint.dim, recall=recall, factory=factory)

    def compact(self, *, on_stage: OnStage | None = None) -> Compacted:
        """Gives disk space back, merges all vectors and builds their search anew (:mod:`xsearch.store.compact`)."""
        return compact(self._path, self._catalog, on_stage=on_stage)

    def close(self) -> None:
        """Lets go of the vectors in memory; files and connections are not held between calls."""
        self._loaded.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Index({str(self._path)!r}, encoder={self.fingerprint.name!r})"

    def _generation(self) -> int:
        with self._catalog.reading() as connection:
            generation: int = read_setting(connection, "generation")
        return generation

    @contextmanager
    def _snapshot(self) -> Iterator[Snapshot]:
        """The index as it is now, for as long as the block lasts."""
        with closing(Snapshot(self._path, self._catalog, dim=self.fingerprint.dim, loaded=self._loaded)) as snapshot:
            check_identity(self._path, snapshot.identity, self._identity)
            yield snapshot


def _limits(encoder: Encoder, target: int) -> PassageLimits:
    return PassageLimits(target=target, hard=encoder.max_tokens, overhead=encoder.overhead_tokens)


def _policy(policy: DuplicatePolicy | str) -> DuplicatePolicy:
    from xsearch.ingest import DuplicatePolicy

    try:
        return DuplicatePolicy(policy)
    except ValueError as exc:
        raise InvalidArgumentError(
            f"on_duplicate is {policy!r}", "It must be 'replace', 'skip' or 'error'", "Choose one of these"
        ) from exc
