"""One tokenizer for many languages that still cuts English as an English model's own tokenizer does.

The pieces are those of the English model (so that its embeddings can be kept as they are) and, for all other
languages, pieces of a Unigram model (Kudo 2018) trained on their text. Both lie in one Unigram model, whose scores are
log-probabilities counted on text that the model itself cut (hard EM).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xsearch.errors import TrainingError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPACE = "▁"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Rounds of cutting and counting; the scores change by under 1% after the second.
ROUNDS = 3
# Added to the count of each piece: one that the sample does not hold must still have a score.
SMOOTHING = 0.1
BATCH_TEXTS = 4096


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer and what its pieces were in the English model.

    Attributes:
        tokenizer: of all languages.
        kept: new id -> id in the English model, for the pieces that the English model had.
    """

    tokenizer: Tokenizer
    kept: Mapping[int, int]


def english_pieces(tokenizer: Tokenizer) -> dict[str, int]:
    """Piece -> id of a WordPiece tokenizer's ASCII entries, in the manner of Unigram.

    A piece that starts a word is written with a leading ``▁`` ("▁house"), one that goes on with none ("ing").

    Raises:
        TrainingError: the tokenizer is not WordPiece.
    """
    kind = json.loads(tokenizer.to_str())["model"].get("type")
    if kind != "WordPiece":
        raise TrainingError(
            f"The base model has a {kind} tokenizer",
            "A vocabulary can be transplanted into an English model with a WordPiece tokenizer (BERT, MiniLM)",
            "Train the model with its own tokenizer: leave the [vocabulary] table out of the recipe",
        )
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    pieces: dict[str, int] = {}
    for token, number in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        body = token.removeprefix("##")
        if token in special or token.startswith("[unused") or not body.isascii():
            continue
        pieces[body if token.startswith("##") else SPACE + token] = number
    return pieces


def train_pieces(texts: Iterable[str], size: int) -> list[tuple[str, float]]:
    """Pieces and scores of a Unigram model trained on texts of all languages, best first.

    Args:
        texts: balanced by the caller, as their shares decide the shares of the vocabulary.
        size: number of pieces asked for; a small text can give fewer.
    """
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.Unigram())
    _cut_as_bert(tokenizer)
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=["[UNK]"], unk_token="[UNK]", show_progress=False, max_piece_length=16
    )
    tokenizer.train_from_iterator(texts, trainer)
    pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
    return [(piece, score) for piece, score in pieces if piece != "[UNK]"]


def merge(english: Mapping[str, int], others: Sequence[tuple[str, float]], size: int) -> list[str]:
    """The pieces of the merged vocabulary, special tokens first: all English ones, then the others', best first.

    A single character is always kept, as a text in its script could not be cut without.

    Raises:
        TrainingError: ``size`` does not hold the English pieces and the single characters.
    """
    new = [(piece, score) for piece, score in others if piece not in english and piece not in SPECIAL]
    singles = [piece for piece, _ in new if len(piece) == 1]
    longer = [piece for piece, _ in sorted(new, key=lambda item: -item[1]) if len(piece) > 1]
    fixed = [*SPECIAL, *english, *(piece for piece in singles if piece not in english)]
    if SPACE not in fixed:
        fixed.append(SPACE)
    if len(fixed) > size:
        raise TrainingError(
            f"vocabulary.size is {size}",
            f"The English pieces ({len(english)}) and the single characters ({len(singles)}) need {len(fixed)}",
            "Raise vocabulary.size, or vocabulary.min_character_count",
        )
    return fixed + longer[: size - len(fixed)]


def build(
    pieces: Sequence[str], texts: Sequence[str], *, start: Mapping[str, float], max_tokens: int
) -> Tokenizer:
    """The tokenizer of ``pieces``, with scores counted on ``texts``.

    Args:
        pieces: special tokens first, as :func:`merge` gives them; their order is that of the ids.
        texts: a balanced sample; it is cut some rounds over.
        start: a first score for pieces that have one; the others start as the rarest does.
        max_tokens: texts are cut to this many tokens, special ones included.
    """
    lowest = min(start.values(), default=-10.0)
    scores = {piece: start.get(piece, lowest) for piece in pieces}
    tokenizer = _assemble(pieces, scores, max_tokens)
    for _ in range(ROUNDS):
        counts = _count(tokenizer, texts)
        total = sum(counts.values()) + SMOOTHING * len(pieces)
        scores = {
            piece: math.log((counts.get(number, 0) + SMOOTHING) / total) for number, piece in enumerate(pieces)
        }
        tokenizer = _assemble(pieces, scores, max_tokens)
    return tokenizer


def first_scores(english: Mapping[str, int], base: Tokenizer, texts: Sequence[str]) -> dict[str, float]:
    """Log-probabilities of the English pieces, counted with the English model's own tokenizer.

    Args:
        english: as :func:`english_pieces` gives them.
        base: the English model's tokenizer.
        texts: English sentences.
    """
    counts = _count(base, texts)
    total = sum(counts.values()) + SMOOTHING * len(english)
    return {piece: math.log((counts.get(number, 0) + SMOOTHING) / total) for piece, number in english.items()}


def ids_of(tokenizer: Tokenizer, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
    """The token ids of each text, at full length, without special tokens unless asked for."""
    cut = tokenizer.truncation
    tokenizer.no_truncation()
    tokenizer.no_padding()
    try:
        return [
            encoding.ids
            for batch in _batches(texts)
            for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=special)
        ]
    finally:
        if cut is not None:
            tokenizer.enable_truncation(**cut)


def _count(tokenizer: Tokenizer, texts: Sequence[str]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for batch in _batches(texts):
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            counts.update(encoding.ids)
    return counts


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), BATCH_TEXTS):
        yield list(texts[start : start + BATCH_TEXTS])


def _cut_as_bert(tokenizer: Any) -> None:
    """Lower case, and words as BERT cuts them: at spaces and around each punctuation mark, all starting with ▁.

    Accents stay, unlike in BERT: tones of Vietnamese and vowels of Hindi are marks too.
    """
    from tokenizers import normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Metaspace(prepend_scheme="always", split=False)]
    )


def _assemble(pieces: Sequence[str], scores: Mapping[str, float], max_tokens: int) -> Tokenizer:
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors

    vocab = [(piece, 0.0 if piece in SPECIAL else scores[piece]) for piece in pieces]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=SPECIAL.index("[UNK]"), byte_fallback=False))
    _cut_as_bert(tokenizer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    ids = {token: number for number, token in enumerate(SPECIAL)}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer
