"""What a finished run took, and what it was made from: speed, hours, losses, scores, filters, examples by language.

    python benchmarks/training.py runs/english-to-multilingual

Reads what ``xsearch train`` left in the folder of the run: log.jsonl, scores.jsonl, prepared/filters.json and
prepared/examples.jsonl.zst. The share of the GEMM peak is the one that the run measured for itself, or, with
``--measure-peak``, is made with the peak of this machine at this moment: do that where nothing else runs.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from record import write_result

Line = Mapping[str, Any]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; none where it is not there."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def speed(log: Sequence[Line]) -> dict[str, Any]:
    """Tokens and arithmetic a second over the lines of a log, each a mean over as many steps."""
    found: dict[str, Any] = {
        key: {"min": round(min(values), 1), "median": round(median(values), 1), "max": round(max(values), 1)}
        for key in ("tokens_per_s", "gflops")
        if (values := [line[key] for line in log if key in line])
    }
    if shares := [line["peak_share"] for line in log if "peak_share" in line]:
        found["gemm_peak_share"] = round(median(shares), 3)
    return found


def hours(log: Sequence[Line]) -> float | None:
    """Hours of the steps, from the time left that each line tells; the last tells none, and counts as the others.

    Preparing, measuring and checkpoints are not in it.
    """
    total = max(line["step"] for line in log)
    a_step = {
        line["step"]: line["seconds_left"] / (total - line["step"])
        for line in log
        if "seconds_left" in line and line["step"] < total
    }
    if not a_step:
        return None
    usual = median(a_step.values())
    previous, seconds = 0, 0.0
    for line in sorted(log, key=lambda line: int(line["step"])):
        seconds += (line["step"] - previous) * a_step.get(line["step"], usual)
        previous = line["step"]
    return seconds / 3600


def losses(log: Sequence[Line]) -> dict[str, Any]:
    """The first and the last mean loss, in all and by kind of example."""
    first, last = log[0], log[-1]
    return {
        name: {"step": line["step"], "loss": round(line["loss"], 4)}
        | {kind: round(loss, 4) for kind, loss in line.get("losses", {}).items()}
        for name, line in (("first", first), ("last", last))
    }


def examples(path: Path) -> dict[str, Any]:
    """How many examples there are, by language, kind and source."""
    by_language: dict[str, Counter[str]] = defaultdict(Counter)
    sources: Counter[str] = Counter()
    for fields in _rows(path):
        by_language[fields["lang"]][_KINDS[fields["kind"]]] += 1
        sources[fields["origin"]] += 1
    return {
        "total": sources.total(),
        "by_language": {lang: dict(sorted(counts.items())) for lang, counts in sorted(by_language.items())},
        "by_source": dict(sorted(sources.items())),
    }


def summary(run: Path) -> dict[str, Any]:
    """All numbers of a run."""
    log = read_lines(run / "log.jsonl")
    if not log:
        raise SystemExit(f"{run / 'log.jsonl'} holds no step: this is no folder of a run that has trained.")
    took = hours(log)
    found: dict[str, Any] = {
        "run": run.name,
        "steps": max(line["step"] for line in log),
        "hours": None if took is None else round(took, 2),
        **speed(log),
        "losses": losses(log),
        "mlqa_dev": read_lines(run / "scores.jsonl"),
    }
    filters = run / "prepared" / "filters.json"
    if filters.is_file():
        report = json.loads(filters.read_text(encoding="utf-8"))
        found["filters"] = {key: report[key] for key in ("seen", "kept", "removed") if key in report}
        found["filters"]["malformed"] = {Path(name).name: count for name, count in report["malformed"].items()}
    chosen = run / "prepared" / "examples.jsonl.zst"
    if chosen.is_file():
        found["examples"] = examples(chosen)
    return found


def peak(encoder: Path, tokens: int) -> float:
    """GFLOP/s of the products of an encoder's linear layers by themselves, on this machine."""
    from transformers import AutoModel

    from xsearch.training.throughput import gemm_peak, linear_shapes

    return gemm_peak("cpu", linear_shapes(AutoModel.from_pretrained(encoder)), tokens=tokens, seconds=3.0)


_KINDS = ("sentence", "term", "passage", "english", "question")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    import zstandard

    with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as file:
        # The first line is about the others.
        for line in file.read().decode("utf-8").split("\n")[1:]:
            if line:
                yield json.loads(line)


def main() -> None:
    """Reads the run and writes its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--hours", type=float, help="of the steps, where the log does not tell")
    parser.add_argument("--measure-peak", action="store_true", help="where the log has no share of the GEMM peak")
    parser.add_argument("--tokens", type=int, default=2048, help="of a batch, for --measure-peak")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    numbers = summary(arguments.run)
    if arguments.hours is not None:
        numbers["hours"] = arguments.hours
    if arguments.measure_peak:
        reached = peak(arguments.run / "encoder", arguments.tokens)
        numbers["gemm_peak_gflops"] = round(reached, 1)
        numbers["gemm_peak_share"] = round(numbers["gflops"]["median"] / reached, 3)
    print(write_result("training", numbers, arguments.output))


if __name__ == "__main__":
    main()
