"""The statistics of a comparison: intervals, tests and the verdict, of plain numbers."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, special, stats

from tune_adaptive.records.metric import ACCURACY, Metric

ALPHA = 0.05
POWER = 0.8
MARGIN_CONFIDENCE = 0.8
MAX_FLIPS = 2**16

MAX_EXACT = 12
"""Most seeds for which the promised power is simulated on the test itself."""

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
    """The studied schedule minus one baseline in the test metric, paired by seed.

    Attributes:
        baseline: The other schedule.
        difference: Mean with its 95% paired t interval, in the metric's unit.
        pairs: The differences, one a seed.
        p: Exact two-sided sign-flip test; None where n < 2, or where no run of either differs
            from another of the same schedule.
        p_holm: ``p`` adjusted by Holm over the task's baselines.
        of_record: Whether it is the strongest baseline by validation.
        superiority: P(A better than B) of two runs with seeds of their own, ties counting half.
    """

    baseline: str
    difference: Mean
    pairs: tuple[float, ...]
    p: float | None
    p_holm: float | None
    of_record: bool
    superiority: Mean | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one task.

    Attributes:
        task: ``dataset/model``.
        word: One of four; None where there is nothing to compare, or where no run varied.
        sentence: The answer in one line.
        margin: Equivalence margin, in the metric's unit.
        minimum_detectable: True difference that this n finds with 80% power at Holm's first
            threshold, by the spread that was seen; see :func:`detectable_sd`.
    """

    task: str
    word: Word | None
    sentence: str
    margin: float | None = None
    minimum_detectable: float | None = None


def judge(
    task: str,
    record: Comparison,
    num_baselines: int,
    margin: float,
    studied: str = "ours",
    metric: Metric = ACCURACY,
) -> Verdict:
    """Turn the comparison of ``studied`` with the baseline of record into a verdict.

    ``better`` or ``worse`` where the Holm-adjusted exact sign-flip test rejects at 5%;
    else ``equivalent`` where two one-sided t tests at 5% place the difference within
    ``margin``; else ``inconclusive``. An n at which the test cannot reach Holm's first
    threshold whatever the data, 2 / 2**n > 0.05 / m, decides nothing.

    Where no run of either schedule differs from another of the same schedule, there is no
    verdict. The tests take the seeds for independent draws; runs that do not depend on their
    seed are one draw, however often it is repeated, and the spread of others is unknown.
    """
    difference = record.difference
    n, mean = difference.n, difference.mean
    told = f"{task}: {studied} minus {record.baseline} {shown_difference(difference, metric)}"
    if n > 1 and record.p is None:
        same = "every run" if mean == 0 else "every run of a schedule"
        sentence = (
            f"{told}: no verdict: {same} scored the same, so that seeds make no difference and "
            "there is no spread to judge by. Does the metric fit this task (does the model "
            "predict more than one class)?"
        )
        return Verdict(task, None, sentence)
    if not can_decide(n, num_baselines):
        sentence = f"{told}: inconclusive (pipeline works, too few seeds for a verdict)."
        return Verdict(task, "inconclusive", sentence, margin)
    sd = float(np.std(record.pairs, ddof=1))
    effect = detectable_sd(n, num_baselines)
    assert effect is not None
    detectable = effect * sd
    word: Word
    if record.p_holm is not None and record.p_holm < ALPHA:
        word = "better" if metric.score(mean) > 0 else "worse"
    elif _tost_p(record.pairs, margin) < ALPHA:
        word = "equivalent"
    else:
        word = "inconclusive"
    sentence = (
        f"{told}: {word} (Holm p = {record.p_holm:.3f}, margin {metric.number(margin)}, "
        f"detectable {metric.number(detectable)}{_unit(metric)})."
    )
    return Verdict(task, word, sentence, margin, detectable)


def equivalence_margin(values: Sequence[float], least: float = ACCURACY.margin) -> float:
    """Return max(``least``, one seed SD), the SD at its lower 80% confidence bound.

    s sqrt((n - 1) / chi2(0.8, n - 1)). The margin is estimated from the seeds that are judged
    by it: with s itself, two schedules that differ by exactly one SD passed for equivalent in up
    to 15% of simulated experiments; with its lower bound in at most 5%.

    Args:
        values: The baseline's, one a seed; of those that ended well.
        least: The metric's own margin.
    """
    n = len(values)
    if n < 2:
        return least
    shrunk = math.sqrt((n - 1) / float(stats.chi2.ppf(MARGIN_CONFIDENCE, n - 1)))
    return max(least, shrunk * float(np.std(values, ddof=1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given.

    With ``m`` p-values, sorted: ``max_{i <= k} min(1, (m - i + 1) p_(i))`` for the k-th.

    Example:
        >>> holm([0.25, 0.125])
        [0.25, 0.25]

    Reference:
        Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def compare(
    ours: Mapping[int, float],
    baselines: Mapping[str, Mapping[int, float]],
    record: str | None,
    metric: Metric = ACCURACY,
) -> list[Comparison]:
    """Compare with every baseline on the seeds both have; Holm over the baselines.

    Args:
        ours: By seed, the studied schedule's test metrics.
        baselines: The same of each baseline.
        record: Name of the baseline of record.
        metric: What they are.
    """
    found = []
    for name, theirs in baselines.items():
        seeds = sorted(ours.keys() & theirs.keys())
        if seeds:
            found.append((name, seeds, tuple(ours[seed] - theirs[seed] for seed in seeds)))
    p_values = [
        sign_flip_p(pairs)
        if any(len({own[seed] for seed in seeds}) > 1 for own in (ours, baselines[name]))
        else None
        for name, seeds, pairs in found
    ]
    measured = [p for p in p_values if p is not None]
    adjusted = iter(holm(measured))
    return [
        Comparison(
            baseline=name,
            difference=mean_interval(pairs),
            pairs=pairs,
            p=p,
            p_holm=None if p is None else next(adjusted),
            of_record=name == record,
            superiority=superiority(
                [metric.score(ours[seed]) for seed in seeds],
                [metric.score(baselines[name][seed]) for seed in seeds],
            ),
        )
        for (name, seeds, pairs), p in zip(found, p_values, strict=True)
    ]


def mean_interval(values: Sequence[float], confidence: float = 1 - ALPHA) -> Mean:
    """Return the mean of ``values`` (n >= 1) with its t interval."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Mean(mean, None, None, n)
    sem = float(stats.sem(values))
    if sem == 0:
        return Mean(mean, mean, mean, n)
    low, high = stats.t.interval(confidence, n - 1, loc=mean, scale=sem)
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


def superiority(ours: Sequence[float], theirs: Sequence[float]) -> Mean | None:
    """Return P(A > B) + P(A = B)/2 of runs with seeds of their own, with its 95% interval.

    All pairs (i, j) count, but the variance is that of the seeds, which both share: with
    z_i = P(A_i > B) + P(A > B_i), ties half, var(p) = var(z) / n (DeLong et al., 1988). The
    interval is of log(p / (1 - p)), with normal quantiles (Perme and Manevski, 2019). It is
    None where the two do not overlap at all, or n < 2.

    Args:
        ours: A, one value a seed.
        theirs: B, on the same seeds in the same order.
    """
    n = len(ours)
    if not n:
        return None
    margin = np.subtract.outer(np.asarray(ours), np.asarray(theirs))
    larger = (margin > 0) + (margin == 0) / 2
    estimate = float(larger.mean())
    if n < 2 or estimate in (0.0, 1.0) or not margin.any():
        return Mean(estimate, None, None, n)
    z = larger.mean(axis=1) + larger.mean(axis=0)
    half = stats.norm.ppf(1 - ALPHA / 2) * z.std(ddof=1) / math.sqrt(n)
    low, high = special.expit(
        special.logit(estimate) + np.array([-half, half]) / (estimate * (1 - estimate))
    )
    return Mean(estimate, float(low), float(high), n)


def ratio_interval(ours: Sequence[float], theirs: Sequence[float]) -> Mean | None:
    """Return mean(ours) / mean(theirs), paired, with its 95% interval; None where a mean is 0.

    The interval is of the logarithm, by the delta method: with r the ratio of the means,
    var(log r) = var(a/mean(a) - b/mean(b)) / n, t quantiles with n - 1 degrees of freedom.
    """
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if not len(a) or a.mean() <= 0 or b.mean() <= 0:
        return None
    ratio = float(a.mean() / b.mean())
    log = mean_interval(tuple(a / a.mean() - b / b.mean()))
    if log.low is None or log.high is None:
        return Mean(ratio, None, None, len(a))
    half = (log.high - log.low) / 2
    return Mean(ratio, ratio * math.exp(-half), ratio * math.exp(half), len(a))


def can_decide(n: int, num_baselines: int) -> bool:
    """Return whether the exact sign-flip test on ``n`` pairs can reach Holm's first threshold."""
    return bool(2 / 2**n <= ALPHA / num_baselines)


@functools.cache
def detectable_sd(n: int, num_baselines: int) -> float | None:
    """Return the smallest true difference that the verdict finds with 80% power.

    In standard deviations of the paired differences, which are taken as normal: simulated on
    the exact sign-flip test up to n = 12, beyond that of the t test, which it approaches.
    None where the n can decide nothing.
    """
    if not can_decide(n, num_baselines):
        return None
    threshold = ALPHA / num_baselines
    if n > MAX_EXACT:

        def power(effect: float) -> float:
            return _t_power(effect, n, threshold)
    else:
        noise = np.random.default_rng(0).normal(size=(4000, n))
        codes = np.arange(2 ** (n - 1))  # the other half mirrors it
        signs = 1.0 - 2.0 * ((codes[:, None] >> np.arange(n)) & 1)

        def power(effect: float) -> float:
            sums = (noise + effect) @ signs.T
            as_extreme = np.abs(sums) >= np.abs(sums[:, :1]) - 1e-12
            return float(np.mean((as_extreme.mean(axis=1) <= threshold) & (sums[:, 0] > 0)))

    return float(optimize.brentq(lambda effect: power(effect) - POWER, 0.0, 20.0, xtol=1e-3))


def _t_power(effect: float, n: int, alpha: float) -> float:
    critical = stats.t.ppf(1 - alpha / 2, n - 1)
    return float(stats.nct.sf(critical, n - 1, effect * math.sqrt(n)))


def unstudied(studied: str) -> str:
    """Say that there is no verdict on a schedule that is not compared."""
    return f"no verdict, for {studied} is not among the schedules (--studied names another)"


def promised(schedules: Sequence[str], n: int, studied: str) -> str:
    """Say what comparing ``studied`` with the others of ``schedules`` on ``n`` seeds can find."""
    if len(schedules) < 2:
        return "nothing to compare: one schedule"
    if studied not in schedules:
        return (
            f"{unstudied(studied)}: the report shows the mean test metric of each on {n} final "
            "seeds, with its interval, and tests no difference"
        )
    num_baselines = len(schedules) - 1
    effect = detectable_sd(n, num_baselines)
    if effect is None:
        return f"{n} final seeds and {num_baselines} baselines: too few seeds for a verdict"
    return (
        f"{n} final seeds and {num_baselines} baselines: finds a difference of {effect:.1f} "
        "standard deviations between two runs of a pair, with 80% power"
    )


def _tost_p(pairs: Sequence[float], margin: float) -> float:
    if np.ptp(pairs) == 0:
        return 0.0 if abs(pairs[0]) < margin else 1.0
    above = stats.ttest_1samp(pairs, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(pairs, margin, alternative="less").pvalue
    return float(max(above, below))


def _unit(metric: Metric) -> str:
    return f" {metric.unit_of_differences or metric.name}"


def shown_difference(difference: Mean, metric: Metric) -> str:
    """Show a difference with its unit, its interval and n."""
    text = f"{metric.number(difference.mean, '+')}{_unit(metric)}"
    if difference.low is None or difference.high is None:
        return f"{text} (n = {difference.n})"
    low, high = (metric.number(end, "+") for end in (difference.low, difference.high))
    return f"{text} [{low}, {high}], n = {difference.n}"
