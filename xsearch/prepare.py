"""A document made ready to be written: storable, cut into passages, told its language."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import Any

from xsearch.encoder.protocol import Encoder
from xsearch.errors import InvalidArgumentError
from xsearch.records import Document, Passage
from xsearch.store.catalog import storable
from xsearch.store.rows import Prepared
from xsearch.text.language import detect
from xsearch.text.normalise import content_hash
from xsearch.text.passages import PassageLimits, split_text
from xsearch.text.tags import canonical_tag

# The fields of a document that must be text; callers give numbers for ids.
TEXTS = ("doc_id", "text", "title", "lang", "source")
# JSON writes U+0000 like this, behind any number of written backslashes.
ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")

PLAIN = frozenset((str, int, float, bool, type(None)))
# Python writes no integers of thousands of digits.
MAX_PLAIN_BITS = 64


def prepare(document: Document, encoder: Encoder, limits: PassageLimits, *, origin: str = "") -> tuple[Prepared, str]:
    """The document cut into passages with their languages, and the title that is encoded with each."""
    lang = canonical_tag(document.lang) if document.lang else ""
    found = lang or detect(document.text)
    split = split_text(document.text, document.title, lang=found, limits=limits, token_spans=encoder.token_offsets)
    passages = tuple(
        Passage(
            position=position,
            start=piece.start,
            end=piece.end,
            text=piece.text,
            lang=lang or _passage_language(piece.text, found, len(split.pieces)),
            tokens=piece.tokens,
        )
        for position, piece in enumerate(split.pieces)
    )
    stored = replace(document, lang=found)
    return Prepared(stored, text_hash(document, limits), origin, passages), split.title


def storable_document(document: Document) -> Document:
    """The document with characters that cannot be stored replaced, one for one, and with metadata that are JSON.

    NaN and infinity, which JSON does not know, become null.
    """
    if _is_storable(document):
        return document
    wrong = [name for name in TEXTS if not isinstance(getattr(document, name, None), str)]
    if wrong:
        raise InvalidArgumentError(
            f"{str(document)[:80]} is no Document, or one whose {wrong[0]} is no text",
            f"What is added is a list of Document, and {', '.join(TEXTS)} are text",
            'Pass for example [Document("1", "the text")]',
        )
    if not document.doc_id.strip():
        raise InvalidArgumentError(
            f"A document from {document.source or 'the caller'} has the id {document.doc_id!r}",
            "A document id has at least one character",
            "Give it an id",
        )
    try:
        metadata = dict(document.metadata)
        if not _is_plain(metadata):
            written = ESCAPED_NUL.sub("\\1\ufffd", storable(json.dumps(metadata, ensure_ascii=False)))
            metadata = json.loads(written, parse_constant=lambda name: None)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidArgumentError(
            f"The metadata of the document {document.doc_id!r} are not JSON: {exc}",
            "Values are text, numbers, true, false, null, and lists and objects of these",
            "Turn dates and other objects into text first",
        ) from exc
    return Document(
        storable(document.doc_id),
        storable(document.text),
        storable(document.title),
        document.lang,
        storable(document.source),
        metadata,
    )


def _is_storable(document: Document) -> bool:
    """Whether a document can be stored as it is: most can, and seeing so takes a fifth of making it anew."""
    if type(document) is not Document:
        return False
    doc_id, text, title, source = document.doc_id, document.text, document.title, document.source
    if not (type(doc_id) is type(text) is type(title) is type(document.lang) is type(source) is str):
        return False
    metadata = document.metadata
    joined = f"{doc_id}{title}{source}{text}"
    # "is": what is storable comes back itself.
    return bool(doc_id.strip()) and storable(joined) is joined and type(metadata) is dict and _is_plain(metadata)


def _is_plain(metadata: dict[Any, Any]) -> bool:
    """Whether metadata are names with single values that JSON can hold and that come back as they are."""
    texts = []
    for name, value in metadata.items():
        kind = type(value)
        if type(name) is not str or kind not in PLAIN:
            return False
        texts.append(name)
        if kind is str:
            texts.append(value)
        elif (kind is float and not math.isfinite(value)) or (kind is int and value.bit_length() > MAX_PLAIN_BITS):
            return False
    joined = "".join(texts)
    return storable(joined) == joined


def text_hash(document: Document, limits: PassageLimits) -> str:
    """A hash of all that a document's passages and vectors depend on, but the encoder."""
    return content_hash(document.title, document.text, document.lang, str(limits.target))


def _passage_language(text: str, document_language: str, count: int) -> str:
    """The passage's own language, or its document's where it is the only passage or too short to tell."""
    if count == 1:
        return document_language
    found = detect(text)
    return document_language if found == "und" else found
