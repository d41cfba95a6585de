"""Masked and translation language modelling beside the other losses: a head, and what it has to guess."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from xsearch.errors import TrainingError
from xsearch.training.losses import masked_language
from xsearch.training.masking import SpecialTokens, mask_tokens, pair_rows
from xsearch.training.prepared import Prepared, Ragged
from xsearch.training.recipe import LossTable
from xsearch.training.selection import Kind
from xsearch.training.student import Student, first_position

# Batches that have a term of language modelling; words by themselves have no neighbours to be guessed from.
KINDS = (Kind.SENTENCE, Kind.PASSAGE, Kind.ENGLISH)
IGNORED = -100
ROLES = {
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "pad": ("[PAD]", "<pad>"),
    "mask": ("[MASK]", "<mask>"),
}


def special_tokens(tokenizer: Tokenizer) -> SpecialTokens:
    """The tokens that masking must know, by the names that BERT and XLM-R give them.

    Raises:
        TrainingError: there is no such token, as in mT5, which was trained in another way.
    """
    found: dict[str, int] = {}
    for role, names in ROLES.items():
        ids = [number for name in names if (number := tokenizer.token_to_id(name)) is not None]
        if not ids:
            raise TrainingError(
                f"The tokenizer has none of the tokens {' '.join(names)}",
                "loss.mlm and loss.tlm need [CLS], [SEP], [PAD] and [MASK], or <s>, </s>, <pad> and <mask>",
                "Set loss.mlm and loss.tlm to 0 for this base",
            )
        found[role] = ids[0]
    added = tokenizer.get_added_tokens_decoder()
    unknown = [tokenizer.token_to_id(name) for name in ("[UNK]", "<unk>")]
    others = {number for number, token in added.items() if token.special} | {n for n in unknown if n is not None}
    size = max(tokenizer.get_vocab().values()) + 1
    return SpecialTokens(size, **found, others=tuple(sorted(others - set(found.values()))))


class MaskedHead(nn.Module):
    """Logits over the vocabulary from token states: dense, GELU, LayerNorm, and the token embeddings with a bias.

    As BERT's head (Devlin et al. 2019), but for one thing: the output embeddings are the whole table as it stands, and
    get no gradient through here. They learn as inputs alone, in the rows that a batch uses; with a gradient for each
    token of the vocabulary, lazy updates would be no more. It is trained beside the student and never exported.
    """

    def __init__(self, states: int, embeddings: int, vocabulary: int) -> None:
        super().__init__()
        self.dense = nn.Linear(states, embeddings)
        self.norm = nn.LayerNorm(embeddings)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, states: Tensor, rows: Tensor) -> Tensor:
        """(n, vocabulary) from states, (n, dim), and embeddings, (vocabulary, dim)."""
        guessed: Tensor = self.norm(nn.functional.gelu(self.dense(states)))
        return guessed @ rows.detach().T + self.bias


@dataclass(frozen=True, slots=True)
class MaskedRows:
    """Rows with hidden tokens, and what the body must know of them; all (n, tokens) int64.

    Attributes:
        weight: of their loss.
        ids: what the student reads.
        mask: 1 for a token, 0 for padding.
        labels: what was there where it is to be guessed, -100 elsewhere.
        positions, types: of the tokens, where the body takes them and they are not the usual ones.
    """

    weight: float
    ids: Tensor
    mask: Tensor
    labels: Tensor
    positions: Tensor | None = None
    types: Tensor | None = None

    def to(self, device: torch.device) -> MaskedRows:
        """The same on a device."""
        moved = [None if each is None else each.to(device) for each in (self.positions, self.types)]
        return MaskedRows(
            self.weight, self.ids.to(device), self.mask.to(device), self.labels.to(device), moved[0], moved[1]
        )

    def part(self, start: int, end: int) -> MaskedRows:
        """Rows ``start`` to ``end``, without columns that are padding in all of them."""
        width = max(1, int(self.mask[start:end].sum(1).max()))
        cut = [None if each is None else each[start:end, :width] for each in (self.positions, self.types)]
        return MaskedRows(
            self.weight,
            self.ids[start:end, :width],
            self.mask[start:end, :width],
            self.labels[start:end, :width],
            cut[0],
            cut[1],
        )


class LanguageModel:
    """The optional terms ``loss.mlm`` and ``loss.tlm`` of a recipe, on sentences, passages and English texts.

    Args:
        student: must have a body: in a static encoder a hidden token's state is that of ``[MASK]`` and tells nothing.
        max_tokens: of a row, a sentence and its translation together.

    Raises:
        TrainingError: the student is static.
    """

    def __init__(
        self, student: Student, tokens: SpecialTokens, table: LossTable, *, max_tokens: int, seed: int
    ) -> None:
        if student.body is None:
            raise TrainingError(
                "loss.mlm or loss.tlm is above 0 for a static encoder",
                "A static encoder sees no token's neighbours",
                "Set both to 0, or train a transformer",
            )
        accepted = inspect.signature(student.body.forward).parameters
        self._tokens = tokens
        self._table = table
        self._max_tokens = max_tokens
        self._seed = seed
        self._first_position = first_position(student.body)
        self._takes_positions = "position_ids" in accepted
        types = int(getattr(student.body.config, "type_vocab_size", 0) or 0)
        self._takes_types = "token_type_ids" in accepted and types > 1
        vocabulary, dim = student.table.rows.shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = MaskedHead(student.dim, dim, vocabulary)

    def rows(self, kind: Kind, prepared: Prepared, rows: NDArray[np.int64], number: int) -> list[MaskedRows]:
        """What there is to guess in a batch of examples; the same for the same seed and number of the batch."""
        if kind not in KINDS:
            return []
        draw = torch.Generator().manual_seed(int(np.random.default_rng((self._seed, 6, number)).integers(2**62)))
        found = []
        if self._table.mlm > 0:
            ids, mask = (torch.from_numpy(array) for array in prepared.texts.padded(rows, self._tokens.pad))
            hidden = mask_tokens(ids, self._tokens, generator=draw)
            found.append(MaskedRows(self._table.mlm, hidden.ids, mask, hidden.labels))
        if self._table.tlm > 0 and kind is not Kind.ENGLISH:
            pairs = [
                (self._inside(_row(prepared.texts, row)), self._inside(_row(prepared.english, row))) for row in rows
            ]
            whole = [pair for pair in pairs if all(pair)]
            if whole:
                found.append(self._paired([pair[0] for pair in whole], [pair[1] for pair in whole], draw))
        return found

    def loss(self, student: Student, states: Tensor, rows: MaskedRows) -> Tensor:
        """The mean cross entropy of the hidden tokens, from the body's states of all tokens."""
        hidden = rows.labels != IGNORED
        logits = self.head(states[hidden].float(), student.table.rows)
        return masked_language(logits, rows.labels[hidden])

    def _paired(self, left: list[list[int]], right: list[list[int]], draw: torch.Generator) -> MaskedRows:
        pairs = pair_rows(left, right, self._tokens, max_tokens=self._max_tokens, first_position=self._first_position)
        hidden = mask_tokens(pairs.ids, self._tokens, generator=draw)
        return MaskedRows(
            self._table.tlm,
            hidden.ids,
            pairs.attention,
            hidden.labels,
            pairs.positions if self._takes_positions else None,
            pairs.types if self._takes_types else None,
        )

    def _inside(self, row: NDArray[np.int32]) -> list[int]:
        """The tokens of a row without the special ones at its ends."""
        ids: list[int] = row.tolist()
        start = 1 if ids and ids[0] == self._tokens.cls else 0
        end = len(ids) - 1 if len(ids) > start and ids[-1] == self._tokens.sep else len(ids)
        return ids[start:end]


def _row(ragged: Ragged, row: int) -> NDArray[np.int32]:
    return ragged.flat[ragged.starts[row] : ragged.starts[row + 1]]
