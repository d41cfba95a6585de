"""Masked and translation language modelling beside the other terms: special tokens, rows, head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import runs
from xsearch.training.language_model import LanguageModel, MaskedHead, MaskedRows, special_tokens
from xsearch.training.recipe import LossTable
from xsearch.training.selection import Kind


def model_of(base: Path, *, pad: int = 0, mlm: float = 0, tlm: float = 0) -> LanguageModel:
    tokens = special_tokens(runs.tokenizer_of(base))
    table = LossTable(mlm=mlm, tlm=tlm)
    return LanguageModel(runs.student_of(base, pad=pad), tokens, table, max_tokens=40, seed=7)


def test_special_tokens_by_the_names_of_bert_and_xlmr(mbert: Path, xlmr: Path) -> None:
    tokens = special_tokens(runs.tokenizer_of(mbert))
    assert (tokens.pad, tokens.others, tokens.cls, tokens.sep, tokens.mask) == (0, (1,), 2, 3, 4)
    tokens = special_tokens(runs.tokenizer_of(xlmr))
    assert (tokens.cls, tokens.pad, tokens.sep, tokens.others) == (0, 1, 2, (3,))
    assert tokens.mask == runs.tokenizer_of(xlmr).token_to_id("<mask>")


def test_the_head_guesses_by_the_table_and_leaves_it_alone() -> None:
    """With an identity for dense and no bias, logits are those of normalised GELUs against the rows."""
    head = MaskedHead(2, 2, 3)
    with torch.no_grad():
        head.dense.weight.copy_(torch.eye(2))
        head.dense.bias.zero_()
        head.bias[2] = 5.0
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], requires_grad=True)
    # GELU(3) > GELU(-3) = 0, and LayerNorm makes of two different numbers 1 and -1.
    logits = head(torch.tensor([[3.0, -3.0]]), rows)
    assert logits.tolist() == [[pytest.approx(1.0, abs=1e-3), pytest.approx(-1.0, abs=1e-3), 5.0]]
    logits.sum().backward()
    assert rows.grad is None and head.bias.grad is not None


def test_which_batches_have_which_rows(mbert: Path) -> None:
    prepared = runs.prepared_of(mbert)
    both = model_of(mbert, mlm=0.5, tlm=2)
    counts = {}
    for kind in Kind:
        rows = np.flatnonzero(prepared.kinds == kind)[:4]
        counts[kind.name] = [part.weight for part in both.rows(kind, prepared, rows, 3)]
    assert counts == {"SENTENCE": [0.5, 2], "TERM": [], "PASSAGE": [0.5, 2], "ENGLISH": [0.5], "QUESTION": []}


def test_rows_depend_on_seed_and_number_alone(mbert: Path) -> None:
    prepared = runs.prepared_of(mbert)
    rows = np.arange(4)
    first, again, other = (model_of(mbert, mlm=1).rows(Kind.SENTENCE, prepared, rows, n)[0] for n in (3, 3, 4))
    assert torch.equal(first.ids, again.ids) and torch.equal(first.labels, again.labels)
    assert not torch.equal(first.labels, other.labels)
    plain = torch.from_numpy(prepared.texts.padded(rows, 0)[0])
    hidden = first.labels >= 0
    assert torch.equal(first.labels[hidden], plain[hidden])
    assert torch.equal(first.ids[~hidden], plain[~hidden])


def test_a_translation_stands_beside_its_text_as_the_body_takes_it(mbert: Path, xlmr: Path) -> None:
    prepared = runs.prepared_of(mbert)
    (pair,) = model_of(mbert, tlm=1).rows(Kind.SENTENCE, prepared, np.array([0]), 1)
    assert pair.positions is not None and pair.types is not None
    left, right = (each.padded(np.array([0]), 0)[0][0].tolist() for each in (prepared.texts, prepared.english))
    ids = torch.where(pair.labels >= 0, pair.labels, pair.ids)[0].tolist()
    assert ids == [*left, *right[1:]]
    assert pair.positions[0].tolist() == [*range(len(left)), *range(1, len(right))]
    assert pair.types[0].tolist() == [0] * len(left) + [1] * (len(right) - 1)
    prepared = runs.prepared_of(xlmr)
    (pair,) = model_of(xlmr, pad=1, tlm=1).rows(Kind.SENTENCE, prepared, np.array([0]), 1)
    assert pair.types is None and pair.positions is not None  # XLM-R has one type, and positions from 2
    assert pair.positions[0, :3].tolist() == [2, 3, 4]


def test_a_part_of_the_rows_drops_columns_of_padding() -> None:
    ids = torch.tensor([[5, 6, 7], [8, 0, 0]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    part = MaskedRows(1.0, ids, mask, ids.clone(), positions=ids + 1).part(1, 2)
    assert (part.ids.tolist(), part.mask.tolist(), part.types) == ([[8]], [[1]], None)
    assert part.positions is not None and part.positions.tolist() == [[9]]


def test_the_gradient_reaches_head_body_and_the_rows_that_were_read(mbert: Path) -> None:
    student = runs.student_of(mbert)
    prepared = runs.prepared_of(mbert)
    model = model_of(mbert, mlm=1)
    (rows,) = model.rows(Kind.SENTENCE, prepared, np.arange(6), 2)
    taken = student.table.take(rows.ids)
    loss = model.loss(student, student.token_states(taken.leaf[taken.places[0]], rows.mask), rows)
    loss.backward()  # type: ignore[no-untyped-call]
    assert taken.leaf.grad is not None and float(taken.leaf.grad.abs().max()) > 0
    assert all(weight.grad is not None and float(weight.grad.abs().max()) > 0 for weight in model.head.parameters())
    query = student.body.encoder.layer[0].attention.self.query.weight  # type: ignore[union-attr]
    assert float(query.grad.abs().max()) > 0
