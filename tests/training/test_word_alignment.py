"""IBM model 1: counts by hand, translations that it must find, and its bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsearch.training.word_alignment import Alignment, align

DAS, HAUS, BUCH, EIN = 0, 1, 2, 3
THE, HOUSE, BOOK, A = 10, 11, 12, 13
Pairs = list[tuple[list[int], list[int]]]


def counts(found: Alignment) -> dict[tuple[int, int], float]:
    return {
        (int(source), int(target)): float(count)
        for source, target, count in zip(found.source, found.target, found.count, strict=True)
    }


def test_the_first_round_by_hand() -> None:
    """das haus - the house; das - the. Uniform t: each target piece is shared by the source's and the empty word.

    First sentence: each link has 1/3. Second: "the" has 1/2 of "das" and 1/2 of the empty word.
    """
    found = counts(align([([DAS, HAUS], [THE, HOUSE]), ([DAS], [THE])], iterations=1))
    assert found == pytest.approx(
        {(DAS, THE): 1 / 3 + 1 / 2, (DAS, HOUSE): 1 / 3, (HAUS, THE): 1 / 3, (HAUS, HOUSE): 1 / 3}
    )


def test_the_second_round_by_hand() -> None:
    """t(the|das) = 5/7, t(house|das) = 2/7, t(.|haus) = 1/2; the empty word has counts 5/6 and 1/3, as das has."""
    found = counts(align([([DAS, HAUS], [THE, HOUSE]), ([DAS], [THE])], iterations=2))
    the, house = 5 / 7 + 5 / 7 + 1 / 2, 2 / 7 + 2 / 7 + 1 / 2
    assert found == pytest.approx(
        {
            (DAS, THE): (5 / 7) / the + 1 / 2,
            (DAS, HOUSE): (2 / 7) / house,
            (HAUS, THE): (1 / 2) / the,
            (HAUS, HOUSE): (1 / 2) / house,
        }
    )


def test_translations_are_found() -> None:
    corpus: Pairs = [([DAS, HAUS], [THE, HOUSE]), ([DAS, BUCH], [THE, BOOK]), ([EIN, BUCH], [A, BOOK])]
    found = counts(align(corpus, iterations=20))
    for source, target in ((DAS, THE), (HAUS, HOUSE), (BUCH, BOOK), (EIN, A)):
        best = max((count, other) for (piece, other), count in found.items() if piece == source)
        assert best[1] == target
    assert found[HAUS, HOUSE] > 3 * found[HAUS, THE]


def test_a_piece_may_stand_twice() -> None:
    found = counts(align([([DAS, DAS], [THE])], iterations=1))
    assert found == pytest.approx({(DAS, THE): 2 / 3})


@pytest.mark.parametrize("pairs", [[], [([], [])], [([DAS], [])], [([], [THE])]])
def test_without_words_on_both_sides_there_are_no_links(pairs: Pairs) -> None:
    assert counts(align(pairs)) == {}


def test_empty_sentences_change_nothing() -> None:
    corpus: Pairs = [([DAS, HAUS], [THE, HOUSE]), ([DAS], [THE])]
    with_empty: Pairs = [([], [THE]), corpus[0], ([HAUS], []), corpus[1], ([], [])]
    assert counts(align(with_empty)) == counts(align(corpus))


@pytest.mark.parametrize(("max_cells", "read"), [(5, 0), (6, 1), (7, 1), (8, 2), (100, 2)])
def test_no_more_cells_are_read_than_asked_for(max_cells: int, read: int) -> None:
    """2 target pieces of 2 source pieces and the empty word are 6 cells; 1 of 1 and the empty word are 2."""
    corpus: Pairs = [([DAS, HAUS], [THE, HOUSE]), ([BUCH], [BOOK])]
    assert counts(align(corpus, max_cells=max_cells)) == counts(align(corpus[:read]))


@settings(derandomize=True, deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.lists(st.integers(0, 6), max_size=5), st.lists(st.integers(0, 6), max_size=5)), max_size=8),
    st.integers(1, 8),
)
def test_links_are_finite_and_no_more_than_target_pieces(pairs: Pairs, iterations: int) -> None:
    found = align(pairs, iterations=iterations)
    assert np.isfinite(found.count).all()
    assert (found.count >= 0).all()
    for piece in range(7):
        stands = sum(right.count(piece) for left, right in pairs if left)
        assert found.count[found.target == piece].sum() <= stands + 1e-9
    assert set(found.source.tolist()) <= {piece for left, right in pairs for piece in left if right}
