"""Examples as arrays: what is padded, what comes back from disk, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from xsearch.encoder.hub import Prompts
from xsearch.errors import TrainingError
from xsearch.training.prepared import META_FILE, NO_TEACHER, Prepared, Ragged, teacher_texts
from xsearch.training.selection import Example, Kind

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "dog", "cat", "der", "hund", "chien", "who", "barks"]
EXAMPLES = [
    Example(Kind.SENTENCE, "de", "der hund", "the dog", "news"),
    Example(Kind.TERM, "fr", "chien", "dog", "words"),
    Example(Kind.QUESTION, "en", "who barks", "the dog barks", "ask"),
    Example(Kind.SENTENCE, "fr", "chien chien chien chien", "the dog", "news"),
]


@pytest.fixture
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def row(ragged: Ragged, number: int) -> list[int]:
    return ragged.flat[ragged.starts[number] : ragged.starts[number + 1]].tolist()


def test_texts_are_cut_into_ids(tokenizer: Tokenizer) -> None:
    prepared = Prepared.build(EXAMPLES, tokenizer, 5)
    assert prepared.languages == ("de", "en", "fr")
    assert prepared.kinds.tolist() == [0, 1, 4, 0]
    assert prepared.langs.tolist() == [0, 2, 1, 2]
    assert [row(prepared.texts, number) for number in range(4)] == [
        [2, 7, 8, 3],
        [2, 9, 3],
        [2, 10, 11, 3],
        [2, 9, 9, 9, 3],
    ]
    assert [row(prepared.english, number) for number in range(4)] == [
        [2, 4, 5, 3],
        [2, 5, 3],
        [2, 4, 5, 11, 3],
        [2, 4, 5, 3],
    ]
    assert prepared.texts.lengths.tolist() == [4, 3, 4, 5]
    assert prepared.groups.tolist() == [list(example.groups()) for example in EXAMPLES]


def test_the_teacher_reads_each_english_side_once_and_no_passage_of_a_question(tokenizer: Tokenizer) -> None:
    assert teacher_texts(EXAMPLES) == ["the dog", "dog"]
    assert Prepared.build(EXAMPLES, tokenizer, 8).teacher_rows.tolist() == [0, 1, NO_TEACHER, 0]


def test_rows_are_padded_on_the_right() -> None:
    ragged = Ragged(np.array([5, 6, 7, 8, 9, 4], dtype=np.int32), np.array([0, 2, 2, 5, 6]))
    ids, mask = ragged.padded([2, 0, 1, 3], pad=99)
    assert ids.tolist() == [[7, 8, 9], [5, 6, 99], [99, 99, 99], [4, 99, 99]]
    assert mask.tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 0]]
    assert (ids.dtype, mask.dtype) == (np.int64, np.int64)
    ids, mask = ragged.padded(np.array([3, 3]), pad=0)
    assert (ids.tolist(), mask.tolist()) == ([[4], [4]], [[1], [1]])


def test_no_examples_are_no_rows(tokenizer: Tokenizer, tmp_path: Path) -> None:
    prepared = Prepared.build([], tokenizer, 8)
    assert prepared.groups.shape == (0, 3)
    prepared.save(tmp_path, "f")
    again = Prepared.load(tmp_path, "f")
    assert again is not None
    assert again.texts.starts.tolist() == [0]


def test_each_side_is_read_behind_its_prompt(tokenizer: Tokenizer) -> None:
    prompts = Prompts("who ", "cat ")  # words of the vocabulary: 10 and 6
    prepared = Prepared.build(EXAMPLES, tokenizer, 5, prompts=prompts)
    assert row(prepared.texts, 0) == [2, 6, 7, 8, 3]  # cat der hund
    assert row(prepared.texts, 1) == [2, 6, 9, 3]
    assert row(prepared.texts, 2) == [2, 10, 10, 11, 3]  # a question is a query, its passage a passage
    assert row(prepared.english, 2) == [2, 6, 4, 5, 3]  # cat the dog, and "barks" is cut off
    assert row(prepared.english, 0) == [2, 6, 4, 5, 3]
    assert prepared.teacher_rows.tolist() == Prepared.build(EXAMPLES, tokenizer, 5).teacher_rows.tolist()


class TestOnDisk:
    @pytest.fixture
    def folder(self, tokenizer: Tokenizer, tmp_path: Path) -> Path:
        Prepared.build(EXAMPLES, tokenizer, 8).save(tmp_path / "arrays", "one")
        return tmp_path / "arrays"

    def test_comes_back_as_it_was(self, tokenizer: Tokenizer, folder: Path) -> None:
        again = Prepared.load(folder, "one")
        first = Prepared.build(EXAMPLES, tokenizer, 8)
        assert again is not None
        assert again.languages == first.languages
        for name in ("kinds", "langs", "teacher_rows", "groups"):
            found, wanted = getattr(again, name), getattr(first, name)
            assert (found.tolist(), found.dtype) == (wanted.tolist(), wanted.dtype)
        for name in ("texts", "english"):
            assert getattr(again, name).flat.tolist() == getattr(first, name).flat.tolist()
            assert getattr(again, name).starts.tolist() == getattr(first, name).starts.tolist()

    def test_is_not_that_of_another_recipe(self, folder: Path) -> None:
        assert Prepared.load(folder, "two") is None
        assert Prepared.load(folder / "elsewhere", "one") is None

    @pytest.mark.parametrize("content", ["", "{", "[]", "3", "{}"])
    def test_without_its_facts_there_is_none(self, folder: Path, content: str) -> None:
        (folder / META_FILE).write_text(content)
        assert Prepared.load(folder, "one") is None

    @pytest.mark.parametrize("name", ["kinds", "text_flat", "english_starts", "groups"])
    @pytest.mark.parametrize("damage", ["missing", "empty", "cut", "noise"])
    def test_a_damaged_array_is_named(self, folder: Path, name: str, damage: str) -> None:
        path = folder / f"{name}.npy"
        data = path.read_bytes()
        path.write_bytes({"missing": b"", "empty": b"", "cut": data[:-3], "noise": b"\x00" * 200}[damage])
        if damage == "missing":
            path.unlink()
        with pytest.raises(TrainingError, match=r"Prepared data in .*arrays is damaged") as caught:
            Prepared.load(folder, "one")
        assert "Delete the folder" in str(caught.value)

    @pytest.mark.parametrize("name", ["kinds", "langs", "text_flat", "text_starts", "teacher_rows", "groups"])
    def test_arrays_of_different_lengths_are_refused(self, folder: Path, name: str) -> None:
        path = folder / f"{name}.npy"
        np.save(path, np.load(path, allow_pickle=False)[:-1], allow_pickle=False)
        with pytest.raises(TrainingError, match="not of one length"):
            Prepared.load(folder, "one")

    def test_a_save_that_was_killed_leaves_nothing_to_load(
        self, tokenizer: Tokenizer, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not the facts of the first recipe over arrays of the second."""

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(np, "save", killed)
            with pytest.raises(KeyboardInterrupt):
                Prepared.build(EXAMPLES[:2], tokenizer, 8).save(folder, "two")
        assert Prepared.load(folder, "one") is None
        assert Prepared.load(folder, "two") is None

    def test_languages_are_kept_in_order(self, folder: Path) -> None:
        assert json.loads((folder / META_FILE).read_text()) == {"fingerprint": "one", "languages": ["de", "en", "fr"]}
