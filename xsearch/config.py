"""Settings: a flag before ``XSEARCH_*`` in the environment, that before ``xsearch.toml``, that before the default."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from xsearch.errors import ConfigError, InvalidArgumentError

CONFIG_FILE = "xsearch.toml"
DEFAULT_INDEX_DIR = "indexes"


def read_config(path: Path | None = None) -> dict[str, Any]:
    """The settings of a file: options of all commands at the top, those of one command in a table of its name.

    Args:
        path: the file; by default ``xsearch.toml`` in the current folder, if there is one.

    Raises:
        ConfigError: the file named is not there, or is not TOML.
    """
    file = path or Path(CONFIG_FILE)
    if path is None and not file.is_file():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise ConfigError(
            f"The settings file {file} cannot be read ({exc.strerror})", "A TOML file", "Check --config"
        ) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"{file} is not valid TOML: {exc}", 'Lines like: index_dir = "indexes"', "Mend the file"
        ) from exc


def index_path(name: str, index_dir: str | Path = DEFAULT_INDEX_DIR) -> Path:
    """The folder of the index called ``name``: under ``index_dir``, or where a path with a separator leads.

    Raises:
        InvalidArgumentError: the name is empty.
    """
    if not name.strip():
        raise InvalidArgumentError("The name of the index is empty", "An index has a name", "Give one, e.g. news")
    if "/" in name or "\\" in name or name in (".", ".."):
        return Path(name).expanduser()
    return Path(index_dir).expanduser() / name
