"""LAReQA: questions of each language against one pool of sentences in all languages.

What a pair of languages cannot show, a mixed pool does: whether an encoder ranks an answer in another language above
a wrong sentence in the language of the question (strong alignment). Roy et al., LAReQA, EMNLP 2020.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from xsearch.errors import EvaluationError
from xsearch.evaluation.archive import DataFile, find_files
from xsearch.evaluation.squad import Paragraph, read_paragraphs
from xsearch.evaluation.tasks import POOL, Subset, Task, nothing_found, wanted_langs

_FILE = re.compile(r"(?P<lang>[a-z]{2})\.json")


def load_lareqa(data: Path, *, langs: Collection[str] = (), with_context: bool = False) -> Task:
    """LAReQA's mixed pool, from MLQA-R or XQuAD-R: every sentence of every language is a document.

    A question's relevant documents are the sentences that hold its answer, in each language the question was
    translated to. The score is mean average precision over the whole ranking.

    Args:
        data: a folder or zip archive that holds ``XX.json`` with ``sentences`` and ``sentence_breaks``.
        langs: make the pool and ask the questions in these languages only; all if empty.
        with_context: encode each sentence with its paragraph after it; the published baselines had it in view.

    Raises:
        EvaluationError: nothing of these languages is there, or a file is damaged.
    """
    files = {match["lang"]: file for name, file in find_files(data, _FILE).items() if (match := _FILE.fullmatch(name))}
    if not files:
        raise nothing_found(data, "XX.json", "the folder mlqa-r or xquad-r of LAReQA")
    wanted = sorted(wanted_langs(langs, files.keys()))
    documents: list[str] = []
    document_langs: list[str] = []
    questions: dict[str, dict[str, str]] = {}
    relevant: dict[str, set[int]] = {}
    for lang in wanted:
        questions[lang] = _read(files[lang], documents, relevant, with_context=with_context)
        document_langs += [lang] * (len(documents) - len(document_langs))
    ids = tuple(f"C{i}" for i in range(len(documents)))
    subsets = tuple(
        Subset(
            doc_lang=POOL,
            query_lang=lang,
            document_ids=ids,
            documents=tuple(documents),
            query_ids=tuple(asked),
            queries=tuple(asked.values()),
            question_ids=tuple(asked),
            relevant=tuple(frozenset(relevant[question_id]) for question_id in asked),
            document_langs=tuple(document_langs),
        )
        for lang, asked in questions.items()
        if asked
    )
    if not subsets:
        raise EvaluationError(f"{data} holds no question", "At least one was expected", "Download it again")
    split = "sentences with context" if with_context else "sentences"
    return Task("LAReQA", split, subsets, main_metric="map", depth=len(documents))


def _read(file: DataFile, documents: list[str], relevant: dict[str, set[int]], *, with_context: bool) -> dict[str, str]:
    """The questions of a file by id; its sentences are added to ``documents``, and what answers to ``relevant``."""
    questions: dict[str, str] = {}
    for paragraph in read_paragraphs(file):
        context = paragraph.field("context", str)
        sentences = paragraph.field("sentences", list)
        breaks = paragraph.field("sentence_breaks", list)
        first = len(documents)
        documents += [f"{sentence} {context}" if with_context else sentence for sentence in sentences]
        for entry in paragraph.questions():
            question_id = entry.field("id", str)
            questions[question_id] = entry.field("question", str)
            found = relevant.setdefault(question_id, set())
            found.update(first + position for position in _answering(entry, breaks))
    return questions


def _answering(entry: Paragraph, breaks: list[list[int]]) -> list[int]:
    """Positions of the sentences in which an answer to the question begins."""
    try:
        starts = [int(answer["answer_start"]) for answer in entry.field("answers", list)]
        found = [i for i, (low, high) in enumerate(breaks) if any(low <= start < high for start in starts)]
    except (KeyError, TypeError, ValueError) as exc:
        raise EvaluationError(
            f"{entry.place} or its sentence_breaks are malformed ({exc!r})",
            "answers[].answer_start and sentence_breaks[] of two numbers were expected",
            "Use LAReQA's own files, unchanged",
        ) from exc
    if not found:
        raise EvaluationError(
            f"{entry.place} has no answer within a sentence", "LAReQA's files have one", "Download the file again"
        )
    return found
