"""``xsearch align``: two languages' word vectors into one space, measured on a dictionary, usable as an encoder."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xsearch.cli.options import json_option, quiet_option
from xsearch.cli.output import write_json

if TYPE_CHECKING:
    from xsearch.training.align import Alignment
    from xsearch.training.dictionary import Precision
    from xsearch.training.word_vectors import ReadVectors

_FILE = click.Path(path_type=Path)
_FOLDER = click.Path(path_type=Path, file_okay=False)
# In the folder of -o.
SOURCE_FILE, TARGET_FILE = "source.vec", "target.vec"


@dataclass(frozen=True, slots=True)
class _Options:
    """What the command takes besides its two files."""

    dictionary: Path | None
    test: Path | None
    unsupervised: bool
    csls_k: int
    rounds: int
    max_words: int
    seed: int
    output: Path | None
    save_encoder: Path | None
    as_json: bool
    quiet: bool


@click.command(
    epilog="""\b
Examples:
  xsearch align en.vec de.vec --dictionary en-de.train.tsv --test en-de.test.tsv -o aligned
  xsearch align wiki.en.vec.gz wiki.es.vec.gz --unsupervised --test en-es.5000-6500.txt --json
  xsearch align en.vec de.vec --dictionary en-de.tsv --save-encoder en-de-static
  xsearch bench mlqa --data MLQA_V1.zip --langs en,de --encoder ./en-de-static"""
)
@click.argument("source", type=_FILE)
@click.argument("target", type=_FILE)
@click.option(
    "--dictionary",
    type=_FILE,
    help="Translations to learn from: lines of 'word TAB translation' or 'word translation' (also .zst, .gz).",
)
@click.option("--test", type=_FILE, help="Other translations, to measure precision at 1, 5 and 10 on.")
@click.option(
    "--unsupervised",
    is_flag=True,
    help="Learn without a dictionary (extra: train); needs vectors of large corpora. Measure it with --test.",
)
@click.option("--csls-k", type=click.IntRange(1), default=10, show_default=True, help="Neighbours that CSLS looks at.")
@click.option("--rounds", type=click.IntRange(0), default=5, show_default=True, help="Of refinement, at most.")
@click.option(
    "--max-words", type=click.IntRange(1), default=200_000, show_default=True, help="Read so many of each file."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is drawn at random.")
@click.option(
    "-o", "--output", type=_FOLDER, help=f"Write {SOURCE_FILE} and {TARGET_FILE}, in one space, to this folder."
)
@click.option(
    "--save-encoder", type=_FOLDER, help="Write a static encoder to this folder; --encoder of other commands takes it."
)
@json_option
@quiet_option
def align(source: Path, target: Path, **given: Any) -> None:
    """Bring the word vectors SOURCE and TARGET, of two languages, into one space.

    Both are text files as word2vec and fastText write them (.vec, .vec.gz, .vec.zst), the most frequent words first.
    SOURCE is rotated onto TARGET: by a dictionary, or with --unsupervised by the shapes of the two spaces alone; then
    the rotation is refined by words that are each other's nearest.
    """
    options = _Options(**given)
    _check(options)
    from xsearch.training.align import AlignOptions
    from xsearch.training.align import align as align_words
    from xsearch.training.csls import Retrieval
    from xsearch.training.dictionary import precision, read_dictionary
    from xsearch.training.procrustes import RefineOptions
    from xsearch.training.static_encoder import write_static_encoder
    from xsearch.training.word_vectors import read_word_vectors, write_word_vectors

    # What can be wrong with the small files is found before the large ones are read.
    dictionary = None if options.dictionary is None else read_dictionary(options.dictionary)
    test = None if options.test is None else read_dictionary(options.test)
    files = [read_word_vectors(path, max_words=options.max_words) for path in (source, target)]
    settings = AlignOptions(
        csls_k=options.csls_k, seed=options.seed, refinement=RefineOptions(rounds=options.rounds, k=options.csls_k)
    )
    aligned = align_words(
        files[0].found,
        files[1].found,
        dictionary,
        options=settings,
        on_stage=None if options.quiet else lambda line: click.echo(line, err=True),
    )
    measured: list[Precision] = []
    if test is not None:
        measured = [
            precision(test, aligned.source, aligned.target, retrieval=retrieval, k=options.csls_k)
            for retrieval in Retrieval
        ]
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        write_word_vectors(options.output / SOURCE_FILE, aligned.source)
        write_word_vectors(options.output / TARGET_FILE, aligned.target)
    if options.save_encoder is not None:
        write_static_encoder(options.save_encoder, [aligned.source, aligned.target])
    if options.as_json:
        write_json(_document(files, aligned, measured), sys.stdout)
    else:
        _show(files, aligned, measured)


def _check(options: _Options) -> None:
    if options.unsupervised is (options.dictionary is not None):
        raise click.UsageError("Pass --dictionary, or --unsupervised, and not both.")
    if options.output is None and options.save_encoder is None and options.test is None:
        raise click.UsageError("Pass -o or --save-encoder to write something, or --test to measure.")


def _document(files: list[ReadVectors], aligned: Alignment, measured: list[Precision]) -> dict[str, Any]:
    return {
        **{
            side: {
                "words": len(file.found.words),
                "dim": file.found.dim,
                "duplicates": file.duplicates,
                "non_finite": file.non_finite,
                "zero": file.zero,
            }
            for side, file in zip(("source", "target"), files, strict=True)
        },
        "start": str(aligned.start),
        "first_pairs": aligned.first_pairs,
        "mean_cosine": {str(start): rotation.cosine for start, rotation in aligned.rotations.items()},
        "rounds": [{"pairs": done.pairs, "mean_cosine": done.cosine} for done in aligned.rotation.rounds],
        "precision": {
            str(found.retrieval): {
                "words": found.words,
                "covered": found.covered,
                **{f"P@{top}": share for top, share in found.at.items()},
            }
            for found in measured
        },
    }


def _show(files: list[ReadVectors], aligned: Alignment, measured: list[Precision]) -> None:
    for side, file in zip(("Source", "Target"), files, strict=True):
        left = (("duplicates", file.duplicates), ("not finite", file.non_finite), ("zero", file.zero))
        out = ", ".join(f"{count:,} {what}" for what, count in left if count)
        click.echo(f"{side:<12} {len(file.found.words):,} words" + (f" (left out: {out})" if out else ""))
    for start, rotation in aligned.rotations.items():
        kept = f", kept; from {aligned.first_pairs:,} pairs of words" if start is aligned.start else ""
        click.echo(f"{start.capitalize():<12} mean cosine {rotation.cosine:.4f}{kept}")
    for found in measured:
        shares = "  ".join(f"P@{top} {share:.1%}" for top, share in found.at.items())
        click.echo(f"{found.retrieval.upper():<12} {shares}  ({found.covered:,} of {found.words:,} words have vectors)")
