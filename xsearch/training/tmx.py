"""Translation memories (TMX 1.1 to 1.4) as pairs, read as a stream whatever their size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from xsearch.errors import InvalidArgumentError, PairError
from xsearch.text.tags import UND, canonical_tag, matches
from xsearch.training.bitext import Pair, PairOptions, Skips
from xsearch.training.lines import READ_FAILURES, open_unpacked, torn

MAX_SEGMENT_CHARS = 1_000_000
"""A longer segment is malformed."""

_CHUNK_BYTES = 64 * 1024
# What stands in these is code of the format that was translated (``<b>``, ``\\par``), and is no text...
_CODE = frozenset({"bpt", "ept", "it", "ph", "ut"})
_TEXT_IN_CODE = "sub"  # ... but for this: the text of a footnote or an index entry.


def read_tmx(path: Path, options: PairOptions, skips: Skips) -> Iterator[Pair]:
    """The pairs of each unit (``tu``) between its variants in the source language and those in the target language.

    A variant of ``en-US`` is one of ``en``, and not the other way. Without a target language it is every other
    language of the unit; without a source language it is the header's. White space is squeezed; the text of inline
    elements is kept, but the codes in ``bpt``, ``ept``, ``it``, ``ph`` and ``ut`` are not. ``line`` is where the unit
    begins. ElementTree is built on the same parser but cannot refuse entities.

    Raises:
        PairError: the file declares entities (they can be made to fill any memory), is no XML, or has units but none
            in both languages; or a unit has an empty segment or a variant without a language, unless they are skipped.
    """
    memory = _Memory(path, options)
    with open_unpacked(path) as stream:
        while True:
            try:
                chunk = stream.read(_CHUNK_BYTES)
            except READ_FAILURES as exc:
                skips.add(torn(path, memory.line, exc), exc)
                return
            broken = memory.parse(chunk)
            for found in memory.take():
                if isinstance(found, PairError):
                    skips.add(found)
                else:
                    yield found
            if broken is not None:
                skips.add(torn(path, memory.line, broken), broken)
                return
            if not chunk:
                break
    memory.check_languages()


class _Memory:
    """Follows the parser through the file and collects pairs and errors in the order in which their units end."""

    def __init__(self, path: Path, options: PairOptions) -> None:
        self._path = path
        self._options = options
        self._source_lang = options.source_lang
        self._found: list[Pair | PairError] = []
        self._met: set[str] = set()
        self._given = 0
        self._start = 0  # the line of the unit
        self._problem = ""
        self._variants: list[tuple[str, str]] = []
        self._lang = ""
        self._text: list[str] | None = None  # the open segment
        self._chars = 0
        self._inline: list[str] = []
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.EntityDeclHandler = self._entity
        parser.SkippedEntityHandler = self._skipped_entity
        self._parser = parser

    @property
    def line(self) -> int:
        """The line the parser has reached."""
        return self._parser.CurrentLineNumber

    def parse(self, chunk: bytes) -> Exception | None:
        """Parse some more, empty for the end; gives the error that ends the file, if there is one."""
        try:
            self._parser.Parse(chunk, not chunk)
        except (expat.ExpatError, LookupError, ValueError) as exc:  # the latter two for encodings nobody knows
            return exc
        return None

    def take(self) -> list[Pair | PairError]:
        """What was found since the last call."""
        found, self._found = self._found, []
        return found

    def check_languages(self) -> None:
        """Raise if there were units, and none of them was in the languages asked for."""
        if self._met and not self._given:
            wanted = f"{self._source_lang or 'any'} and {self._options.target_lang or 'another language'}"
            raise PairError(
                str(self._path),
                f"no unit is in {wanted}",
                f"The languages there are {', '.join(sorted(self._met))}",
                "Pass the languages of the two sides",
            )

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        if self._text is not None:
            self._inline.append(name)
        elif name == "header" and not self._source_lang:
            self._source_lang = _tag(attributes.get("srclang", ""))
        elif name == "tu":
            self._start, self._problem, self._variants = self.line, "", []
        elif name == "tuv":
            code = attributes.get("xml:lang", attributes.get("lang", ""))
            self._lang = _tag(code)
            if not code:
                self._problem = "a variant of this unit has no xml:lang"
        elif name == "seg":
            self._text, self._chars = [], 0

    def _end(self, name: str) -> None:
        if self._inline:
            self._inline.pop()
        elif name == "seg" and self._text is not None:
            self._variants.append((self._lang, " ".join("".join(self._text).split())))
            self._text = None
        elif name == "tu":
            self._finish_unit()

    def _characters(self, data: str) -> None:
        if self._text is None or self._in_code():
            return
        self._chars += len(data)
        if self._chars > MAX_SEGMENT_CHARS:
            self._problem = f"a segment of this unit has more than {MAX_SEGMENT_CHARS} characters"
        else:
            self._text.append(data)

    def _in_code(self) -> bool:
        """Whether the innermost element that decides says that this is code."""
        for name in reversed(self._inline):
            if name == _TEXT_IN_CODE:
                return False
            if name in _CODE:
                return True
        return False

    def _finish_unit(self) -> None:
        languages = {lang for lang, _ in self._variants if lang}
        self._met |= languages
        sources = [(lang, text) for lang, text in self._variants if self._source_lang and _is(lang, self._source_lang)]
        wanted = self._options.target_lang
        targets = [
            (wanted or lang, text)
            for lang, text in self._variants
            if (_is(lang, wanted) if wanted else lang and not _is(lang, self._source_lang))
        ]
        if not self._problem and sources and targets and not all(text for _, text in (*sources, *targets)):
            self._problem = "a segment of this unit is empty"
        self._given += bool(sources and targets)
        if self._problem:
            self._found.append(
                PairError(
                    str(self._path),
                    self._problem,
                    "A unit has variants (tuv) with a language and a segment of text each",
                    "Mend the unit, or skip malformed lines (on_error = skip)",
                    line=self._start,
                )
            )
            return
        origin = self._options.origin
        self._found += [
            Pair(source, target, self._source_lang, lang, origin, self._start)
            for _, source in sources
            for lang, target in targets
        ]

    def _entity(self, name: str, *_rest: object) -> None:
        raise PairError(
            str(self._path),
            f"the file declares the entity {name!r}",
            "A translation memory has no need of them, and they can be made to fill any memory",
            "Take the declaration out",
            line=self.line,
        )

    def _skipped_entity(self, name: str, _is_parameter: bool) -> None:
        # Only where a DTD elsewhere might declare it; without a DTD the parser raises.
        self._problem = f"the entity {name!r} in this unit is not known"


def _tag(code: str) -> str:
    """The canonical tag of a code, empty for one that is none (``*all*``, private codes)."""
    try:
        tag = canonical_tag(code)
    except InvalidArgumentError:
        return ""
    return "" if tag == UND else tag


def _is(lang: str, wanted: str) -> bool:
    return bool(lang) and matches(lang, wanted)
