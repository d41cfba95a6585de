"""``xsearch debias``: an encoder that no longer puts texts in the question's own language first."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xsearch.cli.options import json_option, quiet_option
from xsearch.cli.output import write_json
from xsearch.cli.train_progress import TrainProgress
from xsearch.errors import InvalidArgumentError

if TYPE_CHECKING:
    from xsearch.encoder.protocol import Encoder
    from xsearch.training.debias import Debiased, Preference

# As xsearch.encoder.debias has them; a test holds them together, and --help need not load numpy.
METHODS = ("projection", "centring", "leace", "lsar", "lir", "whitening")
TEXTS = 2_000


@dataclass(frozen=True, slots=True)
class DebiasRequest:
    """What a step is to be fitted to, and how."""

    parallel: Sequence[str]
    evaluation: Sequence[Path] = ()
    method: str = METHODS[0]
    directions: int | None = None
    strength: float = 1.0
    texts: int = TEXTS


@click.command(
    epilog="""\b
Examples:
  xsearch debias intfloat/multilingual-e5-small -o encoders/e5 --parallel 'parallel/*.tsv.zst'
  xsearch debias BAAI/bge-m3 -o encoders/bge --parallel news.en-de.tsv --parallel 'ted.en-*.tmx' --directions 10
  xsearch index news ./articles --encoder encoders/e5
  xsearch bench mlqa --data MLQA_V1.zip --encoder encoders/e5"""
)
@click.argument("encoder")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the result, new or made by this command before; --encoder of every command takes it.",
)
@click.option(
    "--parallel",
    multiple=True,
    required=True,
    metavar="PATTERN",
    help="Files of English and translations: NAME.en-de.tsv, .tmx, Moses pairs; also .gz and .zst. Quote a pattern. "
    "May be given several times.",
)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default=METHODS[0],
    show_default=True,
    help="Which directions are taken out, and how; projection takes those in which the means of languages differ most. "
    "The others are for comparison.",
)
@click.option(
    "--directions",
    type=click.IntRange(min=0),
    help="How many are taken out. [default: those that hold nine tenths of the variance between languages]",
)
@click.option(
    "--strength", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="How much of them is taken out."
)
@click.option(
    "--texts",
    type=click.IntRange(min=1),
    default=TEXTS,
    show_default=True,
    help="Sentences of a language, at most; a few hundred do nearly as well.",
)
@click.option(
    "--evaluation",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Evaluation data; no sentence that overlaps it is used. May be given several times.",
)
@click.option("--device", default="cpu", show_default=True, help="Where hub encoders run: cpu, cuda, cuda:1, mps.")
@json_option
@quiet_option
def debias(encoder: str, output: Path, **flags: Any) -> None:
    """Take the language bias out of ENCODER, which is 'builtin', a model folder or a name on the Hugging Face hub.

    Multilingual encoders rank texts in the question's own language first. What tells the language lies in few
    directions of their vectors; these are estimated from parallel text and taken out, at no cost to later searches.

    Of an exported encoder, the output is a whole one with the step inside. Of any other it holds the step and the
    name of the encoder, which is still loaded from where it is: keep a local folder in its place.
    """
    as_json, quiet, device = flags.pop("as_json"), flags.pop("quiet"), flags.pop("device")
    _check_free(output)
    with TrainProgress(quiet=quiet) as progress:
        progress.stage("loading the encoder")
        from xsearch.encoder.load import load_encoder
        from xsearch.training.debias import write_debiased

        loaded = load_encoder(encoder, device=device)
        found = fitted(loaded, DebiasRequest(**flags), progress)
        write_debiased(encoder, loaded, found.step, output)
    if as_json:
        write_json({"output": str(output), **found.to_dict()}, sys.stdout)
    else:
        _show(found, output)


def fitted(encoder: Encoder, request: DebiasRequest, progress: TrainProgress) -> Debiased:
    """The step fitted to an encoder; languages that are left out are named."""
    from xsearch.encoder.debias import DebiasMethod, DebiasOptions
    from xsearch.training.debias import debias as run
    from xsearch.training.debias_texts import MIN_TEXTS, TextOptions, collect_texts

    options = DebiasOptions(DebiasMethod(request.method), request.directions, request.strength)
    wanted = TextOptions(request.texts, min(MIN_TEXTS, request.texts), tuple(request.evaluation))
    if wanted.evaluation:
        progress.stage("reading evaluation data")
    texts = collect_texts(request.parallel, wanted, on_file=lambda path: progress.stage(f"reading {path.name}"))
    if texts.left_out:
        few = ", ".join(f"{lang} {count}" for lang, count in texts.left_out.items())
        progress.remark(f"Left out, with fewer than {wanted.min_texts} sentences: {few}")
    stage = ""

    def on_text(name: str, done: int, total: int) -> None:
        nonlocal stage
        if name != stage:
            stage = name
            progress.stage(f"encoding {name}")
        progress.count(name, done, total)

    return run(encoder, texts, options, on_text=on_text)


def _check_free(folder: Path) -> None:
    """Refuses a folder that holds something else than an earlier result."""
    from xsearch.encoder.stepped import REFERENCE_FILE

    if folder.is_dir() and any(folder.iterdir()) and not (folder / REFERENCE_FILE).is_file():
        raise InvalidArgumentError(
            f"{folder} holds files already",
            "-o names a folder that is not there, is empty, or names an encoder that was debiased before",
            "Name another folder",
        )


def _show(found: Debiased, output: Path) -> None:
    languages = ", ".join(f"{lang} {count:,}" for lang, count in found.languages.items())
    click.echo(f"Fitted to {len(found.languages)} languages and English: {languages}")
    click.echo(f"Taken out: {found.variance_removed:.0%} of the variance between languages")
    if found.before is not None and found.after is not None:
        click.echo(f"On {found.held_out:,} sentences held out, in one pool of all languages:")
        click.echo(f"  before: {_shares(found.before)}")
        click.echo(f"  after:  {_shares(found.after)}")
    click.echo(f"Use it:\n  xsearch index NAME SOURCE --encoder {output}")


def _shares(found: Preference) -> str:
    return (
        f"nearest is another sentence in the same language {found.own_language:.1%}, "
        f"a translation {found.translation:.1%}"
    )
