"""Word files (.docx): paragraphs, tables and notes in the order of the document, as one document.

The text is taken from the XML rather than from python-docx's paragraphs, which leave out tracked
insertions, content controls and text boxes.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from xsearch.corpus import extras
from xsearch.corpus.decode import clean
from xsearch.corpus.options import OnBytes, ReadOptions
from xsearch.errors import UnreadableError
from xsearch.records import Document, Skipped

MAX_MEMBERS = 10_000
MAX_TOTAL_BYTES = 512 * 2**20
MAX_XML_BYTES = 128 * 2**20
"""XML is parsed into a tree of many times its size."""
MAX_RATIO = 200
RATIO_FROM_BYTES = 2**20

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_NOTES = ("/footnotes", "/endnotes")
_CHARACTERS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "\u2011"}
# Moved-away text stands again where it was moved to; the fallback of a drawing repeats it.
# A paragraph's properties hold tab stops, whose tag is that of a tab character.
_PASSED_OVER = {f"{_W}moveFrom", f"{_W}pPr", _FALLBACK}


@dataclass(frozen=True, slots=True)
class _Word:
    """What is taken out of a file."""

    text: str
    title: str
    author: str


def read_docx(path: str, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Document | Skipped]:
    """The file as one document; links to outside are not followed."""
    with Path(path).open("rb") as file:
        _check_zip(file, path)
        word = _load(file, path)
    on_bytes(Path(path).stat().st_size)
    if word.text.strip():
        yield Document(path, word.text, word.title, options.lang, path, {"author": word.author} if word.author else {})
    else:
        yield Skipped(path, "no text", empty=True)


def _check_zip(file: BinaryIO, path: str) -> None:
    """Raise :class:`UnreadableError` for what is no zip file or would fill the memory.

    The sizes are those the archive declares; zipfile reads no more of a member than it declares.
    """

    def bomb(what: str) -> UnreadableError:
        return UnreadableError(path, f"not opened: {what}, as in a zip bomb", "A Word file of usual size", "Leave out")

    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as exc:
        raise UnreadableError(path, f"not a Word file: {exc}", "A whole .docx file", "Copy it anew") from exc
    if len(members) > MAX_MEMBERS:
        raise bomb(f"{len(members):,} members")
    if (total := sum(member.file_size for member in members)) > MAX_TOTAL_BYTES:
        raise bomb(f"{total // 2**20:,} MiB unpacked")
    xml = sum(member.file_size for member in members if member.filename.lower().endswith((".xml", ".rels")))
    if xml > MAX_XML_BYTES:
        raise bomb(f"{xml // 2**20:,} MiB of XML")
    for member in members:
        if member.file_size > RATIO_FROM_BYTES and member.file_size > MAX_RATIO * max(member.compress_size, 1):
            raise bomb(f"the member {member.filename!r} is packed {MAX_RATIO}-fold or more")


def _load(file: BinaryIO, path: str) -> _Word:
    docx, opc = extras.load(extras.DOCX), extras.load(extras.DOCX, ".opc.exceptions")
    try:
        document = docx.Document(file)
        body = document.element.body
        return _Word(
            text=clean("\n\n".join([*_blocks(body), *_notes(document)])),
            title=_title(document, body),
            author=" ".join(clean(document.core_properties.author or "").split()),
        )
    # python-docx has no error of its own for a package with parts missing or XML that is none
    # (lxml's XMLSyntaxError is a SyntaxError).
    except (
        opc.OpcError,
        zipfile.BadZipFile,
        zlib.error,
        AttributeError,
        LookupError,
        NotImplementedError,
        OSError,
        SyntaxError,
        TypeError,
        ValueError,
    ) as exc:
        raise UnreadableError(path, f"damaged Word file: {exc}", "A whole .docx file", "Copy it anew") from exc


def _blocks(parent: Any) -> Iterator[str]:
    """The text of each paragraph and each table below ``parent``, empty ones left out."""
    for element in parent:
        if element.tag == f"{_W}p":
            text = _text(element).strip()
            if text:
                yield text
        elif element.tag == f"{_W}tbl":
            text = "\n".join(filter(None, map(_row, element.iterchildren(f"{_W}tr"))))
            if text:
                yield text
        elif element.tag not in _PASSED_OVER:
            yield from _blocks(element)  # content controls, tracked insertions


def _row(row: Any) -> str:
    cells = (" ".join(_blocks(cell)) for cell in row.iter(f"{_W}tc") if _nearest_row(cell) is row)
    return "\t".join(" ".join(text.split()) for text in cells).strip()


def _nearest_row(cell: Any) -> Any:
    parent = cell.getparent()
    while parent.tag != f"{_W}tr":
        parent = parent.getparent()
    return parent


def _text(element: Any) -> str:
    """The characters below ``element``: deleted text is left out, a text box stands on lines of its own."""
    parts: list[str] = []
    for child in element:
        if child.tag == f"{_W}t":
            parts.append(child.text or "")
        elif child.tag in _CHARACTERS:
            parts.append(_CHARACTERS[child.tag])
        elif child.tag == f"{_W}txbxContent":
            parts.append("\n" + "\n".join(_blocks(child)) + "\n")
        elif child.tag not in _PASSED_OVER:
            parts.append(_text(child))
    return "".join(parts)


def _notes(document: Any) -> Iterator[str]:
    """Footnotes, then endnotes."""
    parse = extras.load(extras.DOCX, ".oxml").parse_xml
    for kind in _NOTES:
        for relation in document.part.rels.values():
            if relation.reltype.endswith(kind) and not relation.is_external:
                yield from _blocks(parse(relation.target_part.blob))


def _title(document: Any, body: Any) -> str:
    """The title among the file's properties, else its first paragraph in the style Title or Heading 1."""
    stated = clean(document.core_properties.title or "").strip()
    if stated and stated != "Word Document":  # python-docx's own word for "not stated"
        return stated
    paragraph_of = extras.load(extras.DOCX, ".text.paragraph").Paragraph
    for element in body.iterchildren(f"{_W}p"):
        style = paragraph_of(element, document).style
        if style is not None and style.name in {"Title", "Heading 1"}:
            return " ".join(clean(_text(element)).split())
    return ""
