"""The files of an evaluation data set, read from a folder or straight out of a zip, by name."""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from xsearch.errors import EvaluationError

# MLQA's largest file has 14 MB. Beyond this a zip member is taken for a decompression bomb and not read.
MAX_FILE_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a data set.

    Attributes:
        name: its name, with the folders above it that it was asked for by.
        place: where it lies, for messages.
        read: gives the bytes.
    """

    name: str
    place: str
    read: Callable[[], bytes]

    def read_json(self) -> Any:
        """The file's content, parsed as JSON.

        Raises:
            EvaluationError: it cannot be read or is not JSON in UTF-8.
        """
        try:
            return json.loads(self.read().decode("utf-8-sig"))
        except (ValueError, RecursionError) as exc:
            raise _bad(self.place, f"is not JSON ({exc})") from exc

    def read_lines(self) -> list[str]:
        """The file's lines, white space around them left out.

        Raises:
            EvaluationError: it cannot be read, is not UTF-8, or has an empty line.
        """
        try:
            lines = self.read().decode("utf-8-sig").removesuffix("\n").split("\n")
        except UnicodeDecodeError as exc:
            raise _bad(self.place, f"is not UTF-8 ({exc})") from exc
        stripped = [line.strip() for line in lines]
        if "" in stripped:
            raise _bad(f"{self.place}:{stripped.index('') + 1}", "is empty")
        return stripped


def find_files(data: Path, pattern: re.Pattern[str], *, folders: int = 0) -> dict[str, DataFile]:
    """The files whose whole name matches, in a folder (searched recursively) or a zip archive, by name.

    Nothing is unpacked to disk: the members of an archive are read in memory, whatever paths they claim.

    Args:
        folders: how many of the folders above a file belong to its name: with 1, ``eng_Latn/dev.tsv``.

    Raises:
        EvaluationError: there is no such folder or archive, the archive is damaged, or a file is there twice.
    """
    if data.is_dir():
        return _by_name(_in_folder(data, folders), data, pattern)
    if data.is_file():
        return _by_name(_in_zip(data, folders), data, pattern)
    raise EvaluationError(
        f"{data} is not there", "--data takes a folder or a zip archive", "Check the path, or download the data set"
    )


def zips_in(data: Path) -> list[Path]:
    """Zip archives that lie in a folder, for the hint that one of them may be meant."""
    return sorted(data.glob("*.zip")) if data.is_dir() else []


def _in_folder(folder: Path, folders: int) -> Iterator[DataFile]:
    # os.walk follows no links to folders, so a loop of links cannot hang it.
    for base, inner, names in os.walk(folder):
        inner.sort()
        for name in sorted(names):
            path = Path(base) / name
            yield DataFile(_name(path, folders), str(path), partial(_read_path, path))


def _in_zip(archive: Path, folders: int) -> Iterator[DataFile]:
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
    except (zipfile.BadZipFile, OSError) as exc:
        raise _bad(str(archive), f"is not a zip archive that can be read ({exc})") from exc
    for member in members:
        name = _name(PurePosixPath(member.filename), folders)
        if not member.is_dir():
            place = f"{archive}!{member.filename}"
            yield DataFile(name, place, partial(_read_member, archive, member, place))


def _name(path: PurePath, folders: int) -> str:
    return "/".join(path.parts[-1 - folders :])


def _by_name(files: Iterator[DataFile], data: Path, pattern: re.Pattern[str]) -> dict[str, DataFile]:
    found: dict[str, DataFile] = {}
    for file in files:
        if not pattern.fullmatch(file.name):
            continue
        if file.name in found:
            raise EvaluationError(
                f"{data} holds {file.name} twice: {found[file.name].place} and {file.place}",
                "Each file of a data set must be there once",
                "Point --data at the folder or archive that holds one copy",
            )
        found[file.name] = file
    return found


def _read_path(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise _bad(str(path), f"cannot be read ({exc.strerror})") from exc


def _read_member(archive: Path, member: zipfile.ZipInfo, place: str) -> bytes:
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as file:
            # The size in the header is a claim; what is read is a fact.
            content = file.read(MAX_FILE_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as exc:
        # RuntimeError is what zipfile raises for an encrypted member.
        raise _bad(place, f"cannot be read ({exc})") from exc
    if len(content) > MAX_FILE_BYTES:
        raise _bad(place, f"is larger than {MAX_FILE_BYTES >> 20} MiB when unpacked")
    return content


def _bad(place: str, problem: str) -> EvaluationError:
    return EvaluationError(f"{place} {problem}", "A whole file of the data set was expected", "Download it again")
