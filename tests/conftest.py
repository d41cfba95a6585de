"""Set-up for every test: no network, and where the shared evaluation data lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the evaluation data; only for tests marked ``shared``."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.fail(f"{folder} is not there, and a test marked 'shared' was run")
    return folder
