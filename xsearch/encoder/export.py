"""An encoder's weights as the folder that xsearch runs: ONNX graphs over one file of weights, and the tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xsearch.encoder.calibrate import channel_reach
from xsearch.encoder.exported import (
    CONFIG_FILE,
    GRAPH_FILES,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    EncoderConfig,
    Precision,
    SpecialTokens,
)
from xsearch.encoder.fingerprint import hash_files
from xsearch.encoder.graph import WORDS, BertGraph, BertShape, EmbeddingFormat, Embeddings, Weights, add_doors
from xsearch.encoder.hub import find_prompts
from xsearch.encoder.quantise import quantise_blocks
from xsearch.encoder.step import LinearStep
from xsearch.encoder.tensors import Constant, read_graphs, write_graphs
from xsearch.errors import EncoderError, MissingExtraError, NonFiniteVectorError


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How the weights are stored.

    Attributes:
        embeddings: of the tokens.
        body: of all layers. With int8 the folder gets a graph that multiplies integers and a small one that multiplies
            floats, over the same weights; whoever loads it takes what is faster there.
    """

    embeddings: EmbeddingFormat = EmbeddingFormat.INT4
    body: Precision = Precision.INT8

    @property
    def dtype(self) -> str:
        """For the fingerprint: one word where both are the same."""
        same = str(self.body) == str(self.embeddings)
        return str(self.body) if same else f"{self.body} with {self.embeddings} embeddings"


EXACT = ExportOptions(EmbeddingFormat.FLOAT32, Precision.FLOAT32)
INT8 = ExportOptions(EmbeddingFormat.INT8, Precision.INT8)


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export came to.

    Attributes:
        bytes: of all files.
        embedding_error: squared error of the stored embeddings, as a share of their squared length; 4 bits only.
        plain_embedding_error: what it would be with the usual scale, a seventh of the outermost weight of each block.
    """

    bytes: int
    embedding_error: float | None
    plain_embedding_error: float | None


def read_shape(folder: Path) -> BertShape:
    """The shape of the model in a Hugging Face folder.

    Raises:
        EncoderError: the folder holds another architecture.
    """
    config = _read_json(folder / "config.json")
    if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
        raise EncoderError(
            f"{folder} holds a {config.get('model_type')} model with {config.get('hidden_act')} activation",
            "The export knows BERT encoders with exact GELU",
            "Use the model through the hub extra: --encoder FOLDER",
        )
    return BertShape(
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        dim=config["hidden_size"],
        epsilon=config["layer_norm_eps"],
        positions=config["max_position_embeddings"],
    )


def write_encoder(
    folder: Path, target: Path, options: ExportOptions | None = None, *, step: LinearStep | None = None
) -> ExportReport:
    """Writes the folder that :class:`~xsearch.encoder.builtin.BuiltinEncoder` loads, from sentence-transformers' own.

    Args:
        folder: a BERT encoder with mean pooling: ``model.safetensors``, ``config.json``, ``tokenizer.json``.
        target: made where it is not there; files in it are replaced.
        options: by default 4-bit embeddings and an int8 body.
        step: becomes part of the graph.

    Raises:
        EncoderError: the folder holds another architecture or another pooling, not all weights of one, or a tokenizer
            without special tokens; or the step is for vectors of another length.
        NonFiniteVectorError: a weight is NaN or infinite.
        MissingExtraError: onnx or safetensors is not installed.
    """
    options = options or ExportOptions()
    shape = read_shape(folder)
    _check_pooling(folder)
    _check_step(step, shape.dim)
    special, ends = read_special_tokens(folder)
    weights = _read_weights(folder)
    try:
        table = weights[WORDS]
        blocks = quantise_blocks(table) if options.embeddings is EmbeddingFormat.INT4 else None
        embeddings = Embeddings(table if blocks is None else blocks, options.embeddings)
        reach = channel_reach(weights, shape, ends) if options.body is Precision.INT8 else None
        bodies = (Precision.FLOAT32,) if options.body is Precision.FLOAT32 else (Precision.INT8, Precision.FLOAT32)
        constants: dict[str, Constant] = {}
        graphs = {
            GRAPH_FILES[body]: BertGraph(weights, shape, options.body, body, constants, reach).build(embeddings, step)
            for body in bodies
        }
    except KeyError as exc:
        raise EncoderError(
            f"{folder / 'model.safetensors'} has no weight {exc}",
            "It must hold all weights of a BertModel, under the names that transformers gives them",
            "Save the encoder without a head: AutoModel.from_pretrained(...).save_pretrained(...)",
        ) from exc
    target.mkdir(parents=True, exist_ok=True)
    write_graphs(target, WEIGHTS_FILE, graphs, constants)
    # Without the spaces that make it readable: a third of its size.
    compact = json.dumps(_read_json(folder / TOKENIZER_FILE), ensure_ascii=False, separators=(",", ":"))
    (target / TOKENIZER_FILE).write_text(compact, encoding="utf-8")
    prompts = find_prompts(
        str(folder), _read_json(folder / "config_sentence_transformers.json", missing_ok=True).get("prompts", {})
    )
    config = EncoderConfig(
        dim=shape.dim if step is None else step.dim_out,
        token_dim=shape.dim,
        max_tokens=_max_tokens(folder, shape),
        dtype=options.dtype,
        query_prompt=prompts.query,
        passage_prompt=prompts.passage,
        special=special,
        bodies=bodies,
        step=_described(step),
        sha256=_hashes(target, (*graphs, WEIGHTS_FILE, TOKENIZER_FILE)),
    )
    config.write(target)
    square = float(np.square(table).sum(dtype=np.float64)) or 1.0
    return ExportReport(
        bytes=sum((target / name).stat().st_size for name in (*config.sha256, CONFIG_FILE)),
        embedding_error=None if blocks is None else blocks.squared_error / square,
        plain_embedding_error=None if blocks is None else blocks.plain_squared_error / square,
    )


def with_step(folder: Path, target: Path, step: LinearStep) -> None:
    """Writes an exported encoder again with this step in its graph, in the place of the one it had, if any.

    Args:
        folder: an exported encoder; its weights stay as they are stored.
        target: another folder; made where it is not there.

    Raises:
        EncoderError: ``folder`` holds no exported encoder, or the step is for vectors of another length.
        MissingExtraError: onnx is not installed.
    """
    if target.resolve() == folder.resolve():
        raise EncoderError(
            f"The encoder in {folder} was to be written over itself",
            "The target must be another folder: a write that fails half-way would leave neither",
            "Name another folder, and replace this one with it afterwards",
        )
    config = EncoderConfig.read(folder)
    _check_step(step, config.token_dim)
    names = [GRAPH_FILES[body] for body in config.bodies]
    for name in config.sha256:
        config.check_file(folder, name)
    graphs, constants = read_graphs(folder, names)
    for model in graphs.values():
        add_doors(model, constants, config.token_dim, step)
    target.mkdir(parents=True, exist_ok=True)
    write_graphs(target, WEIGHTS_FILE, graphs, constants)
    shutil.copyfile(folder / TOKENIZER_FILE, target / TOKENIZER_FILE)
    replace(
        config, dim=step.dim_out, step=_described(step), sha256=_hashes(target, (*names, WEIGHTS_FILE, TOKENIZER_FILE))
    ).write(target)


def read_special_tokens(folder: Path) -> tuple[SpecialTokens, tuple[list[int], list[int]]]:
    """What the tokenizer of a model's folder puts around a text, and its token for what it does not know.

    Returns:
        The tokens, and the ids of those before and of those after a text.

    Raises:
        EncoderError: it puts nothing before or nothing after a text, or has no unknown token.
    """
    from tokenizers import Tokenizer

    path = folder / TOKENIZER_FILE
    layout = _read_json(path)
    tokenizer = Tokenizer.from_str(json.dumps(layout))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    whole, plain = (tokenizer.encode("a", add_special_tokens=added) for added in (True, False))
    places = range(len(whole.ids))
    first = next((place for place in places if whole.ids[place : place + len(plain.ids)] == plain.ids), 0)
    last = first + len(plain.ids)
    before, after = tuple(whole.tokens[:first]), tuple(whole.tokens[last:])
    if not before or not after:
        raise EncoderError(
            f"The tokenizer in {path} puts {list(before)} before a text and {list(after)} after it",
            "A BERT encoder reads a special token at either end, such as [CLS] and [SEP], or <s> and </s>",
            "Set the post_processor of tokenizer.json as the model was trained",
        )
    special = SpecialTokens(before, after, _unknown_token(path, layout["model"]))
    return special, (whole.ids[:first], whole.ids[last:])


def _unknown_token(path: Path, model: Mapping[str, Any]) -> str:
    number, token = model.get("unk_id"), model.get("unk_token")
    if number is not None:
        return str(model["vocab"][number][0])
    if token is None:
        config = _read_json(path.with_name("tokenizer_config.json"), missing_ok=True)
        token = config.get("unk_token")
        token = token.get("content") if isinstance(token, dict) else token
    if not isinstance(token, str) or not token:
        raise EncoderError(
            f"The tokenizer in {path} has no token for what it does not know",
            "Its model must name one (unk_token or unk_id), or tokenizer_config.json must",
            "Add it, such as [UNK] or <unk>",
        )
    return token


def _read_weights(folder: Path) -> Weights:
    try:
        from safetensors.numpy import load_file
    except ImportError as exc:
        raise MissingExtraError("Exporting an encoder", "safetensors", "train") from exc
    weights = {name: array.astype(np.float32) for name, array in load_file(folder / "model.safetensors").items()}
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise NonFiniteVectorError(
                f"The weight {name} of {folder} holds NaN or infinity",
                "Every weight must be finite",
                "Train or convert the model again",
            )
    return weights


def _max_tokens(folder: Path, shape: BertShape) -> int:
    """The least of what the tokenizer, sentence-transformers and the positions allow."""
    stated = (
        _read_json(folder / "tokenizer_config.json").get("model_max_length"),
        _read_json(folder / "sentence_bert_config.json", missing_ok=True).get("max_seq_length"),
    )
    return min([shape.positions, *(int(limit) for limit in stated if limit)])


def _check_step(step: LinearStep | None, dim: int) -> None:
    if step is not None and step.dim != dim:
        raise EncoderError(
            f"The step takes vectors of {step.dim} dimensions",
            f"The encoder gives vectors of {dim}",
            "Fit the step to this encoder: xsearch debias",
        )


def _described(step: LinearStep | None) -> Mapping[str, Any]:
    return {} if step is None else {"digest": step.digest, "encoder": step.encoder, "facts": dict(step.facts)}


def _hashes(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    return {name: hash_files(folder / name) for name in names}


def _read_json(path: Path, *, missing_ok: bool = False) -> dict[str, Any]:
    if missing_ok and not path.exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise EncoderError(
            f"{path} cannot be read: {exc}", "It must be a JSON file of the model's folder", "Check that it is whole"
        ) from exc
    return content


def _check_pooling(folder: Path) -> None:
    """Refuses a pooling other than the mean; a folder that names none gets the mean, as sentence-transformers does."""
    pooling = _read_json(folder / "1_Pooling" / "config.json", missing_ok=True)
    modes = [mode for mode, on in pooling.items() if mode.startswith("pooling_mode_") and on is True]
    mode = pooling.get("pooling_mode", "mean") if not modes else "+".join(modes).removeprefix("pooling_mode_")
    if mode not in ("mean", "mean_tokens"):
        raise EncoderError(
            f"{folder} pools its tokens by {mode}",
            "The export knows mean pooling",
            "Use the model through the hub extra: --encoder FOLDER",
        )
