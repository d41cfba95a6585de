"""What is in each batch: shares, languages, budgets, rounds; and that the seed alone decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsearch.errors import TrainingError
from xsearch.training.batches import MIXED, BatchPlan, BatchRows
from xsearch.training.prepared import NO_TEACHER, Prepared, Ragged
from xsearch.training.recipe import BatchTable, DataTable
from xsearch.training.selection import Kind

SENTENCES = BatchTable(terms=0, passages=0, questions=0, english=0, mixed_languages=0, tokens=40, texts=8)
DATA = DataTable()
# Kind, language, tokens of the text, tokens of the English side.
Row = tuple[Kind, str, int, int]


def prepared(rows: Sequence[Row]) -> Prepared:
    languages = tuple(sorted({lang for _, lang, _, _ in rows}))

    def ragged(lengths: list[int]) -> Ragged:
        return Ragged(np.zeros(sum(lengths), dtype=np.int32), np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))))

    return Prepared(
        kinds=np.array([row[0] for row in rows], dtype=np.int8),
        langs=np.array([languages.index(row[1]) for row in rows], dtype=np.int16),
        languages=languages,
        texts=ragged([row[2] for row in rows]),
        english=ragged([row[3] for row in rows]),
        teacher_rows=np.array([NO_TEACHER if row[0] is Kind.QUESTION else n // 2 for n, row in enumerate(rows)]),
        groups=np.zeros((len(rows), 3), dtype=np.int64),
    )


def sentences(count: int, *langs: str) -> list[Row]:
    return [(Kind.SENTENCE, lang, 3 + number % 7, 4) for lang in langs for number in range(count)]


EVERYTHING = prepared(
    [
        *sentences(60, "de", "fr", "zh"),
        *((Kind.TERM, lang, 3, 3) for lang in ("de", "zh") for _ in range(40)),
        *((Kind.PASSAGE, lang, 20, 20) for lang in ("de", "fr") for _ in range(30)),
        *((Kind.ENGLISH, "en", 9, 9) for _ in range(50)),
        *((Kind.QUESTION, lang, 4, 18) for lang in ("en", "fr") for _ in range(30)),
    ]
)
ALL_KINDS = BatchTable(terms=0.15, passages=0.2, questions=0.1, english=0.05, mixed_languages=0.25, tokens=64, texts=16)


def first(plan: BatchPlan, count: int) -> list[BatchRows]:
    return list(islice(iter(plan), count))


def same(one: Sequence[BatchRows], other: Sequence[BatchRows]) -> bool:
    return [(b.kind, b.lang, b.rows.tolist()) for b in one] == [(b.kind, b.lang, b.rows.tolist()) for b in other]


class TestSeed:
    def test_the_same_gives_the_same_plan(self) -> None:
        plan = BatchPlan(EVERYTHING, ALL_KINDS, DATA, 13)
        again = BatchPlan(EVERYTHING, ALL_KINDS, DATA, 13)
        assert same(first(plan, 300), first(again, 300))
        assert same(first(plan, 300), first(plan, 300))

    def test_another_gives_another(self) -> None:
        assert not same(
            first(BatchPlan(EVERYTHING, ALL_KINDS, DATA, 13), 50), first(BatchPlan(EVERYTHING, ALL_KINDS, DATA, 14), 50)
        )

    def test_skipping_is_resuming(self) -> None:
        plan = BatchPlan(EVERYTHING, ALL_KINDS, DATA, 13)
        assert same(list(islice(iter(plan), 120, 200)), first(plan, 200)[120:])

    def test_a_known_plan_stays(self) -> None:
        """A checkpoint is gone on from with the batches that its run would have had."""
        plan = BatchPlan(prepared(sentences(6, "de", "fr")), SENTENCES, DATA, 13)
        assert [(batch.lang, batch.rows.tolist()) for batch in first(plan, 4)] == [
            (0, [0, 1, 2, 3, 4]),
            (1, [6, 7, 8, 9, 10]),
            (0, [4, 5]),
            (0, [4, 5]),
        ]


class TestBudget:
    @settings(derandomize=True, deadline=None, max_examples=60)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from([Kind.SENTENCE, Kind.QUESTION]),
                st.sampled_from(["de", "fr"]),
                st.integers(1, 30),
                st.integers(1, 30),
            ),
            min_size=1,
            max_size=60,
        ),
        st.integers(30, 100),
        st.integers(1, 9),
        st.floats(0, 1),
    )
    def test_is_never_exceeded(self, rows: list[Row], tokens: int, texts: int, mixed: float) -> None:
        data = prepared(rows)
        kinds = {row[0] for row in rows}
        questions = 0.0 if Kind.QUESTION not in kinds else 1.0 if kinds == {Kind.QUESTION} else 0.5
        table = BatchTable(
            terms=0, passages=0, questions=questions, english=0, mixed_languages=mixed, tokens=tokens, texts=texts
        )
        for batch in first(BatchPlan(data, table, DATA, 1), 40):
            chosen = [rows[row] for row in batch.rows]
            longest = max(max(row[2], row[3]) if row[0] is Kind.QUESTION else row[2] for row in chosen)
            assert 1 <= len(chosen) <= texts
            assert longest * len(chosen) <= tokens
            assert {row[0] for row in chosen} == {batch.kind}

    def test_batches_are_full(self) -> None:
        """Texts of 5 tokens in batches of 40 tokens and 8 texts."""
        data = prepared([(Kind.SENTENCE, "de", 5, 5)] * 64)
        assert {len(batch.rows) for batch in first(BatchPlan(data, SENTENCES, DATA, 1), 30)} == {8}

    def test_texts_of_similar_length_come_together(self) -> None:
        data = prepared([(Kind.SENTENCE, "de", 2 + number % 9, 5) for number in range(180)])
        lengths = data.texts.lengths
        for batch in first(BatchPlan(data, SENTENCES, DATA, 1), 50):
            assert np.ptp(lengths[batch.rows]) <= 1


class TestLanguages:
    def test_batches_of_one_hold_one_and_mixed_ones_several(self) -> None:
        table = BatchTable(terms=0.2, passages=0.2, questions=0, english=0.1, mixed_languages=0.5, tokens=64, texts=16)
        met = Counter[str]()
        for batch in first(BatchPlan(EVERYTHING, table, DATA, 13), 400):
            langs = set(EVERYTHING.langs[batch.rows].tolist())
            if batch.lang == MIXED:
                met["several" if len(langs) > 1 else "one"] += 1
            else:
                met["alone"] += 1
                assert langs == {batch.lang}
        assert met["several"] > 100
        assert met["one"] < 0.1 * met["several"]  # three passages of two languages can be of one

    def test_questions_and_english_are_never_mixed(self) -> None:
        table = BatchTable(terms=0, passages=0, questions=0.5, english=0.5, mixed_languages=1, tokens=64, texts=16)
        plan = BatchPlan(EVERYTHING, table, DATA, 13)
        assert {EVERYTHING.languages[batch.lang] for batch in first(plan, 100)} == {"en", "fr"}
        assert all(batch.lang != MIXED for batch in first(plan, 100))

    @pytest.mark.parametrize(("temperature", "shares"), [(1.0, (0.8, 0.2)), (0.5, (2 / 3, 1 / 3)), (0.0, (0.5, 0.5))])
    def test_are_drawn_by_weight_and_temperature(self, temperature: float, shares: tuple[float, float]) -> None:
        table = BatchTable(
            terms=0, passages=0, questions=0, english=0, mixed_languages=0, tokens=40, texts=8, temperature=temperature
        )
        data = DataTable(languages={"de": 4.0}, default_weight=1.0)
        plan = BatchPlan(prepared(sentences(60, "de", "fr")), table, data, 13)
        drawn = Counter(batch.lang for batch in first(plan, 2000))
        # Four standard deviations of 2,000 draws.
        assert abs(drawn[0] / 2000 - shares[0]) < 4 * np.sqrt(shares[0] * shares[1] / 2000)

    def test_are_mixed_by_weight_too(self) -> None:
        table = BatchTable(terms=0, passages=0, questions=0, english=0, mixed_languages=1, tokens=400, texts=40)
        data = DataTable(languages={"de": 4.0})
        plan = BatchPlan(prepared(sentences(400, "de", "fr")), table, data, 13)
        drawn = Counter(lang for batch in first(plan, 100) for lang in plan._prepared.langs[batch.rows].tolist())
        assert abs(drawn[0] / drawn.total() - 0.8) < 0.03

    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    def test_a_weight_of_0_leaves_one_out(self, temperature: float) -> None:
        table = BatchTable(
            terms=0, passages=0, questions=1, english=0, mixed_languages=0, tokens=64, texts=8, temperature=temperature
        )
        plan = BatchPlan(EVERYTHING, table, DataTable(languages={"fr": 0.0}), 13)
        assert {EVERYTHING.languages[batch.lang] for batch in first(plan, 100)} == {"en"}


class TestKinds:
    def test_have_their_shares(self) -> None:
        count = 4000
        drawn = Counter(batch.kind for batch in first(BatchPlan(EVERYTHING, ALL_KINDS, DATA, 13), count))
        shares = {Kind.SENTENCE: 0.5, Kind.TERM: 0.15, Kind.PASSAGE: 0.2, Kind.ENGLISH: 0.05, Kind.QUESTION: 0.1}
        chi_square = sum((drawn[kind] - share * count) ** 2 / (share * count) for kind, share in shares.items())
        assert chi_square < 18.5  # passed by 999 of 1,000 with 4 degrees of freedom

    def test_mixed_batches_have_theirs(self) -> None:
        table = BatchTable(terms=0, passages=0, questions=0, english=0, mixed_languages=0.25, tokens=64, texts=16)
        drawn = Counter(batch.lang == MIXED for batch in first(BatchPlan(EVERYTHING, table, DATA, 13), 2000))
        assert abs(drawn[True] / 2000 - 0.25) < 0.04

    @pytest.mark.parametrize("kind", ["terms", "passages", "questions", "english"])
    def test_a_share_of_what_is_not_there_is_named(self, kind: str) -> None:
        table = BatchTable(**{"terms": 0, "passages": 0, "questions": 0, "english": 0, kind: 0.1})
        with pytest.raises(TrainingError, match=f"A share of 0.1 .* of kind {kind.removesuffix('s')}"):
            BatchPlan(prepared(sentences(5, "de")), table, DATA, 1)

    def test_sentences_that_are_not_there_are_named(self) -> None:
        with pytest.raises(TrainingError, match=r"A share of 1 .* of kind sentence"):
            BatchPlan(prepared([(Kind.TERM, "de", 3, 3)]), SENTENCES, DATA, 1)

    def test_a_full_share_leaves_no_sentences(self) -> None:
        table = BatchTable(terms=0.6, passages=0.4, questions=0, english=0, mixed_languages=0, tokens=64, texts=16)
        assert {batch.kind for batch in first(BatchPlan(EVERYTHING, table, DATA, 1), 50)} == {Kind.TERM, Kind.PASSAGE}


class TestRounds:
    def rounds(self, lengths: Sequence[int], count: int, **changes: int) -> list[list[int]]:
        """The rows of the first batches of one language, by round: all of it is one pool."""
        table = BatchTable(
            terms=0, passages=0, questions=0, english=0, mixed_languages=0, **{"tokens": 40, "texts": 8, **changes}
        )
        rows: list[Row] = [(Kind.SENTENCE, "de", length, 3) for length in lengths]
        batches = iter(BatchPlan(prepared(rows), table, DATA, 1))
        found = []
        for _ in range(count):
            seen: list[int] = []
            while set(seen) != set(range(len(rows))):
                seen += next(batches).rows.tolist()
                assert len(seen) <= 2 * len(rows) + 2, "a round goes on though some rows were never seen"
            found.append(seen)
        return found

    def test_every_example_is_seen_once_before_any_repeats(self) -> None:
        for seen in self.rounds([5] * 32, 5):
            assert sorted(seen) == list(range(32))

    def test_rounds_have_another_order(self) -> None:
        one, two = self.rounds([5] * 32, 2)
        assert one != two

    def test_one_that_would_always_be_alone_takes_its_neighbour_along(self) -> None:
        """Nine texts in batches of eight: the longest would be left over in every round."""
        for seen in self.rounds([3, 3, 3, 3, 3, 3, 3, 4, 5], 4):
            assert Counter(seen) == Counter(range(9)) + Counter([7])

    def test_one_that_no_other_fits_beside_has_a_batch_of_its_own(self) -> None:
        for seen in self.rounds([5, 5, 5, 5, 30], 4):
            assert sorted(seen) == [0, 1, 2, 3, 4]

    def test_batches_of_one_text_are_as_asked(self) -> None:
        for seen in self.rounds([5, 6, 7], 3, texts=1):
            assert sorted(seen) == [0, 1, 2]

    def test_a_single_example_is_a_batch(self) -> None:
        assert self.rounds([5], 3) == [[0], [0], [0]]

    def test_a_large_language_is_gone_through_evenly(self) -> None:
        """Where a draw is smaller than the language, one may be seen again while some of its draw are to come."""
        data = prepared(sentences(700, "de"))
        counts = Counter[int]()
        for batch in first(BatchPlan(data, SENTENCES, DATA, 1), 500):
            counts.update(batch.rows.tolist())
        seen = [counts[row] for row in range(700)]
        assert max(seen) - min(seen) <= 3
        assert min(seen) >= 1


def test_the_teachers_rows_are_those_of_the_first_steps() -> None:
    plan = BatchPlan(EVERYTHING, ALL_KINDS, DATA, 13)
    used = {int(EVERYTHING.teacher_rows[row]) for batch in first(plan, 30) for row in batch.rows}
    assert used - {NO_TEACHER} == set(plan.teacher_rows(30).tolist())
    assert (np.diff(plan.teacher_rows(30)) > 0).all()
    assert set(plan.teacher_rows(10).tolist()) < set(plan.teacher_rows(30).tolist())
