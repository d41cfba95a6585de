from __future__ import annotations

import io
import zipfile
from pathlib import Path

import docx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from xsearch.corpus import docx as docx_module
from xsearch.corpus.source import ReadOptions, read_source
from xsearch.records import Document, Skipped


def save(document: docx.document.Document) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def read(path: Path, data: bytes, options: ReadOptions | None = None) -> Document | Skipped:
    path.write_bytes(data)
    (item,) = read_source(str(path), options)
    return item


def with_member(data: bytes, name: str, content: bytes) -> bytes:
    """The archive with one member put in or in place of the one of that name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            if member != name:
                new.writestr(member, old.read(member))
        new.writestr(name, content)
    return buffer.getvalue()


def test_paragraphs_and_tables_in_order(tmp_path: Path) -> None:
    made = docx.Document()
    made.core_properties.author = "Ä. Müller"
    made.add_heading("Die alte Brücke", level=1)
    made.add_paragraph("Vor der Tabelle\tmit Tab.")
    table = made.add_table(rows=2, cols=2)
    for cell, text in zip((c for row in table.rows for c in row.cells), ["Länge", "120 m", "Höhe", "8 m"], strict=True):
        cell.text = text
    made.add_paragraph("   ")
    made.add_paragraph("桥在河上。")
    path = tmp_path / "a.docx"
    assert read(path, save(made), ReadOptions(lang="de")) == Document(
        str(path),
        "Die alte Brücke\n\nVor der Tabelle\tmit Tab.\n\nLänge\t120 m\nHöhe\t8 m\n\n桥在河上。",
        "Die alte Brücke",
        "de",
        str(path),
        {"author": "Ä. Müller"},
    )


def test_the_stated_title_goes_before_the_heading(tmp_path: Path) -> None:
    made = docx.Document()
    made.core_properties.title, made.core_properties.author = "Stated", ""
    made.add_heading("Heading", level=1)
    item = read(tmp_path / "a.docx", save(made))
    assert isinstance(item, Document)
    assert (item.title, item.text, item.metadata) == ("Stated", "Heading", {})


def test_insertions_controls_boxes_and_nested_tables_are_text(tmp_path: Path) -> None:
    """What python-docx's paragraphs leave out is text to a reader; deleted text is not."""
    made = docx.Document()
    made.add_paragraph("First")
    names = nsdecls("w")
    body = made.element.body
    for xml in (
        f"<w:p {names}><w:pPr><w:tabs><w:tab w:val='left' w:pos='720'/></w:tabs></w:pPr><w:ins><w:r><w:t>Inserted</w:t>"
        f"</w:r></w:ins><w:del><w:r><w:delText>Deleted</w:delText></w:r></w:del></w:p>",
        f"<w:sdt {names}><w:sdtContent><w:p><w:r><w:t>Controlled</w:t><w:br/><w:t>line</w:t></w:r></w:p></w:sdtContent>"
        f"</w:sdt>",
        f"<w:p {names}><w:r><w:t>Around</w:t></w:r><w:r><mc:AlternateContent xmlns:mc='http://schemas.openxmlformats.org/"
        "markup-compatibility/2006'><mc:Choice Requires='wps'><w:txbxContent><w:p><w:r><w:t>Box</w:t></w:r></w:p>"
        "</w:txbxContent></mc:Choice><mc:Fallback><w:txbxContent><w:p><w:r><w:t>Box</w:t></w:r></w:p></w:txbxContent>"
        "</mc:Fallback></mc:AlternateContent></w:r></w:p>",
        f"<w:tbl {names}><w:tr><w:tc><w:p><w:r><w:t>Outer</w:t></w:r></w:p>"
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>Inner</w:t>"
        "</w:r></w:p></w:tc></w:tr></w:tbl></w:tc><w:tc><w:p><w:r><w:t>Last</w:t></w:r></w:p></w:tc></w:tr></w:tbl>",
    ):
        body.insert(len(body) - 1, parse_xml(xml))
    item = read(tmp_path / "a.docx", save(made))
    assert isinstance(item, Document)
    assert item.text.split("\n\n") == ["First", "Inserted", "Controlled\nline", "Around\nBox", "Outer Inner\tLast"]


def test_an_empty_file_has_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    assert read(path, save(docx.Document())) == Skipped(str(path), "no text", empty=True)


def test_external_links_are_not_followed(tmp_path: Path) -> None:
    """Pitfall 27: a template on another machine is named in the file, and stays there."""
    made = docx.Document()
    made.add_paragraph("Text")
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"
    made.part.relate_to("http://192.0.2.1/template.dotx", kind + "attachedTemplate", is_external=True)
    made.part.relate_to("http://192.0.2.1/footnotes.xml", kind + "footnotes", is_external=True)
    item = read(tmp_path / "a.docx", save(made))
    assert isinstance(item, Document) and item.text == "Text"


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    """Pitfall 26: the XML variant of a zip bomb, and of reading files that were not given."""
    secret = tmp_path / "secret.txt"
    secret.write_text("secret", encoding="utf-8")
    made = docx.Document()
    made.add_paragraph("Text")
    data = save(made)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        xml = archive.read("word/document.xml").decode()
    head, rest = xml.split("?>", 1)
    lol = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    doctype = f'<!DOCTYPE d [<!ENTITY l0 "lol">{lol}<!ENTITY s SYSTEM "file://{secret}">]>'
    evil = f"{head}?>{doctype}{rest.replace('Text', 'Text &l11;&s;')}"
    item = read(tmp_path / "a.docx", with_member(data, "word/document.xml", evil.encode()))
    assert isinstance(item, Skipped) or ("secret" not in item.text and "lol" not in item.text)


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("MAX_MEMBERS", 5, r"not opened: \d+ members, as in a zip bomb"),
        ("MAX_TOTAL_BYTES", 2**20, "not opened: 4 MiB unpacked, as in a zip bomb"),
        ("MAX_XML_BYTES", 2**20, "not opened: 4 MiB of XML, as in a zip bomb"),
        ("MAX_RATIO", 200, "not opened: the member 'word/x.xml' is packed 200-fold or more, as in a zip bomb"),
    ],
)
def test_zip_bombs_are_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, reason: str
) -> None:
    """Pitfall 26: size, ratio and number of members are judged before anything is unpacked."""
    import re

    monkeypatch.setattr(docx_module, limit, value)
    data = with_member(save(docx.Document()), "word/x.xml", b" " * (4 * 2**20))
    monkeypatch.setattr(docx_module, "_load", lambda *_: pytest.fail("it was opened"))
    item = read(tmp_path / "a.docx", data)
    assert isinstance(item, Skipped)
    assert re.fullmatch(reason, item.reason)


@pytest.mark.parametrize("kept", [0, 10, 2000, -30])
def test_damaged_files(tmp_path: Path, kept: int) -> None:
    """Pitfalls 2 and 21."""
    path = tmp_path / "a.docx"
    item = read(path, save(docx.Document())[:kept])
    assert isinstance(item, Skipped)
    assert item.reason.startswith("not a Word file")


@pytest.mark.parametrize("content", [b"<broken", b"", b"<a/>"])
def test_damaged_parts(tmp_path: Path, content: bytes) -> None:
    for name in ("word/document.xml", "[Content_Types].xml", "word/_rels/document.xml.rels", "_rels/.rels"):
        path = tmp_path / "a.docx"
        item = read(path, with_member(save(docx.Document()), name, content))
        assert isinstance(item, Skipped)
        assert item.reason.startswith(("damaged Word file", "no text"))
