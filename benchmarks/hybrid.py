"""MLQA dev through the whole product, by mode of search: documents into an index, questions to it, passages found.

Unlike MTEB's protocol, which encodes each context whole, this indexes the contexts as any documents (split, stored,
searched as passages) and ranks a document by its best passage. Pairs, corpora and relevance are the protocol's.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from record import write_result

from xsearch import Document, Index, Query, SearchOptions
from xsearch.encoder.builtin import BuiltinEncoder
from xsearch.evaluation.metrics import ndcg
from xsearch.evaluation.remembering import RememberingEncoder
from xsearch.evaluation.tasks import Subset, load_mlqa

MODES = ("dense", "lexical", "hybrid")
DEPTH = 50


def main() -> None:
    """Runs all pairs in all modes and writes the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="MLQA_V1.zip, or its dev part")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    encoder = RememberingEncoder(BuiltinEncoder())  # contexts recur in up to seven pairs
    scores: dict[str, dict[str, float]] = {mode: {} for mode in MODES}
    for subset in load_mlqa(arguments.data).subsets:
        with tempfile.TemporaryDirectory() as folder, Index.create(Path(folder) / "i", encoder=encoder) as index:
            index.add(
                Document(doc_id, text, lang=subset.doc_lang)
                for doc_id, text in zip(subset.document_ids, subset.documents, strict=True)
            )
            for mode in MODES:
                scores[mode][subset.key] = round(_ndcg(index, subset, mode), 5)
        print(subset.key, {mode: scores[mode][subset.key] for mode in MODES}, flush=True)
    means = {}
    for mode in MODES:
        mono = [score for pair, score in scores[mode].items() if pair[:2] == pair[3:]]
        cross = [score for pair, score in scores[mode].items() if pair[:2] != pair[3:]]
        means[mode] = {"mono": round(float(np.mean(mono)), 5), "cross": round(float(np.mean(cross)), 5)}
        print(mode, means[mode])
    numbers = {"task": "MLQA dev through Index.add and Index.search, nDCG@10", "means": means, "pairs": scores}
    print(write_result("hybrid", numbers, arguments.output))


def _ndcg(index: Index, subset: Subset, mode: str) -> float:
    """Mean nDCG@10 of the documents, each at its best passage."""
    place = {doc_id: number for number, doc_id in enumerate(subset.document_ids)}
    queries = [Query(*pair) for pair in zip(subset.query_ids, subset.queries, strict=True)]
    values = []
    for hits, relevant in zip(
        index.search_many(queries, SearchOptions(k=DEPTH, mode=mode)), subset.relevant, strict=True
    ):
        ranked = list(dict.fromkeys(place[hit.doc_id] for hit in hits))
        found = np.zeros((1, 10), dtype=bool)
        found[0, : min(10, len(ranked))] = [document in relevant for document in ranked[:10]]
        values.append(float(ndcg(found, np.array([len(relevant)]), k=10)[0]))
    return float(np.mean(values))


if __name__ == "__main__":
    main()
