"""The bundled corpus, indexed and searched with the built-in encoder: questions cross languages to their topic."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from xsearch import Document, Hit, Index
from xsearch.corpus.source import read_source

DEMO = Path(__file__).parents[1] / "demo"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """An index of the demo corpus."""
    with Index.create(tmp_path_factory.mktemp("demo") / "index") as index:
        index.add(item for item in read_source(str(DEMO / "corpus")) if isinstance(item, Document))
        yield index


@pytest.fixture(scope="module")
def topics() -> dict[str, str]:
    """The topic of each document id, which is its absolute path or, for a record of a table, its id."""
    rows = csv.DictReader((DEMO / "manifest.tsv").read_text(encoding="utf-8").splitlines(), delimiter="\t")
    return {
        row["place"].split("#")[1] if "#" in row["place"] else (DEMO / "corpus" / row["place"]).as_posix(): row["topic"]
        for row in rows
    }


def test_every_text_of_the_corpus_is_indexed(index: Index, topics: dict[str, str]) -> None:
    assert {document.doc_id for document in index} == set(topics)


def test_questions_in_other_languages_find_their_topic(index: Index, topics: dict[str, str]) -> None:
    queries = [line.split("\t") for line in (DEMO / "queries.tsv").read_text(encoding="utf-8").splitlines()]
    asked = [row for row in queries if row[0] != "query_id"]
    found = index.search_many([row[2] for row in asked])
    first = sum(topics[hits[0].doc_id] == row[3] for row, hits in zip(asked, found, strict=True))
    among_ten = sum(row[3] in {topics[hit.doc_id] for hit in hits} for row, hits in zip(asked, found, strict=True))
    # 58 of 67 first with the encoder v2, 41 with v1; one that finds fewer is worse. Chance is about 2 and 20.
    assert first >= 56
    assert among_ten >= 62


@pytest.mark.parametrize(
    ("question", "langs", "topic", "lang"),
    [
        ("During which eclipse was helium first noticed?", [], "solar-eclipse", "hi"),
        ("是谁研制的疫苗救了被疯狗咬伤的男孩？", [], "vaccines", "vi"),
        ("لماذا انهار جسر تاكوما عام 1940؟", [], "bridges", "vi"),
        ("दूध वाली चॉकलेट सबसे पहले किसने बनाई?", [], "chocolate", "de"),
        ("¿Cuántos huevos pone al día una abeja reina?", ["hi"], "honey-bees", "hi"),
    ],
)
def test_the_demo_answers_right(
    index: Index, topics: dict[str, str], question: str, langs: list[str], topic: str, lang: str
) -> None:
    hit: Hit = index.search(question, k=1, langs=langs)[0]
    assert (topics[hit.doc_id], hit.lang) == (topic, lang)
