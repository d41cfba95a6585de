"""Retrieval: a query meets the vectors and the words of a snapshot, and what it finds becomes hits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from xsearch.encoder.protocol import Encoder, Vectors, unit_vectors
from xsearch.errors import InvalidArgumentError
from xsearch.ranking import top_k
from xsearch.records import Hit, Hits, Query
from xsearch.search.answer import best_sentences
from xsearch.search.fuse import fuse
from xsearch.store.hits import PassageRow
from xsearch.store.snapshot import Allowed, Snapshot
from xsearch.store.vectors import Nearest, PassageIds
from xsearch.text.tags import known_tag

# Passages that each leg of a hybrid search puts forward, at least; the fused order is exact among these.
HYBRID_DEPTH = 200


class Mode(StrEnum):
    """What a passage is found by: what it means, the words it shares with the query, or both."""

    DENSE = "dense"
    LEXICAL = "lexical"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What to search among, and what to return.

    Attributes:
        k: passages per query; at least 1.
        langs: languages of passages, in any common code; empty for all.
        where: filter over documents (:mod:`xsearch.store.where`); empty for none.
        mode: ``hybrid`` (meaning, and words within each language: :mod:`xsearch.search.fuse`), ``dense`` (meaning
            alone) or ``lexical`` (words alone).
        mark: whether to find the best sentence of each hit; takes one more pass of the encoder over their sentences.
    """

    k: int = 10
    langs: Sequence[str] = ()
    where: str = ""
    mode: Mode | str = Mode.HYBRID
    mark: bool = False

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "mode", Mode(self.mode))
        except ValueError as exc:
            raise InvalidArgumentError(
                f"mode is {self.mode!r}", "It must be 'dense', 'lexical' or 'hybrid'", "Choose one of these"
            ) from exc
        if self.k < 1:
            raise InvalidArgumentError(f"k is {self.k}", "k must be at least 1", "Pass how many hits you want, e.g. 10")
        if isinstance(self.langs, str):
            raise InvalidArgumentError(
                f"langs is the text {self.langs!r}", "It must be a list of languages", 'Pass for example ["de", "zh"]'
            )


def retrieve(
    snapshot: Snapshot, encoder: Callable[[], Encoder], queries: Sequence[Query], options: SearchOptions
) -> list[Hits]:
    """The hits of each query, best first, by the score of ``options.mode``.

    Args:
        encoder: gives the index's encoder; not called where words alone decide, which need none.

    Raises:
        InvalidArgumentError: a query has no text.
        NonFiniteVectorError: the encoder gave a query vector without direction.
        FilterError: ``options.where`` cannot be read.
    """
    for query in queries:
        if not query.text.strip():
            raise InvalidArgumentError(
                f"The query {query.query_id!r} has no text", "A query has at least one character", "Leave it out"
            )
    langs = [known_tag(lang) for lang in options.langs]
    allowed = snapshot.allowed(langs=langs, where=options.where)
    if options.mode is Mode.LEXICAL and not options.mark:
        vectors = np.empty((len(queries), 0), dtype=np.float32)
    else:
        vectors = unit_vectors(encoder().encode_queries([query.text for query in queries]))
    found = _found(snapshot, queries, vectors, options, allowed)
    rows = snapshot.passages(np.unique(np.concatenate([one.passage_ids for one in found])).tolist() if found else [])
    results: list[Hits] = []
    for query, vector, ranked in zip(queries, vectors, found, strict=True):
        hits = tuple(_hit(rows, ranked, place) for place in range(len(ranked.passage_ids)))
        results.append(Hits(query, _marked(encoder(), query.text, vector, hits) if options.mark else hits))
    return results


@dataclass(frozen=True, slots=True)
class _Ranked:
    """What one query finds, best first.

    Attributes:
        scores: what ranks.
        cosines, shares: what each leg says of the same passages; ``None`` for a leg that was not asked.
    """

    passage_ids: PassageIds
    scores: Vectors
    cosines: Vectors | None = None
    shares: Vectors | None = None


def _found(
    snapshot: Snapshot, queries: Sequence[Query], vectors: Vectors, options: SearchOptions, allowed: Allowed | None
) -> list[_Ranked]:
    """What each query finds in the mode that was asked for."""
    if options.mode is Mode.DENSE:
        nearest = snapshot.dense(vectors, options.k, allowed=allowed)
        return [_Ranked(one.passage_ids, one.scores, cosines=one.scores) for one in nearest]
    if options.mode is Mode.LEXICAL:
        nearest = [snapshot.words(query.text, options.k, allowed=allowed) for query in queries]
        return [_Ranked(one.passage_ids, one.scores, shares=one.scores) for one in nearest]
    depth = max(HYBRID_DEPTH, 4 * options.k)
    dense = snapshot.dense(vectors, depth, allowed=allowed)
    lexical = [
        snapshot.words(query.text, depth, allowed=allowed, also=near.passage_ids)
        for query, near in zip(queries, dense, strict=True)
    ]
    return [
        _fused(snapshot, vector, near, words, k=options.k)
        for vector, near, words in zip(vectors, dense, lexical, strict=True)
    ]


def _fused(snapshot: Snapshot, query: Vectors, dense: Nearest, lexical: Nearest, *, k: int) -> _Ranked:
    """The best of what both legs put forward; each passage has the scores of both, whichever put it forward."""
    ids = np.union1d(dense.passage_ids, lexical.passage_ids)
    shares = np.zeros(len(ids), dtype=np.float32)
    shares[np.searchsorted(ids, lexical.passage_ids)] = lexical.scores
    cosines = snapshot.searcher.cosines(query, ids)
    # zh-Hant and zh share words: one language.
    langs = np.unique([lang.split("-")[0] for lang in snapshot.langs(ids)], return_inverse=True)[1]
    scores = fuse(cosines, shares, langs, ids, passages=snapshot.count)
    best = top_k(scores, ids, k=k)
    return _Ranked(ids[best], scores[best], cosines[best], shares[best])


def _marked(encoder: Encoder, query: str, vector: Vectors, hits: Sequence[Hit]) -> tuple[Hit, ...]:
    texts, langs = [hit.text for hit in hits], [hit.lang for hit in hits]
    spans = best_sentences(encoder, query, vector=vector, texts=texts, langs=langs)
    return tuple(replace(hit, best=span) for hit, span in zip(hits, spans, strict=True))


def _hit(rows: Mapping[int, PassageRow], ranked: _Ranked, place: int) -> Hit:
    row = rows[int(ranked.passage_ids[place])]
    return Hit(
        rank=place + 1,
        score=float(ranked.scores[place]),
        passage_id=row.passage_id,
        doc_id=row.doc_id,
        lang=row.lang,
        doc_lang=row.doc_lang,
        title=row.title,
        text=row.text,
        source=row.source,
        start=row.start,
        end=row.end,
        metadata=row.metadata,
        cosine=None if ranked.cosines is None else float(ranked.cosines[place]),
        bm25=None if ranked.shares is None else float(ranked.shares[place]),
    )
