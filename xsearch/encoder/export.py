"""ONNX from the weights of a BERT encoder, in float32 or int8, with the fused operators of ONNX Runtime.

The graph takes ``input_ids`` and ``attention_mask`` (both ``(batch, tokens) int64``) and gives ``token_vectors``
(``(batch, tokens, dim) float32``) and ``sentence_vectors`` (their mean over real tokens, not normalised).

int8 keeps weights as 8-bit integers with a scale for each column (matrices) or each row (embeddings).
Activations are quantised row by row, so the vector of a text does not depend on what else is in its
batch; the usual dynamic quantisation takes one scale for the whole batch, and the same text then gets other vectors
beside other texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.builtin import CONFIG_FILE
from xsearch.encoder.fingerprint import hash_files
from xsearch.errors import EncoderError, MissingExtraError, NonFiniteVectorError

if TYPE_CHECKING:
    from onnx import ModelProto

Weights = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float32]
OPSET = 21


class Precision(StrEnum):
    """The arithmetic of the exported graph."""

    FLOAT32 = "float32"
    INT8 = "int8"


@dataclass(frozen=True, slots=True)
class BertShape:
    """The sizes that a BERT graph is built from, as ``config.json`` gives them."""

    layers: int
    heads: int
    dim: int
    epsilon: float
    positions: int

    @classmethod
    def read(cls, folder: Path) -> BertShape:
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
        return cls(
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            dim=config["hidden_size"],
            epsilon=config["layer_norm_eps"],
            positions=config["max_position_embeddings"],
        )


def export_bert(folder: Path, precision: Precision) -> ModelProto:
    """The ONNX model of the BERT encoder in ``folder`` (``model.safetensors`` and ``config.json``).

    Raises:
        MissingExtraError: onnx or safetensors is not installed.
        EncoderError: the folder holds no BERT encoder, or not all of one.
        NonFiniteVectorError: a weight is NaN or infinite.
    """
    shape = BertShape.read(folder)
    try:
        from safetensors.numpy import load_file
    except ImportError as exc:
        raise MissingExtraError("Exporting an encoder", "safetensors", "dev") from exc
    weights = {name: array.astype(np.float32) for name, array in load_file(folder / "model.safetensors").items()}
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise NonFiniteVectorError(
                f"The weight {name} of {folder} holds NaN or infinity",
                "Every weight must be finite",
                "Train or convert the model anew",
            )
    try:
        return _Builder(weights, shape, precision).build()
    except KeyError as exc:
        raise EncoderError(
            f"{folder / 'model.safetensors'} has no weight {exc}",
            "It must hold all weights of a BertModel, under the names that transformers gives them",
            "Save the encoder without a head: AutoModel.from_pretrained(...).save_pretrained(...)",
        ) from exc


def write_encoder(folder: Path, target: Path, precision: Precision) -> None:
    """Writes the folder that :class:`~xsearch.encoder.builtin.BuiltinEncoder` loads, from sentence-transformers' own.

    Args:
        folder: a BERT encoder with mean pooling: ``model.safetensors``, ``config.json``, ``tokenizer.json``.
        target: made where it is not there; files in it are replaced.

    Raises:
        EncoderError: the folder holds another architecture or another pooling.
    """
    shape = BertShape.read(folder)
    _check_pooling(folder)
    tokenizer = _read_json(folder / "tokenizer_config.json")
    prompts = _read_json(folder / "config_sentence_transformers.json", missing_ok=True).get("prompts", {})
    target.mkdir(parents=True, exist_ok=True)
    (target / "model.onnx").write_bytes(export_bert(folder, precision).SerializeToString())
    # Without the spaces that make it readable: a third of its size.
    compact = json.dumps(_read_json(folder / "tokenizer.json"), ensure_ascii=False, separators=(",", ":"))
    (target / "tokenizer.json").write_text(compact, encoding="utf-8")
    config = {
        "dim": shape.dim,
        "max_tokens": min(int(tokenizer.get("model_max_length", shape.positions)), shape.positions),
        "dtype": str(precision),
        "query_prompt": prompts.get("query", ""),
        "passage_prompt": prompts.get("document", ""),
        "sha256": {name: hash_files(target / name) for name in ("model.onnx", "tokenizer.json")},
    }
    (target / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


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


def quantise_rows(table: Floats) -> tuple[NDArray[np.int8], Floats]:
    """An embedding table as int8 with one scale a row: ``(rows, dim) int8`` and ``(rows, 1) float32``."""
    scale = np.abs(table).max(axis=1, keepdims=True) / 127
    scale[scale == 0] = 1
    return np.rint(table / scale).astype(np.int8), scale.astype(np.float32)


def quantise_columns(matrix: Floats) -> tuple[NDArray[np.int8], Floats]:
    """A weight matrix as int8 with one scale a column: ``(inputs, outputs) int8`` and ``(outputs,) float32``."""
    quantised, scale = quantise_rows(matrix.T)
    return quantised.T, scale[:, 0]


class _Builder:
    """Builds the graph node by node; each method returns the name of its output."""

    def __init__(self, weights: Weights, shape: BertShape, precision: Precision) -> None:
        try:
            import onnx
        except ImportError as exc:
            raise MissingExtraError("Exporting an encoder", "onnx", "dev") from exc
        self._onnx = onnx
        self._weights = weights
        self._shape = shape
        self._precision = precision
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def build(self) -> ModelProto:
        helper, types = self._onnx.helper, self._onnx.TensorProto
        hidden = self._embed()
        for layer in range(self._shape.layers):
            hidden = self._layer(hidden, f"encoder.layer.{layer}")
        self._node("Identity", [hidden], "token_vectors")
        self._pool(hidden)
        ids = [
            helper.make_tensor_value_info(n, types.INT64, ["batch", "tokens"]) for n in ("input_ids", "attention_mask")
        ]
        outputs = [
            helper.make_tensor_value_info("token_vectors", types.FLOAT, ["batch", "tokens", self._shape.dim]),
            helper.make_tensor_value_info("sentence_vectors", types.FLOAT, ["batch", self._shape.dim]),
        ]
        graph = helper.make_graph(self._nodes, "bert", ids, outputs, self._constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model: ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="xsearch")
        return model

    def _embed(self) -> str:
        table = self._weights["embeddings.word_embeddings.weight"]
        if self._precision is Precision.INT8:
            quantised, scale = quantise_rows(table)
            rows = self._node("Gather", [self._constant("words", quantised), "input_ids"], "word_rows")
            floats = self._node("Cast", [rows], "word_floats", to=self._onnx.TensorProto.FLOAT)
            scales = self._node("Gather", [self._constant("word_scales", scale), "input_ids"], "word_row_scales")
            words = self._node("Mul", [floats, scales], "word_vectors")
        else:
            words = self._node("Gather", [self._constant("words", table), "input_ids"], "word_vectors")
        # One segment only: its type embedding is added to every position once and for all.
        places = (
            self._weights["embeddings.position_embeddings.weight"]
            + self._weights["embeddings.token_type_embeddings.weight"][0]
        )
        shape = self._node("Shape", ["input_ids"], "tokens", start=1, end=2)
        begin = self._constant("zero", np.array([0], dtype=np.int64))
        positions = self._node("Slice", [self._constant("places", places), begin, shape], "positions")
        return self._norm(self._node("Add", [words, positions], "embedded"), "embeddings.LayerNorm")

    def _layer(self, hidden: str, name: str) -> str:
        attention = f"{name}.attention"
        parts = [f"{attention}.self.{part}" for part in ("query", "key", "value")]
        qkv_weight = np.concatenate([self._weights[f"{part}.weight"] for part in parts]).T
        qkv_bias = np.concatenate([self._weights[f"{part}.bias"] for part in parts])
        qkv = self._matmul(hidden, qkv_weight, f"{name}.qkv")
        query, key, value = (f"{name}.{part}" for part in ("q", "k", "v"))
        self._nodes.append(self._onnx.helper.make_node("Split", [qkv], [query, key, value], axis=2, num_outputs=3))
        mask = self._key_mask()
        context = self._node(
            "MultiHeadAttention",
            [query, key, value, self._constant(f"{name}.qkv_bias", qkv_bias), mask],
            f"{name}.context",
            domain="com.microsoft",
            num_heads=self._shape.heads,
        )
        attended = self._linear(context, f"{attention}.output.dense")
        hidden = self._add_norm(attended, hidden, f"{attention}.output")
        wide = self._matmul(hidden, self._weights[f"{name}.intermediate.dense.weight"].T, f"{name}.wide")
        bias = self._constant(f"{name}.wide_bias", self._weights[f"{name}.intermediate.dense.bias"])
        active = self._node("BiasGelu", [wide, bias], f"{name}.active", domain="com.microsoft")
        return self._add_norm(self._linear(active, f"{name}.output.dense"), hidden, f"{name}.output")

    def _key_mask(self) -> str:
        name = "key_mask"
        if not any(name in node.output for node in self._nodes):
            self._node("Cast", ["attention_mask"], name, to=self._onnx.TensorProto.INT32)
        return name

    def _pool(self, hidden: str) -> None:
        last = self._constant("last_axis", np.array([2], dtype=np.int64))
        middle = self._constant("token_axis", np.array([1], dtype=np.int64))
        mask = self._node("Cast", ["attention_mask"], "float_mask", to=self._onnx.TensorProto.FLOAT)
        column = self._node("Unsqueeze", [mask, last], "mask_column")
        kept = self._node("Mul", [hidden, column], "kept")
        total = self._node("ReduceSum", [kept, middle], "total", keepdims=0)
        count = self._node("ReduceSum", [mask, middle], "count", keepdims=1)
        self._node("Div", [total, count], "sentence_vectors")

    def _linear(self, value: str, name: str) -> str:
        """The product only: its bias is added with the residual (:meth:`_add_norm`)."""
        return self._matmul(value, self._weights[f"{name}.weight"].T, name)

    def _matmul(self, value: str, matrix: Floats, name: str) -> str:
        if self._precision is Precision.FLOAT32:
            return self._node("MatMul", [value, self._constant(f"{name}.matrix", matrix)], f"{name}.product")
        quantised, column_scale = quantise_columns(matrix)
        rows, row_scale = self._quantised_rows(value)
        factors = [self._one(), self._constant(f"{name}.scale", column_scale), self._middle()]
        inputs = [rows, self._constant(f"{name}.int8", quantised), *factors]
        product = self._node("MatMulIntegerToFloat", inputs, f"{name}.unscaled", domain="com.microsoft")
        return self._node("Mul", [product, row_scale], f"{name}.product")

    def _quantised_rows(self, value: str) -> tuple[str, str]:
        """The names of ``value`` as uint8 around 128 and of the scale of each of its rows."""
        axis = self._shared("row_axis", np.array([2], dtype=np.int64))
        high = self._node("ReduceMax", [value, axis], f"{value}.high", keepdims=1)
        low = self._node("ReduceMin", [value, axis], f"{value}.low", keepdims=1)
        size = self._node("Max", [high, self._node("Neg", [low], f"{value}.minus_low")], f"{value}.size")
        scale = self._node("Div", [size, self._shared("steps", np.float32(127))], f"{value}.row_scale")
        inverse = self._node("Reciprocal", [scale], f"{value}.inverse_scale")
        scaled = self._node("Mul", [value, inverse], f"{value}.scaled")
        return self._node("QuantizeLinear", [scaled, self._one(), self._middle()], f"{value}.uint8"), scale

    def _one(self) -> str:
        return self._shared("one", np.float32(1))

    def _middle(self) -> str:
        return self._shared("middle", np.uint8(128))

    def _add_norm(self, value: str, skip: str, name: str) -> str:
        bias = self._constant(f"{name}.bias", self._weights[f"{name}.dense.bias"])
        # Not the fused SkipLayerNormalization: its kernel for CPUs took ten times as long as these three.
        biased = self._node("Add", [value, bias], f"{name}.biased")
        total = self._node("Add", [biased, skip], f"{name}.sum")
        return self._norm(total, f"{name}.LayerNorm")

    def _norm(self, value: str, name: str) -> str:
        gamma = self._constant(f"{name}.gamma", self._weights[f"{name}.weight"])
        beta = self._constant(f"{name}.beta", self._weights[f"{name}.bias"])
        epsilon = self._shape.epsilon
        return self._node("LayerNormalization", [value, gamma, beta], f"{name}.hidden", axis=-1, epsilon=epsilon)

    def _shared(self, name: str, value: Any) -> str:
        """A constant that several nodes use; made once."""
        if name not in {constant.name for constant in self._constants}:
            self._constant(name, np.asarray(value))
        return name

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        self._constants.append(self._onnx.numpy_helper.from_array(array.copy(order="C"), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str, *, domain: str = "", **attributes: Any) -> str:
        node = self._onnx.helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes)
        self._nodes.append(node)
        return output
