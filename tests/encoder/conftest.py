"""The built-in encoder, loaded once, and the checkpoints with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.encoder import checkpoints
from xsearch.encoder.builtin import BuiltinEncoder


@pytest.fixture(scope="session")
def builtin() -> BuiltinEncoder:
    return BuiltinEncoder()


@pytest.fixture(scope="session")
def xlmr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.xlmr(tmp_path_factory.mktemp("models") / "tiny-xlmr")


@pytest.fixture(scope="session")
def mbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.mbert(tmp_path_factory.mktemp("models") / "tiny-mbert")


@pytest.fixture(scope="session")
def mt5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.mt5(tmp_path_factory.mktemp("models") / "tiny-mt5")
