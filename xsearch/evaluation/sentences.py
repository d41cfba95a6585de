"""Whether the sentence marked in a passage is the one that answers, on LAReQA's MLQA-R or XQuAD-R.

A question is put to its own paragraph, in each language that has it, and :func:`xsearch.search.answer.best_sentences`
marks one sentence. It is right where an answer begins in it. Sentences are cut as the product cuts them, not as the
data set does, so what is measured is what a user sees.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xsearch.encoder.protocol import Encoder
from xsearch.errors import EvaluationError
from xsearch.evaluation.archive import find_files
from xsearch.evaluation.matrix import LanguageMatrix
from xsearch.evaluation.run import OnProgress, encode_texts, ignore
from xsearch.evaluation.significance import Scores
from xsearch.evaluation.squad import Paragraph, read_paragraphs
from xsearch.evaluation.tasks import nothing_found, wanted_langs
from xsearch.search.answer import best_sentences

_FILE = re.compile(r"(?P<lang>[a-z]{2})\.json")


@dataclass(frozen=True, slots=True)
class AnswerPlace:
    """Where the answer to a question stands in one language.

    Attributes:
        context: the paragraph.
        starts: character offsets at which an answer begins.
    """

    context: str
    starts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MarkingData:
    """Questions and the paragraphs that answer them, by language.

    Attributes:
        questions: by language and question id.
        places: by language and question id.
    """

    questions: Mapping[str, Mapping[str, str]]
    places: Mapping[str, Mapping[str, AnswerPlace]]


@dataclass(frozen=True, slots=True)
class MarkingResult:
    """How often the right sentence was marked.

    Attributes:
        pairs: by (language of the paragraph, language of the question) 1 or 0 for each question.
    """

    pairs: Mapping[tuple[str, str], Scores]

    @property
    def matrix(self) -> LanguageMatrix:
        """The share of right ones by pair; its ``mono`` and ``cross`` are means over pairs."""
        return LanguageMatrix({pair: float(scores.values.mean()) for pair, scores in self.pairs.items()})

    @property
    def questions(self) -> dict[str, int]:
        """How many were asked of paragraphs in their language (``mono``) and in others (``cross``)."""
        counts = {"mono": 0, "cross": 0}
        for (doc_lang, query_lang), scores in self.pairs.items():
            counts["mono" if doc_lang == query_lang else "cross"] += len(scores.values)
        return counts


def load_marking(data: Path, *, langs: Collection[str] = ()) -> MarkingData:
    """The questions of MLQA-R or XQuAD-R with their paragraphs.

    Args:
        data: a folder or zip archive that holds ``XX.json`` in SQuAD's layout.
        langs: these languages only; all if empty.

    Raises:
        EvaluationError: nothing of these languages is there, or a file is damaged.
    """
    files = {match["lang"]: file for name, file in find_files(data, _FILE).items() if (match := _FILE.fullmatch(name))}
    if not files:
        raise nothing_found(data, "XX.json", "the folder mlqa-r or xquad-r of LAReQA")
    questions: dict[str, dict[str, str]] = {}
    places: dict[str, dict[str, AnswerPlace]] = {}
    for lang in sorted(wanted_langs(langs, files.keys())):
        questions[lang], places[lang] = {}, {}
        for paragraph in read_paragraphs(files[lang]):
            context = paragraph.field("context", str)
            for entry in paragraph.questions():
                question_id = entry.field("id", str)
                questions[lang][question_id] = entry.field("question", str)
                places[lang][question_id] = AnswerPlace(context, _starts(entry, context))
    if not any(questions.values()):
        raise EvaluationError(f"{data} holds no question", "At least one was expected", "Download it again")
    return MarkingData(questions, places)


def evaluate_marking(data: MarkingData, encoder: Encoder, *, on_progress: OnProgress | None = None) -> MarkingResult:
    """How often the marked sentence is right, by language of paragraph and question.

    The sentences of a paragraph are encoded for each of its questions; pass a
    :class:`xsearch.evaluation.remembering.RememberingEncoder` to encode each once.

    Args:
        on_progress: called with what is being done, how much of it is done, and how much there is.

    Raises:
        NonFiniteVectorError: the encoder gave a vector with NaN, infinity or only zeros.
        EncoderError: the encoder gave arrays of the wrong shape.
    """
    report = on_progress or ignore
    texts = {lang: dict.fromkeys(asked.values()) for lang, asked in data.questions.items()}
    vectors = encode_texts(encoder.encode_queries, texts, encoder.dim, "queries", report)
    pairs: dict[tuple[str, str], Scores] = {}
    todo = [(doc_lang, query_lang) for doc_lang in data.places for query_lang in data.questions]
    for done, (doc_lang, query_lang) in enumerate(todo):
        report("marking sentences", done, len(todo))
        places, asked = data.places[doc_lang], data.questions[query_lang]
        shared = [question_id for question_id in asked if question_id in places]
        if not shared:
            continue
        queries = vectors[query_lang].rows([asked[question_id] for question_id in shared])
        right = []
        for question_id, vector in zip(shared, queries, strict=True):
            place = places[question_id]
            (span,) = best_sentences(
                encoder, asked[question_id], vector=vector, texts=[place.context], langs=[doc_lang]
            )
            right.append(span is not None and any(span.start <= start < span.end for start in place.starts))
        pairs[doc_lang, query_lang] = Scores(shared, np.array(right, dtype=np.float64))
    report("marking sentences", len(todo), len(todo))
    return MarkingResult(pairs)


def _starts(entry: Paragraph, context: str) -> tuple[int, ...]:
    try:
        starts = tuple(int(answer["answer_start"]) for answer in entry.field("answers", list))
    except (KeyError, TypeError, ValueError) as exc:
        raise EvaluationError(
            f"{entry.place} has malformed answers ({exc!r})",
            "answers[].answer_start, a number, was expected",
            "Use the data set's own files, unchanged",
        ) from exc
    if not starts or not all(0 <= start < len(context) for start in starts):
        raise EvaluationError(
            f"{entry.place} has no answer within its context",
            "The data set's files have one",
            "Download the file again",
        )
    return starts
