"""Set-up for every test: no network, where the shared evaluation data lies, and checkpoints with random weights."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends import BACKENDS, postgres_url
from tests.encoder import checkpoints

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the evaluation data; only for tests marked ``shared``."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.fail(f"{folder} is not there, and a test marked 'shared' was run")
    return folder


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The PostgreSQL server to test with."""
    with postgres_url() as url:
        yield url


@pytest.fixture(scope="module", params=BACKENDS)
def catalog_url(request: pytest.FixtureRequest) -> str | None:
    """Where catalogues are made: ``None`` for SQLite files, then a PostgreSQL server."""
    return None if request.param == "sqlite" else str(request.getfixturevalue("postgres"))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is such a thing: for thousands of small files that nobody needs to be flushed."""
    if not Path("/dev/shm").is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def xlmr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.xlmr(tmp_path_factory.mktemp("models") / "tiny-xlmr")


@pytest.fixture(scope="session")
def mbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.mbert(tmp_path_factory.mktemp("models") / "tiny-mbert")


@pytest.fixture(scope="session")
def mt5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.mt5(tmp_path_factory.mktemp("models") / "tiny-mt5")


@pytest.fixture(scope="session")
def e5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.e5(tmp_path_factory.mktemp("models") / "tiny-prompted")
