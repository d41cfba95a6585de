"""What each version of the catalogue changed, for writers, which change it too, and for readers, which must not.

PostgreSQL catalogues begin at version 3: what is older is SQLite.
"""

from __future__ import annotations

import sqlalchemy as sa

# 2: documents have a checksum. 3: passages have one, segments say which passages their rows belong to and carry
# checksums of blocks, and FAISS files are listed.
SCHEMA_VERSION = 3
_ANN_COLUMNS = (
    "number INTEGER NOT NULL PRIMARY KEY, segments JSON NOT NULL, factory TEXT NOT NULL, "
    '"rows" BIGINT NOT NULL, size BIGINT NOT NULL, sha256 TEXT NOT NULL, facts JSON NOT NULL'
)
# By the version that they lead to.
MIGRATIONS = {
    2: ("ALTER TABLE documents ADD COLUMN checksum TEXT",),
    3: (
        "ALTER TABLE passages ADD COLUMN checksum BIGINT",
        "ALTER TABLE segments ADD COLUMN runs BLOB",
        "ALTER TABLE segments ADD COLUMN block_sums BLOB",
        f"CREATE TABLE ann ({_ANN_COLUMNS})",
    ),
}
# The same by views that one connection alone sees; they go before tables of the same name, and with the connection.
SHOWN = {
    2: ("CREATE TEMP VIEW documents AS SELECT *, NULL AS checksum FROM main.documents",),
    3: (
        "CREATE TEMP VIEW passages AS SELECT *, NULL AS checksum FROM main.passages",
        "CREATE TEMP VIEW segments AS SELECT *, NULL AS runs, NULL AS block_sums FROM main.segments",
        f"CREATE TEMP TABLE ann ({_ANN_COLUMNS})",
    ),
}


def migrate(connection: sa.Connection, version: int) -> None:
    """Brings the tables of an older version up to date, for the caller to note; needs a writing transaction."""
    for number in range(version + 1, SCHEMA_VERSION + 1):
        for statement in MIGRATIONS[number]:
            connection.exec_driver_sql(statement)


def show_as_current(connection: sa.Connection) -> None:
    """Has a reading connection see an older catalogue with the tables of this version; nothing is written to it."""
    if connection.dialect.name != "sqlite":
        return
    value = connection.exec_driver_sql("SELECT value FROM settings WHERE key = 'schema_version'").scalar()
    # Whatever else stands there, Catalog.check refuses.
    older = {str(version): version for version in range(1, SCHEMA_VERSION)}
    for number in range(older.get(str(value), SCHEMA_VERSION) + 1, SCHEMA_VERSION + 1):
        for statement in SHOWN[number]:
            connection.exec_driver_sql(statement)
