"""The filters, rule by rule, and the report that counts what they remove."""

from __future__ import annotations

import json

import pytest

from xsearch.errors import InvalidArgumentError, PairError
from xsearch.training.filters import FilterReport, LanguageCheck, PairFilters, Reason, filtered, length_ratio
from xsearch.training.overlap import EvaluationGuard
from xsearch.training.pairs import Pair

CONTEXT = "The old lighthouse on the northern cape was built of red brick in 1871."


def pair(source: str, target: str, lang: str = "de", origin: str = "news", source_lang: str = "en") -> Pair:
    return Pair(source, target, source_lang, lang, origin, 1)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (pair("Good morning", "Guten Morgen"), None),
        (pair("Good morning", "早上好", "zh"), None),
        (pair("I will go to the market tomorrow morning with my sister.", "我明天早上和妹妹去市场。", "zh"), None),
        (pair("Good morning", "Good morning"), Reason.IDENTICAL),
        (pair("GOOD morning", "Good Morning"), Reason.IDENTICAL),
        (pair("Good morning", "Guten Morgen", "ar"), Reason.SCRIPT),
        (pair("Доброе утро", "Guten Morgen"), Reason.SCRIPT),  # the source is no English
        (pair("ninety", "90"), Reason.SCRIPT),  # no letters at all
        (pair("Yes!", "!!!"), Reason.SCRIPT),
        (pair("Welcome to the browser", "Firefox Browser iOS und Android ب", "ar"), Reason.SCRIPT),
        (pair("The Azure IoT hub", "Azure IoT 中心", "zh"), None),
        (pair("reading glasses", "めがね", "ja"), None),
        (pair("reading glasses", "眼鏡", "ja"), None),
        (pair("reading glasses", "めがね", "zh"), Reason.SCRIPT),
        (pair("good day", "dobar dan", "sr-Latn"), None),
        (pair("good day", "dobar dan", "sr"), Reason.SCRIPT),
        (pair("good day", "안녕하세요", "ko"), None),
        (pair("good day", "ꦱꦸꦒꦼꦁ", "xyz"), None),  # a language we know no script for
        (pair("Soon.", "Eines Tages wird aus diesem Samen ein schöner großer Baum."), Reason.RATIO),
        (pair("What is the plot of The Man Who Sold His Skin?", "皮", "ja"), Reason.RATIO),
        (pair("a" * 2001, "Guten Morgen"), Reason.LONG),
    ],
)
def test_rules(given: Pair, reason: Reason | None) -> None:
    assert PairFilters().reason_against(given) is reason


@pytest.mark.parametrize(
    ("given", "ratio"),
    [
        (pair("Good morning", "早上好", "zh"), (12 + 10) / (3 / 0.35 + 10)),
        (pair("x" * 10, "y" * 30), 40 / 20),
        (pair("y" * 30, "x" * 10), 40 / 20),
        (pair("สวัสดี", "hello", "en", source_lang="th"), (6 / 0.87 + 10) / 15),
        (pair("same", "size"), 1.0),
    ],
)
def test_length_ratio(given: Pair, ratio: float) -> None:
    assert length_ratio(given) == pytest.approx(ratio)


def test_every_threshold_can_be_moved() -> None:
    assert PairFilters(min_chars=3).reason_against(pair("ox", "Ochse")) is Reason.SHORT
    assert PairFilters(min_chars=2).reason_against(pair("ox", "Ochse")) is None
    assert PairFilters(max_chars=5).reason_against(pair("ox", "Ochsen")) is Reason.LONG
    assert PairFilters(max_length_ratio=1.5).reason_against(pair("x" * 10, "y" * 20)) is None
    assert PairFilters(max_length_ratio=1.4).reason_against(pair("x" * 10, "y" * 20)) is Reason.RATIO
    assert PairFilters(drop_identical=False).reason_against(pair("Berlin", "Berlin")) is None
    mixed = pair("Cloud", "Cloud облако", "ru")  # 6 of 11 letters
    assert PairFilters(min_script_share=0.54).reason_against(mixed) is None
    assert PairFilters(min_script_share=0.55).reason_against(mixed) is Reason.SCRIPT
    assert PairFilters(language_check=LanguageCheck.OFF).reason_against(pair("Yes!", "!!!")) is None
    # Even at a share of nothing there must be a letter.
    assert PairFilters(min_script_share=0).reason_against(pair("Yes!", "!!!")) is Reason.SCRIPT


def test_names_may_be_the_same_in_both_languages() -> None:
    filters = PairFilters(term_origins=frozenset({"titles"}))
    assert filters.reason_against(pair("Nvidia", "Nvidia", "zh", "titles")) is None
    assert filters.reason_against(pair("Nvidia", "Nvidia", "zh", "news")) is Reason.IDENTICAL
    assert filters.reason_against(pair("Nvidia", "Nvidia Inc", "zh", "titles")) is Reason.SCRIPT


def test_the_detector_finds_what_the_script_does_not_tell() -> None:
    french = "Je ne sais pas où se trouve la gare, mais mon frère le sait."
    given = pair("I do not know where the station is, but my brother does.", french)
    assert PairFilters().reason_against(given) is None
    detect = PairFilters(language_check=LanguageCheck.DETECT)
    assert detect.reason_against(given) is Reason.LANGUAGE
    assert detect.reason_against(pair(given.source, french, "fr")) is None
    assert detect.reason_against(pair("Where is the station?", "車站在哪裡呢？我不知道。", "zh-Hant")) is None
    assert PairFilters(language_check=LanguageCheck.DETECT, min_confidence=1.0).reason_against(given) is None


def test_evaluation_goes_first_on_either_side() -> None:
    filters = PairFilters(guard=EvaluationGuard([CONTEXT], ["Wer hat das gebaut?"]))
    assert filters.reason_against(pair(CONTEXT, CONTEXT)) is Reason.EVALUATION
    assert filters.reason_against(pair("Who built it?", "wer hat das gebaut")) is Reason.EVALUATION
    assert filters.reason_against(pair("Who built it?", "Wer hat es gebaut?")) is None


def test_filtered_counts_everything() -> None:
    filters = PairFilters(guard=EvaluationGuard([CONTEXT]))
    given = [
        pair("Good morning", "Guten Morgen"),
        pair("good  MORNING", "guten Morgen", origin="web"),  # the same but for case and white space
        pair("Good morning", "Guten Morgen!"),  # another translation
        pair("Good morning", "Goedemorgen", "nl"),
        pair("Good morning", "Good morning"),
        pair("See: " + CONTEXT, "Siehe da."),
        pair("Good evening", "Guten Abend", origin="web"),
    ]
    report = FilterReport()
    report.add_malformed(PairError("a.tsv", "g", "e", "r", line=3))
    report.add_malformed(PairError("a.tsv", "g", "e", "r", line=5))
    assert list(filtered(given, filters, report)) == [given[0], given[2], given[3], given[6]]
    assert (report.seen, report.kept) == (7, 4)
    assert report.removed(Reason.DUPLICATE) == 1
    assert report.removed(Reason.DUPLICATE, origin="news") == 0
    assert report.to_dict() == {
        "seen": 7,
        "kept": 4,
        "removed": {"evaluation overlap": 1, "identical sides": 1, "duplicate": 1},
        "malformed": {"a.tsv": 2},
        "sources": [
            {"origin": "news", "languages": "en>de", "seen": 4, "kept": 2,
             "removed": {"evaluation overlap": 1, "identical sides": 1}},
            {"origin": "news", "languages": "en>nl", "seen": 1, "kept": 1, "removed": {}},
            {"origin": "web", "languages": "en>de", "seen": 2, "kept": 1, "removed": {"duplicate": 1}},
        ],
    }  # fmt: skip
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()
    assert report.table().splitlines() == [
        "source  seen  kept  evaluation overlap  identical sides  duplicate",
        "news       5     3                   1                1          0",
        "web        2     1                   0                0          1",
        "sum        7     4                   1                1          1",
        "malformed lines skipped: 2",
    ]


def test_duplicates_may_be_kept() -> None:
    twice = [pair("Good morning", "Guten Morgen")] * 2
    assert list(filtered(twice, PairFilters(drop_duplicates=False), FilterReport())) == twice


def test_an_empty_report() -> None:
    report = FilterReport()
    assert list(filtered([], PairFilters(), report)) == []
    assert report.to_dict() == {"seen": 0, "kept": 0, "removed": {}, "malformed": {}, "sources": []}
    assert report.table() == "source  seen  kept\nsum        0     0"


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"min_chars": 0}, "min_chars is at least 1"),
        ({"min_chars": 9, "max_chars": 8}, "at most max_chars"),
        ({"max_length_ratio": 0.9}, "max_length_ratio is at least 1"),
        ({"min_script_share": 1.1}, "min_script_share lies"),
        ({"min_confidence": float("nan")}, "min_confidence lies"),
    ],
)
def test_filters_that_let_nothing_pass_are_refused(settings: dict[str, float], rule: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rule):
        PairFilters(**settings)  # type: ignore[arg-type]
