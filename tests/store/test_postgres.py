"""The catalogue in PostgreSQL: what the folder says of it, what the server may do, and the same answers as SQLite's."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from tests.backends import NEEDS_POSTGRES, POSTGRES, schemas, server
from tests.fakes import FakeEncoder, docs, numbered
from xsearch.errors import (
    IndexDamagedError,
    IndexExistsError,
    InvalidArgumentError,
    MissingExtraError,
    SettingsMismatchError,
    StoreError,
)
from xsearch.index import Index
from xsearch.records import Document, Hits
from xsearch.store import postgres as postgres_module
from xsearch.store.catalog import CATALOG_FILE, read_setting, write_setting
from xsearch.store.folder import remove_index
from xsearch.store.location import LOCATION_FILE, find_catalog, make_catalog, without_password

HERE = Path(__file__).resolve().parents[2]


class TestUrl:
    """These need no server."""

    @pytest.mark.parametrize(
        ("url", "written"),
        [
            ("postgresql://ann@db.example:5433/news", "postgresql://ann@db.example:5433/news"),
            ("postgres://ann:secret@db.example/news", "postgresql://ann@db.example/news"),
            ("postgresql+psycopg://ann:s%40crt@db/news", "postgresql://ann@db/news"),
            ("postgresql:///news?host=/run&password=secret&sslmode=require", "postgresql:///news?host=%2Frun&sslmode=require"),
            ("postgresql://db/news?sslpassword=secret", "postgresql://db/news"),
        ],
    )  # fmt: skip
    def test_no_password_is_written_down(self, url: str, written: str) -> None:
        assert without_password(url) == written
        assert without_password(written) == written

    @pytest.mark.parametrize(
        ("url", "found"),
        [
            ("mysql://ann:secret@db/news", "begins with mysql://"),
            ("sqlite:///news.sqlite", "begins with sqlite://"),
            ("postgresql+asyncpg://ann:secret@db/news", r"begins with postgresql\+asyncpg://"),
            ("ann:secret@db/news", "cannot be read"),
            ("", "cannot be read"),
            ("postgresql://ann:secret@db:port/news", "cannot be read"),
        ],
    )
    def test_what_is_no_url_of_a_database(self, tmp_path: Path, url: str, found: str) -> None:
        with pytest.raises(InvalidArgumentError, match=found) as caught:
            Index.create(tmp_path / "index", encoder=FakeEncoder(), catalog=url)
        assert "secret" not in str(caught.value)
        assert "postgresql://user@host:5432/database" in caught.value.remedy
        assert not (tmp_path / "index" / LOCATION_FILE).exists()

    def test_a_server_that_is_away(self, tmp_path: Path) -> None:
        url = f"postgresql://ann:secret@/news?host={tmp_path}"
        with pytest.raises(StoreError, match=r"cannot be reached: .*PGPASSWORD or ~/\.pgpass") as caught:
            Index.create(tmp_path / "index", encoder=FakeEncoder(), catalog=url)
        assert "secret" not in str(caught.value)
        with Index.create(tmp_path / "index", encoder=FakeEncoder()) as index:
            index.add(docs("one"))
        with pytest.raises(SettingsMismatchError, match="in its own folder, not in postgresql://ann@/news"):
            Index.open(tmp_path / "index", catalog=url)

    def test_without_the_driver(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(MissingExtraError, match=r'pip install "xsearch\[postgres\]"'):
            Index.create(tmp_path / "index", encoder=FakeEncoder(), catalog="postgresql://ann@db/news")

    @pytest.mark.parametrize(
        "content",
        ["", "{", "[]", "{}", '{"catalog": "mysql://x", "schema": "xsearch_1"}',
         '{"catalog": "postgresql://ann:secret@db/news", "schema": "xsearch_1"}',
         '{"catalog": "postgresql://db/news", "schema": "public"}',
         '{"catalog": "postgresql://db/news", "schema": "xsearch_\\"; DROP"}'],
    )  # fmt: skip
    def test_a_damaged_file(self, tmp_path: Path, content: str) -> None:
        (tmp_path / LOCATION_FILE).write_text(content)
        for use in (Index.open, remove_index):
            with pytest.raises(IndexDamagedError, match=r"catalog\.json cannot be read"):
                use(tmp_path)
        assert (tmp_path / LOCATION_FILE).read_text() == content


def execute(statement: str) -> None:
    """As whoever looks after the server."""
    with server().begin() as connection:
        connection.exec_driver_sql(statement)


def schema_of(path: Path) -> str:
    return str(json.loads((path / LOCATION_FILE).read_text())["schema"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def index(path: Path, postgres: str) -> Iterator[Index]:
    with Index.create(path, encoder=FakeEncoder(), catalog=postgres) as made:
        made.add(numbered(20))
        yield made


def needs_postgres(thing: Any) -> Any:
    for mark in NEEDS_POSTGRES:
        thing = mark(thing)
    return thing


@needs_postgres
class TestFolder:
    def test_what_it_holds(self, index: Index, path: Path) -> None:
        assert sorted(file.name for file in path.iterdir()) == ["LOCK", LOCATION_FILE, "vectors"]
        assert json.loads((path / LOCATION_FILE).read_text()) == {
            "catalog": without_password(POSTGRES), "schema": schema_of(path),
        }  # fmt: skip
        with find_catalog(path).reading() as connection:
            assert schema_of(path) == f"xsearch_{read_setting(connection, 'identity')}"
        assert index.info().catalog == f"{without_password(POSTGRES)} (schema {schema_of(path)})"
        assert index.info().size > 100_000

    def test_one_database_holds_many(self, index: Index, path: Path, postgres: str) -> None:
        other = Index.create(path.with_name("other"), encoder=FakeEncoder(), catalog=postgres)
        other.add(docs("one"))
        assert (len(index), len(other)) == (20, 1)
        assert schema_of(path) != schema_of(other.path)
        remove_index(other.path)
        assert len(index) == 20

    def test_a_password_in_the_url_is_for_this_time(
        self, path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("PGPASSWORD", raising=False)
        secret = os.environ.get("PGPASSWORD", "") or PASSWORD
        url = sa.make_url(postgres).set(password=secret or "any").render_as_string(hide_password=False)
        Index.create(path, encoder=FakeEncoder(), catalog=url).close()
        assert len(Index.open(path, catalog=url)) == 0
        assert (secret or "any") not in (path / LOCATION_FILE).read_text()

    def test_another_database_than_asked_for(self, index: Index, path: Path) -> None:
        with pytest.raises(SettingsMismatchError, match="not in postgresql://ann@db/news"):
            Index.open(path, catalog="postgresql://ann:secret@db/news")

    def test_removing(self, index: Index, path: Path) -> None:
        schema = schema_of(path)
        assert schema in schemas()
        remove_index(path)
        assert schema not in schemas()
        assert not path.exists()
        with pytest.raises(IndexDamagedError, match="does not exist"):
            index.search("word3")

    def test_removing_what_is_half_removed(self, index: Index, path: Path) -> None:
        execute(f'DROP SCHEMA "{schema_of(path)}" CASCADE')
        with pytest.raises(IndexDamagedError, match=r"relation .*settings.* does not exist"):
            Index.open(path)
        remove_index(path)
        assert not path.exists()

    def test_a_killed_creation(self, path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The schema that nobody knows of goes when the next index is made there."""
        monkeypatch.setattr("xsearch.store.location.publish_file", interrupt)
        before = schemas()
        with pytest.raises(KeyboardInterrupt):
            Index.create(path, encoder=FakeEncoder(), catalog=postgres)
        (left,) = schemas() - before
        monkeypatch.undo()
        with Index.create(path, encoder=FakeEncoder()) as index:
            index.add(docs("one"))
        assert left not in schemas()
        assert sorted(file.name for file in path.iterdir()) == ["LOCK", CATALOG_FILE, "vectors"]

    def test_somebody_elses_folder(self, index: Index, path: Path, postgres: str) -> None:
        with pytest.raises(IndexExistsError):
            Index.create(path, encoder=FakeEncoder(), catalog=postgres)
        assert len(index) == 20


PASSWORD = os.environ.get("PGPASSWORD", "")


def interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


@needs_postgres
class TestServer:
    """Whatever it refuses is an error of ours, and nothing is half-written."""

    def test_a_wrong_password(self, index: Index, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PGPASSWORD", "wrong-one")
        try:
            server().connect().close()
        except sa.exc.OperationalError:
            pass
        else:
            pytest.skip("this server asks for no password")
        with pytest.raises(StoreError, match=r"cannot be reached: .*password authentication failed") as caught:
            Index.open(path)
        assert "wrong-one" not in str(caught.value)
        assert not isinstance(caught.value, IndexDamagedError)

    def test_a_user_that_it_does_not_know(self, path: Path, postgres: str) -> None:
        url = sa.make_url(postgres).set(username="nobody_of_that_name")
        with pytest.raises(StoreError, match="cannot be reached") as caught:
            Index.create(path, encoder=FakeEncoder(), catalog=url.render_as_string(hide_password=False))
        assert caught.value.remedy.startswith("See whether psql can connect")

    def test_a_database_in_another_encoding(self, path: Path, postgres: str) -> None:
        with server().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            may = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
            if not connection.exec_driver_sql(may).scalar():
                pytest.skip("this user makes no databases")
            connection.exec_driver_sql("DROP DATABASE IF EXISTS xsearch_latin")
            connection.exec_driver_sql("CREATE DATABASE xsearch_latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
            url = sa.make_url(postgres).set(database="xsearch_latin").render_as_string(hide_password=False)
            with pytest.raises(StoreError, match="in the encoding LATIN1"):
                Index.create(path, encoder=FakeEncoder(), catalog=url)
            connection.exec_driver_sql("DROP DATABASE xsearch_latin")

    def test_a_connection_that_is_killed(self, index: Index, path: Path) -> None:
        catalog = find_catalog(path)
        with pytest.raises(StoreError, match="cannot be reached"), catalog.transaction() as connection:
            write_setting(connection, "generation", 99)
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            execute(f"SELECT pg_terminate_backend({pid})")
            read_setting(connection, "generation")
        assert index.info().generation == 1

    def test_settings_of_the_server_do_not_matter(self, path: Path, postgres: str) -> None:
        options = "-c default_transaction_read_only=on -c extra_float_digits=0 -c search_path=pg_temp"
        url = sa.make_url(postgres).update_query_dict({"options": options})
        with Index.create(path, encoder=FakeEncoder(), catalog=url.render_as_string(hide_password=False)) as index:
            index.add([Document("a", "tea", metadata={"x": 0.1 + 0.2, "big": 2**60 + 256.0})])
            assert index.find("x = 0.30000000000000004 and x != 0.3 and big = 1152921504606847232") == ["a"]

    def test_locked_for_too_long(self, index: Index, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two machines with the folder: the file's lock may not hold, the one in the database does."""
        monkeypatch.setattr(postgres_module, "LOCK_TIMEOUT_S", 0.05)
        hasty = find_catalog(path)
        with find_catalog(path).transaction(), pytest.raises(StoreError, match="stayed locked"):  # noqa: SIM117
            with hasty.transaction():
                pytest.fail("two writing transactions")

    def test_tables_that_are_gone(self, index: Index, path: Path) -> None:
        execute(f'DROP TABLE "{schema_of(path)}".passages CASCADE')
        for use in (lambda: index.search("word3"), index.info, index.verify, lambda: index.delete(["doc-00003"])):
            with pytest.raises(IndexDamagedError, match=r"passages.* does not exist") as caught:
                use()
            assert "--rebuild" in caught.value.remedy

    def test_a_reader_writes_nothing(self, index: Index, path: Path) -> None:
        with pytest.raises(StoreError, match="read-only transaction"), find_catalog(path).reading() as connection:
            write_setting(connection, "generation", 99)

    @pytest.mark.parametrize(
        ("statement", "what"),
        [
            ("UPDATE documents SET text = replace(text, 'part1', 'part7')", "another text"),
            ("UPDATE documents SET metadata = '{}'", "other metadata"),
            ('UPDATE passages SET "end" = 100000', "."),
            ("UPDATE passages SET start = -1", "."),
        ],
    )
    def test_verify_finds_what_was_changed(self, index: Index, path: Path, statement: str, what: str) -> None:
        index.verify()
        key = "(SELECT doc_key FROM documents WHERE doc_id = 'doc-00003')"
        execute(f'SET search_path TO "{schema_of(path)}"; {statement} WHERE doc_key = {key}')
        with pytest.raises(IndexDamagedError, match=what):
            index.verify()

    @pytest.mark.parametrize("when", ["before the commit", "after the commit"])
    def test_a_writer_that_is_killed(self, index: Index, path: Path, when: str) -> None:
        """The old state or the new one, and the next writer goes on."""
        code = (
            "import os, sys\n"
            "import sqlalchemy as sa\n"
            "from tests.fakes import FakeEncoder, numbered\n"
            "from xsearch.index import Index\n"
            "path, when = sys.argv[1:]\n"
            "index = Index.open(path, encoder=FakeEncoder())\n"
            "written = []\n"
            "@sa.event.listens_for(sa.Engine, 'before_cursor_execute')\n"
            "def on_statement(connection, cursor, statement, *more):\n"
            "    if statement.startswith('INSERT INTO passage_words'):\n"
            "        written.append(statement)\n"
            "@sa.event.listens_for(sa.Engine, 'commit' if when == 'before the commit' else 'begin')\n"
            "def end(connection):\n"
            "    if written:\n"
            "        os._exit(7)\n"
            "index.add(numbered(10, start=20))\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(path), when], cwd=HERE, check=False)
        assert done.returncode == 7
        written = when == "after the commit"
        with Index.open(path, encoder=FakeEncoder()) as opened:
            assert len(opened) == (30 if written else 20)
            assert len(opened.search("word25 part0", k=1000)) == opened.verify()
            assert opened.add(numbered(30)).added == (0 if written else 10)
            assert len(opened) == 30
            opened.verify()

    def test_a_folder_that_was_moved(self, index: Index, path: Path) -> None:
        moved = Path(shutil.move(path, path.with_name("moved")))
        with Index.open(moved, encoder=FakeEncoder()) as opened:
            assert opened.verify() == opened.info().passages


@needs_postgres
def test_compacting_gives_back_what_cycles_take(tmp_path: Path, postgres: str) -> None:
    """Words of deleted passages count until then, as in SQLite, and the tables do not grow without end."""
    given = [Document(f"d{n}", f"word{n} tea {'more ' * 40}", lang="en") for n in range(200)]
    with Index.create(tmp_path / "index", encoder=FakeEncoder(), catalog=postgres) as index:
        sizes = []
        for cycle in range(6):
            index.add([Document(item.doc_id, f"{item.text} {cycle}", lang="en") for item in given])
            done = index.compact()
            # The first time there is nothing to give back.
            assert cycle == 0 or done.after < done.before
            assert index.verify() == 200
            assert [hit.doc_id for hit in index.search(f"word7 {cycle}", k=1, mode="lexical")] == ["d7"]
            with find_catalog(index.path).reading() as connection:
                assert connection.exec_driver_sql("SELECT count(*) FROM passage_words").scalar() == 200
                assert connection.exec_driver_sql("SELECT passages FROM word_totals").scalar() == 200
            sizes.append(find_catalog(index.path).size())
    assert max(sizes) == pytest.approx(sizes[2], rel=0.25)


TEXTS = (
    "Coffee was first drunk in Ethiopia.", "茶起源于中国西南部,后来传到日本。", "ข้าวเป็นอาหารหลักของคนไทย",
    "भारत में चाय असम और दार्जिलिंग में उगाई जाती है।", "エヌビディア nvidia の時価総額は三兆ドル", "شُرِبت القهوة أول مرة",
    "한국에서는 녹차를 많이 마신다.", "Crème brûlée, crème fraîche, CRÈME; creme", "Straße STRASSE straße ﬁn",
    "😀 😀 ☕ emoji 2024", "the the the the of tea", "x\u0301y \u0301 zalgo t\u0338o", "o’zbek o'zbek aujourd’hui",
)  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> tuple[Index, Index]:
    rng = random.Random(5)
    words = [word for text in TEXTS for word in text.split()]
    given = [
        Document(
            f"d{number}",
            " ".join(rng.choices(words, k=rng.randrange(1, 30))),
            title=" ".join(rng.choices(words, k=rng.choice([0, 0, 1, 3]))),
            lang=rng.choice(["en", "de", "zh", "zh-Hant"]),
            metadata={"n": number, "tag": rng.choice(words)},
        )
        for number in range(300)
    ]
    # Words that PostgreSQL's own text search would lose: too many, too far in, too long.
    given.append(Document("long", "tea " * 3000 + "日本" * 9000 + "x" * 5000 + " coffee", lang="en"))
    made = []
    for url in (None, postgres):
        index = Index.create(tmp_path_factory.mktemp("same") / "index", encoder=FakeEncoder(), catalog=url)
        index.add(given)
        index.delete([f"d{number}" for number in range(0, 60, 3)])
        index.add([Document("d100", "another coffee text", lang="en", metadata={"n": 100})])
        made.append(index)
    return made[0], made[1]


@needs_postgres
class TestSameAnswers:
    """Both databases, filled alike, and asked alike."""

    @pytest.mark.parametrize("mode", ["lexical", "hybrid", "dense"])
    def test_searches(self, both: tuple[Index, Index], mode: str) -> None:
        rng = random.Random(7)
        words = [
            *(word for text in TEXTS for word in text.split()),
            "日",
            "国",
            "ไทย",
            "차",
            "x" * 5000,
            "nobody",
            "\u0301",
        ]
        found = 0
        for _ in range(40):
            query = " ".join(rng.choices(words, k=rng.choice([1, 1, 2, 3, 9])))
            options: dict[str, Any] = {"k": rng.choice([1, 10, 400]), "mode": mode}
            if rng.random() < 0.4:
                options["where"] = rng.choice(["n < 150", "tag like 'c%' or n >= 290", "n = 1000"])
            if rng.random() < 0.3:
                options["langs"] = ["zh"]
            one, other = (index.search(query, **options) for index in both)
            assert facts(one) == facts(other), (query, options)
            found += len(one)
        assert found > 1000

    @pytest.mark.parametrize("field", ["v", "doc_id"])
    def test_filters(self, tmp_path: Path, postgres: str, field: str) -> None:
        """Numbers and text next to one another, past what either database has of its own."""
        values: list[Any] = [
            0, 1, -1, 0.0, 1.5, 1e14, 1e15, 1e16, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**400,
            -(10**400), 1e300, 5e-324, 0.1 + 0.2, 1 / 3, "1", "1.0", "1e3", "007", " 12 ", "12\n", "1e999", "1e-999",
            "0.0000001", "9007199254740993", "9007199254740993.0", "abc", "True", "TRUE", True, False, None, "", [], {},
            [1, {"a": 2.5}], ["x", None, "ü"], {"b": {"c": [1.0]}}, "İ", "ı", "Ü", "ü", "%", "_", "\\", "a\\%", "😀",
            "\u00e9", "e\u0301", "\x01", "a\0b", "+1", ".5", "5.", "0x10", "Infinity", "NaN", "1_000", "١",
        ]  # fmt: skip
        given = [Document(f"d{n}", "text", lang="en", metadata={"v": value}) for n, value in enumerate(values)]
        made = []
        for name, url in (("one", None), ("other", postgres)):
            made.append(Index.create(tmp_path / name, encoder=FakeEncoder(), catalog=url))
            made[-1].add(given)
        numbers = (
            "0", "1", "-1", "1.5", "1e15", "1000", "9007199254740993", "9007199254740992", "9223372036854775807",
            "9223372036854775808", "-9223372036854775808", "1e400", "-1e400", "1e300", "0.3",
            "0.30000000000000004", "12",
        )  # fmt: skip
        texts = (
            "'0'", "'1'", "'1.5'", "'1.0e+15'", "'100000000000000.0'", "'0.3'", "'[]'", "'[1,{\"a\":2.5}]'", "'ü'",
            "'Ü'", "'a'", "''", "'true'", "'Inf'", "'9.22337203685478e+18'", "'a\ufffdb'", "'😀'", "'d3'",
        )  # fmt: skip
        patterns = ("'%'", "'1%'", "'%e+%'", "'_'", "'ü'", "'tr%'", "'\\'", "'a\\%'", "'[%'", "'%\"a\":2.5%'", "'D_'")
        wheres = [f"{field} {sign} {text}" for sign in ("=", "!=", "<", "<=", ">", ">=") for text in texts]
        wheres += [f"{field} {negated}like {pattern}" for negated in ("", "not ") for pattern in patterns]
        wheres += [f"{field} is null", f"{field} is not null", f"{field} in ('a', '1', 'd3')"]
        if field != "doc_id":
            wheres += [f"{field} {sign} {number}" for sign in ("=", "!=", "<", "<=", ">", ">=") for number in numbers]
            wheres += [f"{field} = true", f"{field} != false", f"not {field} in (1, 1.5, 'a', false)"]
            wheres += ["w = 1", "not w = 1", "w like '%'", "not w in ('a', 1, true)", "w is null", "V is null"]
        for where in wheres:
            assert made[0].find(where) == made[1].find(where), where


def facts(hits: Hits) -> list[tuple[Any, ...]]:
    return [(hit.doc_id, hit.text, hit.score, hit.lang, hit.start, hit.end) for hit in hits]


@needs_postgres
def test_a_snapshot_keeps_no_later_writer_waiting(tmp_path: Path, postgres: str) -> None:
    catalog = make_catalog(tmp_path, {"fruit": "apple"}, postgres)
    with closing(catalog.snapshot()) as snapshot:
        with catalog.transaction() as connection:
            write_setting(connection, "fruit", "pear")
        assert read_setting(snapshot, "fruit") == "apple"
    with catalog.reading() as connection:
        assert read_setting(connection, "fruit") == "pear"


@needs_postgres
def test_many_passages_of_a_common_word(tmp_path: Path, postgres: str) -> None:
    """The rare word leads; the common one counts all the same, and fills up what the rare one leaves."""
    rng = np.random.default_rng(3)
    given = [
        Document(f"d{n}", "common " * int(rng.integers(1, 5)) + ("rare" if n % 50 == 0 else f"other{n}"), lang="en")
        for n in range(400)
    ]
    results = []
    for name, url in (("one", None), ("other", postgres)):
        with Index.create(tmp_path / name, encoder=FakeEncoder(), catalog=url) as index:
            index.add(given)
            results.append([facts(index.search("common rare", k=k, mode="lexical")) for k in (1, 8, 9, 100, 400)])
    assert results[0] == results[1]
    assert [len(found) for found in results[1]] == [1, 8, 9, 100, 400]
    assert {doc_id for doc_id, *_ in results[1][1]} == {f"d{n}" for n in range(0, 400, 50)}
