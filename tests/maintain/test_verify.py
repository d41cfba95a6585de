"""Which passages are encoded again when an index is verified."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes import FakeEncoder
from xsearch.index import Index
from xsearch.maintain.verify import verify_index
from xsearch.records import Document


def test_given_vectors_are_not_compared_with_their_texts(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 16)).astype(np.float32)
    with Index.create(tmp_path / "one", encoder=FakeEncoder()) as index:
        index.add([Document(f"given-{number}", "any text", lang="en") for number in range(30)], vectors=vectors)
        assert verify_index(index.path, encoder=FakeEncoder(), sample=100).sampled == 0
        index.add([Document(f"encoded-{number}", f"text {number}", lang="en") for number in range(7)])
    report = verify_index(tmp_path / "one", encoder=FakeEncoder(), sample=100)
    assert report.in_order
    assert report.sampled == 7
