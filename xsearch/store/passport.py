"""The settings that decide what an index's vectors are of: its encoder, the step after it, how passages are cut."""

from __future__ import annotations

import base64
import binascii
import zipfile
from dataclasses import dataclass
from typing import Any

from xsearch.encoder.fingerprint import Fingerprint, check_same
from xsearch.encoder.protocol import Encoder
from xsearch.encoder.step import LinearStep
from xsearch.encoder.stepped import SteppedEncoder, step_bytes, step_from_bytes
from xsearch.errors import EncoderError
from xsearch.store.catalog import Catalog, altered, damaged_settings, read_settings

DECISIVE_SETTINGS = ("encoder", "fingerprint", "passage_tokens", "step")


@dataclass(frozen=True, slots=True)
class Passport:
    """What an index says of its vectors.

    Attributes:
        identity: of the index.
        passage_tokens: how long passages may be.
        encoder: the name under which it is loaded; of an index with a step, of the encoder without it.
        fingerprint: of the encoder that made the vectors, the step in it.
        step: what follows the encoder of that name, if the index keeps a step.
    """

    identity: str
    passage_tokens: int
    encoder: str
    fingerprint: Fingerprint
    step: LinearStep | None = None

    def admitted(self, encoder: Encoder, *, index: str) -> Encoder:
        """The encoder, followed by the index's step where it comes without it.

        Args:
            index: what messages call the index.

        Raises:
            FingerprintMismatchError: the index was built with another encoder.
        """
        identity = encoder.fingerprint
        if self.step is not None and identity.digest == self.step.encoder:
            encoder = SteppedEncoder(encoder, self.step)
            identity = encoder.fingerprint
        check_same(self.fingerprint, identity, index=index)
        return encoder


def passport_settings(
    encoder: Encoder, name: str, *, passage_tokens: int, step: LinearStep | None = None
) -> dict[str, Any]:
    """The settings of a new index; :func:`read_passport` reads them.

    Args:
        encoder: without the step.
        name: under which it is loaded.

    Raises:
        EncoderError: the step was fitted for another encoder.
    """
    values: dict[str, Any] = {"encoder": name, "passage_tokens": passage_tokens}
    if step is None:
        return {**values, "fingerprint": encoder.fingerprint.to_dict()}
    fingerprint = SteppedEncoder(encoder, step).fingerprint
    return {**values, "fingerprint": fingerprint.to_dict(), "step": base64.b64encode(step_bytes(step)).decode("ascii")}


def read_passport(catalog: Catalog) -> Passport:
    """What the catalogue says of the index's vectors.

    Raises:
        IndexDamagedError: a setting is missing, or not as it was written.
    """
    with catalog.reading() as connection:
        found = read_settings(connection, ("identity", *DECISIVE_SETTINGS))
        wrong = [key for key in damaged_settings(connection) if key in DECISIVE_SETTINGS]
    if wrong:
        raise catalog.damaged(altered(f"setting {wrong[0]!r}"))
    if not isinstance(found["passage_tokens"], int):
        raise catalog.damaged("does not say how long passages may be")
    try:
        fingerprint = Fingerprint.from_dict(found["fingerprint"])
    except TypeError as exc:
        raise catalog.damaged("does not say with which encoder it was built") from exc
    return Passport(
        identity=found["identity"],
        passage_tokens=found["passage_tokens"],
        encoder=found["encoder"],
        fingerprint=fingerprint,
        step=read_kept_step(catalog, found["step"]),
    )


def read_kept_step(catalog: Catalog, value: Any) -> LinearStep | None:
    """The step of a setting's value; ``None`` where the index keeps none.

    Raises:
        IndexDamagedError: the value is damaged.
    """
    if value is None:
        return None
    try:
        return step_from_bytes(base64.b64decode(value, validate=True))
    except (
        ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, NotImplementedError, binascii.Error, EncoderError
    ) as exc:  # fmt: skip
        raise catalog.damaged(f"holds a step that cannot be read ({exc})") from exc
