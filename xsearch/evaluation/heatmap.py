"""A result as a picture: a cell for each language pair, mean margins, same-language pairs outlined."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch.errors import EvaluationError, MissingExtraError
from xsearch.evaluation.matrix import LanguageMatrix
from xsearch.evaluation.report import metric_title, shown_means
from xsearch.evaluation.results import TaskResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

_CELL_INCHES = 0.62
# The margins stand a little apart from the matrix they sum up.
_GAP = 0.25
_INK = "#222222"


def check_plotting() -> None:
    """Makes sure that plots can be drawn, before a long run rather than after it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401
    except ImportError as exc:
        raise MissingExtraError("Drawing a heat-map", "matplotlib", "bench") from exc


def plot(result: TaskResult, path: Path) -> None:
    """Writes a picture of a result as a PNG: the language matrix, or bars where there are no cross-language pairs.

    The figure is built without pyplot, so no global state of matplotlib is touched and none is needed.

    Raises:
        MissingExtraError: matplotlib is not installed.
        EvaluationError: the file cannot be written.
    """
    check_plotting()
    matrix = result.matrix()
    metric = f"{metric_title(result.metric)} × 100"
    means = ", ".join(f"{name} {100 * mean:.1f}" for name, mean in shown_means(result).items())
    heading = f"{result.task} ({result.split}): {result.encoder.name}\n{metric}: {means}"
    figure = _bars(result, label=metric) if matrix.cross is None else _heatmap(matrix, label=metric)
    figure.suptitle(heading, fontsize=11, color=_INK, x=0.02, ha="left")
    try:
        figure.savefig(path, format="png")
    except OSError as exc:
        raise EvaluationError(
            f"{path} cannot be written ({exc.strerror})", "A file in a folder that exists", "Pass another --plot"
        ) from exc


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _bars(result: TaskResult, *, label: str) -> Figure:
    """A bar for each language with its 95% interval."""
    pairs = result.pairs
    figure = _figure(6.5, 0.34 * len(pairs) + 1.4)
    axes = figure.add_subplot()
    for row, pair in enumerate(pairs):
        value = 100 * pair.scores[result.metric]
        axes.barh(row, value, height=0.72, color="#31688e")
        reach = value
        if pair.interval is not None:
            reach = 100 * pair.interval.high
            axes.hlines(row, 100 * pair.interval.low, reach, color=_INK, lw=1.2)
        axes.text(reach + 1.2, row, f"{value:.1f}", va="center", fontsize=9, color=_INK)
    axes.set_yticks(range(len(pairs)), [pair.query_lang for pair in pairs])
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.set_xlim(0, 107)  # room for the figure beside a bar of 100
    axes.set_xticks(range(0, 101, 20))
    axes.set_ylabel("question language", fontsize=10, color=_INK)
    axes.set_xlabel(f"{label}, with its 95% interval", fontsize=9, color=_INK)
    axes.tick_params(axis="y", length=0, labelcolor=_INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure


def _heatmap(matrix: LanguageMatrix, *, label: str) -> Figure:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    rows, columns = matrix.doc_langs, matrix.query_langs
    values = [100 * value for value in matrix.values.values()]
    low, high = 10 * math.floor(min(values) / 10), 10 * math.ceil(max(values) / 10)
    colours = ScalarMappable(Normalize(low, max(high, low + 10)), colormaps["viridis"])

    width = _CELL_INCHES * (len(columns) + 1 + _GAP) + 2.2
    height = _CELL_INCHES * (len(rows) + 1 + _GAP) + 1.6
    figure = _figure(max(width, 5.0), height)
    axes = figure.add_subplot()
    painter = _Painter(axes, colours)
    right, bottom = len(columns) + _GAP, len(rows) + _GAP
    for r, doc in enumerate(rows):
        for c, query in enumerate(columns):
            painter.cell(c, r, matrix.get(doc, query), outlined=doc == query)
        painter.cell(right, r, matrix.row_mean(doc))
    for c, query in enumerate(columns):
        painter.cell(c, bottom, matrix.column_mean(query))
    painter.cell(right, bottom, matrix.mean, bold=True)

    axes.set_xlim(-0.04, right + 1.04)
    axes.set_ylim(bottom + 1.04, -0.04)
    axes.set_aspect("equal")
    axes.set_xticks([*(c + 0.5 for c in range(len(columns))), right + 0.5], [*columns, "mean"])
    axes.set_yticks([*(r + 0.5 for r in range(len(rows))), bottom + 0.5], [*rows, "mean"])
    axes.tick_params(length=0, labelsize=10, labelcolor=_INK, top=False, bottom=False, labeltop=True, labelbottom=False)
    axes.set_xlabel("question language", fontsize=10, color=_INK, labelpad=8)
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("context language", fontsize=10, color=_INK, labelpad=8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(colours, ax=axes, shrink=0.7, aspect=22, pad=0.03)
    bar.set_label(label, fontsize=9, color=_INK)
    bar.ax.tick_params(labelsize=8, labelcolor=_INK, length=2)
    bar.outline.set_visible(False)
    return figure


class _Painter:
    """Draws cells of one size onto axes that are measured in cells."""

    def __init__(self, axes: Axes, colours: ScalarMappable) -> None:
        self._axes = axes
        self._colours = colours

    def cell(self, x: float, y: float, value: float | None, *, outlined: bool = False, bold: bool = False) -> None:
        """One cell with its upper left corner at (x, y); hatched where there is no value."""
        from matplotlib.patches import Rectangle

        place: tuple[float, float] = (x + 0.02, y + 0.02)
        if value is None:
            self._axes.add_patch(
                Rectangle(place, 0.96, 0.96, facecolor="#f2f2f2", edgecolor="#cccccc", hatch="///", lw=0)
            )
            return
        red, green, blue, _ = self._colours.to_rgba(np.array([100 * value]))[0].tolist()
        self._axes.add_patch(Rectangle(place, 0.96, 0.96, facecolor=(red, green, blue), lw=0))
        if outlined:
            self._axes.add_patch(Rectangle(place, 0.96, 0.96, fill=False, edgecolor=_INK, lw=1.6, zorder=3))
        # Relative luminance (ITU-R BT.709): dark figures on light cells, light ones on dark.
        light = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45
        self._axes.text(
            x + 0.5,
            y + 0.5,
            f"{100 * value:.1f}",
            ha="center",
            va="center",
            fontsize=9.5,
            color=_INK if light else "white",
            fontweight="bold" if bold or outlined else "normal",
        )
