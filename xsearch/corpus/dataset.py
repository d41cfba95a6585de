"""Datasets of the ``datasets`` library: folders it saved, and, only when asked by ``hf:NAME``, the hub."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xsearch.corpus import extras
from xsearch.corpus.options import EvenProgress, OnBytes, ReadOptions, no_progress
from xsearch.corpus.rows import Row, Table, documents
from xsearch.errors import ReadError, UnreadableError
from xsearch.records import Document, Skipped

HUB_PREFIX = "hf:"
BATCH_ROWS = 256
_LOGGERS = ("datasets", "huggingface_hub", "fsspec", "httpx")


@dataclass(frozen=True, slots=True)
class HubName:
    """``hf:NAME[/config][:split]`` taken apart; empty: not given."""

    name: str
    config: str
    split: str


def parse_hub_name(source: str) -> HubName:
    """The parts of ``hf:OWNER/NAME[/config][:split]`` or ``hf:NAME[:split]``.

    Raises:
        ReadError: there is no name, or too many parts.
    """
    path, _, split = source.removeprefix(HUB_PREFIX).partition(":")
    parts = path.split("/")
    if not all(parts) or len(parts) > 3:
        raise ReadError(
            source,
            "this does not name a dataset",
            "hf:OWNER/NAME, with /CONFIG and :SPLIT where the dataset has several, is expected",
            "Correct the name",
        )
    return HubName("/".join(parts[:2]), parts[2] if len(parts) == 3 else "", split)


def is_saved_dataset(folder: Path) -> bool:
    """Whether ``save_to_disk`` of the ``datasets`` library wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def read_saved(path: str, options: ReadOptions, on_bytes: OnBytes) -> Iterator[Document | Skipped]:
    """The rows of a folder written by ``save_to_disk``; of all its splits, where it has splits."""
    datasets, arrow = extras.load(extras.DATASET), extras.load(extras.PARQUET)
    try:
        with extras.quiet(*_LOGGERS):
            loaded = datasets.load_from_disk(path)
    except (arrow.ArrowException, OSError, LookupError, TypeError, ValueError) as exc:
        raise UnreadableError(path, f"not a saved dataset: {exc}", "A folder of save_to_disk", "Save it anew") from exc
    splits = (
        [(f"{path}/{split}", loaded[split]) for split in loaded] if isinstance(loaded, Mapping) else [(path, loaded)]
    )
    progress = EvenProgress(folder_bytes(path), sum(len(split) for _, split in splits), on_bytes)
    for prefix, split in splits:
        yield from _documents(split, Table(path, prefix), options, progress)
    progress.finish()


def read_hub(source: str, options: ReadOptions) -> Iterator[Document | Skipped]:
    """The rows of a dataset of the hub, streamed.

    Raises:
        ReadError: working offline, no such dataset, or a config or split is to be named.
    """
    hub = parse_hub_name(source)
    refuse_offline(source)  # again: reading may begin long after the call
    datasets, http_error = extras.load(extras.DATASET), _http_error()
    try:
        with extras.quiet(*_LOGGERS):
            loaded = datasets.load_dataset(hub.name, hub.config or None, split=hub.split or None, streaming=True)
    except (datasets.exceptions.DatasetsError, http_error, OSError, RuntimeError, LookupError, ValueError) as exc:
        raise ReadError(
            source,
            f"the dataset cannot be opened: {exc}",
            "The name of a dataset on the hub is expected, with its config and split where it has several",
            "Check the name and the connection",
        ) from exc
    try:
        progress = EvenProgress(0, 0, no_progress)  # the hub does not tell sizes
        yield from _documents(_only_split(loaded, source), Table(source, source), options, progress)
    except (datasets.exceptions.DatasetsError, http_error, OSError) as exc:
        raise ReadError(
            source, f"the connection broke off: {exc}", "The whole dataset is expected", "Run it again"
        ) from exc


def folder_bytes(path: str) -> int:
    """The size of all files directly or deeper in a folder."""
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())


def refuse_offline(source: str) -> None:
    """Raise :class:`ReadError` when the environment says to work offline."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        if os.environ.get(name, "").strip().upper() in {"1", "ON", "YES", "TRUE"}:
            raise ReadError(
                source,
                f"this dataset lies on the hub, and {name} is set",
                "A file or folder on this machine is expected when working offline",
                f"Unset {name}, or save the dataset with save_to_disk and pass that folder",
            )


def _http_error() -> type[Exception]:
    # The hub's client raises the errors of its HTTP library, which are not all OSErrors.
    hub_error: type[Exception] = extras.load(extras.HUB, ".errors").HfHubHTTPError
    base = hub_error.__mro__[1]
    return base if issubclass(base, Exception) else hub_error


def _only_split(loaded: Any, source: str) -> Any:
    """The dataset itself: the one split there is, or the one called ``corpus``."""
    if not isinstance(loaded, Mapping):
        return loaded
    if len(loaded) == 1:
        return next(iter(loaded.values()))
    if "corpus" in loaded:
        return loaded["corpus"]
    raise ReadError(
        source,
        f"this dataset has several splits: {', '.join(loaded)}",
        "One split is expected",
        f"Name it, as in {source}:{next(iter(loaded))}",
    )


def _documents(
    dataset: Any, table: Table, options: ReadOptions, progress: EvenProgress
) -> Iterator[Document | Skipped]:
    features = dataset.features
    if features is not None:
        # Images and sounds would be decoded, at great cost, only to be left out.
        kept = [name for name, feature in features.items() if not hasattr(feature, "decode_example")]
        dataset = dataset.select_columns(kept)
        table = Table(table.source, table.prefix, tuple(kept))
    yield from documents(_rows(dataset, progress), table, options)


def _rows(dataset: Any, progress: EvenProgress) -> Iterator[Row]:
    number = 0
    for batch in dataset.iter(batch_size=BATCH_ROWS):
        names = list(batch)
        for values in zip(*batch.values(), strict=True):
            number += 1
            yield Row(number, number, dict(zip(names, values, strict=True)))
        progress.advance(len(batch[names[0]]) if names else 0)
