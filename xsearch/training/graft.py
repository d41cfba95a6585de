"""A multilingual start for an English model: its new vocabulary, and embeddings read off the parallel text."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from xsearch.training import vocabulary
from xsearch.training.recipe import DataTable, VocabularyTable
from xsearch.training.selection import Example, Kind
from xsearch.training.transplant import transplant
from xsearch.training.vocabulary import Vocabulary
from xsearch.training.word_alignment import Alignment, align

OnStage = Callable[[str], None]
# Longer rows say little about which word means which, and cost the most.
MAX_ALIGNED_TOKENS = 48
ENGLISH_TEXTS = 100_000
# Languages that are aligned at once; numpy gives the lock free in what takes the time.
THREADS = 2


@dataclass(frozen=True, slots=True)
class Graft:
    """A vocabulary and the embeddings it starts with.

    Attributes:
        vocabulary: the tokenizer of all languages.
        embeddings: (pieces, dim) float32.
        unaligned: new pieces for which the parallel text gave no translation.
    """

    vocabulary: Vocabulary
    embeddings: NDArray[np.float32]
    unaligned: int


def graft(
    base: Tokenizer,
    embeddings: NDArray[np.float32],
    examples: Sequence[Example],
    table: VocabularyTable,
    data: DataTable,
    *,
    max_tokens: int,
    seed: int,
    on_stage: OnStage | None = None,
) -> Graft:
    """Cuts a vocabulary from the examples' texts, and fills its embeddings.

    Args:
        base: the English model's tokenizer.
        embeddings: (pieces, dim) float32, the English model's.
    """
    tell = on_stage or (lambda _: None)
    rows = [example for example in examples if example.kind in (Kind.SENTENCE, Kind.TERM)]
    english = list(dict.fromkeys(example.english for example in rows))
    random.Random(f"{seed} english sides").shuffle(english)
    tell("training the vocabulary")
    grown = build_vocabulary(base, english[:ENGLISH_TEXTS], rows, table, data, max_tokens=max_tokens, seed=seed)
    size = grown.tokenizer.get_vocab_size()
    tell("aligning words")
    links = list(_alignments(grown.tokenizer, base, rows, table, data, seed)) if table.transplant else []
    sample = sample_texts(rows, data, table.characters, seed)
    filled, unaligned = transplant(
        size,
        embeddings,
        grown.kept,
        links,
        english_counts=_counts(grown.tokenizer, english[:ENGLISH_TEXTS], size),
        other_counts=_counts(grown.tokenizer, sample, size),
        min_probability=table.min_probability,
        seed=seed,
    )
    return Graft(grown, filled, unaligned)


def build_vocabulary(
    base: Tokenizer,
    english: Sequence[str],
    rows: Sequence[Example],
    table: VocabularyTable,
    data: DataTable,
    *,
    max_tokens: int,
    seed: int,
) -> Vocabulary:
    """The pieces of the English model and those of all other languages in one tokenizer."""
    kept = vocabulary.english_pieces(base)
    sample = sample_texts(rows, data, table.characters, seed)
    found = vocabulary.candidate_pieces(sample, table.candidates)
    letters = Counter("".join(sample).lower())
    others = [piece for piece in found if len(piece) > 1 or letters[piece] >= table.min_character_count]
    balanced = [*sample, *english[: max(1, len(sample) // 4)]]
    vocabulary.merge(kept, others, table.size)  # refuses a size that is too small before the work
    start = vocabulary.rank_scores(others) | vocabulary.first_scores(kept, base, english)
    many = vocabulary.merge(kept, others, table.size + len(others))
    _, used = vocabulary.build(many, balanced, start=start, max_tokens=max_tokens)
    others.sort(key=lambda piece: -used.get(piece, 0.0))
    pieces = vocabulary.merge(kept, others, table.size)
    tokenizer, _ = vocabulary.build(pieces, balanced, start=used, max_tokens=max_tokens, rounds=1)
    places = {piece: number for number, piece in enumerate(pieces)}
    ids = {places[piece]: old for piece, old in kept.items()}
    for token in vocabulary.SPECIAL:
        old = base.token_to_id(token)
        if old is not None:
            ids[places[token]] = old
    return Vocabulary(tokenizer, ids)


def sample_texts(rows: Sequence[Example], data: DataTable, characters: int, seed: int) -> list[str]:
    """Texts of each language, about ``characters`` a unit of its weight, in random order."""
    draw = random.Random(f"{seed} sample")
    by_language: dict[str, list[str]] = defaultdict(list)
    for example in rows:
        by_language[example.lang].append(example.text)
    chosen: list[str] = []
    for lang in sorted(by_language):
        texts = by_language[lang]
        draw.shuffle(texts)
        left = int(characters * data.languages.get(lang, data.default_weight))
        for text in texts:
            if left <= 0:
                break
            chosen.append(text)
            left -= len(text)
    draw.shuffle(chosen)
    return chosen


def _alignments(
    tokenizer: Tokenizer, base: Tokenizer, rows: Sequence[Example], table: VocabularyTable, data: DataTable, seed: int
) -> Iterator[Alignment]:
    draw = random.Random(f"{seed} alignment")
    by_language: dict[str, list[Example]] = defaultdict(list)
    for example in rows:
        by_language[example.lang].append(example)
    for lang in sorted(by_language):
        found = by_language[lang]
        draw.shuffle(found)
        by_language[lang] = found[: int(2 * table.alignment_rows * data.languages.get(lang, data.default_weight))]
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(lambda lang: _aligned(tokenizer, base, by_language[lang]), sorted(by_language))


def _aligned(tokenizer: Tokenizer, base: Tokenizer, rows: Sequence[Example]) -> Alignment:
    source = vocabulary.ids_of(tokenizer, [example.text for example in rows])
    target = vocabulary.ids_of(base, [example.english for example in rows])
    short = [
        pair
        for pair in zip(source, target, strict=True)
        if len(pair[0]) <= MAX_ALIGNED_TOKENS and len(pair[1]) <= MAX_ALIGNED_TOKENS
    ]
    return align(short)


def _counts(tokenizer: Tokenizer, texts: Sequence[str], size: int) -> NDArray[np.float64]:
    counts = np.zeros(size)
    for ids in vocabulary.ids_of(tokenizer, texts):
        np.add.at(counts, ids, 1.0)
    return counts
