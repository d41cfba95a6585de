"""Plain text and Markdown files: one document each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from xsearch.corpus.decode import clean, decode
from xsearch.corpus.options import MAX_DOCUMENT_BYTES, OnBytes, ReadOptions
from xsearch.corpus.stream import read_all
from xsearch.errors import UnreadableError
from xsearch.records import Document, Skipped

_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_PAIR = re.compile(r"([\w.-]+(?: [\w.-]+)*)[ \t]*:(?:[ \t]+(.*))?$")
_LIST_ITEM = re.compile(r"[ \t]*-[ \t]+(.*)$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}=+[ \t]*$")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,15})(\.\d+)?$")
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}


def read_text(path: str, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Document | Skipped]:
    """The file as one document."""
    text = load_text(path, options.encoding, on_bytes)
    yield Document(path, text, lang=options.lang, source=path) if text.strip() else Skipped(path, "no text", empty=True)


def read_markdown(path: str, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Document | Skipped]:
    """The file as one document: its front matter as metadata, its first heading as title, the rest as it stands."""
    front, text = split_front_matter(load_text(path, options.encoding, on_bytes))
    given = front.pop("title", None)
    title, text = split_title(text, given=str(given) if given is not None else "")
    lang = next((tag for key in ("lang", "language") if isinstance(tag := front.pop(key, None), str)), "")
    if not text.strip():
        yield Skipped(path, "no text", empty=True)
    else:
        yield Document(path, text, title, options.lang or lang, path, front)


def load_text(path: str, encoding: str | None, on_bytes: OnBytes) -> str:
    """The decoded text of a file that is one document.

    Raises:
        UnreadableError: too large, or not text.
    """
    data = read_all(path, MAX_DOCUMENT_BYTES, on_bytes)
    if data is None:
        raise UnreadableError(
            path,
            f"larger than {MAX_DOCUMENT_BYTES // 2**20} MiB, which is too much for one document",
            "A file of one document",
            "Split it, or write it as JSON lines",
        )
    return decode(data, source=path, encoding=encoding)


def split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    """The ``key: value`` pairs of YAML front matter, and the text after it.

    Only what front matter is used for is understood: scalars, ``[a, b]`` lists and ``- a`` lists.
    """
    match = _FRONT_MATTER.match(text)
    if match is None:
        return {}, text
    pairs: dict[str, Any] = {}
    key = ""
    for line in match[1].splitlines():
        if pair := _PAIR.match(line):
            key = pair[1]
            pairs[key] = _front_value(pair[2] or "")
        elif item := _LIST_ITEM.match(line):
            if key and (pairs[key] is None or isinstance(pairs[key], list)):
                pairs[key] = [*(pairs[key] or []), _front_value(item[1])]
        elif line.strip() and line[0] not in " \t#":
            return {}, text  # prose between two thematic breaks
    return (pairs, text[match.end() :]) if pairs else ({}, text)


def split_title(text: str, *, given: str = "") -> tuple[str, str]:
    """The title and the text without it.

    The title is ``given`` or the first ``# `` heading outside code. A heading line is taken out where it
    opens the text and says no other than the title; further down it stays, for it parts the text.
    """
    heading, start, end = _first_heading(text)
    title = clean(given).strip() or heading
    if heading and heading == title and not text[:start].strip():
        return title, text[end:].lstrip("\n")
    return title, text.lstrip("\n")


def _first_heading(text: str) -> tuple[str, int, int]:
    """The first heading of level one, without markup, and where its lines begin and end."""
    fence = ""
    at = 0
    before = ("", 0)
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\n")
        if mark := _FENCE.match(bare):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence):
                fence = ""
        elif not fence:
            if match := _HEADING.match(bare):
                return _unmarked(match[1]), at, at + len(line)
            if before[0].strip() and _UNDERLINE.match(bare):
                return _unmarked(before[0]), before[1], at + len(line)
        before = (bare, at)
        at += len(line)
    return "", 0, 0


def _unmarked(heading: str) -> str:
    return _LINK.sub(r"\1", heading).replace("*", "").replace("`", "").strip()


def _front_value(raw: str) -> Any:
    raw = raw.strip()
    if len(raw) >= 2 and raw[0] == raw[-1] and raw[0] in "\"'":
        return raw[1:-1].replace(raw[0] * 2, raw[0]) if raw[0] == "'" else raw[1:-1].replace('\\"', '"')
    if raw.startswith("[") and raw.endswith("]"):
        return [_front_value(item) for item in raw[1:-1].split(",") if item.strip()]
    raw = raw.split(" #")[0].rstrip()
    if raw.lower() in _CONSTANTS:
        return _CONSTANTS[raw.lower()]
    if number := _NUMBER.match(raw):
        return float(raw) if number[1] else int(raw)
    return raw
