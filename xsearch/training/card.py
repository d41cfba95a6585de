"""The model card of a trained encoder: what it was made from, what it can do, and where it fails."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.training.recipe import Recipe

if TYPE_CHECKING:
    from xsearch.training.coverage import Coverage
    from xsearch.training.release import Exported
    from xsearch.training.train import Score

CARD_FILE = "README.md"


def write_card(
    recipe: Recipe,
    encoder: Path,
    counts: Mapping[tuple[str, str], int],
    score: Score | None,
    exported: Exported | None,
    coverage: Coverage | None = None,
) -> None:
    """Writes ``README.md`` into the folder of an encoder.

    Args:
        counts: examples by language and source.
        coverage: what a cut of the vocabulary did to each language.
    """
    trained = recipe.optimizer.steps > 0
    how = "Trained by `xsearch train`" if trained else "Made by `xsearch train`, without training,"
    lines = [f"# {recipe.name}", "", f"{how} from {recipe.base.model}.", ""]
    lines += ["| | |", "|---|---|", f"| Licence | {recipe.licence or 'not stated by the recipe'} |"]
    lines += [f"| Reads | {recipe.base.max_tokens} tokens |", f"| Seed | {recipe.seed} |"]
    if coverage is not None:
        lines.append(f"| Vocabulary | {coverage.pieces_after:,} of the base's {coverage.pieces_before:,} pieces |")
    if trained:
        lines.append(f"| Steps | {recipe.optimizer.steps:,} of about {recipe.batches.tokens:,} tokens |")
    if recipe.teacher is not None:
        lines.append(f"| Teacher | {recipe.teacher.model} |")
    lines += ["", "## Data", "", "| Language | Examples | Sources |", "|---|---:|---|"]
    for lang in sorted({lang for lang, _ in counts}):
        sources = sorted(((n, origin) for (of, origin), n in counts.items() if of == lang), reverse=True)
        names = ", ".join(f"{_source(origin, recipe)} {n:,}" for n, origin in sources)
        lines.append(f"| {lang} | {sum(n for n, _ in sources):,} | {names} |")
    if coverage is not None:
        lines += _vocabulary(coverage)
    lines += ["", "## Numbers", ""]
    if score is not None:
        lines.append(
            f"MLQA dev, nDCG@10 x 100: {score.same_language:.1f} where question and text share the language, "
            f"{score.cross_language:.1f} across languages."
        )
    else:
        lines.append("Not measured: the recipe names no MLQA archive.")
    if exported is not None:
        near = exported.int8
        lines.append(
            f"int8 against float32: mean cosine {near.mean:.4f}, lowest {near.lowest:.4f}; the nearest other text "
            f"is the same for {100 * near.same_nearest:.1f}% of texts. The float32 graph against torch: lowest cosine "
            f"{exported.float32.lowest:.6f}."
        )
    lines += ["", "## Limits", ""]
    if trained:
        lines.append("A language that is not in the table shares some pieces with those that are, and little else.")
    else:
        lines.append("Languages are as the base knows them; those whose pieces were dropped are read in smaller ones.")
    encoder.joinpath(CARD_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _vocabulary(coverage: Coverage) -> list[str]:
    """The section about a cut, by language."""
    lines = [
        "",
        "## Vocabulary",
        "",
        "Running pieces of the base that are kept, and how much longer texts get.",
    ]
    lines += ["", "| Language | Kept | Longer |", "|---|---:|---:|"]
    by_lang = sorted(coverage.languages, key=lambda each: each.lang)
    return lines + [f"| {each.lang} | {100 * each.kept:.1f}% | {100 * each.longer:.1f}% |" for each in by_lang]


def _source(origin: str, recipe: Recipe) -> str:
    licence = recipe.licences.get(origin, "")
    return f"{origin} ({licence})" if licence else origin
