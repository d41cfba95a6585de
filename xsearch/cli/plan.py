"""``xsearch index --dry-run``: what indexing would take, from reading everything and encoding a little of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from xsearch.cli.progress import IngestProgress
    from xsearch.encoder.protocol import Encoder
    from xsearch.records import Document

# Passages that are encoded to learn how fast this machine is.
SAMPLE_PASSAGES = 64
# Measured on the demo corpus and on MLQA: what the catalogue takes beside the texts, a passage and a document.
CATALOG_BYTES_PER_PASSAGE = 90
CATALOG_BYTES_PER_DOCUMENT = 500
# Python, ONNX Runtime with the built-in weights, and the batches in flight.
BASE_MEMORY_BYTES = 350 * 2**20
# Vectors on disk are float16; a search holds them as float32.
DISK_BYTES_PER_VALUE = 2
MEMORY_BYTES_PER_VALUE = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What indexing would take.

    Attributes:
        tokens: of all passages, as encoded.
        disk_bytes: of the finished index.
        indexing_memory_bytes, search_memory_bytes: resident, at most.
        seconds: of encoding on this machine, at the pace of a sample.
    """

    documents: int
    passages: int
    tokens: int
    disk_bytes: int
    indexing_memory_bytes: int
    search_memory_bytes: int
    seconds: float


def print_plan(documents: Iterable[Document], progress: IngestProgress, flags: dict[str, Any]) -> None:
    """Reads and splits all documents, encodes a sample, and prints what it would take."""
    from xsearch.encoder.load import BUILTIN, load_encoder
    from xsearch.index import DEFAULT_PASSAGE_TOKENS
    from xsearch.text.passages import PassageLimits

    encoder = load_encoder(flags["encoder"] or BUILTIN, device=flags["device"])
    target = flags["passage_tokens"] or min(DEFAULT_PASSAGE_TOKENS, encoder.max_tokens)
    limits = PassageLimits(target=target, hard=encoder.max_tokens, overhead=encoder.overhead_tokens)
    plan = make_plan(documents, encoder, limits, progress)
    if flags["as_json"]:
        click.echo(json.dumps(asdict(plan)))
        return
    click.echo(f"Documents        {plan.documents:>14,}")
    click.echo(f"Passages         {plan.passages:>14,}")
    click.echo(f"Tokens           {plan.tokens:>14,}")
    click.echo(f"Disk             {plan.disk_bytes / 2**20:>14,.1f} MiB")
    click.echo(f"Memory, indexing {plan.indexing_memory_bytes / 2**20:>14,.1f} MiB")
    click.echo(f"Memory, search   {plan.search_memory_bytes / 2**20:>14,.1f} MiB")
    click.echo(f"Time             {plan.seconds:>14,.1f} s")


def make_plan(documents: Iterable[Document], encoder: Encoder, limits: Any, progress: IngestProgress) -> Plan:
    """What indexing these documents would take; nothing is written."""
    from xsearch.ingest import IngestOptions, prepare
    from xsearch.text.passages import with_title

    options = IngestOptions(limits)
    count = passages = tokens = text_bytes = 0
    sample: list[str] = []
    sample_tokens = 0
    for document in documents:
        prepared, title = prepare(document, encoder, options)
        count += 1
        passages += len(prepared.passages)
        text_bytes += len(document.text.encode("utf-8", "replace")) + len(document.title.encode("utf-8", "replace"))
        for passage in prepared.passages:
            tokens += passage.tokens
            if len(sample) < SAMPLE_PASSAGES:
                sample.append(with_title(title, passage.text))
                sample_tokens += passage.tokens
        progress.count(1)
    seconds = 0.0
    if sample:
        # Once to warm up, then timed.
        encoder.encode_passages(sample[:8])
        began = time.perf_counter()
        encoder.encode_passages(sample)
        seconds = (time.perf_counter() - began) / sample_tokens * tokens
    catalog = text_bytes + passages * CATALOG_BYTES_PER_PASSAGE + count * CATALOG_BYTES_PER_DOCUMENT
    return Plan(
        documents=count,
        passages=passages,
        tokens=tokens,
        disk_bytes=catalog + passages * encoder.dim * DISK_BYTES_PER_VALUE,
        indexing_memory_bytes=BASE_MEMORY_BYTES,
        search_memory_bytes=BASE_MEMORY_BYTES + passages * encoder.dim * MEMORY_BYTES_PER_VALUE,
        seconds=seconds,
    )
