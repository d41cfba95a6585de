"""The debias step of a run: fitted to the finished encoder, kept in the run's folder, and put behind the encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from xsearch.encoder.builtin import BuiltinEncoder
from xsearch.encoder.debias import DebiasOptions
from xsearch.encoder.export import write_encoder
from xsearch.encoder.hub import HubEncoder
from xsearch.encoder.protocol import Encoder
from xsearch.encoder.step import LinearStep
from xsearch.encoder.stepped import STEP_FILE, read_step, write_step
from xsearch.errors import EncoderError
from xsearch.training.debias import debias
from xsearch.training.debias_texts import TextOptions, collect_texts
from xsearch.training.recipe import DebiasTable, Recipe
from xsearch.training.sources import find

STEP_FOLDER = "step"
BARE_FOLDER = "bare"
RECIPE_FACT = "recipe"


def fitted_step(
    recipe: Recipe,
    folder: Path,
    encoder: Path,
    *,
    on_stage: Callable[[str], None],
    on_count: Callable[[str, int, int], None],
) -> LinearStep | None:
    """The step that ``[debias]`` asks for; ``None`` where a recipe has no such table.

    It is fitted to the vectors of the exported encoder, which are made several times as fast as torch's and are those
    that will be searched; an encoder that cannot be exported gives its own.

    Args:
        folder: of the run, which keeps the step: a run that is repeated does not encode the sentences again.
        encoder: the sentence-transformers folder that the run wrote; it holds no step yet.

    Raises:
        TrainingError: fewer than two languages have enough sentences, or a file cannot be read.
    """
    if recipe.debias is None:
        return None
    (encoder / STEP_FILE).unlink(missing_ok=True)  # of an earlier end of this run
    work = folder / "prepared"
    bare = _bare_encoder(recipe, encoder, work / BARE_FOLDER)
    key = recipe.fingerprint("data", "debias")
    kept = read_step(work / STEP_FOLDER)
    if kept is not None and kept.encoder == bare.fingerprint.digest and kept.facts.get(RECIPE_FACT) == key:
        return kept
    on_stage("fitting the step that takes the language bias out")
    data, table = recipe.data, recipe.debias
    root = recipe.folder / data.folder
    options = TextOptions(table.texts, table.min_texts, tuple(find(root, data.evaluation)))
    terms = set(find(root, data.terms))
    patterns = [str(path) for path in find(root, data.parallel) if path not in terms]
    texts = collect_texts(patterns, options, on_file=lambda path: on_stage(f"reading {path.name}"))
    on_stage("encoding sentences in all languages")
    found = debias(bare, texts, _options(table), on_text=on_count)
    step = replace(found.step, facts={**found.step.facts, RECIPE_FACT: key})
    write_step(work / STEP_FOLDER, step)
    if found.before is not None and found.after is not None:
        on_stage(
            f"of {found.held_out:,} held-out sentences {found.after.own_language:.1%} have their nearest neighbour in "
            f"their own language in place of a translation (before: {found.before.own_language:.1%})"
        )
    return step


def add_step(encoder: Path, step: LinearStep) -> None:
    """Puts a step behind the sentence-transformers folder that the exported encoder was made from."""
    write_step(encoder, replace(step, encoder=HubEncoder(str(encoder)).fingerprint.digest))


def _bare_encoder(recipe: Recipe, encoder: Path, work: Path) -> Encoder:
    try:
        write_encoder(encoder, work, recipe.export)
    except EncoderError:  # another architecture; the export says so later
        return HubEncoder(str(encoder))
    return BuiltinEncoder(work, body=recipe.export.body)


def _options(table: DebiasTable) -> DebiasOptions:
    return DebiasOptions(method=table.method, directions=table.directions, strength=table.strength, centre=table.centre)
