"""``xsearch align``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.cli.conftest import Xsearch, refused
from tests.training import spaces
from xsearch.cli.main import cli
from xsearch.encoder.load import load_encoder
from xsearch.training.word_vectors import WordVectors, read_word_vectors, write_word_vectors

WORDS = 120
# Made-up words: eaa, eab ... and their translations daa, dab ...
ENGLISH = tuple(f"e{chr(97 + row // 26)}{chr(97 + row % 26)}" for row in range(WORDS))
GERMAN = tuple(word.replace("e", "d", 1) for word in ENGLISH)


@pytest.fixture
def files(xsearch: Xsearch) -> None:
    """Two languages of which one is the other turned, with dictionaries, in the current folder."""
    source, target = spaces.twins(WORDS, 12, noise=0.02, seed=3)
    write_word_vectors(Path("en.vec"), WordVectors(ENGLISH, source))
    write_word_vectors(Path("de.vec.gz"), WordVectors(GERMAN, target))
    pairs = [f"{word}\t{other}\n" for word, other in zip(ENGLISH, GERMAN, strict=True)]
    Path("train.tsv").write_text("".join(pairs[:40]))
    Path("test.tsv").write_text("".join([*pairs[40:], "no\tvector\n"]))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["align", "en.vec", "de.vec.gz", *arguments])


@pytest.mark.usefixtures("files")
def test_with_a_dictionary_as_a_table() -> None:
    result = run("--dictionary", "train.tsv", "--test", "test.tsv", "-o", "aligned")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:2] == ["Source       120 words", "Target       120 words"]
    assert lines[2].startswith("Dictionary   mean cosine 0.9")
    assert lines[2].endswith(", kept; from 40 pairs of words")
    assert lines[3].startswith("NEAREST      P@1 ")
    assert lines[4].startswith("CSLS         P@1 ")
    assert lines[4].endswith("(80 of 81 words have vectors)")
    assert "dictionary: 40 pairs of words to begin with" in result.stderr
    source, target = (read_word_vectors(Path("aligned", name)).found for name in ("source.vec", "target.vec"))
    assert (source.words, target.words) == (ENGLISH, GERMAN)
    assert float((source.vectors * target.vectors).sum(axis=1).min()) > 0.9


@pytest.mark.usefixtures("files")
def test_as_json() -> None:
    result = run("--dictionary", "train.tsv", "--test", "test.tsv", "--json", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert found["source"] == {"words": 120, "dim": 12, "duplicates": 0, "non_finite": 0, "zero": 0}
    assert (found["start"], found["first_pairs"], list(found["mean_cosine"])) == ("dictionary", 40, ["dictionary"])
    assert found["rounds"][0]["pairs"] == 40
    assert found["precision"]["csls"]["words"] == 81
    assert found["precision"]["csls"]["covered"] == 80
    assert found["precision"]["csls"]["P@1"] > 0.95
    assert found["precision"]["nearest"]["P@10"] == 1.0


@pytest.mark.usefixtures("files")
def test_the_encoder_finds_translations() -> None:
    result = run("--dictionary", "train.tsv", "--save-encoder", "static", "--max-words", "100")
    assert result.exit_code == 0, result.output
    encoder = load_encoder("static")
    scores = encoder.encode_queries([*ENGLISH[40:100]]) @ encoder.encode_passages([*GERMAN[:100]]).T
    assert float(np.mean(scores.argmax(axis=1) == np.arange(40, 100))) > 0.95
    assert encoder.unknown_characters([ENGLISH[99], ENGLISH[100]]) == [0, 3]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--test", "test.tsv"], "Pass --dictionary, or --unsupervised, and not both."),
        (["--dictionary", "train.tsv", "--unsupervised", "-o", "x"], "Pass --dictionary, or --unsupervised"),
        (["--unsupervised"], "Pass -o or --save-encoder to write something, or --test to measure."),
        (["--unsupervised", "-o", "x", "--csls-k", "0"], "--csls-k"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


@pytest.mark.usefixtures("files")
def test_bad_files_are_named(xsearch: Xsearch) -> None:
    Path("bad.tsv").write_text("dog Hund\ndog\n")
    refused(xsearch("align", "en.vec", "de.vec.gz", "--dictionary", "bad.tsv", "-o", "x"), "bad.tsv:2: this line is")
    Path("cut.vec").write_text("3 2\ndog 1 2\n")
    refused(xsearch("align", "cut.vec", "de.vec.gz", "--dictionary", "train.tsv", "-o", "x"), "cut.vec:2: the file has")
    refused(xsearch("align", "no.vec", "de.vec.gz", "--dictionary", "train.tsv", "-o", "x"), "no.vec: cannot be read")
    Path("other.tsv").write_text("x y\n")
    outcome = xsearch("align", "en.vec", "de.vec.gz", "--dictionary", "other.tsv", "-o", "x", "-q")
    refused(outcome, "There are no pairs of words to learn from", "--unsupervised")
    assert not Path("x").exists()
