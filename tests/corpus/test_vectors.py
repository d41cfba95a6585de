"""Vectors that others made: array files and fields of records, or an error that names what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xsearch.corpus.vectors import open_vectors, split_field
from xsearch.errors import ReadError
from xsearch.records import Document


class TestFile:
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", ">f4"])
    def test_rows_are_those_that_were_saved(self, tmp_path: Path, dtype: str) -> None:
        rows = np.arange(12).reshape(4, 3).astype(dtype)
        np.save(tmp_path / "v.npy", rows)
        opened = open_vectors(str(tmp_path / "v.npy"))
        assert opened.dtype == np.dtype(dtype)
        assert opened.tolist() == rows.tolist()

    @pytest.mark.parametrize(
        ("saved", "match"),
        [
            (np.ones(3), r"holds \(3,\) of type float64"),
            (np.ones((2, 2, 2)), r"holds \(2, 2, 2\) of type float64"),
            (np.array([["a", "b"]]), r"holds \(1, 2\) of type <U1"),
            (np.ones((2, 2), dtype=complex), r"holds \(2, 2\) of type complex128"),
            (np.array([{}]), "not an array file"),
        ],
    )
    def test_other_arrays(self, tmp_path: Path, saved: Any, match: str) -> None:
        np.save(tmp_path / "v.npy", saved)
        with pytest.raises(ReadError, match=match):
            open_vectors(str(tmp_path / "v.npy"))

    def test_no_array(self, tmp_path: Path) -> None:
        path = tmp_path / "v.npy"
        with pytest.raises(ReadError, match=r"v\.npy: cannot be read: No such file"):
            open_vectors(str(path))
        np.save(path, np.ones((4, 3)))
        whole = path.read_bytes()
        for content in (b"", b"text", whole[:40], whole[:-1], b"PK\x03\x04" + whole):
            path.write_bytes(content)
            with pytest.raises(ReadError, match=r"v\.npy: not an array file"):
                open_vectors(str(path))


class TestField:
    def test_it_leaves_the_metadata(self) -> None:
        given = [Document(str(n), "text", metadata={"n": n, "v": [n, 0.5, None]}) for n in range(3)]
        documents, vectors = split_field(iter(given), "v")
        found = []
        for vector in vectors:
            found.append((next(documents), vector.tolist()))
        assert [document for document, _ in found] == [Document(str(n), "text", metadata={"n": n}) for n in range(3)]
        assert [row[:2] for _, row in found] == [[n, 0.5] for n in range(3)]
        # Null is what NaN becomes on its way through JSON.
        assert all(np.isnan(row[2]) for _, row in found)
        assert next(documents, None) is None

    @pytest.mark.parametrize("value", [None, [], "x", 5, {"a": 1}, [[1], [2]], [[1], [2, 3]], ["a"], [{}]])
    def test_no_vector_there(self, value: Any) -> None:
        _, vectors = split_field([Document("d7", "text", source="s.jsonl", metadata={"v": value})], "v")
        with pytest.raises(ReadError, match=r"s\.jsonl: the document 'd7' has no vector in the field 'v'"):
            next(vectors)
        _, vectors = split_field([Document("d7", "text", source="s.jsonl")], "v")
        with pytest.raises(ReadError, match="Name another field with --vector-field"):
            next(vectors)
