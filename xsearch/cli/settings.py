"""What stands in for flags that are not given: ``XSEARCH_*`` in the environment, then the settings file.

Both speak of an option by any of its names (``k`` or ``top_k``), of one command or of all that have it:
``XSEARCH_SEARCH_K`` and ``[search] k``, or ``XSEARCH_INDEX_DIR`` and ``index_dir`` at the top of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import click

from xsearch.errors import ConfigError

PREFIX = "XSEARCH"

Table = Mapping[str, Any]


def listen_to_environment(command: click.Command, path: Sequence[str]) -> None:
    """Has each option look into the environment: first for its command's own variable, then for the one of all.

    Args:
        path: names of the command and of the groups above it, e.g. ``("bench", "mlqa")``.
    """
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            listen_to_environment(below, (*path, name))
        return
    for option in _options(command):
        option.envvar = [
            "_".join((PREFIX, *path[:depth], name)).upper()
            for depth in range(len(path), -1, -1)
            for name in _names(option)
        ]


def defaults_from(config: Table, commands: Mapping[str, click.Command], *, file: str) -> dict[str, Any]:
    """What a settings file says, as click's ``default_map``.

    Args:
        config: options of all commands, and tables of those of one command.
        commands: by name.
        file: what messages call it.

    Raises:
        ConfigError: a key is no option of its command, or a value does not suit its option.
    """
    return _Settings(file).defaults(commands, config, {}, ())


class _Settings:
    """The tables of one file, read against the commands."""

    def __init__(self, file: str) -> None:
        self._file = file

    def defaults(
        self, commands: Mapping[str, click.Command], table: Table, above: Table, path: tuple[str, ...]
    ) -> dict[str, Any]:
        """The defaults of all commands of a group.

        Args:
            table: of the group itself.
            above: options from the tables above it, which count where this one says nothing.
            path: where ``table`` stands.
        """
        known = {name for command in commands.values() for option in _all_options(command) for name in _names(option)}
        here = {key: value for key, value in table.items() if not isinstance(value, dict)}
        below = {key: value for key, value in table.items() if isinstance(value, dict)}
        self._refuse_unknown(here, known, path)
        self._refuse_unknown(below, commands, path)
        shared = {**above, **here}
        found: dict[str, Any] = {}
        for name, command in commands.items():
            own = below.get(name, {})
            if isinstance(command, click.Group):
                found[name] = self.defaults(command.commands, own, shared, (*path, name))
            else:
                self._refuse_unknown(
                    own, {key for option in _options(command) for key in _names(option)}, (*path, name)
                )
                found[name] = {**self._values(command, shared, path), **self._values(command, own, (*path, name))}
        return found

    def _values(self, command: click.Command, table: Table, path: tuple[str, ...]) -> dict[str, Any]:
        return {
            str(option.name): self._value(option, f"{'.'.join((*path, key))} = {table[key]!r}", table[key])
            for option in _options(command)
            for key in _names(option)
            if key in table
        }

    def _value(self, option: click.Option, setting: str, value: Any) -> Any:
        """The value as the command line would have it: a list for options that may come several times, else one."""
        if option.multiple and not isinstance(value, list):
            value = [value]
        if option.is_flag is not isinstance(value, bool) or (isinstance(value, list) and not option.multiple):
            expected = "It must be true or false" if option.is_flag else "It must be a text or a number"
            raise ConfigError(f"{self._file}: {setting} does not suit {option.opts[-1]}", expected, "Mend the file")
        if option.is_flag:
            return value
        texts = [str(item) for item in value] if isinstance(value, list) else [str(value)]
        try:
            for text in texts:
                option.type.convert(text, option, None)
        except click.BadParameter as exc:
            raise ConfigError(
                f"{self._file}: {setting} does not suit {option.opts[-1]}: {exc.message}",
                "A setting takes what its option takes",
                "Mend the file; --help of the command tells what there is",
            ) from exc
        return texts if option.multiple else texts[0]

    def _refuse_unknown(self, keys: Iterable[str], known: Iterable[str], path: tuple[str, ...]) -> None:
        names = sorted(known)
        for key in keys:
            if key not in names:
                near = get_close_matches(key, names, n=3) or names
                where = f"[{'.'.join(path)}]" if path else "any command"
                raise ConfigError(
                    f"{self._file}: {key!r} is no setting of {where}",
                    f"{'Near it are' if len(near) < len(names) else 'There are'} {', '.join(near)}",
                    "Correct or remove it",
                )


def _all_options(command: click.Command) -> Iterator[click.Option]:
    """The options of a command, or of all commands of a group."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from _all_options(below)
    else:
        yield from _options(command)


def _options(command: click.Command) -> Iterator[click.Option]:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield parameter


def _names(option: click.Option) -> list[str]:
    """The names of an option in settings: its long names, and its own where that is short (``k``)."""
    long = [name.removeprefix("--").replace("-", "_") for name in option.opts if name.startswith("--")]
    return list(dict.fromkeys((*long, str(option.name))))
