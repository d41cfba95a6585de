"""One tokenizer of an English model's pieces and those of other languages: how it cuts, keeps and refuses."""

from __future__ import annotations

import math

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from xsearch.errors import TrainingError
from xsearch.training.vocabulary import (
    SPACE,
    SPECIAL,
    build,
    candidate_pieces,
    english_pieces,
    first_scores,
    ids_of,
    merge,
    rank_scores,
)

ENGLISH = [
    "The lighthouse keeper was reading a newspaper when the boats came in.",
    "Readers of the newspaper know the keeper of the house and his boats.",
    "A house, a light and a boat: what else would a reader need?",
    "Nobody was reading when the lights of the house went out, he said.",
] * 5
# Short words, that other words do not begin with.
VIETNAMESE = [
    "người đã được những không của một các", "những người của một các đã không được", "một người không được các của",
    "đã không của những các người được một",
] * 30  # fmt: skip
CHINESE = ["灯塔看守人在读报纸", "看守人的房子有灯", "船回来的时候他在读报"] * 3


def wordpiece(texts: list[str], size: int = 150) -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=size, special_tokens=list(SPECIAL), show_progress=False)
    )
    return made


@pytest.fixture(scope="module")
def base() -> Tokenizer:
    return wordpiece(ENGLISH)


def merged(base: Tokenizer, others: list[str], size: int) -> tuple[Tokenizer, dict[str, float]]:
    english = english_pieces(base)
    pieces = merge(english, others, size)
    start = rank_scores(others) | first_scores(english, base, ENGLISH)
    return build(pieces, [*ENGLISH, *VIETNAMESE, *CHINESE], start=start, max_tokens=64)


@pytest.fixture(scope="module")
def tokenizer(base: Tokenizer) -> Tokenizer:
    return merged(base, candidate_pieces([*VIETNAMESE, *CHINESE], 120), 400)[0]


class TestEnglish:
    def test_pieces_that_begin_a_word_are_marked(self) -> None:
        names = {"[PAD]": 0, "[UNK]": 1, "[unused0]": 2, "house": 3, "##s": 4, "café": 5, "##é": 6, ".": 7, "##": 8}
        made = Tokenizer(models.WordPiece(names, unk_token="[UNK]"))
        made.add_special_tokens(["[PAD]", "[UNK]"])
        assert english_pieces(made) == {"▁house": 3, "s": 4, "▁.": 7}

    @pytest.mark.parametrize("model", [models.BPE(), models.Unigram([("a", 0.0)]), models.WordLevel({"a": 0})])
    def test_another_kind_of_tokenizer_is_named(self, model: models.Model) -> None:
        with pytest.raises(TrainingError, match=f"has a {type(model).__name__} tokenizer"):
            english_pieces(Tokenizer(model))

    def test_words_are_cut_as_the_english_model_cuts_them(self, base: Tokenizer, tokenizer: Tokenizer) -> None:
        """Pieces are compared as the English model's ids, that they take their embeddings from."""
        english = english_pieces(base)
        for text in ENGLISH[:4]:
            ours = [english[piece] for piece in tokenizer.encode(text, add_special_tokens=False).tokens]
            assert ours == base.encode(text, add_special_tokens=False).ids

    def test_words_that_were_not_seen_too(self, base: Tokenizer, tokenizer: Tokenizer) -> None:
        english = english_pieces(base)
        for word in ("lights", "keepers", "READING", "boats,", "houses."):
            ours = [english[piece] for piece in tokenizer.encode(word, add_special_tokens=False).tokens]
            assert ours == base.encode(word, add_special_tokens=False).ids


class TestCandidates:
    def test_frequent_words_that_no_longer_word_begins_with_are_pieces(self) -> None:
        """The Unigram trainer of tokenizers 0.22 finds none of them: it counts different words, each once."""
        found = candidate_pieces(VIETNAMESE, 200)
        assert [word for word in VIETNAMESE[0].split() if SPACE + word not in found] == []

    def test_the_size_is_not_exceeded_and_characters_come_first(self) -> None:
        found = candidate_pieces(VIETNAMESE, 60)
        assert len(found) <= 60
        letters = {char for char in "".join(VIETNAMESE) if char != " "}
        assert set(found[: len(letters) + 1]) == letters | {SPACE}

    def test_case_is_folded_and_marks_stay(self) -> None:
        found = candidate_pieces(["ĐÃ Đã đã कि"] * 5, 40)
        assert SPACE + "đã" in found
        assert "ि" in found
        assert [piece for piece in found if piece != piece.lower()] == []

    def test_no_text_gives_no_pieces(self) -> None:
        assert candidate_pieces([], 10) == []


class TestMerge:
    def test_single_characters_are_kept_and_others_in_order(self) -> None:
        english = {"▁house": 3, "s": 4}
        others = ["▁", "ш", "▁дом", "s", "дом", "灯", "ом"]
        assert merge(english, others, 11) == [*SPECIAL, "▁house", "s", "▁", "ш", "灯", "▁дом"]
        assert merge(english, others, 100)[-3:] == ["▁дом", "дом", "ом"]
        assert merge(english, others, 10) == [*SPECIAL, "▁house", "s", "▁", "ш", "灯"]

    def test_a_size_that_is_too_small_is_named(self) -> None:
        with pytest.raises(TrainingError, match=r"vocabulary.size is 9\. .*\(2\).*\(2\) need 10"):
            merge({"▁house": 3, "s": 4}, ["ш", "灯", "дом"], 9)

    def test_special_tokens_are_not_taken_twice(self) -> None:
        assert merge({}, ["[UNK]", "ab"], 7) == [*SPECIAL, "▁", "ab"]


class TestBuild:
    def test_other_languages_are_cut_into_their_words(self, tokenizer: Tokenizer) -> None:
        found = tokenizer.encode("Những người không được", add_special_tokens=False).tokens
        assert found == ["▁những", "▁người", "▁không", "▁được"]

    def test_no_character_that_was_seen_is_unknown(self, tokenizer: Tokenizer) -> None:
        for text in (*VIETNAMESE[:4], *CHINESE[:3], *ENGLISH[:4]):
            assert tokenizer.token_to_id("[UNK]") not in tokenizer.encode(text).ids
        assert tokenizer.encode("ж", add_special_tokens=False).ids == [
            tokenizer.token_to_id(SPACE),
            tokenizer.token_to_id("[UNK]"),
        ]

    def test_texts_have_marks_around_them_and_are_cut(self, tokenizer: Tokenizer) -> None:
        found = tokenizer.encode("the house", "a boat")
        assert found.tokens == ["[CLS]", "▁the", "▁house", "[SEP]", "▁a", "▁boat", "[SEP]"]
        assert found.type_ids == [0, 0, 0, 0, 1, 1, 1]
        long = tokenizer.encode("house " * 100)
        assert (len(long.ids), long.tokens[0], long.tokens[-1]) == (64, "[CLS]", "[SEP]")

    def test_ids_are_the_places_of_the_pieces(self, base: Tokenizer) -> None:
        pieces = merge(english_pieces(base), ["灯"], 400)
        made, scores = build(pieces, ENGLISH, start={}, max_tokens=8)
        assert [made.token_to_id(piece) for piece in pieces] == list(range(len(pieces)))
        assert scores.keys() == set(pieces)

    def test_scores_are_log_probabilities_counted_on_the_text(self) -> None:
        """a b, a: 2 of 3 are ▁a. Each of 8 pieces has a tenth more."""
        pieces = [*SPECIAL, "▁a", "▁b", "c"]
        _, scores = build(pieces, ["a b", "a"], start={}, max_tokens=8, rounds=1)
        assert scores["▁a"] == pytest.approx(math.log(2.1 / 3.8))
        assert scores["▁b"] == pytest.approx(math.log(1.1 / 3.8))
        assert scores["c"] == pytest.approx(math.log(0.1 / 3.8))

    def test_it_is_the_same_again(self, base: Tokenizer, tokenizer: Tokenizer) -> None:
        again, _ = merged(base, candidate_pieces([*VIETNAMESE, *CHINESE], 120), 400)
        assert again.to_str() == tokenizer.to_str()

    def test_it_comes_back_from_its_text(self, tokenizer: Tokenizer) -> None:
        again = Tokenizer.from_str(tokenizer.to_str())
        assert again.encode("Những lights 灯塔").ids == tokenizer.encode("Những lights 灯塔").ids


def test_ids_have_no_special_tokens(tokenizer: Tokenizer) -> None:
    house = tokenizer.token_to_id("▁house")
    assert ids_of(tokenizer, ["house house", "", "house"]) == [[house, house], [], [house]]
    assert ids_of(tokenizer, []) == []


def test_first_scores_are_counted_with_the_english_tokenizer() -> None:
    made = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    scores = first_scores({"▁a": 1, "▁b": 2}, made, ["a a b"])
    assert scores == pytest.approx({"▁a": math.log(2.1 / 3.2), "▁b": math.log(1.1 / 3.2)})


def test_rank_scores_fall() -> None:
    scores = rank_scores(["x", "y", "z"])
    assert scores["x"] == pytest.approx(-math.log(10 * math.log(13)))
    assert scores["x"] > scores["y"] > scores["z"]
