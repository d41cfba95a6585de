"""The examples of a run: its files read language by language, filtered, and chosen from."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xsearch.errors import TrainingError
from xsearch.training.bitext import OnError, Pair
from xsearch.training.filters import FilterReport, PairFilters, Reason, filtered
from xsearch.training.overlap import EvaluationGuard
from xsearch.training.pairs import read_pairs
from xsearch.training.questions import clear_of_evaluation, read_questions
from xsearch.training.recipe import DataTable
from xsearch.training.selection import Example, Kind, english_examples, passages, select
from xsearch.training.sources import english_first, find, origin_of, target_language

OnFile = Callable[[Path], None]
MAX_CHARS = 1_500
MAX_TERM_CHARS = 80


@dataclass(frozen=True, slots=True)
class Collection:
    """What a run trains on.

    Attributes:
        examples: of all languages and kinds.
        report: what the filters took out, and why.
        files: of pairs and questions that were read.
    """

    examples: list[Example]
    report: FilterReport
    files: tuple[Path, ...]


@dataclass(slots=True)
class _Language:
    sentences: dict[str, list[Pair]] = field(default_factory=lambda: defaultdict(list))
    terms: dict[str, list[Pair]] = field(default_factory=lambda: defaultdict(list))


def collect(
    table: DataTable, folder: Path, seed: int, *, others: Container[str] = (), on_file: OnFile | None = None
) -> Collection:
    """Reads, filters and chooses; nothing that overlaps the evaluation data survives.

    Args:
        folder: where ``table.folder`` starts.
        others: languages of which there are other texts: they may have a weight, and no file here.

    Raises:
        TrainingError: a pattern matches no file, neither side of a file is English, or a language has no rows left.
        PairError: a line is malformed; the message names file and line.
    """
    root = folder / table.folder
    guard = EvaluationGuard.read(tuple(find(root, table.evaluation)))
    report = FilterReport()
    terms = set(find(root, table.terms))
    by_language: dict[str, list[Path]] = defaultdict(list)
    for path in sorted({*find(root, table.parallel), *terms}):
        by_language[target_language(path)].append(path)
    examples: list[Example] = []
    files: list[Path] = []
    for lang in sorted(by_language):
        weight = table.languages.get(lang, table.default_weight)
        if weight > 0:
            files += by_language[lang]
            rows = _read(by_language[lang], terms, guard, report, on_file)
            examples += _choose(lang, rows, weight, table, seed, guard, report)
    draw = random.Random(f"{seed} english")
    examples += english_examples(examples, table.english, draw)
    question_files = tuple(find(root, table.questions))
    for path in question_files:
        if on_file is not None:
            on_file(path)
        examples += _questions(path, guard, report)
    read = {"en", *by_language, *(example.lang for example in examples)}
    for language, weight in table.languages.items():
        if weight > 0 and language not in read and language not in others:
            raise TrainingError(
                f"data.languages names {language}",
                "No file of pairs or questions is of that language",
                "Remove the language, or add its files to data.parallel",
            )
    return Collection(examples, report, (*files, *question_files))


def _choose(
    lang: str, rows: _Language, weight: float, table: DataTable, seed: int, guard: EvaluationGuard, report: FilterReport
) -> list[Example]:
    draw = random.Random(f"{seed} {lang}")
    chosen = select(rows.sentences, int(weight * table.sentences), table.sources, Kind.SENTENCE, draw)
    chosen += select(rows.terms, int(weight * table.term_pairs), table.sources, Kind.TERM, draw)
    joined = passages(rows.sentences, int(weight * table.passages), table.sources, table.passage_words, draw)
    for passage in joined:  # rows that are clear each by itself can share a run of words once they are joined
        if guard.overlaps(passage.text) or guard.overlaps(passage.english):
            report.count(passage.origin, f"passages in {lang}", Reason.EVALUATION)
        else:
            chosen.append(passage)
    if not chosen:
        raise TrainingError(
            f"No rows of {lang} are left",
            "Every language with a weight above 0 needs rows that pass the filters",
            "Set its weight to 0 in data.languages, or look at what the filters took out",
        )
    return chosen


def _read(
    paths: Sequence[Path], terms: set[Path], guard: EvaluationGuard, report: FilterReport, on_file: OnFile | None
) -> _Language:
    """The rows of one language that pass the filters; among sentences, and among terms, a repeat counts in any file."""
    language = _Language()
    for wanted, kept in ((False, language.sentences), (True, language.terms)):
        chosen = [path for path in paths if (path in terms) is wanted]
        origins = frozenset(map(origin_of, chosen)) if wanted else frozenset()
        filters = PairFilters(guard=guard, term_origins=origins, max_chars=MAX_TERM_CHARS if wanted else MAX_CHARS)
        for pair in filtered(_pairs(chosen, on_file), filters, report):
            kept[pair.origin].append(pair)
    return language


def _pairs(paths: Sequence[Path], on_file: OnFile | None) -> Iterator[Pair]:
    for path in paths:
        if on_file is not None:
            on_file(path)
        yield from english_first(read_pairs(path), path)


def _questions(path: Path, guard: EvaluationGuard, report: FilterReport) -> Iterator[Example]:
    """The questions of a file; a row without a question or a passage is left out and counted."""
    found = read_questions(path, on_error=OnError.SKIP, on_skip=report.add_malformed)
    for entry in clear_of_evaluation(found, guard, report):
        yield Example(Kind.QUESTION, entry.lang, entry.question, entry.passage, entry.origin)
