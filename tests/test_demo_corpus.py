"""The demo corpus is what its README says: sound files, known languages, questions that have to cross."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[1] / "demo"
CORPUS = DEMO / "corpus"

LANGUAGES = ("en", "de", "es", "fr", "ar", "hi", "vi", "zh", "ru", "ja")
ENCODER_LANGUAGES = frozenset({"en", "de", "es", "ar", "hi", "vi", "zh"})
UNSPACED = frozenset({"zh", "ja"})  # counted in characters, the others in words

FORMATS = {"md": 63, "txt": 8, "html": 5, "jsonl": 8, "csv": 6}
ARTICLE_FORMATS = frozenset({"md", "txt", "html"})
ARTICLE_WORDS, ARTICLE_CHARACTERS = (80, 220), (150, 400)
RECORD_WORDS, RECORD_CHARACTERS = (50, 80), (120, 160)

RUN_WORDS, RUN_CHARACTERS = 8, 16

SCRIPTS = {"ar": "ARABIC", "hi": "DEVANAGARI", "ru": "CYRILLIC", "zh": "CJK"}  # Japanese is a mixture, the rest LATIN


@dataclass(frozen=True)
class DemoText:
    """One article or record of the demo corpus; ``place`` is its path under ``corpus/``, records with ``#id``."""

    place: str
    kind: str
    lang: str
    topic: str
    title: str
    body: str

    @property
    def length(self) -> int:
        """Characters without white space in Chinese and Japanese, words elsewhere; without the title."""
        return sum(map(len, self.body.split())) if self.lang in UNSPACED else len(self.body.split())

    @property
    def paragraphs(self) -> list[str]:
        return [" ".join(part.split()) for part in re.split(r"\n\s*\n", self.body) if part.strip()]


class _Page(HTMLParser):
    """Language, topic, title and paragraphs of one of our HTML files."""

    def __init__(self) -> None:
        super().__init__()
        self.lang = self.topic = self.charset = self.direction = ""
        self.texts: dict[str, list[str]] = {"title": [], "h1": [], "p": []}
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "html":
            self.lang, self.direction = values.get("lang", ""), values.get("dir", "")
        elif tag == "meta":
            self.charset = values.get("charset", self.charset)
            if values.get("name") == "topic":
                self.topic = values["content"]
        elif tag in self.texts:
            self._inside = tag
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[self._inside][-1] += data


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8")


def _page(path: Path) -> _Page:
    page = _Page()
    page.feed(_read(path))
    page.close()
    return page


def _front_matter(text: str) -> tuple[dict[str, str], str]:
    match = re.fullmatch(r"---\n((?:[a-z]+: [^\n]+\n)+)---\n(.*)", text, flags=re.DOTALL)
    assert match is not None, f"no front matter: {text[:60]!r}"
    fields = dict(line.split(": ", 1) for line in match.group(1).splitlines())
    return fields, match.group(2)


def _manifest() -> dict[str, tuple[str, str, str]]:
    """Place -> (language, topic, title), as the hand-kept list has it."""
    rows = [line.split("\t") for line in _read(DEMO / "manifest.tsv").splitlines()]
    assert rows[0] == ["place", "lang", "topic", "title"]
    places = {place: (lang, topic, title) for place, lang, topic, title in rows[1:]}
    assert len(places) == len(rows) - 1
    return places


def _markdown(path: Path) -> DemoText:
    fields, rest = _front_matter(_read(path))
    title, body = rest.split("\n", 1)
    place = path.relative_to(CORPUS).as_posix()
    return DemoText(place, "md", fields["lang"], fields["topic"], title.removeprefix("# "), body)


def _plain(path: Path) -> DemoText:
    place = path.relative_to(CORPUS).as_posix()
    lang, topic, _ = _manifest()[place]  # the file itself does not tell
    title, body = _read(path).split("\n", 1)
    return DemoText(place, "txt", lang, topic, title, body)


def _web(path: Path) -> DemoText:
    page = _page(path)
    place = path.relative_to(CORPUS).as_posix()
    return DemoText(place, "html", page.lang, page.topic, page.texts["title"][0], "\n\n".join(page.texts["p"]))


def _records() -> Iterator[DemoText]:
    notes = [json.loads(line) for line in _read(CORPUS / "notes.jsonl").splitlines()]
    with (CORPUS / "records.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for file, kind, records in (("notes.jsonl", "jsonl", notes), ("records.csv", "csv", rows)):
        for record in records:
            assert list(record) == ["id", "title", "text", "lang", "topic"]
            place = f"{file}#{record['id']}"
            yield DemoText(place, kind, record["lang"], record["topic"], record["title"], record["text"])


@cache
def _texts() -> tuple[DemoText, ...]:
    files = sorted(path for path in CORPUS.rglob("*") if path.is_file())
    readers = {".md": _markdown, ".txt": _plain, ".html": _web}
    articles = [readers[path.suffix](path) for path in files if path.suffix in readers]
    others = {path.name for path in files if path.suffix not in readers}
    assert others == {"notes.jsonl", "records.csv"}
    return (*articles, *_records())


def _languages_of_topics() -> dict[str, dict[str, str]]:
    """Topic -> {language: format}."""
    table: dict[str, dict[str, str]] = defaultdict(dict)
    for text in _texts():
        assert text.lang not in table[text.topic], f"{text.topic} twice in {text.lang}"
        table[text.topic][text.lang] = text.kind
    return dict(table)


def _queries() -> list[list[str]]:
    return [line.split("\t") for line in _read(DEMO / "queries.tsv").splitlines()]


def readme_table() -> str:
    """The topic by language table as README.md has to show it; a cell names the format."""
    table = _languages_of_topics()
    lines = ["| topic | " + " | ".join(LANGUAGES) + " |", "|---" * (len(LANGUAGES) + 1) + "|"]
    for topic in sorted(table):
        lines.append(f"| {topic} | " + " | ".join(table[topic].get(lang, "") for lang in LANGUAGES) + " |")
    totals = Counter(text.lang for text in _texts())
    lines.append("| **total** | " + " | ".join(str(totals[lang]) for lang in LANGUAGES) + " |")
    return "\n".join(lines)


def _runs(text: str, *, lang: str) -> set[str]:
    """Every run of 8 words, or of 16 characters in Chinese and Japanese, without punctuation and case."""
    letters = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in unicodedata.normalize("NFC", text))
    words = letters.casefold().split()
    if lang in UNSPACED:
        joined = "".join(words)
        return {joined[i : i + RUN_CHARACTERS] for i in range(len(joined) - RUN_CHARACTERS + 1)}
    return {" ".join(words[i : i + RUN_WORDS]) for i in range(len(words) - RUN_WORDS + 1)}


def test_runs_ignore_case_and_punctuation_but_keep_vowel_signs() -> None:
    assert _runs("One, two; THREE four - five six. Seven “eight” nine", lang="en") == {
        "one two three four five six seven eight",
        "two three four five six seven eight nine",
    }
    assert _runs("यह एक छोटा सा वाक्य है जो पूरा", lang="hi") == {"यह एक छोटा सा वाक्य है जो पूरा"}
    assert _runs("一二三四，五六七八。九十甲乙\n丙丁戊己庚", lang="zh") == {
        "一二三四五六七八九十甲乙丙丁戊己",
        "二三四五六七八九十甲乙丙丁戊己庚",
    }


def test_counts_by_format_language_and_topic() -> None:
    texts = _texts()
    assert Counter(text.kind for text in texts) == FORMATS
    articles = [text for text in texts if text.kind in ARTICLE_FORMATS]
    assert len(articles) >= 72
    by_language = Counter(text.lang for text in articles)
    assert set(by_language) == set(LANGUAGES)
    too_few = {lang: n for lang, n in by_language.items() if n < (8 if lang in ENCODER_LANGUAGES else 5)}
    assert too_few == {}
    assert len({text.topic for text in articles}) >= 18


def test_every_topic_is_missing_in_several_languages() -> None:
    for topic, languages in _languages_of_topics().items():
        assert 2 <= len(languages) <= 6, topic
        assert len(set(LANGUAGES) - set(languages)) >= 3, topic
        assert ENCODER_LANGUAGES & set(languages), topic


def test_front_matter_agrees_with_the_path() -> None:
    for path in sorted(CORPUS.rglob("*.md")):
        fields, rest = _front_matter(_read(path))
        assert list(fields) == ["lang", "topic", "year"], path
        assert fields == {"lang": path.parent.name, "topic": path.stem, "year": "2026"}, path
        assert re.match(r"# \S[^\n]*\n\n\S", rest), path


def test_web_pages_name_language_charset_and_direction() -> None:
    for path in sorted(CORPUS.rglob("*.html")):
        page = _page(path)
        assert page.lang in LANGUAGES, path
        assert page.charset == "utf-8", path
        assert page.direction == ("rtl" if page.lang == "ar" else ""), path
        assert page.topic == path.stem, path
        assert page.texts["title"] == page.texts["h1"], path


def test_manifest_lists_every_text_once() -> None:
    assert _manifest() == {text.place: (text.lang, text.topic, text.title) for text in _texts()}


def test_files_are_utf8_nfc_and_clean() -> None:
    for path in sorted(path for path in DEMO.rglob("*") if path.is_file()):
        text = _read(path)
        assert unicodedata.is_normalized("NFC", text), path
        assert text.endswith("\n") and not text.endswith("\n\n"), path
        bad = {hex(ord(c)) for c in text if unicodedata.category(c) in {"Cc", "Cf", "Co", "Cs", "Cn"}} - {"0xa", "0x9"}
        assert bad == set(), path


def test_no_text_is_too_short_or_too_long() -> None:
    for text in _texts():
        if text.kind in ARTICLE_FORMATS:
            low, high = ARTICLE_CHARACTERS if text.lang in UNSPACED else ARTICLE_WORDS
            assert 2 <= len(text.paragraphs) <= 4, text.place
        else:
            low, high = RECORD_CHARACTERS if text.lang in UNSPACED else RECORD_WORDS
        assert low <= text.length <= high, (text.place, text.length)


def test_no_paragraph_and_no_run_of_words_occurs_twice() -> None:
    paragraphs = Counter(paragraph for text in _texts() for paragraph in text.paragraphs)
    assert [paragraph for paragraph, n in paragraphs.items() if n > 1] == []
    seen: dict[str, str] = {}
    for text in _texts():
        for run in _runs(text.body, lang=text.lang):
            assert seen.setdefault(run, text.place) == text.place, run


def test_texts_are_in_the_script_of_their_language() -> None:
    for text in _texts():
        letters = [unicodedata.name(c).split()[0] for c in text.body if c.isalpha()]
        counts = Counter(letters)
        if text.lang == "ja":
            assert counts["HIRAGANA"] > 0.2 * len(letters), text.place
        else:
            assert counts[SCRIPTS.get(text.lang, "LATIN")] > 0.95 * len(letters), text.place
            assert counts["HIRAGANA"] + counts["KATAKANA"] == 0, text.place


def test_queries_have_to_cross_languages() -> None:
    queries, table = _queries(), _languages_of_topics()
    assert len(queries) >= 40
    assert all(len(query) == 4 and all(field == field.strip() != "" for field in query) for query in queries)
    assert len({query_id for query_id, _, _, _ in queries}) == len(queries)
    assert len({text for _, _, text, _ in queries}) == len(queries)
    for query_id, query_lang, text, topic in queries:
        assert re.fullmatch(r"q\d\d", query_id)
        assert query_lang in ENCODER_LANGUAGES, query_id
        assert query_lang not in table[topic], f"{query_id}: {topic} is there in {query_lang}"
        assert text.endswith(("?", "？", "؟")), query_id
    assert {lang for _, lang, _, _ in queries} == ENCODER_LANGUAGES
    assert {topic for _, _, _, topic in queries} == set(table)


def test_readme_shows_the_true_table() -> None:
    readme = _read(DEMO / "README.md")
    assert readme_table() in readme
    assert f"{len(_queries())} questions" in readme
    for kind, words in (("md", "Markdown"), ("txt", "plain text"), ("html", "articles as"), ("jsonl", "short notes,")):
        assert f"| {FORMATS[kind]} {words}" in readme


@pytest.mark.shared
def test_nothing_is_taken_from_mlqa(shared: Path) -> None:
    ours = {False: set[str](), True: set[str]()}
    for text in _texts():
        for part in (text.title, text.body):
            ours[text.lang in UNSPACED] |= _runs(part, lang=text.lang)
    contexts: set[str] = set()
    with zipfile.ZipFile(shared / "data" / "eval" / "MLQA_V1-dev.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                articles = json.loads(archive.read(name))["data"]
                contexts |= {p["context"] for article in articles for p in article["paragraphs"]}
    assert len(contexts) > 3000
    for context in contexts:
        assert _runs(context, lang="en") & ours[False] == set()
        assert _runs(context, lang="zh") & ours[True] == set()
