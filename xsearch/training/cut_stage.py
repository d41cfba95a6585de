"""The stage that cuts the base's vocabulary: texts counted, pieces chosen, their rows taken, what is lost measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.hub import Prompts
from xsearch.training.coverage import Coverage, coverage
from xsearch.training.cut import CutOptions, count_pieces, cut
from xsearch.training.language_texts import language_texts, read_texts
from xsearch.training.recipe import CutTable, Recipe
from xsearch.training.selection import Example
from xsearch.training.start import Start

OnStage = Callable[[str], None]
# Of each language, for the comparison: the share of pieces kept is sure to a tenth of a percent.
REPORT_CHARACTERS = 200_000


def cut_start(
    recipe: Recipe,
    table: CutTable,
    base: Start,
    examples: Sequence[Example],
    prompts: Prompts,
    *,
    on_stage: OnStage,
) -> tuple[Start, Coverage]:
    """What a student with a part of the base's vocabulary starts from, and what the cut does to each language.

    Args:
        base: its tokenizer, without truncation, and its embeddings.
        prompts: of the base; their pieces stay.

    Raises:
        TrainingError: the vocabulary cannot be cut so, or a language has too little text.
    """
    data = recipe.data
    on_stage("counting pieces")
    texts = language_texts(examples, read_texts(data, table.texts, recipe.folder), data, recipe.seed)
    counts = {lang: count_pieces(base.tokenizer, own) for lang, own in texts.items()}
    options = CutOptions(
        size=table.cut,
        weights=data.languages,
        default_weight=data.default_weight,
        prior=table.prior,
        unseen_scripts=table.unseen_scripts,
        prompts=tuple(prompt for prompt in (prompts.query, prompts.passage) if prompt),
    )
    on_stage("cutting the vocabulary")
    made = cut(base.tokenizer, counts, options)
    rows: NDArray[np.float32] = base.embeddings[made.kept]
    found = coverage(base.tokenizer, made.tokenizer, {lang: _head(own) for lang, own in texts.items()})
    return Start(made.tokenizer, rows), found


def _head(texts: Sequence[str]) -> list[str]:
    """The first texts, to about ``REPORT_CHARACTERS``."""
    chosen: list[str] = []
    left = REPORT_CHARACTERS
    for text in texts:
        if left <= 0:
            break
        chosen.append(text)
        left -= len(text)
    return chosen
