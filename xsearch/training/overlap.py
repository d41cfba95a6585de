"""The guard that keeps evaluation data out of training: does a text repeat what a model will be tested on?"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from xsearch.errors import EvaluationError, TrainingError
from xsearch.evaluation.archive import DataFile, find_files
from xsearch.evaluation.squad import checked_field, read_paragraphs

RUN_WORDS = 8
"""A text that has this many words in a row with a context overlaps it."""
RUN_CHARS = 16
"""The same for scripts without spaces, in characters; spaces and punctuation do not count."""
MIN_LINE_WORDS = 3
MIN_LINE_CHARS = 6
"""A line shorter than both (``Yes.``, ``I agree.``, ``谢谢你``) is everybody's, and equalling it is no overlap."""

# Scripts that put no space between words: Thai, Lao, Myanmar, Khmer, kana, Han.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua9e0-\ua9ff\uaa60-\uaa7f\uf900-\ufaff\U00020000-\U0003ffff]"
)
_NO_TEXT = re.compile(r"(?:\..*|LICEN[CS]E(?:\..*)?|COPYING|README(?:\.md)?|.*\.md)", re.IGNORECASE)
_LINES_FILE = re.compile(r"(?:tatoeba\..+|.+\.txt|.+\.tsv)", re.IGNORECASE)
_ANY = re.compile(r".*", re.DOTALL)


class EvaluationGuard:
    """Knows the texts of evaluation data by their hashes, and says whether a text overlaps them.

    Texts are compared in NFKC, without case, with punctuation and symbols as spaces. A text overlaps when it has a run
    of ``RUN_WORDS`` words in common with a context (``RUN_CHARS`` characters where most of them belong to a script
    without spaces), or when the whole of it equals a context, a sentence, a question or a line. Lines of fewer than
    ``MIN_LINE_WORDS`` words, or ``MIN_LINE_CHARS`` characters in a script without spaces, do not count for equality.

    Hashes have 64 bits: 50 million runs against a million known ones give a false alarm once in 350,000 passes. They
    are Python's own, which differ from process to process, so a guard may go to forked processes only. Measured: MLQA
    dev, MLQA-R and Tatoeba are 692,000 hashes in 99 MB, read in 2.5 s; a text takes 6 microseconds on one core.

    Args:
        contexts: texts of which no run may be met again.
        lines: texts that may not be met again as a whole.
    """

    __slots__ = ("_char_runs", "_lines", "_word_runs")

    def __init__(self, contexts: Iterable[str] = (), lines: Iterable[str] = ()) -> None:
        self._word_runs: set[int] = set()
        self._char_runs: set[int] = set()
        self._lines: set[int] = set()
        for context in contexts:
            self._add_context(context)
        for line in lines:
            self._add_line(normalised(line))

    @classmethod
    def read(cls, paths: Iterable[Path]) -> EvaluationGuard:
        """The guard over the files, folders and zip archives of evaluation data.

        ``.json`` is SQuAD's layout (MLQA, XQuAD, and LAReQA's with its ``sentences``): contexts and questions.
        ``.txt``, ``.tsv`` (each column) and ``tatoeba.*`` are lines. Licences, READMEs and hidden files are left out.

        Raises:
            EvaluationError: a file is not there, damaged, of no known kind or without a text. Evaluation data that is
                passed over in silence would be trained on.
        """
        guard = cls()
        met: set[int] = set()
        for path in paths:
            for file in _files(path):
                guard._add_file(file, met)
        return guard

    @property
    def size(self) -> int:
        """How many runs and lines it knows."""
        return len(self._word_runs) + len(self._char_runs) + len(self._lines)

    def overlaps(self, text: str) -> bool:
        """Whether a text repeats evaluation data."""
        words = normalised(text)
        unspaced = _UNSPACED.search(words) is not None
        if hash(words.replace(" ", "") if unspaced else words) in self._lines:
            return True
        if words.count(" ") >= RUN_WORDS - 1 and not self._word_runs.isdisjoint(_word_runs(words)):
            return True
        return unspaced and not self._char_runs.isdisjoint(_char_runs(words.replace(" ", "")))

    def __getstate__(self) -> dict[str, Any]:
        return {"probe": _probe(), **{name: getattr(self, name) for name in self.__slots__}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state.pop("probe") != _probe():
            raise TrainingError(
                "An evaluation guard was sent to a process with another hash seed",
                "Its hashes hold only in processes forked from the one that made it",
                "Read the guard anew in that process, or set PYTHONHASHSEED for both",
            )
        for name, value in state.items():
            setattr(self, name, value)

    def _add_file(self, file: DataFile, met: set[int]) -> None:
        """Add a file's texts; ``met`` are the hashes of those added already, as MLQA repeats each many times."""
        empty = True
        for text, is_context in _texts(file):
            empty = empty and not text.strip()
            if hash((text, is_context)) not in met:
                met.add(hash((text, is_context)))
                if is_context:
                    self._add_context(text)
                else:
                    self._add_line(normalised(text))
        if empty:
            raise EvaluationError(
                f"{file.place} holds no text",
                "Evaluation data to guard was expected",
                "Leave it out, or fetch it again",
            )

    def _add_context(self, text: str) -> None:
        words = normalised(text)
        self._add_line(words)
        self._word_runs.update(_word_runs(words))
        if _UNSPACED.search(words):
            self._char_runs.update(_char_runs(words.replace(" ", ""), mostly_unspaced=True))

    def _add_line(self, words: str) -> None:
        letters = len(_UNSPACED.findall(words))
        if letters >= MIN_LINE_CHARS or words.count(" ") >= MIN_LINE_WORDS - 1:
            self._lines.add(hash(words.replace(" ", "") if letters else words))


def normalised(text: str) -> str:
    """``text`` in NFKC, case-folded, with one space for each stretch of punctuation, symbols and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_SPACED).split())


def _word_runs(words: str) -> Iterator[int]:
    """The hash of each run of ``RUN_WORDS`` words of a normalised text."""
    split = words.split(" ")
    for start in range(len(split) - RUN_WORDS + 1):
        yield hash(" ".join(split[start : start + RUN_WORDS]))


def _char_runs(letters: str, *, mostly_unspaced: bool = False) -> Iterator[int]:
    """The hash of each run of ``RUN_CHARS`` characters of a normalised text without spaces.

    Args:
        mostly_unspaced: only runs of which at least half belongs to a script without spaces, or two Chinese texts that
            both name "Microsoft Windows" would overlap. It need be asked of one side only.
    """
    inside = 0
    for start in range(len(letters) - RUN_CHARS + 1):
        run = letters[start : start + RUN_CHARS]
        if mostly_unspaced:
            inside = len(_UNSPACED.findall(run))
            if inside * 2 < RUN_CHARS:
                continue
        yield hash(run)


class _Spaced(dict[int, str]):
    """Each code point as it is compared: what is no letter, mark or digit is a space, and the invisible is nothing."""

    def __missing__(self, point: int) -> str:
        char = chr(point)
        category = unicodedata.category(char)
        spaced = "" if category == "Cf" else char if category[0] in "LMN" else " "
        self[point] = spaced
        return spaced


_SPACED = _Spaced()


def _probe() -> int:
    """A number that tells processes with different hash seeds apart."""
    return hash("xsearch.training.overlap")


def _files(path: Path) -> Iterator[DataFile]:
    if path.is_dir():
        found = [
            DataFile(name, str(Path(base) / name), partial(_read, Path(base) / name))
            for base, _, names in sorted(os.walk(path))
            for name in sorted(names)
        ]
    elif path.suffix.lower() == ".zip":
        found = list(find_files(path, _ANY).values())
    else:
        found = [DataFile(path.name, str(path), partial(_read, path))]
    texts = [file for file in found if not _NO_TEXT.fullmatch(file.name)]
    if not texts:
        raise EvaluationError(
            f"{path} holds no evaluation data",
            "Files of SQuAD's layout (.json) or of lines (.txt, .tsv, tatoeba.*) were expected",
            "Check the path",
        )
    yield from texts


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise EvaluationError(
            f"{path} cannot be read ({exc.strerror})",
            "A file, folder or zip archive of evaluation data was expected",
            "Check the path",
        ) from exc


def _texts(file: DataFile) -> Iterator[tuple[str, bool]]:
    """Each text of a file, and whether it is a context."""
    if file.name.lower().endswith(".json"):
        yield from _squad_texts(file)
    elif _LINES_FILE.fullmatch(file.name):
        try:
            lines = file.read().decode("utf-8-sig").split("\n")
        except UnicodeDecodeError as exc:
            raise EvaluationError(
                f"{file.place} is not UTF-8 ({exc.reason})", "Lines of text in UTF-8 were expected", "Convert the file"
            ) from exc
        for line in lines:
            for column in line.split("\t"):
                yield column, False
    else:
        raise EvaluationError(
            f"{file.place} is evaluation data of no known kind",
            "SQuAD's layout (.json) or lines (.txt, .tsv, tatoeba.*) was expected",
            "Convert it, or leave it out of the folder or archive if it is none",
        )


def _squad_texts(file: DataFile) -> Iterator[tuple[str, bool]]:
    for paragraph in read_paragraphs(file):
        yield paragraph.field("context", str), True
        for entry in paragraph.questions():
            yield entry.field("question", str), False
        if "sentences" in paragraph.record:  # LAReQA's layout
            for sentence in checked_field(paragraph.record, "sentences", list, place=paragraph.place):
                if isinstance(sentence, str):
                    yield sentence, False
