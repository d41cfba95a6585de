from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from xsearch.corpus.source import ReadOptions, read_source
from xsearch.records import Document, Skipped

PAGE = """<!DOCTYPE html>
<html lang="{lang}"><head><meta charset="utf-8"><title>  Die alte
 Brücke </title><style>p {{ color: red }}</style></head>
<body><nav><a href="/a">Startseite</a> <a href="/b">Kontakt</a></nav>
<script src="http://192.0.2.1/x.js">var secret = 1;</script>
<h1>Die alte Brücke</h1>
<p>Sie wurde <b>1998</b> erneuert.</p>
<p>Seither fahren wieder Räder darüber.</p>
<img src="http://192.0.2.1/x.png"><iframe src="http://192.0.2.1/"></iframe>
<table><tr><td>Länge</td><td>120 m</td></tr></table>
<footer>Impressum</footer></body></html>"""


def read(path: Path, content: str | bytes, options: ReadOptions | None = None) -> Document | Skipped:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (item,) = read_source(str(path), options)
    return item


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        pytest.fail(f"a reader opened a connection: {args}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
def test_a_page_is_its_text_and_nothing_is_fetched(tmp_path: Path) -> None:
    """Pitfall 27: scripts, images and frames of a page are addresses, not invitations."""
    path = tmp_path / "page.html"
    assert read(path, PAGE.format(lang="de-AT")) == Document(
        str(path),
        "Die alte Brücke\nSie wurde 1998 erneuert.\nSeither fahren wieder Räder darüber.\nLänge\t120 m",
        "Die alte Brücke",
        "de-AT",
        str(path),
    )


def test_a_long_page_loses_its_menus(tmp_path: Path) -> None:
    body = "".join(f"<p>Absatz {n}: Die Brücke verbindet seit langem beide Teile des Ortes.</p>" for n in range(30))
    menu = "<ul class='menu'>" + "<li><a href='/x'>Menüpunkt</a></li>" * 20 + "</ul>"
    item = read(tmp_path / "a.htm", f"<html><body><div>{menu}</div><article>{body}</article></body></html>")
    assert isinstance(item, Document)
    assert "Menüpunkt" not in item.text
    assert item.text.splitlines()[0] == "Absatz 0: Die Brücke verbindet seit langem beide Teile des Ortes."
    assert item.text.splitlines()[-1] == "Absatz 29: Die Brücke verbindet seit langem beide Teile des Ortes."


@pytest.mark.parametrize(
    ("declared", "lang"),
    [
        ("hi", "hi"),
        ("zh-Hans", "zh-Hans"),
        ("pt_BR", "pt-BR"),
        ("", ""),
        ("English", ""),
        ("x-default", ""),
        (" sr-Latn-RS ", "sr-Latn-RS"),
    ],
)
def test_the_declared_language(tmp_path: Path, declared: str, lang: str) -> None:
    item = read(tmp_path / "a.html", PAGE.format(lang=declared))
    assert isinstance(item, Document)
    assert item.lang == lang


def test_short_pages_keep_their_sentences_whole(tmp_path: Path) -> None:
    """Lines broken at every bold word would part the sentences that are searched."""
    page = (
        "<body><p>Ein <a href='/x'>Verweis</a> und <em>mehr</em>,<br>neue Zeile<!-- c --> hier.</p>"
        "<ul><li>eins</li><li>zwei</li></ul><div>H<sub>2</sub>O <span>fließt</span></div></body>"
    )
    item = read(tmp_path / "a.html", page)
    assert isinstance(item, Document)
    assert item.text == "Ein Verweis und mehr,\nneue Zeile hier.\neins\nzwei\nH2O fließt"


def test_xhtml_with_its_declarations(tmp_path: Path) -> None:
    page = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" '
        '"http://192.0.2.1/xhtml1-strict.dtd">\n<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="ja">'
        "<head><title>図書館</title></head><body><p>図書館は明日の朝九時に開きます。</p></body></html>"
    )
    item = read(tmp_path / "a.xhtml", page)
    assert isinstance(item, Document)
    assert (item.title, item.text, item.lang) == ("図書館", "図書館は明日の朝九時に開きます。", "ja")


@pytest.mark.parametrize(
    ("text", "encoding", "declared"),
    [
        ("El niño olvidó su libro.", "cp1252", "iso-8859-1"),
        ("图书馆明天上午九点开门。", "gb18030", "gb2312"),
        ("図書館は明日の朝九時に開きます。", "shift_jis", "Shift_JIS"),
        ("Библиотека откроется завтра.", "koi8_r", "koi8-r"),
        ("Библиотека откроется завтра.", "cp1251", ""),
        ("Größe und Länge", "utf-8", "iso-8859-1-x"),
        ("Größe und Länge", "utf-8-sig", "iso-8859-1"),
        ("Größe und Länge", "utf-16", "utf-8"),
    ],
)
def test_encodings_of_pages(tmp_path: Path, text: str, encoding: str, declared: str) -> None:
    """Pitfall 19: what the page declares is believed where its bytes bear it out."""
    meta = f'<meta http-equiv="Content-Type" content="text/html; charset={declared}">' if declared else ""
    item = read(tmp_path / "a.html", f"<html><head>{meta}</head><body><p>{text}</p></body></html>".encode(encoding))
    assert isinstance(item, Document)
    assert item.text == text


@pytest.mark.parametrize(
    "content", ["", "<html></html>", "<html><body><script>x()</script></body></html>", "<!-- x -->"]
)
def test_pages_without_text(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.html"
    assert read(path, content) == Skipped(str(path), "no text", empty=True)


def test_reading_leaves_logging_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("trafilatura")
    before = (logger.level, logger.handlers[:], logging.getLogger().level, logging.getLogger().handlers[:])
    read(tmp_path / "a.html", "<html><body>\x01\x02</html>")
    read(tmp_path / "b.html", PAGE)
    assert (logger.level, logger.handlers[:], logging.getLogger().level, logging.getLogger().handlers[:]) == before
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
