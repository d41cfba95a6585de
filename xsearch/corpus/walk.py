"""Finds the files below a folder or behind a glob, always in the same order."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from xsearch.corpus.dataset import is_saved_dataset
from xsearch.records import Skipped

_GLOB_CHARACTERS = frozenset("*?[")
_BEIR_CORPUS = ("corpus.jsonl", "corpus.jsonl.gz")
_BEIR_COMPANIONS = ("queries.jsonl", "queries.jsonl.gz", "qrels")


def absolute(path: str | Path) -> str:
    """The absolute path with ``/``, links kept as they are: what ids of documents are made of."""
    # Path.absolute keeps "..", and Path.resolve follows links.
    return Path(os.path.abspath(path)).as_posix()  # noqa: PTH100


def is_glob(source: str) -> bool:
    """Whether ``source`` has characters that a glob gives a meaning."""
    return not _GLOB_CHARACTERS.isdisjoint(source)


def walk(folder: str) -> Iterator[str | Skipped]:
    """The path of each file below ``folder``, by name, files before folders; hidden ones left out.

    - A folder of the ``datasets`` library is one path.
    - In a BEIR folder (a corpus beside queries or qrels) only the corpus holds documents.
    - Folders that are links come last, and only if they were not read under their own name: so no loop
      of links goes round, and no file is read twice for one.
    """
    seen: set[tuple[int, int]] = set()
    links = [Path(folder)]
    while links:
        yield from _walk(links.pop(0), seen, links)


def expand(pattern: str) -> list[str]:
    """What a glob matches, by name; ``**`` goes into folders. Folders count unless ``**`` has been through them."""
    found = sorted(glob.glob(str(Path(pattern).expanduser()), recursive=True))  # noqa: PTH207 (takes absolute patterns)
    return [absolute(path) for path in found if "**" not in pattern or not Path(path).is_dir()]


def _walk(folder: Path, seen: set[tuple[int, int]], links: list[Path]) -> Iterator[str | Skipped]:
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        if is_saved_dataset(folder):
            yield absolute(folder)
            return
        with os.scandir(folder) as entries:
            visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
    except OSError as exc:
        yield Skipped(absolute(folder), f"cannot be read: {exc.strerror or exc}")
        return
    names = {entry.name for entry in visible}
    corpus = names.intersection(_BEIR_CORPUS)
    if corpus and not names.isdisjoint(_BEIR_COMPANIONS):
        visible = [entry for entry in visible if entry.name in corpus]
    folders: list[Path] = []
    for entry in visible:
        path = folder / entry.name
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError as exc:
            # A link that leads to itself, or into a folder that is closed to us.
            yield Skipped(absolute(path), f"cannot be read: {exc.strerror or exc}")
            continue
        if is_folder:
            (links if entry.is_symlink() else folders).append(path)
        elif is_file:
            yield absolute(path)
        else:
            yield Skipped(absolute(path), "not a file: a broken link, a pipe or a device")
    for path in folders:
        yield from _walk(path, seen, links)
