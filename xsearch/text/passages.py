"""A document's text cut into passages that fit the encoder: on sentence boundaries, in any script, nothing lost."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from xsearch.errors import InvalidArgumentError

CharSpan = tuple[int, int]
TokenSpans = Callable[[Sequence[str]], list[list[CharSpan]]]
"""For each text the character span of every token (an encoder's ``token_offsets``)."""

# Sentences tokenised in one call; bounds what a very long document takes.
SENTENCES_AT_ONCE = 2048
# Characters that the sentence splitter is given at a time. Its time grows with the square of the text in Chinese
# (100,000 characters: 1.2 s at once, 0.1 s so) and after open quotation marks, and behind the first 10,000 characters
# it no longer sees blank lines.
WINDOW_CHARS = 8192
# No word piece is longer in the vocabularies we know (18 in mBERT's). A longer token is text that the vocabulary does
# not know, taken as one however long it is; it counts as one for each so many characters, or a whole book in an
# unknown script would be one passage.
LONGEST_TOKEN_CHARS = 18
# A title longer than this share of a passage would crowd out the text, and is left out of what is encoded.
TITLE_SHARE = 3
_SURROGATES = re.compile("[\ud800-\udfff]")
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
_WIDE_SPACES = re.compile(r"[^\S\x00-\x7f]")


@dataclass(frozen=True, slots=True)
class PassageLimits:
    """How long a passage may be, in the encoder's tokens.

    Attributes:
        target: tokens to fill a passage with, title and special tokens included.
        hard: tokens that the encoder reads; no passage is longer.
        overhead: tokens that the encoder adds (special tokens, prompt).
    """

    target: int
    hard: int
    overhead: int

    def __post_init__(self) -> None:
        if not self.overhead + 8 <= self.target <= self.hard:
            raise InvalidArgumentError(
                f"A passage is to have {self.target} tokens",
                f"It must have between {self.overhead + 8} and {self.hard}, which is what the encoder reads",
                "Pass --passage-tokens with a number in that range",
            )


@dataclass(frozen=True, slots=True)
class Piece:
    """A passage before it has a language: ``text == document[start:end]``.

    Attributes:
        tokens: of what is encoded, title and special tokens included.
    """

    start: int
    end: int
    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Split:
    """The passages of one document.

    Attributes:
        pieces: in order; together they hold every character of the document but white space between them.
        title: what is put before each passage when it is encoded; empty where the title is too long for that.
    """

    pieces: tuple[Piece, ...]
    title: str


def split_text(text: str, title: str, *, lang: str, limits: PassageLimits, token_spans: TokenSpans) -> Split:
    """The passages of a text, filled with whole sentences up to ``limits.target`` tokens.

    A sentence that does not fit is cut between words, or between characters where there are none, never inside a
    character with its marks.

    Args:
        text: the document; may be empty, which gives no passage.
        title: counted into every passage.
        lang: BCP-47 tag; chooses the sentence rules.
    """
    kept_title, title_tokens = _kept_title(title, limits, token_spans)
    fixed = limits.overhead + title_tokens
    spans = list(_pack(_units(text, lang, limits.target - fixed, token_spans), text, limits.target - fixed))
    texts = [with_title(kept_title, text[start:end]) for start, end in spans]
    pieces: list[Piece] = []
    for (start, end), tokens in zip(spans, token_spans(texts) if texts else [], strict=True):
        # Sentences counted one by one can come out a token or two shorter than when they stand together.
        pieces.extend(_fit(text, (start, end), len(tokens) + limits.overhead, kept_title, limits, token_spans))
    return Split(pieces=tuple(pieces), title=kept_title)


def encoded_title(title: str, *, limits: PassageLimits, token_spans: TokenSpans) -> str:
    """The title that is encoded with each passage of a document; empty where it is too long for that."""
    return _kept_title(title, limits, token_spans)[0]


def with_title(title: str, text: str) -> str:
    """What is encoded for a passage: its document's title, a space, its text."""
    return f"{title} {text}" if title else text


def _kept_title(title: str, limits: PassageLimits, token_spans: TokenSpans) -> tuple[str, int]:
    """The title as it is encoded, and its tokens."""
    kept = title.strip()
    tokens = len(token_spans([kept])[0]) if kept else 0
    return ("", 0) if tokens > (limits.target - limits.overhead) // TITLE_SHARE else (kept, tokens)


def sentence_spans(text: str, lang: str) -> list[CharSpan]:
    """The sentences of a text as character spans that touch each other and cover it all.

    Spaces after a sentence belong to it; a blank line is a span of its own.
    """
    from sentencex import segment

    splittable = _splittable(text)
    spans: list[CharSpan] = []
    start = 0
    while start < len(text):
        window = splittable[start : start + WINDOW_CHARS]
        lengths = [len(sentence) for sentence in segment(lang.split("-")[0], window)]
        if start + len(window) < len(text):
            # The last sentence may go on behind the window: it begins the next one.
            lengths = lengths[:-1] or [_window_cut(window)]
        for length in lengths:
            spans.append((start, start + length))
            start += length
    return spans


def encodable(text: str) -> str:
    """The text as UTF-8 can hold it: a surrogate becomes U+FFFD, one character for one, so that offsets stay right."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def _splittable(text: str) -> str:
    """The text, character for character, as the sentence splitter can bear it.

    sentencex 1.0.32 panics (an exception that nobody can catch by its name) on ``"A\\u00a0."``: a capital, a white
    space that is not ASCII, a full stop.
    """
    return text if text.isascii() else _WIDE_SPACES.sub(" ", _LINE_ENDS.sub("\n", encodable(text)))


def _window_cut(window: str) -> int:
    """Where a sentence that fills the window is cut: after its last space, or else between two characters."""
    space = window.rfind(" ", len(window) // 2)
    return space + 1 if space >= 0 else _character_start(window, 0, len(window) - 1)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A run of text that is not cut further, and its tokens."""

    start: int
    end: int
    tokens: int


def _units(text: str, lang: str, budget: int, token_spans: TokenSpans) -> Iterator[_Unit]:
    """The sentences of the text; one that is longer than ``budget`` tokens comes in several units."""
    sentences = sentence_spans(text, lang)
    for first in range(0, len(sentences), SENTENCES_AT_ONCE):
        some = sentences[first : first + SENTENCES_AT_ONCE]
        for (start, end), known in zip(some, token_spans([text[a:b] for a, b in some]), strict=True):
            tokens = _counted(known, text, (start, end))
            if len(tokens) <= budget:
                yield _Unit(start, end, len(tokens))
            else:
                yield from _cut_sentence(text, (start, end), tokens, budget)


def _counted(tokens: Sequence[CharSpan], text: str, sentence: CharSpan) -> Sequence[CharSpan]:
    """The tokens; what is longer than ``LONGEST_TOKEN_CHARS`` in parts of that length.

    That is a token, or a run of characters between two for which the vocabulary has none at all, such as joiners
    without anything to join; white space is left alone.
    """
    start, end = sentence
    few = end - start > LONGEST_TOKEN_CHARS * (len(tokens) + 1)
    if not few and all(end - start <= LONGEST_TOKEN_CHARS for start, end in tokens):
        return tokens
    spans: list[CharSpan] = []
    place = 0
    for first, last in (*tokens, (end - start, end - start)):
        if first - place > LONGEST_TOKEN_CHARS and text[start + place : start + first].strip():
            spans.append((place, first))
        if first < last:
            spans.append((first, last))
        place = max(place, last)
    return [
        (begin, min(begin + LONGEST_TOKEN_CHARS, last))
        for first, last in spans
        for begin in range(first, last, LONGEST_TOKEN_CHARS)
    ]


def _cut_sentence(text: str, span: CharSpan, tokens: Sequence[CharSpan], budget: int) -> Iterator[_Unit]:
    """A sentence in units of at most ``budget`` tokens, cut at a space in their last quarter where there is one."""
    start, end = span
    first, begin = 0, start
    while len(tokens) - first > budget:
        last = first + budget
        for place in range(last, max(first, last - max(1, budget // 4)), -1):
            if text[start + tokens[place][0] - 1].isspace() or text[start + tokens[place][0]].isspace():
                last = place
                break
        cut = start + tokens[last][0]
        if cut <= begin:
            # Several tokens that share one character (a ligature, say): it is taken whole.
            cut = start + tokens[last][1]
        cut = _character_start(text, begin, cut)
        yield _Unit(begin, cut, last - first)
        first, begin = last, cut
    yield _Unit(begin, end, len(tokens) - first)


def _character_start(text: str, begin: int, place: int) -> int:
    """Where the character that ``text[place]`` belongs to starts; ``place`` where it fills all from ``begin``."""
    cut = place
    while cut > begin and _continues_character(text, cut):
        cut -= 1
    return cut if cut > begin else place


def _continues_character(text: str, place: int) -> bool:
    """Whether a cut before ``text[place]`` would part a character from its marks, or two joined ones."""
    if place >= len(text):
        return False
    return (
        unicodedata.category(text[place]) in ("Mn", "Mc", "Me")
        or text[place] == "\u200d"
        or text[place - 1] == "\u200d"
        or "\U0001f3fb" <= text[place] <= "\U0001f3ff"
        or "\u1160" <= text[place] <= "\u11ff"
    )


def _pack(units: Iterator[_Unit], text: str, budget: int) -> Iterator[CharSpan]:
    """Units joined to passages of at most ``budget`` tokens, white space at both ends left out.

    A passage that is at least half full ends where a paragraph ends; a last passage under an eighth joins the one
    before where both fit together.
    """
    groups: list[list[_Unit]] = []
    current: list[_Unit] = []
    filled = 0
    for unit in units:
        ends_paragraph = bool(current) and _blank_line(text[current[-1].start : current[-1].end])
        if current and (filled + unit.tokens > budget or (ends_paragraph and filled * 2 >= budget)):
            groups.append(current)
            current, filled = [], 0
        current.append(unit)
        filled += unit.tokens
        if len(groups) > 1:
            yield from _trimmed(text, *_reach(groups.pop(0)))
    if groups and filled * 8 < budget and sum(unit.tokens for unit in groups[-1]) + filled <= budget:
        groups[-1].extend(current)
    elif current:
        groups.append(current)
    for group in groups:
        yield from _trimmed(text, *_reach(group))


def _blank_line(text: str) -> bool:
    return (text.isspace() and text.count("\n") >= 2) or text.endswith("\n\n")


def _reach(group: Sequence[_Unit]) -> CharSpan:
    return group[0].start, group[-1].end


def _trimmed(text: str, start: int, end: int) -> Iterator[CharSpan]:
    """The span without the white space at its ends; nothing where there is nothing else."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end


def _fit(
    text: str, span: CharSpan, tokens: int, title: str, limits: PassageLimits, token_spans: TokenSpans
) -> Iterator[Piece]:
    """The passage as it is, or halved until each part is at most ``limits.hard`` tokens."""
    waiting = [(span, tokens)]
    while waiting:
        (start, end), tokens = waiting.pop()
        if tokens <= limits.hard or end - start < 2:
            yield Piece(start, end, text[start:end], tokens)
            continue
        middle = (start + end) // 2
        space = text.rfind(" ", start + (end - start) // 4, middle)
        cut = space + 1 if space > 0 else _character_start(text, start, middle)
        for half in ((cut, end), (start, cut)):
            for begin, stop in _trimmed(text, *half):
                count = len(token_spans([with_title(title, text[begin:stop])])[0]) + limits.overhead
                waiting.append(((begin, stop), count))
