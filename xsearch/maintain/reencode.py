"""Passages that are stored, encoded once more from the catalogue's text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa

from xsearch.encoder.protocol import Encoder, Vectors, unit_vectors
from xsearch.errors import EncoderError, IndexDamagedError
from xsearch.store.catalog import any_of, documents, passages
from xsearch.text.passages import PassageLimits, encoded_title, with_title

# Ids of one query, and passages of one call of the encoder.
PASSAGES_AT_ONCE = 512


def encode_again(
    connection: sa.Connection, encoder: Encoder, passage_tokens: int, passage_ids: Sequence[int]
) -> Vectors:
    """``(n, dim) float32, rows L2-normalised``: the vectors of stored passages, in the order of their ids.

    Args:
        passage_tokens: how long the index's passages may be; it decides which titles are encoded.

    Raises:
        IndexDamagedError: there is no passage of such an id.
    """
    limits = PassageLimits(target=passage_tokens, hard=encoder.max_tokens, overhead=encoder.overhead_tokens)
    titles: dict[str, str] = {}
    found: list[Vectors] = [np.empty((0, encoder.dim), dtype=np.float32)]
    for start in range(0, len(passage_ids), PASSAGES_AT_ONCE):
        some = passage_ids[start : start + PASSAGES_AT_ONCE]
        rows = _texts(connection, some)
        texts = []
        for title, text in rows:
            if title not in titles:
                titles[title] = encoded_title(title, limits=limits, token_spans=encoder.token_offsets)
            texts.append(with_title(titles[title], text))
        vectors = encoder.encode_passages(texts)
        if vectors.shape != (len(texts), encoder.dim):
            raise EncoderError(
                f"The encoder {encoder.fingerprint.name} gave vectors of shape {vectors.shape}",
                f"For {len(texts)} passages it must give {(len(texts), encoder.dim)}",
                "Report this to whoever made the encoder",
            )
        found.append(unit_vectors(vectors))
    return np.concatenate(found)


def _texts(connection: sa.Connection, passage_ids: Sequence[int]) -> list[tuple[str, str]]:
    """Titles and texts of passages, in the order of their ids."""
    text = sa.func.substr(documents.c.text, passages.c.start + 1, passages.c.end - passages.c.start)
    query = sa.select(passages.c.passage_id, documents.c.title, text).join(
        documents, passages.c.doc_key == documents.c.doc_key
    )
    rows = connection.execute(query.where(any_of(connection, passages.c.passage_id, [int(one) for one in passage_ids])))
    found = {row[0]: (str(row[1]), str(row[2])) for row in rows}
    try:
        return [found[int(one)] for one in passage_ids]
    except KeyError as exc:
        raise IndexDamagedError(
            f"There is no passage {exc.args[0]}",
            "Every passage that is encoded again must be in the catalogue",
            "See what else is damaged: xsearch verify NAME",
        ) from exc
