"""What this processor multiplies fast."""

from __future__ import annotations

import os
import platform
from pathlib import Path

# Instructions that multiply bytes and add the products up in 32 bits. Without one of them, 8-bit products take as long
# as products of floats in ONNX Runtime.
FAST_INT8 = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm"})
CPU_INFO = Path("/proc/cpuinfo")
ARM = ("arm64", "aarch64")


def available_processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_fast_int8() -> bool:
    """Whether products of 8-bit integers are faster than those of floats here.

    Where the system does not say what the processor can do, one for 64-bit ARM is taken to have them (all of Apple's
    have), and so is any other: the processors sold since 2021 do, and on an older one little is lost.
    """
    features = _features()
    return not features or not features.isdisjoint(FAST_INT8)


def _features() -> frozenset[str]:
    """The names that Linux has for what the first processor can do; empty where it does not say."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    name = "Features" if platform.machine().lower() in ARM else "flags"
    for line in lines:
        key, colon, value = line.partition(":")
        if colon and key.strip() == name:
            return frozenset(value.split())
    return frozenset()
