"""HTML files: the main text of the page as one document. Nothing a page points to is ever fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from xsearch.corpus import extras
from xsearch.corpus.decode import clean, decode, detect_encoding
from xsearch.corpus.options import MAX_DOCUMENT_BYTES, OnBytes, ReadOptions
from xsearch.corpus.stream import read_all
from xsearch.errors import UnreadableError
from xsearch.records import Document, Skipped

_LOGGERS = ("trafilatura", "htmldate", "courlan", "justext")
_DECLARED = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{2,40})""", re.IGNORECASE)
_XML_DECLARATION = re.compile(r"\s*<\?xml[^>]*\?>")
_LANG = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8})*")
_HEAD_BYTES = 4096

# Menus and footers are not what a page says; trafilatura keeps them on short pages.
_AROUND = ["//nav", "//footer", "//aside"]


def read_html(path: str, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Document | Skipped]:
    """The page's main text, with its title and the language it declares."""
    data = read_all(path, MAX_DOCUMENT_BYTES, on_bytes)
    if data is None:
        raise UnreadableError(path, f"larger than {MAX_DOCUMENT_BYTES // 2**20} MiB", "A page", "Split it")
    page = decode(data, source=path, encoding=options.encoding or _declared_encoding(data))
    tree, text = _extract(page)
    if tree is None or not text.strip():
        yield Skipped(path, "no text")
        return
    title = clean(" ".join((tree.findtext(".//title") or "").split()))
    yield Document(path, text, title, options.lang or _declared_lang(tree), path)


def _extract(page: str) -> tuple[Any, str]:
    """The parsed page (None where there is nothing to parse) and its main text."""
    trafilatura = extras.load(extras.HTML)
    utils = extras.load(extras.HTML, ".utils")
    # lxml refuses a str that declares an encoding; it is decoded already.
    page = _XML_DECLARATION.sub("", page, count=1)
    with extras.quiet(*_LOGGERS):
        tree = utils.load_html(page)
        if tree is None:
            return None, ""
        found = trafilatura.bare_extraction(
            page, include_comments=False, include_tables=True, favor_recall=True, prune_xpath=_AROUND
        )
        text = (found.text if found is not None else "") or trafilatura.html2txt(page)
    return tree, clean(text)


def _declared_encoding(data: bytes) -> str | None:
    """The encoding a ``<meta>`` declares, where the bytes bear it out; None: detect it."""
    head = data[:_HEAD_BYTES]
    match = _DECLARED.search(head)
    if match is None or detect_encoding(head, complete=False) in {"utf-8-sig", "utf-16", "utf-32"}:
        return None
    name = match[1].decode("ascii")
    # As browsers do: the Latin-1 of the web is cp1252, and its GB2312 is GB18030.
    name = {"iso-8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932"}.get(name.lower(), name)
    try:
        data.decode(name)
    except (LookupError, UnicodeError):
        return None
    return name


def _declared_lang(tree: Any) -> str:
    declared = tree.get("lang") or tree.get("{http://www.w3.org/XML/1998/namespace}lang") or tree.get("xml:lang") or ""
    lang = str(declared).strip().replace("_", "-")
    return lang if _LANG.fullmatch(lang) else ""
