"""An index that keeps a step: who opens it gets the step, it goes wherever the index goes, and damage is named."""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import DIM, FakeEncoder, docs, numbered
from xsearch import index as index_module
from xsearch.encoder.protocol import Encoder
from xsearch.encoder.step import LinearStep
from xsearch.encoder.stepped import SteppedEncoder, step_bytes
from xsearch.errors import EncoderError, FingerprintMismatchError, IndexDamagedError
from xsearch.index import Index
from xsearch.maintain.migrate import migrate_index
from xsearch.maintain.repair import repair_index
from xsearch.maintain.verify import verify_index
from xsearch.store.archive import export_archive
from xsearch.store.catalog import CATALOG_FILE, open_catalog, read_setting, write_setting
from xsearch.store.location import find_catalog
from xsearch.store.unpack import import_archive


def step_for(encoder: Encoder, *, seed: int = 0, dim_out: int = DIM) -> LinearStep:
    draw = np.random.default_rng(seed)
    matrix = draw.normal(size=(DIM, dim_out)).astype(np.float32)
    offsets = (draw.normal(size=(2, dim_out)) / 10).astype(np.float32)
    facts = {"method": "projection", "directions": 3, "languages": {"de": 200}}
    return LinearStep(matrix, offsets[0], offsets[1], encoder.fingerprint.digest, facts)


@pytest.fixture
def stepped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index with a step; the encoder of its name is loaded from nowhere."""
    monkeypatch.setattr(index_module, "load_encoder", lambda name, device: FakeEncoder(name))
    with Index.create(tmp_path / "index", encoder="fake", step=step_for(FakeEncoder())) as index:
        index.add(numbered(20))
    return tmp_path / "index"


def test_vectors_and_queries_go_through_the_step(tmp_path: Path) -> None:
    bare = FakeEncoder()
    step = step_for(bare)
    texts = ["one two three", "four five six", "seven eight nine"]
    with Index.create(tmp_path / "index", encoder=bare, step=step) as index:
        index.add(docs(*texts))
        scores = {hit.doc_id: hit.score for hit in index.search("one two five", k=3, mode="dense")}
        stored = index.encoder.encode_passages(texts)
    passages, queries = bare.encode_passages(texts), bare.encode_queries(["one two five"])
    np.testing.assert_allclose(stored, step.passages(passages), atol=1e-6)
    expected = step.passages(passages) @ step.queries(queries)[0]
    assert scores == pytest.approx({f"d{place + 1}": score for place, score in enumerate(expected)}, abs=2e-3)


def test_it_is_opened_with_nothing_more_to_say(stepped: Path) -> None:
    with Index.open(stepped) as index:
        assert isinstance(index.encoder, SteppedEncoder)
        assert index.encoder.fingerprint == index.fingerprint
        assert index.fingerprint.name == "fake"
        index.add(numbered(5, start=20))
        found = index.search("word3 part1", k=1)
    assert found[0].doc_id == "doc-00003"
    report = verify_index(stepped)
    assert report.in_order
    assert report.lowest_cosine is not None
    assert report.lowest_cosine > 0.999


def test_it_is_opened_with_the_encoder_as_it_is_and_with_the_step(stepped: Path) -> None:
    bare = FakeEncoder()
    for encoder in (bare, SteppedEncoder(bare, step_for(bare)), "fake"):
        with Index.open(stepped, encoder=encoder) as index:
            assert index.search("word3 part1", k=1)[0].doc_id == "doc-00003"


def test_another_encoder_and_another_step_are_refused(stepped: Path) -> None:
    bare = FakeEncoder()
    with pytest.raises(FingerprintMismatchError, match="built with the encoder fake"):
        Index.open(stepped, encoder=FakeEncoder("other"))
    with pytest.raises(FingerprintMismatchError, match="they differ in: step"):
        Index.open(stepped, encoder=SteppedEncoder(bare, step_for(bare, seed=1)))


def test_an_index_without_a_step_refuses_an_encoder_with_one(tmp_path: Path) -> None:
    bare = FakeEncoder()
    Index.create(tmp_path / "index", encoder=bare).close()
    with pytest.raises(FingerprintMismatchError, match="they differ in: step ''"):
        Index.open(tmp_path / "index", encoder=SteppedEncoder(bare, step_for(bare)))
    with open_catalog(tmp_path / "index" / CATALOG_FILE).reading() as connection:
        assert read_setting(connection, "step") is None
        assert "step" not in read_setting(connection, "fingerprint")


def test_a_step_of_another_encoder_makes_no_index(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="The step was fitted for the encoder"):
        Index.create(tmp_path / "index", encoder=FakeEncoder(), step=step_for(FakeEncoder("other")))
    assert not (tmp_path / "index").exists()


def test_a_step_may_make_vectors_shorter(tmp_path: Path) -> None:
    bare = FakeEncoder()
    with Index.create(tmp_path / "index", encoder=bare, step=step_for(bare, dim_out=8)) as index:
        index.add(numbered(10))
        assert index.fingerprint.dim == 8
        assert index.search("word3 part1", k=1)[0].doc_id == "doc-00003"
        assert index.verify() > 0


def test_info_tells_of_it(stepped: Path, tmp_path: Path) -> None:
    with Index.open(stepped) as index:
        info = index.info()
    assert info.step == {"method": "projection", "directions": 3, "languages": {"de": 200}}
    assert info.to_dict()["fingerprint"]["step"] == step_for(FakeEncoder()).digest
    with Index.create(tmp_path / "plain", encoder=FakeEncoder()) as index:
        assert index.info().step is None


def test_an_archive_keeps_it(stepped: Path, tmp_path: Path) -> None:
    export_archive(stepped, find_catalog(stepped), tmp_path / "index.xsearch")
    import_archive(tmp_path / "index.xsearch", tmp_path / "copy")
    with Index.open(tmp_path / "copy") as index:
        assert isinstance(index.encoder, SteppedEncoder)
        assert index.search("word3 part1", k=1)[0].doc_id == "doc-00003"


def test_vectors_that_are_lost_are_made_again_with_it(stepped: Path) -> None:
    with Index.open(stepped) as index:
        before = index.search("word3 part1", k=5)
    file = next((stepped / "vectors").iterdir())
    file.write_bytes(file.read_bytes()[:-40])
    assert repair_index(stepped).in_order
    with Index.open(stepped) as index:
        assert [hit.doc_id for hit in index.search("word3 part1", k=5)] == [hit.doc_id for hit in before]
    assert verify_index(stepped).in_order


def test_a_migration_drops_it_and_says_so(stepped: Path) -> None:
    report = migrate_index(stepped, FakeEncoder("other"))
    assert (report.changed, report.step_dropped, report.to_dict()["step_dropped"]) == (True, True, True)
    with Index.open(stepped) as index:
        assert index.fingerprint.step == ""
        assert isinstance(index.encoder, FakeEncoder)
        assert index.info().step is None
        assert index.search("word3 part1", k=1)[0].doc_id == "doc-00003"
    assert verify_index(stepped).in_order
    assert not migrate_index(stepped, FakeEncoder("third")).step_dropped


def test_a_migration_to_the_same_encoder_takes_the_step_away(stepped: Path) -> None:
    assert migrate_index(stepped, FakeEncoder()).step_dropped
    with Index.open(stepped) as index:
        assert index.fingerprint == FakeEncoder().fingerprint


def test_a_setting_that_was_altered_is_told(stepped: Path) -> None:
    other = base64.b64encode(step_bytes(step_for(FakeEncoder(), seed=1))).decode()
    with closing(sqlite3.connect(stepped / CATALOG_FILE)) as connection, connection:
        connection.execute("UPDATE settings SET value = ? WHERE key = 'step'", (f'"{other}"',))
    with pytest.raises(IndexDamagedError, match="setting 'step' otherwise than it was written"):
        Index.open(stepped)


@pytest.mark.parametrize("value", ["", "AAAA", "~", 3, {"matrix": []}])
def test_a_setting_that_is_not_a_step_is_told(stepped: Path, value: object) -> None:
    with open_catalog(stepped / CATALOG_FILE).transaction() as connection:
        write_setting(connection, "step", value)
    with pytest.raises(IndexDamagedError, match="holds a step that cannot be read"):
        Index.open(stepped)


def test_a_setting_that_is_gone_is_told(stepped: Path) -> None:
    """The fingerprint tells that there was one."""
    with closing(sqlite3.connect(stepped / CATALOG_FILE)) as connection, connection:
        connection.execute("DELETE FROM settings WHERE key IN ('step', 'step.checksum')")
    with pytest.raises(FingerprintMismatchError, match="they differ in: step"):
        Index.open(stepped, encoder=FakeEncoder())
