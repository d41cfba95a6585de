"""A smaller vocabulary for a multilingual base: the pieces that its languages use most, each with the row it had.

Order and scores stay as they are. What a dropped piece spelled is spelled by smaller ones, down to single characters,
so a text gets longer and never less readable: all characters that occur are kept.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from xsearch.errors import TrainingError
from xsearch.text.scripts import block_of, count_scripts

BATCH_TEXTS = 4_096
# A script is unseen where the shares of its pieces, summed over the languages, stay below this: a language written in
# it has nearly 1.
UNSEEN_SHARE = 0.3
# A script of which the base has more single characters than this (Han, Hangul) is no alphabet, and is not kept whole.
MAX_ALPHABET = 1_000
# A script with fewer pieces than this is none that the base was trained on.
MIN_SCRIPT_PIECES = 100
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
        prior: weight of the base's own scores, as if they were a language: they stand for those without texts. With a
            weight the letters of all alphabets are kept too.
        unseen_scripts: weight of each script that no counted language is written in, by the same scores.
        prompts: texts whose pieces always stay.
    """

    size: int | None
    weights: Mapping[str, float]
    default_weight: float = 1.0
    prior: float = 0.0
    unseen_scripts: float = 0.0
    prompts: tuple[str, ...] = ()

    def weight(self, lang: str) -> float:
        """Of a language."""
        return self.weights.get(lang, self.default_weight)


def count_pieces(tokenizer: Tokenizer, texts: Iterable[str]) -> Counts:
    """(ids,) int64: how often each piece of a tokenizer occurs in texts, special tokens left out.

    Args:
        tokenizer: one that neither cuts nor pads; see :func:`unbounded`.
    """
    counts = np.zeros(_ids(tokenizer), dtype=np.int64)
    for ids in _encoded(tokenizer, texts):
        counts += np.bincount(ids, minlength=len(counts))
    return counts


def unbounded(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that neither cuts texts nor pads them."""
    own = Tokenizer.from_str(tokenizer.to_str())
    own.no_truncation()
    own.no_padding()
    return own


def cut(tokenizer: Tokenizer, counts: Mapping[str, Counts], options: CutOptions) -> Cut:
    """The tokenizer with its ``options.size`` most wanted pieces.

    Always kept are special tokens, the pieces of the prompts and of bytes, and the single characters that occur (in
    WordPiece also with the mark of a word's inside) or are of an unseen script that has a weight; with a prior, all
    letters but those of Han and Hangul. The others follow by the sum over languages of weight x sqrt(relative
    frequency): the root keeps what is frequent in few languages beside what is rarer in many.

    Args:
        counts: of each language, as :func:`count_pieces` gives them.

    Raises:
        TrainingError: the tokenizer is neither Unigram nor WordPiece, or the size cannot be had.
    """
    content = json.loads(tokenizer.to_str())
    pieces = _pieces(content)
    if options.size is None or options.size == len(pieces):
        return _shrunk(content, sorted(pieces))
    if options.size > len(pieces):
        raise TrainingError(
            f"vocabulary.cut is {options.size:,}, and the base's vocabulary has {len(pieces):,} pieces",
            "A cut keeps some of them",
            f'Lower vocabulary.cut below {len(pieces):,}, or write keep = "all" in its place',
        )
    weighed = {lang: found for lang, found in counts.items() if options.weight(lang) > 0 and found.any()}
    shares = {lang: (options.weight(lang), found / found.sum()) for lang, found in weighed.items()}
    unseen = _unseen(pieces, [share for _, share in shares.values()]) if options.unseen_scripts > 0 else {}
    if options.prior > 0 or unseen:
        shares |= _by_scores(content, unseen, options)
    used = set(np.flatnonzero(sum(weighed.values(), np.zeros(_ids(tokenizer), dtype=np.int64))).tolist())
    used.update(number for ids in unseen.values() for number in ids if len(pieces[number]) == 1)
    if options.prior > 0:
        used.update(_letters(pieces))
    needed = _special(tokenizer, content, pieces, options.prompts)
    needed |= _characters(content, pieces, used - needed)
    if options.size < len(needed):
        raise TrainingError(
            f"vocabulary.cut is {options.size:,}",
            f"Special tokens, prompts and the single characters that occur in the data need {len(needed):,} pieces",
            f"Raise vocabulary.cut to {len(needed):,} at least; three times as many leave room for longer pieces",
        )
    wanted = sum((weight * np.sqrt(share) for weight, share in shares.values()), np.zeros(_ids(tokenizer)))
    others = sorted(pieces.keys() - needed, key=lambda number: (-wanted[number], number))
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


def _special(
    tokenizer: Tokenizer, content: Mapping[str, Any], pieces: Mapping[int, str], prompts: Sequence[str]
) -> set[int]:
    """The ids of added and unknown tokens, of bytes, and of the prompts' pieces."""
    model = content["model"]
    number_of = {piece: number for number, piece in pieces.items()}
    special = {int(token["id"]) for token in content["added_tokens"]}
    for prompt in prompts:
        for text in (prompt, prompt.rstrip()):  # what follows a prompt can take its last space along
            special.update(tokenizer.encode(text, add_special_tokens=False).ids)
    if model.get("byte_fallback"):
        special.update(number_of[piece] for piece in BYTE_PIECES if piece in number_of)
    unknown = model.get("unk_id") if model["type"] == "Unigram" else number_of.get(model["unk_token"])
    return special if unknown is None else special | {int(unknown)}


def _characters(content: Mapping[str, Any], pieces: Mapping[int, str], used: set[int]) -> set[int]:
    """The ids of the characters in used pieces, at a word's start and inside, and of pieces without another spelling.

    In WordPiece the longest piece is taken first, and a word whose rest is no piece is unknown as a whole: with all its
    characters kept, some piece always fits.
    """
    number_of = {piece: number for number, piece in pieces.items()}
    mark = content["model"].get("continuing_subword_prefix") or ""
    spelled = {number: _spelling(pieces[number], mark) for number in used}
    characters = {form.removeprefix(mark) for forms in spelled.values() for form in forms}
    kept = {number_of[form] for each in characters for form in (each, mark + each) if form in number_of}
    return kept | {number for number, forms in spelled.items() if any(form not in number_of for form in forms)}


def _spelling(piece: str, mark: str) -> list[str]:
    """The single-character pieces that spell a piece where it stands."""
    inside = bool(mark) and piece != mark and piece.startswith(mark)
    body = piece.removeprefix(mark) if inside else piece
    return [(mark if inside or place else "") + character for place, character in enumerate(body)]


def _letters(pieces: Mapping[int, str]) -> set[int]:
    """The ids of single letters and marks of all alphabets; without its letter a word of a rare language is unknown."""
    by_script: dict[str, list[int]] = defaultdict(list)
    for number, piece in pieces.items():
        if len(piece) == 1 and unicodedata.category(piece)[0] in "LM":
            by_script[block_of(piece)].append(number)
    return {number for ids in by_script.values() if len(ids) <= MAX_ALPHABET for number in ids}


def _unseen(pieces: Mapping[int, str], shares: Sequence[NDArray[np.float64]]) -> dict[str, list[int]]:
    """The ids of the pieces of each script that no language is written in."""
    by_script: dict[str, list[int]] = defaultdict(list)
    for number, piece in pieces.items():
        letters = count_scripts(piece)
        script = max(letters, key=lambda each: letters[each]) if letters else block_of(piece[-1:] or " ")
        if script:
            by_script[script].append(number)
    return {
        script: ids
        for script, ids in by_script.items()
        if len(ids) >= MIN_SCRIPT_PIECES and sum(float(share[ids].sum()) for share in shares) < UNSEEN_SHARE
    }


def _by_scores(
    content: Mapping[str, Any], unseen: Mapping[str, Sequence[int]], options: CutOptions
) -> dict[str, tuple[float, NDArray[np.float64]]]:
    """Weight and relative frequencies by the base's own scores: of all its texts, and of each unseen script.

    The names are none of languages.

    Raises:
        TrainingError: the tokenizer has no scores.
    """
    if content["model"]["type"] != "Unigram":
        raise TrainingError(
            f"vocabulary.prior and vocabulary.unseen_scripts need scores, and the base has a "
            f"{content['model']['type']} tokenizer",
            "The pieces of a Unigram tokenizer (XLM-R, multilingual-e5) have scores, those of others have none",
            "Remove the two keys; give texts of more languages in vocabulary.texts",
        )
    special = {token["content"] for token in content["added_tokens"]}
    vocab = content["model"]["vocab"]
    size = 1 + max([len(vocab) - 1, *(token["id"] for token in content["added_tokens"])])
    every = np.zeros(size)
    every[: len(vocab)] = [0.0 if piece in special else math.exp(score) for piece, score in vocab]
    found = {"*": (options.prior, every / every.sum())} if options.prior > 0 else {}
    for script, ids in unseen.items():
        own = np.zeros(size)
        own[ids] = every[ids]
        found[f"*{script}"] = (options.unseen_scripts, own / own.sum())
    return found


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
