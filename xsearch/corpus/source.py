"""What a SOURCE is, and who reads it: the one door to all readers."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from xsearch.corpus import extras
from xsearch.corpus.dataset import (
    HUB_PREFIX,
    folder_bytes,
    is_saved_dataset,
    parse_hub_name,
    read_hub,
    read_saved,
    refuse_offline,
)
from xsearch.corpus.decode import check_encoding, clean, has_undecoded_bytes
from xsearch.corpus.delimited import read_csv, read_tsv
from xsearch.corpus.docx import read_docx
from xsearch.corpus.html import read_html
from xsearch.corpus.jsontext import object_rows, read_json, read_jsonl
from xsearch.corpus.options import MAX_RECORD_CHARS, OnBytes, ReadOptions, no_progress
from xsearch.corpus.parquet import read_parquet
from xsearch.corpus.pdf import read_pdf
from xsearch.corpus.plain import read_markdown, read_text
from xsearch.corpus.rows import Table, documents
from xsearch.corpus.stream import ByteStream, lines, text_of
from xsearch.corpus.walk import absolute, expand, is_glob, walk
from xsearch.errors import ReadError, UnreadableError
from xsearch.records import Document, Skipped
from xsearch.text.tags import is_language_code, known_tag

__all__ = ["ReadOptions", "SourceSize", "measure_source", "read_source", "supported_suffixes"]

STDIN = "-"

Reader = Callable[[str, ReadOptions, OnBytes], Iterator[Document | Skipped]]


@dataclass(frozen=True, slots=True)
class SourceSize:
    """How much there is to read; ``bytes`` is 0 where it cannot be known (standard input, the hub)."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Family:
    """A reader, the endings it reads, the library it needs, and whether it reads ``.gz`` of them."""

    read: Reader
    suffixes: tuple[str, ...]
    needs: extras.Extra | None = None
    packed: bool = False


_FAMILIES = (
    _Family(read_text, (".txt", ".text", ".rst"), packed=True),
    _Family(read_markdown, (".md", ".markdown"), packed=True),
    _Family(read_html, (".html", ".htm", ".xhtml"), extras.HTML, packed=True),
    _Family(read_pdf, (".pdf",), extras.PDF),
    _Family(read_docx, (".docx",), extras.DOCX),
    _Family(read_jsonl, (".jsonl", ".ndjson"), packed=True),
    _Family(read_json, (".json",), packed=True),
    _Family(read_csv, (".csv",), packed=True),
    _Family(read_tsv, (".tsv",), packed=True),
    _Family(read_parquet, (".parquet",), extras.PARQUET),
)
_SAVED_DATASET = _Family(read_saved, (), extras.DATASET)
_BY_SUFFIX = {suffix: family for family in _FAMILIES for suffix in family.suffixes} | {
    f"{suffix}.gz": family for family in _FAMILIES if family.packed for suffix in family.suffixes
}


def supported_suffixes() -> tuple[str, ...]:
    """The endings of file names that have a reader, sorted."""
    return tuple(sorted(_BY_SUFFIX))


def read_source(
    source: str, options: ReadOptions | None = None, *, on_bytes: OnBytes | None = None
) -> Iterator[Document | Skipped]:
    """The documents of a file, folder, glob, ``-`` (standard input) or ``hf:NAME[/config][:split]``, streamed.

    A file or record that cannot be read comes as a :class:`Skipped`, and reading goes on. Where a record names its
    language by what is no language code, that counts as not said: ``options.lang`` stands in, or it is found out.

    Args:
        on_bytes: told the bytes consumed since its last call; they sum up to ``measure_source(source).bytes``.

    Raises:
        ReadError: the source does not exist or has no reader, a glob matches nothing, the encoding is unknown
            (all at the call), or a table named by itself lacks a field (when its reading begins).
        InvalidArgumentError: ``options.lang`` is no language; at the call.
        MissingExtraError: a library is missing that a file of the source needs; at the call, before
            any document, for a run must not fail for it after hours.
    """
    options = options or ReadOptions()
    report = on_bytes or no_progress
    if options.encoding is not None:
        check_encoding(options.encoding)
    if options.lang:
        known_tag(options.lang)
    if source == STDIN:
        return _guarded(_read_stdin(options, report), STDIN, options, alone=True)
    if source.startswith(HUB_PREFIX):
        parse_hub_name(source)
        refuse_offline(source)
        extras.load(extras.DATASET)
        return _storable(read_hub(source, options), options)
    alone = _is_alone(source)
    families = {_family(path) for path in _paths(source) if isinstance(path, str)}
    for family in (*_FAMILIES, _SAVED_DATASET):
        if family in families and family.needs is not None:
            extras.load(family.needs)
    return chain.from_iterable(_read(found, options, report, alone) for found in _paths(source))


def measure_source(source: str) -> SourceSize:
    """The number of files to read and their size on disk; files without a reader do not count.

    Raises:
        ReadError: as :func:`read_source` does at the call.
    """
    if source == STDIN or source.startswith(HUB_PREFIX):
        return SourceSize(files=1, bytes=0)
    files = size = 0
    for path in _paths(source):
        if isinstance(path, str) and _family(path) is not None:
            files += 1
            try:
                size += folder_bytes(path) if Path(path).is_dir() else Path(path).stat().st_size
            except OSError:
                continue  # gone or closed to us: reading it will say so
    return SourceSize(files, size)


def _is_alone(source: str) -> bool:
    """Whether ``source`` names one file or dataset, so that its faults are the caller's to mend."""
    path = Path(source).expanduser()
    return path.is_file() or (path.is_dir() and is_saved_dataset(path))


def _paths(source: str) -> Iterable[str | Skipped]:
    """What there is to read: paths of files and saved datasets, and what cannot be read at all."""
    path = Path(source).expanduser()
    if path.is_dir():
        return walk(absolute(path))
    if path.is_file():
        if _family(absolute(path)) is None:
            raise ReadError(
                source,
                f"there is no reader for {_ending(source)}",
                f"Known are {', '.join(suffix for suffix in supported_suffixes() if not suffix.endswith('.gz'))}",
                "Convert the file to one of them",
            )
        return [absolute(path)]
    if is_glob(source):
        matches = expand(source)
        if matches:
            return chain.from_iterable(walk(match) if Path(match).is_dir() else [match] for match in matches)
        raise ReadError(source, "no file matches", "A pattern that matches files is expected", "Correct the pattern")
    if path.exists():
        raise ReadError(source, "this is a pipe or a device", "A file or folder is expected", "Pass - and pipe it in")
    raise ReadError(source, "there is no such file or folder", "A path that exists is expected", "Correct the path")


def _family(path: str) -> _Family | None:
    suffixes = [suffix.lower() for suffix in Path(path).suffixes[-2:]]
    family = _BY_SUFFIX.get("".join(suffixes)) or (_BY_SUFFIX.get(suffixes[-1]) if suffixes else None)
    # A look at the disk only where the name says nothing: a saved dataset is a folder.
    return family or (_SAVED_DATASET if Path(path).is_dir() else None)


def _ending(path: str) -> str:
    return Path(path).suffix or "files without an ending"


def _read(found: str | Skipped, options: ReadOptions, on_bytes: OnBytes, alone: bool) -> Iterator[Document | Skipped]:
    if isinstance(found, Skipped):
        return iter([found])
    family = _family(found)
    if family is None:
        return iter([Skipped(clean(found), f"no reader for {_ending(found)}")])
    return _guarded(family.read(found, options, on_bytes), found, options, alone=alone)


def _guarded(
    items: Iterator[Document | Skipped], source: str, options: ReadOptions, *, alone: bool
) -> Iterator[Document | Skipped]:
    """The items, up to where the file fails; then what it failed of, as a :class:`Skipped`.

    Args:
        alone: the source is this one file: an error in how it was asked for is raised, not skipped.
    """
    try:
        yield from _storable(items, options)
    except UnreadableError as exc:
        yield Skipped(clean(source), _reason(exc), exc.line)
    except ReadError as exc:
        if alone:
            raise
        yield Skipped(clean(source), _reason(exc), exc.line)
    except (OSError, EOFError, zlib.error, UnicodeError) as exc:
        # No permission, a damaged .gz, UTF-16 cut short: not this file, but the next one.
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        yield Skipped(clean(source), f"cannot be read: {reason}")


def _reason(exc: ReadError) -> str:
    place = exc.source if exc.line is None else f"{exc.source}:{exc.line}"
    return clean(exc.given.removeprefix(f"{place}: "))


def _storable(items: Iterator[Document | Skipped], options: ReadOptions) -> Iterator[Document | Skipped]:
    """The items; names of files that are not valid in the file system's encoding, and languages, made storable."""
    for item in items:
        if isinstance(item, Skipped):
            yield replace(item, source=clean(item.source), reason=clean(item.reason))
            continue
        document = item
        if has_undecoded_bytes(document.source):
            document = replace(document, doc_id=clean(document.doc_id), source=clean(document.source))
        if document.lang and not is_language_code(document.lang):
            document = replace(document, lang=options.lang)
        yield document


def _read_stdin(options: ReadOptions, on_bytes: OnBytes) -> Iterator[Document | Skipped]:
    """Standard input: JSON lines when it begins with ``{``, else a document a line."""
    stream = ByteStream(sys.stdin.buffer, on_bytes)
    # Closing the wrapper closes our stream, which leaves the caller's standard input open.
    with text_of(stream, STDIN, encoding=options.encoding, newline=None, wait=False) as text:
        numbered = lines(text, MAX_RECORD_CHARS)
        before = []
        for number, line in numbered:
            before.append((number, line))
            if line is None or line.strip(" \t\r\n\ufeff"):
                break
        numbered = chain(before[-1:], numbered)
        first = before[-1][1] if before else ""
        if first is not None and not first.strip():
            yield Skipped(STDIN, "there are no records in it")
            return
        if first is not None and first.lstrip(" \t\ufeff").startswith("{"):
            yield from documents(object_rows(numbered, STDIN), Table(STDIN, STDIN), options)
        else:
            yield from _plain_lines(numbered, options)


def _plain_lines(numbered: Iterable[tuple[int, str | None]], options: ReadOptions) -> Iterator[Document | Skipped]:
    for number, line in numbered:
        if line is None:
            yield Skipped(STDIN, f"longer than {MAX_RECORD_CHARS:,} characters", number)
        elif has_undecoded_bytes(line):
            yield Skipped(STDIN, "bytes that do not belong to the encoding of the input", number)
        elif line.strip():
            yield Document(f"{STDIN}#{number}", clean(line.strip().lstrip("\ufeff")), "", options.lang, STDIN)
