"""PDF files: the text of all pages as one document."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xsearch.corpus import extras
from xsearch.corpus.decode import clean
from xsearch.corpus.direction import is_reversed
from xsearch.corpus.options import OnBytes, ReadOptions
from xsearch.errors import UnreadableError
from xsearch.records import Document, Skipped

# What pypdf lets through on damaged files, beside its own errors: the file's bytes decide what its
# objects are, so a wrong one shows as a wrong type, key or number deep inside.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError, zlib.error)


@dataclass(frozen=True, slots=True)
class _Pdf:
    """What is taken out of a file."""

    pages: tuple[str, ...]
    title: str
    author: str


def read_pdf(path: str, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Document | Skipped]:
    """The file as one document, pages parted by empty lines."""
    pdf = _load(path)
    on_bytes(Path(path).stat().st_size)
    text = "\n\n".join(page for page in pdf.pages if page)
    if not text:
        yield Skipped(path, f"no text on its {len(pdf.pages)} pages: scanned images need OCR first")
    elif is_reversed(text):
        yield Skipped(
            path, "its right-to-left text comes out with its letters in reverse, and no question would find it"
        )
    else:
        metadata = {"pages": len(pdf.pages)} | ({"author": pdf.author} if pdf.author else {})
        yield Document(path, text, pdf.title, options.lang, path, metadata)


def _load(path: str) -> _Pdf:
    pypdf, errors = extras.load(extras.PDF), extras.load(extras.PDF, ".errors")
    with Path(path).open("rb") as file, extras.quiet("pypdf"):
        try:
            reader = pypdf.PdfReader(file, strict=False)
            # Many files are encrypted with an empty password, only to forbid printing.
            if reader.is_encrypted and not reader.decrypt(""):
                raise UnreadableError(path, "encrypted", "A PDF that opens without a password", "Save it without one")
            pages = tuple(page_text(page) for page in reader.pages)
            information = reader.metadata
            title, author = (information.title, information.author) if information else ("", "")
        except errors.DependencyError as exc:
            raise UnreadableError(
                path, "encrypted with AES", "A PDF that is not encrypted", "pip install cryptography"
            ) from exc
        except (errors.PyPdfError, *_DAMAGE) as exc:
            raise UnreadableError(path, f"damaged PDF: {exc}", "A whole PDF", "Copy it anew") from exc
    return _Pdf(pages, _line(title), _line(author))


def page_text(page: Any) -> str:
    """The text of a pypdf page, without white space around it."""
    return clean(page.extract_text()).strip()


def _line(value: object) -> str:
    return clean(" ".join(value.split())) if isinstance(value, str) else ""
