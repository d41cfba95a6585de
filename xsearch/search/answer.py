"""The part of a passage that answers: its sentence nearest to the query, found at a bounded price.

Vectors of sentences are not stored, so they are made when a search asks for them, which costs more than all else in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.protocol import Encoder, Vectors
from xsearch.records import Span
from xsearch.text.passages import sentence_spans
from xsearch.text.segment import query_terms, segment

# MLQA-R, 110 questions in up to seven languages with their paragraphs of up to 180 tokens, vectors of
# multilingual-e5-small after a debias step; right sentence first, same language / across, tokens per paragraph:
# whole sentences by cosine 69.4 / 68.3, 124; the rule for the first hits 69.9 / 67.8, 117; for the others 69.0 / 64.1,
# 97. The mean of its token vectors in the encoded paragraph would cost as much and finds it less often.
FIRST_HITS = 3
FIRST_SENTENCE_TOKENS = 48
SENTENCE_TOKENS = 32
HIT_TOKENS = 140
# Terms of a query whose words are looked for in sentences.
MAX_TERMS = 64
# How much the question's words in a sentence count beside its cosine: 0 gives 65.9 / 61.6 and 0.2 gives 67.4 / 61.5
# over paragraphs of any length; up to 0.8 little changes.
WORDS_WEIGHT = 0.2

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Part:
    """A sentence of a passage, and how much of it is encoded."""

    start: int
    end: int
    read: str
    words: float


def best_sentences(
    encoder: Encoder, query: str, *, vector: Vectors, texts: Sequence[str], langs: Sequence[str]
) -> list[Span | None]:
    """The best sentence of each passage, or ``None`` for a passage without text.

    By the cosine of the sentence alone and the query's words in it. What is encoded is bounded: of each sentence its
    first 48 tokens, and beyond the third passage its first 32, of as many sentences as fit in 140 tokens, those that
    share most with the query before others. Ten passages of 160 tokens make about 1,030 tokens, at most 1,500.

    Args:
        vector: of the query, ``(dim,) float32, L2-normalised``.
        texts: the passages, in the order of their ranks.
        langs: their BCP-47 tags; they choose the sentence rules.

    Returns:
        Spans with the cosine of what was encoded of them as their score.
    """
    terms = [" ".join(term) for term in query_terms(query)[:MAX_TERMS]]
    chosen: list[list[_Part]] = []
    for rank, (text, lang) in enumerate(zip(texts, langs, strict=True)):
        first = rank < FIRST_HITS
        limit = FIRST_SENTENCE_TOKENS if first else SENTENCE_TOKENS
        parts = _parts(encoder, terms, text, lang, limit=limit)
        chosen.append([part for part, _ in parts] if first else _affordable(parts, encoder.overhead_tokens))
    read = [part.read for parts in chosen for part in parts]
    if not read:
        return [None] * len(texts)
    scores = iter((encoder.encode_passages(read) @ vector).clip(-1, 1).tolist())
    scored = [[(part, next(scores)) for part in parts] for parts in chosen]
    return [_best(parts) for parts in scored]


def _best(parts: Sequence[tuple[_Part, float]]) -> Span | None:
    """The first of the best."""
    if not parts:
        return None
    part, cosine = max(parts, key=lambda one: one[1] + WORDS_WEIGHT * one[0].words)
    return Span(part.start, part.end, cosine)


def _parts(encoder: Encoder, terms: Sequence[str], text: str, lang: str, *, limit: int) -> list[tuple[_Part, int]]:
    """The sentences of a passage, each with the number of tokens that are read of it."""
    spans = [trimmed for span in sentence_spans(text, lang) if (trimmed := _trimmed(text, *span))]
    sentences = [text[start:end] for start, end in spans]
    offsets = encoder.token_offsets(sentences) if sentences else []
    found: list[tuple[_Part, int]] = []
    for span, sentence, tokens, words in zip(spans, sentences, offsets, _shared(terms, sentences), strict=True):
        read = sentence if len(tokens) <= limit else sentence[: tokens[limit - 1][1]]
        found.append((_Part(*span, read, float(words)), min(len(tokens), limit)))
    return found


def _affordable(parts: Sequence[tuple[_Part, int]], overhead: int) -> list[_Part]:
    """Those that share most with the query, of equals the earlier ones, that fit together; one at least."""
    taken: list[int] = []
    left = HIT_TOKENS
    for place in sorted(range(len(parts)), key=lambda place: -parts[place][0].words):
        cost = parts[place][1] + overhead
        if not taken or cost <= left:
            taken.append(place)
            left -= cost
    return [parts[place][0] for place in sorted(taken)]


def _shared(terms: Sequence[str], sentences: Sequence[str]) -> Floats:
    """For each sentence the share of what the query's terms could tell about where in the passage its answer is.

    ``sum(log((n + 1) / df) over the terms in it) / (len(terms) * log(n + 1))``, where ``n`` is how many sentences there
    are and ``df`` how many of them hold the term: what stands in each of them tells nothing.

    >>> _shared(["tea"], ["Tea is old.", "Coffee is not."]).tolist()
    [1.0, 0.0]
    """
    shares = np.zeros(len(sentences))
    padded = [f" {segment(sentence)} " for sentence in sentences]
    for term in terms:
        holds = np.array([f" {term} " in sentence for sentence in padded], dtype=np.float64)
        if holds.any():
            shares += holds * math.log((len(sentences) + 1) / holds.sum())
    return shares / (len(terms) * math.log(len(sentences) + 1)) if terms and sentences else shares


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The span without white space at its ends, or ``None`` where nothing is left."""
    sentence = text[start:end]
    if not sentence.strip():
        return None
    return start + len(sentence) - len(sentence.lstrip()), start + len(sentence.rstrip())
