"""MLQA in one pool: questions of each language against the contexts of all languages together.

A score by language pair cannot show language bias: each pair has documents of one language only. In a pool a passage in
the question's language competes with its translations, as it does in a folder of mixed languages. The task is xsearch's
own; :func:`xsearch.evaluation.pool.evaluate_pool` scores it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from xsearch.errors import EvaluationError
from xsearch.evaluation.archive import DataFile
from xsearch.evaluation.squad import read_rows
from xsearch.evaluation.tasks import POOL, Split, Subset, Task, mlqa_files, wanted_langs


@dataclass(frozen=True, slots=True)
class _Read:
    """What the files hold.

    Attributes:
        contexts: by language the distinct contexts, with their positions in the pool.
        questions: by language the questions by id.
        relevant: by question id the positions of its context in every language that has it.
    """

    contexts: Mapping[str, Mapping[str, int]]
    questions: Mapping[str, Mapping[str, str]]
    relevant: Mapping[str, frozenset[int]]


def load_mlqa_pool(data: Path, *, split: Split = Split.DEV, langs: Collection[str] = ()) -> Task:
    """One corpus of the distinct contexts of all languages, and the questions of each language.

    Relevant to a question are its context and that context's translations: MLQA gives a question one id in all of its
    languages, and what it calls the context of that id in another language is the same passage there.

    Args:
        data: ``MLQA_V1.zip``, or a folder that holds ``{split}-context-XX-question-YY.json`` at any depth.
        langs: make the pool and ask the questions in these languages only; all if empty.

    Raises:
        EvaluationError: nothing of this split or these languages is there, or a file is damaged.
    """
    files = mlqa_files(data, split)
    wanted = sorted(wanted_langs(langs, {lang for pair in files for lang in pair}))
    read = _read(files, wanted)
    documents = [(lang, context.strip()) for lang in wanted for context in read.contexts[lang]]
    subsets = tuple(
        Subset(
            doc_lang=POOL,
            query_lang=lang,
            document_ids=tuple(f"C{i}" for i in range(len(documents))),
            documents=tuple(text for _, text in documents),
            query_ids=tuple(asked),
            queries=tuple(asked.values()),
            question_ids=tuple(asked),
            relevant=tuple(read.relevant[question_id] for question_id in asked),
            document_langs=tuple(doc_lang for doc_lang, _ in documents),
        )
        for lang, asked in read.questions.items()
        if asked
    )
    if not subsets:
        raise EvaluationError(
            f"{data} holds no question and context in {', '.join(wanted)}",
            "At least one file of these languages was expected",
            "Pass --langs with languages of a file that is there",
        )
    return Task("MLQAPool", split.value, subsets, main_metric="map", depth=len(documents))


def _read(files: Mapping[tuple[str, str], DataFile], wanted: list[str]) -> _Read:
    """The contexts and questions of these languages, in the order of the languages and then of the files."""
    contexts: dict[str, dict[str, int]] = {lang: {} for lang in wanted}
    questions: dict[str, dict[str, str]] = {lang: {} for lang in wanted}
    found: dict[str, set[int]] = {}
    count = 0
    for doc_lang, query_lang in sorted(files):
        if doc_lang not in contexts or query_lang not in questions:
            continue
        for row in read_rows(files[doc_lang, query_lang]):
            place = contexts[doc_lang].setdefault(row.context, count)
            count += place == count
            questions[query_lang][row.question_id] = row.question
            found.setdefault(row.question_id, set()).add(place)
    return _Read(contexts, questions, {key: frozenset(places) for key, places in found.items()})
