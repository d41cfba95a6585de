"""A whole run: what comes before the first step, the steps, measuring, and the finished encoder."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from xsearch.encoder.load import load_encoder
from xsearch.errors import EncoderError, TrainingError
from xsearch.evaluation.run import RunOptions, evaluate
from xsearch.evaluation.tasks import Split, load_mlqa
from xsearch.training.card import write_card
from xsearch.training.coverage import Coverage
from xsearch.training.debias_stage import add_step, fitted_step
from xsearch.training.distributed import Processes, joined
from xsearch.training.language_model import special_tokens
from xsearch.training.language_texts import read_texts
from xsearch.training.recipe import CutTable, Recipe
from xsearch.training.release import Exported, Parity, write_package, write_student
from xsearch.training.run_folder import last_step
from xsearch.training.runlog import StepReport, log_lines, read_log
from xsearch.training.selection import Example, Kind
from xsearch.training.stages import Ready, chosen_examples, make_ready, pad_id
from xsearch.training.throughput import gemm_peak, linear_shapes
from xsearch.training.trainer import Trainer

ENCODER_FOLDER = "encoder"
PACKAGE_FOLDER = "package"
BEST_FOLDER = "best"
MEASURED_FOLDER = "measured"
LOG_FILE = "log.jsonl"
SCORES_FILE = "scores.jsonl"
FIGURES = ("same_language", "cross_language")
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
        float_parity: of the float32 graph with torch.
        peak_share: part of the matrix products' peak that the steps reached; 0 where there were none, and in a static
            encoder, which has no such products.
        coverage: what a cut of the vocabulary did; None without one.
    """

    encoder: Path
    package: Path | None
    resumed_at: int
    parity: Parity | None
    score: Score | None
    float_parity: Parity | None = None
    peak_share: float = 0.0
    coverage: Coverage | None = None


def train(recipe: Recipe, folder: Path, *, device: str = "cpu", callbacks: Callbacks | None = None) -> Trained:
    """Runs a recipe in ``folder``, or goes on with what lies there.

    Under ``torchrun`` each process calls this with the same arguments. The first alone writes, measures and tells; the
    others' results name the encoder and no more.

    Raises:
        TrainingError: the recipe, the data, a checkpoint or the numbers are at fault.
        PairError: a line of the data is malformed.
    """
    with joined(device) as processes:
        told = callbacks if callbacks is not None and processes.first else Callbacks()
        folder.mkdir(parents=True, exist_ok=True)
        with processes.first_alone():
            ready = make_ready(
                recipe,
                folder,
                device=str(processes.device),
                processes=processes.size,
                on_stage=told.on_stage,
                on_count=told.on_count,
            )
        run = _Run(recipe, folder, ready, processes, told)
        resumed_at, peak_share = run.steps()
        if not processes.first:
            processes.wait()
            return Trained(folder / ENCODER_FOLDER, None, resumed_at, None, None)
        told.on_stage("writing the encoder")
        trained = run.finish(resumed_at, peak_share)
        processes.wait()
        return trained


class _Run:
    """The steps of a run, with its measurements, and what is written at its end."""

    def __init__(self, recipe: Recipe, folder: Path, ready: Ready, processes: Processes, told: Callbacks) -> None:
        self._recipe = recipe
        self._folder = folder
        self._ready = ready
        self._processes = processes
        self._told = told
        self._scores = folder / SCORES_FILE
        self._best = _best(self._scores) if (folder / BEST_FOLDER).is_dir() else None

    def steps(self) -> tuple[int, float]:
        """Trains to the last step; the step that the run went on from, and the share of the peak that it reached."""
        recipe, ready, told = self._recipe, self._ready, self._told
        if ready.prepared is None:
            self._refuse_trained()
            return 0, 0.0
        modelled = max(recipe.loss.mlm, recipe.loss.tlm) > 0
        trainer = Trainer(
            ready.student,
            ready.prepared,
            ready.teacher,
            recipe,
            self._folder,
            pad=pad_id(ready.tokenizer),
            device=str(self._processes.device),
            special=special_tokens(ready.tokenizer) if modelled else None,
            processes=self._processes,
        )
        resumed_at = trainer.resume(on_damaged=lambda path: told.on_stage(f"left out a damaged checkpoint, {path}"))
        if resumed_at >= recipe.optimizer.steps:
            return resumed_at, 0.0
        told.on_stage(f"training from step {resumed_at:,}" if resumed_at else "training")
        trainer.peak_gflops = before = self._peak()
        arithmetic = seconds = 0.0
        if not self._processes.first:
            trainer.run()
            return resumed_at, 0.0
        if resumed_at and resumed_at not in {score.step for score, _ in _read_scores(self._scores)}:
            self._measure(resumed_at)  # it was killed between the checkpoint and this
        with log_lines(self._folder / LOG_FILE, recipe.run.log_every, after=resumed_at) as log:

            def on_step(report: StepReport) -> None:
                nonlocal arithmetic, seconds
                arithmetic += report.gflops * report.seconds
                seconds += report.seconds
                log(report)
                told.on_step(report)

            trainer.run(on_step=on_step, on_checkpoint=self._measure)
        peak = max(before, self._peak()) * self._processes.size
        reached = arithmetic / seconds
        if peak:
            told.on_stage(
                f"matrix products at {reached:.0f} GFLOP/s, {reached / peak:.0%} of the {peak:.0f} they reach alone"
            )
        return resumed_at, reached / peak if peak else 0.0

    def finish(self, resumed_at: int, peak_share: float) -> Trained:
        """Writes the encoder, its ONNX graphs and their cards."""
        recipe, folder, told, ready = self._recipe, self._folder, self._told, self._ready
        encoder = folder / ENCODER_FOLDER
        self._write(encoder)
        package: Path | None = folder / PACKAGE_FOLDER
        exported: Exported | None = None
        examples = chosen_examples(recipe, folder)
        step = fitted_step(recipe, folder, encoder, on_stage=told.on_stage, on_count=told.on_count)
        try:
            exported = write_package(
                encoder, folder / PACKAGE_FOLDER, _parity_texts(recipe, examples), options=recipe.export, step=step
            )
        except EncoderError as exc:  # another architecture: it goes through the hub extra
            told.on_stage(f"no ONNX export: {exc}")
            package = None
        if step is not None:
            add_step(encoder, step)
        score: Score | None = None
        if recipe.run.mlqa:
            told.on_stage("measuring the finished encoder")
            score = self._score(package or encoder, recipe.optimizer.steps)
            _append_score(self._scores, score, best=False)
            told.on_score(score)
            if self._best is not None and self._best.mean > score.mean:
                told.on_stage(f"the encoder of step {self._best.step:,} was better; it lies in {folder / BEST_FOLDER}")
        counts = _counts(examples)
        for written in {encoder, package or encoder}:
            write_card(recipe, written, counts, score, exported, ready.coverage)
        return Trained(
            encoder,
            package,
            resumed_at,
            None if exported is None else exported.int8,
            score,
            None if exported is None else exported.float32,
            peak_share,
            ready.coverage,
        )

    def _refuse_trained(self) -> None:
        """A run without steps would write the base over what earlier steps made.

        Raises:
            TrainingError: the folder has checkpoints.
        """
        step = last_step(self._folder)
        if step:
            raise TrainingError(
                f"optimizer.steps is 0, and {self._folder} holds a run that was trained to step {step:,}",
                "A run without steps writes the base as it is",
                "Give another --output, or --fresh to move the earlier run aside",
            )

    def _measure(self, step: int) -> None:
        """Measures the encoder where it is due, and keeps it where it is the best so far."""
        every = self._recipe.run.evaluate_every
        if not self._recipe.run.mlqa or not every or step % every or step == self._recipe.optimizer.steps:
            return
        self._told.on_stage(f"measuring after step {step:,}")
        measured, best = self._folder / MEASURED_FOLDER, self._folder / BEST_FOLDER
        self._write(measured)
        score = self._score(measured, step)
        better = self._best is None or score.mean > self._best.mean
        if better:
            self._best = score
            shutil.rmtree(best, ignore_errors=True)
            measured.rename(best)
        # Last: a run that is killed before this measures the step again, and decides the same.
        _append_score(self._scores, score, best=better)
        self._told.on_score(score)
        self._told.on_stage("training")

    def _peak(self) -> float:
        shapes = linear_shapes(self._ready.student.body)
        dtype = torch.bfloat16 if self._recipe.optimizer.precision == "bfloat16" else torch.float32
        return gemm_peak(self._processes.device, shapes, tokens=self._recipe.batches.tokens, dtype=dtype)

    def _write(self, folder: Path) -> None:
        ready, max_tokens = self._ready, self._recipe.base.max_tokens
        write_student(ready.student, ready.tokenizer, folder, max_tokens=max_tokens, prompts=ready.prompts)

    def _score(self, encoder: Path, step: int) -> Score:
        """MLQA dev of an encoder in a folder."""
        task = load_mlqa(self._recipe.folder / self._recipe.run.mlqa, split=Split.DEV)
        loaded = load_encoder(str(encoder), device=str(self._processes.device))
        result = evaluate(task, loaded, options=RunOptions(bootstrap=0))
        same = [pair.scores["ndcg@10"] for pair in result.pairs if pair.doc_lang == pair.query_lang]
        cross = [pair.scores["ndcg@10"] for pair in result.pairs if pair.doc_lang != pair.query_lang]
        return Score(step, *(100 * sum(each) / max(1, len(each)) for each in (same, cross)))


def _read_scores(path: Path) -> list[tuple[Score, bool]]:
    """What the run measured so far, and whether each was the best when it came."""
    return [
        (Score(int(str(line["step"])), *(float(str(line[name])) for name in FIGURES)), bool(line.get("best")))
        for line in read_log(path)
    ]


def _best(path: Path) -> Score | None:
    """The score of the encoder in the folder of the best."""
    best = [score for score, was_best in _read_scores(path) if was_best]
    return best[-1] if best else None


def _append_score(path: Path, score: Score, *, best: bool) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**asdict(score), "best": best}) + "\n")


def _parity_texts(recipe: Recipe, examples: Sequence[Example]) -> list[str]:
    """Texts of all languages and kinds, the same for the same recipe."""
    texts = [example.text for example in examples]
    if not texts and isinstance(recipe.vocabulary, CutTable):  # which may have counted plain text alone
        more = read_texts(recipe.data, recipe.vocabulary.texts, recipe.folder)
        texts = [text for lang in sorted(more) for text in more[lang]]
    return random.Random(f"{recipe.seed} parity").sample(texts, min(len(texts), PARITY_TEXTS))


def _counts(examples: Sequence[Example]) -> Counter[tuple[str, str]]:
    """Examples by language and source."""
    return Counter((example.lang, example.origin) for example in examples if example.kind is not Kind.ENGLISH)
