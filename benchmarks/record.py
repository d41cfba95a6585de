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
CPUINFO = Path("/proc/cpuinfo")
# What decides how fast products of small numbers are, as /proc/cpuinfo spells it (x86, then ARM) and as it is known.
FEATURES = {
    "avx2": "AVX2",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "avx512_fp16": "AVX512-FP16",
    "amx_tile": "AMX",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "asimddp": "DotProd",
    "i8mm": "I8MM",
    "bf16": "BF16",
    "sve": "SVE",
}


def write_result(name: str, numbers: dict[str, Any], path: Path | None = None) -> Path:
    """Writes numbers with machine, versions, commit and date to ``results/NAME.json``, or to ``path``."""
    target = path or RESULTS / f"{name}.json"
    target.write_text(
        json.dumps({**numbers, "environment": environment()}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return target


def environment() -> dict[str, Any]:
    """The machine with what its processor can do, the versions, the commit and the date."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "machine": f"{processor_name()}, {len(os.sched_getaffinity(0))} cores",
        "features": processor_features(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def processor_name() -> str:
    """As the processor calls itself."""
    return _cpuinfo("model name") or platform.processor()


def processor_features() -> list[str]:
    """Which of :data:`FEATURES` the processor has, by their common names; a virtual machine may hide some."""
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [name for flag, name in FEATURES.items() if flag in flags]


def _cpuinfo(key: str) -> str:
    """The first processor's value, or nothing."""
    if not CPUINFO.is_file():
        return ""
    for line in CPUINFO.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
