"""Parallel data as pairs of texts, whatever the format: one call that finds the reader by the source's name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from xsearch.errors import PairError
from xsearch.text.tags import is_language_code
from xsearch.training.bitext import OnError, OnSkip, Pair, PairOptions, Skips, pair_language
from xsearch.training.dataset import PREFIX, read_dataset
from xsearch.training.lines import read_lines, unpacked_name
from xsearch.training.moses import find_moses, read_moses
from xsearch.training.tmx import read_tmx

__all__ = ["OnError", "OnSkip", "Pair", "PairOptions", "read_pairs"]


def read_pairs(
    source: Path | str, options: PairOptions | None = None, *, on_skip: OnSkip | None = None
) -> Iterator[Pair]:
    """The pairs of a parallel text, one at a time; a file is never held as a whole.

    - ``NAME.LANG-LANG.tsv``: rows of ``text TAB translation``. The first hyphen splits the languages:
      ``ms-iot.en-zh-Hant.tsv.zst`` is ``en`` and ``zh-Hant``.
    - ``NAME.tmx`` or ``NAME.LANG-LANG.tmx``: a translation memory; see :func:`~xsearch.training.tmx.read_tmx`.
    - ``NAME.LANG-LANG``: the two files of Moses pairs; see :func:`~xsearch.training.moses.find_moses`.
    - ``datasets:NAME[:CONFIG][:SPLIT]``: see :func:`~xsearch.training.dataset.read_dataset`.

    Files may be packed: ``.gz``, ``.zst``.

    Args:
        on_skip: told each malformed line that is left out, where ``options`` say that they are.

    Raises:
        PairError: the languages are not known, or the file is not there; while reading: a malformed line (named as
            ``path:123``), unless they are skipped.
        MissingExtraError: a library that the format needs is not installed.
    """
    place = str(source)
    options = _canonical(options or PairOptions(), place)
    skips = Skips(place, options.on_error, on_skip)
    if place.startswith(PREFIX):
        return skips.told(read_dataset(place, options, skips))
    path = Path(source)
    name = unpacked_name(path.name).lower()
    if name.endswith(".tsv"):
        pairs = _read_tsv(path, _named(path, options, required=True), skips)
    elif name.endswith(".tmx"):
        pairs = read_tmx(path, _named(path, options, required=False), skips)
    elif (moses := find_moses(path, options)) is not None:
        return skips.told(read_moses(moses, skips))
    else:
        raise PairError(
            place,
            "this is no parallel data of a known format" if path.exists() else "there is no such file",
            "NAME.LANG-LANG.tsv, NAME.tmx (also .gz and .zst), NAME.LANG-LANG for the two files NAME.LANG, or "
            "datasets:NAME was expected",
            "Check the path, or convert the data",
        )
    if not path.is_file():
        raise PairError(place, "there is no such file", "A file of parallel data was expected", "Check the path")
    return skips.told(pairs)


def _canonical(options: PairOptions, place: str) -> PairOptions:
    """The options with canonical tags for the languages that are given."""
    return replace(
        options,
        source_lang=pair_language(options.source_lang, place) if options.source_lang else "",
        target_lang=pair_language(options.target_lang, place) if options.target_lang else "",
    )


def _named(path: Path, options: PairOptions, *, required: bool) -> PairOptions:
    """The options with languages and origin filled in from ``ORIGIN.LANG-LANG.ENDING``.

    Args:
        required: whether the file itself does not say its languages.
    """
    stem = unpacked_name(path.name)
    stem = stem[: stem.rindex(".")]
    origin, _, languages = stem.rpartition(".")
    first, _, second = languages.partition("-")
    named = bool(origin and first and second)
    if named and not required:  # memory.v1-final.tmx names no languages
        named = is_language_code(first) and is_language_code(second)
    if not named:
        if required and not (options.source_lang and options.target_lang):
            raise PairError(
                str(path),
                "the name of the file does not say its languages",
                "NAME.LANG-LANG.tsv was expected, as in news.en-de.tsv",
                "Rename it, or pass the languages of the two sides",
            )
        return replace(options, origin=options.origin or stem)
    return replace(
        options,
        source_lang=options.source_lang or pair_language(first, str(path)),
        target_lang=options.target_lang or pair_language(second, str(path)),
        origin=options.origin or origin,
    )


def _read_tsv(path: Path, options: PairOptions, skips: Skips) -> Iterator[Pair]:
    for number, text in read_lines(path, skips):
        if text is None:
            continue
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
