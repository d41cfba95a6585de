"""Hubness of an encoder: the skewness of LAReQA's pool, and tiny files that push themselves before real texts.

- For each question of MLQA-R the ten nearest of the sentences of all languages: how unevenly they are spread.
- Six files of a word or two are put beside the demo corpus: for how many of the demo's questions, and of single words
  that a text of the corpus is about, is one of them among the first three hits?
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from demo_corpus import crossing_questions, demo_index, demo_texts
from record import write_result

from xsearch import Document, Index, SearchOptions
from xsearch.encoder.load import load_encoder
from xsearch.encoder.protocol import Encoder
from xsearch.evaluation.hubness import measure_hubness
from xsearch.evaluation.lareqa import load_lareqa

TINY = ("ok", "TODO", "1234", "…", "yes, done", "héllo world!")
WORDS = ("Biene", "Leuchtturm", "reloj", "volcano", "eclipse", "चाय", "جسر", "muối", "玻璃", "chocolat")
MODES = ("dense", "lexical", "hybrid", "default")
FIRST = 3


def main() -> None:
    """Measures both and writes one file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lareqa", type=Path, required=True, help="mlqa-r.zip")
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    encoder = load_encoder(arguments.encoder)
    with tempfile.TemporaryDirectory() as folder, demo_index(Path(folder), encoder, tiny_documents()) as index:
        tiny = {mode: tiny_hits(index, mode) for mode in MODES}
    for mode, found in tiny.items():
        print(mode, found)
    pool = pool_hubness(arguments.lareqa, encoder)
    print(f"MLQA-R: skewness {pool['skewness']}, {100 * pool['never']:.1f}% never found")
    numbers = {
        "encoder": encoder.fingerprint.name,
        "questions": len(crossing_questions()),
        "words": len(WORDS),
        "tiny_files": list(TINY),
        "first": FIRST,
        "tiny": tiny,
        "mlqa_r": pool,
    }
    print(write_result("hubs", numbers, arguments.output))


def pool_hubness(data: Path, encoder: Encoder) -> dict[str, Any]:
    """Hubness of MLQA-R's pool, with the worst sentences themselves."""
    task = load_lareqa(data)
    documents = task.subsets[0].documents
    queries = [query for subset in task.subsets for query in subset.queries]
    distinct = list(dict.fromkeys(documents))
    # Sentences that are there twice share what they get.
    found = measure_hubness(encoder.encode_queries(queries), encoder.encode_passages(distinct))
    return {**asdict(found), "skewness": round(found.skewness, 3), "worst": [distinct[place] for place in found.worst]}


def tiny_documents() -> list[Document]:
    """The tiny files as documents."""
    return [Document(f"tiny-{number}", text) for number, text in enumerate(TINY, 1)]


def tiny_hits(index: Index, mode: str) -> dict[str, Any]:
    """How many questions and words have a tiny file among their first hits, which, and what is right all the same."""
    questions, texts = crossing_questions(), demo_texts()
    counts: dict[str, Any] = {}
    which: Counter[str] = Counter()
    first_hits = _first_hits(index, mode, [question.text for question in questions])
    for name, hits in (("questions", first_hits), ("words", _first_hits(index, mode, list(WORDS)))):
        found = [tiny_among(first) for first in hits]
        counts[name] = sum(map(bool, found))
        which.update(text for among in found for text in among)
    counts["questions_right"] = sum(
        bool(first) and first[0] in texts and texts[first[0]].topic == question.topic
        for question, first in zip(questions, first_hits, strict=True)
    )
    return {**counts, "files": dict(which.most_common())}


def tiny_among(doc_ids: Sequence[str]) -> list[str]:
    """The tiny texts among documents."""
    numbers = [int(doc_id.removeprefix("tiny-")) for doc_id in doc_ids if doc_id.startswith("tiny-")]
    return [TINY[number - 1] for number in numbers]


def _first_hits(index: Index, mode: str, queries: Sequence[str]) -> list[list[str]]:
    options = SearchOptions(k=FIRST) if mode == "default" else SearchOptions(k=FIRST, mode=mode)
    return [[hit.doc_id for hit in hits] for hits in index.search_many(list(queries), options)]


if __name__ == "__main__":
    main()
