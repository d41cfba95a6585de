"""A debias step fitted to an encoder: sentences are encoded, the step is estimated, and what it does is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xsearch.encoder.builtin import MINI_FOLDER, BuiltinEncoder
from xsearch.encoder.debias import DebiasOptions, LanguageMoments, door_moments, fit_step
from xsearch.encoder.export import with_step
from xsearch.encoder.load import BUILTIN
from xsearch.encoder.protocol import Encoder, Vectors
from xsearch.encoder.step import LinearStep
from xsearch.encoder.stepped import check_fits, write_reference
from xsearch.errors import InvalidArgumentError
from xsearch.training.debias_texts import DebiasTexts, LanguageTexts

OnText = Callable[[str, int, int], None]
"""Called with a stage, how many of its texts are done, and how many there are."""
HELD_OUT = 60
"""Sentences of a language that the effect is measured on, at most: all of them are in one pool."""
CHUNK_TEXTS = 512
_SAME_DOORS = 1e-5
_DOOR_TEXTS = 8


class Doors(NamedTuple):
    """The vectors of some texts at both doors, ``(n, dim) float32`` each."""

    queries: Vectors
    passages: Vectors

    def rows(self, places: Sequence[int]) -> Doors:
        """Those of some of the texts."""
        return Doors(self.queries[list(places)], self.passages[list(places)])


@dataclass(frozen=True, slots=True)
class Preference:
    """What the nearest neighbour of a sentence is, in a pool of the same sentences in all languages.

    Attributes:
        own_language: the share of sentences whose nearest is another sentence in their own language.
        translation: the share whose nearest is one of their translations.
    """

    own_language: float
    translation: float


@dataclass(frozen=True, slots=True)
class Debiased:
    """A fitted step, and what it was fitted to and does.

    Attributes:
        languages: sentences that it was fitted to, by language.
        left_out: languages with too few sentences, and how many they have.
        variance_removed: the share of the variance between languages that it takes out.
        held_out: sentences that were measured, of all languages, English among them.
        before, after: on them; ``None`` where there are none.
    """

    step: LinearStep
    languages: dict[str, int]
    left_out: dict[str, int]
    variance_removed: float
    held_out: int
    before: Preference | None
    after: Preference | None

    def to_dict(self) -> dict[str, Any]:
        """All but the numbers of the step, as plain JSON-serialisable values."""
        found = {name: getattr(self, name) for name in self.__slots__ if name != "step"}
        for name in ("before", "after"):
            found[name] = None if found[name] is None else asdict(found[name])
        return {"step": self.step.digest, "encoder": self.step.encoder, **found}


def debias(
    encoder: Encoder, texts: DebiasTexts, options: DebiasOptions, *, on_text: OnText = lambda stage, done, total: None
) -> Debiased:
    """Fits a step to sentences and their translations, and measures it on those held out.

    Raises:
        InvalidArgumentError: a step follows the encoder already, or there are more directions than dimensions.
        NonFiniteVectorError: the encoder gave NaN, infinity or zero.
    """
    if encoder.fingerprint.step:
        raise InvalidArgumentError(
            f"The encoder {encoder.fingerprint} is followed by a step already",
            "A step is fitted to an encoder as it is",
            "Name the encoder that it was made from",
        )
    bank = _Bank(encoder, texts, on_text)
    moments = [bank.moments(language) for language in texts.languages]
    step = fit_step(moments, options, encoder=encoder.fingerprint.digest)
    pool = _Pool.of(texts.languages)
    vectors = bank.encode(pool.texts, "held-out sentences") if pool.texts else None
    before = after = None
    if vectors is not None:
        before = pool.preference(vectors)
        after = pool.preference(Doors(step.queries(vectors.queries), step.passages(vectors.passages)))
    return Debiased(
        step=step,
        languages={one.lang: one.texts for one in moments},
        left_out=texts.left_out,
        variance_removed=float(step.facts["between_language_variance_removed"]),
        held_out=len(pool.texts),
        before=before,
        after=after,
    )


class _Bank:
    """Encodes the sentences, each English one once however many languages translate it."""

    def __init__(self, encoder: Encoder, texts: DebiasTexts, on_text: OnText) -> None:
        self._encoder = encoder
        self._on_text = on_text
        self._alike = _doors_alike(encoder, [one.text for one in texts.languages[0].fitted[:_DOOR_TEXTS]])
        english = list(dict.fromkeys(one.english for language in texts.languages for one in language.fitted))
        self._places = {text: place for place, text in enumerate(english)}
        self._english = self.encode(english, "English")

    def moments(self, language: LanguageTexts) -> LanguageMoments:
        """Those of one language; its vectors are let go."""
        own = self.encode([one.text for one in language.fitted], language.lang)
        english = self._english.rows([self._places[one.english] for one in language.fitted])
        queries = door_moments(english.queries, own.queries)
        passages = queries if self._alike else door_moments(english.passages, own.passages)
        return LanguageMoments(language.lang, len(language.fitted), queries, passages)

    def encode(self, texts: Sequence[str], stage: str) -> Doors:
        """The vectors of texts at both doors, long texts first."""
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        ordered = [texts[place] for place in order]
        total = len(texts) * (1 if self._alike else 2)
        queries = self._encoded(self._encoder.encode_queries, ordered, (stage, 0, total))
        passages = queries
        if not self._alike:
            passages = self._encoded(self._encoder.encode_passages, ordered, (stage, len(texts), total))
        back = np.argsort(order)
        return Doors(queries[back], passages[back])

    def _encoded(
        self, encode: Callable[[Sequence[str]], Vectors], texts: Sequence[str], progress: tuple[str, int, int]
    ) -> Vectors:
        stage, done, total = progress
        found = [np.empty((0, self._encoder.dim), dtype=np.float32)]
        for start in range(0, len(texts), CHUNK_TEXTS):
            self._on_text(stage, done + start, total)
            found.append(encode(texts[start : start + CHUNK_TEXTS]))
        self._on_text(stage, done + len(texts), total)
        return np.concatenate(found)


def _doors_alike(encoder: Encoder, texts: Sequence[str]) -> bool:
    """Whether an encoder makes no difference between queries and passages, which then need encoding only once."""
    identity = encoder.fingerprint
    if identity.query_prompt != identity.passage_prompt:
        return False
    return bool(np.allclose(encoder.encode_queries(texts), encoder.encode_passages(texts), atol=_SAME_DOORS))


@dataclass(frozen=True, slots=True)
class _Pool:
    """Held-out sentences in all languages.

    Attributes:
        texts: distinct within their language.
        langs, groups: ``(n,)``: the language of each, and which English sentence it says.
    """

    texts: list[str]
    langs: np.ndarray[Any, np.dtype[np.int64]]
    groups: np.ndarray[Any, np.dtype[np.int64]]

    @classmethod
    def of(cls, languages: Iterable[LanguageTexts]) -> _Pool:
        entries: dict[tuple[int, str], str] = {}
        for number, language in enumerate(languages, 1):
            for one in language.held_out[:HELD_OUT]:
                entries.setdefault((number, one.text), one.english)
                entries.setdefault((0, one.english), one.english)
        groups = {english: place for place, english in enumerate(dict.fromkeys(entries.values()))}
        return cls(
            texts=[text for _, text in entries],
            langs=np.array([number for number, _ in entries], dtype=np.int64),
            groups=np.array([groups[english] for english in entries.values()], dtype=np.int64),
        )

    def preference(self, vectors: Doors) -> Preference:
        """Where the nearest passage of each sentence stands, itself left out."""
        nearest = np.concatenate(list(self._nearest(vectors)))
        translation = self.groups[nearest] == self.groups
        own = (self.langs[nearest] == self.langs) & ~translation
        return Preference(float(own.mean()), float(translation.mean()))

    def _nearest(self, vectors: Doors) -> Iterator[np.ndarray[Any, np.dtype[np.intp]]]:
        for start in range(0, len(self.texts), CHUNK_TEXTS):
            scores = vectors.queries[start : start + CHUNK_TEXTS] @ vectors.passages.T
            rows = np.arange(len(scores))
            scores[rows, start + rows] = -np.inf
            yield scores.argmax(axis=1)


def write_debiased(name: str, encoder: Encoder, step: LinearStep, folder: Path) -> None:
    """Makes a folder that ``--encoder`` takes: the encoder of that name, followed by the step.

    Of an exported encoder (``builtin``, or its folder) the folder gets a copy with the step in its graph, which needs
    nothing else. Of any other it names the encoder, a local folder by its absolute path, and holds the step.

    Args:
        name: under which the encoder was loaded.
        folder: made if it is not there.

    Raises:
        EncoderError: the step was fitted for another encoder.
        MissingExtraError: the graph cannot be changed without onnx.
    """
    check_fits(step, encoder)
    if isinstance(encoder, BuiltinEncoder):
        with_step(MINI_FOLDER if name == BUILTIN else Path(name), folder, step)
    else:
        write_reference(folder, str(Path(name).resolve()) if Path(name).is_dir() else name, step)
