"""An index read and checked as a whole: all that is on disk, and a sample of its vectors against its texts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from xsearch.encoder.protocol import Encoder
from xsearch.errors import (
    EncoderError,
    FingerprintMismatchError,
    IndexDamagedError,
    InvalidArgumentError,
    MissingExtraError,
)
from xsearch.index import Index
from xsearch.maintain.reencode import encode_again
from xsearch.store.catalog import Catalog, passages
from xsearch.store.folder import check_is_index
from xsearch.store.id_map import IdMap
from xsearch.store.location import find_catalog
from xsearch.store.vectors import VECTORS_FOLDER, RawVectors, Vectors
from xsearch.store.verify import Checked, Damage, Listed, check_store, read_listed

DEFAULT_SAMPLE = 32
# Between a stored vector and that of its text, encoded again. Measured with the built-in encoder (int8: rounding varies
# with what is encoded together): 0.99996 at least; between neighbouring passages 0.6 at most.
LEAST_COSINE = 0.99


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What reading all of an index found.

    Attributes:
        sampled: passages that were encoded again.
        lowest_cosine: of these, between the stored vector and the new one; ``None`` where none was.
        damages: none in an index that is in order.
        remarks: what could not be looked at, and why.
    """

    path: str
    documents: int
    passages: int
    sampled: int
    lowest_cosine: float | None
    damages: tuple[Damage, ...]
    remarks: tuple[str, ...] = ()

    @property
    def in_order(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damages

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON-serialisable values."""
        return {**asdict(self), "in_order": self.in_order}


@dataclass(frozen=True, slots=True)
class _Sample:
    """What became of some passages that were encoded again."""

    count: int = 0
    lowest: float | None = None
    damages: tuple[Damage, ...] = ()
    remarks: tuple[str, ...] = ()


def verify_index(
    path: str | Path,
    *,
    sample: int = DEFAULT_SAMPLE,
    encoder: Encoder | str | None = None,
    device: str = "cpu",
    seed: int | None = None,
) -> VerifyReport:
    """Reads all of an index and checks it; nothing is written, and writers need not wait.

    Args:
        sample: passages to encode again and compare with their stored vectors; chosen by chance.
        encoder: an encoder, or the name or folder of one; by default the one it was built with.
        seed: of the choice; another one each time by default.

    Raises:
        IndexNotFoundError: there is no index.
        IndexTooNewError: a newer xsearch wrote it.
    """
    path = Path(path)
    if sample < 0:
        raise InvalidArgumentError(f"sample is {sample}", "It must be 0 or more", "Pass --sample 32")
    check_is_index(path)
    catalog = find_catalog(path)
    try:
        index = Index.open(path, encoder=encoder, device=device)
    except IndexDamagedError as exc:
        return VerifyReport(str(path), 0, 0, 0, None, (Damage(catalog.place, exc.given),))
    with index:
        checked = check_store(path, catalog, index.fingerprint.dim)
        drawn = _sampled(index, catalog, checked, random.Random(seed), sample)
    return VerifyReport(
        path=str(path),
        documents=checked.documents,
        passages=checked.passages,
        sampled=drawn.count,
        lowest_cosine=drawn.lowest,
        damages=checked.damages + drawn.damages,
        remarks=checked.remarks + drawn.remarks,
    )


def _sampled(index: Index, catalog: Catalog, checked: Checked, rng: random.Random, count: int) -> _Sample:
    """Encodes some passages again, of those whose vectors can be read and were not given (these count no tokens)."""
    if not count or not checked.passages:
        return _Sample()
    try:
        encoder = index.encoder
    except (EncoderError, MissingExtraError, FingerprintMismatchError) as exc:
        return _Sample(remarks=(f"No passage was encoded again. {exc}",))
    try:
        with catalog.reading() as connection:
            listed = read_listed(connection)
            # Vectors that came with their documents may be of any text.
            encoded = connection.execute(sa.select(passages.c.passage_id).where(passages.c.tokens > 0)).scalars()
            known = np.intersect1d(np.fromiter(encoded, dtype=np.int64), IdMap(listed.segments).all_ids())
            ids = sorted(rng.sample(known.tolist(), min(count, len(known))))
            stored, ids = _stored(index.path, listed, ids)
            again = encode_again(connection, encoder, index.passage_tokens, ids)
    except IndexDamagedError as exc:
        return _Sample(remarks=(f"No passage was encoded again. {exc.given}",))
    if not ids:
        return _Sample()
    cosines = (stored * again).sum(axis=1)
    # NaN is below nothing.
    wrong = [(one, cosine) for one, cosine in zip(ids, cosines.tolist(), strict=True) if not cosine >= LEAST_COSINE]
    damages = tuple(_misfit(index.path, listed, one, cosine) for one, cosine in wrong)
    return _Sample(len(ids), float(cosines.min()), damages)


def _stored(index: Path, listed: Listed, ids: Sequence[int]) -> tuple[Vectors, list[int]]:
    """The stored vectors of passages, and which they are; those that cannot be read are told already."""
    vectors, found = [np.empty((0, listed.segments[0].dim if listed.segments else 1), dtype=np.float32)], []
    for segment in listed.segments:
        own = IdMap([segment])
        rows = own.rows_of(np.array(ids, dtype=np.int64))
        if not len(rows):
            continue
        try:
            vectors.append(RawVectors(index, segment).vectors(rows))
        except IndexDamagedError:
            continue
        found += own.ids_of(rows).tolist()
    return np.concatenate(vectors), found


def _misfit(index: Path, listed: Listed, passage_id: int, cosine: float) -> Damage:
    wanted = np.array([passage_id])
    segment = next(one for one in listed.segments if len(IdMap([one]).rows_of(wanted)))
    what = f"The vector of passage {passage_id} in {index / VECTORS_FOLDER / segment.name} is not that of its text"
    return Damage(f"{VECTORS_FOLDER}/{segment.name}", f"{what} (cosine {cosine:.3f})")
