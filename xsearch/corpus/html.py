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
_WHITE_SPACE = re.compile(r"\s+")
_TABS = re.compile(r"\t[\t ]*")
_HEAD_BYTES = 4096

_UNSEEN = frozenset(
    {"head", "script", "style", "noscript", "template", "svg", "math", "iframe", "object"}
    | {"select", "textarea", "button"}
)
# Menus and footers are not what a page says.
_AROUND = frozenset({"nav", "footer", "aside"})
_INLINE = frozenset(
    {"a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "img"}
    | {"ins", "kbd", "label", "mark", "q", "rp", "rt", "ruby", "s", "samp", "small", "span", "strike", "strong"}
    | {"sub", "sup", "time", "tt", "u", "var", "wbr"}
)
_ALL_KEPT = 0.99


def read_html(path: str, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Document | Skipped]:
    """The page's main text, with its title and the language it declares."""
    data = read_all(path, MAX_DOCUMENT_BYTES, on_bytes)
    if data is None:
        raise UnreadableError(path, f"larger than {MAX_DOCUMENT_BYTES // 2**20} MiB", "A page", "Split it")
    page = decode(data, source=path, encoding=options.encoding or _declared_encoding(data))
    tree, text = _extract(page)
    if tree is None or not text.strip():
        yield Skipped(path, "no text", empty=True)
        return
    title = clean(" ".join((tree.findtext(".//title") or "").split()))
    yield Document(path, text, title, options.lang or _declared_lang(tree), path)


def _extract(page: str) -> tuple[Any, str]:
    """The parsed page (None where there is nothing to parse) and its main text."""
    trafilatura = extras.load(extras.HTML)
    lxml, etree = extras.load(extras.HTML_TREE, ".html"), extras.load(extras.HTML_TREE, ".etree")
    # lxml refuses a str that declares an encoding; it is decoded already.
    page = _XML_DECLARATION.sub("", page, count=1)
    with extras.quiet(*_LOGGERS):
        try:
            tree = lxml.document_fromstring(page)
        except (etree.LxmlError, ValueError):  # nothing but comments, or nothing at all
            return None, ""
        found = trafilatura.bare_extraction(
            page,
            include_comments=False,
            include_tables=True,
            favor_recall=True,
            prune_xpath=[f"//{tag}" for tag in sorted(_AROUND)],
        )
    whole = _whole_text(tree)
    main = (found.text if found is not None else "") or ""
    # On short pages trafilatura finds no main part and keeps all, but breaks lines at every <b> and <a>.
    all_kept = len("".join(main.split())) >= _ALL_KEPT * len("".join(whole.split()))
    return tree, clean(main if main and not all_kept else whole)


def _whole_text(tree: Any) -> str:
    """All text one sees on the page, a line a block, but for what stands around it."""
    parts: list[str] = []

    def collect(element: Any) -> None:
        tag = element.tag
        shown = isinstance(tag, str) and tag not in _UNSEEN and tag not in _AROUND  # no str: a comment
        edge = "" if tag in _INLINE else "\t" if tag in {"td", "th"} else "\n"
        if shown:
            parts.extend((edge, _WHITE_SPACE.sub(" ", element.text or "")))
            for child in element:
                collect(child)
            parts.append(edge)
        parts.append(_WHITE_SPACE.sub(" ", element.tail or ""))

    collect(tree)
    lines = ("\t".join(" ".join(cell.split()) for cell in line.split("\t")) for line in "".join(parts).split("\n"))
    return "\n".join(line for line in (_TABS.sub("\t", line).strip() for line in lines) if line)


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
