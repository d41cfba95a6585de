"""An encoder by its name."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from xsearch.encoder import load
from xsearch.encoder.builtin import MINI_FOLDER, BuiltinEncoder
from xsearch.encoder.hub import HubEncoder
from xsearch.encoder.load import load_encoder, preloaded_builtin
from xsearch.errors import EncoderNotFoundError


def test_the_default_is_the_built_in_one(builtin: BuiltinEncoder) -> None:
    encoder = load_encoder()
    assert isinstance(encoder, BuiltinEncoder)
    assert encoder.fingerprint == builtin.fingerprint


def test_the_built_in_one_runs_on_the_cpu_whatever_the_device() -> None:
    assert isinstance(load_encoder("builtin", device="cuda"), BuiltinEncoder)


def test_one_of_many_threads_takes_the_preloaded_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    class Made:
        def __init__(self) -> None:
            made.append(self)

    monkeypatch.setattr(load, "BuiltinEncoder", Made)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            with preloaded_builtin():
                loaded = list(pool.map(lambda _: load_encoder(), range(8)))
            assert len(set(map(id, loaded))) == len(made) == 8
            made.clear()


def test_a_preloaded_one_that_nobody_took_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    with preloaded_builtin():
        pass
    made: list[object] = []
    monkeypatch.setattr(load, "BuiltinEncoder", lambda: made.append(None))
    load_encoder()
    assert made == [None]


def test_what_failed_to_preload_fails_where_it_is_loaded_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> BuiltinEncoder:
        raise EncoderNotFoundError("there is no weights.bin", "a whole folder", "install it again")

    with monkeypatch.context() as patched:
        patched.setattr(load, "BuiltinEncoder", missing)
        with preloaded_builtin(), pytest.raises(EncoderNotFoundError, match="install it again"):
            load_encoder()
    assert isinstance(load_encoder(), BuiltinEncoder)


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
