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
metadata. A document without that metadata fits no comparison but ``is null``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from xsearch.errors import FilterError
from xsearch.store.catalog import documents

Condition = sa.ColumnElement[bool]
Value = str | float | bool

OWN_FIELDS = {name: documents.c[name] for name in ("doc_id", "title", "source", "lang")}
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
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


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._tokenise()
        self._next = 0

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
        if self._take("keyword", "not"):
            return sa.not_(self._negation())
        if self._take("symbol", "("):
            inner = self._expression()
            self._need("symbol", ")")
            return inner.self_group()
        return self._comparison()

    def _comparison(self) -> Condition:
        field = self._field()
        token = self._peek()
        if token.kind == "symbol" and token.text in COMPARISONS:
            self._next += 1
            value = self._value()
            return self._compare(token.text, field, value)
        if self._take("keyword", "is"):
            negated = self._take("keyword", "not")
            self._need("keyword", "null")
            column = _typed(field, "")
            condition: Condition = column.is_not(None) if negated else column.is_(None)
            return condition
        negated = self._take("keyword", "not")
        if self._take("keyword", "in"):
            values = self._values()
            condition = sa.or_(*(self._compare("=", field, value) for value in values))
        elif self._take("keyword", "like"):
            pattern = self._value()
            if not isinstance(pattern, str):
                raise self._error("text in single quotes after 'like'")
            condition = _typed(field, pattern).like(pattern)
        else:
            raise self._error("a comparison: = != < <= > >= in like is")
        return sa.not_(condition) if negated else condition

    def _compare(self, symbol: str, field: str, value: Value) -> Condition:
        condition: Condition = COMPARISONS[symbol](_typed(field, value), value)
        return condition

    def _field(self) -> str:
        token = self._peek()
        if token.kind not in ("word", "quoted"):
            raise self._error("the name of a field")
        self._next += 1
        return token.text.strip('"')

    def _values(self) -> list[Value]:
        self._need("symbol", "(")
        values = [self._value()]
        while self._take("symbol", ","):
            values.append(self._value())
        self._need("symbol", ")")
        return values

    def _value(self) -> Value:
        token = self._peek()
        if token.kind == "string":
            self._next += 1
            return token.text[1:-1].replace("''", "'")
        if token.kind == "number":
            self._next += 1
            return float(token.text)
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


def _typed(field: str, value: Value) -> Any:
    """The field as a column of the value's type."""
    if field in OWN_FIELDS:
        return OWN_FIELDS[field]
    entry = documents.c.metadata[field]
    if isinstance(value, bool):
        return entry.as_boolean()
    return entry.as_string() if isinstance(value, str) else entry.as_float()
