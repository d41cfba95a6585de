"""Parallel data of the ``datasets`` library: folders it saved or can read, and names of the hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from xsearch.corpus import extras
from xsearch.corpus.dataset import is_saved_dataset, refuse_offline
from xsearch.errors import InvalidArgumentError, PairError, ReadError
from xsearch.text.tags import matches
from xsearch.training.bitext import Pair, PairOptions, Skips

PREFIX = "datasets:"
_DATASETS = extras.Extra("reading parallel datasets", "datasets", "datasets", "train")
_LOGGERS = ("datasets", "huggingface_hub", "fsspec", "httpx")
_SPLITS = frozenset({"train", "test", "validation", "dev"})  # no config is called so


@dataclass(frozen=True, slots=True)
class DatasetName:
    """``datasets:NAME[:CONFIG][:SPLIT]`` taken apart; empty: not given."""

    name: str
    config: str
    split: str


def parse_dataset_name(source: str) -> DatasetName:
    """The parts of ``datasets:NAME[:CONFIG][:SPLIT]``; one part alone is a split where it is called like one.

    Raises:
        PairError: there is no name, or too many parts.
    """
    name, *rest = source.removeprefix(PREFIX).split(":")
    if not name or len(rest) > 2:
        raise PairError(
            source,
            "this does not name a dataset",
            "datasets:NAME, with :CONFIG and :SPLIT where the dataset has several, was expected",
            "Correct the name",
        )
    if len(rest) == 1 and rest[0] in _SPLITS:
        rest = ["", *rest]
    config, split = [*rest, "", ""][:2]
    return DatasetName(name, config, split)


def read_dataset(source: str, options: PairOptions, skips: Skips) -> Iterator[Pair]:
    """The pairs of a dataset's rows: of the columns that ``options`` name, of a ``translation`` that holds a text by
    language, or of columns named after the languages; ``line`` is the row.

    A folder is one that ``save_to_disk`` wrote, or of files that the library reads; anything else is a name on the
    hub, and is streamed. Without a split it is ``train``, or the only one there is.

    Raises:
        PairError: there is no such dataset, split or column, or the languages are not said; or a row has no two texts,
            unless those are skipped.
        MissingExtraError: the library is not installed.
    """
    name = parse_dataset_name(source)
    datasets = extras.load(_DATASETS)
    rows = _opened(source, name, datasets)
    options = _with_languages(source, options)
    number = 0
    iterator = iter(rows)
    while True:
        try:
            row = next(iterator)
        except StopIteration:
            return
        except _failures(datasets) as exc:
            raise _unreadable(source, f"row {number + 1} cannot be read ({exc})") from exc
        number += 1
        found = _texts(row, options, source, number)
        if isinstance(found, PairError):
            skips.add(found)
        else:
            origin = options.origin or Path(name.name).name
            yield Pair(*found, options.source_lang, options.target_lang, origin, number)


def _with_languages(source: str, options: PairOptions) -> PairOptions:
    if options.source_lang and options.target_lang:
        return options
    raise PairError(
        source,
        "the name of a dataset does not say its languages",
        "The languages of both sides were expected",
        "Pass them",
    )


def _opened(source: str, name: DatasetName, datasets: ModuleType) -> Any:
    """The rows of the split."""
    folder = Path(name.name)
    try:
        with extras.quiet(*_LOGGERS):
            if is_saved_dataset(folder):
                loaded = datasets.load_from_disk(str(folder))
            elif folder.is_dir():
                loaded = datasets.load_dataset(str(folder), name.config or None)
            else:
                refuse_offline(source)
                loaded = datasets.load_dataset(name.name, name.config or None, streaming=True)
    except ReadError as exc:
        raise PairError(source, exc.given.removeprefix(f"{source}: "), exc.expected, exc.remedy) from exc
    except _failures(datasets) as exc:
        raise _unreadable(source, f"the dataset cannot be opened ({exc})") from exc
    if not isinstance(loaded, Mapping):
        return loaded
    split = name.split or ("train" if "train" in loaded or len(loaded) != 1 else next(iter(loaded)))
    if split not in loaded:
        raise PairError(
            source,
            f"this dataset has no split {split!r}",
            f"The splits there are {', '.join(loaded)}",
            f"Name one, as in {PREFIX}{name.name}:{name.config}:{next(iter(loaded), 'train')}",
        )
    return loaded[split]


def _texts(row: Mapping[str, Any], options: PairOptions, source: str, number: int) -> tuple[str, str] | PairError:
    """Both texts of a row, or the error that says why it has none."""
    translation = row.get("translation")
    columns = translation if isinstance(translation, Mapping) and not options.source_field else row
    found: list[str] = []
    for field, lang in ((options.source_field, options.source_lang), (options.target_field, options.target_lang)):
        key = field or next((key for key in columns if _is_language(key, lang)), "")
        text = columns.get(key)
        if not isinstance(text, str) or not text.strip():
            return PairError(
                source,
                f"this row has no text in {key!r}" if key in columns else f"this row has no text for {field or lang!r}",
                f"It has {', '.join(map(repr, columns))}",
                "Name the columns of both sides, or skip malformed lines (on_error = skip)",
                line=number,
            )
        found.append(text.strip())
    return found[0], found[1]


def _is_language(key: str, lang: str) -> bool:
    try:
        return matches(key, lang)
    except InvalidArgumentError:  # a column of another kind
        return False


def _failures(datasets: ModuleType) -> tuple[type[BaseException], ...]:
    """What the library raises for data it cannot find or read."""
    return (datasets.exceptions.DatasetsError, OSError, RuntimeError, LookupError, TypeError, ValueError)


def _unreadable(source: str, given: str) -> PairError:
    return PairError(
        source,
        given,
        "A folder of save_to_disk, a folder of data files, or the name of a dataset on the hub was expected",
        "Check the name, and the connection where it lies on the hub",
    )
