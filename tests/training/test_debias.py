"""A step fitted to an encoder that has a language bias: what it takes out, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.encoder.checkpoints import copied
from tests.fakes import FakeEncoder
from tests.training.biased import BiasedEncoder, english, translated, write_parallel
from xsearch.encoder.debias import DebiasMethod, DebiasOptions
from xsearch.encoder.load import load_encoder
from xsearch.encoder.step import LinearStep
from xsearch.encoder.stepped import SteppedEncoder
from xsearch.errors import EncoderError, InvalidArgumentError
from xsearch.training.debias import Debiased, debias, write_debiased
from xsearch.training.debias_texts import DebiasTexts, TextOptions, collect_texts


@pytest.fixture
def texts(tmp_path: Path) -> DebiasTexts:
    for lang in ("de", "fr", "nl"):
        write_parallel(tmp_path, lang, range(300))
    return collect_texts(["*.tsv"], TextOptions(300, 200), root=tmp_path)


@pytest.fixture
def found(texts: DebiasTexts) -> Debiased:
    return debias(BiasedEncoder(), texts, DebiasOptions(directions=3))


def test_a_sentence_finds_its_translation_and_no_longer_its_own_language(found: Debiased) -> None:
    assert found.before is not None
    assert found.after is not None
    assert found.before.own_language > 0.5
    assert found.before.translation < 0.5
    assert found.after.own_language < 0.05
    assert found.after.translation > 0.95


def test_the_axes_of_the_languages_are_taken_out(found: Debiased) -> None:
    vectors = BiasedEncoder().encode_passages([english(3), translated("de", 3), translated("nl", 3)])
    assert (vectors @ vectors.T).min() < 0.8
    cleaned = found.step.passages(vectors)
    assert (cleaned @ cleaned.T).min() > 0.97
    assert found.variance_removed == pytest.approx(1.0, abs=0.05)


def test_the_report_counts(found: Debiased, texts: DebiasTexts) -> None:
    sizes = {language.lang: len(language.fitted) for language in texts.languages}
    assert found.languages == sizes
    held_out = {one.english for language in texts.languages for one in language.held_out}
    assert found.held_out == 4 * len(held_out)
    document = found.to_dict()
    assert document["step"] == found.step.digest
    assert document["encoder"] == BiasedEncoder().fingerprint.digest
    assert document["before"] == {
        "own_language": found.before.own_language, "translation": found.before.translation,  # type: ignore[union-attr]
    }  # fmt: skip


def test_doors_that_are_alike_are_encoded_once_and_others_twice(texts: DebiasTexts) -> None:
    alike, unlike = BiasedEncoder(), BiasedEncoder(query_bias=2.0)
    prompted = BiasedEncoder(prompts=True)
    for encoder in (alike, unlike, prompted):
        debias(encoder, texts, DebiasOptions())
    assert [len(encoder.encoded) > 100 for encoder in (alike, unlike, prompted)] == [False, True, True]
    # The English sentences are the same in all languages, and each is encoded once.
    assert alike.queries.count(texts.languages[0].fitted[-1].english) == 1


def test_progress_ends_with_all_texts(texts: DebiasTexts) -> None:
    told: list[tuple[str, int, int]] = []
    debias(BiasedEncoder(prompts=True), texts, DebiasOptions(), on_text=lambda *what: told.append(what))
    for stage in ("English", "de", "fr", "nl", "held-out sentences"):
        last = [what for what in told if what[0] == stage][-1]
        assert last[1] == last[2] > 0


def test_each_method_takes_no_harm(texts: DebiasTexts) -> None:
    for method in DebiasMethod:
        after = debias(BiasedEncoder(), texts, DebiasOptions(method, directions=3)).after
        assert after is not None
        if method not in (DebiasMethod.CENTRING, DebiasMethod.WHITENING, DebiasMethod.LIR):
            assert after.translation > 0.9, method


def test_an_encoder_with_a_step_is_refused(texts: DebiasTexts, found: Debiased) -> None:
    stepped = SteppedEncoder(BiasedEncoder(), found.step)
    with pytest.raises(InvalidArgumentError, match="is followed by a step already"):
        debias(stepped, texts, DebiasOptions())


def test_a_local_model_is_named_by_its_absolute_path(
    mbert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(mbert, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    bare = load_encoder("model")
    zeros = np.zeros(bare.dim, dtype=np.float32)
    step = LinearStep(-np.eye(bare.dim, dtype=np.float32), zeros, zeros, bare.fingerprint.digest, {})
    write_debiased("model", bare, step, Path("out"))
    monkeypatch.chdir(tmp_path.parent)
    found = load_encoder(str(tmp_path / "out"))
    np.testing.assert_allclose(found.encode_passages(["ein Hund"]), -bare.encode_passages(["ein Hund"]), atol=1e-6)


def test_the_step_of_another_encoder_is_not_written(found: Debiased, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="The step was fitted for the encoder"):
        write_debiased("fake", FakeEncoder(), found.step, tmp_path / "out")
    assert not (tmp_path / "out").exists()
