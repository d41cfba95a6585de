"""What a cut of the vocabulary did, as a compact table."""

from __future__ import annotations

import shutil
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from xsearch.training.coverage import Coverage

MAX_WIDTH = 100
# Of a language's three cells with the space behind them.
GROUP_WIDTH = 24


def show_coverage(coverage: Coverage, out: IO[str]) -> None:
    """Writes which share of its running pieces each language keeps, the least first, and how much longer texts get."""
    from rich.console import Console
    from rich.table import Table

    width = min(MAX_WIDTH, shutil.get_terminal_size((MAX_WIDTH, 24)).columns)
    console = Console(file=out, width=width, highlight=False, markup=False, emoji=False)
    console.print(
        f"Pieces    {coverage.pieces_after:,} of {coverage.pieces_before:,}; by language the share of running pieces "
        "kept, and how much longer texts get:",
        soft_wrap=True,
    )
    groups = max(1, min(len(coverage.languages), width // GROUP_WIDTH))
    rows = -(-len(coverage.languages) // groups)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(groups):
        table.add_column()
        table.add_column(justify="right")
        table.add_column(justify="right")
    for row in range(rows):
        own = coverage.languages[row::rows]
        table.add_row(
            *(cell for each in own for cell in (each.lang, f"{100 * each.kept:.1f}%", f"+{100 * each.longer:.1f}%"))
        )
    console.print(table)
