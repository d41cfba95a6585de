"""Fingerprints differ with all that changes a vector, and a mismatch says what to do."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from xsearch.encoder.fingerprint import Fingerprint, check_same, hash_files
from xsearch.errors import FingerprintMismatchError

BASE = Fingerprint(
    name="builtin",
    weights="a" * 64,
    tokenizer="b" * 64,
    pooling="mean",
    query_prompt="query: ",
    passage_prompt="passage: ",
    max_tokens=256,
    dim=384,
    dtype="int8",
)
CHANGES: list[dict[str, Any]] = [
    {"weights": "c" * 64},
    {"tokenizer": "c" * 64},
    {"pooling": "cls"},
    {"query_prompt": ""},
    {"passage_prompt": "query: "},
    {"max_tokens": 512},
    {"dim": 768},
    {"dtype": "float32"},
    {"step": "c" * 64},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_every_field_but_the_name_changes_the_digest_and_is_refused(change: dict[str, Any]) -> None:
    other = replace(BASE, **change)
    assert other.digest != BASE.digest
    with pytest.raises(FingerprintMismatchError, match=next(iter(change))):
        check_same(BASE, other, index="news")


def test_the_changes_cover_all_fields() -> None:
    assert {"name", *(key for change in CHANGES for key in change)} == {field.name for field in fields(Fingerprint)}


def test_swapped_prompts_have_another_digest() -> None:
    swapped = replace(BASE, query_prompt=BASE.passage_prompt, passage_prompt=BASE.query_prompt)
    assert swapped.digest != BASE.digest


def test_the_name_is_not_compared() -> None:
    moved = replace(BASE, name="/models/mini")
    assert moved.digest == BASE.digest
    check_same(BASE, moved, index="news")


def test_the_digest_is_stable_across_versions() -> None:
    # An index stores the fields; a change of this value would not break it, but must be meant.
    assert BASE.digest == "7ae14f6b646e31921a5f6631cd661ac8b664f294745c3cbcc08ab668c8e0fc69"


def test_the_refusal_names_both_and_the_ways_out() -> None:
    other = replace(BASE, name="intfloat/multilingual-e5-small", weights="d" * 64, dtype="float32")
    with pytest.raises(FingerprintMismatchError) as caught:
        check_same(BASE, other, index="indexes/news")
    error = caught.value
    assert error.given == (
        f"The index indexes/news was built with the encoder builtin (384 dimensions, {BASE.digest[:12]}), the one "
        f"given is intfloat/multilingual-e5-small (384 dimensions, {other.digest[:12]}); they differ in: "
        "name 'builtin' / 'intfloat/mu..., weights 'aaaaaaaaaaa... / 'ddddddddddd..., dtype 'int8' / 'float32'"
    )
    assert error.expected == "Vectors of two encoders cannot be compared, even where their dimensions agree"
    assert error.remedy == (
        "Search with --encoder builtin, or build a new index with --encoder intfloat/multilingual-e5-small"
    )


def test_to_dict_goes_through_json_and_back() -> None:
    stored = json.loads(json.dumps(BASE.to_dict()))
    assert Fingerprint.from_dict(stored) == BASE
    assert Fingerprint.from_dict(stored).digest == BASE.digest


def test_without_a_step_it_is_stored_as_before_there_were_steps() -> None:
    assert "step" not in BASE.to_dict()
    stepped = replace(BASE, step="e" * 64)
    assert stepped.to_dict()["step"] == "e" * 64
    assert Fingerprint.from_dict(stepped.to_dict()) == stepped


def test_hash_files_reads_bytes_in_the_order_given(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"ab" * 700_000)  # more than one block
    two.write_bytes(b"c")
    assert hash_files(one, two) == hashlib.sha256(b"ab" * 700_000 + b"c").hexdigest()
    assert hash_files(two, one) == hashlib.sha256(b"c" + b"ab" * 700_000).hexdigest()
