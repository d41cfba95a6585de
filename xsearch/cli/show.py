"""Hits drawn as text: wide characters counted as wide, right-to-left passages kept apart, the best sentence marked."""

from __future__ import annotations

import shutil
from typing import IO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from xsearch.records import Hit, Hits, is_rtl

# Unicode's marks around text whose direction is its own (first strong character), so that a right-to-left passage does
# not turn the line around it.
ISOLATE_START, ISOLATE_END = "\u2068", "\u2069"
MAX_WIDTH = 100
# Control characters of a document would be commands to the terminal. Each is one space, so that offsets stay right.
CONTROLS = dict.fromkeys((*range(0x00, 0x20), *range(0x7F, 0xA0)), " ") | {ord("\n"): "\n"}
INDENT = 4


def show_hits(hits: Hits, out: IO[str], *, with_query: bool = False) -> None:
    """Writes hits for people: rank, score, language, title and source, then the passage with its best sentence marked.

    On a terminal the best sentence is bold and right-to-left passages are set to the right; elsewhere the sentence
    stands between ``>>`` and ``<<``.

    Args:
        with_query: whether the query is written above its hits, as for a batch.
    """
    terminal = out.isatty()
    width = min(MAX_WIDTH, shutil.get_terminal_size((MAX_WIDTH, 24)).columns)
    console = Console(file=out, width=width, highlight=False, emoji=False, markup=False, soft_wrap=False)
    if with_query:
        console.print(Text(_one_line(hits.query.text), style="bold"))
    if not hits.hits:
        console.print("No passage fits.")
    for hit in hits:
        console.print(_head(hit, terminal=terminal))
        console.print(_passage(hit, width - INDENT, terminal=terminal))
        console.print()


def _head(hit: Hit, *, terminal: bool) -> Text:
    line = Text(f"{hit.rank:>2}. ", style="bold")
    line.append(f"{hit.score:.3f}  {hit.lang:<4} ", style="cyan")
    title = _one_line(hit.title) or _one_line(hit.doc_id)
    line.append(_isolated(title, terminal=terminal), style="bold")
    source = _one_line(hit.source)
    if source and source != title:
        line.append(f"  {source}", style="dim")
    return line


def _one_line(text: str) -> str:
    return " ".join(text.translate(CONTROLS).split())


def _passage(hit: Hit, width: int, *, terminal: bool) -> Text:
    passage = hit.text.translate(CONTROLS)
    text = Text(passage)
    if hit.best is not None:
        if terminal:
            text.stylize("bold yellow", hit.best.start, hit.best.end)
        else:
            marked = passage[: hit.best.start] + ">>" + passage[hit.best.start : hit.best.end] + "<<"
            text = Text(marked + passage[hit.best.end :])
    lines: list[Text] = []
    for paragraph in text.split("\n", allow_blank=False):
        if paragraph.plain.strip():
            lines.extend(paragraph.wrap(Console(width=width), width))
    block = Text()
    for line in lines:
        line.rstrip()
        shift = width - cell_len(line.plain) if terminal and is_rtl(hit.lang) else 0
        block.append(" " * (INDENT + max(0, shift)))
        block.append_text(_isolate_line(line) if terminal else line)
        block.append("\n")
    block.rstrip()
    return block


def _isolated(text: str, *, terminal: bool) -> str:
    return f"{ISOLATE_START}{text}{ISOLATE_END}" if terminal else text


def _isolate_line(line: Text) -> Text:
    return Text.assemble(ISOLATE_START, line, ISOLATE_END)
