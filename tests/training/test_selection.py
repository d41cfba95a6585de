"""What is chosen of the data: shares, limits, near-twins, passages of rows that follow one another, and chance."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsearch.training.bitext import Pair
from xsearch.training.selection import Example, Kind, allot, english_examples, passages, select, twin_key

HE = "He worked for several years as a respected engineer in northern Portugal before the revolution."
SHE = "She worked for several years as a respected engineer in northern Portugal before the revolution."
TURNED = "Before the revolution. In northern Portugal for several years he worked as a respected engineer"
OTHER = "He worked for several years as a respected engineer in northern Germany before the revolution."


def pair(source: str, line: int, origin: str = "news", lang: str = "de") -> Pair:
    return Pair(source, f"<{source}>", "en", lang, origin, line)


def rows(count: int, origin: str = "news", *, words: int = 12, start: int = 1, step: int = 1) -> list[Pair]:
    """Rows of different words, long enough to make passages of, and of different lengths about ``words``."""
    lengths = [max(1, words + (row % 5) - 2) for row in range(count)]
    texts = [" ".join(f"{origin}word{row}x{place}" for place in range(length)) for row, length in enumerate(lengths)]
    return [pair(text, start + step * row, origin) for row, text in enumerate(texts)]


ALWAYS = settings(derandomize=True, deadline=None)


class TestAllot:
    @pytest.mark.parametrize(
        ("count", "shares", "limits", "parts"),
        [
            (10, {"a": 1.0, "b": 1.0}, {"a": 100, "b": 100}, {"a": 5, "b": 5}),
            (10, {"a": 3.0, "b": 1.0}, {"a": 100, "b": 100}, {"a": 7, "b": 2}),
            (10, {"a": 3.0, "b": 1.0}, {"a": 4, "b": 100}, {"a": 4, "b": 6}),
            (10, {"a": 1.0, "b": 1.0, "c": 2.0}, {"a": 1, "b": 3, "c": 100}, {"a": 1, "b": 3, "c": 6}),
            (10, {"a": 1.0, "b": 0.0}, {"a": 3, "b": 100}, {"a": 3, "b": 0}),
            (10, {"a": 1.0}, {"a": 0}, {"a": 0}),
            (0, {"a": 1.0}, {"a": 5}, {"a": 0}),
            (5, {}, {}, {}),
        ],
    )
    def test_by_hand(self, count: int, shares: dict[str, float], limits: dict[str, int], parts: dict[str, int]) -> None:
        assert allot(count, shares, limits) == parts

    @ALWAYS
    @given(
        st.integers(0, 5000),
        st.dictionaries(
            st.text(min_size=1, max_size=3), st.tuples(st.floats(0, 100), st.integers(0, 1000)), max_size=8
        ),
    )
    def test_sums_and_limits(self, count: int, parts: dict[str, tuple[float, int]]) -> None:
        shares = {key: share if share > 1e-3 else 0.0 for key, (share, _) in parts.items()}
        limits = {key: limit for key, (_, limit) in parts.items()}
        quotas = allot(count, shares, limits)
        assert quotas.keys() == shares.keys()
        assert all(0 <= quotas[key] <= limits[key] for key in quotas)
        assert all(quotas[key] == 0 for key in quotas if shares[key] == 0)
        wanted = min(count, sum(limits[key] for key in quotas if shares[key] > 0))
        assert wanted - len(quotas) <= sum(quotas.values()) <= wanted

    @ALWAYS
    @given(st.integers(1, 2000), st.lists(st.floats(0.1, 50), min_size=2, max_size=6))
    def test_parts_are_proportional_where_nothing_is_short(self, count: int, given_shares: list[float]) -> None:
        shares = {str(place): share for place, share in enumerate(given_shares)}
        quotas = allot(count, shares, dict.fromkeys(shares, 10**6))
        for key, share in shares.items():
            assert abs(quotas[key] - count * share / sum(given_shares)) < 1.001


class TestTwins:
    @pytest.mark.parametrize("twin", [SHE, TURNED, HE.upper(), f" {HE} "])
    def test_regendered_and_reordered_twins_have_one_key(self, twin: str) -> None:
        assert twin_key(twin) == twin_key(HE)

    def test_other_sentences_have_another(self) -> None:
        assert twin_key(OTHER) != twin_key(HE)
        assert twin_key(HE) == "engineer northern portugal respected revolution. several"

    def test_short_texts_are_their_own(self) -> None:
        assert twin_key("He is Here") == "he is here"
        assert twin_key("here is he") == "here is he"
        assert twin_key("") == ""

    def test_groups_say_what_examples_share(self) -> None:
        first = Example(Kind.SENTENCE, "de", "Er arbeitete.", HE, "news").groups()
        same_english = Example(Kind.SENTENCE, "fr", "Il a travaillé.", HE, "news").groups()
        same_text = Example(Kind.SENTENCE, "de", "Er arbeitete.", "He did work.", "news").groups()
        twin = Example(Kind.SENTENCE, "es", "Ella trabajó.", SHE, "news").groups()
        assert [a == b for a, b in zip(first, same_english, strict=True)] == [True, False, True]
        assert [a == b for a, b in zip(first, same_text, strict=True)] == [False, True, False]
        assert [a == b for a, b in zip(first, twin, strict=True)] == [False, False, True]
        assert all(0 <= group < 2**62 for group in first)

    def test_groups_stay_the_same_between_processes(self) -> None:
        """They are kept on disk, so Python's own hash would not do."""
        assert Example(Kind.TERM, "de", "Hund", "dog", "terms").groups()[0] == 104331056364335147


class TestSelect:
    def test_sources_share_by_weight_and_root_of_size(self) -> None:
        found = {"big": rows(400, "big"), "small": rows(100, "small"), "none": rows(50, "none")}
        chosen = select(found, 60, {"small": 4.0, "none": 0.0}, Kind.SENTENCE, random.Random(1))
        counts = {origin: sum(example.origin == origin for example in chosen) for origin in found}
        # shares: big 1 * 20, small 4 * 10, none 0 * 7.07
        assert counts == {"big": 20, "small": 40, "none": 0}

    def test_examples_are_rows_each_once(self) -> None:
        found = {"news": rows(30)}
        chosen = select(found, 30, {}, Kind.TERM, random.Random(1))
        assert sorted(example.english for example in chosen) == sorted(each.source for each in found["news"])
        assert {(e.kind, e.lang, e.text, e.origin) for e in chosen} == {
            (Kind.TERM, "de", f"<{e.english}>", "news") for e in chosen
        }

    def test_the_seed_decides(self) -> None:
        found = {"b": rows(50, "b"), "a": rows(50, "a")}
        turned = dict(reversed(found.items()))
        first = select(found, 20, {}, Kind.SENTENCE, random.Random(1))
        assert select(turned, 20, {}, Kind.SENTENCE, random.Random(1)) == first
        assert select(found, 20, {}, Kind.SENTENCE, random.Random(2)) != first


def parts_of(example: Example) -> list[str]:
    """The rows of a passage, by the marks that the translations have."""
    return example.text.strip("<>").split("> <")


class TestPassages:
    def test_are_rows_that_follow_one_another_and_none_twice(self) -> None:
        found = rows(200)
        place = {each.source: number for number, each in enumerate(found)}
        chosen = passages({"news": found}, 100, {}, 60, random.Random(1))
        runs = [[place[part] for part in parts_of(example)] for example in chosen]
        assert len(runs) > 20
        for run, example in zip(runs, chosen, strict=True):
            assert run == list(range(run[0], run[0] + len(run)))
            assert 30 <= len(example.english.split()) <= 90
            assert example.english == " ".join(parts_of(example))
            assert (example.kind, example.lang, example.origin) == (Kind.PASSAGE, "de", "news")
        used = [row for run in runs for row in run]
        assert len(used) == len(set(used))

    def test_lengths_vary(self) -> None:
        chosen = passages({"news": rows(400)}, 100, {}, 60, random.Random(1))
        assert {len(parts_of(example)) for example in chosen} == {3, 4, 5, 6, 7}

    def test_a_wide_gap_ends_a_run_and_a_narrow_one_does_not(self) -> None:
        narrow = passages({"news": rows(60, step=20)}, 100, {}, 60, random.Random(1))
        assert [part for example in narrow for part in parts_of(example)] != []
        assert passages({"news": rows(60, step=21)}, 100, {}, 60, random.Random(1)) == []

    def test_a_second_file_of_a_source_begins_anew(self) -> None:
        """Its rows are counted from 1 again."""
        first, second = rows(3), [pair(f"other{each.source}", each.line) for each in rows(40)]
        for example in passages({"news": [*first, *second]}, 100, {}, 60, random.Random(3)):
            assert len({part.startswith("other") for part in parts_of(example)}) == 1

    def test_no_row_is_joined_to_one_that_holds_it(self) -> None:
        found = []
        for number in range(40):
            left, right = rows(2, f"s{number}", words=10)
            found += [pair(f"{left.source} {right.source}", 3 * number + 1), pair(left.source, 3 * number + 2),
                      pair(right.source, 3 * number + 3)]  # fmt: skip
        chosen = passages({"news": found}, 100, {}, 60, random.Random(1))
        assert chosen != []
        for example in chosen:
            words = example.english.split()
            assert len(words) == len(set(words))

    def test_sources_of_words_make_none(self) -> None:
        assert passages({"words": rows(200, "w", words=3)}, 100, {}, 10, random.Random(1)) == []

    def test_a_row_longer_than_a_passage_is_no_passage(self) -> None:
        assert passages({"news": rows(50, words=100)}, 100, {}, 60, random.Random(1)) == []

    @pytest.mark.parametrize(("lang", "gap"), [("de", " "), ("zh", ""), ("zh-Hant", ""), ("ja", ""), ("th", "")])
    def test_scripts_without_spaces_are_joined_without(self, lang: str, gap: str) -> None:
        found = [pair(each.source, each.line, lang=lang) for each in rows(60)]
        for example in passages({"news": found}, 5, {}, 60, random.Random(1)):
            assert example.text == gap.join(f"<{part}>" for part in example.text.strip("<>").split(f">{gap}<"))

    def test_shares_and_seed(self) -> None:
        found = {"a": rows(400, "a"), "b": rows(400, "b")}
        chosen = passages(found, 6, {"b": 0.0}, 60, random.Random(5))
        assert [example.origin for example in chosen] == ["a"] * 6
        assert passages(found, 6, {"b": 0.0}, 60, random.Random(5)) == chosen
        assert passages(found, 6, {"b": 0.0}, 60, random.Random(6)) != chosen


def test_english_examples_are_their_own_translation() -> None:
    examples = [Example(Kind.SENTENCE, "de", f"d{n}", f"sentence {n}", "news") for n in range(50)]
    examples += [Example(Kind.SENTENCE, "fr", f"f{n}", f"sentence {n}", "news") for n in range(50)]
    examples += [Example(Kind.PASSAGE, "fr", f"p{n}", f"passage {n}", "news") for n in range(50)]
    examples += [Example(Kind.TERM, "fr", f"t{n}", f"term {n}", "news") for n in range(50)]
    chosen = english_examples(examples, 20, random.Random(1))
    assert all((e.kind, e.lang, e.text, e.origin) == (Kind.ENGLISH, "en", e.english, "english") for e in chosen)
    assert [example.text.split()[0] for example in chosen] == ["sentence"] * 14 + ["passage"] * 6
    assert len({example.text for example in chosen}) == 20
    assert english_examples(reversed(examples), 20, random.Random(1)) == chosen
    everything = english_examples(examples, 1000, random.Random(1))
    assert math.isclose(len(everything), 100)
