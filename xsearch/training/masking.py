"""What masked language modelling reads: tokens hidden at random, and a sentence in one row with its translation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xsearch.errors import InvalidArgumentError

# Devlin et al. 2019: of the chosen tokens 8 in 10 become [MASK], 1 in 10 another token, and 1 in 10 stays.
MASKED_SHARE = 0.8
REPLACED_SHARE = 0.1


@dataclass(frozen=True)
class SpecialTokens:
    """The ids of a vocabulary that masking must know.

    Attributes:
        vocabulary_size: ids run from 0 to this, exclusive.
        cls: opens a row. ``<s>`` in XLM-R.
        sep: closes a sentence. ``</s>`` in XLM-R.
        pad: fills a row.
        mask: stands for a hidden token.
        others: more ids that are neither hidden nor put in a hidden token's place, e.g. ``[UNK]``.
    """

    vocabulary_size: int
    cls: int
    sep: int
    pad: int
    mask: int
    others: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        ids = self.all_ids()
        if min(ids) < 0 or max(ids) >= self.vocabulary_size or len(ids) == self.vocabulary_size:
            raise InvalidArgumentError(
                f"the special tokens are {sorted(ids)} in a vocabulary of {self.vocabulary_size}",
                "They must be ids of the vocabulary, and not all of them",
                "Take them from the tokenizer of the model",
            )

    def all_ids(self) -> frozenset[int]:
        """Every id that is never hidden."""
        return frozenset((self.cls, self.sep, self.pad, self.mask, *self.others))


@dataclass(frozen=True)
class Masked:
    """Rows with hidden tokens.

    Attributes:
        ids: (n, length) int64, what the model reads.
        labels: (n, length) int64, the token that was there where it was chosen, -100 elsewhere.
    """

    ids: Tensor
    labels: Tensor


@dataclass(frozen=True)
class PairRows:
    """Sentences and their translations, ``[CLS] a [SEP] b [SEP]`` and padding, all (n, length) int64.

    Attributes:
        ids: the tokens.
        attention: 1 for a token, 0 for padding.
        positions: those that each sentence has alone in a row; see ``pair_rows``.
        types: 1 for b and its ``[SEP]``, 0 elsewhere. Models of one type (XLM-R) take none.
        tokens_cut: how many tokens of all sentences found no room.
    """

    ids: Tensor
    attention: Tensor
    positions: Tensor
    types: Tensor
    tokens_cut: int


def mask_tokens(ids: Tensor, tokens: SpecialTokens, *, generator: torch.Generator, share: float = 0.15) -> Masked:
    """The rows with each token chosen with probability ``share`` and hidden, and what was there (Devlin et al. 2019).

    Of the chosen, 80 % become ``tokens.mask``, 10 % a token drawn evenly from all that are not special, and 10 % stay
    as they are. Special tokens are never chosen. The same generator state and shape give the same choice.

    Args:
        ids: (n, length) int64; left as it is.
        generator: draws; on any device.
    """
    if ids.dim() != 2 or ids.dtype is not torch.int64:
        raise InvalidArgumentError(
            f"the token ids are {tuple(ids.shape)} of {ids.dtype}",
            "They must be (rows, length) of torch.int64",
            "Pad the rows to one length",
        )
    if not 0.0 < share <= 1.0:
        raise InvalidArgumentError(f"the share is {share}", "It must be above 0 and at most 1", "Pass e.g. share=0.15")
    known = torch.tensor(sorted(tokens.all_ids()), device=ids.device)
    ordinary = torch.ones(tokens.vocabulary_size, dtype=torch.bool)
    ordinary[known.to("cpu")] = False
    ordinary_ids = ordinary.nonzero()[:, 0].to(ids.device)

    def draw() -> Tensor:
        return torch.rand(ids.shape, generator=generator, device=generator.device).to(ids.device)

    # All three are drawn for all positions: what one row draws does not depend on what stands in another.
    chance, fate = draw(), draw()
    others = torch.randint(len(ordinary_ids), ids.shape, generator=generator, device=generator.device).to(ids.device)
    chosen = (chance < share) & ~torch.isin(ids, known)
    hidden = chosen & (fate < MASKED_SHARE)
    replaced = chosen & (fate >= MASKED_SHARE) & (fate < MASKED_SHARE + REPLACED_SHARE)
    changed = torch.where(replaced, ordinary_ids[others], ids.masked_fill(hidden, tokens.mask))
    return Masked(changed, ids.masked_fill(~chosen, -100))


def pair_rows(
    left: Sequence[Sequence[int]],
    right: Sequence[Sequence[int]],
    tokens: SpecialTokens,
    *,
    max_tokens: int = 256,
    first_position: int = 0,
) -> PairRows:
    """Sentences and their translations in one row each, for translation language modelling.

    Conneau & Lample 2019 (arXiv:1901.07291): a token hidden on one side is guessed from its translation on the other.
    Positions start again for the translation, so that token i of both stands at the same one. Its first stands where
    it would alone, behind a ``[CLS]``:

        ids        [CLS] a1 a2 [SEP] b1 b2 b3 [SEP] [PAD]
        positions    0    1  2   3    1  2  3   4     0
        types        0    0  0   0    1  1  1   1     0

    Where a pair is too long, the longer sentence loses its end, then both do.

    Args:
        left: for each pair the tokens of a, without special ones; at least one.
        right: likewise b.
        max_tokens: of a row, special tokens included.
        first_position: of ``[CLS]``: 0, but the padding's id + 1 in RoBERTa and XLM-R, 2. Padding stands one before.
    """
    empty = sum(len(each) == 0 for each in (*left, *right))
    if len(left) != len(right) or len(left) == 0 or empty:
        raise InvalidArgumentError(
            f"there are {len(left)} sentences and {len(right)} translations, {empty} of them empty",
            "Every sentence needs a translation, and both a token",
            "Leave out the pairs with an empty side",
        )
    if max_tokens < 5:
        raise InvalidArgumentError(
            f"max_tokens is {max_tokens}", "Two tokens and three special ones must fit", "Pass 5 at least"
        )
    rows: list[list[tuple[int, int, int, int]]] = []
    tokens_cut = 0
    for a, b in zip(left, right, strict=True):
        room = max_tokens - 3
        kept_a = min(len(a), max(room - len(b), room - room // 2))
        kept_b = min(len(b), room - kept_a)
        tokens_cut += len(a) - kept_a + len(b) - kept_b
        first = [tokens.cls, *a[:kept_a], tokens.sep]
        second = [*b[:kept_b], tokens.sep]
        row = [(token, 1, first_position + place, 0) for place, token in enumerate(first)]
        row += [(token, 1, first_position + place, 1) for place, token in enumerate(second, start=1)]
        rows.append(row)
    length = max(len(row) for row in rows)
    padding = (tokens.pad, 0, max(first_position - 1, 0), 0)
    table = torch.tensor([row + [padding] * (length - len(row)) for row in rows], dtype=torch.int64)
    ids, attention, positions, types = table.unbind(2)
    return PairRows(ids, attention, positions, types, tokens_cut)
