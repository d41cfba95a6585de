"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from xsearch.config import DEFAULT_INDEX_DIR

Command = TypeVar("Command", bound=Callable[..., Any])


def index_dir_option(command: Command) -> Command:
    """Adds ``--index-dir``."""
    return click.option(
        "--index-dir",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_INDEX_DIR,
        show_default=True,
        help="Folder that holds the indexes. A NAME with a slash is a path of its own.",
    )(command)


def encoder_options(command: Command) -> Command:
    """Adds ``--encoder`` and ``--device``."""
    command = click.option(
        "--device",
        default="cpu",
        show_default=True,
        help="Where hub encoders run, and big indexes are searched: cpu, cuda, cuda:1; mps for encoders.",
    )(command)
    return click.option(
        "--encoder",
        help="'builtin', a model folder, or a name on the Hugging Face hub (extra: hub). "
        "[default: the one the index was built with; builtin for a new one]",
    )(command)


def json_option(command: Command) -> Command:
    """Adds ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def output_option(command: Command) -> Command:
    """Adds ``-o``."""
    return click.option(
        "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file, in UTF-8."
    )(command)


def quiet_option(command: Command) -> Command:
    """Adds ``-q``."""
    return click.option("-q", "--quiet", is_flag=True, help="No progress and no remarks on stderr.")(command)
