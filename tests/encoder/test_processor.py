"""What the processor multiplies fast, by what the system says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from xsearch.encoder import processor

ZEN4 = (
    "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx512_vbmi2\nbugs\t: x\n"
)
HASWELL = "processor\t: 0\nflags\t\t: fpu sse2 avx avx2 bmi2\nvmx flags\t: avx_vnni\n"
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd asimdrdm asimddp\n"
OLD_ARM = "processor\t: 0\nFeatures\t: fp asimd evtstrm\n"


@pytest.mark.parametrize(
    ("content", "machine", "fast"),
    [
        (ZEN4, "x86_64", True),
        (HASWELL, "x86_64", False),
        (HASWELL.replace("avx2", "avx_vnni"), "x86_64", True),
        (HASWELL.replace("avx2", "amx_int8"), "x86_64", True),
        (GRAVITON, "aarch64", True),
        (OLD_ARM, "aarch64", False),
        ("no such line\n", "x86_64", True),
        (None, "arm64", True),
        (None, "AMD64", True),
    ],
    ids=["vnni", "avx2", "avx-vnni", "amx", "dotprod", "old-arm", "unknown", "mac", "windows"],
)
def test_fast_int8(
    content: str | None, machine: str, fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "cpuinfo").write_text(content, encoding="utf-8")
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor.platform, "machine", lambda: machine)
    assert processor.has_fast_int8() is fast


def test_there_is_a_processor() -> None:
    assert processor.available_processors() >= 1
