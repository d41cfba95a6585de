"""What words add to meaning: each mode of search through the product's index, within languages and across them.

Each text is one passage with one vector, so that only ranking is compared. Measured on:

- the 49 pairs of MLQA dev, an index each, by MTEB's protocol (nDCG@10);
- one index of all contexts of MLQA dev in seven languages, where every translation of a question's context is relevant:
  mean average precision of the first 100, and whether the first hit is right, among all languages and with the passages
  in the question's language left out ("must cross");
- the demo corpus: its 67 questions, none of which has a text in its language, and its 90 titles, of which the first hit
  that is another text must be of the same topic;
- words of five letters or more that stand in one context of that index only: whether it is found first.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from record import write_result

from xsearch import Document, Hits, Index, Query, SearchOptions
from xsearch.corpus.source import read_source
from xsearch.encoder.fingerprint import Fingerprint
from xsearch.encoder.load import BUILTIN, load_encoder
from xsearch.encoder.protocol import Encoder, OnProgress, Vectors
from xsearch.evaluation.metrics import ndcg
from xsearch.evaluation.tasks import Subset, Task, load_mlqa
from xsearch.search.retrieve import Mode
from xsearch.text.passages import with_title
from xsearch.text.segment import segment

DEMO = Path(__file__).parents[1] / "demo"
POOL_DEPTH = 100
NAMES_A_LANGUAGE = 50
# Written with spaces between words.
SPACED = ("ar", "de", "en", "es", "hi", "vi")
SEED = 5
Numbers = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Texts:
    """All that is encoded, and where its vector is."""

    documents: tuple[str, ...]
    queries: tuple[str, ...]


class Known:
    """An encoder of texts whose vectors are known; for queries and passages that were collected before."""

    def __init__(self, texts: Texts, documents: Vectors, queries: Vectors, name: str) -> None:
        self._documents = dict(zip(texts.documents, documents, strict=True))
        self._queries = dict(zip(texts.queries, queries, strict=True))
        self.dim = int(documents.shape[1])
        self.max_tokens, self.overhead_tokens = 512, 0
        self.fingerprint = Fingerprint(name, name, "", "mean", "", "", self.max_tokens, self.dim, "float32")

    def encode_queries(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        """Vectors of known queries."""
        return np.stack([self._queries[text] for text in texts])

    def encode_passages(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        """Vectors of known documents."""
        return np.stack([self._documents[text] for text in texts])


@dataclass(frozen=True, slots=True)
class Pool:
    """All contexts of a task in one index.

    Attributes:
        documents: with ids that are digests of their texts.
        questions: language and text.
        relevant: ids of documents for each question.
    """

    documents: tuple[Document, ...]
    questions: tuple[tuple[str, str], ...]
    relevant: tuple[frozenset[str], ...]


def main() -> None:
    """Collects and encodes all texts, runs every mode and writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="MLQA_V1.zip, or its dev part")
    parser.add_argument("--encoder", default=BUILTIN, help="the encoder, or with --vectors its name in the results")
    parser.add_argument("--vectors", type=Path, help="folder to keep vectors in, for another run")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    task = load_mlqa(arguments.data)
    pool = _pool(task)
    names = _names(pool)
    demo, demo_queries = _demo()
    texts = Texts(
        tuple(sorted({document.text for document in pool.documents} | {_encoded(one) for one in demo})),
        tuple(
            sorted(
                {text for _, text in pool.questions}
                | {word for word, _ in names}
                | {text for text, _ in demo_queries}
                | {document.title for document in demo}
            )
        ),
    )
    encoder = _known(texts, arguments.encoder, arguments.vectors)
    numbers: Numbers = {
        "task": "MLQA dev and the demo corpus, one passage a text; rankings of Index.search by mode",
        "encoder": arguments.encoder,
        "modes": {mode.value: {} for mode in Mode},
    }
    measured: dict[str, Numbers] = numbers["modes"]
    _measure_pairs(task, encoder, measured)
    with _index(pool.documents, [document.text for document in pool.documents], encoder) as index:
        for mode in Mode:
            measured[mode]["pool"] = {**_pool_numbers(index, pool, mode), "names": _names_found(index, names, mode)}
            print(mode.value, measured[mode]["pool"], flush=True)
    with _index(demo, [_encoded(document) for document in demo], encoder) as index:
        for mode in Mode:
            measured[mode]["demo"] = _demo_numbers(index, demo, demo_queries, mode)
            print(mode.value, measured[mode]["demo"], flush=True)
    print(write_result("fusion", numbers, arguments.output))


def _known(texts: Texts, name: str, folder: Path | None) -> Known:
    """The encoder's vectors of all texts: read from the folder where they are there, else made, and kept there."""
    if folder is not None and (folder / "queries.npy").is_file():
        documents, queries = (np.load(folder / f"{side}.npy", allow_pickle=False) for side in ("documents", "queries"))
    else:
        encoder: Encoder = load_encoder(name)
        documents, queries = encoder.encode_passages(texts.documents), encoder.encode_queries(texts.queries)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / "documents.npy", documents)
            np.save(folder / "queries.npy", queries)
    return Known(texts, documents, queries, name)


@contextmanager
def _index(documents: Sequence[Document], texts: Sequence[str], encoder: Known) -> Iterator[Index]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Index.create(Path(folder) / "index", encoder=encoder, passage_tokens=160) as index,  # type: ignore[arg-type]
    ):
        index.add(documents, vectors=encoder.encode_passages(texts))
        yield index


def _measure_pairs(task: Task, encoder: Known, measured: dict[str, Numbers]) -> None:
    scores: dict[str, dict[str, float]] = {mode: {} for mode in Mode}
    for subset in task.subsets:
        documents = [
            Document(doc_id, text, lang=subset.doc_lang)
            for doc_id, text in zip(subset.document_ids, subset.documents, strict=True)
        ]
        with _index(documents, subset.documents, encoder) as index:
            for mode in Mode:
                scores[mode][subset.key] = round(_ndcg(index, subset, mode), 5)
        print(subset.key, {mode.value: scores[mode][subset.key] for mode in Mode}, flush=True)
    for mode in Mode:
        pairs = scores[mode]
        measured[mode] = {
            "mono": _mean(score for pair, score in pairs.items() if pair[:2] == pair[3:]),
            "cross": _mean(score for pair, score in pairs.items() if pair[:2] != pair[3:]),
            "pairs": pairs,
        }
        print(mode.value, measured[mode]["mono"], measured[mode]["cross"], flush=True)


def _ndcg(index: Index, subset: Subset, mode: Mode) -> float:
    """Mean nDCG@10."""
    place = {doc_id: number for number, doc_id in enumerate(subset.document_ids)}
    queries = [Query(*pair) for pair in zip(subset.query_ids, subset.queries, strict=True)]
    values = []
    for hits, relevant in zip(index.search_many(queries, SearchOptions(k=10, mode=mode)), subset.relevant, strict=True):
        found = np.zeros((1, 10), dtype=bool)
        found[0, : len(hits)] = [place[hit.doc_id] in relevant for hit in hits]
        values.append(float(ndcg(found, np.array([len(relevant)]), k=10)[0]))
    return float(np.mean(values))


def _pool(task: Task) -> Pool:
    """Every context once; to a question all contexts are relevant that any translation of it is asked about."""
    langs: dict[str, str] = {}
    answering: defaultdict[str, set[str]] = defaultdict(set)
    asked: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for subset in task.subsets:
        langs.update(dict.fromkeys(subset.documents, subset.doc_lang))
        for text, question_id, relevant in zip(subset.queries, subset.question_ids, subset.relevant, strict=True):
            asked[subset.query_lang, text].add(question_id)
            answering[question_id].update(_digest(subset.documents[place]) for place in relevant)
    questions = tuple(sorted(asked))
    return Pool(
        tuple(Document(_digest(text), text, lang=lang) for text, lang in sorted(langs.items())),
        questions,
        tuple(frozenset().union(*(answering[one] for one in asked[question])) for question in questions),
    )


def _pool_numbers(index: Index, pool: Pool, mode: Mode) -> Numbers:
    texts = [text for _, text in pool.questions]
    precisions, right = [], []
    for found, relevant in zip(_many(index, texts, mode, k=POOL_DEPTH), pool.relevant, strict=True):
        places = [rank for rank, hit in enumerate(found, 1) if hit.doc_id in relevant]
        precisions.append(sum(number / rank for number, rank in enumerate(places, 1)) / len(relevant))
        right.append(places[:1] == [1])
    of_lang = {document.doc_id: document.lang for document in pool.documents}
    langs = sorted(set(of_lang.values()))
    crossed = []
    for lang in langs:
        rows = [
            (text, relevant)
            for (asked, text), relevant in zip(pool.questions, pool.relevant, strict=True)
            if asked == lang and any(of_lang[doc_id] != lang for doc_id in relevant)
        ]
        others = [other for other in langs if other != lang]
        for found, (_, relevant) in zip(_many(index, [row[0] for row in rows], mode, langs=others), rows, strict=True):
            crossed.append(len(found) > 0 and found[0].doc_id in relevant)
    return {
        f"map@{POOL_DEPTH}": _mean(precisions),
        "right_first": _mean(right),
        "must_cross_right_first": _mean(crossed),
        "questions": len(texts),
        "must_cross_questions": len(crossed),
    }


def _names(pool: Pool) -> list[tuple[str, str]]:
    """Words that one document holds, with its id; some of each language."""
    written = [sorted(set(segment(document.text).split())) for document in pool.documents]
    holds = Counter(word for words in written for word in words)
    rare: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for document, words in zip(pool.documents, written, strict=True):
        rare[document.lang] += [
            (word, document.doc_id)
            for word in words
            if holds[word] == 1 and len(word) >= 5 and not any(map(str.isdigit, word))
        ]
    chance = random.Random(SEED)
    return [one for lang in SPACED for one in chance.sample(rare[lang], NAMES_A_LANGUAGE)]


def _names_found(index: Index, names: Sequence[tuple[str, str]], mode: Mode) -> float:
    found = _many(index, [word for word, _ in names], mode)
    return _mean(len(hits) > 0 and hits[0].doc_id == doc_id for hits, (_, doc_id) in zip(found, names, strict=True))


def _demo() -> tuple[list[Document], list[tuple[str, str]]]:
    """The demo's documents, with their topics as metadata, and its questions with theirs."""
    with (DEMO / "manifest.tsv").open(encoding="utf-8", newline="") as rows:
        listed = list(csv.DictReader(rows, delimiter="\t"))
    known: Mapping[str, Mapping[str, str]] = {
        row["place"].split("#")[1] if "#" in row["place"] else (DEMO / "corpus" / row["place"]).as_posix(): row
        for row in listed
    }
    documents = [
        Document(one.doc_id, one.text, title=known[one.doc_id]["title"], lang=known[one.doc_id]["lang"],
                 metadata={"topic": known[one.doc_id]["topic"]})
        for one in read_source(str(DEMO / "corpus"))
        if isinstance(one, Document)
    ]  # fmt: skip
    lines = [line.split("\t") for line in (DEMO / "queries.tsv").read_text(encoding="utf-8").splitlines()]
    return documents, [(line[2], line[3]) for line in lines]


def _encoded(document: Document) -> str:
    return with_title(document.title, document.text)


def _demo_numbers(
    index: Index, documents: Sequence[Document], queries: Sequence[tuple[str, str]], mode: Mode
) -> Numbers:
    questions = _many(index, [text for text, _ in queries], mode, k=2)
    titles = _many(index, [document.title for document in documents], mode, k=2)
    return {
        "questions": sum(_topic(hits) == topic for hits, (_, topic) in zip(questions, queries, strict=True)),
        "titles": sum(
            _topic(hits, but=document.doc_id) == document.metadata["topic"]
            for hits, document in zip(titles, documents, strict=True)
        ),
        "own_title": sum(
            len(hits) > 0 and hits[0].doc_id == document.doc_id
            for hits, document in zip(titles, documents, strict=True)
        ),
    }


def _topic(hits: Hits, *, but: str = "") -> str:
    """The topic of the first hit that is not one document; empty where there is none."""
    return next((str(hit.metadata["topic"]) for hit in hits if hit.doc_id != but), "")


def _many(index: Index, texts: Sequence[str], mode: Mode, *, k: int = 10, langs: Sequence[str] = ()) -> list[Hits]:
    return index.search_many(texts, SearchOptions(k=k, mode=mode, langs=langs))


def _mean(values: Any) -> float:
    return round(float(np.mean(list(values))), 5)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    main()
