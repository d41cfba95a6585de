"""Parallel data as pairs of texts, whatever the format: one call that finds the reader by the source's name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xsearch.errors import PairError
from xsearch.training.bitext import OnError, OnSkip, Pair, PairOptions, Skips, pair_language
from xsearch.training.lines import read_lines, unpacked_name

__all__ = ["OnError", "OnSkip", "Pair", "PairOptions", "read_pairs"]


def read_pairs(
    source: Path | str, options: PairOptions | None = None, *, on_skip: OnSkip | None = None
) -> Iterator[Pair]:
    """The pairs of a parallel text, one at a time; the file is never held as a whole.

    ``NAME.LANG-LANG.tsv``, also ``.tsv.gz`` and ``.tsv.zst``: rows of ``text TAB translation``. The first hyphen
    splits the languages: ``ms-iot.en-zh-Hant.tsv.zst`` is ``en`` and ``zh-Hant``.

    Args:
        on_skip: told each malformed line that is left out, where ``options`` say that they are.

    Raises:
        PairError: the languages are not known, or the file is not there; while reading: a malformed line (named as
            ``path:123``), unless they are skipped.
        MissingExtraError: a library that the format needs is not installed.
    """
    options = options or PairOptions()
    place = str(source)
    path = Path(source)
    name = unpacked_name(path.name).lower()
    skips = Skips(place, options.on_error, on_skip)
    if name.endswith(".tsv"):
        pairs = _read_tsv(path, _named(path, options), skips)
    else:
        raise PairError(
            place,
            "this is no parallel data of a known format",
            "NAME.LANG-LANG.tsv (also .gz and .zst) was expected",
            "Rename or convert it",
        )
    if not path.is_file():
        raise PairError(place, "there is no such file", "A file of parallel data was expected", "Check the path")
    return skips.told(pairs)


def _named(path: Path, options: PairOptions) -> PairOptions:
    """The options with languages and origin filled in from ``ORIGIN.LANG-LANG.tsv``."""
    stem = unpacked_name(path.name)[: -len(".tsv")]
    origin, _, languages = stem.rpartition(".")
    first, _, second = languages.partition("-")
    if not (origin and first and second):
        if not options.source_lang or not options.target_lang:
            raise PairError(
                str(path),
                "the name of the file does not say its languages",
                "NAME.LANG-LANG.tsv was expected, as in news.en-de.tsv",
                "Rename it, or pass the languages of the two sides",
            )
        origin = stem
    return PairOptions(
        source_lang=pair_language(options.source_lang or first, str(path)),
        target_lang=pair_language(options.target_lang or second, str(path)),
        origin=options.origin or origin,
        on_error=options.on_error,
    )


def _read_tsv(path: Path, options: PairOptions, skips: Skips) -> Iterator[Pair]:
    for number, text in read_lines(path, skips):
        columns = text.split("\t")
        if len(columns) != 2:
            given = "this line is empty" if not text.strip() else f"this line has columns: {len(columns)}"
            skips.add(_malformed(path, given, number))
            continue
        source, target = columns[0].strip(), columns[1].strip()
        if not source or not target:
            skips.add(_malformed(path, f"the {'second' if source else 'first'} column is empty", number))
            continue
        yield Pair(source, target, options.source_lang, options.target_lang, options.origin, number)


def _malformed(path: Path, given: str, number: int) -> PairError:
    return PairError(
        str(path),
        given,
        "Two columns with a tab between them were expected: text, translation",
        "Mend the line, or skip malformed lines (on_error = skip)",
        line=number,
    )
