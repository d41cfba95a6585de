"""What every benchmark says of the machine and the code it ran on, and where it writes its numbers."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "xsearch",
    "onnxruntime",
    "tokenizers",
    "faiss-cpu",
    "numpy",
    "torch",
    "sentence-transformers",
    "sqlalchemy",
)


def write_result(name: str, numbers: dict[str, Any], path: Path | None = None) -> Path:
    """Writes numbers with machine, versions, commit and date to ``results/NAME.json``, or to ``path``."""
    target = path or RESULTS / f"{name}.json"
    target.write_text(
        json.dumps({**numbers, "environment": environment()}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return target


def environment() -> dict[str, Any]:
    """The machine, the versions, the commit and the date."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
