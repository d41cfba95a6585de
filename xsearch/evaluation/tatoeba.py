"""Tatoeba: for each sentence of a language its English translation among those of all others, and the other way round.

LASER's test pairs, up to 1000 sentences of each of 112 languages with English (Artetxe and Schwenk, Massively
Multilingual Sentence Embeddings, TACL 2019). The nearest neighbour by cosine should be the translation. What is found
is published in three ways:

- error rate in both directions, by LASER's authors: ``1 - into_english`` and ``1 - from_english`` here;
- accuracy into English over 36 languages, by XTREME (Hu et al., ICML 2020): ``into_english`` of the group ``xtreme36``;
- F1 into English, by MTEB, whose main score it is: ``f1``.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.protocol import Encoder, Vectors
from xsearch.errors import EvaluationError
from xsearch.evaluation.archive import DataFile, find_files
from xsearch.evaluation.results import Comparison
from xsearch.evaluation.run import OnProgress, RunOptions, count_cut, encode_texts, ignore, installed_versions
from xsearch.evaluation.significance import (
    Scores,
    bootstrap_mean,
    bootstrap_means,
    compare,
    compare_means,
    paired_differences,
)
from xsearch.evaluation.tasks import nothing_found
from xsearch.evaluation.tatoeba_results import ENGLISH, METRIC, LanguageResult, TatoebaResult, by_group
from xsearch.ranking import top_k
from xsearch.text.tags import UND, canonical_tag, is_language_code

_FILE = re.compile(r"tatoeba\.(?P<lang>[a-z]{3})-eng\.(?P<side>[a-z]{3})")


@dataclass(frozen=True, slots=True)
class SentencePairs:
    """Sentences of one language; the translation of each has the same place.

    Attributes:
        lang: the archive's code, ISO 639-3.
    """

    lang: str
    sentences: tuple[str, ...]
    english: tuple[str, ...]

    @property
    def key(self) -> str:
        """``LANG-eng``, as MTEB calls it."""
        return f"{self.lang}-{ENGLISH}"


def load_tatoeba(data: Path, *, langs: Collection[str] = ()) -> tuple[SentencePairs, ...]:
    """The pairs of whichever languages ``data`` holds, sorted by code.

    Args:
        data: a folder or zip archive that holds ``tatoeba.XXX-eng.XXX`` and ``tatoeba.XXX-eng.eng`` (LASER's data
            folder tatoeba/v1) at any depth.
        langs: keep only these languages, by the archive's code or any other (``cmn`` or ``zh``); all if empty.

    Raises:
        EvaluationError: nothing of these languages is there, a side is missing, or the sides differ in length.
    """
    files: dict[str, dict[str, DataFile]] = {}
    for name, file in find_files(data, _FILE).items():
        if match := _FILE.fullmatch(name):
            files.setdefault(match["lang"], {})[match["side"]] = file
    if not files:
        raise nothing_found(data, "tatoeba.XXX-eng.XXX", "the folder data/tatoeba/v1 of LASER")
    return tuple(_pairs(data, lang, files[lang]) for lang in _wanted(langs, files.keys()))


def evaluate_tatoeba(
    pairs: Sequence[SentencePairs],
    encoder: Encoder,
    *,
    options: RunOptions | None = None,
    on_progress: OnProgress | None = None,
) -> TatoebaResult:
    """How often the nearest sentence of the other language is the translation.

    Both sides are of a kind, so all texts go through the queries' door, each distinct one once.

    Args:
        on_progress: called with what is being done, how much of it is done, and how much there is.

    Raises:
        NonFiniteVectorError: the encoder gave a vector with NaN, infinity or only zeros.
        EncoderError: the encoder gave arrays of the wrong shape.
    """
    chosen = options or RunOptions()
    texts: dict[str, dict[str, None]] = {ENGLISH: {}}
    for found in pairs:
        texts[found.lang] = dict.fromkeys(found.sentences)
        texts[ENGLISH].update(dict.fromkeys(found.english))
    vectors = encode_texts(encoder.encode_queries, texts, encoder.dim, "sentences", on_progress or ignore)
    languages = {
        found.lang: _score(
            found,
            vectors[found.lang].rows(found.sentences),
            vectors[ENGLISH].rows(found.english),
            cut=count_cut(encoder, found.sentences),
            options=chosen,
        )
        for found in pairs
    }
    intervals = {}
    if chosen.bootstrap:
        intervals = {
            name: bootstrap_means(
                [found.per_pair for found in group], samples=chosen.bootstrap, seed=chosen.seed, name=name
            )
            for name, group in by_group(languages).items()
        }
    return TatoebaResult(
        encoder=encoder.fingerprint,
        languages=tuple(languages.values()),
        intervals=intervals,
        versions=installed_versions(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def compare_tatoeba(
    ours: TatoebaResult, theirs: Mapping[str, Scores], *, baseline: Mapping[str, Any], samples: int, seed: int
) -> Comparison:
    """The paired comparison of a run with a baseline, by language and for the means, over the languages of the run.

    Raises:
        InvalidArgumentError: the baseline lacks a language of the run, or has other sentences.
    """
    mine = ours.per_query()
    theirs = {key: scores for key, scores in theirs.items() if key in mine}
    differences = {key.partition("-")[0]: scores for key, scores in paired_differences(mine, theirs).items()}
    means = {
        name: compare_means(group, samples=samples, seed=seed, name=name)
        for name, group in by_group(differences).items()
    }
    pairs = compare(mine, theirs, samples=samples, seed=seed)
    return Comparison(baseline=baseline, metric=METRIC, means=means, pairs=pairs)


def weighted_f1(nearest: NDArray[np.intp]) -> float:
    """MTEB's F1: the mean over sentences of the F1 of finding each, by scikit-learn's ``average="weighted"``.

    A sentence that is the nearest of n others, the right one among them, has precision 1/n and recall 1, so F1
    2/(n + 1); else 0.

    Example: of 3 sentences, with the nearest 0, 0, 2 where 0, 1, 2 is right: (2/3 + 0 + 1) / 3 = 0.556.

    Args:
        nearest: (n,), for each sentence the place of its nearest neighbour; the right one is its own place.
    """
    places = np.arange(len(nearest))
    counts = np.bincount(nearest, minlength=len(nearest))
    return float(np.where(nearest == places, 2 / (counts + 1), 0.0).mean())


def _wanted(langs: Collection[str], present: Collection[str]) -> list[str]:
    """The archive's codes of the languages asked for, all that are present if none is; English is always there."""
    if not langs:
        return sorted(present)
    chosen: set[str] = set()
    missing: list[str] = []
    for lang in (lang.lower() for lang in langs):
        tag = canonical_tag(lang) if is_language_code(lang) else UND
        found = {lang} if lang in present else {code for code in present if canonical_tag(code) == tag}
        chosen |= found
        if not found and tag != "en":
            missing.append(lang)
    if missing or not chosen:
        raise EvaluationError(
            f"There is no data in {', '.join(missing or langs)}",
            f"The languages there are {', '.join(sorted(present))}, each with English",
            "Pass --langs with languages that are there",
        )
    return sorted(chosen)


def _pairs(data: Path, lang: str, sides: Mapping[str, DataFile]) -> SentencePairs:
    for side in (lang, ENGLISH):
        if side not in sides:
            raise EvaluationError(
                f"{data} holds tatoeba.{lang}-eng.{', '.join(sides)} alone",
                f"tatoeba.{lang}-eng.{side} with the translations was expected beside it",
                "Download the data again",
            )
    sentences, english = sides[lang].read_lines(), sides[ENGLISH].read_lines()
    if len(sentences) != len(english):
        raise EvaluationError(
            f"{sides[lang].place} has {len(sentences)} lines, and {sides[ENGLISH].name} {len(english)}",
            "Each line is the translation of the line of the same number",
            "Download the data again",
        )
    return SentencePairs(lang, tuple(sentences), tuple(english))


def _score(
    pairs: SentencePairs, sentences: Vectors, english: Vectors, *, cut: int, options: RunOptions
) -> LanguageResult:
    into, back = nearest_places(sentences, english), nearest_places(english, sentences)
    places = np.arange(len(into))
    per_pair = Scores(_ids(pairs.english), ((into == places).astype(np.float64) + (back == places)) / 2)
    interval = None
    if options.bootstrap:
        interval = bootstrap_mean(per_pair, samples=options.bootstrap, seed=options.seed, name=pairs.key)
    return LanguageResult(
        lang=pairs.lang,
        sentences=len(places),
        into_english=float((into == places).mean()),
        from_english=float((back == places).mean()),
        f1=weighted_f1(into),
        cut=cut,
        interval=interval,
        per_pair=per_pair,
    )


def nearest_places(queries: Vectors, documents: Vectors) -> NDArray[np.intp]:
    """(n,), for each query the place of the document with the highest cosine, the last of equal ones.

    Args:
        queries, documents: ``(n, dim)`` and ``(m, dim) float32``, rows L2-normalised.
    """
    places = np.arange(len(documents))
    return np.array([top_k(row, places, k=1)[0] for row in queries @ documents.T], dtype=np.intp)


def _ids(english: Sequence[str]) -> tuple[str, ...]:
    """An id for each pair: the same in two languages where the English sentence is, and never twice in one."""
    counts: Counter[str] = Counter()
    ids = []
    for text in english:
        counts[text] += 1
        ids.append(hashlib.sha256(f"{text} {counts[text]}".encode()).hexdigest()[:12])
    return tuple(ids)
