"""The records that pass between the parts of xsearch: documents in, hits out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from html import escape
from typing import Any, overload

RTL_LANGUAGES = frozenset(
    {"ar", "arc", "arz", "azb", "ckb", "dv", "fa", "glk", "he", "ks", "lrc", "mzn"}
    | {"nqo", "pnb", "ps", "sd", "sdh", "skr", "syr", "ug", "ur", "yi"}
)
RTL_SCRIPTS = frozenset({"Arab", "Hebr", "Nkoo", "Syrc", "Thaa"})


@dataclass(frozen=True, slots=True)
class Document:
    """One document as a reader yields it and as a caller adds it.

    Attributes:
        doc_id: the caller's id, unique within an index.
        text: the whole text, as read (not normalised).
        title: the title, or empty.
        lang: BCP-47 tag; empty means "find it out", ``und`` means "known to be unknown".
        source: where it came from: a file path, ``hf:NAME``, ``-``; shown with hits.
        metadata: JSON-serialisable values by name; scalars can be filtered on.
    """

    doc_id: str
    text: str
    title: str = ""
    lang: str = ""
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON-serialisable values."""
        return _plain(self)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something a reader met and could not turn into a document.

    Attributes:
        source: the file or dataset.
        reason: one sentence, for people.
        line: 1-based line or row, where there is one.
        empty: whether it was read and there was no text, so that nothing is lost.
    """

    source: str
    reason: str
    line: int | None = None
    empty: bool = False

    @property
    def place(self) -> str:
        """``source`` or ``source:line``."""
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that fits the encoder; ``text == document.text[start:end]``.

    Attributes:
        position: 0-based place among the document's passages.
        start, end: character offsets (code points) into the document's text.
        lang: BCP-47 tag of this passage; may differ from its document's.
        tokens: encoder tokens of what is encoded (title and special tokens included); 0 where the vector was given.
    """

    position: int
    start: int
    end: int
    text: str
    lang: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Query:
    """A question or search text with the caller's id."""

    query_id: str
    text: str
    lang: str = "und"


@dataclass(frozen=True, slots=True)
class Span:
    """Character offsets (code points) of a part of a hit's text, with its score."""

    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One passage found for a query.

    Attributes:
        rank: 1-based.
        score: what ranks, in [-1, 1]: ``cosine`` in the mode ``dense``, ``bm25`` in ``lexical``, and in ``hybrid`` what
            :mod:`xsearch.search.fuse` makes of both.
        passage_id: our stable integer, never reused.
        doc_id: the caller's document id.
        lang: BCP-47 tag of the passage.
        doc_lang: BCP-47 tag of the whole document.
        title, text, source, metadata: as stored; ``text`` is the passage.
        start, end: offsets of the passage in the document's text.
        best: the sentence of ``text`` nearest to the query, where it was asked for.
        cosine: of the vectors of query and passage; ``None`` where words alone were searched.
        bm25: of the words that query and passage share, as a share of the most that any passage could get for this
            query, in [0, 1]; ``None`` where meaning alone was searched.
    """

    rank: int
    score: float
    passage_id: int
    doc_id: str
    lang: str
    doc_lang: str
    title: str
    text: str
    source: str
    start: int
    end: int
    metadata: Mapping[str, Any] = field(default_factory=dict)
    best: Span | None = None
    cosine: float | None = None
    bm25: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON-serialisable values."""
        return {**_plain(self), "best": None if self.best is None else asdict(self.best)}

    def _repr_html_(self) -> str:
        return Hits(query=Query("", ""), hits=(self,))._repr_html_()


@dataclass(frozen=True, slots=True)
class Hits(Sequence[Hit]):
    """The hits of one query, best first; a sequence of :class:`Hit`."""

    query: Query
    hits: tuple[Hit, ...]

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def to_dict(self) -> dict[str, Any]:
        """``{"query": {...}, "hits": [...]}`` with plain values."""
        return {"query": asdict(self.query), "hits": [hit.to_dict() for hit in self.hits]}

    def _repr_html_(self) -> str:
        lang = escape(self.query.lang, quote=True)
        head = f'<p dir="auto" lang="{lang}"><b>{escape(self.query.text)}</b></p>' if self.query.text else ""
        rows = "".join(_html_row(hit) for hit in self.hits)
        return (
            f"{head}<table><thead><tr><th>#</th><th>score</th><th>lang</th><th>title</th><th>passage</th>"
            f"</tr></thead><tbody>{rows}</tbody></table>"
        )


def is_rtl(lang: str) -> bool:
    """Whether text in this language (BCP-47) runs from right to left."""
    language, *rest = lang.split("-")
    scripts = [part.title() for part in rest if len(part) == 4 and part.isalpha()]
    return scripts[0] in RTL_SCRIPTS if scripts else language.lower() in RTL_LANGUAGES


def _plain(record: Document | Hit) -> dict[str, Any]:
    """The fields as they are, metadata as a dict; ``asdict`` would copy the metadata, and some mappings refuse that."""
    return {each.name: getattr(record, each.name) for each in fields(record)} | {"metadata": dict(record.metadata)}


def _html_row(hit: Hit) -> str:
    if hit.best is None:
        text = escape(hit.text)
    else:
        before, best, after = (
            hit.text[: hit.best.start],
            hit.text[hit.best.start : hit.best.end],
            hit.text[hit.best.end :],
        )
        text = f"{escape(before)}<mark>{escape(best)}</mark>{escape(after)}"
    lang, doc_lang = escape(hit.lang, quote=True), escape(hit.doc_lang, quote=True)
    title, source = escape(hit.title or hit.doc_id), escape(hit.source, quote=True)
    return (
        f"<tr><td>{hit.rank}</td><td>{hit.score:.3f}</td><td>{lang}</td>"
        f'<td dir="auto" lang="{doc_lang}" title="{source}">{title}</td>'
        f'<td dir="auto" lang="{lang}" style="text-align:start">{text}</td></tr>'
    )
