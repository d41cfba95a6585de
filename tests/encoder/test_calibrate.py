"""How far channels reach, and what the export makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.encoder import checkpoints
from tests.encoder.test_export import change_weights
from xsearch.encoder.calibrate import channel_reach
from xsearch.encoder.export import INT8, read_shape, write_encoder
from xsearch.encoder.tensors import read_graphs

NORM = "encoder.layer.0.attention.output.LayerNorm"


@pytest.fixture(scope="module")
def far(mbert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a channel that says nothing but its beta, and one of forty times the size of the others."""
    folder = checkpoints.copied(mbert, tmp_path_factory.mktemp("calibrate") / "far")

    def gamma(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[2], array[3] = 0, 40
        return array

    def beta(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[2] = -0.75
        return array

    change_weights(folder, f"{NORM}.weight", gamma)
    change_weights(folder, f"{NORM}.bias", beta)
    return folder


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def test_the_reach_of_channels(far: Path) -> None:
    shape, weights = read_shape(far), weights_of(far)
    reach = channel_reach(weights, shape, ([2], [3]))
    names = {f"encoder.layer.{layer}.{part}.LayerNorm" for layer in range(2) for part in ("attention.output", "output")}
    assert set(reach) == {"embeddings.LayerNorm", *names}
    assert all(values.shape == (32,) for values in reach.values())
    assert reach[NORM][2] == 0.75  # gamma is 0, so the channel is its beta everywhere
    # A normalised value is at most sqrt(dim - 1) in size, and among thousands of tokens some are beyond 2.
    gamma, beta = (np.abs(weights[f"{NORM}.{part}"]) for part in ("weight", "bias"))
    assert (reach[NORM] <= beta + gamma * 31**0.5 + 1e-4).all()
    assert reach[NORM][3] > 80
    np.testing.assert_array_equal(reach[NORM], channel_reach(weights, shape, ([2], [3]))[NORM])


def test_far_channels_are_made_smaller_and_their_rows_of_the_matrix_larger(far: Path, tmp_path: Path) -> None:
    write_encoder(far, tmp_path, INT8)
    _, constants = read_graphs(tmp_path, ["model-int8.onnx", "model-float32.onnx"])

    def numbers(name: str, kind: type) -> np.ndarray:
        return np.frombuffer(constants[name].raw, dtype=kind).reshape(constants[name].shape)

    smooth = numbers(f"{NORM}.smooth", np.float32)
    reach = channel_reach(weights_of(far), read_shape(far), ([2], [3]))[NORM]
    np.testing.assert_allclose(smooth, 1 / np.clip(reach / np.median(reach), 1 / 30, 30) ** 0.5, rtol=1e-5)
    assert smooth.argmin() == 3 and smooth[3] < 0.25
    name = "encoder.layer.0.intermediate.dense"
    scale = numbers(f"{name}.scale", np.float32)
    restored = numbers(f"{name}.int8", np.int8) * scale * smooth[:, None]
    error = np.abs(restored - weights_of(far)[f"{name}.weight"].T)
    assert (error <= scale * smooth[:, None] / 2 + 1e-7).all()
