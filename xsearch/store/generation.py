"""The number of an index's state: every commit that changes an answer makes it one higher."""

from __future__ import annotations

import sqlalchemy as sa

from xsearch.store.catalog import read_setting, write_setting


def note_change(connection: sa.Connection) -> None:
    """Has readers see that there is another state now."""
    write_setting(connection, "generation", read_setting(connection, "generation") + 1)
