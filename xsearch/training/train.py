"""A whole run: what comes before the first step, the steps, measuring, and the finished encoder."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from xsearch.encoder.load import load_encoder
from xsearch.errors import EncoderError
from xsearch.evaluation.run import RunOptions, evaluate
from xsearch.evaluation.tasks import Split, load_mlqa
from xsearch.training.card import write_card
from xsearch.training.recipe import Recipe
from xsearch.training.release import Parity, write_package, write_student
from xsearch.training.selection import Kind
from xsearch.training.stages import Ready, chosen_examples, make_ready, pad_id
from xsearch.training.trainer import StepReport, Trainer, log_lines

ENCODER_FOLDER = "encoder"
PACKAGE_FOLDER = "package"
BEST_FOLDER = "best"
LOG_FILE = "log.jsonl"
SCORES_FILE = "scores.jsonl"
# Texts of the run by which the exported encoder is compared with the one it came from.
PARITY_TEXTS = 512


@dataclass(frozen=True, slots=True)
class Score:
    """MLQA dev after a step, nDCG@10 x 100: the mean over same-language pairs, and over all others."""

    step: int
    same_language: float
    cross_language: float

    @property
    def mean(self) -> float:
        """Of the two; the best encoder of a run is that of the highest."""
        return (self.same_language + self.cross_language) / 2


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Who is told what happens; all may be left out."""

    on_stage: Callable[[str], None] = field(default=lambda _: None)
    on_count: Callable[[str, int, int], None] = field(default=lambda *_: None)
    on_step: Callable[[StepReport], None] = field(default=lambda _: None)
    on_score: Callable[[Score], None] = field(default=lambda _: None)


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run made.

    Attributes:
        encoder: sentence-transformers folder.
        package: the int8 encoder for ONNX Runtime; None for a model that is not BERT with mean pooling.
        resumed_at: the step that the run went on from; 0 when it began anew.
        parity: of the int8 encoder with float32.
        score: of the finished encoder, where the recipe names an MLQA archive.
    """

    encoder: Path
    package: Path | None
    resumed_at: int
    parity: Parity | None
    score: Score | None


def train(recipe: Recipe, folder: Path, *, device: str = "cpu", callbacks: Callbacks | None = None) -> Trained:
    """Runs a recipe in ``folder``, or goes on with what lies there.

    Raises:
        TrainingError: the recipe, the data, a checkpoint or the numbers are at fault.
        PairError: a line of the data is malformed.
    """
    told = callbacks or Callbacks()
    folder.mkdir(parents=True, exist_ok=True)
    ready = make_ready(recipe, folder, device=device, on_stage=told.on_stage, on_count=told.on_count)
    trainer = Trainer(
        ready.student, ready.prepared, ready.teacher, recipe, folder, pad=pad_id(ready.tokenizer), device=device
    )
    resumed_at = trainer.resume()
    told.on_stage(f"training from step {resumed_at:,}" if resumed_at else "training")
    best: Score | None = None

    def measure(step: int) -> None:
        nonlocal best
        every = recipe.run.evaluate_every
        if not recipe.run.mlqa or not every or step % every or step == recipe.optimizer.steps:
            return
        told.on_stage(f"measuring after step {step:,}")
        _write(recipe, ready, folder / "measured")
        score = _score(recipe, folder, folder / "measured", step)
        told.on_score(score)
        if best is None or score.mean > best.mean:
            best = score
            _write(recipe, ready, folder / BEST_FOLDER)

    with log_lines(folder / LOG_FILE, recipe.run.log_every) as log:

        def on_step(report: StepReport) -> None:
            log(report)
            told.on_step(report)

        trainer.run(on_step=on_step, on_checkpoint=measure)
    told.on_stage("writing the encoder")
    return _finish(recipe, ready, folder, resumed_at, best, told)


def _finish(
    recipe: Recipe, ready: Ready, folder: Path, resumed_at: int, best: Score | None, told: Callbacks
) -> Trained:
    encoder = folder / ENCODER_FOLDER
    _write(recipe, ready, encoder)
    package: Path | None = folder / PACKAGE_FOLDER
    parity: Parity | None = None
    try:
        parity = write_package(encoder, folder / PACKAGE_FOLDER, _parity_texts(recipe, folder))
    except EncoderError as exc:  # another architecture: it goes through the hub extra
        told.on_stage(f"no ONNX export: {exc}")
        package = None
    score: Score | None = None
    if recipe.run.mlqa:
        told.on_stage("measuring the finished encoder")
        score = _score(recipe, folder, package or encoder, recipe.optimizer.steps)
        told.on_score(score)
        if best is not None and best.mean > score.mean:
            told.on_stage(f"the encoder of step {best.step:,} was better; it lies in {folder / BEST_FOLDER}")
    for written in {encoder, package or encoder}:
        write_card(recipe, written, _counts(recipe, folder), score, parity)
    return Trained(encoder, package, resumed_at, parity, score)


def _write(recipe: Recipe, ready: Ready, folder: Path) -> None:
    write_student(
        ready.student, ready.tokenizer, folder, max_tokens=recipe.base.max_tokens, pooling=recipe.base.pooling
    )


def _score(recipe: Recipe, folder: Path, encoder: Path, step: int) -> Score:
    """MLQA dev of an encoder in a folder, also written to the run's file of scores."""
    archive = recipe.folder / recipe.run.mlqa
    result = evaluate(load_mlqa(archive, split=Split.DEV), load_encoder(str(encoder)), options=RunOptions(bootstrap=0))
    same = [pair.scores["ndcg@10"] for pair in result.pairs if pair.doc_lang == pair.query_lang]
    cross = [pair.scores["ndcg@10"] for pair in result.pairs if pair.doc_lang != pair.query_lang]
    score = Score(step, 100 * sum(same) / len(same), 100 * sum(cross) / len(cross))
    with (folder / SCORES_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(score)) + "\n")
    return score


def _parity_texts(recipe: Recipe, folder: Path) -> list[str]:
    """Texts of all languages and kinds, the same for the same recipe."""
    examples = chosen_examples(recipe, folder)
    chosen = random.Random(f"{recipe.seed} parity").sample(examples, min(len(examples), PARITY_TEXTS))
    return [example.text for example in chosen]


def _counts(recipe: Recipe, folder: Path) -> Counter[tuple[str, str]]:
    """Examples by language and source."""
    return Counter(
        (example.lang, example.origin)
        for example in chosen_examples(recipe, folder)
        if example.kind is not Kind.ENGLISH
    )
