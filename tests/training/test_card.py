"""The model card: what went in, what came out, and what is not known."""

from __future__ import annotations

from pathlib import Path

from tests.training import runs
from xsearch.training.card import write_card
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
