"""One tokenizer for many languages that still cuts English as an English model's own tokenizer does.

The pieces are those of the English model (so that its embeddings can be kept as they are) and, for all other
languages, byte-pair merges of their text. Both lie in one Unigram model (Kudo 2018), whose scores are log-probabilities
counted on text that the model itself cut (hard EM); candidates that it does not use are left out.
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
ROUNDS = 2
MAX_PIECE_CHARS = 16
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
        if token in special or token.startswith("[unused") or not body or not body.isascii():
            continue
        pieces[body if token.startswith("##") else SPACE + token] = number
    return pieces


def candidate_pieces(texts: Iterable[str], size: int) -> list[str]:
    """Pieces of the words of all languages by byte-pair merges (Sennrich et al. 2016): characters, then by frequency.

    Not those of the ``tokenizers`` library's Unigram trainer: it looks for its first pieces in the list of different
    words, each once, so a frequent word that no longer word begins with (all of Vietnamese) never becomes a piece.

    Args:
        texts: balanced by the caller, as their shares decide the shares of the vocabulary.
        size: number of pieces asked for; a small text can give fewer.
    """
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    _cut_as_bert(tokenizer)
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["[UNK]"], show_progress=False, max_token_length=MAX_PIECE_CHARS
    )
    tokenizer.train_from_iterator(texts, trainer)
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return [piece for piece, _ in pieces if piece != "[UNK]"]


def merge(english: Mapping[str, int], others: Sequence[str], size: int) -> list[str]:
    """The pieces of the merged vocabulary: special tokens, all English ones, single characters, and the first others.

    A single character is always kept, as a text in its script could not be cut without.

    Args:
        others: most wanted first.

    Raises:
        TrainingError: ``size`` does not hold the English pieces and the single characters.
    """
    new = [piece for piece in others if piece not in english and piece not in SPECIAL]
    singles = [piece for piece in new if len(piece) == 1 and piece != SPACE]
    fixed = [*SPECIAL, *english, SPACE, *singles]
    if len(fixed) > size:
        raise TrainingError(
            f"vocabulary.size is {size}",
            f"The English pieces ({len(english)}) and the single characters ({len(singles)}) need {len(fixed)}",
            "Raise vocabulary.size, or vocabulary.min_character_count",
        )
    longer = [piece for piece in new if len(piece) > 1]
    return fixed + longer[: size - len(fixed)]


def build(
    pieces: Sequence[str], texts: Sequence[str], *, start: Mapping[str, float], max_tokens: int, rounds: int = ROUNDS
) -> tuple[Tokenizer, dict[str, float]]:
    """The tokenizer of ``pieces``, and their scores, counted on ``texts``.

    Args:
        pieces: special tokens first, as :func:`merge` gives them; their order is that of the ids.
        texts: a balanced sample; it is cut some rounds over.
        start: a first score for pieces that have one; the others start as the rarest does.
        max_tokens: texts are cut to this many tokens, special ones included.
    """
    lowest = min(start.values(), default=-10.0)
    scores = {piece: start.get(piece, lowest) for piece in pieces}
    tokenizer = _assemble(pieces, scores, max_tokens)
    for _ in range(rounds):
        counts = _count(tokenizer, texts)
        total = sum(counts.values()) + SMOOTHING * len(pieces)
        scores = {piece: math.log((counts.get(number, 0) + SMOOTHING) / total) for number, piece in enumerate(pieces)}
        tokenizer = _assemble(pieces, scores, max_tokens)
    return tokenizer, scores


def rank_scores(pieces: Sequence[str]) -> dict[str, float]:
    """Log-probabilities by Zipf's law for pieces in order of frequency: where counting can start from."""
    return {piece: -math.log((rank + 10) * math.log(len(pieces) + 10)) for rank, piece in enumerate(pieces)}


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


def ids_of(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of each text, without special tokens; cut only where the tokenizer itself says so."""
    return [
        encoding.ids
        for batch in _batches(texts)
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False)
    ]


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
