"""What the documentation says can be done: command lines parse, examples run, links lead somewhere."""

from __future__ import annotations

import csv
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import xsearch
from tests.commands import all_commands
from xsearch.cli.main import COMMANDS, cli
from xsearch.cli.settings import defaults_from
from xsearch.encoder.builtin import MINI_FOLDER
from xsearch.encoder.exported import WEIGHTS_FILE

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "demo/README.md", "indexes/README.md"]
PAGES += ["xsearch/encoder/mini/README.md"]

DEMO = (ROOT / "demo" / "demo.sh").read_text(encoding="utf-8")

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def command_lines() -> list[tuple[str, str]]:
    """Where a command line is shown, and the line."""
    found = [("README.md", line) for line in README.splitlines() if line.startswith("    ")]
    found += [("demo/demo.sh", line) for line in DEMO.splitlines() if "$" not in line]
    # The demo's own function: a question and more options.
    asked = re.findall(r"^ask ('.*?')(?: '(.*)')?$", DEMO, re.MULTILINE)
    found += [("demo/demo.sh", f"xsearch search demo {query} -k 1 {options}") for query, options in asked]
    found += [("--help", line) for line in (cli.epilog or "").splitlines()]
    for path, command in all_commands():
        found += [("-".join(path), line) for line in f"{command.epilog or ''}\n{command.help or ''}".splitlines()]
    return [(place, line.strip()) for place, line in found if re.search(r"(?:^|\||&&) *xsearch [a-z]", line)]


def words_of(line: str) -> Iterator[list[str]]:
    """The words of each call of the command in a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word in ("|", "&&", ";"):
            if words[:1] == ["xsearch"]:
                yield words[1:]
            words = []
        else:
            words.append(word)


def parse(words: list[str]) -> None:
    """Parses a command line and runs nothing."""
    if "<" in words or ">" in words:
        words = words[: min(words.index(sign) for sign in "<>" if sign in words)]
    group: click.Group = cli
    context: click.Context | None = None
    while True:
        context = group.make_context(words[0] if context else "xsearch", list(words), parent=context)
        rest = [*context._protected_args, *context.args]
        name, command, words = group.resolve_command(context, rest)
        assert command is not None
        if not isinstance(command, click.Group):
            command.make_context(name, words, parent=context)
            return
        group = command


@pytest.mark.parametrize(("place", "line"), command_lines())
def test_command_lines_parse(place: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # In help a remark stands behind the command, three spaces or more away.
    calls = list(words_of(re.split(r" {3,}", line)[0]))
    assert calls, line
    for words in calls:
        parse(words)


def test_there_are_command_lines_to_test() -> None:
    lines = command_lines()
    assert len(lines) > 40
    for path, command in all_commands():
        wanted = " ".join(("xsearch", *path))
        if not isinstance(command, click.Group):
            assert any(wanted in line for place, line in lines if place == "-".join(path)), path
    for name in COMMANDS:
        assert any(line.startswith(f"xsearch {name}") for place, line in lines if place == "README.md"), name


def test_a_wrong_command_line_would_be_noticed() -> None:
    for words in (["nonsense"], ["search", "news", "x", "--nonsense"], ["index"], ["bench", "mlqa"]):
        with pytest.raises(click.UsageError):
            parse(words)


def test_options_named_in_running_text_exist() -> None:
    known = {name for _, command in all_commands() for option in command.params for name in option.opts}
    known |= {name for _, command in all_commands() for option in command.params for name in option.secondary_opts}
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for span in re.findall(r"`([^`\n]+)`", text):
            for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", span):
                if span.startswith(("-", "xsearch")):
                    assert option in known | {"--help", "--version", "--config"}, (page, option)


def test_the_settings_file_of_the_readme_is_right() -> None:
    block = README.split("that before the default:\n")[1].split("\n## ")[0]
    config = tomllib.loads(inspect.cleandoc(block.strip("\n")))
    assert config == {"index_dir": "/data/indexes", "search": {"k": 5}}
    context = click.Context(cli)
    found = {name: command for name in COMMANDS if (command := cli.get_command(context, name)) is not None}
    defaults = defaults_from(config, found, file="README.md")
    assert defaults["search"] == {"index_dir": "/data/indexes", "k": "5"}


def test_the_python_example_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", cwd=tmp_path)
    assert run.stderr == ""
    hit, count = run.stdout.splitlines()
    assert re.fullmatch(r"1 0\.\d+ de Kaffee wurde zuerst in Äthiopien getrunken\.", hit)
    assert count == "1"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if not re.match(r"https?:", target):
            assert (path.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md", "CONTRIBUTING.md"])
def test_paths_in_the_text_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    scripts = re.findall(r"`(?:python )?((?:benchmarks|tests|demo|xsearch)/[\w/.-]+\.(?:py|md|sh))\b", text)
    scripts += [f"benchmarks/{name}" for name in re.findall(r"^\| `(\w+\.py)`", text, re.MULTILINE)]
    assert scripts or page == "README.md"
    for script in scripts:
        assert (ROOT / script).is_file(), script


def test_the_changelog_tells_of_every_command_and_name() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert re.search(rf"`(?:xsearch )?{name}\b", text), name
    for name in ("Index", "Document", "Hits", "load_encoder"):
        assert f"`{name}`" in text and name in xsearch.__all__


def test_extras_of_the_readme_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    table = README.split("| extra | for |")[1].split("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == set(project["optional-dependencies"])


def test_sizes_and_counts_in_the_text() -> None:
    model = (MINI_FOLDER / WEIGHTS_FILE).stat().st_size
    assert f"({model / 1e6:.0f} MB, ONNX Runtime" in README
    card = (MINI_FOLDER / "README.md").read_text(encoding="utf-8")
    tokenizer = (MINI_FOLDER / "tokenizer.json").stat().st_size
    assert f"| Size | {model / 1e6:.0f} MB weights (int8) and {tokenizer / 1e6:.1f} MB tokenizer |" in card
    with (ROOT / "demo" / "manifest.tsv").open(encoding="utf-8") as file:
        texts = list(csv.DictReader(file, delimiter="\t"))
    assert len(texts) == 90 and "indexes 90 texts in ten languages, asks five questions" in README
    assert len({text["lang"] for text in texts}) == 10
    assert len(re.findall(r"^ask ", DEMO, re.MULTILINE)) == 5
