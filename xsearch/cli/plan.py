"""``xsearch index --dry-run``: what indexing would take, from reading everything and encoding a little of it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xsearch.cli.output import write_json

if TYPE_CHECKING:
    from xsearch.cli.progress import IngestProgress
    from xsearch.encoder.protocol import Encoder
    from xsearch.index import Index
    from xsearch.records import Document

# Passages that are encoded to learn how fast this machine is.
SAMPLE_PASSAGES = 64
# The catalogue holds texts and their words for full text. Measured on the demo corpus, on 5 and 20 times as much, on
# its texts joined to 110 long documents and cut into 322 and 1,610 short ones: with these numbers within 8 % each time.
CATALOG_BYTES_EMPTY = 73_728
CATALOG_BYTES_PER_TEXT_BYTE = 2.2
CATALOG_BYTES_PER_DOCUMENT = 240 + 66  # of these for its checksum
# Python, ONNX Runtime with the built-in weights, and the batches in flight: 383 MiB were measured on the demo corpus
# and 386 on six times as much; 229 for a search. A hub encoder takes what it takes beside that.
INDEXING_MEMORY_BYTES = 420 * 2**20
SEARCH_MEMORY_BYTES = 260 * 2**20
# Vectors on disk are float16; a search holds them as float32.
DISK_BYTES_PER_VALUE = 2
MEMORY_BYTES_PER_VALUE = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What indexing would take.

    Attributes:
        documents: read, whatever would become of them.
        unchanged: of these, the ones that the index has already; they take nothing.
        passages, tokens: to be encoded.
        disk_bytes: added to the index.
        indexing_memory_bytes, search_memory_bytes: resident, at most.
        seconds: reading and splitting as it took now, and encoding at the pace of a sample.
    """

    documents: int
    unchanged: int
    passages: int
    tokens: int
    disk_bytes: int
    indexing_memory_bytes: int
    search_memory_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Target:
    """What the documents would go into: an index that is there, or a new one with this encoder."""

    encoder: Encoder
    passage_tokens: int
    index: Index | None = None

    def holds(self, document: Document) -> bool:
        """Whether the index has the document with the same text, so that it would not be encoded again."""
        from xsearch.text.tags import canonical_tag

        stored = self.index.get(document.doc_id) if self.index is not None else None
        if stored is None or (stored.text, stored.title) != (document.text, document.title):
            return False
        return not document.lang or canonical_tag(document.lang) == stored.lang


def print_plan(path: Path, documents: Iterable[Document], progress: IngestProgress, flags: dict[str, Any]) -> None:
    """Reads and splits all documents, encodes a sample, and prints what it would take.

    Args:
        path: the folder of the index, which may not be there yet.
    """
    with _target(path, flags) as target:
        plan = make_plan(documents, target, progress)
    if flags["as_json"]:
        write_json(asdict(plan), sys.stdout)
        return
    click.echo(f"Documents        {plan.documents:>14,}")
    if plan.unchanged:
        click.echo(f"Unchanged        {plan.unchanged:>14,}")
    click.echo(f"Passages         {plan.passages:>14,}")
    click.echo(f"Tokens           {plan.tokens:>14,}")
    click.echo(f"Disk             {plan.disk_bytes / 2**20:>14,.1f} MiB")
    click.echo(f"Memory, indexing {plan.indexing_memory_bytes / 2**20:>14,.1f} MiB")
    click.echo(f"Memory, search   {plan.search_memory_bytes / 2**20:>14,.1f} MiB")
    click.echo(f"Time             {plan.seconds:>14,.1f} s")


def make_plan(documents: Iterable[Document], target: Target, progress: IngestProgress) -> Plan:
    """What putting these documents into the target would take; nothing is written.

    An id that comes twice is counted twice.
    """
    from xsearch.prepare import prepare
    from xsearch.text.passages import PassageLimits, with_title

    encoder = target.encoder
    limits = PassageLimits(target=target.passage_tokens, hard=encoder.max_tokens, overhead=encoder.overhead_tokens)
    began = time.perf_counter()
    count = unchanged = passages = tokens = text_bytes = 0
    sample: list[str] = []
    sample_tokens = 0
    for document in documents:
        count += 1
        progress.count(1)
        if target.holds(document):
            unchanged += 1
            continue
        prepared, title = prepare(document, encoder, limits)
        passages += len(prepared.passages)
        metadata = json.dumps(dict(document.metadata), ensure_ascii=False, default=str)
        for text in (document.doc_id, document.text, document.title, document.source, metadata):
            text_bytes += len(text.encode("utf-8", "replace"))
        for passage in prepared.passages:
            tokens += passage.tokens
            if len(sample) < SAMPLE_PASSAGES:
                sample.append(with_title(title, passage.text))
                sample_tokens += passage.tokens
    seconds = time.perf_counter() - began
    if sample:
        # Once to warm up, then timed.
        encoder.encode_passages(sample[:8])
        began = time.perf_counter()
        encoder.encode_passages(sample)
        seconds += (time.perf_counter() - began) / sample_tokens * tokens
    catalog = text_bytes * CATALOG_BYTES_PER_TEXT_BYTE + (count - unchanged) * CATALOG_BYTES_PER_DOCUMENT
    held = 0
    if target.index is None:
        catalog += CATALOG_BYTES_EMPTY
    else:
        held = target.index.info().passages
    return Plan(
        documents=count,
        unchanged=unchanged,
        passages=passages,
        tokens=tokens,
        disk_bytes=round(catalog) + passages * encoder.dim * DISK_BYTES_PER_VALUE,
        indexing_memory_bytes=INDEXING_MEMORY_BYTES,
        search_memory_bytes=SEARCH_MEMORY_BYTES + (held + passages) * encoder.dim * MEMORY_BYTES_PER_VALUE,
        seconds=seconds,
    )


@contextmanager
def _target(path: Path, flags: dict[str, Any]) -> Iterator[Target]:
    from xsearch.encoder.load import BUILTIN, load_encoder
    from xsearch.index import DEFAULT_PASSAGE_TOKENS, Index
    from xsearch.store.location import is_index

    tokens: int | None = flags["passage_tokens"]
    if is_index(path) and not flags["rebuild"]:
        with Index.open(path, encoder=flags["encoder"], device=flags["device"], catalog=flags["catalog"]) as index:
            index.check_passage_tokens(tokens)
            yield Target(index.encoder, index.passage_tokens, index)
    else:
        encoder = load_encoder(flags["encoder"] or BUILTIN, device=flags["device"])
        yield Target(encoder, tokens or min(DEFAULT_PASSAGE_TOKENS, encoder.max_tokens))
