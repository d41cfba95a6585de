"""Moses pairs: two files of as many lines, a language each, the n-th line of one a translation of the other's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from xsearch.errors import PairError
from xsearch.training.bitext import Pair, PairOptions, Skips, pair_language
from xsearch.training.lines import PACKINGS, count_lines, read_lines


@dataclass(frozen=True, slots=True)
class MosesFiles:
    """The two files, and the options with languages and origin filled in."""

    source: Path
    target: Path
    options: PairOptions


def find_moses(path: Path, options: PairOptions) -> MosesFiles | None:
    """The two files that ``PREFIX.LANG-LANG`` stands for, or None when there is neither.

    They are ``PREFIX.LANG`` and ``PREFIX.LANG`` (``corpus.en-de`` is ``corpus.en`` and ``corpus.de``) or, as OPUS names
    them, ``PREFIX.LANG-LANG.LANG``; each may end in ``.gz`` or ``.zst``.

    Raises:
        PairError: only one of the two is there, or a language is not known.
    """
    origin, _, languages = path.name.rpartition(".")
    first, _, second = languages.partition("-")
    if not (origin and first and second):
        return None
    for prefix in (path.with_name(origin), path):
        source, target = _side(prefix, first), _side(prefix, second)
        if source is not None and target is not None:
            named = replace(
                options,
                source_lang=pair_language(options.source_lang or first, str(path)),
                target_lang=pair_language(options.target_lang or second, str(path)),
                origin=options.origin or origin,
            )
            return MosesFiles(source, target, named)
        if source is not None or target is not None:
            raise PairError(
                str(source or target),
                f"the other side, {prefix.name}.{second if source else first}, is not there",
                "Moses pairs are two files, one for each language",
                "Put it beside this one, or check the languages",
            )
    return None


def read_moses(files: MosesFiles, skips: Skips) -> Iterator[Pair]:
    """The pairs of lines, in order.

    The lines of both files are counted first: with one line too few, every pair after the gap would be wrong.

    Raises:
        PairError: the files have different numbers of lines, or are damaged (also where malformed lines are skipped);
            or a line is empty or no UTF-8, unless they are skipped.
    """
    counts = count_lines(files.source), count_lines(files.target)
    if counts[0] != counts[1]:
        raise PairError(
            str(files.source),
            f"it has {counts[0]} lines, and {files.target} has {counts[1]}",
            "Each line of the one file is the translation of the same line of the other",
            "Make or fetch both files again",
        )
    options = files.options
    both = zip(read_lines(files.source, skips), read_lines(files.target, skips), strict=False)
    for (number, source), (_, target) in both:
        if source is None or target is None:
            continue
        source, target = source.strip(), target.strip()
        if not source or not target:
            empty = files.target if source else files.source
            skips.add(
                PairError(
                    str(empty),
                    "this line is empty",
                    "A sentence and its translation were expected",
                    "Take the line out of both files, or skip malformed lines (on_error = skip)",
                    line=number,
                )
            )
            continue
        yield Pair(source, target, options.source_lang, options.target_lang, options.origin, number)


def _side(prefix: Path, code: str) -> Path | None:
    """``PREFIX.CODE``, plain or packed, whichever is there."""
    names = (f"{prefix.name}.{code}{packing}" for packing in ("", *PACKINGS))
    return next((path for name in names if (path := prefix.with_name(name)).is_file()), None)
