"""``xsearch index``: documents from files, tables and datasets into an index."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xsearch.cli.options import encoder_options, index_dir_option, json_option, quiet_option
from xsearch.cli.output import write_json
from xsearch.config import index_path

if TYPE_CHECKING:
    from xsearch.cli.progress import IngestProgress
    from xsearch.encoder.protocol import Encoder
    from xsearch.encoder.step import LinearStep
    from xsearch.index import Index
    from xsearch.ingest import IngestReport
    from xsearch.records import Document, Skipped

# Files with something skipped that are named on the terminal, and how many records of each: a table with a thousand bad
# rows must not hide the other files. All are counted, and --json names all.
NAMED_SKIPS = 20
NAMED_RECORDS = 3


@dataclass(slots=True)
class _Reading:
    """The documents of the sources, with what was skipped kept aside."""

    on_error: str
    by_row: bool = False
    skipped: list[Skipped] = field(default_factory=list)

    def documents(self, items: Iterator[Document | Skipped]) -> Iterator[Document]:
        from xsearch.errors import ReadError
        from xsearch.records import Skipped

        for item in items:
            if not isinstance(item, Skipped):
                yield item
            elif self.by_row:
                raise ReadError(
                    item.source, item.reason, "With --vectors each record has a row, whether it can be read or not",
                    "Mend it, or leave out both the record and its row", line=item.line,
                )  # fmt: skip
            elif self.on_error == "stop":
                raise ReadError(
                    item.source, item.reason, "Every document must be readable with --on-error stop",
                    "Mend or remove it, or use --on-error skip", line=item.line,
                )  # fmt: skip
            else:
                self.skipped.append(item)


@click.command(
    epilog="""\b
Examples:
  xsearch index news ./articles
  xsearch index news 'reports/**/*.pdf' notes.jsonl --lang-field language
  xsearch index papers corpus.parquet --text-field abstract --id-field doi
  cat lines.txt | xsearch index lines -
  xsearch index news ./articles --catalog postgresql://ann@db.example/search
  xsearch index news ./articles --encoder BAAI/bge-m3 --debias 'parallel/*.tsv'
  xsearch index wiki wiki.jsonl --vectors wiki.npy --encoder intfloat/multilingual-e5-small
  xsearch index news ./articles --prune      again later: only what changed is encoded"""
)
@click.argument("name")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--text-field", help="Field of a table that holds the text. [default: found by name]")
@click.option("--id-field", help="Field that holds the id. [default: found by name, else the row number]")
@click.option("--title-field", help="Field that holds the title. [default: found by name]")
@click.option("--lang-field", help="Field that holds the language. [default: found by name]")
@click.option("--lang", default="", help="Language of every document, e.g. de. [default: found out]")
@click.option("--encoding", help="Encoding of text files and tables. [default: detected]")
@click.option("--passage-tokens", type=click.IntRange(min=1), help="Length of passages in tokens. [default: 160]")
@click.option(
    "--on-error",
    type=click.Choice(["skip", "stop"]),
    default="skip",
    show_default=True,
    help="What to do with a file or record that cannot be read.",
)
@click.option(
    "--on-duplicate",
    type=click.Choice(["replace", "skip", "error"]),
    default="replace",
    show_default=True,
    help="What to do with a document id that comes twice in one run.",
)
@click.option(
    "--vectors",
    metavar="FILE.npy",
    help="Vectors of the records of one SOURCE, one row each, in their order; each record is then one passage, and is "
    "neither split nor encoded. They must be those of the index's encoder: only their size can be checked.",
)
@click.option("--vector-field", help="Field of each record that holds its vector; as --vectors.")
@click.option(
    "--catalog",
    metavar="URL",
    help="Keep texts, metadata and words of a new index in this PostgreSQL database (extra: postgres), "
    "postgresql://user@host/database; the password comes from PGPASSWORD or ~/.pgpass. [default: a file in its folder]",
)
@click.option(
    "--debias",
    multiple=True,
    metavar="PATTERN",
    help="Take the language bias out of the encoder, with a step fitted to these files of parallel text (see xsearch "
    "debias) when the index is made and kept in it. May be given several times.",
)
@click.option("--recall", type=float, help="Share of the true ten nearest that search must find. [default: 0.95]")
@click.option("--factory", help="Kind of vector index, as a FAISS factory string. [default: by size and measurement]")
@click.option("--prune", is_flag=True, help="Delete documents of these sources that are no longer there.")
@click.option("--rebuild", is_flag=True, help="Delete the index first, if there is one.")
@click.option("--dry-run", is_flag=True, help="Read and count, write nothing, and say what it would take.")
@encoder_options
@index_dir_option
@json_option
@quiet_option
def index(name: str, sources: tuple[str, ...], **flags: Any) -> None:
    """Put documents into the index NAME, which is made if it is not there.

    SOURCE is a file, a folder, a glob, '-' for lines on standard input, or hf:NAME for a dataset. Read are txt, md,
    html, pdf, docx, jsonl, json, csv, tsv, parquet and datasets saved on disk. Documents that did not change since they
    were indexed are not encoded again, and an interrupted run goes on where it stopped.
    """
    from xsearch.cli.progress import IngestProgress
    from xsearch.corpus.source import ReadOptions, measure_source, read_source

    _check_vectors(sources, flags)
    path = index_path(name, flags["index_dir"])
    options = ReadOptions(
        text_field=flags["text_field"],
        id_field=flags["id_field"],
        lang_field=flags["lang_field"],
        title_field=flags["title_field"],
        lang=flags["lang"],
        encoding=flags["encoding"],
    )
    sizes = [measure_source(source) for source in sources]
    total = sum(size.bytes for size in sizes) if all(size.bytes for size in sizes) else 0
    reading = _Reading(flags["on_error"], by_row=flags["vectors"] is not None)
    with IngestProgress(total, quiet=flags["quiet"]) as progress:
        # All of them before anything is made or written, for what is wrong with a source is mostly told here.
        items = [read_source(source, options, on_bytes=progress.advance) for source in sources]
        found = [
            (_origin(source), *_with_vectors(reading.documents(item), flags))
            for source, item in zip(sources, items, strict=True)
        ]
        if flags["dry_run"]:
            from xsearch.cli.plan import print_plan

            print_plan(path, chain.from_iterable(documents for _, documents, _ in found), progress, flags)
            _print_skipped(reading.skipped, quiet=flags["quiet"])
            return
        try:
            with _opened(path, flags) as target:
                if flags["recall"] is not None or flags["factory"] is not None:
                    target.set_search(recall=flags["recall"], factory=flags["factory"])
                report = _run(target, found, (reading, progress), flags)
                info = target.info()
        except KeyboardInterrupt:
            progress.remark("What was committed is kept; the same command goes on from there.")
            raise
    if flags["as_json"]:
        counts = {name: getattr(report, name) for name in report.__slots__}
        skipped = [asdict(item) for item in reading.skipped]
        write_json({**counts, "skipped": skipped, "index": info.to_dict()}, sys.stdout)
        return
    _print_skipped(reading.skipped, quiet=flags["quiet"])
    _print_report(report, len(reading.skipped), target, info.documents)


def _run(
    target: Index,
    sources: Sequence[tuple[str, Iterator[Document], Any]],
    around: tuple[_Reading, IngestProgress],
    flags: dict[str, Any],
) -> IngestReport:
    from xsearch.ingest import DuplicatePolicy, IngestReport

    reading, progress = around
    report = IngestReport()
    policy = DuplicatePolicy(flags["on_duplicate"])
    names = [origin for origin, _, _ in sources]

    def told(line: str) -> None:
        progress.remark(f"{line.capitalize()} ...")

    encode = flags["vectors"] is None and flags["vector_field"] is None
    with target.run(names, passage_tokens=flags["passage_tokens"], encode=encode, on_stage=told) as run:
        if run.interrupted is not None:
            progress.remark(
                f"Resuming: the run of {run.interrupted.started} was interrupted after {run.interrupted.documents:,} "
                "documents; these are not encoded again."
            )
        for origin, documents, vectors in sources:
            report.merge(
                run.add(documents, vectors=vectors, origin=origin, on_duplicate=policy, on_done=progress.count)
            )
        if flags["prune"]:
            pruned = run.prune({item.source for item in reading.skipped if not item.empty})
            report.pruned, report.kept = pruned.deleted, pruned.kept
    return report


def _check_vectors(sources: Sequence[str], flags: dict[str, Any]) -> None:
    """Refuses options that do not go with given vectors."""
    given = [option for option in ("vectors", "vector_field") if flags[option] is not None]
    if len(given) == 2:
        raise click.UsageError("--vectors and --vector-field do not go together: vectors are in one place.")
    if flags["vectors"] is not None and len(sources) > 1:
        raise click.UsageError("--vectors goes with one SOURCE: rows and records are paired in their order.")
    if given and flags["debias"]:
        raise click.UsageError("--debias goes with texts that are encoded; vectors that come along stay as they are.")
    if given and flags["dry_run"]:
        raise click.UsageError("--dry-run counts what must be encoded; with given vectors nothing must.")


def _with_vectors(documents: Iterator[Document], flags: dict[str, Any]) -> tuple[Iterator[Document], Any]:
    """The documents, and their vectors where these are given."""
    if flags["vectors"] is None and flags["vector_field"] is None:
        return documents, None
    from xsearch.corpus.vectors import open_vectors, split_field

    if flags["vectors"] is not None:
        return documents, open_vectors(flags["vectors"])
    return split_field(documents, flags["vector_field"])


def _opened(path: Path, flags: dict[str, Any]) -> Index:
    """The index at the path, made if it is not there."""
    from xsearch.encoder.load import BUILTIN, load_encoder
    from xsearch.index import Index
    from xsearch.store.folder import remove_index
    from xsearch.store.location import check_database, is_index
    from xsearch.text.passages import PassageLimits

    tokens, device = flags["passage_tokens"], flags["device"]
    catalog = flags["catalog"] or None
    exists = is_index(path)
    if exists and not flags["rebuild"]:
        opened = Index.open(path, encoder=flags["encoder"], device=device, catalog=catalog)
        _check_debiased(opened, flags)
        return opened
    encoder = load_encoder(flags["encoder"] or BUILTIN, device=device)
    step = _fitted_step(encoder, flags) if flags["debias"] else None
    if exists:
        # Not before it is sure that a new one can be made.
        if tokens is not None:
            PassageLimits(target=tokens, hard=encoder.max_tokens, overhead=encoder.overhead_tokens)
        if catalog is not None:
            check_database(catalog)
        remove_index(path)
    return Index.create(path, encoder=encoder, passage_tokens=tokens, device=device, catalog=catalog, step=step)


def _check_debiased(target: Index, flags: dict[str, Any]) -> None:
    """Refuses to debias an index that holds vectors already; one that keeps a step goes on with it."""
    if flags["debias"] and target.info().step is None:
        from xsearch.errors import SettingsMismatchError

        raise SettingsMismatchError(
            f"The index {target.path} was built without --debias",
            "A step is fitted when an index is made, and all its vectors go through it",
            "Leave out --debias, build another index, or start over with --rebuild",
        )


def _fitted_step(encoder: Encoder, flags: dict[str, Any]) -> LinearStep:
    """The step fitted to parallel text for a new index."""
    from xsearch.cli.debias import DebiasRequest, fitted
    from xsearch.cli.train_progress import TrainProgress

    with TrainProgress(quiet=flags["quiet"]) as progress:
        found = fitted(encoder, DebiasRequest(flags["debias"]), progress)
        progress.remark(
            f"Debiased with {len(found.languages)} languages and English: {found.variance_removed:.0%} of the variance "
            "between languages is taken out"
        )
    return found.step


def _origin(source: str) -> str:
    """The name under which a source's documents are kept: the same from whichever folder it is called."""
    from xsearch.corpus.walk import absolute

    if source == "-" or source.startswith("hf:"):
        return source
    return absolute(Path(source).expanduser())


def _print_skipped(skipped: list[Skipped], *, quiet: bool) -> None:
    if quiet:
        return
    # Records of a file come one after the other, as they were read.
    files = [(source, list(items)) for source, items in groupby(skipped, key=lambda item: item.source)]
    for source, items in files[:NAMED_SKIPS]:
        for item in items[:NAMED_RECORDS]:
            click.echo(f"Skipped {item.place}: {item.reason}", err=True)
        if len(items) > NAMED_RECORDS:
            click.echo(f"Skipped {len(items) - NAMED_RECORDS:,} more of {source}; --json names all", err=True)
    if len(files) > NAMED_SKIPS:
        left = sum(len(items) for _, items in files[NAMED_SKIPS:])
        click.echo(f"... and {left:,} more; --json names all", err=True)


def _print_report(report: IngestReport, skipped: int, target: Index, documents: int) -> None:
    counts = {
        "added": report.added,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "with new metadata only": report.relabelled,
        "without text": report.empty,
        "with an id that came twice": report.duplicates,
        "pruned": report.pruned,
        "kept as their file could not be read": report.kept,
        "skipped": skipped,
    }
    parts = [f"{count:,} {what}" for what, count in counts.items() if count]
    click.echo(f"{report.documents:,} documents read: {', '.join(parts) or 'nothing to do'}")
    if report.passages:
        languages = ", ".join(f"{lang} {count:,}" for lang, count in report.languages.most_common(12))
        encoded = f"encoded ({report.tokens:,} tokens, {report.cut:,} cut)" if report.tokens else "with given vectors"
        click.echo(f"{report.passages:,} passages {encoded}: {languages}")
    if report.unknown:
        languages = ", ".join(f"{lang} {count:,}" for lang, count in report.unknown.most_common(12))
        click.echo(
            f"{report.unknown.total():,} passages are in characters that the encoder does not know ({languages}): "
            "find them with --mode lexical or hybrid, or index with another --encoder"
        )
    if report.titles_left_out:
        click.echo(f"{report.titles_left_out:,} titles are too long to be encoded with each passage; they are stored")
    click.echo(f"Index {target.path}: {documents:,} documents")
