"""A multilingual start for an English model: the vocabulary's pieces, and embeddings read off parallel sentences."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from xsearch.errors import TrainingError
from xsearch.training.graft import Graft, build_vocabulary, graft, sample_texts
from xsearch.training.recipe import DataTable, VocabularyTable
from xsearch.training.selection import Example, Kind
from xsearch.training.vocabulary import SPECIAL

WORDS = {
    "dog": ("hund", "пес"), "cat": ("katze", "кот"), "house": ("haus", "дом"), "boat": ("boot", "лодка"),
    "old": ("alt", "старый"), "red": ("rot", "красный"), "sees": ("sieht", "видит"), "paints": ("malt", "рисует"),
}  # fmt: skip
DATA = DataTable(languages={"de": 2.0})
TABLE = VocabularyTable(size=400, candidates=200, characters=5000, min_character_count=2, alignment_rows=500)


def examples(count: int = 300) -> list[Example]:
    draw = random.Random(1)
    found = []
    for number in range(count):
        words = draw.sample(sorted(WORDS), 4)
        place, lang = number % 2, ("de", "ru")[number % 2]
        found.append(
            Example(Kind.SENTENCE, lang, " ".join(WORDS[word][place] for word in words), " ".join(words), "news")
        )
    found += [Example(Kind.TERM, "de", WORDS[word][0], word, "words") for word in WORDS]
    found.append(Example(Kind.PASSAGE, "de", "niemals", "never", "news"))
    return found


@pytest.fixture(scope="module")
def base() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        [example.english for example in examples()],
        trainers.WordPieceTrainer(vocab_size=120, special_tokens=list(SPECIAL), show_progress=False),
    )
    return made


@pytest.fixture(scope="module")
def embeddings(base: Tokenizer) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(base.get_vocab_size(), 16)).astype(np.float32)


def grown(base: Tokenizer, embeddings: np.ndarray, table: VocabularyTable = TABLE, **changes: int) -> Graft:
    return graft(base, embeddings, examples(), table, DATA, **{"max_tokens": 32, "seed": 3, **changes})


@pytest.fixture(scope="module")
def made(base: Tokenizer, embeddings: np.ndarray) -> Graft:
    return grown(base, embeddings)


def row(made: Graft, piece: str) -> np.ndarray:
    number = made.vocabulary.tokenizer.token_to_id(piece)
    assert number is not None
    return made.embeddings[number]


def test_english_words_keep_their_embeddings(made: Graft, base: Tokenizer, embeddings: np.ndarray) -> None:
    for word in WORDS:
        assert row(made, f"▁{word}") == pytest.approx(embeddings[base.token_to_id(word)])
    for token in SPECIAL:
        assert row(made, token) == pytest.approx(embeddings[base.token_to_id(token)])


def test_words_of_other_languages_lie_where_their_translations_do(made: Graft) -> None:
    english = np.stack([row(made, f"▁{word}") for word in WORDS])
    for number, (word, others) in enumerate(WORDS.items()):
        for other in others:
            found = row(made, f"▁{other}")
            cosines = english @ found / np.linalg.norm(english, axis=1) / np.linalg.norm(found)
            assert cosines.argmax() == number, (word, other)
            assert cosines.max() > 0.9


def test_every_piece_has_a_finite_embedding(made: Graft) -> None:
    assert made.embeddings.shape == (made.vocabulary.tokenizer.get_vocab_size(), 16)
    assert np.isfinite(made.embeddings).all()
    assert (np.linalg.norm(made.embeddings, axis=1) > 0).all()


def test_kept_pieces_are_the_english_models(made: Graft, base: Tokenizer) -> None:
    tokenizer = made.vocabulary.tokenizer
    for new, old in made.vocabulary.kept.items():
        piece, own = tokenizer.id_to_token(new), base.id_to_token(old)
        assert piece in (own, f"▁{own}", own.removeprefix("##"))
    assert len(made.vocabulary.kept) == base.get_vocab_size()


def test_it_is_the_same_again(made: Graft, base: Tokenizer, embeddings: np.ndarray) -> None:
    again = grown(base, embeddings)
    assert again.vocabulary.tokenizer.to_str() == made.vocabulary.tokenizer.to_str()
    assert (again.embeddings == made.embeddings).all()
    assert again.unaligned == made.unaligned


def test_without_a_transplant_new_pieces_are_random(base: Tokenizer, embeddings: np.ndarray) -> None:
    table = VocabularyTable(size=400, candidates=200, characters=5000, min_character_count=2, transplant=False)
    plain = grown(base, embeddings, table)
    assert row(plain, "▁house") == pytest.approx(embeddings[base.token_to_id("house")])
    cosine = row(plain, "▁haus") @ row(plain, "▁house")
    assert cosine / np.linalg.norm(row(plain, "▁haus")) / np.linalg.norm(row(plain, "▁house")) < 0.8
    assert plain.unaligned == plain.vocabulary.tokenizer.get_vocab_size() - len(plain.vocabulary.kept)


def test_the_pieces_that_are_used_most_fill_the_size(base: Tokenizer) -> None:
    rows = [example for example in examples() if example.kind is not Kind.PASSAGE]
    english = [example.english for example in rows]
    fixed = len(build_vocabulary(base, english, rows, TABLE, DATA, max_tokens=8, seed=3).kept)
    letters = len(set("".join(example.text for example in rows)) - set(" abcdefghijklmnopqrstuvwxyz"))
    small = VocabularyTable(size=fixed + letters + 26 + 1 + 16, candidates=200, characters=5000)
    found = build_vocabulary(base, english, rows, small, DATA, max_tokens=8, seed=3).tokenizer
    assert found.get_vocab_size() == small.size
    words = [f"▁{other}" for others in WORDS.values() for other in others]
    assert sum(found.token_to_id(word) is not None for word in words) >= 14


def test_rare_characters_are_left_out(base: Tokenizer) -> None:
    rows = [*examples(), Example(Kind.SENTENCE, "ru", "пес ѣ", "dog", "news")]
    table = VocabularyTable(size=400, candidates=200, characters=50_000, min_character_count=2)
    tokenizer = build_vocabulary(base, ["dog"], rows, table, DATA, max_tokens=8, seed=3).tokenizer
    assert tokenizer.token_to_id("ѣ") is None
    assert tokenizer.token_to_id("п") is not None


def test_a_size_that_does_not_hold_the_english_pieces_is_told_at_once(base: Tokenizer, embeddings: np.ndarray) -> None:
    with pytest.raises(TrainingError, match=r"vocabulary\.size is 30\."):
        grown(base, embeddings, VocabularyTable(size=30, candidates=200, characters=5000))


class TestSample:
    def test_languages_have_their_weight_in_characters(self) -> None:
        rows = [
            Example(Kind.SENTENCE, lang, f"{lang}{n:08d}", "x", "news") for lang in ("de", "ru") for n in range(500)
        ]
        found = sample_texts(rows, DATA, 1000, 3)
        assert [sum(text.startswith(lang) for text in found) for lang in ("de", "ru")] == [200, 100]
        assert sample_texts(rows, DATA, 1000, 3) == found
        assert sample_texts(rows, DATA, 1000, 4) != found

    def test_a_small_language_is_taken_whole(self) -> None:
        rows = [Example(Kind.SENTENCE, "de", f"{n}", "x", "news") for n in range(5)]
        assert sorted(sample_texts(rows, DATA, 1000, 3)) == ["0", "1", "2", "3", "4"]
