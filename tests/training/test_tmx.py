"""Translation memories: several variants, inline codes, old attributes, damage, and entities that explode."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from xsearch.errors import PairError
from xsearch.training import tmx
from xsearch.training.pairs import OnError, Pair, PairOptions, read_pairs

EN_DE = PairOptions(source_lang="en", target_lang="de")
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'


def tu(*variants: tuple[str, str]) -> str:
    inner = "".join(f'<tuv xml:lang="{lang}"><seg>{text}</seg></tuv>' for lang, text in variants)
    return f"<tu>{inner}</tu>\n"


def memory(*units: str, srclang: str = "en", head: str = HEAD) -> str:
    return f'{head}<tmx version="1.4">\n<header srclang="{srclang}"/>\n<body>\n{"".join(units)}</body></tmx>\n'


def write(folder: Path, content: str | bytes, name: str = "mem.tmx") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def sides(path: Path, options: PairOptions = EN_DE) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in read_pairs(path, options)]


def test_units_become_pairs_with_the_line_they_begin_at(tmp_path: Path) -> None:
    content = memory(tu(("en", "A dog"), ("de", "Ein Hund")), tu(("de", "Eine Katze"), ("en", "A\n   cat")))
    expected = [Pair("A dog", "Ein Hund", "en", "de", "mem", 6), Pair("A cat", "Eine Katze", "en", "de", "mem", 7)]
    assert list(read_pairs(write(tmp_path, content), EN_DE)) == expected
    packed = write(tmp_path, gzip.compress(content.encode()), "mem.en-de.tmx.gz")
    assert list(read_pairs(packed)) == expected
    assert next(read_pairs(write(tmp_path, content, "mem.v1-final.tmx"), EN_DE)).origin == "mem.v1-final"


def test_the_asked_languages_are_taken_out_of_many(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        memory(
            tu(("en-US", "color"), ("en-GB", "colour"), ("de-DE", "Farbe"), ("fr", "couleur")),
            tu(("fr", "seul"), ("de", "allein")),
            tu(("EN", "only English")),
            tu(("zh_TW", "顏色"), ("en", "color"), ("x-private!", "?")),
        ),
    )
    assert sides(path) == [("color", "Farbe"), ("colour", "Farbe")]
    assert sides(path, PairOptions(source_lang="de", target_lang="fr")) == [("Farbe", "couleur"), ("allein", "seul")]
    every = [(pair.target, pair.target_lang) for pair in read_pairs(path)]  # the header's language to all others
    assert every == [("Farbe", "de-DE"), ("couleur", "fr"), ("Farbe", "de-DE"), ("couleur", "fr"), ("顏色", "zh-Hant")]


def test_text_in_inline_elements_is_kept_and_code_is_not(tmp_path: Path) -> None:
    english = (
        'Press <bpt i="1">&lt;b&gt;</bpt>the <hi type="x">red</hi> key<ept i="1">&lt;/b&gt;</ept>'
        '<ph>\\par<sub>see below</sub>{1}</ph> &amp; wait<it pos="end">]</it>.'
    )
    path = write(tmp_path, memory(tu(("en", english), ("de", "Rote Taste <ut>{</ut>drücken."))))
    assert sides(path) == [("Press the red keysee below & wait.", "Rote Taste drücken.")]


def test_the_language_attribute_of_old_versions_and_other_encodings(tmp_path: Path) -> None:
    content = '<?xml version="1.0" encoding="UTF-16"?><tmx><body><tu><tuv lang="EN"><seg>tea</seg></tuv>'
    content += '<tuv lang="DE-AT"><seg>Tee für alle</seg></tuv></tu></body></tmx>'
    assert sides(write(tmp_path, content.encode("utf-16"))) == [("tea", "Tee für alle")]


@pytest.mark.parametrize(
    ("unit", "reason"),
    [
        (tu(("en", "A"), ("de", "  ")), "a segment of this unit is empty"),
        ("<tu><tuv><seg>A</seg></tuv><tuv xml:lang='de'><seg>B</seg></tuv></tu>\n", "no xml:lang"),
        (tu(("en", "A &later; B"), ("de", "B")), "the entity 'later' in this unit is not known"),
        (tu(("en", "A" * 60), ("de", "B")), "more than 50 characters"),
    ],
)
def test_a_malformed_unit_names_its_line(
    tmp_path: Path, unit: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tmx, "MAX_SEGMENT_CHARS", 50)
    path = write(tmp_path, memory(tu(("en", "one"), ("de", "eins")), unit, tu(("en", "two"), ("de", "zwei"))))
    with pytest.raises(PairError, match=reason) as caught:
        sides(path)
    assert str(caught.value).startswith(f"{path}:7: ")
    skipped: list[PairError] = []
    options = PairOptions(source_lang="en", target_lang="de", on_error=OnError.SKIP)
    kept = [pair.source for pair in read_pairs(path, options, on_skip=skipped.append)]
    assert (kept, [error.line for error in skipped]) == (["one", "two"], [7])


def test_a_file_cut_short_gives_what_stands_before(tmp_path: Path) -> None:
    whole = memory(tu(("en", "one"), ("de", "eins")), tu(("en", "two"), ("de", "zwei")))
    path = write(tmp_path, whole[: whole.index("zwei")])
    found = []
    with pytest.raises(PairError, match=r"mem\.tmx:7: the file cannot be read from here on: no element found"):
        for pair in read_pairs(path, EN_DE):
            found.append(pair.target)
    assert found == ["eins"]


@pytest.mark.parametrize("content", ["", "plain text", "<tmx><body></tmx>", '<?xml version="1.0" encoding="x-q"?><a/>'])
def test_what_is_no_xml(tmp_path: Path, content: str) -> None:
    with pytest.raises(PairError, match=r":1: the file cannot be read from here on"):
        sides(write(tmp_path, content))


@pytest.mark.parametrize("on_error", list(OnError))
@pytest.mark.parametrize(
    "declaration",
    [
        '<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">',
        '<!ENTITY b SYSTEM "file:///etc/passwd">',
        '<!ENTITY % b SYSTEM "http://localhost/x.dtd"> %b;',
    ],
)
def test_entities_are_refused(tmp_path: Path, declaration: str, on_error: OnError) -> None:
    content = memory(tu(("en", "&b;"), ("de", "x")), head=f"<!DOCTYPE tmx [{declaration}]>\n")
    options = PairOptions(source_lang="en", target_lang="de", on_error=on_error)
    with pytest.raises(PairError, match=r"mem\.tmx:1: the file declares the entity '[ab]'"):
        list(read_pairs(write(tmp_path, content), options))


def test_languages_that_are_not_there_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, memory(tu(("en", "tea"), ("fr", "thé"))))
    with pytest.raises(PairError, match=r"no unit is in en and de\. The languages there are en, fr"):
        sides(path)
    path = write(tmp_path, memory(tu(("en", "tea"), ("fr", "thé")), srclang="*all*"))
    with pytest.raises(PairError, match="no unit is in any and another language"):
        list(read_pairs(path))


def test_an_empty_memory(tmp_path: Path) -> None:
    assert sides(write(tmp_path, memory())) == []


def test_units_are_given_before_the_file_ends(tmp_path: Path) -> None:
    unit = tu(("en", "tea"), ("de", "Tee"))
    path = write(tmp_path, memory(*[unit] * 5000) + "<broken")
    pairs = read_pairs(path, EN_DE)
    assert next(pairs).line == 6
