"""The statistics of a comparison: intervals, tests and the verdict, of plain numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

STUDIED = "adaptive"
ALPHA = 0.05
POWER = 0.8
MIN_EQUIVALENCE_MARGIN = 0.002  # 0.2 percentage points
MAX_FLIPS = 2**16

Word = Literal["better", "worse", "equivalent", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its 95% t interval; the interval is None where n < 2."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Adaptive minus one baseline in test accuracy, paired by seed.

    Attributes:
        baseline: The other schedule.
        difference: Mean with its 95% paired t interval, in accuracy.
        pairs: The differences, one a seed.
        p: Exact two-sided sign-flip test; None where n < 2.
        p_holm: ``p`` adjusted by Holm over the task's baselines.
        of_record: Whether it is the strongest baseline by validation.
    """

    baseline: str
    difference: Mean
    pairs: tuple[float, ...]
    p: float | None
    p_holm: float | None
    of_record: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one task.

    Attributes:
        task: ``dataset/model``.
        word: One of four; None where there is nothing to compare.
        sentence: The answer in one line.
        margin: Equivalence margin, in accuracy.
        minimum_detectable: Difference that this n would find with 80% power at Holm's
            first threshold.
    """

    task: str
    word: Word | None
    sentence: str
    margin: float | None = None
    minimum_detectable: float | None = None


def judge(task: str, record: Comparison, num_baselines: int, margin: float | None) -> Verdict:
    """Turn the comparison with the baseline of record into a verdict.

    ``better`` or ``worse`` where the Holm-adjusted exact sign-flip test rejects at 5%;
    else ``equivalent`` where two one-sided t tests at 5% place the difference within
    ``margin``; else ``inconclusive``. An n at which the test cannot reach Holm's first
    threshold whatever the data, 2 / 2**n > 0.05 / m, decides nothing.
    """
    difference = record.difference
    n, mean = difference.n, difference.mean
    told = f"{task}: {STUDIED} minus {record.baseline} {_points(difference)}"
    if 2 / 2**n > ALPHA / num_baselines or margin is None or difference.low is None:
        sentence = f"{told}: inconclusive (pipeline works, too few seeds for a verdict)."
        return Verdict(task, "inconclusive", sentence, margin)
    sd = float(np.std(record.pairs, ddof=1))
    quantiles = stats.t.ppf(1 - ALPHA / num_baselines / 2, n - 1) + stats.t.ppf(POWER, n - 1)
    detectable = float(quantiles * sd / math.sqrt(n))
    word: Word
    if record.p_holm is not None and record.p_holm < ALPHA:
        word = "better" if mean > 0 else "worse"
    elif _tost_p(record.pairs, margin) < ALPHA:
        word = "equivalent"
    else:
        word = "inconclusive"
    sentence = (
        f"{told}: {word} (Holm p = {record.p_holm:.3f}, margin {100 * margin:.2f}, "
        f"detectable {100 * detectable:.2f} points)."
    )
    return Verdict(task, word, sentence, margin, detectable)


def mean_interval(values: Sequence[float]) -> Mean:
    """Return the mean of ``values`` (n >= 1) with its 95% t interval."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Mean(mean, None, None, n)
    sem = float(stats.sem(values))
    if sem == 0:
        return Mean(mean, mean, mean, n)
    low, high = stats.t.interval(1 - ALPHA, n - 1, loc=mean, scale=sem)
    return Mean(mean, float(low), float(high), n)


def sign_flip_p(pairs: Sequence[float]) -> float | None:
    """Return the two-sided sign-flip p-value of mean 0; None where n < 2.

    Exact up to n = 16; beyond that from 65,536 random flips, seeded.
    """
    if len(pairs) < 2:
        return None
    test = stats.permutation_test(
        (np.asarray(pairs),),
        np.mean,
        permutation_type="samples",
        n_resamples=min(2 ** len(pairs), MAX_FLIPS),  # all there are: exact
        rng=np.random.default_rng(0),
    )
    return float(min(1.0, test.pvalue))


def _tost_p(pairs: Sequence[float], margin: float) -> float:
    if np.ptp(pairs) == 0:
        return 0.0 if abs(pairs[0]) < margin else 1.0
    above = stats.ttest_1samp(pairs, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(pairs, margin, alternative="less").pvalue
    return float(max(above, below))


def _points(difference: Mean) -> str:
    """Say a difference in accuracy as percentage points with its interval."""
    text = f"{100 * difference.mean:+.2f} points"
    if difference.low is None or difference.high is None:
        return f"{text} (n = {difference.n})"
    return f"{text} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}], n = {difference.n}"
