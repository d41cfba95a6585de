"""The exception tree of xsearch: every error says what was given, what was expected and what to do."""

from __future__ import annotations


class XsearchError(Exception):
    """Base of all errors that xsearch raises on purpose.

    Args:
        given: what was given or found, e.g. ``"k is 0"``.
        expected: what would have been right, e.g. ``"k must be at least 1"``.
        remedy: what the reader can do now, e.g. ``"Pass -k 10"``.
    """

    def __init__(self, given: str, expected: str, remedy: str) -> None:
        super().__init__(given, expected, remedy)
        self.given = given
        self.expected = expected
        self.remedy = remedy

    def __str__(self) -> str:
        return " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in self.args if part)


class InvalidArgumentError(XsearchError, ValueError):
    """An argument is outside what the function takes."""


class ConfigError(XsearchError):
    """A setting in ``xsearch.toml`` or the environment is wrong."""


class MissingExtraError(XsearchError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the package {package}, which is not installed",
            f"It comes with the extra '{extra}'",
            f'Run: pip install "xsearch[{extra}]"',
        )
        self.extra = extra


class ReadError(XsearchError):
    """A file or a record could not be read.

    Args:
        source: the file, folder or dataset; named first in the message.
        line: the 1-based line or row, where there is one.
    """

    def __init__(self, source: str, given: str, expected: str, remedy: str, *, line: int | None = None) -> None:
        place = source if line is None else f"{source}:{line}"
        super().__init__(f"{place}: {given}", expected, remedy)
        self.source = source
        self.line = line


class UnreadableError(ReadError):
    """A file is damaged, encrypted, empty or not what its name says; reading can go on with the next one."""


class EncoderError(XsearchError):
    """An encoder could not be loaded or gave what it must not give."""


class EncoderNotFoundError(EncoderError):
    """No encoder of that name or at that path."""


class NonFiniteVectorError(EncoderError):
    """A vector holds NaN or infinity, or has no direction (all zero)."""


class StoreError(XsearchError):
    """The index on disk cannot do what was asked."""


class IndexNotFoundError(StoreError):
    """There is no index at that path."""


class IndexExistsError(StoreError):
    """There is an index already where a new one was to be made."""


class IndexLockedError(StoreError):
    """Another process is writing to the index."""


class IndexDamagedError(StoreError):
    """A file of the index is missing, cut short or altered."""


class ArchiveError(StoreError):
    """An archive of an index is damaged, or holds what such an archive must not hold."""


class IndexTooNewError(StoreError):
    """The index was written by a newer xsearch."""


class FingerprintMismatchError(StoreError):
    """The index was built with another encoder than the one in hand."""


class SettingsMismatchError(StoreError):
    """The index was built with other settings than those asked for."""


class DuplicateDocumentError(StoreError):
    """A document id was given twice, and the policy is ``error``."""


class FilterError(XsearchError, ValueError):
    """A ``--where`` expression cannot be understood."""


class EvaluationError(XsearchError):
    """An evaluation cannot be run on what was given."""


class TrainingError(XsearchError):
    """A training run cannot start or go on: its recipe, its data, its checkpoint or its numbers are at fault."""


class PairError(ReadError):
    """A line of parallel or question data is malformed; the message names file and line."""
