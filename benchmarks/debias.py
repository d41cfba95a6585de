"""Ways to take the language bias out of an encoder's vectors, compared on vectors that are encoded once and kept.

Fitted to translated sentences (``--parallel``), which do not overlap what is measured on. Measured: MLQA dev by MTEB's
protocol over 49 pairs of languages, and one pool of all its contexts in seven languages, where every translation of the
right context is relevant: mAP, whether the first is right, and whether it is right with the contexts in the question's
own language taken away; and, with ``--lareqa``, mAP in the pool of all sentences of MLQA-R. The number of directions
and the part of the mean that is subtracted were chosen on this table, so its best rows are a little too good.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from record import write_result

from xsearch.encoder.debias import DebiasMethod, DebiasOptions, LanguageMoments, door_moments, fit_step
from xsearch.encoder.load import load_encoder
from xsearch.encoder.step import LinearStep
from xsearch.evaluation import metrics
from xsearch.evaluation.archive import find_files
from xsearch.evaluation.lareqa import load_lareqa
from xsearch.evaluation.squad import read_rows
from xsearch.evaluation.tasks import load_mlqa
from xsearch.training.debias_texts import TextOptions, collect_texts

FILE = re.compile(r"dev-context-(?P<doc>..)-question-(?P<query>..)\.json")
ROWS_AT_ONCE = 256
MLQA_LANGS = frozenset({"ar", "de", "es", "hi", "vi", "zh"})
# Languages in which the encoder was trained on little; of the parallel text that these numbers come from.
RARE = frozenset({"ba", "bem", "ha", "ig", "rw", "tw", "yo", "zu"})


class Cache:
    """Vectors on disk by name; what is not there is encoded."""

    def __init__(self, folder: Path, encoder: str) -> None:
        self.folder = folder
        self._name = encoder
        self._encoder: Any = None
        folder.mkdir(parents=True, exist_ok=True)

    def vectors(self, name: str, door: str, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """``(len(texts), dim)``; ``door`` is ``queries`` or ``passages``."""
        path = self.folder / f"{name}.npy"
        if path.is_file():
            found = np.load(path, allow_pickle=False)
            if len(found) != len(texts):
                raise SystemExit(f"{path} holds {len(found)} vectors for {len(texts)} texts: remove it")
            return found
        self._encoder = self._encoder or load_encoder(self._name)
        print(f"encoding {name}", flush=True)
        found = getattr(self._encoder, f"encode_{door}")(texts)
        np.save(path, found)
        return found

    def json(self, name: str, make: Callable[[], Any]) -> Any:
        """What is kept under a name, made if it is not there."""
        path = self.folder / f"{name}.json"
        if not path.is_file():
            path.write_text(json.dumps(make(), ensure_ascii=False), encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))


class Sentences:
    """Translated sentences with their vectors at both doors."""

    def __init__(self, cache: Cache, parallel: Sequence[str], options: TextOptions) -> None:
        def collected() -> dict[str, list[list[str]]]:
            found = collect_texts(parallel, options).languages
            return {one.lang: [list(pair) for pair in (*one.fitted, *one.held_out)] for one in found}

        self._rows: dict[str, list[list[str]]] = cache.json("sentences", collected)
        distinct = list(dict.fromkeys(english for rows in self._rows.values() for english, _ in rows))
        english = cache.json("english-texts", lambda: distinct)
        self._places = {text: place for place, text in enumerate(english)}
        self._english = [cache.vectors(f"english-{door}", door, english) for door in ("queries", "passages")]
        self._own = {
            lang: [
                cache.vectors(f"sentences-{lang}-{door}", door, [text for _, text in rows])
                for door in ("queries", "passages")
            ]
            for lang, rows in self._rows.items()
        }

    def moments(self, *, texts: int, least: int, leading: int, langs: Langs) -> list[LanguageMoments]:
        """Those of the languages that have ``least`` sentences, from up to ``texts`` of each."""
        found = []
        for lang, rows in self._rows.items():
            count = min(texts, len(rows))
            if count < least or not langs(lang):
                continue
            places = [self._places[english] for english, _ in rows[:count]]
            doors = [
                door_moments(english[places], own[:count], leading=leading)
                for english, own in zip(self._english, self._own[lang], strict=True)
            ]
            found.append(LanguageMoments(lang, count, *doors))
        return found


class Mlqa:
    """MLQA dev: pairs of languages, and one pool of all contexts."""

    def __init__(self, cache: Cache, data: Path) -> None:
        self._subsets = load_mlqa(data).subsets
        texts: dict[str, dict[str, dict[str, None]]] = {"documents": {}, "queries": {}}
        for subset in self._subsets:
            texts["documents"].setdefault(subset.doc_lang, {}).update(dict.fromkeys(subset.documents))
            texts["queries"].setdefault(subset.query_lang, {}).update(dict.fromkeys(subset.queries))
        kept = cache.json(
            "mlqa-texts", lambda: {side: {k: list(v) for k, v in by.items()} for side, by in texts.items()}
        )
        self.texts: dict[str, dict[str, list[str]]] = kept
        self.documents, self._documents, doc_langs = self._side(cache, "documents", "passages")
        self.queries, self._queries, query_langs = self._side(cache, "queries", "queries")
        self._same = query_langs[:, None] == doc_langs[None, :]
        self._relevant = self._pool(data)

    def _side(self, cache: Cache, side: str, door: str) -> tuple[Any, dict[tuple[str, str], int], Any]:
        by_lang = self.texts[side]
        vectors = [cache.vectors(f"mlqa-{side}-{lang}", door, by_lang[lang]) for lang in sorted(by_lang)]
        keys = [(lang, text) for lang in sorted(by_lang) for text in by_lang[lang]]
        places = {key: place for place, key in enumerate(keys)}
        return np.concatenate(vectors), places, np.array([lang for lang, _ in keys])

    def _pool(self, data: Path) -> Any:
        """``(queries, documents) bool``: a context is relevant to all questions with an id that it is asked under."""
        contexts: dict[str, set[int]] = {}
        asked: dict[int, set[str]] = {}
        for name, file in find_files(data, FILE).items():
            match = FILE.fullmatch(name)
            assert match is not None
            for row in read_rows(file):
                context = self._documents[match["doc"], row.context.strip()]
                contexts.setdefault(row.question_id, set()).add(context)
                asked.setdefault(self._queries[match["query"], row.question], set()).add(row.question_id)
        relevant = np.zeros((len(self.queries), len(self.documents)), dtype=bool)
        for query, ids in asked.items():
            relevant[query, sorted({context for one in ids for context in contexts[one]})] = True
        return relevant

    def scores(self, step: LinearStep | None) -> dict[str, Any]:
        """All numbers of one step."""
        queries, documents = transformed(step, self.queries, self.documents)
        scores = queries @ documents.T
        pairs = {subset.key: self._pair(subset, scores) for subset in self._subsets}
        same = [value for key, value in pairs.items() if key[:2] == key[3:]]
        other = [value for key, value in pairs.items() if key[:2] != key[3:]]
        lowest = min(pairs, key=lambda key: pairs[key])
        crossing = np.where(self._same, -np.inf, scores).argmax(axis=1)
        can_cross = (self._relevant & ~self._same).any(axis=1)
        first = self._relevant[np.arange(len(scores)), scores.argmax(axis=1)]
        crossed = self._relevant[np.arange(len(scores)), crossing][can_cross]
        return {
            "mono": round(float(np.mean(same)), 2),
            "cross": round(float(np.mean(other)), 2),
            "lowest": {"pair": lowest, "ndcg@10": round(pairs[lowest], 1)},
            "pool_map": round(mean_average_precision(scores, self._relevant), 4),
            "right_first": round(100 * float(first.mean()), 1),
            "must_cross_right_first": round(100 * float(crossed.mean()), 1),
        }

    def _pair(self, subset: Any, scores: Any) -> float:
        documents = [self._documents[subset.doc_lang, text] for text in subset.documents]
        queries = [self._queries[subset.query_lang, text] for text in subset.queries]
        ranked = np.argsort(-scores[np.ix_(queries, documents)], axis=1, kind="stable")[:, :10]
        found = np.array([np.isin(row, list(right)) for row, right in zip(ranked, subset.relevant, strict=True)])
        counts = np.array([len(right) for right in subset.relevant])
        return 100 * float(metrics.ndcg(found, counts, k=10).mean())


class Lareqa:
    """MLQA-R: questions of each language in one pool of sentences of all."""

    def __init__(self, cache: Cache, data: Path, mlqa: Mlqa) -> None:
        self._subsets = load_lareqa(data).subsets
        self._documents = cache.vectors("lareqa-documents", "passages", self._subsets[0].documents)
        self._mlqa = mlqa

    def score(self, step: LinearStep | None) -> float:
        """The mean over languages of mAP."""
        values = []
        for subset in self._subsets:
            places = [self._mlqa._queries[subset.query_lang, text] for text in subset.queries]
            queries, documents = transformed(step, self._mlqa.queries[places], self._documents)
            relevant = np.zeros((len(queries), len(documents)), dtype=bool)
            for row, right in zip(relevant, subset.relevant, strict=True):
                row[list(right)] = True
            values.append(mean_average_precision(queries @ documents.T, relevant))
        return round(float(np.mean(values)), 4)


def transformed(step: LinearStep | None, queries: Any, documents: Any) -> tuple[Any, Any]:
    """Both sides through the step, if there is one."""
    return (queries, documents) if step is None else (step.queries(queries), step.passages(documents))


def mean_average_precision(scores: Any, relevant: Any) -> float:
    """mAP over whole rankings."""
    values = []
    for start in range(0, len(scores), ROWS_AT_ONCE):
        part, right = scores[start : start + ROWS_AT_ONCE], relevant[start : start + ROWS_AT_ONCE]
        # Several times as fast as a stable sort; equal scores are too few to matter in a mean of thousands.
        found = np.take_along_axis(right, np.argsort(-part, axis=1), axis=1)
        values.append(metrics.average_precision(found, right.sum(axis=1), k=found.shape[1]))
    return float(np.concatenate(values).mean())


Langs = Callable[[str], bool]
GROUPS: Mapping[str, Langs] = {
    "all": lambda lang: True,
    "without rare": lambda lang: lang not in RARE,
    "MLQA's six": lambda lang: lang in MLQA_LANGS,
    "none of MLQA's": lambda lang: lang.split("-")[0] not in MLQA_LANGS,
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One row of the table."""

    options: DebiasOptions
    langs: str = "all"
    texts: int = 100_000
    leading: int = 1


def trials() -> Iterator[Trial]:
    """All rows: what is varied is varied around 20 directions, all of them, and 0.7 of the mean."""
    method = DebiasMethod
    for centre in (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        yield Trial(DebiasOptions(method.PROJECTION, 20, centre=centre))
    for centre in (0.7, 1.0):
        yield Trial(DebiasOptions(method.CENTRING, 0, centre=centre))
    for directions in (4, 6, 8, 10, 14, 17, 24, 30, 40):
        yield Trial(DebiasOptions(method.PROJECTION, directions))
    yield Trial(DebiasOptions())
    for strength in (0.5, 0.7, 0.85):
        yield Trial(DebiasOptions(method.PROJECTION, 20, strength=strength))
    for langs in ("without rare", "MLQA's six", "none of MLQA's"):
        yield Trial(DebiasOptions(method.PROJECTION, 6 if langs == "MLQA's six" else 20), langs=langs)
    for texts in (10, 20, 40):
        yield Trial(DebiasOptions(method.PROJECTION, 20), texts=texts)
    for directions in (8, 20):
        yield Trial(DebiasOptions(method.LSAR, directions, centre=0.0))
        yield Trial(DebiasOptions(method.LSAR, directions))
    for leading in (1, 2, 4):
        yield Trial(DebiasOptions(method.LIR, 10, centre=0.0), leading=leading)
        yield Trial(DebiasOptions(method.LIR, 20), leading=leading)
    for directions in (8, 20):
        yield Trial(DebiasOptions(method.LEACE, directions))
    for strength in (0.25, 0.5, 1.0):
        yield Trial(DebiasOptions(method.WHITENING, 0, strength=strength))


def main() -> None:
    """Measures every trial and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", required=True, help="name or folder")
    parser.add_argument("--parallel", action="append", default=[], help="files of English and translations")
    parser.add_argument("--mlqa", type=Path, required=True, help="MLQA_V1-dev.zip")
    parser.add_argument("--lareqa", type=Path, help="mlqa-r.zip")
    parser.add_argument("--cache", type=Path, required=True, help="folder for vectors; what is there is not encoded")
    parser.add_argument("--texts", type=int, default=1_000, help="sentences of a language")
    parser.add_argument("--least", type=int, default=100, help="a language with fewer is left out")
    parser.add_argument("--label", help="what the results call the encoder and its arithmetic")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    cache = Cache(given.cache, given.encoder)
    evaluation = tuple(path for path in (given.mlqa, given.lareqa) if path is not None)
    sentences = Sentences(cache, given.parallel, TextOptions(given.texts, given.least, evaluation))
    mlqa = Mlqa(cache, given.mlqa)
    lareqa = None if given.lareqa is None else Lareqa(cache, given.lareqa, mlqa)

    def measured(step: LinearStep | None) -> dict[str, Any]:
        pooled = {} if lareqa is None else {"lareqa_map": lareqa.score(step)}
        return {**mlqa.scores(step), **pooled}

    rows: list[dict[str, Any]] = [{"method": "none", **measured(None)}]
    print(rows[-1], flush=True)
    for trial in trials():
        moments = sentences.moments(
            texts=trial.texts, least=min(given.least, trial.texts), leading=trial.leading, langs=GROUPS[trial.langs]
        )
        step = fit_step(moments, trial.options, encoder="")
        described = {**asdict(trial.options), "method": trial.options.method.value}
        described["directions"] = step.facts["directions"]
        rows.append({
            **described, "langs": trial.langs, "languages": len(moments),
            "texts": max(one.texts for one in moments), "leading": trial.leading,
            "variance_removed": round(step.facts["between_language_variance_removed"], 3), **measured(step),
        })  # fmt: skip
        print(rows[-1], flush=True)
    numbers = {"encoder": given.label or given.encoder, "data": "MLQA dev; MLQA-R", "rows": rows}
    print(write_result("debias", numbers, given.output))


if __name__ == "__main__":
    main()
