"""The command ``xsearch``: its groups, loaded when called, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import click

from xsearch.cli.settings import PREFIX, defaults_from, listen_to_environment
from xsearch.config import CONFIG_FILE, read_config
from xsearch.errors import XsearchError

# Name of the command: module of xsearch.cli and the command's name in it.
COMMANDS = {
    "index": ("index", "index"),
    "search": ("search", "search"),
    "list": ("indexes", "list_indexes"),
    "info": ("indexes", "info"),
    "verify": ("maintenance", "verify"),
    "repair": ("maintenance", "repair"),
    "migrate": ("maintenance", "migrate"),
    "compact": ("indexes", "compact"),
    "delete": ("indexes", "delete"),
    "export": ("indexes", "export"),
    "import": ("maintenance", "import_"),
    "bench": ("bench", "bench"),
    "align": ("align", "align"),
    "train": ("train", "train"),
    "debias": ("debias", "debias"),
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
        listen_to_environment(command, (cmd_name,))
        return command


def _load_config(ctx: click.Context, _option: click.Parameter, path: Path | None) -> None:
    """Makes the settings file the source of defaults; options at its top count for every command that has them."""
    config = read_config(path)
    if config:
        commands = {name: command for name in COMMANDS if (command := cli.get_command(ctx, name)) is not None}
        ctx.default_map = defaults_from(config, commands, file=str(path or CONFIG_FILE))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": PREFIX, "max_content_width": 100},
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
@click.version_option(package_name="xsearch", prog_name="xsearch")
def cli() -> None:
    """Find passages in any language for a question in any language, offline."""


def main() -> None:
    """Runs the command line and exits: 0, 1 for errors, 2 for wrong usage, 130 when interrupted."""
    for stream in (sys.stdout, sys.stderr):
        # A console that cannot show a script prints '?' for it instead of failing on the whole answer.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    code = _run()
    try:
        # Not left to the interpreter, which complains where the reader of a short answer went away.
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except OSError as exc:
        _discard_output()
        # What failed before has been told, be it this or something else.
        code = code or _failed(f"The output cannot be written: {exc.strerror or exc}.")
    sys.exit(code)


def _run() -> int:
    stdout = sys.stdout
    try:
        # Without standalone mode click returns the exit code of --help and its like.
        result = cli.main(prog_name="xsearch", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except SystemExit as exc:
        # The reader of our output went away (head, less), which is not an error of anybody's: click puts a wrapper
        # around the stream and leaves, rich leaves while it handles the error.
        if sys.stdout is stdout and not isinstance(exc.__context__, BrokenPipeError):
            raise
        _discard_output()
        return 0
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except XsearchError as exc:
        return _failed(str(exc))
    except OSError as exc:
        # A disk that is full, a file that is closed to us: the system's message says which.
        return _failed(f"{exc}.")
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED


def _failed(message: str) -> int:
    click.echo(f"Error: {message}", err=True)
    return 1


def _discard_output() -> None:
    """Lets what is still buffered go nowhere, so that the end of the process does not fail on it."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 (a device)
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
