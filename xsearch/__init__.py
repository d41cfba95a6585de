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
    from xsearch.maintain.migrate import migrate_index
    from xsearch.maintain.repair import repair_index
    from xsearch.maintain.verify import verify_index
    from xsearch.records import Document, Hit, Hits, Query, Span
    from xsearch.search.retrieve import SearchOptions
    from xsearch.store.folder import remove_index
    from xsearch.store.info import IndexInfo
    from xsearch.store.unpack import import_archive

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
    "import_archive": "store.unpack",
    "load_encoder": "encoder.load",
    "migrate_index": "maintain.migrate",
    "remove_index": "store.folder",
    "repair_index": "maintain.repair",
    "verify_index": "maintain.verify",
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
    "import_archive",
    "load_encoder",
    "migrate_index",
    "remove_index",
    "repair_index",
    "verify_index",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xsearch' has no attribute {name!r}")
    return getattr(import_module(f"xsearch.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
