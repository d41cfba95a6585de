"""Wall time of whole commands from a cold process: help, and a search on the demo index."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import write_result

CORPUS = Path(__file__).parents[1] / "demo" / "corpus"
XSEARCH = Path(sys.executable).parent / "xsearch"
QUERY = "During which eclipse was helium first noticed?"
HEAVY = ("torch", "faiss", "transformers", "onnxruntime", "numpy", "sqlalchemy")


def main() -> None:
    """Times the commands and writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = ["--index-dir", folder]
        subprocess.run([XSEARCH, "index", "demo", str(CORPUS), "-q", *place], check=True, capture_output=True)
        commands = {
            "help": [XSEARCH, "--help"],
            "search": [XSEARCH, "search", "demo", QUERY, *place],
            "search_json": [XSEARCH, "search", "demo", QUERY, "--json", *place],
        }
        numbers: dict[str, object] = {name: _times(command, arguments.rounds) for name, command in commands.items()}
    numbers["help_imports"] = _heavy_imports()
    for name, value in numbers.items():
        print(f"{name:<14} {value}")
    print(write_result("cold_start", numbers, arguments.output))


def _times(command: list[str | Path], rounds: int) -> dict[str, float]:
    subprocess.run(command, check=True, capture_output=True)
    seconds: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return {
        "min_s": round(min(seconds), 3),
        "median_s": round(statistics.median(seconds), 3),
        "max_s": round(max(seconds), 3),
    }


def _heavy_imports() -> list[str]:
    """Which heavy libraries ``xsearch --help`` loads; none, it is hoped."""
    code = (
        "import sys; from click.testing import CliRunner; from xsearch.cli.main import cli;"
        f"CliRunner().invoke(cli, ['--help']); print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


if __name__ == "__main__":
    main()
