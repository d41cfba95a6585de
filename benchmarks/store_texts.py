"""The real texts behind the vectors of ``store.py``: passages of many languages, and queries held out from them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.protocol import Encoder

SEED = 4
# Lists of words, which nobody keeps as passages.
NO_PROSE = ("cldr-terms", "omw-wiktionary-terms", "indian-dict")
# Scripts that say in one character what others say in three.
DENSE = ("zh", "zh-Hant", "ja", "ko", "th")
SHORTEST, LONGEST = 60, 500
PASSAGES_A_LANGUAGE = 400
CONTEXTS = 5_000
QUERIES = 1_000
TEXTS_FILE, QUERIES_FILE = "texts.jsonl", "queries.jsonl"
BASE_FILE, QUERY_VECTORS_FILE = "base.npy", "queries.npy"


@dataclass(frozen=True, slots=True)
class Text:
    """A text and its language; ``kind`` is ``context``, ``sentence`` or ``question``."""

    text: str
    lang: str
    kind: str


def collect(data: Path) -> tuple[list[Text], list[Text]]:
    """Passages, and queries none of which is one of them; the same ones every time.

    Passages: the contexts of ``qa/`` and, of each language, as many lines of ``parallel/``. Queries: half questions of
    ``qa/``, half lines as the passages are, alternating.
    """
    chance = random.Random(SEED)
    contexts, questions = _question_data(data / "qa")
    lines = _lines(data / "parallel")
    held: list[Text] = []
    sentences: list[Text] = []
    share = QUERIES // 2 // len(lines) + 2
    for lang in sorted(lines):
        found = sorted(lines[lang])
        chance.shuffle(found)
        held += [Text(line, lang, "sentence") for line in found[:share]]
        sentences += [Text(line, lang, "sentence") for line in found[share : share + PASSAGES_A_LANGUAGE]]
    chance.shuffle(contexts)
    chance.shuffle(questions)
    chance.shuffle(held)
    passages = contexts[:CONTEXTS] + sentences
    chance.shuffle(passages)
    known = {passage.text for passage in passages}
    pairs = zip(questions, (text for text in held if text.text not in known), strict=False)
    queries = [query for pair in pairs for query in pair][:QUERIES]
    return passages, queries


def write_base(folder: Path, data: Path, encoder: Encoder) -> None:
    """Puts texts and their vectors, ``(n, dim) float16``, into the folder, where they are not there yet."""
    if (folder / QUERY_VECTORS_FILE).is_file() and (folder / BASE_FILE).is_file():
        return
    passages, queries = collect(data)
    save_texts(folder / TEXTS_FILE, passages)
    save_texts(folder / QUERIES_FILE, queries)
    asked = encoder.encode_queries([query.text for query in queries])
    np.save(folder / QUERY_VECTORS_FILE, asked.astype(np.float16))
    vectors: NDArray[np.float32] = encoder.encode_passages([passage.text for passage in passages])
    np.save(folder / BASE_FILE, vectors.astype(np.float16))


def save_texts(path: Path, texts: Sequence[Text]) -> None:
    """Writes texts as lines of JSON."""
    lines = (json.dumps(asdict(text), ensure_ascii=False) + "\n" for text in texts)
    path.write_text("".join(lines), encoding="utf-8")


def load_texts(path: Path) -> list[Text]:
    """Reads what :func:`save_texts` wrote."""
    with path.open(encoding="utf-8") as file:
        return [Text(**json.loads(line)) for line in file]


def _question_data(folder: Path) -> tuple[list[Text], list[Text]]:
    """Distinct contexts, cut to passages, and distinct questions."""
    contexts: dict[str, Text] = {}
    questions: dict[str, Text] = {}
    for path in sorted(folder.glob("*.jsonl.zst")):
        lang = path.name.split(".")[-3]
        for line in _unpacked(path):
            record = json.loads(line)
            context, question = record["context"].strip()[:LONGEST], record["question"].strip()
            contexts.setdefault(context, Text(context, lang, "context"))
            questions.setdefault(question, Text(question, lang, "question"))
    return list(contexts.values()), list(questions.values())


def _lines(folder: Path) -> dict[str, set[str]]:
    """By language, the translations that are long enough to be a passage, and as English what they translate."""
    lines: dict[str, set[str]] = {}
    for path in sorted(folder.glob("*.tsv.zst")):
        source, lang = path.name.removesuffix(".tsv.zst").split(".en-")
        if source in NO_PROSE:
            continue
        for line in _unpacked(path):
            english, _, translation = line.partition("\t")
            if len(english) >= SHORTEST:
                lines.setdefault("en", set()).add(english[:LONGEST])
            if len(translation) >= (SHORTEST // 3 if lang in DENSE else SHORTEST):
                lines.setdefault(lang, set()).add(translation[:LONGEST])
    return lines


def _unpacked(path: Path) -> Iterator[str]:
    import zstandard

    with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as file:
        # Not splitlines(), which also cuts at the line separators that a text may hold.
        yield from (line for line in file.read().decode("utf-8").split("\n") if line)
