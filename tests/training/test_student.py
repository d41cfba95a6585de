"""The student: lazy Adam on the rows that a batch uses, and the vectors that the model itself would give."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import runs
from xsearch.errors import TrainingError
from xsearch.training.student import EmbeddingTable, Student, check_body, load_body


def table(rows: list[list[float]], pad: int = 0) -> EmbeddingTable:
    return EmbeddingTable(torch.tensor(rows), pad)


def test_rows_are_taken_once_and_put_back_in_place() -> None:
    found = table([[0.0], [1.0], [2.0], [3.0]]).take(torch.tensor([[3, 1], [3, 3]]), torch.tensor([[1]]))
    assert found.used.tolist() == [1, 3]
    assert found.leaf.tolist() == [[1.0], [3.0]]
    assert [places.tolist() for places in found.places] == [[[1, 0], [1, 1]], [[0]]]
    assert table([[0.0]]).take().used.tolist() == []


def test_two_updates_by_hand() -> None:
    """Adam's first step is the rate times the sign. Then m = 0.9 * 0.1 * 2 + 0.1 * 1 and v = 0.999 * 0.004 + 0.001."""
    own = table([[9.0, 9.0], [1.0, 1.0], [5.0, 5.0]])
    own.step(torch.tensor([1]), torch.tensor([[2.0, -2.0]]), 0.1)
    assert own.rows.tolist() == [[9.0, 9.0], pytest.approx([0.9, 1.1], abs=1e-6), [5.0, 5.0]]
    own.step(torch.tensor([1]), torch.tensor([[1.0, 0.0]]), 0.1)
    first = (0.9 * 0.2 + 0.1 * 1) / (1 - 0.9**2)
    second = (0.999 * 0.004 + 0.001) / (1 - 0.999**2)
    assert float(own.rows[1, 0]) == pytest.approx(0.9 - 0.1 * first / math.sqrt(second), abs=1e-5)
    assert own.updates.tolist() == [0.0, 2.0, 0.0]


def test_a_row_used_seldom_is_corrected_by_its_own_updates() -> None:
    own = table([[0.0], [1.0], [1.0]])
    for _ in range(5):
        own.step(torch.tensor([1]), torch.tensor([[1.0]]), 0.1)
    own.step(torch.tensor([2]), torch.tensor([[1.0]]), 0.1)
    assert float(own.rows[2]) == pytest.approx(0.9, abs=1e-6)


def test_padding_is_never_updated() -> None:
    own = table([[0.0], [1.0]])
    own.step(torch.tensor([0, 1]), torch.tensor([[1.0], [1.0]]), 0.1)
    assert own.rows.tolist() == [[0.0], [pytest.approx(0.9)]]


def test_with_all_rows_in_use_it_is_torchs_adam() -> None:
    draw = torch.Generator().manual_seed(1)
    start = torch.randn(4, 3, generator=draw)
    own, reference = EmbeddingTable(start.clone(), pad=-1), torch.nn.Parameter(start.clone())
    adam = torch.optim.Adam([reference], lr=0.01, betas=(0.9, 0.999), eps=1e-8)
    for _ in range(4):
        gradient = torch.randn(4, 3, generator=draw)
        reference.grad = gradient.clone()
        adam.step()
        own.step(torch.arange(4), gradient, 0.01)
    assert torch.allclose(own.rows, reference.detach(), atol=1e-6)


def test_a_table_comes_back_from_its_state() -> None:
    own, other = table([[0.0], [1.0]]), table([[7.0], [7.0]])
    own.step(torch.tensor([1]), torch.tensor([[1.0]]), 0.1)
    other.load({name: value.clone() for name, value in own.state().items()})
    for each in (own, other):
        each.step(torch.tensor([1]), torch.tensor([[0.5]]), 0.1)
    assert torch.equal(own.rows, other.rows)


def test_a_static_vector_is_the_mean_of_the_real_tokens() -> None:
    student = Student(None, table([[9.0, 9.0], [3.0, 0.0], [0.0, 1.0]]), "mean")
    vectors = student.encode(np.array([[1, 2], [2, 0]]), np.array([[1, 1], [1, 0]]))
    root = math.sqrt(10)
    assert vectors == pytest.approx(np.array([[3 / root, 1 / root], [0.0, 1.0]]), abs=1e-6)
    assert student.dim == 2


def test_an_empty_text_has_a_finite_gradient() -> None:
    student = Student(None, table([[1.0, 2.0], [3.0, 4.0]]), "mean")
    taken = student.table.take(torch.tensor([[0]]))
    student(taken.leaf[taken.places[0]], torch.tensor([[0]])).sum().backward()
    assert taken.leaf.grad is not None and bool(torch.isfinite(taken.leaf.grad).all())


@pytest.mark.parametrize("base", ["mbert", "xlmr", "mt5"])
def test_the_vectors_are_those_of_the_model_that_reads_ids(base: str, request: pytest.FixtureRequest) -> None:
    """Positions of XLM-R, the relative ones of mT5, and padding, as if the model had looked up its embeddings."""
    from transformers import AutoModel, MT5EncoderModel

    folder: Path = request.getfixturevalue(base)
    pad = 1 if base == "xlmr" else 0
    student = runs.student_of(folder, pad=pad).eval()
    whole = (MT5EncoderModel if base == "mt5" else AutoModel).from_pretrained(folder).eval()
    rows = [encoding.ids for encoding in runs.tokenizer_of(folder).encode_batch(["The dog sleeps.", "Der Hund"])]
    ids = np.full((2, max(map(len, rows))), pad)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
    mask = (np.arange(ids.shape[1]) < np.array([[len(row)] for row in rows])).astype(np.int64)
    assert 0 in mask
    with torch.no_grad():
        states = whole(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
    weight = torch.from_numpy(mask)[..., None].float()
    expected = torch.nn.functional.normalize((states * weight).sum(1) / weight.sum(1), dim=-1).numpy()
    assert student.encode(ids, mask) == pytest.approx(expected, abs=1e-5)
    alone = student.encode(np.array([rows[1]]), np.ones((1, len(rows[1])), dtype=np.int64))
    assert alone[0] == pytest.approx(expected[1], abs=1e-5)


def test_cls_pooling_takes_the_first_state(mbert: Path) -> None:
    student = runs.student_of(mbert, pooling="cls").eval()
    ids = torch.tensor([[2, 7, 8, 3]])
    with torch.no_grad():
        states = student.token_states(student.table.rows[ids], torch.ones_like(ids))
    expected = torch.nn.functional.normalize(states[:, 0], dim=-1).numpy()
    assert student.encode(ids.numpy(), np.ones((1, 4), dtype=np.int64)) == pytest.approx(expected, abs=1e-6)


def test_the_body_keeps_no_second_table(mbert: Path) -> None:
    body, embeddings = load_body(mbert, dropout=0.25)
    own = body.get_input_embeddings().weight
    assert tuple(own.shape) == (1, 32) and not own.requires_grad
    assert embeddings.shape[0] == runs.tokenizer_of(mbert).get_vocab_size()
    assert (body.config.hidden_dropout_prob, body.config.attention_probs_dropout_prob) == (0.25, 0.25)


def test_weights_of_a_checkpoint_that_holds_all_embeddings_are_read(mbert: Path) -> None:
    student, other = runs.student_of(mbert), runs.student_of(mbert)
    with torch.no_grad():
        for weight in student.parameters():
            weight.add_(1)
    state = {name: value.clone() for name, value in student.state_dict().items()}
    state["body.embeddings.word_embeddings.weight"] = torch.randn(300, 32)
    other.load_weights(state)
    name = "body.encoder.layer.1.output.dense.weight"
    assert torch.equal(other.state_dict()[name], student.state_dict()[name])


def test_a_body_that_cannot_read_so_far_is_refused(mbert: Path, xlmr: Path, mt5: Path) -> None:
    bodies = {name: load_body(folder, dropout=0)[0] for name, folder in (("b", mbert), ("x", xlmr), ("t", mt5))}
    check_body(bodies["b"], max_tokens=64, pad=0)
    check_body(bodies["x"], max_tokens=512, pad=1)
    check_body(bodies["t"], max_tokens=100_000, pad=0)
    with pytest.raises(TrainingError, match=r"max_tokens is 65\. The base has positions for 64"):
        check_body(bodies["b"], max_tokens=65, pad=0)
    with pytest.raises(TrainingError, match="has positions for 512 tokens"):
        check_body(bodies["x"], max_tokens=513, pad=1)
    with pytest.raises(TrainingError, match=r"has the id 0\. A xlm-roberta model counts positions from .* 1"):
        check_body(bodies["x"], max_tokens=64, pad=0)
