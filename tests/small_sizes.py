"""Sizes so small that an index of a hundred passages goes through all that one of millions does."""

from __future__ import annotations

import pytest

from xsearch import ingest
from xsearch.store import ann, kinds, merge, tuning

SMALL_SIZES = (
    (merge, "EXACT_ROWS", 60),
    (merge, "SMALL_SEGMENTS", 4),
    (merge, "DEAD_ROWS", 10),
    (ann, "EXACT_AMONG", 12),
    (kinds, "TRAINING_VECTORS", 1_000),
    (kinds, "TRAINING_ROUNDS", 2),
    (tuning, "QUERIES", 20),
    (tuning, "TRIAL_ROWS", 100),
    (tuning, "TRIAL_QUERIES", 10),
    (tuning, "CANDIDATES", (40, 160)),
    (tuning, "TIMED_ROUNDS", 1),
    (ingest, "LOOK_DOCUMENTS", 64),
)


def set_small_sizes(monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Sets them: until a test ends, or for good in a process of its own."""
    for module, name, value in SMALL_SIZES:
        if monkeypatch is None:
            setattr(module, name, value)
        else:
            monkeypatch.setattr(module, name, value)
