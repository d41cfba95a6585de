from __future__ import annotations

from pathlib import Path

import pytest

from xsearch.corpus import plain
from xsearch.corpus.source import ReadOptions, read_source
from xsearch.records import Document, Skipped


def read(path: Path, content: str | bytes, options: ReadOptions | None = None) -> Document | Skipped:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (item,) = read_source(str(path), options)
    return item


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    assert read(path, "Erste Zeile\r\nZweite\n", ReadOptions(lang="de")) == Document(
        str(path), "Erste Zeile\nZweite\n", "", "de", str(path)
    )


@pytest.mark.parametrize("content", [b"", b" \n\t\n", "\u3000\n".encode(), b"\xef\xbb\xbf"])
def test_white_space_alone_is_no_text(tmp_path: Path, content: bytes) -> None:
    """Pitfall 21: an empty document is reported, not indexed."""
    path = tmp_path / "empty.txt"
    assert read(path, content) == Skipped(str(path), "no text", empty=True)


def test_binary_data_called_txt_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "picture.txt"
    assert read(path, b"\x89PNG\0\0\0\r" * 100) == Skipped(
        str(path), "this is binary data or text in an unknown encoding"
    )


def test_a_file_too_large_for_one_document_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pitfall 22: memory does not follow the size of a file."""
    monkeypatch.setattr(plain, "MAX_DOCUMENT_BYTES", 2**20)
    path = tmp_path / "large.txt"
    assert read(path, b"x" * (2**20 + 1)) == Skipped(str(path), "larger than 1 MiB, which is too much for one document")


def test_markdown_with_front_matter(tmp_path: Path) -> None:
    path = tmp_path / "post.md"
    item = read(
        path,
        "---\n"
        'title: "Eine Reise: der Anfang"\n'
        "lang: de\n"
        "date: 2024-05-01\n"
        "draft: false\n"
        "weight: 3\n"
        "ratio: 0.5  # a comment\n"
        "tags: [Berge, 'See']\n"
        "places:\n"
        "  - Köln\n"
        "  - Bonn\n"
        "---\n\n# Der Anfang\n\nWir fuhren *früh* los.\n",
    )
    assert item == Document(
        str(path),
        "# Der Anfang\n\nWir fuhren *früh* los.\n",
        "Eine Reise: der Anfang",
        "de",
        str(path),
        {
            "date": "2024-05-01",
            "draft": False,
            "weight": 3,
            "ratio": 0.5,
            "tags": ["Berge", "See"],
            "places": ["Köln", "Bonn"],
        },
    )


@pytest.mark.parametrize(
    ("content", "title", "text"),
    [
        ("# One **two** `three` #\n\nBody\n", "One two three", "Body\n"),
        ("\n# [Link](http://example.org) here\nBody", "Link here", "Body"),
        ("Title\n=====\n\nBody\n", "Title", "Body\n"),
        ("Intro\n\n# Later\n\nBody\n", "Later", "Intro\n\n# Later\n\nBody\n"),
        ("```\n# comment\n```\nBody\n", "", "```\n# comment\n```\nBody\n"),
        ("## Second level\n\nBody\n", "", "## Second level\n\nBody\n"),
        ("#hashtag\n", "", "#hashtag\n"),
        ("---\ntitle: Same\n---\n# Same\nBody", "Same", "Body"),
        ("# عنوان\n\nنص", "عنوان", "نص"),
    ],
)
def test_the_title_of_markdown(tmp_path: Path, content: str, title: str, text: str) -> None:
    item = read(tmp_path / "a.md", content)
    assert isinstance(item, Document)
    assert (item.title, item.text) == (title, text)


@pytest.mark.parametrize("content", ["---\nJust prose.\n---\nMore\n", "---\nkey: never closed\n", "----\na: b\n----\n"])
def test_a_thematic_break_opens_no_front_matter(tmp_path: Path, content: str) -> None:
    item = read(tmp_path / "a.md", content)
    assert isinstance(item, Document)
    assert (item.text, dict(item.metadata)) == (content, {})


def test_the_language_given_goes_before_the_declared_one(tmp_path: Path) -> None:
    item = read(tmp_path / "a.md", "---\nlang: de\n---\nText", ReadOptions(lang="nds"))
    assert isinstance(item, Document)
    assert item.lang == "nds"
