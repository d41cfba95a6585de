"""A task result for people and for machines: a table for the terminal, a JSON file, and a baseline read back."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xsearch.errors import EvaluationError
from xsearch.evaluation.results import Comparison, TaskResult, unpack_per_query
from xsearch.evaluation.significance import Difference, Interval, Scores

# The metrics of a list, with headings short enough for 80 columns.
_HEADINGS = {
    "ndcg@10": "nDCG@10",
    "recall@1": "R@1",
    "recall@10": "R@10",
    "recall@100": "R@100",
    "mrr@10": "MRR@10",
    "map": "MAP",
}
_ALPHA = 0.05
_INTERVAL = re.compile(r"\[\s+(-?[\d.e-]+),\s+(-?[\d.e-]+)\s+\]")


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier run, read from its file.

    Attributes:
        task, split: what was run.
        encoder: as the file describes it.
        per_query: the main metric of every query, by pair key.
    """

    task: str
    split: str
    encoder: Mapping[str, Any]
    per_query: Mapping[str, Scores]


def read_baseline(path: Path) -> Baseline:
    """The run that :func:`write_json` wrote, with its per-query scores.

    Raises:
        EvaluationError: the file is not there, is no such report, or was written without per-query scores.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise _not_a_report(path, str(exc)) from exc
    if isinstance(report, dict) and "pairs" in report and "per_query" not in report:
        raise EvaluationError(
            f"{path} holds no per-query scores",
            "A paired test compares query by query",
            f"Run the baseline again with --per-query -o {path}",
        )
    try:
        return Baseline(
            str(report["task"]),
            str(report["split"]),
            dict(report["encoder"]),
            unpack_per_query(report["per_query"], metric=report["metric"]),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as exc:
        raise _not_a_report(path, f"{type(exc).__name__}: {exc}") from exc


def check_comparable(baseline: Baseline, *, task: str, split: str, pairs: Sequence[str]) -> None:
    """Refuses a baseline of another task or split, or without one of the pairs.

    Raises:
        EvaluationError: task or split differ, or a pair is missing.
    """
    if (baseline.task, baseline.split) != (task, split):
        raise EvaluationError(
            f"The baseline is of {baseline.task} {baseline.split}, and this run is of {task} {split}",
            "Both must be of the same task and split",
            "Choose another --baseline",
        )
    if missing := [key for key in pairs if key not in baseline.per_query]:
        raise EvaluationError(
            f"The baseline has no scores for {', '.join(missing)}",
            "It must have every language pair of this run",
            f"Pass --langs with its languages; its pairs are {', '.join(baseline.per_query)}",
        )


def write_json(report: Mapping[str, Any], path: Path) -> None:
    """Writes a report; the file appears whole or not at all.

    Raises:
        EvaluationError: it cannot be written there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(to_json(report) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise EvaluationError(
            f"{path} cannot be written ({exc.strerror})", "A file in a folder that exists", "Pass another -o"
        ) from exc


def to_json(report: Mapping[str, Any]) -> str:
    """The report as JSON; indented, but for intervals and the long per-query lists, which take one line each."""
    plain = {key: value for key, value in report.items() if key != "per_query"}
    text = json.dumps(plain, ensure_ascii=False, indent=2, allow_nan=False)
    text = _INTERVAL.sub(r"[\1, \2]", text)
    if "per_query" not in report:
        return text
    packed = report["per_query"]
    pairs = ",\n".join(f"      {_compact(key)}: {_compact(pair)}" for key, pair in packed["pairs"].items())
    lists = f'"ids": {_compact(packed["ids"])},\n    "pairs": {{\n{pairs}\n    }}'
    return f'{text.removesuffix("}").rstrip()},\n  "per_query": {{\n    {lists}\n  }}\n}}'


def render(result: TaskResult, comparison: Comparison | None = None) -> RenderableType:
    """The result as something rich can print: a matrix where there are cross-language pairs, else a list."""
    # Not the table's own title, which rich folds to the width of the table.
    title = Text(f"{result.task} ({result.split}), {result.encoder.name}", style="bold")
    if result.matrix().cross is None:
        parts: list[RenderableType] = [title, Text("Scores × 100"), _list(result)]
    else:
        parts = [
            title,
            Text(f"{metric_title(result.metric)} × 100; rows: context language, columns: question language"),
            _matrix(result),
        ]
    parts.append(_summary(result))
    if comparison is not None:
        parts += [Text(), render_comparison(comparison)]
    return Group(*parts)


def metric_title(metric: str) -> str:
    """The usual spelling of a metric's name."""
    return _HEADINGS.get(metric, metric)


def shown_means(result: TaskResult) -> dict[str, float]:
    """The means worth showing: that over all pairs only where it is not one of the others again."""
    means = result.means
    return means if len(means) != 2 else {name: mean for name, mean in means.items() if name != "mean"}


def truncation_notes(result: TaskResult) -> Iterator[str]:
    """One sentence a language and side in which texts were longer than the encoder reads."""
    limit = result.encoder.max_tokens
    for lang, texts in result.encoded.items():
        for side, cut, total in (
            ("documents", texts.truncated_documents, texts.documents),
            ("queries", texts.truncated_queries, texts.queries),
        ):
            if cut:
                yield f"{lang}: {cut} of {total} {side} are longer than {limit} tokens and were cut"


def _matrix(result: TaskResult) -> Table:
    matrix = result.matrix()
    table = Table()
    table.add_column("context \\ question")
    for lang in matrix.query_langs:
        table.add_column(lang, justify="right")
    table.add_column("mean", justify="right", style="dim")
    for doc in matrix.doc_langs:
        cells = [
            Text(percent(matrix.get(doc, query)), style="bold" if doc == query else "") for query in matrix.query_langs
        ]
        table.add_row(Text(doc, style="bold"), *cells, percent(matrix.row_mean(doc)))
    table.add_section()
    means = [percent(matrix.column_mean(query)) for query in matrix.query_langs]
    table.add_row("mean", *means, percent(matrix.mean), style="dim")
    return table


def _list(result: TaskResult) -> Table:
    table = Table()
    table.add_column("")
    for name in (*_HEADINGS.values(), "docs", "queries"):
        table.add_column(name, justify="right")
    for pair in result.pairs:
        scores = [percent(pair.scores[name]) for name in _HEADINGS]
        table.add_row(Text(pair.query_lang, style="bold"), *scores, str(pair.documents), str(pair.queries))
    if len(result.pairs) > 1:
        table.add_section()
        table.add_row("mean", *(percent(result.matrix(name).mean) for name in _HEADINGS), "", "")
    return table


def _summary(result: TaskResult) -> Text:
    parts = (
        f"{name} {percent(mean)}{bounds(result.intervals.get(name))}" for name, mean in shown_means(result).items()
    )
    return Text("   ".join(parts))


def render_comparison(comparison: Comparison) -> RenderableType:
    """The differences of the means, and which pairs are better or worse beyond chance."""
    name = comparison.baseline.get("name", "the baseline")
    lines = [Text(f"Against {name}: {metric_title(comparison.metric)} × 100", style="bold")]
    lines += [Text(f"{mean} {_describe(difference)}") for mean, difference in comparison.means.items()]
    pairs = comparison.pairs
    better = [key for key, difference in pairs.items() if difference.p_holm < _ALPHA and difference.mean > 0]
    worse = [key for key, difference in pairs.items() if difference.p_holm < _ALPHA and difference.mean < 0]
    lines.append(
        Text(
            f"{len(better)} of {len(pairs)} pairs better, {len(worse)} worse (p < {_ALPHA} after Holm's correction), "
            f"{len(pairs) - len(better) - len(worse)} undecided"
        )
    )
    for name, keys in (("better", better), ("worse", worse)):
        if keys:
            named = ", ".join(f"{key} {100 * pairs[key].mean:+.1f}" for key in keys)
            lines.append(Text(f"{name}: {named}"))
    return Group(*lines)


def _describe(difference: Difference) -> str:
    low, high = 100 * difference.low, 100 * difference.high
    return f"{100 * difference.mean:+.1f} [{low:+.1f}, {high:+.1f}], p = {difference.p:.4f}"


def percent(value: float | None) -> str:
    """A share from 0 to 1 times 100, to one decimal."""
    return "–" if value is None else f"{100 * value:.1f}"


def bounds(interval: Interval | None) -> str:
    """An interval behind its mean."""
    return "" if interval is None else f" [{percent(interval.low)}, {percent(interval.high)}]"


def _not_a_report(path: Path, problem: str) -> EvaluationError:
    return EvaluationError(
        f"{path} cannot be read as a benchmark report ({problem})",
        "A file that xsearch bench wrote with --per-query -o was expected",
        "Check the path, or run the baseline again",
    )


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
