"""``xsearch search``: hits for one query, or for many from standard input."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from xsearch.cli.options import encoder_options, index_dir_option, json_option, output_option
from xsearch.cli.output import output, write_json
from xsearch.config import index_path

if TYPE_CHECKING:
    from xsearch.index import Index
    from xsearch.records import Hit, Hits, Query
    from xsearch.search.retrieve import SearchOptions

    Search = Callable[[Index, Sequence[Query], SearchOptions], Iterable[Hits]]

# Queries of a batch that are searched together.
BATCH_QUERIES = 256
RUN_TAG = "xsearch"


@click.command(
    epilog="""\b
Examples:
  xsearch search news "Wer hat den Vertrag unterschrieben?"
  xsearch search news "Joseph Meister" --mode lexical
  xsearch search news "earthquake" -k 5 --lang ja --lang zh
  xsearch search news "climate" --where "year >= 2000 and source like '%report%'"
  xsearch search news - --trec -o run.txt < queries.tsv      lines 'id<TAB>query', or just queries
  xsearch search news - --trec -o run.txt < queries.jsonl    lines {"_id": "q1", "text": "query"}"""
)
@click.argument("name")
@click.argument("query")
@click.option(
    "-k",
    "--top-k",
    "k",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Hits per query: passages, or with --trec documents.",
)
@click.option("--lang", "langs", multiple=True, help="Only passages in this language; may be given several times.")
@click.option("--where", default="", help="Only documents that fit, e.g. \"year >= 2000 and source = 'wiki'\".")
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "dense", "lexical"]),
    default="hybrid",
    show_default=True,
    help="Find by meaning, by shared words, or by both: words then count within a language, and names across.",
)
@click.option("--trec", is_flag=True, help="Print a TREC run: query Q0 document rank score tag.")
@click.option("--mark/--no-mark", default=None, help="Find the best sentence of each hit. [default: for text output]")
@output_option
@encoder_options
@index_dir_option
@json_option
def search(name: str, query: str, **flags: Any) -> None:
    """Show the passages of the index NAME nearest to QUERY, in any language; '-' reads queries from standard input."""
    if flags["trec"] and flags["as_json"]:
        raise click.UsageError("--trec and --json exclude each other.")
    plain = not (flags["trec"] or flags["as_json"])
    mark = plain if flags["mark"] is None else flags["mark"]
    with nullcontext() if query == "-" else _without_garbage_collection(), _encoder_begun(mark, flags):
        _search(name, query, mark, flags)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """One search is over before garbage matters; looking for it among fresh imports took a twentieth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _encoder_begun(mark: bool, flags: dict[str, Any]) -> AbstractContextManager[None]:
    """Begins to load the encoder that the search most likely needs, before anything else is imported."""
    from xsearch.encoder.load import BUILTIN, preloaded_builtin

    wanted = flags["encoder"] in (None, BUILTIN) and (mark or flags["mode"] != "lexical")
    return preloaded_builtin() if wanted else nullcontext()


def _search(name: str, query: str, mark: bool, flags: dict[str, Any]) -> None:
    from xsearch.index import Index
    from xsearch.search.retrieve import Mode, SearchOptions

    plain = not (flags["trec"] or flags["as_json"])
    options = SearchOptions(k=flags["k"], langs=flags["langs"], where=flags["where"], mode=flags["mode"], mark=mark)
    batch = query == "-"
    path = index_path(name, flags["index_dir"])
    with (
        Index.open(path, encoder=flags["encoder"], device=flags["device"]) as index,
        output(flags["output"], utf8=flags["trec"]) as out,
    ):
        if plain and not batch and options.mode is not Mode.LEXICAL:
            _warn_of_unknown(index, query)
        for hits in _results(index, query, options, _documents if flags["trec"] else _passages):
            if options.where and not batch and not hits:
                _warn_of_names(index, options.where)
            if flags["trec"]:
                out.writelines(trec_lines(hits))
            elif flags["as_json"]:
                write_json(hits.to_dict(), out, indent=None if batch else 2)
            else:
                from xsearch.cli.show import show_hits

                show_hits(hits, out, with_query=batch)


def _warn_of_unknown(index: Index, query: str) -> None:
    """Says so on stderr where the encoder cannot read the query, so that a hit without its words means nothing."""
    from xsearch.encoder.protocol import unreadable

    if query.strip() and unreadable(index.encoder, [query])[0]:
        click.echo(
            "The encoder does not know the characters of this query: hits that share no word with it are chance. "
            "Use --mode lexical, or an index with another --encoder.",
            err=True,
        )


def _warn_of_names(index: Index, where: str) -> None:
    """Says on stderr which names in a filter that nothing fits are in no document: a slip of the pen looks the same."""
    for name in index.unknown_names(where):
        click.echo(f"No document has {name!r} among its metadata; names count with their case.", err=True)


def trec_lines(hits: Hits) -> Iterator[str]:
    """Lines of a TREC run for one query: each document once, at its best passage; white space in ids becomes ``_``.

    They are in the order in which trec_eval ranks them, and scores have the digits to keep that order.
    """
    import numpy as np

    from xsearch.ranking import order

    best: dict[str, float] = {}
    for hit in hits:
        best.setdefault(_word(hit.doc_id), hit.score)
    doc_ids = list(best)
    for rank, place in enumerate(order(np.array(list(best.values())), doc_ids) if best else (), 1):
        doc_id = doc_ids[place]
        yield f"{_word(hits.query.query_id)} Q0 {doc_id} {rank} {best[doc_id]:.9f} {RUN_TAG}\n"


def _word(text: str) -> str:
    return "_".join(text.split())


def _results(index: Index, query: str, options: SearchOptions, search: Search) -> Iterator[Hits]:
    from xsearch.records import Query

    if query != "-":
        yield from search(index, [Query("1", query)], options)
        return
    waiting: list[Query] = []
    for asked in _queries():
        waiting.append(asked)
        if len(waiting) == BATCH_QUERIES:
            yield from search(index, waiting, options)
            waiting = []
    if waiting:
        yield from search(index, waiting, options)


def _passages(index: Index, queries: Sequence[Query], options: SearchOptions) -> Iterable[Hits]:
    """The best ``options.k`` passages of each query."""
    return index.search_many(queries, options)


def _documents(index: Index, queries: Sequence[Query], options: SearchOptions) -> Iterable[Hits]:
    """The best passages of the best ``options.k`` documents of each query, or of as many as there are."""
    from xsearch.records import Hits

    found: dict[int, Hits] = {}
    left, k = list(range(len(queries))), options.k
    while left:
        k *= 2
        for place, hits in zip(left, index.search_many([queries[n] for n in left], replace(options, k=k)), strict=True):
            best: dict[str, Hit] = {}
            for hit in hits:
                best.setdefault(hit.doc_id, hit)
            if len(best) >= options.k or len(hits) < k:
                found[place] = Hits(hits.query, tuple(best.values())[: options.k])
        left = [place for place in left if place not in found]
    return (found[place] for place in range(len(queries)))


def _queries() -> Iterator[Query]:
    """Queries from standard input: JSON lines as in BEIR's ``queries.jsonl`` where the first one is an object, else
    lines ``id<TAB>text``, or ``text``, which get the line's number; empty lines are passed over."""
    from xsearch.corpus.stream import ByteStream, text_of

    # Not as the console would read it: a file of queries is in UTF-8 whatever the locale, or in what it looks like.
    with text_of(ByteStream(sys.stdin.buffer), "-", encoding=None, newline=None, wait=False) as text:
        numbered = ((number, line) for number, line in enumerate(text, 1) if line.strip(" \t\r\n\ufeff"))
        first = next(numbered, None)
        if first is not None:
            read = _json_queries if _is_object(first[1]) else _plain_queries
            yield from read(chain([first], numbered))


def _is_object(line: str) -> bool:
    """Whether a line is a JSON object, and not a query that happens to begin with a brace."""
    try:
        return isinstance(json.loads(line.strip().removeprefix("\ufeff")), dict)
    except (ValueError, RecursionError):
        return False


def _json_queries(numbered: Iterator[tuple[int, str]]) -> Iterator[Query]:
    from xsearch.corpus.jsontext import object_rows
    from xsearch.corpus.options import ReadOptions
    from xsearch.corpus.rows import Table, documents
    from xsearch.errors import ReadError
    from xsearch.records import Query, Skipped

    # The names of fields are those of documents: _id, id, text ...; without ids, they are made of line numbers: -#2.
    for item in documents(object_rows(numbered, "-"), Table("-", "-"), ReadOptions()):
        if isinstance(item, Skipped):
            raise ReadError(
                "-", f"this query cannot be read: {item.reason}", 'A line is like {"_id": "q1", "text": "a query"}',
                "Correct the line, or leave it out", line=item.line,
            )  # fmt: skip
        yield Query(item.doc_id, item.text)


def _plain_queries(numbered: Iterator[tuple[int, str]]) -> Iterator[Query]:
    from xsearch.corpus.decode import has_undecoded_bytes
    from xsearch.errors import ReadError
    from xsearch.records import Query

    for number, line in numbered:
        if has_undecoded_bytes(line):
            raise ReadError("-", "this query is not in the encoding of the rest", "UTF-8", "Convert it", line=number)
        query_id, tab, text = line.lstrip("\ufeff").strip("\r\n").partition("\t")
        if not tab:
            query_id, text = str(number), query_id
        if text.strip():
            yield Query(query_id.strip() or str(number), text.strip())
        elif query_id.strip() and tab:
            click.echo(f"The query {query_id.strip()} has no text and is left out", err=True)


__all__: Sequence[str] = ("search", "trec_lines")
