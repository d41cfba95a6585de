"""Cutting a vocabulary: which pieces stay, what they are called then, and what no cut may lose."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from xsearch.errors import TrainingError
from xsearch.training.cut import Cut, CutOptions, count_pieces, cut

XLMR = ["<s>", "<pad>", "</s>", "<unk>"]
BERT = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Georgian and nothing else is written so; twice MIN_SCRIPT_PIECES with the marks' forms.
GEORGIAN = [chr(code) for code in range(0x10D0, 0x10F1)]


def unigram(pieces: Mapping[str, float], *, mask_inside: bool = True, byte_fallback: bool = False) -> Tokenizer:
    """As XLM-R has it: four special tokens first, ``<mask>`` last, in the model's vocabulary or behind it."""
    bytes_ = {f"<0x{byte:02X}>": -12.0 for byte in range(256)} if byte_fallback else {}
    vocab = [*((token, 0.0) for token in XLMR), *bytes_.items(), *pieces.items()]
    if mask_inside:
        vocab.append(("<mask>", 0.0))
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=3, byte_fallback=byte_fallback))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (*XLMR, "<mask>")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def wordpiece(pieces: list[str]) -> Tokenizer:
    """As BERT has it, with a piece that nothing uses between the special ones."""
    tokenizer = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate([*BERT, *pieces])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [token for token in BERT if token != "[unused1]"]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 4), ("[CLS]", 3))
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return tokenizer


PIECES = {
    "▁": -4.0, "▁the": -3.0, "▁der": -3.0, "house": -5.0, "haus": -5.0, "▁hou": -6.0, "se": -6.0, "▁query": -7.0,
    ":": -7.0, **dict.fromkeys("abcdehioqrstuxyz", -9.0),
}  # fmt: skip


def counts(tokenizer: Tokenizer, **texts: list[str]) -> dict[str, Any]:
    return {lang: count_pieces(tokenizer, own) for lang, own in texts.items()}


def options(size: int | None, **more: Any) -> CutOptions:
    return CutOptions(size, more.pop("weights", {}), **more)


def pieces(made: Cut) -> list[str]:
    return [str(made.tokenizer.id_to_token(number)) for number in range(made.tokenizer.get_vocab_size())]


def model(tokenizer: Tokenizer) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return content


def test_pieces_are_counted_without_special_tokens() -> None:
    base = unigram(PIECES)
    found = count_pieces(base, ["the haus", "the", "w"])
    assert {base.id_to_token(int(n)): int(found[n]) for n in np.flatnonzero(found)} == {
        "▁the": 2, "▁": 2, "haus": 1, "<unk>": 1,
    }  # fmt: skip
    assert len(found) == base.get_vocab_size()
    assert count_pieces(base, []).sum() == 0


def test_the_most_wanted_stay_in_order_with_their_scores_and_rows() -> None:
    base = unigram(PIECES)
    found = counts(base, en=["the house"] * 9 + ["the house se"], de=["der haus"])
    made = cut(base, found, options(24))
    # Five special tokens; ▁ and the letters of what occurs (a d e h o r s t u) and 9 more, of which 4 are never used.
    assert pieces(made) == [
        "<s>", "<pad>", "</s>", "<unk>", "▁", "▁the", "▁der", "house", "haus", "▁hou", "se", "▁query", ":", "a", "b",
        "d", "e", "h", "o", "r", "s", "t", "u", "<mask>",
    ]  # fmt: skip
    assert made.kept.tolist() == [base.token_to_id(piece) for piece in pieces(made)]
    scores = dict(model(base)["vocab"])
    assert model(made.tokenizer)["vocab"] == [[piece, scores[piece]] for piece in pieces(made)]
    smaller = pieces(cut(base, found, options(18)))
    # 5 special, 10 characters: 3 are left, and se is the least of what is used.
    assert [piece for piece in smaller if len(piece.removeprefix("▁")) > 1 and piece not in (*XLMR, "<mask>")] == [
        "▁the", "▁der", "haus",
    ]  # fmt: skip


def test_weights_say_whose_pieces_stay() -> None:
    base = unigram(PIECES)
    found = counts(base, en=["the house"], de=["der haus"])

    def longer(**weights: float) -> set[str]:
        made = pieces(cut(base, found, options(17, weights=weights)))
        return {piece for piece in made if len(piece.removeprefix("▁")) > 1} - {*XLMR, "<mask>"}

    assert longer(en=2.0) == {"▁the", "house"}
    assert longer(de=2.0) == {"▁der", "haus"}
    # A language of weight 0 does not even keep its characters: h o u s e t and ▁ leave room for d and r.
    assert "r" not in pieces(cut(base, found, options(14, weights={"de": 0.0})))


def test_what_a_dropped_piece_spelled_is_spelled_by_smaller_ones() -> None:
    base = unigram(PIECES)
    made = cut(base, counts(base, en=["the house query"], de=["der haus"]), options(20))
    assert {"house", "haus"} - set(pieces(made))
    for text in ("the house", "der haus", "house house the", "query"):
        encoded = made.tokenizer.encode(text)
        assert encoded.tokens[0] == "<s>" and encoded.tokens[-1] == "</s>"
        assert "".join(encoded.tokens[1:-1]).replace("▁", " ").strip() == text
        assert "<unk>" not in encoded.tokens


def test_special_tokens_work_behind_their_new_ids() -> None:
    base = unigram(PIECES)
    made = cut(base, counts(base, en=["the house"]), options(16)).tokenizer
    assert made.encode("the", "house").tokens == ["<s>", "▁the", "</s>", "</s>", "▁", "house", "</s>"]
    assert made.encode("w").ids == [0, made.token_to_id("▁"), 3, 2]
    assert made.encode("<mask>").ids == [0, made.token_to_id("<mask>"), 2]
    assert made.token_to_id("<mask>") == made.get_vocab_size() - 1 == 15
    assert {token.content for token in made.get_added_tokens_decoder().values()} == {*XLMR, "<mask>"}
    again = Tokenizer.from_str(made.to_str())
    assert again.encode("the house <mask>").ids == made.encode("the house <mask>").ids


def test_a_token_behind_the_models_vocabulary_stays_behind_it() -> None:
    base = unigram(PIECES, mask_inside=False)
    assert base.token_to_id("<mask>") == len(XLMR) + len(PIECES)
    made = cut(base, counts(base, en=["the house"]), options(16))
    assert made.tokenizer.token_to_id("<mask>") == 15 and made.kept[15] == base.token_to_id("<mask>")
    assert len(model(made.tokenizer)["vocab"]) == 15
    assert made.tokenizer.encode("the <mask>").tokens == ["<s>", "▁the", "▁", "<mask>", "</s>"]


def test_special_tokens_that_move_are_renumbered_everywhere() -> None:
    base = wordpiece(["the", "house", "##s", *"theous", *(f"##{letter}" for letter in "theous")])
    made = cut(base, counts(base, en=["the house houses"]), options(19)).tokenizer
    # [unused1] is gone, and all behind it move up.
    assert [made.id_to_token(number) for number in range(5)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert made.encode("the house").tokens == ["[CLS]", "the", "house", "[SEP]"]
    assert made.encode("the house").ids[0] == 2
    short, long = made.encode_batch(["the", "the house"])
    assert short.tokens == ["[CLS]", "the", "[SEP]", "[PAD]"] and len(long.tokens) == 4
    roberta = unigram({**PIECES})
    roberta.post_processor = processors.Sequence(
        [processors.RobertaProcessing(("<mask>", len(XLMR) + len(PIECES)), ("<s>", 0))]
    )
    cut_roberta = cut(roberta, counts(roberta, en=["the"]), options(12)).tokenizer
    assert cut_roberta.encode("the").tokens == ["<s>", "▁the", "<mask>"]


@pytest.mark.parametrize("size", range(21, 30))
def test_every_word_of_wordpiece_can_still_be_spelled(size: int) -> None:
    letters = "abehlnostu"
    longer = ["house", "houses", "##ses", "##st", "##able", "the", "tab", "##le"]
    base = wordpiece([*longer, *letters, *(f"##{letter}" for letter in letters)])
    words = ["house", "houses", "houst", "the", "table", "tabstable", "unable", "thouses"]
    found = counts(base, en=words * 3)
    if size < 25:
        with pytest.raises(TrainingError, match="need 2"):
            cut(base, found, options(size))
        return
    made = cut(base, found, options(size)).tokenizer
    for word in words:
        tokens = made.encode(word, add_special_tokens=False).tokens
        assert "".join(token.removeprefix("##") for token in tokens) == word
        assert len(tokens) >= len(base.encode(word, add_special_tokens=False).tokens)


def test_a_character_is_kept_at_a_words_start_and_inside() -> None:
    base = wordpiece(["ab", *"abcd", "##a", "##b", "##c"])
    made = pieces(cut(base, counts(base, en=["ab", "ab"]), options(9)))
    assert made == [token for token in BERT if token != "[unused1]"] + ["a", "b", "##a", "##b"]


def test_a_piece_whose_characters_are_no_pieces_stays() -> None:
    base = wordpiece(["aé", "##zz", "a", "##a", "ab", "##b", "aa"])
    made = pieces(cut(base, counts(base, en=["ab", "aé", "azz"]), options(10)))
    assert {"aé", "##zz"} <= set(made) and "aa" not in made
    unlike = unigram({"▁": -2.0, "ñu": -5.0, "a": -5.0, "▁a": -3.0, "aa": -6.0})
    made = pieces(cut(unlike, counts(unlike, es=["ñu a"]), options(8)))
    assert made == [*XLMR, "▁", "ñu", "a", "<mask>"]


def test_prompts_stay() -> None:
    base = unigram(PIECES)
    found = counts(base, en=["the house"])
    without = pieces(cut(base, found, options(16)))
    assert "▁query" not in without
    made = cut(base, found, options(16, prompts=("query: ",))).tokenizer
    assert made.encode("query: the").tokens == ["<s>", "▁query", ":", "▁the", "</s>"]


def test_byte_pieces_stay() -> None:
    base = unigram(PIECES, byte_fallback=True)
    found = counts(base, en=["the house"])
    made = cut(base, found, options(275)).tokenizer
    assert made.get_vocab_size() == 275
    assert made.encode("ж", add_special_tokens=False).tokens == ["▁", "<0xD0>", "<0xB6>"]
    with pytest.raises(TrainingError, match=r"need 2\d\d pieces"):
        cut(base, found, options(200))


def test_all_pieces_can_be_kept() -> None:
    base = unigram(PIECES)
    for size in (None, base.get_vocab_size()):
        made = cut(base, counts(base, en=["the"]), options(size))
        assert made.kept.tolist() == list(range(base.get_vocab_size()))
        assert made.tokenizer.encode("the house").ids == base.encode("the house").ids


class TestScores:
    """Languages without data, by what the base itself scored."""

    @pytest.fixture
    def base(self) -> Tokenizer:
        words = {f"▁{a}{b}": -8.0 - n / 50 for n, (a, b) in enumerate((a, b) for a in GEORGIAN[:9] for b in GEORGIAN)}
        return unigram({**PIECES, "▁le": -3.5, "ǹ": -9.5, **words, **dict.fromkeys(GEORGIAN, -9.0), "\u10fb": -11.0})

    def test_a_prior_keeps_what_was_frequent_where_the_base_was_made(self) -> None:
        base = unigram({**PIECES, "▁le": -3.5})
        found = counts(base, en=["the house"])

        def longer(size: int, prior: float) -> set[str]:
            made = pieces(cut(base, found, options(size, prior=prior)))
            return {piece for piece in made if len(piece.removeprefix("▁")) > 1} - {*XLMR, "<mask>"}

        # What is used comes first; then by number, or with a prior by score: ▁the and ▁der have -3, ▁le has -3.5.
        assert longer(12 + 4, 0.0) == {"▁the", "house", "▁der", "haus"}
        assert longer(5 + 1 + 16 + 4, 0.5) == {"▁the", "house", "▁der", "▁le"}  # special tokens, ▁ and all letters

    def test_a_prior_keeps_the_letters_of_all_alphabets(self) -> None:
        han = [chr(code) for code in range(0x4E00, 0x4E00 + 1_001)]
        base = unigram({**PIECES, **dict.fromkeys(["ڕ", "ɖ", "ғ", "े", "☂", *han, *GEORGIAN], -9.0)})
        found = counts(base, en=["the house"])
        without = pieces(cut(base, found, options(100)))
        made = pieces(cut(base, found, options(100, prior=0.5)))
        for letter in ("ڕ", "ɖ", "ғ", "े", "q", *GEORGIAN):  # of Kurdish, Ewe, Kazakh, Hindi ...
            assert letter in made
        assert not {"ڕ", "ɖ", *GEORGIAN} <= set(without)
        for text in ("ڕɖ", "ღო"):
            assert 3 not in cut(base, found, options(70, prior=0.5)).tokenizer.encode(text).ids
        with pytest.raises(TrainingError, match="need "):
            cut(base, found, options(40, prior=0.5))

    def test_a_script_without_data_keeps_its_characters_and_frequent_pieces(self, base: Tokenizer) -> None:
        found = counts(base, en=["the house"])
        assert not set(GEORGIAN) & set(pieces(cut(base, found, options(60))))
        made = pieces(cut(base, found, options(60, unseen_scripts=0.5)))
        assert {*GEORGIAN, "\u10fb"} <= set(made)
        # The rest in the order of the scores.
        kept = [piece for piece in made if piece[0] == "▁" and piece[1:2] in GEORGIAN]
        assert kept and kept == [piece for piece, _ in model(base)["vocab"] if piece[1:2] in GEORGIAN][: len(kept)]
        assert "▁the" in made and "house" in made

    def test_a_script_with_data_is_none_of_them(self, base: Tokenizer) -> None:
        found = counts(base, en=["the house"], ka=["".join(GEORGIAN[:2])])
        made = pieces(cut(base, found, options(20, unseen_scripts=0.5)))
        assert not {*GEORGIAN[2:]} & set(made)

    @pytest.mark.parametrize("key", ["prior", "unseen_scripts"])
    def test_wordpiece_has_no_scores(self, key: str) -> None:
        letters = [chr(code) for code in range(0x10D0, 0x10F1)]
        base = wordpiece(["ab", "a", "##b", *(a + b for a in letters[:4] for b in letters), *letters])
        with pytest.raises(TrainingError, match=r"vocabulary\.prior and .* WordPiece tokenizer.*Remove the two keys"):
            cut(base, counts(base, en=["ab"]), options(20, **{key: 1.0}))


class TestRefused:
    @pytest.mark.parametrize(
        "other",
        [models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]), models.WordLevel({"a": 0}, unk_token="a")],
        ids=["BPE", "WordLevel"],
    )
    def test_another_kind_of_tokenizer(self, other: Any) -> None:
        base = Tokenizer(other)
        kind = type(other).__name__
        with pytest.raises(
            TrainingError, match=f"has a {kind} tokenizer.*Unigram.*WordPiece.*Leave vocabulary.cut out"
        ):
            cut(base, counts(base, en=["a"]), options(1))

    def test_more_than_there_are(self) -> None:
        base = unigram(PIECES)
        size = base.get_vocab_size()
        with pytest.raises(
            TrainingError, match=rf"vocabulary\.cut is 5,000, and the base's .* has {size} pieces.*\"all\""
        ):
            cut(base, counts(base, en=["the"]), options(5000))

    def test_fewer_than_are_needed(self) -> None:
        base = unigram(PIECES)
        found = counts(base, en=["the house"])
        with pytest.raises(
            TrainingError, match=r"vocabulary\.cut is 11\..* need 12 pieces.*Raise vocabulary\.cut to 12"
        ):
            cut(base, found, options(11))
        assert cut(base, found, options(12)).tokenizer.get_vocab_size() == 12


def test_the_rank_is_a_sum_of_roots() -> None:
    """By hand: in English ``house`` is 1 of 4 pieces; in German ``haus`` is 1 of 2 and ``se`` 1 of 2."""
    flat = unigram({"▁": -2.0, "ab": -4.0, "cd": -4.0, "ef": -4.0, **dict.fromkeys("abcdef", -9.0)}, mask_inside=True)
    flat.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    found = counts(flat, en=["ab", "ab", "ab", "cd"], de=["ef"] * 9 + ["cd"])
    score = {
        "ab": math.sqrt(3 / 4),
        "cd": math.sqrt(1 / 4) + math.sqrt(1 / 10),
        "ef": math.sqrt(9 / 10),
    }
    assert sorted(score, key=lambda piece: -score[piece]) == ["ef", "ab", "cd"]
    needed = 5 + 6
    for room, stay in ((1, {"ef"}), (2, {"ef", "ab"}), (3, {"ef", "ab", "cd"})):
        made = pieces(cut(flat, found, options(needed + room)))
        assert {piece for piece in made if len(piece) == 2} == stay
    # Twice the weight of German: cd has 1.13 then, ab .87.
    made = pieces(cut(flat, found, options(needed + 2, weights={"de": 2.0})))
    assert {piece for piece in made if len(piece) == 2} == {"ef", "cd"}
