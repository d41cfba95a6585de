"""An index's folder as a whole: whether there is one, whether there is room for one, and how it goes."""

from __future__ import annotations

import shutil
from pathlib import Path

from xsearch.errors import IndexExistsError, IndexNotFoundError
from xsearch.store.ann import ANN_FOLDER
from xsearch.store.catalog import CATALOG_FILE
from xsearch.store.files import LOCK_FILE, TEMPORARY_SUFFIX, disk_errors, writer_lock
from xsearch.store.location import LOCATION_FILE, drop_tables, is_index, remove_catalog
from xsearch.store.vectors import VECTORS_FOLDER

# Where an index grows that is to take another's place, with another encoder.
MIGRATION_FOLDER = "migration"


def check_is_index(path: Path) -> None:
    """Refuses a folder that holds no index.

    Raises:
        IndexNotFoundError
    """
    if not is_index(path):
        raise IndexNotFoundError(
            f"There is no index at {path}",
            f"An index is a folder with a {CATALOG_FILE} or a {LOCATION_FILE}",
            "See what there is with: xsearch list; build one with: xsearch index NAME SOURCE",
        )


def check_free(path: Path) -> None:
    """Refuses a place for a new index where there is anything but what a killed creation leaves.

    Raises:
        IndexExistsError
    """
    leftovers = (LOCK_FILE, f"{CATALOG_FILE}{TEMPORARY_SUFFIX}", f"{LOCATION_FILE}{TEMPORARY_SUFFIX}")
    if path.exists() and (not path.is_dir() or any(not file.name.startswith(leftovers) for file in path.iterdir())):
        raise IndexExistsError(
            f"{path} is there already", "A new index needs a folder of its own", "Open it, or choose another name"
        )


def remove_index(path: str | Path) -> None:
    """Deletes a whole index, on the disk and in its database; what xsearch did not put into its folder stays.

    Raises:
        IndexNotFoundError: the folder holds no index; nothing is deleted.
        IndexLockedError: somebody is writing to it; nothing is deleted.
        StoreError: a file cannot be deleted, or the database with its catalogue cannot be reached; then nothing is.
    """
    path = Path(path)
    check_is_index(path)
    with writer_lock(path), disk_errors(path):
        drop_tables(path)
        for file in (*(path / VECTORS_FOLDER).glob("*.npy*"), *(path / ANN_FOLDER).glob("*.faiss*")):
            file.unlink()
        # Copies from before an upgrade, and an interrupted migration, would else outlive their texts.
        for file in path.glob(f"{CATALOG_FILE}.v*.bak*"):
            file.unlink()
        if (path / MIGRATION_FOLDER).is_dir():
            shutil.rmtree(path / MIGRATION_FOLDER)
        remove_catalog(path)
    with disk_errors(path):
        (path / LOCK_FILE).unlink(missing_ok=True)
        for folder in (path / VECTORS_FOLDER, path / ANN_FOLDER, path):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def folder_size(path: Path) -> int:
    """Bytes of all files in a folder and below; files that come and go meanwhile count or do not."""
    return sum(_size(file) for file in path.rglob("*"))


def _size(path: Path) -> int:
    try:
        return 0 if path.is_dir() else path.stat().st_size
    except FileNotFoundError:
        return 0
