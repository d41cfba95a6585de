"""``xsearch train``: a recipe and parallel data become an encoder that every other command takes."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xsearch.cli.coverage import show_coverage
from xsearch.cli.options import json_option, quiet_option
from xsearch.cli.output import write_json
from xsearch.cli.train_progress import TrainProgress, duration
from xsearch.errors import MissingExtraError, TrainingError

if TYPE_CHECKING:
    from xsearch.training.recipe import Recipe
    from xsearch.training.train import Trained

# All of them are used in a run, the last only at its end, hours later.
PACKAGES = ("torch", "transformers", "sentence_transformers", "safetensors", "zstandard", "onnx")
RUNS_FOLDER = Path("runs")
_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True, slots=True)
class _Options:
    """What the command takes besides its recipe."""

    output: Path | None
    device: str
    base: Path | None
    steps: int | None
    seed: int | None
    fresh: bool
    as_json: bool
    quiet: bool
    verbose: bool


def _device(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if not _DEVICE.fullmatch(value):
        raise click.BadParameter(f"{value!r} is no device; there are cpu, cuda, cuda:N and mps.")
    return value


@click.command(
    epilog="""\b
Examples:
  xsearch train recipes/finetune-hub.toml                 into runs/finetune-hub; again to go on after a stop
  xsearch train recipes/builtin.toml --base ./multilingual-e5-small
  xsearch train recipes/english-to-multilingual.toml -o runs/mini --steps 200
  xsearch train recipes/finetune-hub.toml --device cuda
  torchrun --nproc-per-node 4 -m xsearch train recipes/finetune-hub.toml --device cuda
  xsearch bench mlqa --data MLQA_V1.zip --encoder runs/finetune-hub/encoder"""
)
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run: data, checkpoints, log, encoder.  [default: runs/NAME of the recipe's file]",
)
@click.option("--device", default="cpu", show_default=True, callback=_device, help="Where to train: cpu, cuda, cuda:1.")
@click.option(
    "--base",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the base model, instead of the recipe's base.model.",
)
@click.option(
    "--steps", type=click.IntRange(0), help="Instead of the recipe's optimizer.steps; 0 writes the base untrained."
)
@click.option("--seed", type=click.IntRange(0), help="Instead of the recipe's seed.")
@click.option(
    "--fresh", is_flag=True, help="Begin at step 0; what an earlier run left moves to before-N in the folder."
)
@json_option
@quiet_option
@click.option("-v", "--verbose", is_flag=True, help="Name every file and stage, also where there is no terminal.")
def train(recipe: Path, **given: Any) -> None:
    """Train an encoder by RECIPE, a TOML file that says from which model, on which data, and how.

    A run that was stopped, even by kill -9, goes on from its last checkpoint when the same command is given again.
    When it is done, the folder holds encoder/ (for sentence-transformers) and, of a BERT with mean pooling,
    package/ (int8, for ONNX Runtime). --encoder of other commands takes either.
    """
    options = _Options(**given)
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError("Training", package.replace("_", "-"), "train")
    from xsearch.training.recipe import Recipe

    wanted = _changed(Recipe.read(recipe), options)
    folder = options.output or RUNS_FOLDER / recipe.stem
    # torchrun starts this command several times; the first process alone speaks and holds the folder.
    first = int(os.environ.get("RANK", "0")) == 0
    with (
        TrainProgress(quiet=options.quiet or not first, verbose=options.verbose) as progress,
        _interruptible(folder, options),
    ):
        began = time.monotonic()
        trained = _train(wanted, folder, options, progress, first=first)
        progress.remark(f"Done in {duration(time.monotonic() - began)}.")
    if not first:
        return
    if options.as_json:
        write_json(_document(wanted, folder, trained), sys.stdout)
    else:
        _show(trained)


def _changed(recipe: Recipe, options: _Options) -> Recipe:
    if options.base is not None:
        if not options.base.is_dir():
            raise TrainingError(
                f"--base is {options.base}, and there is no such folder",
                "A folder with config.json, model.safetensors and tokenizer.json",
                "Check the path, or leave --base out to take the base.model of the recipe",
            )
        recipe = replace(recipe, base=replace(recipe.base, model=str(options.base.resolve())))
    if options.steps is not None:
        recipe = replace(recipe, optimizer=replace(recipe.optimizer, steps=options.steps))
    if options.seed is not None:
        recipe = replace(recipe, seed=options.seed)
    recipe.check("the recipe with the options of the command")
    return recipe


def _train(recipe: Recipe, folder: Path, options: _Options, progress: TrainProgress, *, first: bool) -> Trained:
    progress.stage("loading torch")
    import torch

    from xsearch.training.run_folder import held, set_aside
    from xsearch.training.train import Callbacks
    from xsearch.training.train import train as run

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError(
            f"The device {options.device} was asked for, and torch sees no CUDA device",
            "A GPU with its driver, and torch built for CUDA",
            "Use --device cpu",
        )
    callbacks = Callbacks(
        on_stage=progress.stage, on_count=progress.count, on_step=progress.step, on_score=progress.score
    )
    if not first:
        return run(recipe, folder, device=options.device, callbacks=callbacks)
    with held(folder):
        kept = set_aside(folder) if options.fresh else None
        if kept is not None:
            progress.remark(f"Beginning anew; what an earlier run left is kept in {kept}.")
        return run(recipe, folder, device=options.device, callbacks=callbacks)


@contextmanager
def _interruptible(folder: Path, options: _Options) -> Iterator[None]:
    """Says at Ctrl-C where the run stands."""
    try:
        yield
    except KeyboardInterrupt:
        from xsearch.training.run_folder import last_step

        step = last_step(folder)
        stands = f"The run is saved as of step {step:,}" if step else "No step is saved yet, only what was prepared"
        command = "the same command without --fresh" if options.fresh else "the same command"
        click.echo(f"{stands}; {command} goes on from there.", err=True)
        raise


def _document(recipe: Recipe, folder: Path, trained: Trained) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "folder": str(folder),
        "encoder": str(trained.encoder),
        "package": None if trained.package is None else str(trained.package),
        "steps": recipe.optimizer.steps,
        "resumed_at": trained.resumed_at,
        "seed": recipe.seed,
        "gemm_peak_share": round(trained.peak_share, 4),
        "mlqa_dev": None if trained.score is None else asdict(trained.score),
        "pieces": None if trained.coverage is None else trained.coverage.pieces_after,
        "int8_parity": None if trained.parity is None else asdict(trained.parity),
    }


def _show(trained: Trained) -> None:
    click.echo(f"Encoder   {trained.encoder} (sentence-transformers, float32)")
    if trained.package is not None:
        size = sum(file.stat().st_size for file in trained.package.rglob("*") if file.is_file())
        near = f"; mean cosine to float32 {trained.parity.mean:.4f}" if trained.parity is not None else ""
        click.echo(f"Package   {trained.package} (int8 for ONNX Runtime, {size / 1e6:.0f} MB{near})")
    if trained.coverage is not None:
        show_coverage(trained.coverage, sys.stdout)
    if trained.score is not None:
        click.echo(
            f"MLQA dev  nDCG@10 {trained.score.same_language:.1f} same language, "
            f"{trained.score.cross_language:.1f} across languages"
        )
    best = shlex.quote(str(trained.package or trained.encoder))
    click.echo("Use it:")
    click.echo(f"  xsearch bench mlqa --data MLQA_V1.zip --encoder {best}")
    click.echo(f"  xsearch index NAME SOURCE --encoder {best}")
