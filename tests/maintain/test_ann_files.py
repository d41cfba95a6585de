"""FAISS files: checked, made anew, moved to another encoder's index and put into archives with the rest."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.fakes import FakeEncoder, numbered
from xsearch.index import Index
from xsearch.maintain.migrate import migrate_index
from xsearch.maintain.repair import repair_index
from xsearch.maintain.verify import verify_index
from xsearch.store import merge
from xsearch.store.archive import export_archive
from xsearch.store.catalog import CATALOG_FILE, open_catalog
from xsearch.store.folder import remove_index
from xsearch.store.unpack import import_archive


@pytest.fixture
def big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index that counts as a big one."""
    monkeypatch.setattr(merge, "EXACT_ROWS", 300)
    path = tmp_path / "index"
    with Index.create(path, encoder=FakeEncoder()) as index:
        index.add(numbered(400))
    assert len(ann_files(path)) == 1
    return path


def ann_files(path: Path) -> list[Path]:
    return list((path / "ann").iterdir())


def flip(path: Path) -> None:
    (file,) = ann_files(path)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x55
    file.write_bytes(data)


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path / CATALOG_FILE)) as connection:
        connection.execute(statement)
        connection.commit()


def hits(path: Path, encoder: FakeEncoder) -> list[tuple[str, int, float]]:
    with Index.open(path, encoder=encoder) as index:
        return [(hit.doc_id, hit.start, hit.score) for hit in index.search("word33 part1", k=5, mode="dense")]


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped byte": flip,
    "cut": lambda path: ann_files(path)[0].write_bytes(ann_files(path)[0].read_bytes()[:-100]),
    "missing": lambda path: ann_files(path)[0].unlink(),
    "a row that cannot be read": lambda path: execute(path, "UPDATE ann SET facts = '{}'"),
    "other rows": lambda path: execute(path, "UPDATE ann SET rows = rows - 1"),
    "of no segment": lambda path: execute(path, "UPDATE ann SET segments = '[77]'"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_made_anew(big: Path, damage: str) -> None:
    before = hits(big, FakeEncoder())
    assert verify_index(big, sample=0).in_order
    DAMAGES[damage](big)
    assert len(verify_index(big, sample=0).damages) == 1
    encoder = FakeEncoder()
    report = repair_index(big, encoder=encoder)
    assert (len(report.mended), report.encoded, encoder.calls) == (1, 0, [])
    assert verify_index(big, sample=0).in_order
    assert len(ann_files(big)) == 1
    assert hits(big, FakeEncoder()) == before


def test_it_goes_with_an_archive_and_with_a_migration(
    big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_archive(big, open_catalog(big / CATALOG_FILE), tmp_path / "file")
    import_archive(tmp_path / "file", tmp_path / "copy")
    assert [file.name for file in ann_files(tmp_path / "copy")] == [file.name for file in ann_files(big)]
    assert verify_index(tmp_path / "copy", encoder=FakeEncoder()).in_order
    migrate_index(big, FakeEncoder("other"))
    assert len(ann_files(big)) == 1
    assert verify_index(big, encoder=FakeEncoder("other"), sample=500).in_order
    monkeypatch.setattr(merge, "EXACT_ROWS", 50_000)
    with Index.create(tmp_path / "exact", encoder=FakeEncoder("other")) as index:
        index.add(numbered(400))
    assert hits(big, FakeEncoder("other")) == hits(tmp_path / "exact", FakeEncoder("other"))
    remove_index(big)
    assert not big.exists()
