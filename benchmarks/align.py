"""Aligned word vectors: precision of translation with a dictionary and without, and MLQA with the static encoder.

The vectors are made here, from parallel data used as if it were not: English from the first half of each file, the
other language from the second half, and no English sentence whose translation is in the other part. They are small
(a few million words, where the papers have billions), and the numbers are those of small vectors.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from record import write_result

from xsearch.encoder.load import load_encoder
from xsearch.evaluation.run import evaluate
from xsearch.evaluation.tasks import Split, load_mlqa
from xsearch.training.adversarial import AdversarialOptions
from xsearch.training.align import AlignOptions, Start, align
from xsearch.training.bitext import OnError, Skips
from xsearch.training.csls import Retrieval
from xsearch.training.dictionary import Dictionary, precision, read_dictionary, split_dictionary
from xsearch.training.lines import read_lines
from xsearch.training.procrustes import RefineOptions, Rotation, prepare
from xsearch.training.self_learning import SelfLearningOptions
from xsearch.training.static_encoder import write_static_encoder
from xsearch.training.word_vectors import WordVectors

WORD = re.compile(r"\w+")
# Lists of words and names have no context to learn from.
NO_TEXT = ("terms", "dict", "annotations")
# What one core does in minutes; the defaults are larger.
ADVERSARIAL = AdversarialOptions(epochs=4, steps=400, hidden=256)
SELF_LEARNING = SelfLearningOptions(frequent=3000)


def halves(data: Path, languages: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """English sentences, and those of each language; none of the English ones translates one of the others."""
    first: dict[str, None] = {}
    others: dict[str, dict[str, None]] = {lang: {} for lang in languages}
    closed: set[str] = set()
    for lang in languages:
        for path in sorted((data / "parallel").glob(f"*.en-{lang}.tsv.zst")):
            if any(word in path.name for word in NO_TEXT):
                continue
            rows = [tuple(line.split("\t")) for line in lines_of(path)]
            middle = len(rows) // 2
            first |= dict.fromkeys(row[0] for row in rows[:middle])
            others[lang] |= dict.fromkeys(row[1] for row in rows[middle:])
            closed |= {row[0] for row in rows[middle:]}
    return [text for text in first if text not in closed], {lang: list(texts) for lang, texts in others.items()}


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a file."""
    return (text for _, text in read_lines(path, Skips(str(path), OnError.STOP)) if text)


def train(texts: list[str], arguments: argparse.Namespace, *, seed: int) -> tuple[WordVectors, dict[str, Any]]:
    """Word vectors of one language, and how they were made; gensim orders them by frequency.

    Each language needs a seed of its own: with one seed the same word begins with the same vector in both, and the
    spaces are aligned a little before anything is.
    """
    from gensim.models import FastText  # type: ignore[import-untyped]

    sentences = [[word.lower() for word in WORD.findall(text)] for text in texts]
    began = time.perf_counter()
    model = FastText(
        sentences, sg=1, vector_size=arguments.dim, window=5, negative=5, min_count=5, sample=1e-4, min_n=3, max_n=5,
        bucket=200_000, epochs=arguments.epochs, workers=1, seed=seed,
    )  # fmt: skip
    words = list(model.wv.index_to_key)
    about = {
        "sentences": len(sentences),
        "running_words": sum(map(len, sentences)),
        "words": len(words),
        "seconds": round(time.perf_counter() - began),
    }
    return WordVectors(tuple(words), np.asarray(model.wv.vectors, dtype=np.float32)), about


def scores(test: Dictionary, source: WordVectors, target: WordVectors, first: int = 0) -> dict[str, Any]:
    """P@1, P@5 and P@10 by nearest neighbour and by CSLS; of the ``first`` most frequent source words, or of all."""
    if first:
        frequent = set(source.words[:first])
        test = Dictionary({word: found for word, found in test.translations.items() if word.lower() in frequent})
    found = [precision(test, source, target, retrieval=retrieval) for retrieval in Retrieval]
    return {
        "words": found[0].words,
        "covered": found[0].covered,
        **{str(each.retrieval): {f"P@{top}": round(share, 4) for top, share in each.at.items()} for each in found},
    }


def mlqa(data: Path, sides: list[WordVectors], langs: list[str]) -> dict[str, float]:
    """nDCG@10 of each pair with the static encoder of these vectors."""
    with tempfile.TemporaryDirectory() as folder:
        write_static_encoder(Path(folder), sides)
        result = evaluate(load_mlqa(data, split=Split.DEV, langs=langs), load_encoder(folder))
    return {pair.key: round(pair.scores["ndcg@10"], 4) for pair in result.pairs}


def measure(lang: str, english: WordVectors, other: WordVectors, arguments: argparse.Namespace) -> dict[str, Any]:
    """All numbers of one language with English."""
    whole = read_dictionary(arguments.data / "terms" / f"wiktionary-buchmeier.en-{lang}.tsv.zst")
    known, test = split_dictionary(whole, len(whole) // 5)
    left, right = prepare(english.vectors), prepare(other.vectors)
    report: dict[str, Any] = {"dictionary": {"train_words": len(known), "test_words": len(test)}}

    def record(name: str, source: WordVectors, target: WordVectors, rotation: Rotation | None, seconds: float) -> None:
        report[name] = {
            "seconds": round(seconds),
            "mean_cosine": None if rotation is None else round(rotation.cosine, 4),
            "all": scores(test, source, target),
            "5000_most_frequent": scores(test, source, target, 5000),
        }
        if arguments.mlqa and name in ("not aligned", "refined"):
            report[name]["mlqa_ndcg_at_10"] = mlqa(arguments.mlqa, [source, target], ["en", lang])
        print(lang, name, report[name], file=sys.stderr, flush=True)

    sides = WordVectors(english.words, left), WordVectors(other.words, right)
    record("not aligned", *sides, None, 0)
    for name, rounds in (("procrustes", 0), ("refined", 5)):
        began = time.perf_counter()
        done = align(english, other, known, options=AlignOptions(refinement=RefineOptions(rounds=rounds)))
        record(name, done.source, done.target, done.rotation, time.perf_counter() - began)
        report[name]["train_pairs"] = done.first_pairs
    best: dict[str, float] = {}
    for start in (Start.SIMILARITY, Start.ADVERSARIAL):
        began = time.perf_counter()
        options = AlignOptions(starts=(start,), adversarial=ADVERSARIAL, self_learning=SELF_LEARNING)
        done = align(english, other, options=options, on_stage=lambda line: print(line, file=sys.stderr, flush=True))
        record(f"unsupervised, {start}", done.source, done.target, done.rotation, time.perf_counter() - began)
        best[str(start)] = done.rotation.cosine
    report["unsupervised_choice"] = max(best, key=lambda name: best[name])
    return report


def main() -> None:
    """Makes the vectors, aligns them in all ways, and writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with parallel/ and terms/")
    parser.add_argument("--mlqa", type=Path, help="MLQA_V1.zip, or its dev part, to measure the static encoder on")
    parser.add_argument("--langs", default="de,es")
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()

    languages = arguments.langs.split(",")
    english_texts, other_texts = halves(arguments.data, languages)
    english, about = train(english_texts, arguments, seed=1)
    report: dict[str, Any] = {
        "what": "Precision of word translation, English to the other language, over the covered words of a fifth of a "
        "dictionary, against all words of the other language; nDCG@10 on MLQA dev of the static encoder",
        "data": "halves of the parallel files as monolingual text, disjoint by sentence; wiktionary-buchmeier",
        "vectors": {
            "model": f"fastText skip-gram, gensim {version('gensim')}, {arguments.dim} dimensions, "
            f"{arguments.epochs} epochs",
            "en": about,
        },
        "self_learning": {"frequent": SELF_LEARNING.frequent, "patience": SELF_LEARNING.patience},
        "adversarial": {"epochs": ADVERSARIAL.epochs, "steps": ADVERSARIAL.steps, "hidden": ADVERSARIAL.hidden},
    }
    print(about, file=sys.stderr, flush=True)
    for seed, lang in enumerate(languages, start=2):
        other, report["vectors"][lang] = train(other_texts[lang], arguments, seed=seed)
        print(lang, report["vectors"][lang], file=sys.stderr, flush=True)
        report[lang] = measure(lang, english, other, arguments)
    print(write_result("align", report, arguments.output))


if __name__ == "__main__":
    main()
