"""Which rows may be found, as numpy and as FAISS have it."""

from __future__ import annotations

import builtins
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.segments import ids
from xsearch.errors import MissingExtraError
from xsearch.store.selection import Selection, import_faiss


@given(mask=st.lists(st.booleans(), max_size=70))
def test_the_rows_of_a_mask(mask: list[bool]) -> None:
    selection = Selection(len(mask), np.array(mask, dtype=bool))
    wanted = [row for row, allowed in enumerate(mask) if allowed]
    assert selection.count == len(wanted)
    assert selection.share == (len(wanted) / len(mask) if mask else 0.0)
    assert selection.selected.tolist() == wanted
    rows = ids(*range(len(mask)))[::-1]
    assert selection.keep(rows).tolist() == wanted[::-1]
    if all(mask):
        # Without a selector FAISS is several times as fast.
        assert selection.mask is None
        assert selection.selector is None
    else:
        assert [selection.selector.is_member(row) for row in range(len(mask))] == mask


def test_all_rows() -> None:
    selection = Selection(3, None)
    assert (selection.count, selection.share, selection.mask, selection.selector) == (3, 1.0, None, None)
    assert selection.selected.tolist() == [0, 1, 2]
    assert selection.keep(ids(2, 0)).tolist() == [2, 0]


def test_a_part_of_a_longer_mask() -> None:
    """Masks of parts are views into that of the whole index, beginning anywhere."""
    whole = np.array([True, False, True, True, False] * 9)
    selection = Selection(20, whole[13:33])
    assert [selection.selector.is_member(row) for row in range(20)] == whole[13:33].tolist()
    index = faiss.IndexFlatIP(1)
    index.add(np.linspace(0, 1, 20, dtype=np.float32)[:, None])
    parameters = faiss.SearchParameters(sel=selection.selector)
    _, found = index.search(np.ones((1, 1), dtype=np.float32), selection.count, params=parameters)
    assert found[0].tolist() == np.flatnonzero(whole[13:33])[::-1].tolist()


def test_faiss_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    importing = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "faiss":
            raise ImportError(name)
        return importing(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"faiss, which is not installed.*xsearch\[cpu\]"):
        import_faiss()
