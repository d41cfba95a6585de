"""The built-in encoder, loaded once."""

from __future__ import annotations

import pytest

from xsearch.encoder.builtin import BuiltinEncoder


@pytest.fixture(scope="session")
def builtin() -> BuiltinEncoder:
    return BuiltinEncoder()
