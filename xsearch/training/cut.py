"""A smaller vocabulary for a multilingual base: the pieces that its languages use most, each with the row it had.

Order and scores stay as they are. What a dropped piece spelled is spelled by smaller ones, down to single characters,
so a text gets longer and never less readable: all characters that occur are kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from xsearch.errors import TrainingError

BATCH_TEXTS = 4_096
# Fewer characters of a language say little about which pieces it uses.
MIN_CHARACTERS = 1_000
BYTE_PIECES = tuple(f"<0x{byte:02X}>" for byte in range(256))
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cut:
    """A tokenizer with a part of the pieces that another has.

    Attributes:
        tokenizer: with ids of its own, in the order of the old ones.
        kept: (pieces,) int64; piece i had this id before.
    """

    tokenizer: Tokenizer
    kept: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CutOptions:
    """What decides which pieces stay.

    Attributes:
        size: pieces in all, special tokens included; None keeps all.
        weights: of the languages; ``default_weight`` for those not named, 0 leaves one out.
        prior: weight of the base's own scores, as if they were a language: they stand for those without texts.
            WordPiece has none.
        prompts: texts whose pieces always stay.
    """

    size: int | None
    weights: Mapping[str, float]
    default_weight: float = 1.0
    prior: float = 0.0
    prompts: tuple[str, ...] = ()

    def weight(self, lang: str) -> float:
        """Of a language."""
        return self.weights.get(lang, self.default_weight)


def count_pieces(tokenizer: Tokenizer, texts: Iterable[str]) -> Counts:
    """(ids,) int64: how often each piece of a tokenizer occurs in texts, special tokens left out."""
    counts = np.zeros(_ids(tokenizer), dtype=np.int64)
    for ids in _encoded(tokenizer, texts):
        counts += np.bincount(ids, minlength=len(counts))
    return counts


def cut(tokenizer: Tokenizer, counts: Mapping[str, Counts], options: CutOptions) -> Cut:
    """The tokenizer with its ``options.size`` most wanted pieces.

    Always kept are special tokens, the pieces of the prompts and of bytes, and the single characters that occur (in
    WordPiece also with the mark of a word's inside). The others follow by the sum over languages of weight x
    sqrt(relative frequency): the root keeps what is frequent in few languages beside what is rarer in many.

    Args:
        counts: of each language, as :func:`count_pieces` gives them.

    Raises:
        TrainingError: the tokenizer is neither Unigram nor WordPiece, or the size cannot be had.
    """
    content = json.loads(tokenizer.to_str())
    pieces = _pieces(content)
    if options.size is None or options.size == len(pieces):
        ids = np.array(sorted(pieces), dtype=np.int64)
        return Cut(tokenizer, ids)
    used = sum((counts[lang] for lang in counts if options.weight(lang) > 0), np.zeros(_ids(tokenizer), dtype=np.int64))
    needed = _needed(tokenizer, content, pieces, used, options.prompts)
    if options.size > len(pieces):
        raise TrainingError(
            f"vocabulary.cut is {options.size:,}, and the base's vocabulary has {len(pieces):,} pieces",
            "A cut keeps some of them",
            f'Lower vocabulary.cut below {len(pieces):,}, or write keep = "all" in its place',
        )
    if options.size < len(needed):
        raise TrainingError(
            f"vocabulary.cut is {options.size:,}",
            f"Special tokens, prompts and the single characters that occur in the data need {len(needed):,} pieces",
            f"Raise vocabulary.cut to {len(needed):,} at least; {len(needed) * 3:,} leave room for longer pieces",
        )
    wanted = _wanted(content, counts, options)
    others = sorted((number for number in pieces if number not in needed), key=lambda number: (-wanted[number], number))
    return _shrunk(content, sorted([*needed, *others[: options.size - len(needed)]]))


def _encoded(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterable[NDArray[np.int64]]:
    """The ids of batches of texts, each batch in one row."""
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == BATCH_TEXTS:
            yield _flat(tokenizer, batch)
            batch = []
    if batch:
        yield _flat(tokenizer, batch)


def _flat(tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.int64]:
    found = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return np.concatenate([np.array(encoding.ids, dtype=np.int64) for encoding in found])


def _ids(tokenizer: Tokenizer) -> int:
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def _pieces(content: Mapping[str, Any]) -> dict[int, str]:
    """Id -> piece of a tokenizer.json, tokens that were added to the model's included.

    Raises:
        TrainingError: the model is neither Unigram nor WordPiece.
    """
    model = content["model"]
    kind = model.get("type")
    if kind == "Unigram":
        pieces = {number: piece for number, (piece, _) in enumerate(model["vocab"])}
    elif kind == "WordPiece":
        pieces = {number: piece for piece, number in model["vocab"].items()}
    else:
        raise TrainingError(
            f"The base model has a {kind} tokenizer",
            "The vocabulary of a Unigram (XLM-R, multilingual-e5) or WordPiece (BERT, LaBSE) tokenizer can be cut",
            "Leave vocabulary.cut out of the recipe, or choose another base.model",
        )
    return pieces | {token["id"]: token["content"] for token in content["added_tokens"]}


def _needed(
    tokenizer: Tokenizer, content: Mapping[str, Any], pieces: Mapping[int, str], used: Counts, prompts: Sequence[str]
) -> set[int]:
    """The ids that no cut may drop."""
    model = content["model"]
    number_of = {piece: number for number, piece in pieces.items()}
    needed = {int(token["id"]) for token in content["added_tokens"]}
    for prompt in prompts:
        for text in (prompt, prompt.rstrip()):
            needed.update(tokenizer.encode(text, add_special_tokens=False).ids)
    if model.get("byte_fallback"):
        needed.update(number_of[piece] for piece in BYTE_PIECES if piece in number_of)
    if model["type"] == "Unigram":
        mark = ""
        if model.get("unk_id") is not None:
            needed.add(int(model["unk_id"]))
    else:
        mark = model.get("continuing_subword_prefix") or ""
        if model["unk_token"] in number_of:
            needed.add(number_of[model["unk_token"]])
    special = set(needed)
    occurring = [number for number in np.flatnonzero(used).tolist() if number in pieces and number not in special]
    bodies = {number: _characters(pieces[number], mark) for number in occurring}
    characters = {character.removeprefix(mark) for body in bodies.values() for character in body}
    for character in characters:
        needed.update(number_of[form] for form in {character, mark + character} if form in number_of)
    # A piece whose own characters are no pieces has no other spelling.
    needed.update(number for number, body in bodies.items() if any(form not in number_of for form in body))
    return needed


def _characters(piece: str, mark: str) -> list[str]:
    """The single-character pieces that spell a piece where it stands."""
    if not mark:
        return list(piece)
    if piece.startswith(mark) and piece != mark:
        return [mark + character for character in piece.removeprefix(mark)]
    return [piece[0], *(mark + character for character in piece[1:])]


def _wanted(content: Mapping[str, Any], counts: Mapping[str, Counts], options: CutOptions) -> NDArray[np.float64]:
    """(ids,): by how much each piece is wanted."""
    size = max((len(found) for found in counts.values()), default=0)
    wanted = np.zeros(size)
    for lang, found in counts.items():
        total = int(found.sum())
        if options.weight(lang) > 0 and total:
            wanted += options.weight(lang) * np.sqrt(found / total)
    if options.prior > 0 and content["model"]["type"] == "Unigram":
        special = {token["content"] for token in content["added_tokens"]}
        shares = np.zeros(size)
        for number, (piece, score) in enumerate(content["model"]["vocab"]):
            if piece not in special:
                shares[number] = math.exp(score)
        wanted += options.prior * np.sqrt(shares / max(shares.sum(), 1e-300))
    return wanted


def _shrunk(content: Mapping[str, Any], kept: Sequence[int]) -> Cut:
    """The tokenizer with these pieces alone; all that names an id gets the new one."""
    model = dict(content["model"])
    if model["type"] == "Unigram":
        inside = [number for number in kept if number < len(model["vocab"])]
        model["vocab"] = [model["vocab"][number] for number in inside]
    else:
        by_number = {number: piece for piece, number in model["vocab"].items()}
        inside = [number for number in kept if number in by_number]
        model["vocab"] = {by_number[number]: place for place, number in enumerate(inside)}
    # A token that the model's vocabulary lacks gets the next number behind it.
    order = [*inside, *sorted(set(kept) - set(inside))]
    new = {number: place for place, number in enumerate(order)}
    if model["type"] == "Unigram" and model.get("unk_id") is not None:
        model["unk_id"] = new[model["unk_id"]]
    tokens = [{**token, "id": new[token["id"]]} for token in content["added_tokens"]]
    padding = content.get("padding")
    if padding is not None:
        padding = {**padding, "pad_id": new[padding["pad_id"]]}
    changed = {
        **content,
        "model": model,
        "added_tokens": sorted(tokens, key=lambda token: int(token["id"])),
        "padding": padding,
        "post_processor": _renumbered(content.get("post_processor"), new),
    }
    return Cut(Tokenizer.from_str(json.dumps(changed, ensure_ascii=False)), np.array(order, dtype=np.int64))


def _renumbered(processor: Any, new: Mapping[int, int]) -> Any:
    """A post-processor with the new ids of the tokens that it puts around a text."""
    if processor is None:
        return None
    changed = dict(processor)
    if processor["type"] == "Sequence":
        changed["processors"] = [_renumbered(part, new) for part in processor["processors"]]
    for name in ("sep", "cls"):  # of BertProcessing and RobertaProcessing: token and id
        if name in processor:
            token, number = processor[name]
            changed[name] = [token, new[number]]
    if processor["type"] == "TemplateProcessing":
        changed["special_tokens"] = {
            name: {**token, "ids": [new[number] for number in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
    return changed
