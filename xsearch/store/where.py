"""Filters over documents: ``year >= 2000 and source = 'wiki'`` becomes a condition of the catalogue's.

Grammar, words in any case::

    expression  =  conjunction { "or" conjunction }
    conjunction =  negation { "and" negation }
    negation    =  [ "not" ] ( "(" expression ")" | comparison )
    comparison  =  field ( "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=" ) value
                |  field [ "not" ] "in" "(" value { "," value } ")"
                |  field [ "not" ] "like" string
                |  field "is" [ "not" ] "null"
    field       =  name | '"' any name '"'
    value       =  string in single quotes ('' for one quote) | number | "true" | "false"

The names ``doc_id``, ``title``, ``source`` and ``lang`` are the document's own; every other name is looked up in its
metadata. A document without that metadata fits no comparison but ``is null``. Where the metadata have a ``source``, as
records of many collections do, it goes before the file that they stand in.

Tables hold numbers and truth values as text as often as not, so the value decides: next to a number, metadata counts as
a number where it reads like one (``2000`` and ``"2000"``), next to text as text. What does not read like a number is
neither less nor greater than one, but different from it. ``like`` takes ASCII letters in any case.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from xsearch.errors import FilterError
from xsearch.store.catalog import documents, storable
from xsearch.store.fields import MAX_INTEGER, Like, MetadataNumber, MetadataText

Condition = sa.ColumnElement[bool]
Value = str | int | float | bool

OWN_FIELDS = {name: documents.c[name] for name in ("doc_id", "title", "source", "lang")}
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
EQUALS = {"=": True, "==": True, "!=": False, "<>": False}
# SQLite takes expressions of depth 1,000; a comparison with a number is 6 deep.
MAX_COMPARISONS = 400
MAX_DEPTH = 50
MAX_VALUES = 10_000
KEYWORDS = frozenset({"and", "or", "not", "in", "like", "is", "null", "true", "false"})
TOKEN = re.compile(
    r"""\s*(?:
    (?P<string>'(?:[^']|'')*')
  | (?P<quoted>"[^"]+")
  | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
  | (?P<symbol><=|>=|<>|!=|==|[=<>(),])
  | (?P<word>[^\W\d][\w.-]*)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    place: int


def parse_where(text: str) -> Condition:
    """The condition on ``documents`` that a filter says.

    Raises:
        FilterError: the text does not fit the grammar; the message points at the place.
    """
    return _Parser(text).parse()


def metadata_names(text: str) -> list[str]:
    """The names of metadata in a filter, each once.

    Raises:
        FilterError: the text does not fit the grammar.
    """
    parser = _Parser(text)
    parser.parse()
    return [name for name in dict.fromkeys(parser.names) if name not in OWN_FIELDS]


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = storable(text)
        self._tokens = self._tokenise()
        self._next = 0
        self._depth = 0
        self._comparisons = 0
        self._values_met = 0
        self.names: list[str] = []

    def parse(self) -> Condition:
        condition = self._expression()
        if self._peek().kind != "end":
            raise self._error("the end, 'and' or 'or'")
        return condition

    def _tokenise(self) -> list[_Token]:
        tokens: list[_Token] = []
        place, end = 0, len(self._text.rstrip())
        while place < end:
            match = TOKEN.match(self._text, place)
            if match is None:
                raise FilterError(
                    f"The filter {self._text!r} cannot be read from {self._text[place:].strip()[:20]!r} on",
                    "A filter compares fields with values, e.g. year >= 2000 and source = 'wiki'",
                    "Put text values in single quotes",
                )
            kind = str(match.lastgroup)
            word, begin = match.group(kind), match.start(kind)
            if kind == "word" and word.lower() in KEYWORDS:
                kind, word = "keyword", word.lower()
            tokens.append(_Token(kind, word, begin))
            place = match.end()
        return [*tokens, _Token("end", "", end)]

    def _expression(self) -> Condition:
        parts = [self._conjunction()]
        while self._take("keyword", "or"):
            parts.append(self._conjunction())
        return sa.or_(*parts) if len(parts) > 1 else parts[0]

    def _conjunction(self) -> Condition:
        parts = [self._negation()]
        while self._take("keyword", "and"):
            parts.append(self._negation())
        return sa.and_(*parts) if len(parts) > 1 else parts[0]

    def _negation(self) -> Condition:
        if self._depth == MAX_DEPTH:
            raise self._error(f"at most {MAX_DEPTH} parentheses or 'not' within each other")
        self._depth += 1
        try:
            if self._take("keyword", "not"):
                return sa.not_(self._negation())
            if self._take("symbol", "("):
                inner = self._expression()
                self._need("symbol", ")")
                return inner.self_group()
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Condition:
        if self._comparisons == MAX_COMPARISONS:
            raise self._error(f"at most {MAX_COMPARISONS} comparisons; 'in' takes {MAX_VALUES:,} values")
        self._comparisons += 1
        field = self._field()
        token = self._peek()
        if token.kind == "symbol" and token.text in EQUALS:
            self._next += 1
            equal = _is_any_of(field, [self._value(field)])
            return equal if EQUALS[token.text] else sa.not_(equal)
        if token.kind == "symbol" and token.text in COMPARISONS:
            self._next += 1
            value = self._value(field)
            if isinstance(value, bool):
                raise self._error("'=' or '!=' between a field and true or false")
            compared: Condition = COMPARISONS[token.text](_typed(field, _kind(value)), value)
            return compared
        if self._take("keyword", "is"):
            negated = self._take("keyword", "not")
            self._need("keyword", "null")
            column = _typed(field, str)
            missing: Condition = column.is_not(None) if negated else column.is_(None)
            return missing
        negated = self._take("keyword", "not")
        if self._take("keyword", "in"):
            condition = _is_any_of(field, self._values(field))
        elif self._take("keyword", "like"):
            if self._peek().kind != "string":
                raise self._error("text in single quotes after 'like'")
            condition = Like(_typed(field, str), sa.literal(self._value(field), sa.Text))
        else:
            raise self._error("a comparison: = != < <= > >= in like is")
        return sa.not_(condition) if negated else condition

    def _field(self) -> str:
        token = self._peek()
        if token.kind not in ("word", "quoted"):
            raise self._error("the name of a field")
        self._next += 1
        self.names.append(token.text.strip('"'))
        return self.names[-1]

    def _values(self, field: str) -> list[Value]:
        self._need("symbol", "(")
        values = [self._value(field)]
        while self._take("symbol", ","):
            values.append(self._value(field))
        self._need("symbol", ")")
        return values

    def _value(self, field: str) -> Value:
        token = self._peek()
        self._values_met += 1
        if self._values_met > MAX_VALUES:
            raise self._error(f"at most {MAX_VALUES:,} values")
        if token.kind == "string":
            self._next += 1
            return token.text[1:-1].replace("''", "'")
        if field in OWN_FIELDS:
            raise self._error(f"text in single quotes, because {field} is text")
        if token.kind == "number":
            self._next += 1
            return _number(token.text)
        for word in ("true", "false"):
            if self._take("keyword", word):
                return word == "true"
        raise self._error("a value: text in single quotes, a number, true or false")

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, kind: str, text: str) -> bool:
        token = self._peek()
        if token.kind == kind and token.text == text:
            self._next += 1
            return True
        return False

    def _need(self, kind: str, text: str) -> None:
        if not self._take(kind, text):
            raise self._error(f"{text!r}")

    def _error(self, expected: str) -> FilterError:
        token = self._peek()
        found = f"{token.text!r} at character {token.place + 1}" if token.kind != "end" else "the end"
        return FilterError(
            f"The filter {self._text!r} has {found}",
            f"Expected was {expected}",
            "Write it like: year >= 2000 and source = 'wiki'",
        )


def _number(text: str) -> int | float:
    """The number as SQLite compares it exactly: an integer where it is one of 64 bits."""
    try:
        number = int(text)
    except ValueError:
        return float(text)
    return number if abs(number) <= MAX_INTEGER else float(text)


def _is_any_of(field: str, values: Sequence[Value]) -> Condition:
    """Whether the field is one of the values; NULL where it is missing."""
    text = _typed(field, str)
    parts: list[Condition] = []
    for kind in (str, int, bool):
        alike = [value for value in values if _kind(value) is kind]
        if alike and kind is str:
            parts.append(text.in_(alike))
        elif alike:
            # What does not read as a number is another value, and no NULL, which it would stay under "not".
            found = sa.func.coalesce(_typed(field, kind).in_(alike), sa.false())
            parts.append(sa.case((text.is_not(None), found)) == sa.true())
    return sa.or_(*parts)


def _kind(value: Value) -> type:
    """``str``, ``bool``, or ``int`` for any number."""
    return int if isinstance(value, float) else type(value)


def _typed(field: str, kind: type) -> Any:
    """The field as a column of the type of the values next to it; NULL where it is missing or does not read as such."""
    if field == "source":
        return sa.func.coalesce(_typed_metadata(field, str), OWN_FIELDS[field])
    return OWN_FIELDS[field] if field in OWN_FIELDS else _typed_metadata(field, kind)


def _typed_metadata(field: str, kind: type) -> Any:
    """As :func:`_typed`, of the metadata alone."""
    if kind is int:
        return MetadataNumber(documents.c.metadata, field)
    text = MetadataText(documents.c.metadata, field)
    if kind is str:
        return text
    return sa.case((sa.func.lower(text) == "true", sa.true()), (sa.func.lower(text) == "false", sa.false()))
