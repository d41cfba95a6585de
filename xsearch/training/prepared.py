"""The examples of a run as arrays: token ids, languages, groups and the teacher's row of each; kept on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.hub import Prompts
from xsearch.errors import TrainingError
from xsearch.training.selection import Example, Kind

if TYPE_CHECKING:
    from tokenizers import Tokenizer

META_FILE = "prepared.json"
NO_TEACHER = -1
NO_PROMPTS = Prompts()
BATCH_TEXTS = 8_192
ARRAYS = (
    "kinds", "langs", "text_flat", "text_starts", "english_flat", "english_starts", "teacher_rows", "groups",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of token ids of different lengths, one after the other.

    Attributes:
        flat: (tokens,) int32.
        starts: (n + 1,) int64; row i is ``flat[starts[i]:starts[i + 1]]``.
    """

    flat: NDArray[np.int32]
    starts: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) int64."""
        return np.diff(self.starts)

    def padded(self, rows: Sequence[int] | NDArray[np.int64], pad: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids and attention mask of some rows, ``(rows, longest) int64`` each, padded on the right."""
        lengths = self.lengths[rows]
        ids = np.full((len(rows), int(lengths.max(initial=1))), pad, dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : lengths[place]] = self.flat[self.starts[row] : self.starts[row + 1]]
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        return ids, mask

    def is_whole(self, count: int) -> bool:
        """Whether these are ``count`` rows, and their tokens are all there."""
        starts = self.starts
        return (
            len(starts) == count + 1
            and starts[0] == 0
            and starts[-1] == len(self.flat)
            and bool((np.diff(starts) >= 0).all())
        )

    @classmethod
    def cut(cls, tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> Ragged:
        """The token ids of texts, special tokens included, cut to ``max_tokens``."""
        tokenizer.enable_truncation(max_tokens)
        tokenizer.no_padding()
        parts: list[NDArray[np.int32]] = []
        lengths: list[int] = []
        for start in range(0, len(texts), BATCH_TEXTS):
            for encoding in tokenizer.encode_batch_fast(list(texts[start : start + BATCH_TEXTS])):
                parts.append(np.array(encoding.ids, dtype=np.int32))
                lengths.append(len(encoding.ids))
        flat = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
        return cls(flat, np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))))


@dataclass(frozen=True, slots=True)
class Prepared:
    """Arrays of a run; row i of each is example i.

    Attributes:
        kinds: (n,) int8, of :class:`~xsearch.training.selection.Kind`.
        langs: (n,) int16, places in ``languages``.
        languages: tags.
        texts: what the student reads.
        english: the other side through the student's tokenizer: the English, or the passage of a question.
        teacher_rows: (n,) int64, the row of the English side among the teacher's vectors; ``NO_TEACHER`` for questions.
        groups: (n, 3) int64; examples that share an id in any column are no negatives of each other.
    """

    kinds: NDArray[np.int8]
    langs: NDArray[np.int16]
    languages: tuple[str, ...]
    texts: Ragged
    english: Ragged
    teacher_rows: NDArray[np.int64]
    groups: NDArray[np.int64]

    @classmethod
    def build(
        cls, examples: Sequence[Example], tokenizer: Tokenizer, max_tokens: int, *, prompts: Prompts = NO_PROMPTS
    ) -> Prepared:
        """Cuts all texts with the student's tokenizer.

        Args:
            prompts: put before the texts: a question is read as a query, all else as a passage.
        """
        languages = tuple(sorted({example.lang for example in examples}))
        place = {lang: number for number, lang in enumerate(languages)}
        row_of = {text: row for row, text in enumerate(teacher_texts(examples))}
        groups = np.array([example.groups() for example in examples], dtype=np.int64).reshape(-1, 3)
        return cls(
            kinds=np.array([example.kind for example in examples], dtype=np.int8),
            langs=np.array([place[example.lang] for example in examples], dtype=np.int16),
            languages=languages,
            texts=Ragged.cut(tokenizer, [_prompt(each.kind, prompts) + each.text for each in examples], max_tokens),
            english=Ragged.cut(tokenizer, [prompts.passage + each.english for each in examples], max_tokens),
            teacher_rows=np.array(
                [NO_TEACHER if example.kind is Kind.QUESTION else row_of[example.english] for example in examples],
                dtype=np.int64,
            ),
            groups=groups,
        )

    def save(self, folder: Path, fingerprint: str) -> None:
        """Writes the arrays to ``folder``; the file that names them comes last."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / META_FILE).unlink(missing_ok=True)
        for name, array in self._arrays().items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        meta = {"fingerprint": fingerprint, "languages": self.languages}
        (folder / META_FILE).write_text(json.dumps(meta), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, fingerprint: str) -> Prepared | None:
        """The arrays in ``folder``; None where there are none, or those of another recipe.

        Raises:
            TrainingError: an array is missing or damaged.
        """
        languages = _languages(folder / META_FILE, fingerprint)
        if languages is None:
            return None
        try:
            arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in ARRAYS}
        except (OSError, ValueError, EOFError) as exc:
            raise _damaged(folder, str(exc)) from exc
        found = cls(
            kinds=arrays["kinds"],
            langs=arrays["langs"],
            languages=languages,
            texts=Ragged(arrays["text_flat"], arrays["text_starts"]),
            english=Ragged(arrays["english_flat"], arrays["english_starts"]),
            teacher_rows=arrays["teacher_rows"],
            groups=arrays["groups"],
        )
        count = len(found.kinds)
        if not (
            len(found.langs) == len(found.teacher_rows) == count
            and found.groups.shape == (count, 3)
            and found.texts.is_whole(count)
            and found.english.is_whole(count)
        ):
            raise _damaged(folder, "its arrays are not of one length")
        return found

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        return {
            "kinds": self.kinds,
            "langs": self.langs,
            "text_flat": self.texts.flat,
            "text_starts": self.texts.starts,
            "english_flat": self.english.flat,
            "english_starts": self.english.starts,
            "teacher_rows": self.teacher_rows,
            "groups": self.groups,
        }


def _languages(path: Path, fingerprint: str) -> tuple[str, ...] | None:
    """The languages that a folder's file of facts names; None where there is none of this fingerprint."""
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(meta, dict) or meta.get("fingerprint") != fingerprint:
        return None
    return tuple(meta.get("languages", ()))


def _damaged(folder: Path, what: str) -> TrainingError:
    return TrainingError(
        f"Prepared data in {folder} is damaged: {what}",
        "All arrays of a run lie there, as they were written",
        "Delete the folder; the next run prepares it anew",
    )


def _prompt(kind: Kind, prompts: Prompts) -> str:
    """What stands before the text of an example of this kind."""
    return prompts.query if kind is Kind.QUESTION else prompts.passage


def teacher_texts(examples: Sequence[Example]) -> list[str]:
    """The English sides that the teacher reads, each once, in order of first use."""
    return list(dict.fromkeys(example.english for example in examples if example.kind is not Kind.QUESTION))
