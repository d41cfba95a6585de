"""The ONNX graph of a BERT encoder, in float32 or int8, with the fused operators of ONNX Runtime.

The graph takes ``input_ids``, ``(batch, tokens) int64``, texts of one length: nothing is padded, so there is no mask,
and a text's vector cannot depend on the texts beside it. It gives ``token_vectors``, ``(batch, tokens, token_dim)``,
and for each door ``query_vectors`` and ``passage_vectors``, ``(batch, dim)``, not normalised.

int8 keeps matrices as 8-bit integers with a scale for each column. Activations are quantised row by row: the usual
dynamic quantisation takes one scale for the whole batch, and the same text then gets other vectors beside other texts.
Channels that reach far out would take the steps of a row from all others; they are made smaller first, and their rows
of the matrix larger (SmoothQuant, Xiao et al. 2023). ``MatMulNBits``, which quantises rows by itself, took 1.7 to 2.1
times as long (AVX512-VNNI, 8 bits in blocks of 128 and 32).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.exported import Precision
from xsearch.encoder.quantise import BLOCK, Blocks, Floats, packed, quantise_columns, quantise_rows
from xsearch.encoder.step import LinearStep
from xsearch.encoder.tensors import Constant, constant, require_onnx

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto

Weights = Mapping[str, NDArray[Any]]
OPSET = 21
WORDS = "embeddings.word_embeddings.weight"
DOORS = ("query_vectors", "passage_vectors")
# What the names of the nodes and constants behind the pooled vector begin with.
DOOR = "door."
POOLED = "pooled"
# Zero among the codes of activations of either sign ...
MIDDLE = 128
# ... and of GELU's, which are above -0.17: more than half of the codes are left for what is above zero.
GELU_ZERO = 32
GELU_LEAST = 0.17
# A channel is divided by its reach to the power of this.
SMOOTHING = 0.5
# A reach counts up to this many times that of the median channel.
MOST_SMOOTHING = 30.0


class EmbeddingFormat(StrEnum):
    """How the token embeddings are stored: as they are, 8 bits by row, or 4 bits in blocks of 32."""

    FLOAT32 = "float32"
    INT8 = "int8"
    INT4 = "int4"


@dataclass(frozen=True, slots=True)
class BertShape:
    """The sizes that a BERT graph is built from.

    Attributes:
        layers, heads, dim: of the body.
        epsilon: of its normalisations.
        positions: tokens that it has positions for.
    """

    layers: int
    heads: int
    dim: int
    epsilon: float
    positions: int


class Embeddings:
    """The constants of the token embeddings, made once for all graphs."""

    def __init__(self, table: Floats | Blocks, chosen: EmbeddingFormat) -> None:
        self.chosen = chosen
        if isinstance(table, Blocks):
            onnx = require_onnx()
            words = Constant(int(onnx.TensorProto.INT4), table.codes.shape, packed(table.codes).tobytes())
            self.constants = {"words": words, "word_scales": constant(table.scales)}
        elif chosen is EmbeddingFormat.INT8:
            rows, scale = quantise_rows(table)
            self.constants = {"words": constant(rows), "word_scales": constant(scale)}
        else:
            self.constants = {"words": constant(table)}


class BertGraph:
    """Builds a graph node by node; each method returns the name of its output.

    Args:
        weights: by the names of transformers' BertModel.
        stored: how the matrices are stored. int8 ones can be multiplied in either precision.
        precision: the arithmetic of the products.
        constants: of this graph and of others beside it; what is there by its name is not made again.
        reach: for each normalisation how far each of its channels reaches; needed where matrices are stored as int8.
    """

    def __init__(
        self,
        weights: Weights,
        shape: BertShape,
        stored: Precision,
        precision: Precision,
        constants: dict[str, Constant],
        reach: Mapping[str, Floats] | None = None,
    ) -> None:
        self._onnx = require_onnx()
        self._weights = weights
        self._shape = shape
        self._stored = stored
        self._precision = precision
        self._constants = constants
        self._reach = reach or {}
        self._nodes: list[NodeProto] = []

    def build(self, embeddings: Embeddings, step: LinearStep | None) -> ModelProto:
        """The graph, without its constants."""
        helper, types = self._onnx.helper, self._onnx.TensorProto
        cube = self._cube()
        self._embed(embeddings)
        rows, norm = "rows", "embeddings.LayerNorm"
        for layer in range(self._shape.layers):
            rows, norm = self._layer(rows, norm, f"encoder.layer.{layer}", cube)
        self._node("Reshape", [rows, cube(1)], "token_vectors")
        self._node("ReduceMean", ["token_vectors", self._fixed("axis_1", np.array([1]))], POOLED, keepdims=0)
        inputs = [helper.make_tensor_value_info("input_ids", types.INT64, ["batch", "tokens"])]
        tokens = helper.make_tensor_value_info("token_vectors", types.FLOAT, ["batch", "tokens", self._shape.dim])
        graph = helper.make_graph(self._nodes, "bert", inputs, [tokens])
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model: ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="xsearch")
        add_doors(model, self._constants, self._shape.dim, step)
        return model

    def _cube(self) -> Callable[[int], str]:
        """For a width in dims the name of the shape ``(batch, tokens, width)``."""
        size = self._node("Shape", ["input_ids"], "size")
        made: dict[int, str] = {}

        def shape_of(dims: int) -> str:
            if dims not in made:
                width = self._fixed(f"width_{dims}", np.array([dims * self._shape.dim]))
                made[dims] = self._node("Concat", [size, width], f"cube_{dims}", axis=0)
            return made[dims]

        return shape_of

    def _embed(self, embeddings: Embeddings) -> None:
        types = self._onnx.TensorProto
        self._constants.update(embeddings.constants)
        if embeddings.chosen is EmbeddingFormat.INT4:
            halves = self._node(
                "GatherBlockQuantized",
                ["words", "input_ids", "word_scales"],
                "word_rows",
                domain="com.microsoft",
                block_size=BLOCK,
                gather_axis=0,
                quantize_axis=1,
            )
            words = self._node("Cast", [halves], "word_vectors", to=types.FLOAT)
        elif embeddings.chosen is EmbeddingFormat.INT8:
            floats = self._node(
                "Cast", [self._node("Gather", ["words", "input_ids"], "word_rows")], "word_floats", to=types.FLOAT
            )
            scales = self._node("Gather", ["word_scales", "input_ids"], "word_row_scales")
            words = self._node("Mul", [floats, scales], "word_vectors")
        else:
            words = self._node("Gather", ["words", "input_ids"], "word_vectors")
        tokens = self._node("Shape", ["input_ids"], "tokens", start=1, end=2)
        positions = self._node("Slice", [self._places(embeddings.chosen), self._zero(), tokens], "positions")
        embedded = self._norm(self._node("Add", [words, positions], "embedded"), "embeddings.LayerNorm")
        if self._precision is Precision.INT8:
            count = self._node("ReduceProd", ["size"], "row_count", keepdims=1)
            for name, zero in (("row_middles", MIDDLE), ("gelu_row_zeros", GELU_ZERO)):
                value = self._onnx.helper.make_tensor(name, types.UINT8, [1], [zero])
                self._node("ConstantOfShape", [count], name, value=value)
        self._node("Reshape", [embedded, self._row_shape()], "rows")

    def _places(self, chosen: EmbeddingFormat) -> str:
        # One segment only: its type embedding is added to every position once and for all.
        places = (
            self._weights["embeddings.position_embeddings.weight"]
            + self._weights["embeddings.token_type_embeddings.weight"][0]
        )
        if chosen is EmbeddingFormat.FLOAT32:
            return self._fixed("places", places)
        halves = self._fixed("half_places", places.astype(np.float16))
        return self._node("Cast", [halves], "places", to=self._onnx.TensorProto.FLOAT)

    def _layer(self, rows: str, norm: str, name: str, cube: Callable[[int], str]) -> tuple[str, str]:
        """The rows behind a layer, and the normalisation that they come from.

        Args:
            norm: the normalisation that ``rows`` come from.
        """
        attention = f"{name}.attention"
        parts = [f"{attention}.self.{part}" for part in ("query", "key", "value")]
        qkv_weight = np.concatenate([self._weights[f"{part}.weight"] for part in parts]).T
        qkv_bias = np.concatenate([self._weights[f"{part}.bias"] for part in parts])
        product = self._matmul(rows, qkv_weight, f"{name}.qkv", norm=norm)
        split = [f"{name}.{part}" for part in ("q", "k", "v")]
        heads = self._node("Reshape", [product, cube(3)], f"{name}.qkv_cube")
        self._nodes.append(self._onnx.helper.make_node("Split", [heads], split, axis=2, num_outputs=3))
        # Without a mask this is flash attention: four fifths of the time, and less for long texts.
        context = self._node(
            "MultiHeadAttention",
            [*split, self._fixed(f"{name}.qkv_bias", qkv_bias)],
            f"{name}.context",
            domain="com.microsoft",
            num_heads=self._shape.heads,
        )
        seen = self._node("Reshape", [context, self._row_shape()], f"{name}.context_rows")
        rows = self._add_norm(self._linear(seen, f"{attention}.output.dense"), rows, f"{attention}.output")
        wide = self._linear(rows, f"{name}.intermediate.dense", norm=f"{attention}.output.LayerNorm")
        bias = self._fixed(f"{name}.wide_bias", self._weights[f"{name}.intermediate.dense.bias"])
        active = self._node("BiasGelu", [wide, bias], f"{name}.active", domain="com.microsoft")
        narrow = self._linear(active, f"{name}.output.dense", gelu=True)
        return self._add_norm(narrow, rows, f"{name}.output"), f"{name}.output.LayerNorm"

    def _linear(self, rows: str, name: str, *, norm: str = "", gelu: bool = False) -> str:
        """The product only: its bias is added by whoever takes it."""
        return self._matmul(rows, self._weights[f"{name}.weight"].T, name, norm=norm, gelu=gelu)

    def _matmul(self, rows: str, matrix: Floats, name: str, *, norm: str = "", gelu: bool = False) -> str:
        """The product of ``rows``, which come from the normalisation ``norm`` or from a GELU, with the matrix."""
        if self._stored is Precision.FLOAT32:
            return self._node("MatMul", [rows, self._fixed(f"{name}.matrix", matrix)], f"{name}.product")
        smooth = f"{norm}.smooth" if norm else ""
        if f"{name}.int8" not in self._constants:
            factors = self._smoothing(norm) if norm else np.ones(len(matrix), dtype=np.float32)
            quantised, scale = quantise_columns(matrix * factors[:, None])
            self._fixed(f"{name}.int8", quantised)
            self._fixed(f"{name}.scale", scale)
            if norm:
                self._fixed(smooth, 1 / factors)
        if self._precision is Precision.FLOAT32:
            return self._node("MatMul", [rows, self._restored(name, smooth)], f"{name}.product")
        if norm:
            rows = self._node("Mul", [rows, smooth], f"{rows}.smooth")
        codes, row_scale = self._quantised_gelu(rows) if gelu else self._quantised_rows(rows)
        zero = self._fixed("gelu_zero", np.uint8(GELU_ZERO)) if gelu else self._fixed("middle", np.uint8(MIDDLE))
        inputs = [codes, f"{name}.int8", self._fixed("one", np.float32(1)), f"{name}.scale", zero]
        product = self._node("MatMulIntegerToFloat", inputs, f"{name}.unscaled", domain="com.microsoft")
        return self._node("Mul", [product, row_scale], f"{name}.product")

    def _restored(self, name: str, smooth: str) -> str:
        """An int8 matrix as floats. All of it is constant, so this is done once, when the graph is loaded."""
        whole = self._node("Cast", [f"{name}.int8"], f"{name}.whole", to=self._onnx.TensorProto.FLOAT)
        matrix = self._node("Mul", [whole, f"{name}.scale"], f"{name}.restored")
        if not smooth:
            return matrix
        column = self._node("Unsqueeze", [smooth, self._fixed("axis_1", np.array([1]))], f"{name}.smooth_column")
        return self._node("Mul", [matrix, column], f"{name}.unsmoothed")

    def _smoothing(self, norm: str) -> Floats:
        """What each channel behind a normalisation is divided by before it is quantised."""
        reach = self._reach[norm]
        usual = float(np.median(reach)) or 1.0
        factors: Floats = np.clip(reach / usual, 1 / MOST_SMOOTHING, MOST_SMOOTHING) ** SMOOTHING
        return factors.astype(np.float32)

    def _quantised_rows(self, rows: str) -> tuple[str, str]:
        """The names of ``rows`` as uint8 around 128, and of the scale of each as a column."""
        axis = self._fixed("axis_1", np.array([1]))
        high = self._node("ReduceMax", [rows, axis], f"{rows}.high", keepdims=0)
        low = self._node("ReduceMin", [rows, axis], f"{rows}.low", keepdims=0)
        size = self._node("Max", [high, self._node("Neg", [low], f"{rows}.minus_low")], f"{rows}.size")
        scale = self._node("Div", [size, self._fixed("steps", np.float32(127))], f"{rows}.row_scale")
        return self._codes(rows, scale, "row_middles")

    def _quantised_gelu(self, rows: str) -> tuple[str, str]:
        """The same for what a GELU gives: its least value fits below zero, its greatest at the upper end."""
        axis = self._fixed("axis_1", np.array([1]))
        high = self._node("ReduceMax", [rows, axis], f"{rows}.high", keepdims=0)
        steps = self._fixed("gelu_steps", np.float32(255 - GELU_ZERO))
        least = self._fixed("gelu_least_scale", np.float32(GELU_LEAST / GELU_ZERO))
        scale = self._node("Max", [self._node("Div", [high, steps], f"{rows}.size"), least], f"{rows}.row_scale")
        return self._codes(rows, scale, "gelu_row_zeros")

    def _codes(self, rows: str, scale: str, zeros: str) -> tuple[str, str]:
        codes = self._node("QuantizeLinear", [rows, scale, zeros], f"{rows}.uint8", axis=0)
        column = self._node("Unsqueeze", [scale, self._fixed("axis_1", np.array([1]))], f"{rows}.scale_column")
        return codes, column

    def _add_norm(self, value: str, skip: str, name: str) -> str:
        bias = self._fixed(f"{name}.bias", self._weights[f"{name}.dense.bias"])
        # Not the fused SkipLayerNormalization: its kernel for CPUs took ten times as long as these three.
        biased = self._node("Add", [value, bias], f"{name}.biased")
        return self._norm(self._node("Add", [biased, skip], f"{name}.sum"), f"{name}.LayerNorm")

    def _norm(self, value: str, name: str) -> str:
        gamma = self._fixed(f"{name}.gamma", self._weights[f"{name}.weight"])
        beta = self._fixed(f"{name}.beta", self._weights[f"{name}.bias"])
        epsilon = self._shape.epsilon
        return self._node("LayerNormalization", [value, gamma, beta], f"{name}.hidden", axis=-1, epsilon=epsilon)

    def _row_shape(self) -> str:
        return self._fixed("row_shape", np.array([-1, self._shape.dim]))

    def _zero(self) -> str:
        return self._fixed("zero", np.array([0]))

    def _fixed(self, name: str, array: Any) -> str:
        """The name of a constant; it is made where there is none of that name."""
        if name not in self._constants:
            self._constants[name] = constant(np.asarray(array))
        return name

    def _node(self, kind: str, inputs: list[str], output: str, *, domain: str = "", **attributes: Any) -> str:
        node = self._onnx.helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes)
        self._nodes.append(node)
        return output


def add_doors(model: ModelProto, constants: dict[str, Constant], dim: int, step: LinearStep | None) -> None:
    """Gives the graph its two doors behind the pooled vector, in the place of those that it had.

    With a step, the pooled vector is brought to unit length, multiplied by the step's matrix, and the door's offset is
    subtracted; without one, both doors give the pooled vector.

    Args:
        constants: gets those of the step; loses those of the step before.
        dim: of the pooled vector.
    """
    onnx = require_onnx()
    graph = model.graph
    kept = [node for node in graph.node if not node.name.startswith(DOOR)]
    outputs: list[ValueInfoProto] = [output for output in graph.output if output.name not in DOORS]
    for name in [name for name in constants if name.startswith(DOOR)]:
        del constants[name]
    if step is None:
        kept += [onnx.helper.make_node("Identity", [POOLED], [door], name=DOOR + door) for door in DOORS]
    else:
        matrix, moved = DOOR + "matrix", DOOR + "moved"
        offsets = (step.query_offset, step.passage_offset)
        constants[matrix] = constant(step.matrix)
        length = onnx.helper.make_node("LpNormalization", [POOLED], [DOOR + "unit"], name=DOOR + "unit", axis=1, p=2)
        product = onnx.helper.make_node("MatMul", [DOOR + "unit", matrix], [moved], name=moved)
        kept += [length, product]
        for door, offset in zip(DOORS, offsets, strict=True):
            constants[f"{DOOR}{door}.offset"] = constant(offset)
            kept.append(onnx.helper.make_node("Sub", [moved, f"{DOOR}{door}.offset"], [door], name=DOOR + door))
    dim_out = dim if step is None else step.dim_out
    outputs += [onnx.helper.make_tensor_value_info(door, onnx.TensorProto.FLOAT, ["batch", dim_out]) for door in DOORS]
    del graph.node[:], graph.output[:]
    graph.node.extend(kept)
    graph.output.extend(outputs)
