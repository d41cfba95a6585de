"""What each part of a recipe is worth: the recipe, and the recipe with one part off, at a fixed small budget.

    python benchmarks/ablation.py recipes/english-to-multilingual.toml --mlqa MLQA_V1-dev.zip --steps 500 --runs runs

Each run is one folder under --runs, resumes when it is stopped, and shares with the first what the parts have in
common: examples and teacher vectors always, vocabulary and first embeddings where they are the same. What is measured
is the float32 graph that the run exports (an encoder that learnt little may not survive int8), on MLQA dev by MTEB's
protocol, and compared with the whole recipe by a paired randomisation test over the questions. One seed: differences
within the interval may be chance, and those between seeds are not in it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from record import write_result

from xsearch.encoder.load import load_encoder
from xsearch.errors import TrainingError
from xsearch.evaluation.results import TaskResult
from xsearch.evaluation.run import RunOptions, compare_runs, evaluate
from xsearch.evaluation.tasks import Split, load_mlqa
from xsearch.training.recipe import LossTable, Recipe, VocabularyTable
from xsearch.training.run_folder import held

if TYPE_CHECKING:
    from xsearch.training.train import Callbacks

WHOLE = "whole recipe"
# In the folder ``prepared`` of a run: what depends on the data alone, and what on vocabulary and base too.
OF_THE_DATA = ("examples.jsonl.zst", "filters.json", "teacher.npy", "teacher.known.npy", "teacher.json", "teacher_int8")
OF_THE_VOCABULARY = ("start", "arrays")
SAMPLES = 2_000


def variants(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe, and by name the recipe without one of its parts; a part that it does not have is no variant."""
    found = {WHOLE: recipe}
    loss, batches = recipe.loss, recipe.batches
    if isinstance(recipe.vocabulary, VocabularyTable) and recipe.vocabulary.transplant:
        found["transplant off"] = replace(recipe, vocabulary=replace(recipe.vocabulary, transplant=False))
    if recipe.teacher is not None:
        # What is left to learn from is that a text and its translation belong together. English alone has no term then.
        weight = max(loss.contrastive, loss.distil_contrastive) or 1.0
        alone = replace(loss, distil_contrastive=0.0, distil_cosine=0.0, distil_mse=0.0, contrastive=weight)
        found["distillation off"] = replace(recipe, teacher=None, loss=alone, batches=replace(batches, english=0.0))
    without = replace(loss, contrastive=0.0, distil_contrastive=0.0)
    if without != loss and _has_terms(without):
        found["contrastive off"] = replace(recipe, loss=without)
    if batches.terms > 0:
        found["names off"] = replace(recipe, batches=replace(batches, terms=0.0))
    if batches.mixed_languages > 0:
        found["batch mix off"] = replace(recipe, batches=replace(batches, mixed_languages=0.0))
    return found


def budgeted(recipe: Recipe, steps: int) -> Recipe:
    """The recipe with so many steps, a warm-up of a tenth of them at most, and no measuring of its own."""
    optimizer = replace(recipe.optimizer, steps=steps, warmup=min(recipe.optimizer.warmup, max(1, steps // 10)))
    return replace(recipe, optimizer=optimizer, run=replace(recipe.run, mlqa="", evaluate_every=0))


def share(first: Path, folder: Path, *, same_vocabulary: bool) -> list[str]:
    """Links what ``first`` prepared into the folder of another run; the names of what is linked now.

    The links lead into the output of this script, never into another run, so that what a variant adds (the teacher's
    vectors of texts that only its batches hold) harms nobody.
    """
    target = folder / "prepared"
    target.mkdir(parents=True, exist_ok=True)
    linked = []
    for name in (*OF_THE_DATA, *(OF_THE_VOCABULARY if same_vocabulary else ())):
        source = first / "prepared" / name
        if source.exists() and not (target / name).exists():
            (target / name).symlink_to(source.resolve(), target_is_directory=source.is_dir())
            linked.append(name)
    return linked


def take_over(run: Path, first: Path) -> None:
    """Copies what another run of the same recipe prepared, if nothing is there yet; what does not fit is made anew."""
    if not (first / "prepared").exists():
        shutil.copytree(run / "prepared", first / "prepared")


def trained_encoder(recipe: Recipe, folder: Path, *, device: str, told: Callbacks) -> Path:
    """Trains a variant; returns the folder of its float32 graph, or of the encoder itself where it has no graph."""
    from xsearch.training.train import PACKAGE_FOLDER, train

    reference = folder / f"{PACKAGE_FOLDER}-float32"
    try:
        trained = train(recipe, folder, device=device, callbacks=told)
    except TrainingError as exc:
        # The graph is there, and only its int8 form was refused.
        if not reference.is_dir():
            raise
        told.on_stage(f"no int8 form: {exc}")
        return reference
    return reference if trained.package else trained.encoder


def measure(encoder: Path, mlqa: Path) -> TaskResult:
    """MLQA dev of an encoder in a folder."""
    return evaluate(load_mlqa(mlqa, split=Split.DEV), load_encoder(str(encoder)), options=RunOptions(bootstrap=SAMPLES))


def row(result: TaskResult, whole: TaskResult) -> dict[str, Any]:
    """Means with intervals, language pairs, and the difference to the whole recipe."""
    report = result.to_dict()
    found = {key: report[key] for key in ("mono", "cross", "mono_ci", "cross_ci") if key in report}
    found["pairs"] = {pair: scores["ndcg@10"] for pair, scores in report["pairs"].items()}
    if result is not whole:
        comparison = compare_runs(
            result, whole.per_query(), baseline={"name": WHOLE}, samples=SAMPLES, seed=0
        ).to_dict()
        found["difference"] = {name: comparison[name] for name in ("mono", "cross") if name in comparison}
    return found


def _has_terms(loss: LossTable) -> bool:
    return max(loss.contrastive, loss.distil_contrastive, loss.distil_cosine, loss.distil_mse) > 0


def main() -> None:
    """Trains and measures all variants and writes one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--mlqa", type=Path, required=True, help="MLQA_V1.zip, or its dev part")
    parser.add_argument("--steps", type=int, default=500, help="of each run")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"), help="a folder for each run goes here")
    parser.add_argument("--prepared", type=Path, help="folder of a run of this recipe, whose prepared data is copied")
    parser.add_argument("--only", nargs="*", help="these variants alone, beside the whole recipe")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()

    from xsearch.training.train import Callbacks

    recipe = budgeted(Recipe.read(arguments.recipe), arguments.steps)
    told = Callbacks(on_stage=lambda line: print(line, file=sys.stderr, flush=True))
    first = arguments.runs / WHOLE.replace(" ", "-")
    if arguments.prepared is not None:
        take_over(arguments.prepared, first)
    whole: TaskResult | None = None
    rows: dict[str, Any] = {}
    for name, variant in variants(recipe).items():
        if arguments.only and name not in (WHOLE, *arguments.only):
            continue
        folder = arguments.runs / name.replace(" ", "-")
        print(f"== {name}", file=sys.stderr, flush=True)
        if name != WHOLE:
            share(first, folder, same_vocabulary=variant.vocabulary == recipe.vocabulary)
        with held(folder):
            exported = trained_encoder(variant, folder, device=arguments.device, told=told)
        result = measure(exported, arguments.mlqa)
        whole = whole or result
        rows[name] = row(result, whole)
        print(f"{name}: mono {rows[name]['mono']} cross {rows[name]['cross']}", file=sys.stderr, flush=True)
        numbers = {
            "task": "MLQA dev, MTEB protocol, nDCG@10, float32",
            "recipe": arguments.recipe.name,
            "steps": arguments.steps,
            "seed": recipe.seed,
            "variants": rows,
        }
        # After each: hours of work are not lost to the last one's failure.
        path = write_result("ablation", numbers, arguments.output)
    print(path)


if __name__ == "__main__":
    main()
