"""xsearch: find passages in any language for a query in any language.

Importing it loads neither torch nor faiss; names are looked up when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xsearch.encoder.load import load_encoder
    from xsearch.encoder.protocol import Encoder
    from xsearch.errors import XsearchError
    from xsearch.index import Index
    from xsearch.ingest import IngestReport
    from xsearch.records import Document, Hit, Hits, Query, Span
    from xsearch.search.retrieve import SearchOptions
    from xsearch.store.folder import remove_index
    from xsearch.store.info import IndexInfo

_HOMES = {
    "Document": "records",
    "Encoder": "encoder.protocol",
    "Hit": "records",
    "Hits": "records",
    "Index": "index",
    "IndexInfo": "store.info",
    "IngestReport": "ingest",
    "Query": "records",
    "SearchOptions": "search.retrieve",
    "Span": "records",
    "XsearchError": "errors",
    "load_encoder": "encoder.load",
    "remove_index": "store.folder",
}

__all__ = [
    "Document",
    "Encoder",
    "Hit",
    "Hits",
    "Index",
    "IndexInfo",
    "IngestReport",
    "Query",
    "SearchOptions",
    "Span",
    "XsearchError",
    "load_encoder",
    "remove_index",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xsearch' has no attribute {name!r}")
    return getattr(import_module(f"xsearch.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
