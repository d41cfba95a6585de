"""The settings file, and what the name of an index leads to."""

from __future__ import annotations

from pathlib import Path

import pytest

from xsearch.config import index_path, read_config
from xsearch.errors import ConfigError, InvalidArgumentError


def test_no_file_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_config() == {}


def test_the_file_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("xsearch.toml").write_text('index_dir = "ä"\n[search]\nk = 5\n', encoding="utf-8")
    assert read_config() == {"index_dir": "ä", "search": {"k": 5}}


def test_a_byte_order_mark_is_no_setting(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbfk = 5\r\n")
    assert read_config(tmp_path / "x.toml") == {"k": 5}


@pytest.mark.parametrize("content", [b"k = ", b"k = 1\nk = 2", b"k = '\xff'"])
def test_what_is_not_toml(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="is not valid TOML") as caught:
        read_config(file)
    assert str(file) in caught.value.given


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_config(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path)


def test_names_and_paths_of_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert index_path("news") == Path("indexes/news")
    assert index_path("新聞", "/data") == Path("/data/新聞")
    assert index_path("./news", "/data") == Path("news")
    assert index_path("/other/news", "/data") == Path("/other/news")
    assert index_path("a\\b", "/data") == Path("a\\b")
    assert index_path(".", "/data") == Path()
    assert index_path("news", "~/indexes") == Path("/home/me/indexes/news")
    assert index_path("~/news") == Path("/home/me/news")
    for empty in ("", " ", "\t"):
        with pytest.raises(InvalidArgumentError, match="name of the index is empty"):
            index_path(empty)
