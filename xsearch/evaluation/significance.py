"""How sure a mean over questions is: bootstrap intervals, and a paired randomisation test between two runs.

One question is asked in several language pairs (as its translations), and its scores there rise and fall together.
So the mean over pairs is resampled, and its signs are flipped, by question: a question is drawn or flipped in all
its pairs at once. Treating the pairs as independent would make the means look surer than they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from xsearch.errors import InvalidArgumentError

# Samples are drawn in blocks of about this many numbers, which keeps memory at tens of megabytes.
_BLOCK_NUMBERS = 4_000_000


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one language pair.

    Attributes:
        question_ids: the data set's id of each query; shared by translations of one question.
        values: ``(queries,) float64``, in the same order.
    """

    question_ids: Sequence[str]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """The middle 95% of a bootstrap distribution."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """How a mean differs from a baseline's.

    Attributes:
        mean: ours less the baseline's.
        low, high: 95% bootstrap interval of that.
        p: two-sided p-value of the paired randomisation test.
        p_holm: ``p`` after Holm's correction for the number of pairs compared; the same as ``p`` for a single mean.
    """

    mean: float
    low: float
    high: float
    p: float
    p_holm: float

    def to_dict(self) -> dict[str, float]:
        """All fields as plain values, rounded to 5 decimals."""
        return {key: round(value, 5) for key, value in asdict(self).items()}


def bootstrap_mean(scores: Scores, *, samples: int, seed: int, name: str = "") -> Interval:
    """95% percentile interval of the mean score of one pair, resampling its queries.

    Efron, Bootstrap methods: another look at the jackknife, 1979; for retrieval: Sakai, SIGIR 2006.

    Example: scores that are all 0.5 give ``[0.5, 0.5]``; scores 0 and 1 (n = 2) give ``[0, 1]``.

    Args:
        samples: how many resamples; 1000 is usual.
        seed, name: fix the random stream; a pair keeps its interval whichever other pairs are run beside it.
    """
    n = len(scores.values)
    rng = _stream(seed, name)
    means = np.concatenate(
        [scores.values[rng.integers(0, n, size=(block, n))].mean(axis=1) for block in _blocks(samples, n)]
    )
    return _interval(means)


def bootstrap_means(pairs: Sequence[Scores], *, samples: int, seed: int, name: str = "") -> Interval:
    """95% percentile interval of the mean over pairs of their mean scores, resampling questions.

    A question drawn ``w`` times counts ``w`` times in every pair it is asked in.
    """
    columns, n_questions = _columns(pairs)
    rng = _stream(seed, name)
    draws = []
    for block in _blocks(samples, n_questions):
        drawn = rng.integers(0, n_questions, size=(block, n_questions))
        weights = np.stack([np.bincount(row, minlength=n_questions) for row in drawn]).astype(np.float64)
        totals = np.zeros(block)
        for pair, column in zip(pairs, columns, strict=True):
            mine = weights[:, column]
            # A tiny pair may go undrawn; its mean is then 0 / 0, and its plain mean stands in.
            drawn_here = mine.sum(axis=1)
            plain = np.full(block, float(pair.values.mean()))
            totals += np.divide(mine @ pair.values, drawn_here, out=plain, where=drawn_here > 0)
        draws.append(totals / len(pairs))
    return _interval(np.concatenate(draws))


def paired_test(differences: Sequence[Scores], *, samples: int, seed: int, name: str = "") -> float:
    """Two-sided p-value for the mean over pairs of mean differences being no more than chance.

    Paired randomisation: under the null hypothesis the two runs are exchangeable on every question, so the sign of
    its difference is as likely one as the other. ``p = (1 + #{|mean of flipped| >= |mean|}) / (1 + samples)``.
    Fisher, The design of experiments, 1935; Smucker, Allan and Carterette, CIKM 2007.

    Example: one pair with differences 1, 1, 1: of the 8 sign patterns 2 reach |mean| 1, so p is near 0.25.

    Args:
        differences: one entry a pair; ours less the baseline's, query by query.
    """
    columns, n_questions = _columns(differences)
    observed = abs(np.mean([pair.values.mean() for pair in differences]))
    rng = _stream(seed, name)
    reached = 0
    for block in _blocks(samples, n_questions):
        signs = rng.integers(0, 2, size=(block, n_questions)) * 2.0 - 1.0
        means = np.zeros(block)
        for pair, column in zip(differences, columns, strict=True):
            means += signs[:, column] @ pair.values / len(pair.values)
        # Sums in another order differ in the last bits: what is equal on paper must count as reached.
        reached += int((np.abs(means / len(differences)) >= observed - 1e-12).sum())
    return (1 + reached) / (1 + samples)


def compare(
    ours: Mapping[str, Scores], theirs: Mapping[str, Scores], *, samples: int, seed: int
) -> dict[str, Difference]:
    """For each pair, the difference between two runs over the same queries, with its interval and p-value.

    Raises:
        InvalidArgumentError: the runs differ in pairs, or in the questions of a pair.
    """
    differences = paired_differences(ours, theirs)
    p_values = {
        key: paired_test([difference], samples=samples, seed=seed, name=key) for key, difference in differences.items()
    }
    corrected = holm(p_values)
    found = {}
    for key, difference in differences.items():
        interval = bootstrap_mean(difference, samples=samples, seed=seed, name=key)
        mean = float(difference.values.mean())
        found[key] = Difference(mean, interval.low, interval.high, p_values[key], corrected[key])
    return found


def compare_means(pairs: Sequence[Scores], *, samples: int, seed: int, name: str) -> Difference:
    """The mean over pairs of differences (from :func:`paired_differences`), with its interval and p-value."""
    interval = bootstrap_means(pairs, samples=samples, seed=seed, name=name)
    p = paired_test(pairs, samples=samples, seed=seed, name=name)
    mean = float(np.mean([pair.values.mean() for pair in pairs]))
    return Difference(mean, interval.low, interval.high, p, p)


def paired_differences(ours: Mapping[str, Scores], theirs: Mapping[str, Scores]) -> dict[str, Scores]:
    """Ours less theirs for each pair, query by query, matched by question id.

    Raises:
        InvalidArgumentError: the runs differ in pairs, or in the questions of a pair.
    """
    if ours.keys() != theirs.keys():
        only = sorted(ours.keys() ^ theirs.keys())
        raise InvalidArgumentError(
            f"Only one of the two runs has {', '.join(only)}",
            "A paired comparison needs the same language pairs in both",
            "Run both with the same --data, --split and --langs",
        )
    differences = {}
    for key, mine in ours.items():
        other = dict(zip(theirs[key].question_ids, theirs[key].values.tolist(), strict=True))
        if other.keys() != set(mine.question_ids):
            raise InvalidArgumentError(
                f"The two runs were asked other questions in {key}",
                "A paired comparison needs the same questions in both",
                "Run both with the same --data and --split",
            )
        baseline = np.array([other[question_id] for question_id in mine.question_ids])
        differences[key] = Scores(mine.question_ids, mine.values - baseline)
    return differences


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction: controls the chance of any false alarm among all the tests.

    The i-th smallest of m p-values is multiplied by ``m - i + 1``, made non-decreasing, and cut at 1.
    Holm, Scandinavian Journal of Statistics 6(2), 1979.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    corrected: dict[str, float] = {}
    highest = 0.0
    for i, (key, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, p * (len(p_values) - i)))
        corrected[key] = highest
    return corrected


def _columns(pairs: Sequence[Scores]) -> tuple[list[NDArray[np.intp]], int]:
    """For each pair the column of each of its queries in one numbering of all questions, and how many there are."""
    numbers: dict[str, int] = {}
    columns = [
        np.array([numbers.setdefault(question_id, len(numbers)) for question_id in pair.question_ids], dtype=np.intp)
        for pair in pairs
    ]
    return columns, len(numbers)


def _stream(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _blocks(samples: int, width: int) -> Iterator[int]:
    if samples < 1:
        raise InvalidArgumentError(f"{samples} samples were asked for", "At least 1 is needed", "1000 is usual")
    step = max(1, _BLOCK_NUMBERS // max(1, width))
    for start in range(0, samples, step):
        yield min(step, samples - start)


def _interval(means: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(low), float(high))
