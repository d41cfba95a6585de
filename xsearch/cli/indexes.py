"""``xsearch list | info | verify | delete | export``: looking after indexes."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xsearch.cli.options import index_dir_option, json_option, quiet_option
from xsearch.config import index_path

if TYPE_CHECKING:
    from xsearch.index import IndexInfo

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
    from xsearch.errors import StoreError
    from xsearch.index import Index
    from xsearch.store.catalog import CATALOG_FILE

    rows: list[dict[str, Any]] = []
    for catalog in sorted(index_dir.glob(f"*/{CATALOG_FILE}")):
        name = catalog.parent.name
        try:
            with Index.open(catalog.parent) as index:
                rows.append({"name": name, **index.info().to_dict()})
        except StoreError as exc:
            rows.append({"name": name, "path": str(catalog.parent), "error": str(exc)})
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    if not rows:
        click.echo(f"No index in {index_dir}. Make one with: xsearch index NAME SOURCE...")
    for row in rows:
        if "error" in row:
            click.echo(f"{row['name']:<20} cannot be read: {row['error']}")
            continue
        languages = " ".join(list(row["languages"])[:12])
        size, encoder = readable_size(row["size"]), row["fingerprint"]["name"]
        click.echo(f"{row['name']:<20} {row['documents']:>9,} documents {size:>10}  {encoder}  {languages}")


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
        click.echo(json.dumps(found.to_dict(), ensure_ascii=False))
        return
    for label, value in _info_rows(found):
        click.echo(f"{label:<16} {value}")


@click.command(
    epilog="""\b
Examples:
  xsearch verify news"""
)
@click.argument("name")
@index_dir_option
def verify(name: str, index_dir: Path) -> None:
    """Read all of the index NAME and check it against its checksums; exit 1 and name the file that is damaged."""
    from xsearch.index import Index

    with Index.open(index_path(name, index_dir)) as index:
        count = index.verify()
    click.echo(f"In order: {count:,} passages")


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
    from xsearch.index import Index, remove_index

    path = index_path(name, index_dir)
    if not doc_ids and not where:
        if not yes:
            click.confirm(f"Delete the whole index {path}?", abort=True, err=True)
        remove_index(path)
        click.echo(f"Deleted the index {path}")
        return
    with Index.open(path) as index:
        # A file's id is its whole path; a shorter one that leads to it will do.
        known = [doc_id if index.get(doc_id) else Path(doc_id).absolute().as_posix() for doc_id in doc_ids]
        count = index.delete([*known, *(index.find(where) if where else ())])
    click.echo(f"Deleted {count:,} documents")
    if doc_ids and count < len(doc_ids) and not quiet:
        click.echo(f"{len(doc_ids) - count:,} of the ids given are not in the index", err=True)


@click.command(
    epilog="""\b
Examples:
  xsearch export news > news.jsonl
  xsearch export news -o news.jsonl && xsearch index copy news.jsonl"""
)
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
@index_dir_option
def export(name: str, output: Path | None, index_dir: Path) -> None:
    """Write the documents of the index NAME as JSON lines, which ``xsearch index`` reads again."""
    from xsearch.index import Index

    with (
        Index.open(index_path(name, index_dir)) as index,
        nullcontext(sys.stdout) if output is None else output.open("w", encoding="utf-8") as out,
    ):
        for document in index:
            fields = {"_id": document.doc_id, "title": document.title, "text": document.text, "lang": document.lang}
            extra = {key: value for key, value in document.metadata.items() if key not in fields}
            out.write(json.dumps({**fields, **extra}, ensure_ascii=False) + "\n")


def readable_size(size: float) -> str:
    """A number of bytes for people, e.g. ``1.5 MiB``."""
    unit = 0
    while size >= 1024 and unit < len(UNITS) - 1:
        size /= 1024
        unit += 1
    return f"{size:.1f} {UNITS[unit]}" if unit else f"{size:.0f} B"


def _info_rows(found: IndexInfo) -> list[tuple[str, str]]:
    rows = [
        ("Index", found.path),
        ("Documents", f"{found.documents:,}"),
        ("Passages", f"{found.passages:,} of up to {found.passage_tokens} tokens"),
        ("Languages", ", ".join(f"{lang} {count:,}" for lang, count in found.languages.items()) or "none"),
        ("Disk", f"{readable_size(found.size)} in {found.segments} vector segments"),
        ("Search", "exact (FAISS flat, inner product)"),
        ("Encoder", str(found.fingerprint)),
        ("Commits", f"{found.generation:,}"),
    ]
    if found.unfinished:
        rows.append(("Unfinished", f"a run of {found.unfinished} was interrupted; run the same command again"))
    return rows
