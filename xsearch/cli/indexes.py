"""``xsearch list | info | verify | compact | delete | export``: looking after indexes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xsearch.cli.options import index_dir_option, json_option, output_option, quiet_option
from xsearch.cli.output import output as output_to
from xsearch.cli.output import write_json
from xsearch.config import index_path

if TYPE_CHECKING:
    from xsearch.store.info import IndexInfo

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@click.command(
    "list",
    epilog="""\b
Examples:
  xsearch list
  xsearch list --index-dir ~/indexes --json""",
)
@index_dir_option
@json_option
def list_indexes(index_dir: Path, as_json: bool) -> None:
    """List the indexes with what they hold."""
    from rich.cells import cell_len

    from xsearch.errors import StoreError
    from xsearch.index import Index
    from xsearch.store.location import is_index

    rows: list[dict[str, Any]] = []
    for path in sorted(folder for folder in index_dir.expanduser().glob("*/") if is_index(folder)):
        name = path.name
        try:
            with Index.open(path) as index:
                rows.append({"name": name, **index.info().to_dict()})
        except StoreError as exc:
            rows.append({"name": name, "path": str(path), "error": str(exc)})
    if as_json:
        write_json(rows, sys.stdout)
        return
    if not rows:
        click.echo(f"No index in {index_dir}. Make one with: xsearch index NAME SOURCE...", err=True)
    for row in rows:
        # By terminal cells: a Chinese name is as wide as twice its characters.
        name = row["name"] + " " * (20 - cell_len(row["name"]))
        if "error" in row:
            click.echo(f"{name} cannot be read: {row['error']}")
            continue
        languages = " ".join(list(row["languages"])[:12])
        size, encoder = readable_size(row["size"]), row["fingerprint"]["name"]
        click.echo(f"{name} {row['documents']:>9,} documents {size:>10}  {encoder}  {languages}")


@click.command(
    epilog="""\b
Examples:
  xsearch info news
  xsearch info news --json"""
)
@click.argument("name")
@index_dir_option
@json_option
def info(name: str, index_dir: Path, as_json: bool) -> None:
    """Show what the index NAME holds and how it was built."""
    from xsearch.index import Index

    with Index.open(index_path(name, index_dir)) as index:
        found = index.info()
    if as_json:
        write_json(found.to_dict(), sys.stdout)
        return
    for label, value in _info_rows(found):
        click.echo(f"{label:<16} {value}")


@click.command(
    epilog="""\b
Examples:
  xsearch compact news
  xsearch compact news --recall 0.99
  xsearch compact news --factory HNSW32,SQ8"""
)
@click.argument("name")
@click.option(
    "--recall", type=float, help="Share of the true ten nearest passages that search must find. [default: as before]"
)
@click.option(
    "--factory", help="FAISS factory string; Flat for exact search, '' for the fastest kind. [default: as before]"
)
@index_dir_option
@json_option
@quiet_option
def compact(
    name: str, *, recall: float | None, factory: str | None, index_dir: Path, as_json: bool, quiet: bool
) -> None:
    """Make the index NAME small and fast: deleted passages go, vectors are merged, and their search is built anew."""
    from xsearch.index import Index

    with Index.open(index_path(name, index_dir)) as index:
        if recall is not None or factory is not None:
            index.set_search(recall=recall, factory=factory)
        done = index.compact(on_stage=None if quiet else lambda line: click.echo(f"{line.capitalize()} ...", err=True))
    if as_json:
        write_json(asdict(done), sys.stdout)
    else:
        click.echo(f"{readable_size(done.before)} before, {readable_size(done.after)} now")


@click.command(
    epilog="""\b
Examples:
  xsearch delete news /data/articles/old.txt      one document
  xsearch delete news --where "year < 1990"       all that fit
  xsearch delete news --yes                       the whole index"""
)
@click.argument("name")
@click.argument("doc_ids", nargs=-1, metavar="[DOC_ID]...")
@click.option("--where", default="", help="Delete the documents that fit.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before the whole index is deleted.")
@index_dir_option
@quiet_option
def delete(name: str, doc_ids: tuple[str, ...], *, where: str, yes: bool, index_dir: Path, quiet: bool) -> None:
    """Delete documents of the index NAME, or, with neither DOC_ID nor --where, the whole index."""
    path = index_path(name, index_dir)
    if doc_ids or where:
        _delete_documents(path, doc_ids, where, quiet=quiet)
    else:
        _delete_index(path, yes=yes)


@click.command(
    epilog="""\b
Examples:
  xsearch export news > news.jsonl
  xsearch export news -o news.jsonl && xsearch index copy news.jsonl
  xsearch export news --archive news.xsearch      the whole index, for xsearch import"""
)
@click.argument("name")
@click.option(
    "--archive",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the whole index, vectors too, to this one file, as it is at this moment.",
)
@output_option
@index_dir_option
def export(name: str, archive: Path | None, output: Path | None, index_dir: Path) -> None:
    """Write the documents of the index NAME as JSON lines, which ``xsearch index`` reads again; or all of it."""
    if archive is not None:
        from xsearch.cli.maintenance import write_archive

        if output is not None:
            raise click.UsageError("Name one file: with -o for the documents, or with --archive for the whole index")
        write_archive(index_path(name, index_dir), archive)
        return
    from xsearch.corpus.rows import SOURCE_FIELD
    from xsearch.index import Index

    with Index.open(index_path(name, index_dir)) as index, output_to(output) as out:
        for document in index:
            fields = {"_id": document.doc_id, "title": document.title, "text": document.text, "lang": document.lang}
            fields[SOURCE_FIELD] = document.source
            extra = {key: value for key, value in document.metadata.items() if key not in fields}
            write_json({**fields, **extra}, out)


def _delete_documents(path: Path, doc_ids: tuple[str, ...], where: str, *, quiet: bool) -> None:
    from xsearch.corpus.walk import absolute
    from xsearch.index import Index

    unknown: list[str] = []
    with Index.open(path) as index:
        wanted = index.find(where) if where else []
        for doc_id in doc_ids:
            # A file's id is its whole path; a shorter one that leads to it will do.
            found = next((known for known in (doc_id, absolute(doc_id)) if index.get(known) is not None), None)
            (unknown if found is None else wanted).append(found or doc_id)
        count = index.delete(wanted)
    click.echo(f"Deleted {count:,} documents")
    if not quiet:
        for doc_id in unknown:
            click.echo(f"Not in the index: {doc_id}", err=True)


def _delete_index(path: Path, *, yes: bool) -> None:
    from xsearch.store.folder import check_is_index, remove_index

    check_is_index(path)
    if not yes and not click.confirm(f"Delete the whole index {path}?", err=True):
        click.echo("Nothing was deleted.", err=True)
        click.get_current_context().exit(1)
    remove_index(path)
    click.echo(f"Deleted the index {path}")


def readable_size(size: float) -> str:
    """A number of bytes for people, e.g. ``1.5 MiB``."""
    unit = 0
    while size >= 1024 and unit < len(UNITS) - 1:
        size /= 1024
        unit += 1
    return f"{size:.1f} {UNITS[unit]}" if unit else f"{size:.0f} B"


def _search_rows(found: IndexInfo) -> list[tuple[str, str]]:
    """How the passages are searched: one line for those without a FAISS file, and two for each file."""
    exact = found.passages - sum(file.rows for file in found.ann)
    rows = [("Search", f"exact (FAISS flat, inner product): {max(exact, 0):,} passages")] if exact > 0 else []
    for file in found.ann:
        facts = file.facts
        rows.append(("Search", f"{file.factory}, re-scored with the raw vectors: {file.rows:,} passages"))
        found_share = f"recall@10 {facts.recall:.3f} (asked {facts.recall_asked})"
        cost = f"{facts.bytes_per_passage:g} bytes a passage, built in {facts.seconds:,.0f} s"
        rows.append(("", f"{found_share}, {facts.queries_per_s:,.0f} queries/s in batches, {cost}"))
    return rows or [("Search", "exact (FAISS flat, inner product)")]


def _step_row(facts: Mapping[str, Any]) -> str:
    """How the step was fitted; facts of a step that somebody made by other means may be any."""
    languages = facts.get("languages")
    parts = [f"{facts['method']}, {facts.get('directions', 0)} directions" if "method" in facts else "by a step"]
    if isinstance(languages, dict) and languages:
        parts.append(f"fitted to {len(languages)} languages and English")
    removed = facts.get("between_language_variance_removed")
    if isinstance(removed, float):
        parts.append(f"{removed:.0%} of the variance between languages taken out")
    return "; ".join(parts)


def _info_rows(found: IndexInfo) -> list[tuple[str, str]]:
    rows = [
        ("Index", found.path),
        ("Documents", f"{found.documents:,}"),
        ("Passages", f"{found.passages:,} of up to {found.passage_tokens} tokens"),
        ("Languages", ", ".join(f"{lang} {count:,}" for lang, count in found.languages.items()) or "none"),
        ("Disk", f"{readable_size(found.size)} in {found.segments} vector segments"),
        *([("Catalogue", found.catalog)] if found.catalog else []),
        *_search_rows(found),
        ("Encoder", str(found.fingerprint)),
        *([("Debiased", _step_row(found.step))] if found.step is not None else []),
        ("Commits", f"{found.generation:,}"),
    ]
    if found.unfinished:
        rows.append(("Unfinished", f"a run of {found.unfinished} was interrupted; run the same command again"))
    return rows
