"""What a cut vocabulary costs: by language, which share of running pieces is kept, and how much longer texts get."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from xsearch.training.cut import count_pieces, unbounded

COVERAGE_FILE = "coverage.json"


@dataclass(frozen=True, slots=True)
class LanguageCoverage:
    """One language's texts through two tokenizers.

    Attributes:
        lang: its tag.
        characters: of the texts.
        kept: share of the running pieces before that the tokenizer after has too.
        tokens_per_char_before, tokens_per_char_after: special tokens left out.
        unknown_before, unknown_after: share of the running pieces that are the unknown token.
    """

    lang: str
    characters: int
    kept: float
    tokens_per_char_before: float
    tokens_per_char_after: float
    unknown_before: float
    unknown_after: float

    @property
    def longer(self) -> float:
        """By what share texts have more tokens than before."""
        return self.tokens_per_char_after / self.tokens_per_char_before - 1 if self.tokens_per_char_before else 0.0


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a cut did to all languages.

    Attributes:
        pieces_before, pieces_after: of the vocabulary.
        languages: the least kept first.
    """

    pieces_before: int
    pieces_after: int
    languages: tuple[LanguageCoverage, ...]


def coverage(before: Tokenizer, after: Tokenizer, texts: Mapping[str, Sequence[str]]) -> Coverage:
    """How texts of several languages fare with one tokenizer in the place of another.

    Args:
        texts: by language; one without a character is left out.
    """
    before, after = unbounded(before), unbounded(after)
    after_pieces = after.get_vocab()
    shared = np.zeros(1 + max(before.get_vocab().values(), default=0))
    for piece, number in before.get_vocab().items():
        shared[number] = piece in after_pieces
    unknown = unknown_id(before), unknown_id(after)
    found = []
    for lang, own in texts.items():
        characters = sum(map(len, own))
        counts = count_pieces(before, own), count_pieces(after, own)
        totals = [int(each.sum()) for each in counts]
        if not characters or not all(totals):
            continue
        shares = [
            0.0 if number is None else float(each[number]) / total
            for each, number, total in zip(counts, unknown, totals, strict=True)
        ]
        kept = float(counts[0] @ shared) / totals[0]
        found.append(
            LanguageCoverage(
                lang, characters, kept, totals[0] / characters, totals[1] / characters, shares[0], shares[1]
            )
        )
    found.sort(key=lambda each: (each.kept, each.lang))
    return Coverage(before.get_vocab_size(), after.get_vocab_size(), tuple(found))


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """The id that a tokenizer gives to what it cannot spell; None where there is no such token."""
    model = json.loads(tokenizer.to_str())["model"]
    number = model.get("unk_id")
    if number is None and model.get("unk_token") is not None:
        number = tokenizer.token_to_id(model["unk_token"])
    return None if number is None else int(number)


def save_coverage(path: Path, found: Coverage, fingerprint: str) -> None:
    """Writes a coverage as JSON, shares rounded to five digits."""
    content = {"fingerprint": fingerprint, **as_json(found)}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def load_coverage(path: Path, fingerprint: str) -> Coverage | None:
    """What :func:`save_coverage` wrote; None where there is nothing that can be read, or another recipe's."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["fingerprint"] != fingerprint:
            return None
        languages = tuple(LanguageCoverage(**entry) for entry in content["languages"])
        return Coverage(content["pieces_before"], content["pieces_after"], languages)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def as_json(found: Coverage) -> dict[str, object]:
    """A coverage as plain values."""
    rows = [
        {name: round(value, 5) if isinstance(value, float) else value for name, value in asdict(each).items()}
        for each in found.languages
    ]
    return {"pieces_before": found.pieces_before, "pieces_after": found.pieces_after, "languages": rows}
