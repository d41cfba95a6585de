"""Encoders with random weights that training starts from, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.encoder import checkpoints


@pytest.fixture(scope="session")
def mbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.mbert(tmp_path_factory.mktemp("bases") / "tiny-mbert")


@pytest.fixture(scope="session")
def xlmr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.xlmr(tmp_path_factory.mktemp("bases") / "tiny-xlmr")


@pytest.fixture(scope="session")
def mt5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.mt5(tmp_path_factory.mktemp("bases") / "tiny-mt5")
