"""``xsearch``: help, exit codes, settings, and what becomes of output nobody can read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.cli.conftest import Outcome, Xsearch, process, refused, start
from tests.commands import all_commands
from xsearch.cli.main import COMMANDS


def test_help_names_all_commands(xsearch: Xsearch) -> None:
    outcome = xsearch("--help")
    assert (outcome.code, outcome.err) == (0, "")
    for name in COMMANDS:
        assert f"\n  {name} " in outcome.out
    assert xsearch("-h").out == outcome.out


@pytest.mark.parametrize("path", [path for path, _ in all_commands()], ids="-".join)
def test_the_help_of_every_command_has_an_example(xsearch: Xsearch, path: tuple[str, ...]) -> None:
    outcome = xsearch(*path, "--help")
    assert outcome.code == 0
    assert "Examples:" in outcome.out
    assert f"xsearch {' '.join(path)}" in outcome.out.split("Examples:")[1]
    assert max(map(len, outcome.out.splitlines())) <= 120


@pytest.mark.parametrize("path", [path for path, _ in all_commands()], ids="-".join)
def test_every_option_has_a_help_text(path: tuple[str, ...]) -> None:
    command = dict(all_commands())[path]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help and parameter.help[0].isupper() | (parameter.help[0] in "'\""), parameter.name


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    heavy = ("torch", "faiss", "onnxruntime", "numpy", "sqlalchemy", "transformers", "sentence_transformers", "rich")
    code = (
        "import sys; from xsearch.cli.main import cli\n"
        "for words in (['--help'], ['search', '--help'], ['index', '--help'], ['bench', 'mlqa', '--help']):\n"
        "    cli.main(words, standalone_mode=False)\n"
        f"print('loaded:', *[name for name in {heavy!r} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stdout.splitlines()[-1] == "loaded:"


def test_version(xsearch: Xsearch) -> None:
    assert xsearch("--version").out.startswith("xsearch, version ")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("list", "--nonsense"),
        ("search", "news"),
        ("index", "news"),
        ("search", "news", "x", "-k", "0"),
        ("search", "news", "x", "--trec", "--json"),
        ("index", "news", ".", "--on-error", "explode"),
    ],
)
def test_wrong_usage(xsearch: Xsearch, arguments: tuple[str, ...]) -> None:
    outcome = xsearch(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Usage: xsearch" in outcome.err


def test_an_empty_name_is_no_index(xsearch: Xsearch, tmp_path: Path) -> None:
    refused(xsearch("search", "", "x"), "The name of the index is empty")
    refused(xsearch("index", " ", tmp_path), "The name of the index is empty")
    refused(xsearch("delete", "", "--yes"), "The name of the index is empty")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", [("search", "x"), ("info",), ("verify",), ("export",), ("delete",), ("delete", "1")]
)
def test_an_index_that_is_not_there(xsearch: Xsearch, command: tuple[str, ...]) -> None:
    name, *rest = command
    outcome = xsearch(name, "nowhere", *rest)
    refused(outcome, f"There is no index at {Path('indexes', 'nowhere')}", "xsearch list", "xsearch index NAME")


def test_a_home_folder_is_found(xsearch: Xsearch, monkeypatch: pytest.MonkeyPatch, demo: tuple[Path, Outcome]) -> None:
    monkeypatch.setenv("HOME", str(demo[0].parent))
    Path("xsearch.toml").write_text(f'index_dir = "~/{demo[0].name}"\n')
    assert "demo" in xsearch("list").out
    assert xsearch("info", "demo").code == 0
    assert xsearch("info", f"~/{demo[0].name}/demo").code == 0


# Settings


def hits(outcome: Outcome) -> int:
    assert outcome.code == 0, outcome.err
    return len(outcome.json["hits"])


def test_flag_before_environment_before_file_before_default(
    xsearch: Xsearch, monkeypatch: pytest.MonkeyPatch, demo: tuple[Path, Outcome]
) -> None:
    monkeypatch.setenv("XSEARCH_INDEX_DIR", str(demo[0]))
    asked = ("search", "demo", "tea", "--json")
    assert hits(xsearch(*asked)) == 10
    Path("xsearch.toml").write_text("k = 7\n")
    assert hits(xsearch(*asked)) == 7
    Path("xsearch.toml").write_text("k = 7\n[search]\nk = 6\n")
    assert hits(xsearch(*asked)) == 6
    monkeypatch.setenv("XSEARCH_K", "5")
    assert hits(xsearch(*asked)) == 5
    monkeypatch.setenv("XSEARCH_SEARCH_K", "4")
    assert hits(xsearch(*asked)) == 4
    monkeypatch.setenv("XSEARCH_SEARCH_TOP_K", "3")
    assert hits(xsearch(*asked)) == 3
    assert hits(xsearch(*asked, "-k", "2")) == 2


def test_index_dir_at_the_top_is_for_all_commands(xsearch: Xsearch, demo: tuple[Path, Outcome], tmp_path: Path) -> None:
    Path("xsearch.toml").write_text(f"index_dir = '{demo[0]}'\n")
    assert "demo" in xsearch("list").out
    for command in (["info", "demo"], ["verify", "demo"], ["search", "demo", "tea"], ["export", "demo"]):
        assert xsearch(*command).code == 0
    assert xsearch("index", "demo", tmp_path / "xsearch.toml").err.startswith("Error: ")
    assert not Path("indexes").exists()


@pytest.mark.parametrize("spelling", ["lang = 'ja'", "lang = ['ja']", "langs = ['ja', 'und']"])
def test_an_option_that_may_come_several_times(xsearch: Xsearch, demo: tuple[Path, Outcome], spelling: str) -> None:
    Path("xsearch.toml").write_text(f"index_dir = '{demo[0]}'\n[search]\n{spelling}\njson = true\n")
    assert {hit["lang"] for hit in xsearch("search", "demo", "tea").json["hits"]} == {"ja"}


def test_several_values_in_the_environment(
    xsearch: Xsearch, demo: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XSEARCH_SEARCH_LANG", "ja zh")
    monkeypatch.setenv("XSEARCH_JSON", "1")
    found = xsearch("search", "demo", "tea", "-k", "30", "--index-dir", demo[0]).json["hits"]
    assert {hit["lang"] for hit in found} == {"ja", "zh"}


def test_a_file_named_with_config(
    xsearch: Xsearch, demo: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.toml").write_text(f"\ufeffindex_dir = '{demo[0]}'\n", encoding="utf-8")
    assert "demo" in xsearch("--config", "mine.toml", "list").out
    monkeypatch.setenv("XSEARCH_CONFIG", "mine.toml")
    assert "demo" in xsearch("list").out


def test_groups_hand_settings_on(xsearch: Xsearch) -> None:
    Path("xsearch.toml").write_text("encoder = 'from the top'\n[bench]\nseed = -1\n[bench.mlqa]\nsplit = 'test'\n")
    refused(xsearch("bench", "mlqa", "--data", "x"), "xsearch.toml: bench.seed = -1 does not suit --seed")
    Path("xsearch.toml").write_text("encoder = 'from the top'\n[bench]\nseed = 5\n[bench.mlqa]\nsplit = 'test'\n")
    shown = xsearch("bench", "mlqa", "--help").out
    for default in ("from the top", "5", "test"):
        assert f"[default: {default}" in " ".join(shown.split())
    assert "[default: dev]" not in shown


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("k = [", ["xsearch.toml is not valid TOML", "Mend the file"]),
        ("index_dirs = 'x'", ["'index_dirs' is no setting of any command", "Near it are index_dir"]),
        ("[serch]\nk = 1", ["'serch' is no setting of any command", "Near it are search"]),
        ("[search]\nprune = true", ["'prune' is no setting of [search]"]),
        ("[search]\ntopk = 3", ["'topk' is no setting of [search]", "top_k"]),
        ("[bench.mlqa]\nspilt = 'dev'", ["'spilt' is no setting of [bench.mlqa]", "split"]),
        ("[search]\nk = 'many'", ["search.k = 'many' does not suit --top-k", "not a valid integer"]),
        ("[search]\nk = 0", ["search.k = 0 does not suit --top-k"]),
        ("[search]\nk = true", ["search.k = True does not suit --top-k", "a text or a number"]),
        ("[search]\nk = [1]", ["search.k = [1] does not suit --top-k"]),
        ("[search]\njson = 'yes'", ["search.json = 'yes' does not suit --json", "true or false"]),
        ("[index]\non_error = 'explode'", ["does not suit --on-error", "'skip', 'stop'"]),
    ],
)
def test_a_settings_file_that_is_wrong(xsearch: Xsearch, content: str, parts: list[str]) -> None:
    Path("xsearch.toml").write_text(content)
    refused(xsearch("list"), "xsearch.toml", *parts)


def test_a_settings_file_that_is_not_there(xsearch: Xsearch) -> None:
    refused(xsearch("--config", "nowhere.toml", "list"), "nowhere.toml cannot be read", "--config")


# Output that cannot be written


@pytest.mark.parametrize(
    "arguments", [["--help"], ["search", "--help"], ["list"], ["search", "demo", "tea", "-k", "40"], ["export", "demo"]]
)
def test_a_reader_that_goes_away_is_no_error(demo: tuple[Path, Outcome], arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with start(*arguments, cwd=demo[0], env={"XSEARCH_INDEX_DIR": str(demo[0])}, stdout=writing) as running:
        os.close(writing)
        _, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("arguments", [["list"], ["export", "demo"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_told(demo: tuple[Path, Outcome], arguments: list[str], unbuffered: str) -> None:
    with (
        Path("/dev/full").open("wb") as full,
        start(
            *arguments,
            cwd=demo[0],
            env={"XSEARCH_INDEX_DIR": str(demo[0]), "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
        ) as running,
    ):
        _, err = running.communicate(timeout=60)
    assert running.returncode == 1
    assert err.startswith(b"Error: ") and b"No space left on device" in err and err.count(b"\n") == 1


@pytest.mark.parametrize(
    "env", [{"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_a_console_that_lacks_a_script(demo: tuple[Path, Outcome], env: dict[str, str]) -> None:
    env = {"PYTHONUTF8": "0", "XSEARCH_INDEX_DIR": str(demo[0]), **env}
    text = process("search", "demo", "tea", "-k", "1", "--lang", "ja", cwd=demo[0], env=env, encoding="cp1252")
    assert text.code == 0
    assert "????" in text.out
    # Data is whole all the same: JSON in escapes, ids in UTF-8.
    whole = process(
        "search", "demo", "tea", "-k", "1", "--lang", "ja", "--json", cwd=demo[0], env=env, encoding="ascii"
    )
    assert whole.json["hits"][0]["title"] == "茶"
    lines = process("export", "demo", cwd=demo[0], env=env, encoding="ascii").out.splitlines()
    assert sum("\\u8336" in line for line in lines) >= 2


def test_trec_is_utf8_on_any_console(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("id,text\n茶 一,green tea\n", encoding="utf-8")
    env = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "cp1252"}
    assert process("index", "notes", "notes.csv", "-q", cwd=tmp_path, env=env, encoding="cp1252").code == 0
    run = process("search", "notes", "-", "--trec", cwd=tmp_path, env=env, stdin="q茶\ttea\n".encode())
    assert run.out.startswith("q茶 Q0 茶_一 1 0.")
