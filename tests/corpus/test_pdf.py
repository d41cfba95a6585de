from __future__ import annotations

import logging
from pathlib import Path

import pytest
from fpdf import FPDF

from tests.corpus.pdf_files import pdf_of_lines
from xsearch.corpus import pdf as pdf_module
from xsearch.corpus.direction import is_reversed
from xsearch.corpus.source import ReadOptions, measure_source, read_source
from xsearch.records import Document, Skipped

AR = "قرر شيوخ القرية هذا الربيع أن يزرعوا الأشجار على ضفة النهر"
HE = "באביב הזה החליטו זקני הכפר לשתול עצים על גדת הנהר"
FA = "امسال بهار پیران روستا تصمیم گرفتند که درختان را کنار رودخانه بکارند و این کار خوبی است"
UR = "اس بہار گاؤں کے بزرگوں نے فیصلہ کیا کہ دریا کے کنارے درخت لگائے جائیں گے اور بچے ان میں کھیلیں گے"
REVERSED = "its right-to-left text comes out with its letters in reverse, and no question would find it"


def read(path: Path, data: bytes, options: ReadOptions | None = None) -> Document | Skipped:
    path.write_bytes(data)
    (item,) = read_source(str(path), options)
    return item


def latin(pages: list[str], *, title: str = "", author: str = "") -> FPDF:
    made = FPDF()
    if title:
        made.set_title(title)
    if author:
        made.set_author(author)
    made.set_font("Helvetica", size=12)
    for text in pages:
        made.add_page()
        if text:
            made.multi_cell(0, 10, text)
    return made


def test_pages_parted_by_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    made = latin(["Erste Seite über Brücken.", "", "Dritte Seite."], title="Über  Brücken", author="Ä. Müller")
    told: list[int] = []
    path.write_bytes(bytes(made.output()))
    assert list(read_source(str(path), ReadOptions(lang="de"), on_bytes=told.append)) == [
        Document(
            str(path),
            "Erste Seite über Brücken.\n\nDritte Seite.",
            "Über Brücken",
            "de",
            str(path),
            {"pages": 3, "author": "Ä. Müller"},
        )
    ]
    assert sum(told) == path.stat().st_size == measure_source(str(path)).bytes


def test_a_scanned_page_needs_ocr(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    assert read(path, bytes(latin(["", ""]).output())) == Skipped(
        str(path), "no text on its 2 pages: scanned images need OCR first"
    )


def test_passwords(tmp_path: Path) -> None:
    """An empty password opens a file as viewers do; another one is not guessed."""
    locked, printable = latin(["Secret"]), latin(["Open to read"])
    locked.set_encryption(owner_password="owner", user_password="user")
    printable.set_encryption(owner_password="owner")
    assert read(tmp_path / "a.pdf", bytes(locked.output())) == Skipped(str(tmp_path / "a.pdf"), "encrypted")
    item = read(tmp_path / "b.pdf", bytes(printable.output()))
    assert isinstance(item, Document) and item.text == "Open to read"


@pytest.mark.parametrize("kept", [0, 5, 20, 300, 700])
def test_truncated_files(tmp_path: Path, kept: int) -> None:
    """Pitfalls 2 and 21: a damaged file among thousands is one reason, not the end of the run."""
    path = tmp_path / "a.pdf"
    item = read(path, bytes(latin(["Text of the page"]).output())[:kept])
    assert isinstance(item, Skipped)
    assert item.reason.startswith(("damaged PDF", "no text"))


def test_flipped_bytes_never_raise(tmp_path: Path) -> None:
    """Pitfalls 2 and 21: whatever a byte does to the file, the reader says something about it."""
    whole = bytes(latin(["Text of the page"], title="T").output())
    path = tmp_path / "a.pdf"
    for place in range(0, len(whole), 29):
        for value in (0, 0x2F, 0x39, 0xFF):
            assert read(path, whole[:place] + bytes([value]) + whole[place + 1 :]).source == str(path)


def test_logging_stays_quiet_and_as_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = logging.getLogger("pypdf").level
    data = bytes(latin(["Text"]).output())[:-60]
    with caplog.at_level(logging.DEBUG):
        read(tmp_path / "a.pdf", data)
    assert caplog.records == []
    assert logging.getLogger("pypdf").level == before


# --- right-to-left text


@pytest.mark.parametrize("text", [AR, HE], ids=["ar", "he"])
def test_right_to_left_pages_come_out_in_reading_order(tmp_path: Path, text: str) -> None:
    """Pitfall 20: a page that draws its glyphs from left to right, as programs write it."""
    item = read(tmp_path / "a.pdf", pdf_of_lines([text[::-1]]))
    assert isinstance(item, Document)
    assert item.text == text


@pytest.mark.parametrize("text", [AR, HE], ids=["ar", "he"])
def test_reversed_pages_are_refused(tmp_path: Path, text: str) -> None:
    """Pitfall 20: text that comes out backwards is a warning, never gibberish in the index."""
    path = tmp_path / "a.pdf"
    assert read(path, pdf_of_lines([text])) == Skipped(str(path), REVERSED)


def test_one_reversed_page_among_few_words_of_latin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_module, "page_text", lambda page: f"Report 2024\n{AR[::-1]}\nTable 1")
    path = tmp_path / "a.pdf"
    assert read(path, bytes(latin(["x"]).output())) == Skipped(str(path), REVERSED)


@pytest.mark.parametrize("text", [AR, HE, FA, UR], ids=["ar", "he", "fa", "ur"])
def test_the_direction_of_each_language(text: str) -> None:
    assert not is_reversed(text)
    assert is_reversed(text[::-1])
    assert is_reversed(" ".join(word[::-1] for word in text.split()))


def test_presentation_forms_have_a_direction_too() -> None:
    """Pitfall 18: some files hold the shapes of letters (U+FExx) instead of letters."""
    shapes = "ﻓﻲ ﺍﻟﻤﺪﻳﻨﺔ ﺍﻟﻘﺪﻳﻤﺔ ﻣﻜﺘﺒﺔ"
    assert not is_reversed(shapes)
    assert is_reversed(shapes[::-1])


@pytest.mark.parametrize("text", ["", "Latin only", "你好", "שלום", "2024 ‏", "a ب c"])
def test_too_little_to_tell_is_not_reversed(text: str) -> None:
    assert not is_reversed(text)
    assert not is_reversed(text[::-1]) or len(text.split()) > 1
