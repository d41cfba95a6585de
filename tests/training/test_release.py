"""A trained student as folders: the library loads them without a word, and gives the student's own vectors."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from tests.training import runs
from xsearch.encoder.builtin import BuiltinEncoder
from xsearch.encoder.hub import HubEncoder, Prompts
from xsearch.encoder.load import load_encoder
from xsearch.encoder.step import LinearStep
from xsearch.errors import EncoderError, TrainingError
from xsearch.training import release
from xsearch.training.prepared import Prepared
from xsearch.training.release import compare, write_package, write_student
from xsearch.training.student import Student
from xsearch.training.trainer import Trainer

TEXTS = [
    "The dog chases the ball in the park.",
    "Der alte Bauer liest einen langen Brief im Garten.",
    "狗在公园里追球。",
    "El perro",
    "a",
    " ".join(["The dog sleeps in the garden."] * 20),
]


def encoded(student: Student, tokenizer: Tokenizer, texts: list[str], max_tokens: int, pad: int) -> np.ndarray:
    own = Tokenizer.from_str(tokenizer.to_str())
    own.enable_truncation(max_tokens)
    rows = [encoding.ids for encoding in own.encode_batch(texts)]
    width = max(map(len, rows))
    ids = np.array([[*row, *[pad] * (width - len(row))] for row in rows])
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return student.eval().encode(ids, mask)


def trained(base: Path, folder: Path, *, pad: int, pooling: str = "mean") -> Student:
    """A student after three steps, in which body and table moved."""
    prepared = runs.prepared_of(base)
    student = runs.student_of(base, pad=pad, pooling=pooling)
    before = [weight.detach().clone() for weight in student.parameters() if weight.requires_grad]
    rows = student.table.rows.clone()
    recipe = runs.recipe(folder, **runs.CONTRASTS, optimizer={"steps": 3, "warmup": 1})
    losses: list[float] = []
    trainer = Trainer(student, prepared, None, recipe, folder, pad=pad)
    trainer.run(on_step=lambda report: losses.append(report.loss))
    assert len(losses) == 3 and np.isfinite(losses).all()
    after = [weight for weight in student.parameters() if weight.requires_grad]
    moved = [not torch.equal(one, other) for one, other in zip(before, after, strict=True)]
    assert np.mean(moved) > 0.9
    assert not torch.equal(rows, student.table.rows)
    return student


@pytest.mark.parametrize(("base", "pad", "pooling"), [("mbert", 0, "mean"), ("xlmr", 1, "cls"), ("mt5", 0, "mean")])
def test_each_base_trains_and_is_loaded_without_a_word(
    base: str,
    pad: int,
    pooling: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    model: Path = request.getfixturevalue(base)
    student = trained(model, tmp_path, pad=pad, pooling=pooling)
    tokenizer = runs.tokenizer_of(model)
    folder = tmp_path / "encoder"
    capfd.readouterr()
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        write_student(student, tokenizer, folder, max_tokens=40)
        encoder = load_encoder(str(folder))
        vectors = encoder.encode_passages(TEXTS)
    assert [record.getMessage() for record in caplog.records] == []
    assert capfd.readouterr() == ("", "")
    assert isinstance(encoder, HubEncoder) and encoder.max_tokens == 40
    assert encoder.fingerprint.pooling == pooling
    own = encoded(student, tokenizer, TEXTS, 40, pad)
    assert (vectors * own).sum(1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    assert encoder.encode_queries(TEXTS) == pytest.approx(vectors, abs=1e-6)
    # What was written before changes nothing of the student, which trains on.
    assert encoded(student, tokenizer, TEXTS, 40, pad) == pytest.approx(own, abs=1e-6)


def test_a_model_that_wants_prompts_is_written_as_it_was_trained_without(xlmr: Path, tmp_path: Path) -> None:
    student = runs.student_of(xlmr, pad=1)
    write_student(student, runs.tokenizer_of(xlmr), tmp_path / "encoder", max_tokens=40)
    encoder = load_encoder(str(tmp_path / "encoder"))
    assert isinstance(encoder, HubEncoder)
    assert (encoder.prompts.query, encoder.prompts.passage) == ("", "")


def test_prompts_are_kept_on_their_sides(mbert: Path, tmp_path: Path) -> None:
    student, tokenizer = runs.student_of(mbert), runs.tokenizer_of(mbert)
    prompts = Prompts("query: ", "passage: ")
    write_student(student, tokenizer, tmp_path / "encoder", max_tokens=40, prompts=prompts)
    encoder = load_encoder(str(tmp_path / "encoder"))
    assert isinstance(encoder, HubEncoder) and encoder.prompts == prompts
    texts = TEXTS[:3]
    asked = encoded(student, tokenizer, [f"query: {text}" for text in texts], 40, 0)
    assert encoder.encode_queries(texts) == pytest.approx(asked, abs=1e-5)
    held = encoded(student, tokenizer, [f"passage: {text}" for text in texts], 40, 0)
    assert encoder.encode_passages(texts) == pytest.approx(held, abs=1e-5)
    assert np.abs(asked - held).max() > 1e-3
    write_package(tmp_path / "encoder", tmp_path / "package", TEXTS)
    assert load_encoder(str(tmp_path / "package")).encode_queries(texts) == pytest.approx(asked, abs=0.1)


def test_a_static_student_from_scratch(mbert: Path, tmp_path: Path) -> None:
    tokenizer = runs.tokenizer_of(mbert)
    layout = json.loads(tokenizer.to_str())
    tokenizer = Tokenizer.from_str(json.dumps({**layout, "post_processor": None}))
    prepared = Prepared.build(runs.examples(), tokenizer, 40)
    student = runs.static_student(mbert)
    before = student.table.rows.clone()
    recipe = runs.recipe(tmp_path, **runs.CONTRASTS, optimizer={"steps": 3, "warmup": 1})
    Trainer(student, prepared, None, recipe, tmp_path, pad=0).run()
    assert int((before != student.table.rows).any(1).sum()) > 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_student(student, tokenizer, tmp_path / "encoder", max_tokens=40)
        encoder = load_encoder(str(tmp_path / "encoder"))
        vectors = encoder.encode_passages(TEXTS)
    assert (encoder.dim, encoder.max_tokens) == (16, 40)
    own = encoded(student, tokenizer, TEXTS, 40, 0)
    assert (vectors * own).sum(1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)


def test_the_package_has_the_vectors_of_the_student(mbert: Path, tmp_path: Path) -> None:
    student = trained(mbert, tmp_path, pad=0)
    tokenizer = runs.tokenizer_of(mbert)
    write_student(student, tokenizer, tmp_path / "encoder", max_tokens=40)
    exported = write_package(tmp_path / "encoder", tmp_path / "package", TEXTS)
    assert exported.float32.lowest > 0.9999 and exported.float32.same_nearest == 1.0
    assert exported.int8.lowest > 0.95
    own = encoded(student, tokenizer, TEXTS, 40, 0)
    for name, least in (("package-float32", 0.9999), ("package", 0.95)):
        encoder = load_encoder(str(tmp_path / name))
        assert isinstance(encoder, BuiltinEncoder) and encoder.max_tokens == 40
        assert float((encoder.encode_passages(TEXTS) * own).sum(1).min()) > least
    assert exported.int8.lowest == pytest.approx(
        compare(load_encoder(str(tmp_path / "package-float32")), load_encoder(str(tmp_path / "package")), TEXTS).lowest
    )


def test_vectors_that_are_not_those_of_the_encoder_are_refused(
    mbert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_student(runs.student_of(mbert), runs.tokenizer_of(mbert), tmp_path / "encoder", max_tokens=40)
    monkeypatch.setattr(release, "INT8_PARITY", 1.1)
    with pytest.raises(TrainingError, match=r"int8 with int4 embeddings vector of a text has cosine .*At least 1\.1"):
        write_package(tmp_path / "encoder", tmp_path / "package", TEXTS)
    monkeypatch.setattr(release, "FLOAT_PARITY", 1.1)
    with pytest.raises(TrainingError, match=r"float32 graph gives .* cosine .* to torch's"):
        write_package(tmp_path / "encoder", tmp_path / "package", TEXTS)


def test_another_architecture_or_pooling_has_no_package(mbert: Path, xlmr: Path, tmp_path: Path) -> None:
    write_student(runs.student_of(xlmr, pad=1), runs.tokenizer_of(xlmr), tmp_path / "x", max_tokens=40)
    with pytest.raises(EncoderError, match="xlm-roberta model"):
        write_package(tmp_path / "x", tmp_path / "package", TEXTS)
    student = runs.student_of(mbert, pooling="cls")
    write_student(student, runs.tokenizer_of(mbert), tmp_path / "c", max_tokens=40)
    with pytest.raises(EncoderError, match="pools its tokens by cls"):
        write_package(tmp_path / "c", tmp_path / "package", TEXTS)


def test_weights_that_are_not_finite_are_not_written(mbert: Path, tmp_path: Path) -> None:
    tokenizer = runs.tokenizer_of(mbert)
    student = runs.student_of(mbert)
    student.table.rows[7, 3] = float("nan")
    with pytest.raises(TrainingError, match="NaN or infinity in the token embeddings"):
        write_student(student, tokenizer, tmp_path / "encoder", max_tokens=40)
    student = runs.student_of(mbert)
    with torch.no_grad():
        student.get_parameter("body.encoder.layer.0.output.dense.bias")[0] = float("inf")
    with pytest.raises(TrainingError, match=r"in body\.encoder\.layer\.0\.output\.dense\.bias"):
        write_student(student, tokenizer, tmp_path / "encoder", max_tokens=40)
    assert not (tmp_path / "encoder").exists()


@pytest.mark.parametrize("dim_out", [None, 24])
def test_a_package_with_prompts_and_a_step_is_compared_through_both_doors(
    e5: Path, tmp_path: Path, dim_out: int | None
) -> None:
    draw = np.random.default_rng(3)
    arrays = [
        draw.normal(size=size).astype(np.float32) * 0.3 for size in ((32, dim_out or 1), dim_out or 1, dim_out or 1)
    ]
    step = None if dim_out is None else LinearStep(*arrays, "abc", {})
    exported = write_package(e5, tmp_path / "package", TEXTS, step=step)
    assert exported.float32.lowest > 0.9999 and exported.float32.same_nearest == 1.0
    assert 0.95 < exported.int8.lowest < exported.int8.mean < 1
    encoder, reference = load_encoder(str(tmp_path / "package")), load_encoder(str(e5))
    assert encoder.fingerprint.dtype == "int8 with int4 embeddings"
    queries, passages = reference.encode_queries(TEXTS), reference.encode_passages(TEXTS)
    if step is not None:
        queries, passages = step.queries(queries), step.passages(passages)
    lowest = [
        (encoder.encode_queries(TEXTS) * queries).sum(1).min(),
        (encoder.encode_passages(TEXTS) * passages).sum(1).min(),
    ]
    assert min(lowest) == pytest.approx(exported.int8.lowest, abs=1e-4)


def test_how_close_two_encoders_are() -> None:
    class Fixed:
        def __init__(self, rows: list[list[float]]) -> None:
            self.rows = np.array(rows, dtype=np.float32)

        def encode_queries(self, _texts: list[str]) -> np.ndarray:
            return np.eye(3, 2, dtype=np.float32)

        def encode_passages(self, _texts: list[str]) -> np.ndarray:
            return self.rows

    first = Fixed([[1, 0], [0.8, 0.6], [0, 1]])
    second = Fixed([[1, 0], [0.6, 0.8], [0, 1]])  # nearest to the last now, as the last is to it
    found = compare(first, second, ["a", "b", "c"])  # type: ignore[arg-type]
    # As queries two of the three agree with themselves; the third has no direction.
    assert found.lowest == 0
    assert found.mean == pytest.approx((1 + 1 + 0 + 1 + 0.96 + 1) / 6)
    assert found.same_nearest == pytest.approx((3 + 2) / 6)
