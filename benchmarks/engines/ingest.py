"""Rows become an xsearch index: documents with language and year, and vectors given."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from store_engine import Rows, Settings

from xsearch import Document, Index


def take_in(folder: Path, rows: Rows, texts: Iterable[str]) -> Settings:
    """Makes an index of all rows, each a document of one passage; returns what it took and what was built.

    ``taking_in_s`` is the time until texts, metadata and vectors are committed; ``ann_s`` is that of the FAISS index,
    which is chosen, trained, filled and tuned in the same call.
    """
    with Index.create(folder) as index:
        started = time.perf_counter()
        report = index.add(_documents(rows, texts), vectors=rows.vectors)
        seconds = time.perf_counter() - started
        with index._snapshot() as snapshot:
            files = [placed.file for placed in snapshot.searcher._placed if placed.file is not None]
    ann_s = sum(file.facts.seconds for file in files)
    return {
        "passages": report.passages,
        "taking_in_s": seconds - ann_s,
        "ann_s": ann_s,
        "ann": [{"factory": file.factory, "rows": file.rows, **file.facts.to_dict()} for file in files],
    }


def _documents(rows: Rows, texts: Iterable[str]) -> Iterator[Document]:
    known = zip(texts, rows.year.tolist(), rows.lang.tolist(), strict=True)
    for number, (text, year, lang) in enumerate(known):
        yield Document(str(number), text, lang=rows.languages[lang], metadata={"year": year})
