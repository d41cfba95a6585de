"""The demo corpus for benchmarks: an index of it, its questions, and what each of its texts is about."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xsearch import Document, Index
from xsearch.corpus.source import read_source
from xsearch.encoder.protocol import Encoder

DEMO = Path(__file__).resolve().parents[1] / "demo"
CORPUS = DEMO / "corpus"


@dataclass(frozen=True, slots=True)
class DemoText:
    """A line of the manifest."""

    doc_id: str
    lang: str
    topic: str
    title: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the topic of the texts that answer it."""

    query_id: str
    lang: str
    text: str
    topic: str


def demo_texts() -> dict[str, DemoText]:
    """The texts by document id, which is the absolute path of a file, or a record's own id."""
    lines = (DEMO / "manifest.tsv").read_text(encoding="utf-8").splitlines()
    texts = {}
    for row in csv.DictReader(lines, delimiter="\t"):
        place, _, record = row["place"].partition("#")
        doc_id = record or (CORPUS / place).as_posix()
        texts[doc_id] = DemoText(doc_id, row["lang"], row["topic"], row["title"])
    return texts


def crossing_questions() -> list[Question]:
    """The questions whose topic no text in the question's language is about: all of them."""
    lines = (DEMO / "queries.tsv").read_text(encoding="utf-8").splitlines()
    there = {(text.topic, text.lang) for text in demo_texts().values()}
    questions = [Question(*line.split("\t")) for line in lines]
    return [question for question in questions if (question.topic, question.lang) not in there]


@contextmanager
def demo_index(folder: Path, encoder: Encoder | str, beside: Sequence[Document] = ()) -> Iterator[Index]:
    """An index of the corpus, and of a few more documents, in a new folder within ``folder``."""
    with Index.create(folder / "demo", encoder=encoder) as index:
        index.add(item for item in read_source(str(CORPUS)) if isinstance(item, Document))
        if beside:
            index.add(beside)
        yield index
