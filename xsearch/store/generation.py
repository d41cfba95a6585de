"""The number of an index's state: every commit that changes an answer makes it one higher."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from xsearch.errors import StoreError
from xsearch.store.catalog import read_setting, write_setting


def note_change(connection: sa.Connection) -> None:
    """Has readers see that there is another state now."""
    write_setting(connection, "generation", read_setting(connection, "generation") + 1)


def check_identity(index: Path, found: str, expected: str) -> None:
    """Refuses to go on with an index that is not any more the one that was opened.

    Raises:
        StoreError
    """
    if found != expected:
        raise StoreError(
            f"The index {index} was built anew, or went over to another encoder, while it was open",
            "An open index stays the same index",
            "Open it again",
        )
