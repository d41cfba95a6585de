"""What a cut costs, by language: counted by hand on a tokenizer of a few words."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.training.test_cut import PIECES, counts, options, unigram, wordpiece
from xsearch.training.coverage import Coverage, LanguageCoverage, coverage, load_coverage, save_coverage, unknown_id
from xsearch.training.cut import cut

LETTERS = [*"abc", "##a", "##b", "##c"]


def test_shares_and_lengths_by_language() -> None:
    before = wordpiece(["ab", "abc", *LETTERS])
    after = wordpiece(["ab", *LETTERS])
    found = coverage(before, after, {"en": ["abc ab", "abc"], "de": ["ab", "x"], "fr": [""], "es": []})
    assert (found.pieces_before, found.pieces_after) == (14, 13)
    english, german = found.languages  # the least kept first; of the others there is nothing to count
    assert english == LanguageCoverage(
        lang="en",
        characters=9,
        kept=pytest.approx(1 / 3),  # abc twice, ab once
        tokens_per_char_before=pytest.approx(3 / 9),
        tokens_per_char_after=pytest.approx(5 / 9),  # abc is ab and ##c now
        unknown_before=0.0,
        unknown_after=0.0,
    )
    assert english.longer == pytest.approx(2 / 3)
    assert (german.lang, german.kept, german.unknown_before, german.unknown_after) == ("de", 1.0, 0.5, 0.5)
    assert german.longer == 0.0


def test_of_a_cut() -> None:
    base = unigram(PIECES)
    texts = {"en": ["the house"] * 3, "de": ["der haus"]}
    made = cut(base, counts(base, **texts), options(17, weights={"en": 5.0}))
    found = {each.lang: each for each in coverage(base, made.tokenizer, texts).languages}
    assert (found["en"].kept, found["en"].longer) == (1.0, 0.0)
    # ▁der, ▁ and haus before, of which ▁ is left; then ▁ d e r ▁ h a u s.
    assert found["de"].kept == pytest.approx(1 / 3)
    assert found["de"].longer == pytest.approx(9 / 3 - 1)
    assert found["de"].unknown_after == 0.0


def test_what_cannot_be_spelled_is_counted() -> None:
    before, after = wordpiece(["ab", *LETTERS]), wordpiece(["a", "##b"])
    (found,) = coverage(before, after, {"en": ["ab ab ca"]}).languages
    assert found.unknown_before == 0.0
    assert found.unknown_after == pytest.approx(1 / 5)  # a ##b a ##b [UNK]


def test_the_unknown_token() -> None:
    assert unknown_id(unigram(PIECES)) == 3
    assert unknown_id(wordpiece(["a"])) == 2
    assert unknown_id(Tokenizer(models.Unigram([("a", -1.0)]))) is None


def test_no_texts_are_no_languages() -> None:
    base = unigram(PIECES)
    assert coverage(base, base, {}) == Coverage(base.get_vocab_size(), base.get_vocab_size(), ())
    split = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    split.pre_tokenizer = pre_tokenizers.Whitespace()
    assert coverage(split, split, {"en": ["  "]}).languages == ()


def test_on_disk(tmp_path: Path) -> None:
    found = Coverage(10, 5, (LanguageCoverage("zh-Hant", 7, 0.912345678, 0.5, 0.625, 0.0, 0.1),))
    path = tmp_path / "coverage.json"
    assert load_coverage(path, "one") is None
    save_coverage(path, found, "one")
    again = load_coverage(path, "one")
    assert again == Coverage(10, 5, (LanguageCoverage("zh-Hant", 7, 0.91235, 0.5, 0.625, 0.0, 0.1),))
    assert load_coverage(path, "two") is None
    for damaged in ("", "[]", "{}", '{"fingerprint": "one"}', '{"fingerprint": "one", "languages": [{"lang": "de"}]}'):
        path.write_text(damaged, encoding="utf-8")
        assert load_coverage(path, "one") is None
