"""``xsearch bench``: how well an encoder finds passages, by published protocols and by language pair."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

    from xsearch.encoder.protocol import Encoder
    from xsearch.evaluation.report import Baseline
    from xsearch.evaluation.results import Comparison
    from xsearch.evaluation.run import Comparable, OnProgress, RunOptions
    from xsearch.evaluation.tasks import Task

_Command = TypeVar("_Command", bound=Callable[..., None])
# Resamples of a comparison.
_COMPARED = 10_000


@dataclass(frozen=True, slots=True)
class _Options:
    """What all benchmark commands take."""

    data: Path
    encoder: str
    device: str
    langs: str
    output: Path | None
    per_query: bool
    baseline: Path | None
    bootstrap: int
    seed: int
    as_json: bool
    quiet: bool
    verbose: bool
    plot: Path | None = None

    @property
    def languages(self) -> list[str]:
        """The languages asked for; none means all."""
        return [lang for lang in self.langs.replace(",", " ").split() if lang]


def _shared_options(command: _Command) -> _Command:
    path = click.Path(path_type=Path)
    for option in reversed(
        (
            click.option(
                "--data", required=True, type=path, help="Folder or zip archive with the data set's own files."
            ),
            click.option("--encoder", default="builtin", show_default=True, help="Name or folder of an encoder."),
            click.option("--device", default="cpu", show_default=True, help="Where the encoder runs: cpu, cuda ..."),
            click.option("--langs", default="", metavar="LANG,LANG", help="Only pairs of these languages, e.g. en,de."),
            click.option("-o", "--output", type=path, help="Write the scores to this file, as JSON."),
            click.option("--per-query", is_flag=True, help="Write every query's score too, to be a --baseline later."),
            click.option("--baseline", type=path, help="Test against this earlier run (written with --per-query -o)."),
            click.option(
                "--bootstrap",
                default=1000,
                show_default=True,
                type=click.IntRange(min=0),
                help="Resamples for the 95% intervals; 0 for none.",
            ),
            click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the resampling."),
            click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table."),
            click.option("-q", "--quiet", is_flag=True, help="No progress and no notes."),
            click.option("-v", "--verbose", is_flag=True, help="Name every stage, also where there is no terminal."),
        )
    ):
        command = option(command)
    return command


_plot_option = click.option(
    "--plot", type=click.Path(path_type=Path), help="Draw the matrix to this file, as PNG (extra: bench)."
)


@click.group()
def bench() -> None:
    """Measure an encoder by a published protocol.

    Retrieval scores are computed as MTEB computes them, by language pair: the first language is that of the contexts,
    the second that of the questions. nDCG@10 is the main score.

    \b
    Examples:
      xsearch bench mlqa --data MLQA_V1.zip
      xsearch bench xquad --data xquad/ --encoder intfloat/multilingual-e5-small
    """


@bench.command()
@click.option(
    "--split",
    type=click.Choice(["dev", "test"]),
    default="dev",
    show_default=True,
    help="Tune on dev only; MTEB's validation is dev.",
)
@_shared_options
@_plot_option
def mlqa(split: str, **given: Any) -> None:
    """MLQARetrieval: 7 x 7 language pairs, each with its own corpus of Wikipedia contexts.

    The data is MLQA_V1.zip (https://github.com/facebookresearch/MLQA), or a folder with any of its files.

    \b
    Examples:
      xsearch bench mlqa --data MLQA_V1.zip
      xsearch bench mlqa --data MLQA_V1.zip --split test --plot matrix.png -o scores.json
      xsearch bench mlqa --data MLQA_V1.zip --langs en,de --encoder BAAI/bge-m3 --device cuda
      xsearch bench mlqa --data MLQA_V1.zip --per-query -o before.json
      xsearch bench mlqa --data MLQA_V1.zip --encoder ./mine --baseline before.json
    """
    from xsearch.evaluation.tasks import Split, load_mlqa

    options = _Options(**given)
    _run(options, lambda: load_mlqa(options.data, split=Split(split), langs=options.languages))


@bench.command()
@_shared_options
@_plot_option
def xquad(**given: Any) -> None:
    """XQuADRetrieval: 12 languages, each with its own 240 paragraphs and questions in that language.

    The data is https://github.com/google-deepmind/xquad (xquad.XX.json), as a folder or a zip archive.

    \b
    Examples:
      xsearch bench xquad --data xquad/
      xsearch bench xquad --data xquad.zip --langs de,th --json
    """
    from xsearch.evaluation.tasks import load_xquad

    options = _Options(**given)
    _run(options, lambda: load_xquad(options.data, langs=options.languages))


@bench.command()
@click.option("--context", is_flag=True, help="Encode each sentence with its paragraph after it.")
@_shared_options
@_plot_option
def lareqa(context: bool, **given: Any) -> None:
    """LAReQA: questions of each language against one pool of sentences in all languages; mean average precision.

    The data is MLQA-R or XQuAD-R (https://github.com/google-research-datasets/lareqa), as a folder or a zip archive.

    \b
    Examples:
      xsearch bench lareqa --data mlqa-r.zip
      xsearch bench lareqa --data xquad-r/ --context --encoder sentence-transformers/LaBSE
    """
    from xsearch.evaluation.lareqa import load_lareqa

    options = _Options(**given)
    _run(options, lambda: load_lareqa(options.data, langs=options.languages, with_context=context))


@bench.command("mlqa-pool")
@click.option("--split", type=click.Choice(["dev", "test"]), default="dev", show_default=True, help="Tune on dev only.")
@_shared_options
def mlqa_pool(split: str, **given: Any) -> None:
    """MLQA in one pool: questions of each language against the contexts of all seven; mean average precision.

    A context and its translations are relevant. Beside mAP: the share of questions whose first hit is right, the same
    with the contexts in the question's own language taken away, and how many first hits are in that language beside how
    many of the right ones are.
    The data is MLQA_V1.zip (https://github.com/facebookresearch/MLQA), or a folder with any of its files.

    \b
    Examples:
      xsearch bench mlqa-pool --data MLQA_V1.zip
      xsearch bench mlqa-pool --data MLQA_V1.zip --encoder ./mine --per-query -o mine.json
    """
    from xsearch.evaluation.mlqa_pool import load_mlqa_pool
    from xsearch.evaluation.pool import evaluate_pool
    from xsearch.evaluation.pool_results import render_pool
    from xsearch.evaluation.tasks import Split

    options = _Options(**given)
    _check(options)
    task = load_mlqa_pool(options.data, split=Split(split), langs=options.languages)
    baseline = _baseline(options, task=task.name, split=task.split, pairs=[subset.key for subset in task.subsets])
    encoder, settings = _encoder(options)
    with _progress(options) as on_progress:
        result = evaluate_pool(task, encoder, options=settings, on_progress=on_progress)
    comparison = _comparison(result, baseline, seed=options.seed)
    if result.cut and not options.quiet:
        click.echo(f"{result.cut} texts are longer than {encoder.max_tokens} tokens and were cut", err=True)
    _write(options, result.to_dict(per_query=options.per_query), comparison, render_pool(result, comparison))


@bench.command()
@click.option(
    "--split",
    type=click.Choice(["all", "train", "dev", "test"]),
    default="all",
    show_default=True,
    help="Which rows; the translation is looked for among as many (1,004, 701, 99, 204).",
)
@_shared_options
def sib200(split: str, **given: Any) -> None:
    """SIB-200 as a bitext: each sentence's translation among all of them, in 204 languages, into and from English.

    Accuracy of the nearest neighbour by cosine, in both directions and on average; its median over the languages and
    the ten worst. Beside it what the tokenizer makes of each language: the share of characters that the vocabulary
    lacks, and tokens per character.
    The data is sib-200.zip or the folder data/annotated of https://github.com/dadelani/sib-200.

    \b
    Examples:
      xsearch bench sib200 --data sib-200.zip
      xsearch bench sib200 --data sib-200.zip --split test --langs de,arb_Arab,sw --encoder ./mine
    """
    from xsearch.evaluation.sib200 import Sib200Split, evaluate_sib200, load_sib200
    from xsearch.evaluation.sib200_results import ENGLISH, NAME, pair_key, render_sib200

    options = _Options(**given)
    _check(options)
    sentences = load_sib200(options.data, split=Sib200Split(split), langs=options.languages)
    pairs = [pair_key(code) for code in sentences.texts if code != ENGLISH]
    baseline = _baseline(options, task=NAME, split=split, pairs=pairs)
    encoder, settings = _encoder(options)
    with _progress(options) as on_progress:
        result = evaluate_sib200(sentences, encoder, options=settings, on_progress=on_progress)
    comparison = _comparison(result, baseline, seed=options.seed)
    _write(options, result.to_dict(per_query=options.per_query), comparison, render_sib200(result, comparison))


@bench.command()
@_shared_options
def tatoeba(**given: Any) -> None:
    """Tatoeba: each sentence's translation among all of them, in 112 languages, into English and from English.

    Accuracy of the nearest neighbour by cosine, in both directions and on average; the error rate that LASER's
    authors give is 100 less it. Beside it MTEB's F1, and the means over all languages and over the 36 of XTREME.
    The data is the folder data/tatoeba/v1 of https://github.com/facebookresearch/LASER, or a zip archive of it.

    \b
    Examples:
      xsearch bench tatoeba --data tatoeba.zip
      xsearch bench tatoeba --data LASER/data/tatoeba/v1 --langs de,zh,tha --encoder sentence-transformers/LaBSE
    """
    from xsearch.evaluation.tatoeba import compare_tatoeba, evaluate_tatoeba, load_tatoeba
    from xsearch.evaluation.tatoeba_results import NAME, SPLIT, render_tatoeba

    options = _Options(**given)
    _check(options)
    pairs = load_tatoeba(options.data, langs=options.languages)
    baseline = _baseline(options, task=NAME, split=SPLIT, pairs=[found.key for found in pairs])
    encoder, settings = _encoder(options)
    with _progress(options) as on_progress:
        result = evaluate_tatoeba(pairs, encoder, options=settings, on_progress=on_progress)
    comparison = None
    if baseline is not None:
        comparison = compare_tatoeba(
            result, baseline.per_query, baseline=baseline.encoder, samples=_COMPARED, seed=options.seed
        )
    cut = [f"{found.lang} ({found.cut})" for found in result.languages if found.cut]
    if cut and not options.quiet:
        click.echo(f"Longer than {encoder.max_tokens} tokens and cut: {', '.join(cut)}", err=True)
    _write(options, result.to_dict(per_query=options.per_query), comparison, render_tatoeba(result, comparison))


def _run(options: _Options, load_task: Callable[[], Task]) -> None:
    from xsearch.evaluation import heatmap, report
    from xsearch.evaluation.run import evaluate

    _check(options)
    if options.plot is not None:
        heatmap.check_plotting()
    task = load_task()
    baseline = _baseline(options, task=task.name, split=task.split, pairs=[s.key for s in task.subsets])
    encoder, settings = _encoder(options)
    with _progress(options) as on_progress:
        result = evaluate(task, encoder, options=settings, on_progress=on_progress)
    comparison = _comparison(result, baseline, seed=options.seed)
    if not options.quiet:
        for note in report.truncation_notes(result):
            click.echo(note, err=True)
    if options.plot is not None:
        heatmap.plot(result, options.plot)
    _write(options, result.to_dict(per_query=options.per_query), comparison, report.render(result, comparison))


def _check(options: _Options) -> None:
    """Finds what is wrong with the arguments before the long part."""
    for path in (options.output, options.plot):
        if path is not None and not path.resolve().parent.is_dir():
            raise click.UsageError(f"The folder of {path} does not exist.")


def _baseline(options: _Options, *, task: str, split: str, pairs: Sequence[str]) -> Baseline | None:
    from xsearch.evaluation import report

    if options.baseline is None:
        return None
    baseline = report.read_baseline(options.baseline)
    report.check_comparable(baseline, task=task, split=split, pairs=pairs)
    return baseline


def _comparison(result: Comparable, baseline: Baseline | None, *, seed: int) -> Comparison | None:
    from xsearch.evaluation.run import compare_runs

    if baseline is None:
        return None
    return compare_runs(result, baseline.per_query, baseline=baseline.encoder, samples=_COMPARED, seed=seed)


def _encoder(options: _Options) -> tuple[Encoder, RunOptions]:
    from xsearch.encoder.load import load_encoder
    from xsearch.evaluation.run import RunOptions

    encoder = load_encoder(options.encoder, device=options.device)
    return encoder, RunOptions(bootstrap=options.bootstrap, seed=options.seed)


def _write(options: _Options, document: dict[str, Any], comparison: Comparison | None, table: RenderableType) -> None:
    from xsearch.evaluation import report

    if comparison is not None:
        document["comparison"] = comparison.to_dict()
    if options.output is not None:
        report.write_json(document, options.output)
    if options.as_json:
        click.echo(report.to_json(document))
    else:
        _print(table)


def _print(renderable: Any) -> None:
    from rich.console import Console

    # Where there is no terminal rich assumes 80 columns, which would fold the wider tables.
    width = None if sys.stdout.isatty() else 160
    Console(file=sys.stdout, width=width, highlight=False).print(renderable)


@contextmanager
def _progress(options: _Options) -> Iterator[OnProgress | None]:
    """Progress on stderr: a bar on a terminal, one line a stage with ``-v``, else nothing."""
    if options.quiet:
        yield None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None)
            yield lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total)
    elif options.verbose:
        stages: set[str] = set()

        def report(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages.add(stage)
                click.echo(f"{stage}: {done} of {total}", err=True)

        yield report
    else:
        yield None
