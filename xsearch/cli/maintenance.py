"""``xsearch verify | repair | migrate | import``, and the archive of ``export``: keeping indexes whole."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from xsearch.cli.options import encoder_options, index_dir_option, json_option, quiet_option
from xsearch.cli.output import write_json
from xsearch.config import index_path


@click.command(
    epilog="""\b
Examples:
  xsearch verify news
  xsearch verify news --sample 1000 --json
  xsearch verify news --sample 0      only what is on disk; loads no encoder"""
)
@click.argument("name")
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=32,
    show_default=True,
    help="Passages to encode again and compare with their vectors.",
)
@encoder_options
@index_dir_option
@json_option
@quiet_option
def verify(name: str, **flags: Any) -> None:
    """Read all of the index NAME and check it: files against their checksums, a sample of vectors against their texts.

    Nothing is written. Each damaged file is named on a line of its own; exit 1 where there is one.
    """
    from xsearch.maintain.verify import verify_index

    path = index_path(name, flags["index_dir"])
    report = verify_index(path, sample=flags["sample"], encoder=flags["encoder"], device=flags["device"])
    if flags["as_json"]:
        write_json(report.to_dict(), sys.stdout)
    elif report.in_order:
        click.echo(f"In order: {report.passages:,} passages of {report.documents:,} documents{_agreement(report)}")
    else:
        for damage in report.damages:
            click.echo(f"Error: {damage.what}.", err=True)
        click.echo(f"Mend what can be mended with: xsearch repair {name}", err=True)
    if not flags["quiet"] and not flags["as_json"]:
        for remark in report.remarks:
            click.echo(remark, err=True)
    if not report.in_order:
        click.get_current_context().exit(1)


@click.command(
    epilog="""\b
Examples:
  xsearch repair news
  xsearch repair news --drop      delete what cannot be mended"""
)
@click.argument("name")
@click.option("--drop", is_flag=True, help="Delete documents that cannot be mended.")
@encoder_options
@index_dir_option
@json_option
@quiet_option
def repair(name: str, **flags: Any) -> None:
    """Mend the index NAME: make anew what is damaged and can be made from something else, and name what cannot.

    Passages whose vectors are lost are encoded again from the stored texts. Exit 1 where something stays damaged.
    """
    from xsearch.cli.progress import IngestProgress
    from xsearch.maintain.repair import repair_index

    path = index_path(name, flags["index_dir"])
    with IngestProgress(0, quiet=flags["quiet"], what="passages", title="Encoding") as progress:
        report = repair_index(
            path, drop=flags["drop"], encoder=flags["encoder"], device=flags["device"], on_done=progress.count
        )
    if flags["as_json"]:
        write_json(report.to_dict(), sys.stdout)
    else:
        for line in report.mended:
            click.echo(line)
        for line in report.unmended:
            click.echo(f"Not mended: {line}", err=True)
        if report.unmended:
            click.echo("Add these documents again, or delete them with --drop", err=True)
        elif not report.mended:
            click.echo("Nothing to mend")
    if not report.in_order:
        click.get_current_context().exit(1)


@click.command(
    epilog="""\b
Examples:
  xsearch migrate news --encoder intfloat/multilingual-e5-small
  xsearch migrate news --encoder builtin --passage-tokens 100"""
)
@click.argument("name")
@click.option("--passage-tokens", type=click.IntRange(min=1), help="Length of passages in tokens. [default: as before]")
@encoder_options
@index_dir_option
@json_option
@quiet_option
def migrate(name: str, **flags: Any) -> None:
    """Encode all documents of the index NAME anew with another --encoder.

    Searches get answers from the old vectors until the new ones are complete. An interrupted migration goes on where it
    stopped when the same command is given again.
    """
    from xsearch.cli.progress import IngestProgress
    from xsearch.maintain.migrate import characters, migrate_index
    from xsearch.store.folder import check_is_index

    if not flags["encoder"]:
        raise click.UsageError("Say which encoder with --encoder, e.g. --encoder builtin")
    path = index_path(name, flags["index_dir"])
    check_is_index(path)
    with IngestProgress(characters(path), quiet=flags["quiet"], title="Encoding") as progress:

        def on_done(count: int) -> None:
            progress.advance(count)
            progress.count(1)

        report = migrate_index(
            path, flags["encoder"], passage_tokens=flags["passage_tokens"], device=flags["device"], on_done=on_done
        )
        if report.resumed is not None:
            progress.remark(f"Resumed the migration of {report.resumed}")
        if report.step_dropped:
            progress.remark(
                "The index kept a debias step, fitted for its old encoder; it is gone. To have one for the new: "
                "xsearch debias ENCODER -o FOLDER, then migrate with --encoder FOLDER"
            )
    if flags["as_json"]:
        write_json(report.to_dict(), sys.stdout)
    elif report.changed:
        click.echo(
            f"{report.documents:,} documents ({report.passages:,} passages) are now encoded with {report.encoder}; "
            f"{report.encoded:,} were encoded by this run"
        )
    else:
        click.echo(f"Nothing to do: the index is encoded with {report.encoder}")


@click.command(
    "import",
    epilog="""\b
Examples:
  xsearch export news --archive news.xsearch && xsearch import copy news.xsearch""",
)
@click.argument("name")
@click.argument("archive", type=click.Path(path_type=Path, dir_okay=False))
@index_dir_option
@json_option
def import_(name: str, archive: Path, index_dir: Path, as_json: bool) -> None:
    """Make the index NAME of an ARCHIVE that ``xsearch export --archive`` wrote; all of it is checked first."""
    from xsearch.store.unpack import import_archive

    done = import_archive(archive, index_path(name, index_dir))
    if as_json:
        write_json(done.to_dict(), sys.stdout)
    else:
        click.echo(f"Made the index {done.index} of {done.members:,} files")


def write_archive(path: Path, archive: Path) -> None:
    """Writes the whole index at a path to an archive, and says so."""
    from xsearch.cli.indexes import readable_size
    from xsearch.store.archive import export_archive
    from xsearch.store.folder import check_is_index
    from xsearch.store.location import find_catalog

    check_is_index(path)
    catalog = find_catalog(path)
    catalog.check()
    done = export_archive(path, catalog, archive)
    click.echo(f"Wrote {done.archive}: {done.members:,} files, {readable_size(done.size)}", err=True)


def _agreement(report: Any) -> str:
    if not report.sampled:
        return ""
    return f"; {report.sampled:,} encoded again agree (least cosine {report.lowest_cosine:.4f})"
