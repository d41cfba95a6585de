"""Hits on the terminal: widths in cells, directions, marks, and nothing a document could command."""

from __future__ import annotations

import io
import re
import unicodedata
from dataclasses import replace

import pytest

from xsearch.cli.show import show_hits
from xsearch.records import Hit, Hits, Query, Span

STYLES = re.compile(r"\x1b\[[\d;]*m")
BOLD = re.compile(r"\x1b\[1;33m(.*?)\x1b\[0m")
ISOLATES = re.compile("[\u2068\u2069]")

TEXTS = {
    "en": "The Nile is long. It flows through eleven countries, from great lakes to the sea, and floods each summer.",
    "ar": "النيل نهر طويل. يجري في إحدى عشرة دولة من البحيرات العظمى إلى البحر، ويفيض كل صيف منذ آلاف السنين.",
    "zh": "尼罗河很长。它从大湖流到海，经过十一个国家，每年夏天都会泛滥，几千年如此，两岸因此有了肥沃的土地和城市。",
    "ja": "ナイル川は長い。大きな湖から海まで十一の国を流れ、夏ごとにあふれて、岸に肥えた土を残してきた。都もある。",
    "hi": "नील नदी लंबी है। यह बड़ी झीलों से समुद्र तक ग्यारह देशों से होकर बहती है, और हर गर्मी में इसमें बाढ़ आती है।",
    "th": "แม่น้ำไนล์ยาวมากไหลผ่านสิบเอ็ดประเทศจากทะเลสาบใหญ่ไปสู่ทะเลและท่วมทุกฤดูร้อนมานานหลายพันปีแล้วจึงมีดินดีริมฝั่ง",
    "und": "🎉🎊 party 👩‍👩‍👧‍👦 family 🇩🇪 flag 👍🏽 thumb ❤️ heart 🎉🎊🎈 more and more and more 🥳🥳🥳🥳🥳🥳🥳",
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)


def hit(text: str, lang: str = "en", best: tuple[int, int] | None = None, **fields: object) -> Hit:
    found = Hit(1, 0.5, 7, "doc", lang, lang, "", text, "", 0, len(text), best=Span(*best, 0.9) if best else None)
    return replace(found, **fields)  # type: ignore[arg-type]


def shown(*hits: Hit, terminal: bool = False, query: str = "") -> str:
    out = Terminal() if terminal else io.StringIO()
    show_hits(Hits(Query("1", query), hits), out, with_query=bool(query))
    return out.getvalue()


def cells(line: str) -> int:
    """Columns that a terminal gives the line: marks none, wide characters two, what is joined to an emoji none."""
    width = 0
    before = ""
    for char in line:
        joined = before == "\u200d" or char == "\ufe0f" or "\U0001f3fb" <= char <= "\U0001f3ff"
        if not joined and unicodedata.category(char) not in ("Mn", "Mc", "Me", "Cf", "Cc"):
            width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
        before = char
    return width


@pytest.mark.parametrize("terminal", [False, True], ids=["file", "terminal"])
@pytest.mark.parametrize("width", [40, 100])
@pytest.mark.parametrize("lang", TEXTS)
def test_no_line_is_wider_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch, lang: str, width: int, terminal: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = TEXTS[lang]
    place = f"/data/{lang}/{'a-long-folder-name/' * 6}{text[:20]}.txt"
    best = (text.find(" ") + 1, len(text))
    out = STYLES.sub("", shown(hit(text, lang, best, title=text[:30], source=place), terminal=terminal, query=text))
    lines = out.splitlines()
    assert max(map(cells, lines)) <= width
    # Nothing is lost, and no line begins with what belongs to the character before.
    squeezed = "".join(ISOLATES.sub("", out).split()).replace(">>", "").replace("<<", "")
    assert "".join(text.split()) in squeezed.removeprefix("".join(text.split()))
    assert not any(unicodedata.category(line.lstrip("\u2068 ")[:1] or " ") in ("Mn", "Mc", "Me") for line in lines)


def test_a_file_gets_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = TEXTS["en"]
    first = hit(text, best=(18, len(text)), title="The Nile", source="/data/nile.md", score=0.61249)
    second = hit("长江比黄河长。", "zh-Hant", rank=2, doc_id="notes.csv#7", score=-0.25)
    assert shown(first, second) == (
        " 1. 0.612  en   The Nile  /data/nile.md\n"
        "    The Nile is long. >>It flows through eleven countries,\n"
        "    from great lakes to the sea, and floods each summer.<<\n"
        "\n"
        " 2. -0.250  zh-Hant notes.csv#7\n"
        "    长江比黄河长。\n"
        "\n"
    )


def test_a_terminal_gets_the_best_sentence_in_bold() -> None:
    text = TEXTS["zh"]
    out = shown(hit(text, "zh", (6, 20)), terminal=True)
    assert BOLD.findall(out) == [text[6:20]]
    assert ">>" not in out


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = shown(hit(TEXTS["en"], "en", (0, 17)), terminal=True)
    assert not re.search(r"\x1b\[[\d;]*3[0-7]m", out)
    assert "\x1b[1mThe Nile is long.\x1b[0m" in out  # bold is no colour


def test_right_to_left_stands_to_the_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = TEXTS["ar"]
    lines = STYLES.sub("", shown(hit(text, "ar"), terminal=True)).splitlines()[1:-1]
    assert len(lines) > 2
    for line in lines:
        assert cells(line) == 40
        assert line.lstrip(" ")[0] == "\u2068" and line[-1] == "\u2069"
    file_lines = shown(hit(text, "ar")).splitlines()[1:-1]
    assert all(line.startswith("    ") and line[4] != " " for line in file_lines)
    assert not ISOLATES.search("".join(file_lines))


def test_a_document_commands_no_terminal() -> None:
    text = "a\x1b[2Jb\x07c\x9b31md\re\x0bf. Second\tone\x00here."
    nasty = hit(
        text, best=(text.index("Second"), len(text)), title="t\x1b]0;x\x07\n\ntitle", source="/s\x1b[5m", doc_id="d\x1b"
    )
    out = shown(nasty, query="q\x1b[2J\nr")
    assert re.sub(r"[^\x00-\x1f\x7f-\x9f]", "", out).strip("\n") == ""
    assert out.splitlines()[:2] == ["q [2J r", " 1. 0.500  en   t ]0;x title  /s [5m"]
    # What becomes of control characters does not move the mark.
    assert ">>Second one here.<<" in out
    assert BOLD.findall(shown(nasty, terminal=True)) == ["Second one here."]


def test_paragraphs_stay_apart_and_blank_lines_go() -> None:
    assert shown(hit("One.\n\n\n  \nTwo.\n")).splitlines()[1:] == ["    One.", "    Two.", ""]


def test_no_hit() -> None:
    assert shown(query="needle") == "needle\nNo passage fits.\n"


def test_markup_and_emoji_codes_are_text() -> None:
    assert "[bold]x[/bold] :smile: [link=x]" in shown(hit("[bold]x[/bold] :smile: [link=x]"))
