"""Fields of metadata as columns of a type, written for SQLite and for PostgreSQL: the same answers from both.

SQLite takes JSON apart with functions of its own; for PostgreSQL, functions of the same meaning are made in the index's
schema. Both see numbers of 64 bits exactly and others as doubles, and write a double with 15 digits.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

MAX_INTEGER = 2**63 - 1
# From here on a double is a whole number, and its shortest decimal may be another one.
WHOLE_DOUBLES = 2**53
# As JSON has it, with white space around.
_JSON_NUMBER = r"^[ \t\n\r]*-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)?[ \t\n\r]*$"
_SPACE = r"E' \t\n\r'"

FUNCTIONS = (
    # A number from its JSON, as SQLite compares it: an integer of 64 bits, or a double.
    rf"""
    CREATE FUNCTION json_number(written text) RETURNS numeric LANGUAGE plpgsql IMMUTABLE STRICT AS $$
    DECLARE
        bare text := btrim(written, {_SPACE});
        exact numeric;
        rounded float8;
    BEGIN
        IF bare ~ '^-?[0-9]{{1,19}}$' THEN
            exact := bare::numeric;
            IF exact BETWEEN -9223372036854775808 AND {MAX_INTEGER} THEN
                RETURN exact;
            END IF;
        END IF;
        rounded := bare::float8;
        IF abs(rounded) >= {WHOLE_DOUBLES}::float8 AND rounded >= -9223372036854775808::float8
            AND rounded < 9223372036854775808::float8 THEN
            RETURN rounded::bigint::numeric;
        END IF;
        RETURN rounded::text::numeric;
    EXCEPTION WHEN numeric_value_out_of_range THEN
        IF bare ~ '[eE]-' OR bare ~ '^-?0[.][0-9]*$' THEN
            RETURN 0;
        END IF;
        RETURN CASE WHEN bare ~ '^-' THEN '-Infinity' ELSE 'Infinity' END::numeric;
    END
    $$""",
    # A number as SQLite writes it: a double with 15 digits, and with a point.
    r"""
    CREATE FUNCTION json_number_text(written text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
    DECLARE
        exact numeric := json_number(written);
        short text;
    BEGIN
        IF exact IN ('Infinity', '-Infinity') THEN
            RETURN CASE WHEN exact > 0 THEN 'Inf' ELSE '-Inf' END;
        END IF;
        IF written ~ '^-?[0-9]{1,19}$' AND written::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 THEN
            RETURN exact::text;
        END IF;
        short := exact::float8::numeric::float8::text;
        IF short ~ '[.]' THEN
            RETURN short;
        END IF;
        RETURN regexp_replace(short, '^(-?[0-9]+)', '\1.0');
    END
    $$""",
    # What it reads like: NULL where it is missing or null.
    """
    CREATE FUNCTION metadata_text(metadata json, name text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
        SELECT CASE json_typeof(metadata -> name)
            WHEN 'null' THEN NULL
            WHEN 'number' THEN json_number_text(metadata ->> name)
            ELSE metadata ->> name
        END
    $$""",
    # The number that it is or reads like, else NULL.
    rf"""
    CREATE FUNCTION metadata_number(metadata json, name text) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
        SELECT CASE
            WHEN json_typeof(metadata -> name) = 'number' THEN json_number(metadata ->> name)
            WHEN json_typeof(metadata -> name) = 'string' AND (metadata ->> name) ~ '{_JSON_NUMBER}'
                THEN json_number(metadata ->> name)
        END
    $$""",
)


class _Number(sa.types.TypeDecorator[Any]):
    """A number that is bound as it is compared: as it is for SQLite, exact decimals for PostgreSQL."""

    impl = sa.types.NullType
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(sa.Numeric() if dialect.name == "postgresql" else sa.types.NullType())

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        if dialect.name != "postgresql" or not isinstance(value, (int, float)):
            return value
        whole = isinstance(value, int) or (abs(value) >= WHOLE_DOUBLES and -(2**63) <= value < 2**63)
        return Decimal(int(value)) if whole else Decimal(repr(value))


class _Field(FunctionElement[Any]):
    """A field of a JSON column; given both as the path that SQLite wants and as the name that PostgreSQL wants."""

    def __init__(self, column: sa.ColumnElement[Any], name: str) -> None:
        # The name as it stands in the JSON.
        path = f'$."{json.dumps(name, ensure_ascii=False)[1:-1]}"'
        super().__init__(column, sa.literal(path, sa.Text), sa.literal(name, sa.Text))


class MetadataText(_Field):
    """The field as text: as it is, a number as it is written, a list or an object as its JSON; NULL where missing."""

    name = "metadata_text"
    type = sa.Text()
    inherit_cache = True


class MetadataNumber(_Field):
    """The field as a number, where it is one or text that reads like one; else NULL."""

    name = "metadata_number"
    type = _Number()
    inherit_cache = True


class Like(FunctionElement[bool]):
    """Whether text is like a pattern (``%`` for any text, ``_`` for one character), ASCII letters in any case."""

    name = "is_like"
    type = sa.Boolean()
    inherit_cache = True


@compiles(MetadataText)
def _sqlite_text(element: MetadataText, compiler: SQLCompiler, **options: Any) -> str:
    column, path, _ = element.clauses
    found, value = sa.func.json_type(column, path), sa.func.json_extract(column, path)
    text = sa.case((found == "true", "true"), (found == "false", "false"), else_=sa.cast(value, sa.Text))
    return compiler.process(text, **options)


@compiles(MetadataText, "postgresql")
def _postgres_text(element: MetadataText, compiler: SQLCompiler, **options: Any) -> str:
    column, _, name = element.clauses
    # Characters in the order of their numbers and no others' lower case, as SQLite has it.
    return compiler.process(sa.collate(sa.func.metadata_text(column, name), "C"), **options)


@compiles(MetadataNumber)
def _sqlite_number(element: MetadataNumber, compiler: SQLCompiler, **options: Any) -> str:
    column, path, _ = element.clauses
    found, value = sa.func.json_type(column, path), sa.func.json_extract(column, path)
    # CASE, unlike AND, promises that json_type does not see text that is no JSON.
    reads_as_number = sa.case((sa.func.json_valid(value) == 1, sa.func.json_type(value).in_(("integer", "real"))))
    number = sa.case(
        (found.in_(("integer", "real")), value),
        (sa.case((found == "text", reads_as_number)), sa.cast(value, sa.Numeric)),
    )
    return compiler.process(number, **options)


@compiles(MetadataNumber, "postgresql")
def _postgres_number(element: MetadataNumber, compiler: SQLCompiler, **options: Any) -> str:
    column, _, name = element.clauses
    return compiler.process(sa.func.metadata_number(column, name), **options)


@compiles(Like)
def _sqlite_like(element: Like, compiler: SQLCompiler, **options: Any) -> str:
    text, pattern = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({text} LIKE {pattern})"


@compiles(Like, "postgresql")
def _postgres_like(element: Like, compiler: SQLCompiler, **options: Any) -> str:
    text, pattern = (compiler.process(clause, **options) for clause in element.clauses)
    return f'(lower({text} COLLATE "C") LIKE lower({pattern} COLLATE "C") ESCAPE \'\')'
