"""A whole index in one file and back: one state, every member checked, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.backends import BACKENDS
from tests.fakes import FakeEncoder, numbered
from xsearch.errors import (
    ArchiveError,
    IndexDamagedError,
    IndexExistsError,
    IndexLockedError,
    IndexTooNewError,
    StoreError,
)
from xsearch.index import Index
from xsearch.maintain.verify import verify_index
from xsearch.records import Document
from xsearch.search.retrieve import Mode
from xsearch.store import archive as archive_module
from xsearch.store import unpack
from xsearch.store.archive import MANIFEST, export_archive
from xsearch.store.catalog import CATALOG_FILE, open_catalog
from xsearch.store.listing import delete_segments, insert_segment, read_segments
from xsearch.store.location import find_catalog
from xsearch.store.unpack import import_archive

HERE = Path(__file__).resolve().parents[2]


def content(path: Path) -> list[object]:
    with Index.open(path, encoder=FakeEncoder()) as index:
        return [index.verify(), list(index), index.search("word3 part1", k=1000), index.info().generation]


def export(index: Path, file: Path) -> archive_module.Archived:
    return export_archive(index, open_catalog(index / CATALOG_FILE), file)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 39 documents in two segments; tests work on copies."""
    path = tmp_path_factory.mktemp("built") / "index"
    with Index.create(path, encoder=FakeEncoder()) as index:
        index.add(numbered(25))
        index.add(numbered(15, start=25))
        index.delete(["doc-00007"])
    return path


@pytest.fixture(scope="module")
def packed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its archive; tests work on copies."""
    file = tmp_path_factory.mktemp("packed") / "index.xsearch"
    export(built, file)
    return file


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copy"))


def repack(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive with other contents; the manifest says of them what is true."""
    with zipfile.ZipFile(source) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    if MANIFEST in contents and contents[MANIFEST].startswith(b"{"):
        manifest = json.loads(contents[MANIFEST])
        manifest["members"] = [
            {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in contents.items()
            if name != MANIFEST
        ]
        contents[MANIFEST] = json.dumps(manifest).encode()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return target


def nothing_left(folder: Path, *known: str) -> None:
    assert sorted(file.name for file in folder.iterdir()) == sorted(known)


ODD = Document("odd", "a\U0001f600b \u0e01", "'", "th", "file, 1", {"a": [1.50, None, "\u00e9"]})


@pytest.mark.parametrize("catalog_url", BACKENDS, indirect=True)
def test_out_of_either_database_into_a_file(catalog_url: str | None, tmp_path: Path) -> None:
    path, file, copy = tmp_path / "index", tmp_path / "index.xsearch", tmp_path / "copy"
    with Index.create(path, encoder=FakeEncoder(), catalog=catalog_url) as index:
        index.set_search(recall=0.9, factory="IVF4,PQ4x4fs")
        index.add([*numbered(40), ODD])
        index.delete(["doc-00007"])
        expected = list(index), index.find("even = true"), index.info().passages
    done = export_archive(path, find_catalog(path), file)
    assert import_archive(file, copy).members == done.members == 2
    with Index.open(path, encoder=FakeEncoder()) as index, Index.open(copy, encoder=FakeEncoder()) as other:
        assert (list(other), other.find("even = true"), other.info().passages) == expected
        for query in ("word3 part1", "\u0e01"):
            found, expected_hits = (list(some.search(query, k=1000, mode=Mode.DENSE)) for some in (other, index))
            assert found == expected_hits
            # Words of what was deleted count in the one, and are not in the other.
            one, same = (some.search(query, k=1000, mode=Mode.LEXICAL) for some in (index, other))
            assert {hit.passage_id for hit in one} == {hit.passage_id for hit in same} != set()
        other.add(numbered(2, start=90))
    assert verify_index(copy, encoder=FakeEncoder()).in_order
    assert (copy / CATALOG_FILE).is_file()


class TestThereAndBack:
    def test_the_same_index(self, built: Path, packed: Path, tmp_path: Path) -> None:
        done = import_archive(packed, tmp_path / "new" / "index")
        assert (done.members, done.size, done.index) == (3, packed.stat().st_size, str(tmp_path / "new" / "index"))
        assert content(tmp_path / "new" / "index") == content(built)
        nothing_left(tmp_path / "new", "index")
        with Index.open(tmp_path / "new" / "index", encoder=FakeEncoder()) as index:
            index.add([Document("more", "more words")])
            assert index.verify() == 56

    def test_what_is_in_it(self, built: Path, packed: Path) -> None:
        with zipfile.ZipFile(packed) as archive:
            manifest = json.loads(archive.read(MANIFEST))
            names = archive.namelist()
        assert names == [CATALOG_FILE, "vectors/000001.npy", "vectors/000002.npy", MANIFEST]
        assert manifest["format"] == "xsearch-index"
        assert (manifest["version"], manifest["schema_version"]) == (1, 3)
        vectors = built / "vectors" / "000002.npy"
        assert manifest["members"][2] == {
            "name": "vectors/000002.npy",
            "size": vectors.stat().st_size,
            "sha256": hashlib.sha256(vectors.read_bytes()).hexdigest(),
        }

    def test_only_the_archive_is_left(self, packed: Path) -> None:
        nothing_left(packed.parent, "index.xsearch")

    def test_an_empty_index(self, tmp_path: Path) -> None:
        Index.create(tmp_path / "empty", encoder=FakeEncoder()).close()
        assert export(tmp_path / "empty", tmp_path / "file").members == 1
        import_archive(tmp_path / "file", tmp_path / "back")
        assert content(tmp_path / "back") == [0, [], content(tmp_path / "empty")[2], 0]

    def test_what_packs_too_well_is_stored(self, tmp_path: Path) -> None:
        """Whatever is exported can be imported."""
        with Index.create(tmp_path / "index", encoder=FakeEncoder()) as index:
            index.add([Document("same", "a", metadata={"long": "x" * 3_000_000})])
        export(tmp_path / "index", tmp_path / "file")
        with zipfile.ZipFile(tmp_path / "file") as archive:
            assert archive.getinfo(CATALOG_FILE).compress_type == zipfile.ZIP_STORED
        import_archive(tmp_path / "file", tmp_path / "back")
        assert content(tmp_path / "back") == content(tmp_path / "index")

    def test_an_empty_folder_is_a_place_for_it(self, packed: Path, built: Path, tmp_path: Path) -> None:
        (tmp_path / "index").mkdir()
        import_archive(packed, tmp_path / "index")
        assert content(tmp_path / "index") == content(built)


class TestExport:
    def test_one_state_beside_a_writer(self, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is committed after the catalogue was copied does not show."""
        before = content(copy)
        original = archive_module._listed

        def listed(file: Path) -> Any:
            with Index.open(copy, encoder=FakeEncoder()) as index:
                index.add([Document("more", "more words")])
            return original(file)

        monkeypatch.setattr(archive_module, "_listed", listed)
        export(copy, tmp_path / "file")
        import_archive(tmp_path / "file", tmp_path / "back")
        assert content(tmp_path / "back") == before

    def test_files_that_go_while_it_is_written(
        self, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a compaction takes them away: the archive is of the state after it."""
        original = archive_module._listed
        calls: list[Path] = []

        def listed(file: Path) -> Any:
            calls.append(file)
            found = original(file)
            if len(calls) == 1:
                vectors = copy / "vectors" / "000002.npy"
                vectors.rename(vectors.with_name("000009.npy"))
                with open_catalog(copy / CATALOG_FILE).transaction() as connection:
                    second = read_segments(connection)[1]
                    delete_segments(connection, [2])
                    insert_segment(connection, replace(second, number=9))
            return found

        monkeypatch.setattr(archive_module, "_listed", listed)
        export(copy, tmp_path / "file")
        assert len(calls) == 2
        import_archive(tmp_path / "file", tmp_path / "back")
        assert content(tmp_path / "back") == content(copy)

    def test_a_file_that_is_missing(self, copy: Path, tmp_path: Path) -> None:
        (copy / "vectors" / "000001.npy").unlink()
        with pytest.raises(StoreError, match="xsearch repair NAME"):
            export(copy, tmp_path / "file")
        nothing_left(tmp_path, "copy")

    def test_a_damaged_file_is_not_exported(self, copy: Path, tmp_path: Path) -> None:
        vectors = copy / "vectors" / "000002.npy"
        vectors.write_bytes(vectors.read_bytes()[:-1] + b"?")
        with pytest.raises(IndexDamagedError, match=r"000002\.npy"):
            export(copy, tmp_path / "file")
        nothing_left(tmp_path, "copy")

    def test_a_place_that_cannot_be_written(self, built: Path, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="cannot be"):
            export(built, tmp_path / "nowhere" / "file")

    def test_an_archive_that_is_there_is_replaced(self, built: Path, packed: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("an older one")
        export(built, tmp_path / "file")
        assert zipfile.is_zipfile(tmp_path / "file")


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("../evil.npy", "no file of an index"),
            ("/etc/evil", "no file of an index"),
            ("vectors/../../evil.npy", "no file of an index"),
            ("vectors\\000003.npy", "no file of an index"),
            ("vectors/000003.npy/", "no file of an index"),
            ("vectors/", "no file of an index"),
            ("vectors/3.npy", "no file of an index"),
            ("vectors/000003.npy\n", "no file of an index"),
            ("vectors/\uff11\uff11\uff11\uff11\uff11\uff11.npy", "no file of an index"),
            ("VECTORS/000003.npy", "no file of an index"),
            ("C:/000003.npy", "no file of an index"),
            ("LOCK", "no file of an index"),
            ("catalog.sqlite-wal", "no file of an index"),
            ("vectors/000003.npy", "does not hold the files that its catalog.sqlite lists"),
            ("ann/000003.faiss", "does not hold the files that its catalog.sqlite lists"),
        ],
    )
    def test_other_names(self, packed: Path, tmp_path: Path, name: str, what: str) -> None:
        file = repack(packed, tmp_path / "file", lambda contents: contents.update({name: b"evil"}))
        with pytest.raises(ArchiveError, match=what):
            import_archive(file, tmp_path / "index")
        nothing_left(tmp_path, "file")

    @pytest.mark.parametrize("name", [MANIFEST, CATALOG_FILE, "vectors/000002.npy"])
    def test_a_member_that_is_not_there(self, packed: Path, tmp_path: Path, name: str) -> None:
        file = repack(packed, tmp_path / "file", lambda contents: contents.__delitem__(name))
        with pytest.raises(ArchiveError):
            import_archive(file, tmp_path / "index")
        nothing_left(tmp_path, "file")

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_a_name_twice(self, packed: Path, tmp_path: Path) -> None:
        file = shutil.copy(packed, tmp_path / "file")
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("vectors/000001.npy", b"other")
        with pytest.raises(ArchiveError, match="a name twice"):
            import_archive(Path(file), tmp_path / "index")

    def test_a_link(self, packed: Path, tmp_path: Path) -> None:
        file = Path(shutil.copy(packed, tmp_path / "file"))
        entry = zipfile.ZipInfo("vectors/000003.npy")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(entry, "/etc/passwd")
        with pytest.raises(ArchiveError, match="as a link"):
            import_archive(file, tmp_path / "index")

    def test_a_bomb(self, packed: Path, tmp_path: Path) -> None:
        file = Path(shutil.copy(packed, tmp_path / "file"))
        with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("vectors/000003.npy", b"\0" * 5_000_000)
        with pytest.raises(ArchiveError, match="unpacks to more than 200 times its size"):
            import_archive(file, tmp_path / "index")

    def test_other_ways_to_pack(self, packed: Path, tmp_path: Path) -> None:
        file = Path(shutil.copy(packed, tmp_path / "file"))
        with zipfile.ZipFile(file, "a", zipfile.ZIP_LZMA) as archive:
            archive.writestr("vectors/000003.npy", b"x" * 100)
        with pytest.raises(ArchiveError, match="packed in a way that is not ours"):
            import_archive(file, tmp_path / "index")

    def test_no_room(self, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
        monkeypatch.setattr(unpack.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(StoreError, match=r"unpacks to [\d,]+ bytes.*10,000 bytes free.*Make room"):
            import_archive(packed, tmp_path / "index")
        nothing_left(tmp_path)

    def test_too_many_files(self, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(unpack, "MAX_MEMBERS", 3)
        with pytest.raises(ArchiveError, match="holds 4 files"):
            import_archive(packed, tmp_path / "index")

    @pytest.mark.parametrize(
        "manifest",
        [
            b"",
            b"[]",
            b"7",
            b"{}",
            b"[" * 100_000,
            b"\xff",
            b'{"format": "other", "version": 1}',
            b"null",
            b'{"members": 3}',
        ],
    )
    def test_other_manifests(self, packed: Path, tmp_path: Path, manifest: bytes) -> None:
        # In a list, so that it is left as it is.
        file = tmp_path / "file"
        with zipfile.ZipFile(packed) as source, zipfile.ZipFile(file, "w") as target:
            for name in source.namelist():
                target.writestr(name, manifest if name == MANIFEST else source.read(name))
        with pytest.raises(ArchiveError):
            import_archive(file, tmp_path / "index")
        nothing_left(tmp_path, "file")

    @pytest.mark.parametrize(("field", "value"), [("schema_version", 4), ("version", 2)])
    def test_a_newer_xsearch(self, packed: Path, tmp_path: Path, field: str, value: int) -> None:
        def change(contents: dict[str, bytes]) -> None:
            contents[MANIFEST] = json.dumps({**json.loads(contents[MANIFEST]), field: value}).encode()

        file = repack(packed, tmp_path / "file", change)
        with pytest.raises(IndexTooNewError, match="pip install -U xsearch"):
            import_archive(file, tmp_path / "index")

    @pytest.mark.parametrize(
        ("statement", "what"),
        [
            ("CREATE TRIGGER t AFTER INSERT ON documents BEGIN DELETE FROM segments; END", "triggers or views"),
            ("CREATE VIEW v AS SELECT 1", "triggers or views"),
            ("DELETE FROM segments WHERE number = 2", "does not hold the files that its catalog.sqlite lists"),
            ("UPDATE segments SET sha256 = 'other'", "cannot be read"),
            ("DELETE FROM settings", "cannot be read"),
            ("DROP TABLE segments", "cannot be read"),
        ],
    )
    def test_other_catalogues(self, packed: Path, tmp_path: Path, statement: str, what: str) -> None:
        def change(contents: dict[str, bytes]) -> None:
            catalog = tmp_path / "catalog"
            catalog.write_bytes(contents[CATALOG_FILE])
            with closing(sqlite3.connect(catalog)) as connection:
                connection.execute(statement)
                connection.commit()
                connection.execute("PRAGMA journal_mode=DELETE")
            contents[CATALOG_FILE] = catalog.read_bytes()
            catalog.unlink()

        file = repack(packed, tmp_path / "file", change)
        with pytest.raises(ArchiveError, match=what):
            import_archive(file, tmp_path / "index")
        nothing_left(tmp_path, "file")

    def test_a_place_that_is_taken(self, packed: Path, copy: Path, tmp_path: Path) -> None:
        before = content(copy)
        with pytest.raises(IndexExistsError):
            import_archive(packed, copy)
        assert content(copy) == before
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "LOCK").write_text("")
        (tmp_path / "file").write_text("")
        for place in ("other", "file"):
            with pytest.raises(IndexExistsError):
                import_archive(packed, tmp_path / place)
        nothing_left(tmp_path, "copy", "other", "file")

    def test_two_at_a_time(self, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        original = unpack._check_catalogue

        def second(*arguments: Any) -> None:
            with pytest.raises(IndexLockedError, match="is being imported by process"):
                import_archive(packed, tmp_path / "index")
            original(*arguments)

        monkeypatch.setattr(unpack, "_check_catalogue", second)
        import_archive(packed, tmp_path / "index")
        nothing_left(tmp_path, "index")

    @pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x05\x06" + b"\0" * 18])
    def test_no_archive(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "file").write_bytes(data)
        with pytest.raises(ArchiveError, match="file"):
            import_archive(tmp_path / "file", tmp_path / "index")
        nothing_left(tmp_path, "file")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ArchiveError, match="cannot be read"):
            import_archive(tmp_path / "file", tmp_path / "index")


def test_cut_and_flipped_anywhere(packed: Path, built: Path, tmp_path: Path) -> None:
    """Each is a named error that leaves nothing behind, or, where nothing depends on the byte, the same index."""
    data = packed.read_bytes()
    rng = random.Random(3)
    file, index = tmp_path / "file", tmp_path / "index"
    places = sorted({*rng.sample(range(len(data)), 100), *range(len(data) - 600, len(data), 4)})
    for place in rng.sample(range(len(data)), 60):
        file.write_bytes(data[:place])
        with pytest.raises(ArchiveError, match=str(file)):
            import_archive(file, index)
        nothing_left(tmp_path, "file")
    expected = content(built)
    same = 0
    for place in places:
        changed = bytearray(data)
        changed[place] ^= rng.randrange(1, 256)
        file.write_bytes(changed)
        try:
            import_archive(file, index)
        except (ArchiveError, IndexTooNewError):
            nothing_left(tmp_path, "file")
        else:
            same += 1
            assert content(index) == expected, place
            shutil.rmtree(index)
    # Dates, versions and attributes in the two headers of each of four members.
    assert same < len(places) / 3


@pytest.mark.parametrize("step", ["the first file", "the last file", "before the rename"])
def test_an_import_that_is_killed(packed: Path, built: Path, tmp_path: Path, step: str) -> None:
    command = [sys.executable, "-m", "tests.store.test_archive", str(packed), str(tmp_path / "index"), step]
    assert subprocess.run(command, cwd=HERE, check=False).returncode == 77
    nothing_left(tmp_path, ".index.import")
    assert not list(tmp_path.glob(f"*/{CATALOG_FILE}"))  # what `xsearch list` goes by
    import_archive(packed, tmp_path / "index")
    nothing_left(tmp_path, "index")
    assert content(tmp_path / "index") == content(built)


def die(*_arguments: object, **_options: object) -> None:
    os._exit(77)


def die_at(step: str) -> None:
    original, calls = unpack.publish, []

    def publish(path, write):  # type: ignore[no-untyped-def]
        calls.append(path)
        if len(calls) == {"the first file": 1, "the last file": 3}.get(step):
            die()
        return original(path, write)

    unpack.publish = publish  # type: ignore[assignment]
    if step == "before the rename":
        unpack.publish_folder = die  # type: ignore[assignment]


if __name__ == "__main__":
    die_at(sys.argv[3])
    import_archive(Path(sys.argv[1]), Path(sys.argv[2]))
