"""The command ``xsearch``: its groups, loaded when called, and the one place where errors become exit codes."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from xsearch.config import read_config
from xsearch.errors import XsearchError

# Name of the command: module of xsearch.cli and the command's name in it.
COMMANDS = {
    "index": ("index", "index"),
    "search": ("search", "search"),
    "list": ("indexes", "list_indexes"),
    "info": ("indexes", "info"),
    "verify": ("indexes", "verify"),
    "delete": ("indexes", "delete"),
    "export": ("indexes", "export"),
    "bench": ("bench", "bench"),
}
INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group whose commands are imported only when they are asked for, so that ``--help`` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or ``None``."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"xsearch.cli.{module}"), name)
        return command


def _load_config(ctx: click.Context, _option: click.Parameter, path: Path | None) -> None:
    """Makes the settings file the source of defaults; options at its top count for every command that has them."""
    config = read_config(path)
    shared = {key: value for key, value in config.items() if not isinstance(value, dict)}
    tables: dict[str, dict[str, Any]] = {name: value for name, value in config.items() if isinstance(value, dict)}
    ctx.default_map = {name: {**shared, **tables.get(name, {})} for name in COMMANDS}


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "XSEARCH", "max_content_width": 100},
    epilog="""\b
Examples:
  xsearch index news ./articles        index a folder of documents in any languages
  xsearch search news "Wer hat den Vertrag unterschrieben?"
  xsearch bench mlqa --data MLQA_V1.zip --split dev

Settings: a flag counts before XSEARCH_* in the environment (XSEARCH_SEARCH_K=5), that before xsearch.toml, that
before the default.""",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=_load_config,
    help="Settings file. [default: ./xsearch.toml, if there is one]",
)
@click.version_option(version("xsearch"), prog_name="xsearch")
def cli() -> None:
    """Find passages in any language for a question in any language, offline."""


def main() -> None:
    """Runs the command line and exits: 0, 1 for errors, 2 for wrong usage, 130 when interrupted."""
    for stream in (sys.stdout, sys.stderr):
        # A console that cannot show a script prints '?' for it instead of failing on the whole answer.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.exceptions.Exit as exc:
        sys.exit(exc.exit_code)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except XsearchError as exc:
        click.echo(f"Error: {exc}", err=True)
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (head, less) went away: not an error of anybody's.
        sys.stderr.close()
        sys.exit(0)
