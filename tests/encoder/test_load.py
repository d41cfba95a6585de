"""An encoder by its name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from xsearch.encoder.builtin import MINI_FOLDER, BuiltinEncoder
from xsearch.encoder.hub import HubEncoder
from xsearch.encoder.load import load_encoder
from xsearch.errors import EncoderNotFoundError


def test_the_default_is_the_built_in_one(builtin: BuiltinEncoder) -> None:
    encoder = load_encoder()
    assert isinstance(encoder, BuiltinEncoder)
    assert encoder.fingerprint == builtin.fingerprint


def test_the_built_in_one_runs_on_the_cpu_whatever_the_device() -> None:
    assert isinstance(load_encoder("builtin", device="cuda"), BuiltinEncoder)


def test_an_exported_folder(builtin: BuiltinEncoder, tmp_path: Path) -> None:
    folder = shutil.copytree(MINI_FOLDER, tmp_path / "mini")
    encoder = load_encoder(str(folder))
    assert isinstance(encoder, BuiltinEncoder)
    assert encoder.fingerprint.digest == builtin.fingerprint.digest
    assert encoder.fingerprint.name == str(folder)


def test_a_hugging_face_folder(mbert: Path) -> None:
    encoder = load_encoder(str(mbert))
    assert isinstance(encoder, HubEncoder)
    np.testing.assert_allclose(np.linalg.norm(encoder.encode_queries(["dog"]), axis=1), [1], atol=1e-6)


@pytest.mark.parametrize("name", ["", "  ", "no/such-model", "/no/such/folder"])
def test_a_name_that_is_nothing(name: str) -> None:
    with pytest.raises(EncoderNotFoundError, match="'builtin', a model folder, or a name on the Hugging Face hub"):
        load_encoder(name)
