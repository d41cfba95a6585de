"""``xsearch index`` with vectors that somebody else made: in a file beside the records, or in the records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Xsearch, builtin, refused, write_lines
from xsearch.index import Index

TEXTS = {"n": "The Nile is a river.", "z": "Die Zugspitze ist ein Berg.", "t": "绿茶来自植物的叶子。"}


def vectors() -> Any:
    return builtin().encode_passages(list(TEXTS.values()))


def records(**fields: list[Any]) -> list[dict[str, Any]]:
    return [
        {"id": doc_id, "text": text, "year": 2000 + place, **{name: values[place] for name, values in fields.items()}}
        for place, (doc_id, text) in enumerate(TEXTS.items())
    ]


def nearest(query: str) -> str:
    with Index.open(Path("indexes", "news")) as index:
        hit = index.search(query, k=1, mode="dense")[0]
        # The vectors given are those of passages, and a query goes through its own door.
        passage, asked = builtin().encode_passages([hit.text])[0], builtin().encode_queries([query])[0]
        assert hit.score == pytest.approx(float(passage @ asked), abs=2e-3)
        assert hit.metadata == {"year": 2000 + list(TEXTS).index(hit.doc_id)}
        return hit.doc_id


def test_a_file_of_rows(xsearch: Xsearch, tmp_path: Path) -> None:
    write_lines(tmp_path / "c.jsonl", *records())
    np.save(tmp_path / "v.npy", 5 * vectors())
    first = xsearch("index", "news", "c.jsonl", "--vectors", "v.npy")
    assert (first.code, first.err) == (0, "")
    assert first.out.splitlines()[:2] == [
        "3 documents read: 3 added",
        "3 passages with given vectors: en 1, de 1, zh 1",
    ]
    assert [nearest(text) for text in TEXTS.values()] == list(TEXTS)
    again = xsearch("index", "news", "c.jsonl", "--vectors", "v.npy", "--json").json
    assert (again["unchanged"], again["added"], again["passages"]) == (3, 0, 0)
    assert xsearch("verify", "news").code == 0


def test_a_field_of_the_records(xsearch: Xsearch, tmp_path: Path) -> None:
    write_lines(tmp_path / "c.jsonl", *records(embedding=vectors().tolist()), {"id": "bad", "text": ""})
    outcome = xsearch("index", "news", "c.jsonl", "--vector-field", "embedding", "--lang", "und")
    assert (outcome.code, outcome.err) == (0, f"Skipped {tmp_path / 'c.jsonl'}:4: no text\n")
    assert outcome.out.splitlines()[1] == "3 passages with given vectors: und 3"
    assert [nearest(text) for text in TEXTS.values()] == list(TEXTS)


def test_parquet(xsearch: Xsearch, tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(records(embedding=vectors().tolist())), tmp_path / "c.parquet")
    outcome = xsearch("index", "news", "c.parquet", "--vector-field", "embedding")
    assert (outcome.code, outcome.err) == (0, "")
    assert [nearest(text) for text in TEXTS.values()] == list(TEXTS)


class TestRefused:
    def test_a_record_that_cannot_be_read(self, xsearch: Xsearch, tmp_path: Path) -> None:
        """Its row would go to the record after it."""
        lines = write_lines(tmp_path / "c.jsonl", *records())
        lines.write_text(lines.read_text(encoding="utf-8").replace(TEXTS["z"], " "), encoding="utf-8")
        np.save(tmp_path / "v.npy", vectors())
        refused(xsearch("index", "news", "c.jsonl", "--vectors", "v.npy"), "c.jsonl:2: no text", "has a row")
        with Index.open(Path("indexes", "news")) as index:
            assert len(index) == 0

    def test_another_number_of_rows(self, xsearch: Xsearch, tmp_path: Path) -> None:
        write_lines(tmp_path / "c.jsonl", *records())
        for name, rows in (("less", vectors()[:2]), ("more", np.concatenate([vectors(), vectors()]))):
            np.save(tmp_path / f"{name}.npy", rows)
            refused(xsearch("index", name, "c.jsonl", "--vectors", f"{name}.npy"), "documents came with", "vectors.")

    def test_another_size(self, xsearch: Xsearch, tmp_path: Path) -> None:
        write_lines(tmp_path / "c.jsonl", *records())
        np.save(tmp_path / "v.npy", vectors()[:, :-1])
        refused(xsearch("index", "news", "c.jsonl", "--vectors", "v.npy"), "Row 0 (from 0), the document 'n'")

    def test_no_such_file_makes_no_index(self, xsearch: Xsearch, tmp_path: Path) -> None:
        write_lines(tmp_path / "c.jsonl", *records())
        refused(xsearch("index", "news", "c.jsonl", "--vectors", "v.npy"), "v.npy: cannot be read: No such file")
        assert not (tmp_path / "indexes").exists()

    def test_no_such_field(self, xsearch: Xsearch, tmp_path: Path) -> None:
        write_lines(tmp_path / "c.jsonl", *records())
        refused(xsearch("index", "news", "c.jsonl", "--vector-field", "v"), "'n' has no vector in the field 'v'")

    @pytest.mark.parametrize(
        ("options", "part"),
        [
            (["a", "--vectors", "v.npy", "--vector-field", "v"], "do not go together"),
            (["a", "b", "--vectors", "v.npy"], "goes with one SOURCE"),
            (["a", "--vectors", "v.npy", "--dry-run"], "nothing must"),
        ],
    )
    def test_options_that_do_not_go_together(self, xsearch: Xsearch, options: list[str], part: str) -> None:
        outcome = xsearch("index", "news", *options)
        assert outcome.code == 2
        assert part in outcome.err
