"""The model card: what went in, what came out, and what is not known."""

from __future__ import annotations

from pathlib import Path

from tests.training import runs
from xsearch.training.card import write_card
from xsearch.training.coverage import Coverage, LanguageCoverage
from xsearch.training.release import Exported, Parity
from xsearch.training.train import Score

COUNTS = {("de", "talk"): 1200, ("de", "words"): 30, ("es", "talk"): 900}


def test_all_that_is_known(tmp_path: Path) -> None:
    recipe = runs.recipe(
        tmp_path, **runs.DISTILS, licence="Apache-2.0", licences={"talk": "CC0"}, optimizer={"steps": 6500}
    )  # type: ignore[arg-type]
    exported = Exported(Parity(0.999999, 1.0, 1.0), Parity(0.98, 0.9951, 0.875))
    write_card(recipe, tmp_path, COUNTS, Score(6500, 60.12, 58.36), exported)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    for line in (
        "# tiny",
        "Trained by `xsearch train` from model.",
        "| Licence | Apache-2.0 |",
        "| Reads | 40 tokens |",
        "| Seed | 7 |",
        "| Steps | 6,500 of about 160 tokens |",
        "| Teacher | teacher |",
        "| de | 1,230 | talk (CC0) 1,200, words 30 |",
        "| es | 900 | talk (CC0) 900 |",
        "MLQA dev, nDCG@10 x 100: 60.1 where question and text share the language, 58.4 across languages.",
        "int8 against float32: mean cosine 0.9951, lowest 0.9800; the nearest other text is the same for 87.5% of "
        "texts. The float32 graph against torch: lowest cosine 0.999999.",
    ):
        assert line in card.splitlines(), line
    assert "## Limits" in card


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    write_card(runs.recipe(tmp_path), tmp_path, COUNTS, None, None)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| Licence | not stated by the recipe |" in card
    assert "Not measured: the recipe names no MLQA archive." in card
    assert "Teacher" not in card and "int8" not in card


def test_a_cut_without_training_says_so(tmp_path: Path) -> None:
    languages = (
        LanguageCoverage("he", 900, 0.884, 0.25, 0.275, 0.0, 0.0),
        LanguageCoverage("de", 800, 0.9931, 0.25, 0.252, 0.0, 0.0),
    )
    recipe = runs.recipe(tmp_path, optimizer={"steps": 0})
    write_card(recipe, tmp_path, COUNTS, None, None, Coverage(250_002, 100_000, languages))
    card = (tmp_path / "README.md").read_text(encoding="utf-8").splitlines()
    assert "Made by `xsearch train`, without training, from model." in card
    assert "| Vocabulary | 100,000 of the base's 250,002 pieces |" in card
    assert card.index("| de | 99.3% | 0.8% |") < card.index("| he | 88.4% | 10.0% |")
    assert not any(line.startswith("| Steps") for line in card)
    assert "Languages are as the base knows them; those whose pieces were dropped are read in smaller ones." in card
