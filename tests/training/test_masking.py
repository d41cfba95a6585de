"""Masking: which tokens are hidden and how, and a sentence in one row with its translation."""

from __future__ import annotations

import math

import pytest
import torch

from xsearch.errors import InvalidArgumentError
from xsearch.training.losses import masked_language
from xsearch.training.masking import SpecialTokens, mask_tokens, pair_rows

TOKENS = SpecialTokens(vocabulary_size=1000, cls=2, sep=3, pad=0, mask=4, others=(1,))


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestMasking:
    IDS = torch.randint(5, 1000, (400, 250), generator=generator(7))

    def test_the_shares(self) -> None:
        """Of 100 000 tokens 15 000 are chosen; each bound is five standard deviations of the binomial."""
        masked = mask_tokens(self.IDS, TOKENS, generator=generator())
        chosen = masked.labels != -100
        hidden = chosen & (masked.ids == TOKENS.mask)
        same = chosen & (masked.ids == self.IDS)
        count = int(chosen.sum())
        assert abs(count / 100_000 - 0.15) < 5 * math.sqrt(0.15 * 0.85 / 100_000)
        assert abs(int(hidden.sum()) / count - 0.8) < 5 * math.sqrt(0.8 * 0.2 / count)
        # One in ten stays, and so does one in 995 of those that are replaced.
        assert abs(int(same.sum()) / count - 0.1 - 0.1 / 995) < 5 * math.sqrt(0.1 * 0.9 / count)

    def test_labels_are_what_was_there_and_the_rest_stays(self) -> None:
        before = self.IDS.clone()
        masked = mask_tokens(self.IDS, TOKENS, generator=generator())
        chosen = masked.labels != -100
        assert torch.equal(masked.labels[chosen], self.IDS[chosen])
        assert torch.equal(masked.ids[~chosen], self.IDS[~chosen])
        assert torch.equal(self.IDS, before)

    def test_special_tokens_are_neither_hidden_nor_put_in(self) -> None:
        ids = torch.tensor([[2, 10, 1, 11, 3, 12, 4, 3, 0, 0]] * 500)
        masked = mask_tokens(ids, TOKENS, generator=generator(), share=1.0)
        special = torch.tensor([[True, False, True, False, True, False, True, True, True, True]] * 500)
        assert torch.equal(masked.ids[special], ids[special])
        assert (masked.labels[special] == -100).all()
        assert torch.equal(masked.labels[~special], ids[~special])
        put_in = masked.ids[~special]
        assert set(put_in[put_in < 5].tolist()) == {TOKENS.mask}

    def test_replacements_are_drawn_from_the_whole_vocabulary(self) -> None:
        tokens = SpecialTokens(vocabulary_size=9, cls=2, sep=3, pad=0, mask=4, others=(1,))
        masked = mask_tokens(torch.full((100, 50), 5), tokens, generator=generator(), share=1.0)
        assert sorted(masked.ids.unique().tolist()) == [4, 5, 6, 7, 8]
        counts = torch.bincount(masked.ids.flatten(), minlength=9)[6:]
        assert (counts - 125).abs().max() < 5 * math.sqrt(125)  # a fortieth of 5000 each

    def test_the_seed_decides(self) -> None:
        first = mask_tokens(self.IDS, TOKENS, generator=generator(1))
        torch.manual_seed(99)  # the global generator has no part in it
        again = mask_tokens(self.IDS, TOKENS, generator=generator(1))
        assert torch.equal(first.ids, again.ids) and torch.equal(first.labels, again.labels)
        assert not torch.equal(first.ids, mask_tokens(self.IDS, TOKENS, generator=generator(2)).ids)

    def test_one_row_does_not_change_what_another_draws(self) -> None:
        other = self.IDS.clone()
        other[0] = TOKENS.pad
        first = mask_tokens(self.IDS, TOKENS, generator=generator())
        second = mask_tokens(other, TOKENS, generator=generator())
        assert torch.equal(first.ids[1:], second.ids[1:])

    def test_nothing_but_padding_is_a_loss_of_zero(self) -> None:
        masked = mask_tokens(torch.zeros(2, 3, dtype=torch.int64), TOKENS, generator=generator())
        assert float(masked_language(torch.zeros(2, 3, 1000), masked.labels)) == 0.0

    def test_bad_arguments_are_refused(self) -> None:
        with pytest.raises(InvalidArgumentError, match=r"token ids are \(3,\)"):
            mask_tokens(torch.tensor([1, 2, 3]), TOKENS, generator=generator())
        with pytest.raises(InvalidArgumentError, match="share is 0"):
            mask_tokens(self.IDS, TOKENS, generator=generator(), share=0.0)
        with pytest.raises(InvalidArgumentError, match="share is 15"):
            mask_tokens(self.IDS, TOKENS, generator=generator(), share=15)
        with pytest.raises(InvalidArgumentError, match="in a vocabulary of 4"):
            SpecialTokens(vocabulary_size=4, cls=2, sep=3, pad=0, mask=4)
        with pytest.raises(InvalidArgumentError, match="in a vocabulary of 4"):
            SpecialTokens(vocabulary_size=4, cls=0, sep=1, pad=2, mask=3)


class TestPairRows:
    def test_the_example_in_the_docstring(self) -> None:
        rows = pair_rows([[11, 12], [13]], [[21, 22, 23], [24, 25, 26, 27, 28]], TOKENS)
        assert rows.ids.tolist() == [
            [2, 11, 12, 3, 21, 22, 23, 3, 0],
            [2, 13, 3, 24, 25, 26, 27, 28, 3],
        ]
        assert rows.attention.tolist() == [[1] * 8 + [0], [1] * 9]
        assert rows.positions.tolist() == [[0, 1, 2, 3, 1, 2, 3, 4, 0], [0, 1, 2, 1, 2, 3, 4, 5, 6]]
        assert rows.types.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1, 1, 1]]
        assert rows.tokens_cut == 0

    def test_positions_after_the_padding_id(self) -> None:
        rows = pair_rows([[11], [11]], [[21], [21, 22]], TOKENS, first_position=2)
        assert rows.positions.tolist() == [[2, 3, 4, 3, 4, 1], [2, 3, 4, 3, 4, 5]]

    @pytest.mark.parametrize(
        ("left", "right", "kept"),
        [
            (3, 2, (3, 2)),
            (9, 2, (3, 2)),
            (2, 9, (2, 3)),
            (9, 9, (3, 2)),
            (4, 2, (3, 2)),
            (1, 9, (1, 4)),
            (9, 1, (4, 1)),
        ],
    )
    def test_the_longer_loses_its_end(self, left: int, right: int, kept: tuple[int, int]) -> None:
        rows = pair_rows([range(100, 100 + left)], [range(200, 200 + right)], TOKENS, max_tokens=8)
        first, second = kept
        assert rows.ids.tolist() == [[2, *range(100, 100 + first), 3, *range(200, 200 + second), 3]]
        assert rows.tokens_cut == left + right - first - second

    def test_both_sides_are_masked(self) -> None:
        rows = pair_rows([[11, 12]] * 200, [[21, 22]] * 200, TOKENS)
        masked = mask_tokens(rows.ids, TOKENS, generator=generator())
        chosen = (masked.labels != -100).sum(0).tolist()
        assert [chosen[place] for place in (0, 3, 6)] == [0, 0, 0]
        assert all(10 < chosen[place] < 55 for place in (1, 2, 4, 5))  # 30 expected, five standard deviations

    def test_bad_arguments_are_refused(self) -> None:
        with pytest.raises(InvalidArgumentError, match="there are 1 sentences and 2 translations"):
            pair_rows([[11]], [[21], [22]], TOKENS)
        with pytest.raises(InvalidArgumentError, match="there are 0 sentences"):
            pair_rows([], [], TOKENS)
        with pytest.raises(InvalidArgumentError, match="1 of them empty"):
            pair_rows([[11]], [[]], TOKENS)
        with pytest.raises(InvalidArgumentError, match="max_tokens is 4"):
            pair_rows([[11]], [[21]], TOKENS, max_tokens=4)
