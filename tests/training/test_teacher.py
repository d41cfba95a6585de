"""The teacher's vectors on disk: only what is wanted is encoded, once, and never another teacher's or text's."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.encoder import checkpoints
from xsearch.encoder.builtin import BuiltinEncoder
from xsearch.encoder.hub import HubEncoder
from xsearch.encoder.protocol import Vectors
from xsearch.errors import EncoderError, TrainingError
from xsearch.training import teacher
from xsearch.training.teacher import cached_vectors, teacher_encoder

TEXTS = [f"text {number}" for number in range(10)]


class Fake:
    """Gives (number in the text, 1, factor) for each text, and remembers what it was asked."""

    dim = 3
    max_tokens = 8
    overhead_tokens = 0

    def __init__(self, factor: float = 0.5, *, fails_at: int = -1) -> None:
        self.calls: list[list[str]] = []
        self.loads = 0
        self._factor = factor
        self._fails_at = fails_at

    def encode_passages(self, texts: Sequence[str], *, on_progress: object = None) -> Vectors:
        if len(self.calls) == self._fails_at:
            raise KeyboardInterrupt
        self.calls.append(list(texts))
        return np.array([[int(text.split()[1]), 1, self._factor] for text in texts], dtype=np.float32)

    def load(self) -> Fake:
        self.loads += 1
        return self


@pytest.fixture(autouse=True)
def chunks_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "CHUNK_TEXTS", 2)


def vectors(path: Path, fake: Fake, wanted: Sequence[int], *, texts: Sequence[str] = TEXTS, key: str = "a") -> object:
    found = cached_vectors(path, texts, np.array(wanted, dtype=np.int64), fake.load, key=key)  # type: ignore[arg-type]
    return found.tolist()


def expected(*rows: int, factor: float = 0.5) -> list[list[float]]:
    return [[float(row), 1.0, factor] if row in rows else [0.0, 0.0, 0.0] for row in range(10)]


def test_only_wanted_rows_are_encoded(tmp_path: Path) -> None:
    fake = Fake()
    told: list[tuple[int, int]] = []
    wanted = np.array([7, 2, 2, 5], dtype=np.int64)
    found = cached_vectors(
        tmp_path / "t.npy", TEXTS, wanted, fake.load, key="a", on_count=lambda *count: told.append(count)  # type: ignore[arg-type]
    )  # fmt: skip
    assert found.tolist() == expected(2, 5, 7)
    assert found.dtype == np.float16
    assert isinstance(found, np.memmap)
    assert fake.calls == [["text 2", "text 5"], ["text 7"]]
    assert told == [(0, 3), (2, 3), (3, 3)]


def test_what_is_there_is_not_encoded_again(tmp_path: Path) -> None:
    vectors(tmp_path / "t.npy", Fake(), [1, 2, 3])
    again = Fake()
    assert vectors(tmp_path / "t.npy", again, [3, 1]) == expected(1, 2, 3)
    assert (again.loads, again.calls) == (0, [])


def test_a_longer_run_encodes_what_is_new(tmp_path: Path) -> None:
    vectors(tmp_path / "t.npy", Fake(), [1, 2, 3])
    longer = Fake()
    assert vectors(tmp_path / "t.npy", longer, [0, 1, 2, 3, 9]) == expected(0, 1, 2, 3, 9)
    assert longer.calls == [["text 0", "text 9"]]


def test_a_killed_run_goes_on_after_the_last_whole_chunk(tmp_path: Path) -> None:
    killed = Fake(fails_at=2)
    with pytest.raises(KeyboardInterrupt):
        vectors(tmp_path / "t.npy", killed, range(7))
    assert killed.calls == [["text 0", "text 1"], ["text 2", "text 3"]]
    again = Fake()
    assert vectors(tmp_path / "t.npy", again, range(7)) == expected(*range(7))
    assert again.calls == [["text 4", "text 5"], ["text 6"]]


def test_a_run_killed_before_its_first_chunk_begins_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        vectors(tmp_path / "t.npy", Fake(fails_at=0), [4])
    assert vectors(tmp_path / "t.npy", Fake(), [4]) == expected(4)


@pytest.mark.parametrize("change", ["teacher", "texts", "order", "count"])
def test_vectors_of_another_teacher_or_text_are_not_taken(tmp_path: Path, change: str) -> None:
    vectors(tmp_path / "t.npy", Fake(), [1, 2])
    other = Fake(factor=0.25)
    texts = {"texts": [*TEXTS[:9], "text 99"], "order": TEXTS[::-1], "count": TEXTS[:9]}.get(change, TEXTS)
    found = vectors(tmp_path / "t.npy", other, [2], texts=texts, key="b" if change == "teacher" else "a")
    assert other.calls == [[texts[2]]]
    assert found == [[float(texts[2].split()[1]), 1.0, 0.25] if row == 2 else [0.0] * 3 for row in range(len(texts))]


def test_runs_that_share_by_links_share_what_either_adds(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    vectors(one / "t.npy", Fake(), [1])
    for name in ("t.npy", "t.known.npy", "t.json"):
        (other / name).symlink_to(one / name)
    assert vectors(other / "t.npy", Fake(), [1, 2]) == expected(1, 2)
    again = Fake()
    assert vectors(one / "t.npy", again, [2]) == expected(1, 2)
    assert again.calls == []


def test_another_teacher_leaves_alone_what_is_shared(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    vectors(one / "t.npy", Fake(), [1])
    for name in ("t.npy", "t.known.npy", "t.json"):
        (other / name).symlink_to(one / name)
    assert vectors(other / "t.npy", Fake(0.25), [1], key="b") == expected(1, factor=0.25)
    again = Fake()
    assert vectors(one / "t.npy", again, [1]) == expected(1)
    assert again.calls == []


@pytest.mark.parametrize("name", ["t.npy", "t.known.npy", "t.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_damaged_files_are_made_anew(tmp_path: Path, name: str, damage: str) -> None:
    vectors(tmp_path / "t.npy", Fake(), [1, 2])
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:5] if damage == "cut" else b"")
    again = Fake()
    assert vectors(tmp_path / "t.npy", again, [1, 2]) == expected(1, 2)
    assert again.calls == [["text 1", "text 2"]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_vectors_that_are_not_finite_are_refused_and_what_was_good_stays(tmp_path: Path, value: float) -> None:
    vectors(tmp_path / "t.npy", Fake(), [1])
    with pytest.raises(TrainingError, match="NaN or infinity"):
        vectors(tmp_path / "t.npy", Fake(factor=value), [1, 2])
    again = Fake()
    assert vectors(tmp_path / "t.npy", again, [1]) == expected(1)
    assert again.calls == []


def test_nothing_wanted_is_nothing_encoded(tmp_path: Path) -> None:
    fake = Fake()
    assert vectors(tmp_path / "t.npy", fake, []) == expected()
    assert fake.calls == []


def test_a_disk_without_room_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(teacher.shutil, "disk_usage", lambda _: usage(100, 60, 40))
    fake = Fake()
    with pytest.raises(TrainingError, match="has room for 0"):
        vectors(tmp_path / "t.npy", fake, [1])
    assert fake.calls == []


class TestEncoders:
    def test_int8_and_the_model_as_it_is_agree(self, mbert: Path, tmp_path: Path) -> None:
        fast = teacher_encoder(mbert, int8=True, work=tmp_path / "int8", device="cpu")
        plain = teacher_encoder(mbert, int8=False, work=tmp_path / "plain", device="cpu")
        assert isinstance(fast, BuiltinEncoder)
        assert isinstance(plain, HubEncoder)
        assert not (tmp_path / "plain").exists()
        texts = checkpoints.SENTENCES[:4]
        cosines = (fast.encode_passages(texts) * plain.encode_passages(texts)).sum(axis=1)
        assert cosines.min() > 0.99

    def test_a_model_that_has_no_int8_graph_is_named(self, xlmr: Path, tmp_path: Path) -> None:
        with pytest.raises(EncoderError, match="xlm-roberta"):
            teacher_encoder(xlmr, int8=True, work=tmp_path / "int8", device="cpu")
