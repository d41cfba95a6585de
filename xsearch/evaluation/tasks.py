"""Retrieval tasks built from question-answering data, exactly as MTEB builds them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from xsearch.errors import EvaluationError
from xsearch.evaluation.archive import DataFile, find_files, zips_in
from xsearch.evaluation.squad import Row, read_rows

_MLQA_FILE = re.compile(r"(?P<split>dev|test)-context-(?P<doc>[a-z]{2})-question-(?P<query>[a-z]{2})\.json")
_XQUAD_FILE = re.compile(r"xquad\.(?P<lang>[a-z]{2})\.json")

# The document language of a pool that mixes all languages.
POOL = "all"
# The data sets name languages with two letters, MTEB's subsets with three. Both are understood.
_TWO_LETTERS = {
    "ara": "ar", "arb": "ar", "deu": "de", "ell": "el", "eng": "en", "spa": "es", "hin": "hi",
    "ron": "ro", "rus": "ru", "tha": "th", "tur": "tr", "vie": "vi", "zho": "zh",
}  # fmt: skip


class Split(StrEnum):
    """The two parts of MLQA; tune on ``dev`` only and report ``test``."""

    DEV = "dev"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Subset:
    """One retrieval problem: rank the documents of one corpus for each query.

    Attributes:
        doc_lang, query_lang: language of the contexts (:data:`POOL` if they are mixed) and of the questions.
        document_ids, documents: the corpus; ids are unique, texts are what the encoder gets.
        query_ids, queries: the queries, likewise.
        question_ids: the data set's own id of each query, the same for its translations in other subsets.
        relevant: for each query the positions of its relevant documents in ``documents``.
        document_langs: language of each document, where the corpus mixes them; else empty.
    """

    doc_lang: str
    query_lang: str
    document_ids: tuple[str, ...]
    documents: tuple[str, ...]
    query_ids: tuple[str, ...]
    queries: tuple[str, ...]
    question_ids: tuple[str, ...]
    relevant: tuple[frozenset[int], ...]
    document_langs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """``CONTEXT-QUESTION``, e.g. ``en-de``: English contexts, German questions."""
        return f"{self.doc_lang}-{self.query_lang}"


@dataclass(frozen=True, slots=True)
class Task:
    """A named set of retrieval problems.

    Attributes:
        name: MTEB's name of the task.
        split: which part of the data.
        subsets: sorted by languages, context language first.
        main_metric: the one that is compared.
        depth: length of the rankings that are scored; MTEB's is 1000.
    """

    name: str
    split: str
    subsets: tuple[Subset, ...]
    main_metric: str = "ndcg@10"
    depth: int = 1000


def load_mlqa(data: Path, *, split: Split = Split.DEV, langs: Collection[str] = ()) -> Task:
    """MTEB's MLQARetrieval over whichever of the 49 language pairs ``data`` holds.

    Args:
        data: ``MLQA_V1.zip``, or a folder that holds ``{split}-context-XX-question-YY.json`` at any depth.
        langs: keep only pairs of these languages (``en`` or ``eng``); all if empty.

    Raises:
        EvaluationError: nothing of this split or these languages is there, or a file is damaged.
    """
    pairs = mlqa_files(data, split)
    wanted = wanted_langs(langs, {lang for pair in pairs for lang in pair})
    subsets = [
        build_subset(read_rows(file), doc_lang=doc, query_lang=query)
        for (doc, query), file in sorted(pairs.items())
        if doc in wanted and query in wanted
    ]
    if not subsets:
        raise EvaluationError(
            f"{data} holds no pair of the languages {', '.join(sorted(wanted))}",
            f"The pairs there are {', '.join('-'.join(pair) for pair in sorted(pairs))}",
            "Pass --langs with two languages of a pair that is there",
        )
    return Task("MLQARetrieval", split.value, tuple(subsets))


def mlqa_files(data: Path, split: Split) -> dict[tuple[str, str], DataFile]:
    """The files of one split by (language of the contexts, language of the questions); at least one.

    Raises:
        EvaluationError: nothing of this split is there.
    """
    files = find_files(data, _MLQA_FILE)
    pairs: dict[tuple[str, str], DataFile] = {}
    splits = set()
    for name, file in files.items():
        if match := _MLQA_FILE.fullmatch(name):
            splits.add(match["split"])
            if match["split"] == split.value:
                pairs[match["doc"], match["query"]] = file
    if files and not pairs:
        raise EvaluationError(
            f"{data} holds no {split.value} files, only {' and '.join(sorted(splits))}",
            f"MLQA's {split.value} split was asked for",
            f"Pass --split {min(splits)}, or point --data at the {split.value} files",
        )
    if not pairs:
        raise nothing_found(data, f"{split.value}-context-XX-question-YY.json", "MLQA_V1.zip")
    return pairs


def load_xquad(data: Path, *, langs: Collection[str] = ()) -> Task:
    """MTEB's XQuADRetrieval: contexts and questions of one language, for each language ``data`` holds.

    Args:
        data: a folder or zip archive that holds ``xquad.XX.json`` (google-deepmind/xquad) at any depth.
        langs: keep only these languages; all if empty.

    Raises:
        EvaluationError: nothing of these languages is there, or a file is damaged.
    """
    files = {
        match["lang"]: file
        for name, file in find_files(data, _XQUAD_FILE).items()
        if (match := _XQUAD_FILE.fullmatch(name))
    }
    if not files:
        raise nothing_found(data, "xquad.XX.json", "the folder of github.com/google-deepmind/xquad")
    wanted = wanted_langs(langs, files.keys())
    subsets = [
        build_subset(read_rows(file), doc_lang=lang, query_lang=lang, native_ids=True)
        for lang, file in sorted(files.items())
        if lang in wanted
    ]
    return Task("XQuADRetrieval", "validation", tuple(subsets))


def build_subset(rows: Iterable[Row], *, doc_lang: str, query_lang: str, native_ids: bool = False) -> Subset:
    """The retrieval problem that MTEB makes of question-answering rows.

    Distinct contexts are the documents and distinct questions the queries, by exact equality of strings; every row
    says that its context is relevant to its question. A document has an empty title, so its text is the context
    without the white space around it.

    Args:
        native_ids: name queries by the id of the last row with that question and documents by their SHA-256, as
            XQuADRetrieval does. Otherwise ``Q{i}`` and ``C{i}`` in order of first occurrence, where MLQARetrieval
            numbers them in an arbitrary order.
    """
    contexts: dict[str, int] = {}
    questions: dict[str, int] = {}
    question_ids: dict[str, str] = {}
    relevant: list[set[int]] = []
    for row in rows:
        document = contexts.setdefault(row.context, len(contexts))
        query = questions.setdefault(row.question, len(questions))
        question_ids[row.question] = row.question_id
        if query == len(relevant):
            relevant.append(set())
        relevant[query].add(document)
    return Subset(
        doc_lang=doc_lang,
        query_lang=query_lang,
        document_ids=tuple(map(_sha256, contexts) if native_ids else (f"C{i}" for i in range(len(contexts)))),
        documents=tuple(f" {context}".strip() for context in contexts),
        query_ids=tuple(question_ids.values() if native_ids else (f"Q{i}" for i in range(len(questions)))),
        queries=tuple(questions),
        question_ids=tuple(question_ids.values()),
        relevant=tuple(map(frozenset, relevant)),
    )


def wanted_langs(langs: Collection[str], present: Collection[str]) -> set[str]:
    """The two-letter codes of the languages asked for, all that are present if none is.

    Raises:
        EvaluationError: one of them is not present.
    """
    if not langs:
        return set(present)
    wanted = {_TWO_LETTERS.get(lang.strip().lower(), lang.strip().lower()) for lang in langs}
    if missing := sorted(wanted - set(present)):
        raise EvaluationError(
            f"There is no data in {', '.join(missing)}",
            f"The languages there are {', '.join(sorted(present))}",
            "Pass --langs with languages that are there",
        )
    return wanted


def nothing_found(data: Path, names: str, source: str) -> EvaluationError:
    """The error for data without a file of the names it should have."""
    zips = zips_in(data)
    hint = f"Pass one of its archives, e.g. --data {zips[0]}" if zips else f"Point --data at {source}"
    return EvaluationError(f"{data} holds no {names}", "Files of that name, at any depth, were expected", hint)


def _sha256(context: str) -> str:
    return hashlib.sha256(context.encode()).hexdigest()
