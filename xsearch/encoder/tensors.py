"""Constants of ONNX graphs, and the one file that holds them for all graphs of a folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xsearch.errors import EncoderError, MissingExtraError

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

# Smaller ones lie in the graph itself.
MIN_EXTERNAL_BYTES = 256
# Where a constant begins in the file: at a multiple of this, so that it can be mapped into memory.
ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor as ONNX stores it.

    Attributes:
        kind: ONNX's number of its type.
        shape: its dimensions.
        raw: its bytes.
    """

    kind: int
    shape: tuple[int, ...]
    raw: bytes


def require_onnx() -> Any:
    """The module ``onnx``.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import onnx
    except ImportError as exc:
        raise MissingExtraError("Exporting an encoder", "onnx", "train") from exc
    return onnx


def constant(array: NDArray[Any]) -> Constant:
    """The constant of that array."""
    onnx = require_onnx()
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return Constant(int(kind), array.shape, np.ascontiguousarray(array).tobytes())


def write_graphs(
    folder: Path, weights: str, graphs: Mapping[str, ModelProto], constants: Mapping[str, Constant]
) -> None:
    """Writes the graphs, whose constants then lie in the file ``weights`` beside them.

    Args:
        graphs: file name -> graph without initializers.
        constants: by the names that the nodes use; a graph gets those that its nodes name.
    """
    onnx = require_onnx()
    written: dict[str, TensorProto] = {}
    with (folder / weights).open("wb") as file:
        for name, value in constants.items():
            tensor = onnx.TensorProto(name=name, data_type=value.kind, dims=value.shape)
            if len(value.raw) < MIN_EXTERNAL_BYTES:
                tensor.raw_data = value.raw
            else:
                file.write(b"\0" * (-file.tell() % ALIGNMENT))
                place = {"location": weights, "offset": file.tell(), "length": len(value.raw)}
                tensor.data_location = onnx.TensorProto.EXTERNAL
                tensor.external_data.extend(
                    onnx.StringStringEntryProto(key=key, value=str(entry)) for key, entry in place.items()
                )
                file.write(value.raw)
            written[name] = tensor
    for file_name, model in graphs.items():
        used = {name for node in model.graph.node for name in node.input}
        model.graph.ClearField("initializer")
        model.graph.initializer.extend(tensor for name, tensor in written.items() if name in used)
        (folder / file_name).write_bytes(model.SerializeToString())


def read_graphs(folder: Path, names: Iterable[str]) -> tuple[dict[str, ModelProto], dict[str, Constant]]:
    """What :func:`write_graphs` wrote: the graphs by file name, and the constants of all of them.

    Raises:
        EncoderError: a file is not an ONNX graph.
    """
    onnx = require_onnx()
    graphs: dict[str, ModelProto] = {}
    constants: dict[str, Constant] = {}
    for name in names:
        try:
            graphs[name] = onnx.load(folder / name, load_external_data=False)
        except onnx.onnx_cpp2py_export.checker.ValidationError as exc:
            raise _not_a_graph(folder / name) from exc
        for tensor in graphs[name].graph.initializer:
            constants.setdefault(tensor.name, Constant(tensor.data_type, tuple(tensor.dims), _raw(folder, tensor)))
    return graphs, constants


def _raw(folder: Path, tensor: TensorProto) -> bytes:
    place = {entry.key: entry.value for entry in tensor.external_data}
    if not place:
        return bytes(tensor.raw_data)
    with (folder / place["location"]).open("rb") as file:
        file.seek(int(place["offset"]))
        content: bytes = file.read(int(place["length"]))
    return content


def _not_a_graph(path: Path) -> EncoderError:
    return EncoderError(f"{path} is not an ONNX graph", "The file as the export wrote it", "Export the encoder again")
