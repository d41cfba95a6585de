"""``xsearch debias``, and ``xsearch index --debias``: end to end with a small model."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tests.cli.conftest import Xsearch, refused
from tests.encoder.checkpoints import copied
from tests.training.biased import BiasedEncoder, english, write_parallel
from xsearch.cli import debias as debias_module
from xsearch.encoder import load
from xsearch.encoder.builtin import BuiltinEncoder
from xsearch.encoder.debias import DebiasMethod, DebiasOptions
from xsearch.encoder.export import write_encoder
from xsearch.encoder.load import load_encoder
from xsearch.encoder.stepped import STEP_FILE, SteppedEncoder, read_step
from xsearch.training import debias_texts


@pytest.fixture
def parallel(tmp_path: Path) -> Path:
    folder = tmp_path / "parallel"
    folder.mkdir()
    for lang in ("de", "fr"):
        write_parallel(folder, lang, range(240))
    write_parallel(folder, "nl", range(20))
    return folder


@pytest.fixture
def biased(monkeypatch: pytest.MonkeyPatch) -> BiasedEncoder:
    """Stands in for the built-in encoder."""
    encoder = BiasedEncoder("builtin")
    monkeypatch.setattr(load, "BuiltinEncoder", lambda *folder: encoder)
    return encoder


def test_the_defaults_are_those_of_the_library() -> None:
    assert tuple(DebiasMethod) == debias_module.METHODS
    assert debias_module.METHODS[0] == DebiasOptions().method
    assert debias_module.TEXTS == debias_texts.TEXTS
    assert debias_module.DebiasRequest(["x"]).directions == DebiasOptions().directions


def test_a_folder_that_every_command_takes(xsearch: Xsearch, parallel: Path, mbert: Path, tmp_path: Path) -> None:
    model = copied(mbert, tmp_path / "model")
    done = xsearch("debias", model, "-o", "out", "--parallel", "parallel/*.tsv", "--texts", 240, "--json")
    assert done.code == 0, done.err
    assert "Left out, with fewer than 200 sentences: nl 20" in done.err
    report = done.json
    assert report["output"] == "out"
    assert set(report["languages"]) == {"de", "fr"}
    assert report["left_out"] == {"nl": 20}
    assert 0.8 < report["variance_removed"] <= 1
    assert set(report["before"]) == set(report["after"]) == {"own_language", "translation"}
    step = read_step(Path("out"))
    assert step is not None
    assert step.digest == report["step"]
    (tmp_path / "corpus.txt").write_text("Der Hund jagt den Ball.\n", encoding="utf-8")
    assert xsearch("index", "dogs", "corpus.txt", "--encoder", "out").code == 0
    found = xsearch("search", "dogs", "Hund", "--json")
    assert found.code == 0, found.err
    # Again into the same folder, which it made itself.
    assert xsearch("debias", model, "-o", "out", "--parallel", "parallel/*.tsv", "--directions", 1, "-q").code == 0
    refused(xsearch("debias", "out", "-o", "again", "--parallel", "parallel/*.tsv", "-q"), "by a step already")


def test_what_is_printed_for_people(xsearch: Xsearch, parallel: Path, biased: BiasedEncoder) -> None:
    done = xsearch("debias", "builtin", "-o", "out", "--parallel", "parallel/*.tsv", "--directions", 2)
    assert done.code == 0, done.err
    assert "Fitted to 2 languages and English: de 2" in done.out
    assert "before: nearest is another sentence in the same language" in done.out
    assert "after:  nearest is another sentence in the same language 0.0%, a translation 100.0%" in done.out
    assert "xsearch index NAME SOURCE --encoder out" in done.out
    assert isinstance(load_encoder("out"), SteppedEncoder)


def test_the_step_of_an_exported_encoder_is_in_its_graph(xsearch: Xsearch, parallel: Path, e5: Path) -> None:
    write_encoder(e5, Path("exported"))
    done = xsearch("debias", "exported", "-o", "out", "--parallel", "parallel/*.tsv", "--texts", 240, "--json")
    assert done.code == 0, done.err
    made = load_encoder("out")
    assert isinstance(made, BuiltinEncoder)
    assert made.fingerprint.step == done.json["step"]
    again = xsearch("debias", "out", "-o", "twice", "--parallel", "parallel/*.tsv", "--texts", 240, "-q")
    refused(again, "is followed by a step already", "Name the encoder that it was made from")


def test_a_folder_with_something_else_is_left_alone(xsearch: Xsearch, parallel: Path, biased: BiasedEncoder) -> None:
    done = xsearch("debias", "builtin", "-o", "parallel", "--parallel", "parallel/*.tsv")
    refused(done, "parallel holds files already", "Name another folder")
    assert not (parallel / STEP_FILE).exists()


def test_evaluation_data_that_cannot_be_read_stops_it(xsearch: Xsearch, parallel: Path, biased: BiasedEncoder) -> None:
    done = xsearch("debias", "builtin", "-o", "out", "--parallel", "parallel/*.tsv", "--evaluation", "gone.txt", "-q")
    refused(done, "gone.txt")
    assert not Path("out").exists()


class TestIndex:
    def test_the_step_stays_with_the_index(
        self, xsearch: Xsearch, parallel: Path, biased: BiasedEncoder, tmp_path: Path
    ) -> None:
        (tmp_path / "corpus.txt").write_text(f"{english(5)}\n", encoding="utf-8")
        command = ("index", "news", "corpus.txt", "--debias", "parallel/*.tsv")
        done = xsearch(*command)
        assert done.code == 0, done.err
        assert "Debiased with 2 languages and English" in done.err
        shown = xsearch("info", "news")
        assert "Debiased" in shown.out
        assert "projection, " in shown.out
        assert "fitted to 2 languages and English" in shown.out
        assert xsearch("info", "news", "--json").json["step"]["languages"].keys() == {"de", "fr"}
        biased.queries.clear()
        again = xsearch(*command)
        assert again.code == 0, again.err
        assert biased.queries == []  # nothing is fitted a second time
        assert xsearch("search", "news", english(5)).code == 0
        assert xsearch("verify", "news").code == 0
        migrated = xsearch("migrate", "news", "--encoder", "builtin")
        assert migrated.code == 0, migrated.err
        assert "The index kept a debias step, fitted for its old encoder; it is gone." in migrated.err
        assert "Debiased" not in xsearch("info", "news").out

    def test_an_index_that_has_vectors_is_not_debiased(
        self, xsearch: Xsearch, parallel: Path, biased: BiasedEncoder, tmp_path: Path
    ) -> None:
        (tmp_path / "corpus.txt").write_text(f"{english(5)}\n", encoding="utf-8")
        assert xsearch("index", "news", "corpus.txt").code == 0
        done = xsearch("index", "news", "corpus.txt", "--debias", "parallel/*.tsv")
        refused(done, "was built without --debias", "--rebuild")
        assert xsearch("index", "news", "corpus.txt", "--debias", "parallel/*.tsv", "--rebuild").code == 0

    def test_the_step_inside_the_built_in_encoder_is_not_one_that_the_index_keeps(
        self, xsearch: Xsearch, parallel: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "corpus.txt").write_text(f"{english(5)}\n", encoding="utf-8")
        assert xsearch("index", "news", "corpus.txt").code == 0
        done = xsearch("index", "news", "corpus.txt", "--debias", "parallel/*.tsv")
        refused(done, "was built without --debias", "--rebuild")

    def test_vectors_that_come_along_are_not_debiased(self, xsearch: Xsearch, parallel: Path) -> None:
        done = xsearch("index", "news", "a.jsonl", "--vector-field", "v", "--debias", "parallel/*.tsv")
        assert done.code == 2
        assert "--debias goes with texts that are encoded" in done.err


def test_help_says_what_becomes_of_a_local_folder() -> None:
    assert "keep a local folder in its place" in inspect.cleandoc(debias_module.debias.help or "")
