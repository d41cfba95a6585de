"""SIB-200 as a bitext: for each sentence of a language its English translation among all, and the other way round.

The 1,004 sentences of FLORES-200 that SIB-200 gives a topic (Adelani et al., EACL 2024), in 205 languages; rows with
one ``index_id`` are translations of each other. The nearest neighbour by cosine should be the translation, as in
Tatoeba, but the sentences are of Wikipedia's kind, the same in all languages, and of twice as many. The share of
characters that the encoder's vocabulary lacks, and how many tokens it takes for a character, stand beside the accuracy:
they tell a language that cannot be read from one that is not understood.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import numpy as np

from xsearch.encoder.protocol import Encoder, Vectors
from xsearch.errors import EvaluationError
from xsearch.evaluation.archive import DataFile, find_files
from xsearch.evaluation.run import OnProgress, RunOptions, count_cut, encode_texts, ignore, installed_versions
from xsearch.evaluation.sib200_results import ENGLISH, Sib200Language, Sib200Result, Spelling
from xsearch.evaluation.significance import Scores, bootstrap_mean, bootstrap_means
from xsearch.evaluation.tasks import nothing_found
from xsearch.evaluation.tatoeba import nearest_places
from xsearch.text.tags import UND, canonical_tag, is_language_code

_FILE = re.compile(r"(?P<code>[a-z]{3}_[A-Z][a-z]{3})/(?P<part>train|dev|test)\.tsv")
_HEADER = ["index_id", "category", "text"]
_PARTS = ("train", "dev", "test")


class Sib200Split(StrEnum):
    """Which rows are read; the candidates are as many."""

    ALL = "all"
    TRAIN = "train"
    DEV = "dev"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class ParallelSentences:
    """The same sentences in several languages.

    Attributes:
        split: which rows they are.
        ids: of the sentences, sorted by number.
        texts: by FLORES code (``arb_Arab``) the sentences in the order of ``ids``; English is there.
    """

    split: Sib200Split
    ids: tuple[str, ...]
    texts: Mapping[str, tuple[str, ...]]


def load_sib200(data: Path, *, split: Sib200Split = Sib200Split.ALL, langs: Collection[str] = ()) -> ParallelSentences:
    """The sentences of whichever languages ``data`` holds, and English.

    Args:
        data: a folder or zip archive that holds ``LANG_Script/{train,dev,test}.tsv`` at any depth.
        split: read these rows only; all three parts by default.
        langs: keep only these languages, by FLORES code (``arb_Arab``) or any other (``ar``); all if empty.

    Raises:
        EvaluationError: nothing of these languages or no English is there, a file is damaged, or languages differ in
            their sentences.
    """
    parts = _PARTS if split is Sib200Split.ALL else (split.value,)
    files: dict[str, dict[str, DataFile]] = {}
    for name, file in find_files(data, _FILE, folders=1).items():
        if match := _FILE.fullmatch(name):
            files.setdefault(match["code"], {})[match["part"]] = file
    if not files:
        raise nothing_found(data, "LANG_Script/train.tsv", "the folder data/annotated of SIB-200")
    wanted = _wanted(langs, files.keys())
    read = {code: _rows(data, code, files.get(code, {}), parts) for code in (ENGLISH, *wanted)}
    ids = sorted(read[ENGLISH], key=lambda number: (len(number), number))
    for code, rows in read.items():
        if rows.keys() != read[ENGLISH].keys():
            only = min(rows.keys() ^ read[ENGLISH].keys())
            raise EvaluationError(
                f"{data} has the sentence {only} in only one of {ENGLISH} and {code}",
                "Every language must have the same index_id's",
                "Download the data again",
            )
    return ParallelSentences(split, tuple(ids), {code: tuple(read[code][row] for row in ids) for code in sorted(read)})


def evaluate_sib200(
    sentences: ParallelSentences,
    encoder: Encoder,
    *,
    options: RunOptions | None = None,
    on_progress: OnProgress | None = None,
) -> Sib200Result:
    """How often the nearest sentence of the other language is the translation, and how each language is spelled.

    Both sides are of a kind, so all texts go through the queries' door, each distinct one of a language once.

    Args:
        on_progress: called with what is being done, how much of it is done, and how much there is.

    Raises:
        NonFiniteVectorError: the encoder gave a vector with NaN, infinity or only zeros.
        EncoderError: the encoder gave arrays of the wrong shape.
    """
    chosen, report = options or RunOptions(), on_progress or ignore
    english = _encode(encoder, ENGLISH, sentences)
    languages = []
    others = [code for code in sentences.texts if code != ENGLISH]
    for place, code in enumerate(others):
        report(f"sentences ({code})", place, len(others))
        languages.append(
            _score(code, sentences, _encode(encoder, code, sentences), english, encoder=encoder, options=chosen)
        )
    report("sentences", len(others), len(others))
    mean = None
    if chosen.bootstrap and languages:
        groups = [language.per_pair for language in languages]
        mean = bootstrap_means(groups, samples=chosen.bootstrap, seed=chosen.seed, name="mean")
    return Sib200Result(
        encoder=encoder.fingerprint,
        split=sentences.split.value,
        sentences=len(sentences.ids),
        english=measure_spelling(encoder, sentences.texts[ENGLISH]),
        languages=tuple(languages),
        interval=mean,
        versions=installed_versions(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def measure_spelling(encoder: Encoder, texts: Sequence[str]) -> Spelling:
    """What the encoder's tokenizer makes of texts; shares are of their characters but white space.

    Example: "ab cd" in the tokens "ab" and "[UNK]" (for "cd") has 4 characters, half of them unknown, and half a token
    for each.
    """
    characters = sum(len("".join(text.split())) for text in texts)
    unknown = sum(encoder.unknown_characters(texts))
    tokens = sum(len(spans) for spans in encoder.token_offsets(texts))
    return Spelling(
        unknown=min(1.0, unknown / max(1, characters)),
        tokens_per_character=tokens / max(1, characters),
        cut=count_cut(encoder, texts),
    )


def _encode(encoder: Encoder, code: str, sentences: ParallelSentences) -> Vectors:
    """``(sentences, dim) float32, rows L2-normalised``."""
    texts = sentences.texts[code]
    return encode_texts(encoder.encode_queries, {code: dict.fromkeys(texts)}, encoder.dim, "sentences", ignore)[
        code
    ].rows(texts)


def _score(
    code: str,
    sentences: ParallelSentences,
    vectors: Vectors,
    english: Vectors,
    *,
    encoder: Encoder,
    options: RunOptions,
) -> Sib200Language:
    into, back = nearest_places(vectors, english), nearest_places(english, vectors)
    places = np.arange(len(into))
    per_pair = Scores(sentences.ids, ((into == places).astype(np.float64) + (back == places)) / 2)
    interval = None
    if options.bootstrap:
        interval = bootstrap_mean(per_pair, samples=options.bootstrap, seed=options.seed, name=code)
    return Sib200Language(
        code=code,
        lang=canonical_tag(code),
        into_english=float((into == places).mean()),
        from_english=float((back == places).mean()),
        spelling=measure_spelling(encoder, sentences.texts[code]),
        interval=interval,
        per_pair=per_pair,
    )


def _wanted(langs: Collection[str], present: Collection[str]) -> list[str]:
    """The FLORES codes of the languages asked for but English, all that are present if none is."""
    if not langs:
        return sorted(set(present) - {ENGLISH})
    chosen: set[str] = set()
    missing: list[str] = []
    for lang in langs:
        tag = canonical_tag(lang) if is_language_code(lang) else UND
        found = {code for code in present if lang == code or (tag != UND and canonical_tag(code) == tag)}
        chosen |= found
        if not found:
            missing.append(lang)
    chosen.discard(ENGLISH)
    if missing or not chosen:
        raise EvaluationError(
            f"There is no data in {', '.join(missing or langs)}",
            f"The languages there are {', '.join(sorted(present))}, each with {ENGLISH}",
            "Pass --langs with languages that are there",
        )
    return sorted(chosen)


def _rows(data: Path, code: str, files: Mapping[str, DataFile], parts: Sequence[str]) -> dict[str, str]:
    """The sentences of one language by id."""
    rows: dict[str, str] = {}
    for part in parts:
        if part not in files:
            raise EvaluationError(
                f"{data} has no {code}/{part}.tsv",
                f"English ({ENGLISH}) and every language must have their {', '.join(parts)} rows",
                "Download the data again, or pass --split",
            )
        first, *lines = files[part].read_lines()
        _check(first.split("\t") == _HEADER, f"{files[part].place}:1")
        for number, line in enumerate(lines, 2):
            fields = [field.strip() for field in line.split("\t")]
            _check(
                len(fields) == len(_HEADER) and all(fields) and fields[0] not in rows, f"{files[part].place}:{number}"
            )
            rows[fields[0]] = fields[2]
    return rows


def _check(good: bool, place: str) -> None:
    if not good:
        raise EvaluationError(
            f"{place} is not a row of SIB-200",
            "Three columns were expected, index_id, category and text, none of them empty, each id once",
            "Download the data again",
        )
