"""Whether the catalogue still holds what was written: SQLite keeps no checksums, so each document carries its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from xsearch.records import Document
from xsearch.store.json_text import sorted_json, sorted_json_all
from xsearch.text.normalise import content_hash, hash_of


class Shown(NamedTuple):
    """What a hit shows of a passage and stays as it is for as long as the passage does."""

    passage_id: int
    doc_id: str
    lang: str
    doc_lang: str
    title: str
    start: int
    end: int
    text: str


def passage_checksum(shown: Shown) -> int:
    """The first 8 bytes of a SHA-256 over what a hit shows, as a signed integer."""
    passage_id, doc_id, lang, doc_lang, title, start, end, text = shown
    lengths = f"{passage_id} {start} {end} {len(doc_id)} {len(lang)} {len(doc_lang)} {len(title)} "
    # Damage may have left half of a character.
    data = f"{lengths}{doc_id}{lang}{doc_lang}{title}{text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big", signed=True)


def text_checksum(*, doc_id: str, lang: str, title: str, text: str) -> str:
    """SHA-256 over the fields of a document that stay as they are for as long as its passages do, hexadecimal.

    Unlike :func:`~xsearch.text.normalise.content_hash` it is of the very characters: offsets count them.
    """
    return hash_of([field.encode() for field in (doc_id, lang, title, text)])


def setting_checksum(key: str, value: str) -> str:
    """The first 8 bytes of a SHA-256 over a setting as it is stored, hexadecimal."""
    return hashlib.sha256(f"{len(key)} {key}{value}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def record_hash(document: Document) -> str:
    """A hash of what is stored of a document beside what its vectors depend on."""
    return record_hash_of(document.source, dict(document.metadata))


def record_hashes(documents: Sequence[Document]) -> list[str]:
    """:func:`record_hash` of each."""
    written = sorted_json_all([document.metadata for document in documents])
    return [content_hash(document.source, text) for document, text in zip(documents, written, strict=True)]


def record_hash_of(source: str, metadata: object) -> str:
    """:func:`record_hash` of a document's source and metadata."""
    return content_hash(source, sorted_json(metadata))
