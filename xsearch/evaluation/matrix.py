"""A value for each pair of languages, and its means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from xsearch.evaluation.tasks import POOL


@dataclass(frozen=True, slots=True)
class LanguageMatrix:
    """Values by pair of languages; rows are languages of documents, columns languages of queries.

    A pool of all languages is a row of its own, and neither mono nor cross.
    Pairs may be missing; means are over the pairs that are there, each counting the same, and None where none is.

    Attributes:
        values: by (document language, query language).
    """

    values: Mapping[tuple[str, str], float]

    @property
    def doc_langs(self) -> tuple[str, ...]:
        """The languages of the rows, sorted."""
        return tuple(sorted({doc for doc, _ in self.values}))

    @property
    def query_langs(self) -> tuple[str, ...]:
        """The languages of the columns, sorted."""
        return tuple(sorted({query for _, query in self.values}))

    @property
    def mono(self) -> float | None:
        """Mean over the pairs of one language with itself."""
        return _mean(value for (doc, query), value in self.values.items() if doc == query)

    @property
    def cross(self) -> float | None:
        """Mean over the pairs of two different languages."""
        return _mean(value for (doc, query), value in self.values.items() if doc not in (query, POOL))

    @property
    def mean(self) -> float | None:
        """Mean over all pairs."""
        return _mean(self.values.values())

    def get(self, doc_lang: str, query_lang: str) -> float | None:
        """The value of one pair, or None where there is none."""
        return self.values.get((doc_lang, query_lang))

    def row_mean(self, doc_lang: str) -> float | None:
        """Mean over the pairs with documents in this language."""
        return _mean(value for (doc, _), value in self.values.items() if doc == doc_lang)

    def column_mean(self, query_lang: str) -> float | None:
        """Mean over the pairs with queries in this language."""
        return _mean(value for (_, query), value in self.values.items() if query == query_lang)


def _mean(values: Iterable[float]) -> float | None:
    kept = list(values)
    return sum(kept) / len(kept) if kept else None
