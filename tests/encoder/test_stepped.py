"""An encoder with a step after it, the step's file, and the folders that bring both together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.encoder.checkpoints import copied
from tests.fakes import DIM, FakeEncoder
from xsearch.encoder import load
from xsearch.encoder.hub import HubEncoder
from xsearch.encoder.load import load_encoder
from xsearch.encoder.protocol import unit_vectors
from xsearch.encoder.step import LinearStep
from xsearch.encoder.stepped import (
    REFERENCE_FILE,
    STEP_FILE,
    SteppedEncoder,
    read_step,
    step_bytes,
    write_reference,
    write_step,
)
from xsearch.errors import EncoderError, EncoderNotFoundError

TEXTS = ["one two three", "vier fünf", ""]


def made(encoder: str = "", *, dim: int = DIM, dim_out: int = DIM, seed: int = 0) -> LinearStep:
    draw = np.random.default_rng(seed)
    arrays = [draw.normal(size=size).astype(np.float32) for size in ((dim, dim_out), dim_out, dim_out)]
    return LinearStep(*arrays, encoder=encoder, facts={"method": "projection", "languages": {"zh-Hant": 200}})


def fitted(encoder: Any, **options: Any) -> LinearStep:
    return made(encoder.fingerprint.digest, dim=encoder.dim, dim_out=encoder.dim, **options)


class TestEncoder:
    def test_each_door_has_its_offset(self) -> None:
        bare = FakeEncoder()
        step = fitted(bare)
        stepped = SteppedEncoder(bare, step)
        vectors = bare.encode_queries(TEXTS)
        expected = unit_vectors(vectors @ step.matrix - step.query_offset)
        np.testing.assert_array_equal(stepped.encode_queries(TEXTS), expected)
        expected = unit_vectors(vectors @ step.matrix - step.passage_offset)
        np.testing.assert_array_equal(stepped.encode_passages(TEXTS), expected)
        assert np.abs(stepped.encode_queries(TEXTS) - stepped.encode_passages(TEXTS)).max() > 0.1

    def test_no_texts_give_no_vectors(self) -> None:
        bare = FakeEncoder()
        assert SteppedEncoder(bare, fitted(bare)).encode_queries([]).shape == (0, DIM)

    def test_all_else_is_the_encoder_s_own(self) -> None:
        bare = FakeEncoder(max_tokens=33)
        stepped = SteppedEncoder(bare, fitted(bare))
        for own, its in zip(stepped.token_vectors(TEXTS), bare.token_vectors(TEXTS), strict=True):
            np.testing.assert_array_equal(own, its)
        assert stepped.token_offsets(TEXTS) == bare.token_offsets(TEXTS)
        assert stepped.unknown_characters(["a\u2603b"]) == [1]
        assert (stepped.max_tokens, stepped.overhead_tokens, stepped.dim) == (33, 2, DIM)

    def test_dim_is_what_comes_out(self) -> None:
        bare = FakeEncoder()
        stepped = SteppedEncoder(bare, made(bare.fingerprint.digest, dim_out=5))
        assert stepped.dim == stepped.fingerprint.dim == 5
        assert stepped.encode_passages(TEXTS).shape == (3, 5)

    def test_the_fingerprint_tells_steps_apart_and_from_none(self) -> None:
        bare = FakeEncoder()
        one, other = (SteppedEncoder(bare, fitted(bare, seed=seed)) for seed in (1, 2))
        assert len({bare.fingerprint.digest, one.fingerprint.digest, other.fingerprint.digest}) == 3
        assert one.fingerprint == replace(bare.fingerprint, step=one.step.digest)

    def test_a_step_after_a_step_is_in_the_fingerprint_with_the_first(self) -> None:
        bare = FakeEncoder()
        one = SteppedEncoder(bare, fitted(bare, seed=1))
        two = SteppedEncoder(one, fitted(one, seed=2), name="both")
        assert two.fingerprint.step == f"{one.step.digest}+{two.step.digest}"
        assert two.fingerprint.name == "both"

    def test_a_step_of_another_encoder_is_refused(self) -> None:
        step = fitted(FakeEncoder("other"))
        with pytest.raises(EncoderError, match=rf"fitted for the encoder {step.encoder[:12]}, and this is fake"):
            SteppedEncoder(FakeEncoder(), step)

    def test_a_step_of_another_dimension_is_refused(self) -> None:
        bare = FakeEncoder()
        with pytest.raises(EncoderError, match="takes vectors of 8 dimensions, and fake gives 16"):
            SteppedEncoder(bare, made(bare.fingerprint.digest, dim=8))


class TestFile:
    def test_it_comes_back_as_it_was(self, tmp_path: Path) -> None:
        step = made("d" * 64)
        assert write_step(tmp_path / "new", step) == tmp_path / "new" / STEP_FILE
        found = read_step(tmp_path / "new")
        assert found is not None
        assert (found.digest, found.encoder, found.facts) == (step.digest, step.encoder, step.facts)
        np.testing.assert_array_equal(found.matrix, step.matrix)
        assert [path.name for path in (tmp_path / "new").iterdir()] == [STEP_FILE]

    def test_the_same_step_gives_the_same_bytes(self) -> None:
        assert step_bytes(made()) == step_bytes(made())

    def test_no_file_is_no_step(self, tmp_path: Path) -> None:
        assert read_step(tmp_path) is None
        assert read_step(tmp_path / "nothing") is None

    @pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text", "folder"])
    def test_a_damaged_file_is_told(self, tmp_path: Path, damage: str) -> None:
        path = write_step(tmp_path, made())
        content = path.read_bytes()
        path.unlink()
        if damage == "folder":
            path.mkdir()
        else:
            middle = len(content) // 2
            flipped = content[:middle] + bytes([content[middle] ^ 64]) + content[middle + 1 :]
            path.write_bytes({"cut": content[:-50], "flipped": flipped, "empty": b"", "text": b"hello"}[damage])
        with pytest.raises(EncoderError, match=STEP_FILE) as caught:
            read_step(tmp_path)
        assert caught.value.remedy.startswith("Fit the step again: xsearch debias")

    def test_numbers_that_were_changed_are_told(self, tmp_path: Path) -> None:
        step = made()
        about = {"encoder": "", "facts": {}, "digest": step.digest}
        text = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
        offsets = {"query_offset": step.query_offset, "passage_offset": step.passage_offset}
        np.savez(tmp_path / STEP_FILE, matrix=step.matrix + 1, **offsets, about=text)
        with pytest.raises(EncoderError, match="its numbers are not those that were written"):
            read_step(tmp_path)

    def test_objects_are_not_unpickled(self, tmp_path: Path) -> None:
        step = made()
        offsets = {"query_offset": step.query_offset, "passage_offset": step.passage_offset}
        np.savez(tmp_path / STEP_FILE, matrix=np.array([{"a": 1}], dtype=object), **offsets)
        with pytest.raises(EncoderError, match=STEP_FILE):
            read_step(tmp_path)

    def test_a_matrix_and_offsets_that_do_not_go_together_are_refused(self) -> None:
        with pytest.raises(EncoderError, match="The step has a matrix of"):
            LinearStep(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), np.zeros(2, np.float32), "", {})
        with pytest.raises(EncoderError, match="NaN or infinity"):
            LinearStep(np.full((2, 2), np.nan, np.float32), np.zeros(2, np.float32), np.zeros(2, np.float32), "", {})


class TestFolders:
    def test_a_model_s_folder_brings_its_step(self, mbert: Path, tmp_path: Path) -> None:
        folder = copied(mbert, tmp_path / "model")
        bare = load_encoder(str(folder))
        write_step(folder, fitted(bare))
        stepped = load_encoder(str(folder))
        assert isinstance(stepped, SteppedEncoder)
        assert isinstance(stepped.encoder, HubEncoder)
        assert stepped.fingerprint.name == str(folder)
        np.testing.assert_allclose(
            stepped.encode_queries(TEXTS[:2]), stepped.step.queries(bare.encode_queries(TEXTS[:2])), atol=1e-6
        )

    def test_a_model_s_folder_with_the_step_of_another_is_refused(self, mbert: Path, tmp_path: Path) -> None:
        folder = copied(mbert, tmp_path / "model")
        write_step(folder, made("another", dim=32, dim_out=32))
        with pytest.raises(EncoderError, match="fitted for the encoder another"):
            load_encoder(str(folder))

    def test_a_folder_may_name_its_encoder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bare = FakeEncoder()
        monkeypatch.setattr(load, "BuiltinEncoder", lambda *folder: bare)
        write_reference(tmp_path / "debiased", "builtin", fitted(bare))
        found = load_encoder(str(tmp_path / "debiased"))
        assert isinstance(found, SteppedEncoder)
        assert found.encoder is bare
        assert found.fingerprint.name == str(tmp_path / "debiased")

    def test_an_encoder_that_is_gone_is_told_by_its_name(self, tmp_path: Path) -> None:
        write_reference(tmp_path, str(tmp_path / "gone"), made())
        with pytest.raises(EncoderNotFoundError, match=str(tmp_path / "gone")):
            load_encoder(str(tmp_path))

    def test_a_folder_without_its_step_is_told(self, tmp_path: Path) -> None:
        write_reference(tmp_path, "builtin", made())
        (tmp_path / STEP_FILE).unlink()
        with pytest.raises(EncoderError, match="names the encoder builtin and holds no step"):
            load_encoder(str(tmp_path))

    def test_a_folder_that_names_such_a_folder_is_told(self, tmp_path: Path) -> None:
        write_reference(tmp_path, str(tmp_path), made())
        with pytest.raises(EncoderError, match="names another encoder in turn"):
            load_encoder(str(tmp_path))

    @pytest.mark.parametrize("content", ["", "[]", '{"encoder": ""}', '{"encoder": 3}'])
    def test_a_damaged_reference_is_told(self, tmp_path: Path, content: str) -> None:
        write_reference(tmp_path, "builtin", made())
        (tmp_path / REFERENCE_FILE).write_text(content)
        with pytest.raises(EncoderError, match=REFERENCE_FILE):
            load_encoder(str(tmp_path))
