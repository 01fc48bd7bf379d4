"""Intervals and tests against known answers, published data and simulation."""

import gc
import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from tune_adaptive.analysis.across import interquartile_mean
from tune_adaptive.analysis.stats import (
    ALPHA,
    Mean,
    _tost_p,
    compare,
    detectable_sd,
    equivalence_margin,
    judge,
    mean_interval,
    ratio_interval,
    sign_flip_p,
    superiority,
)
from tune_adaptive.analysis.targets import TimeToTarget, time_saved

SLEEP = (1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4)
"""Student (1908): hours of sleep gained, one drug minus another."""

ZEA_MAYS = (49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48)
"""Darwin (1876): crossed minus self-fertilised maize, eighths of an inch."""


slow = pytest.mark.slow
"""Of simulations; of each, the cheapest case stays among the default tests."""


@pytest.fixture
def frozen_heap() -> Iterator[None]:
    """Make ``gc.collect()`` cheap: statsmodels calls it in every ``multipletests``."""
    gc.freeze()
    yield
    gc.unfreeze()


def covers(interval: Mean | None, truth: float) -> bool:
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    return interval.low <= truth <= interval.high


def test_the_interval_of_students_sleep_data() -> None:
    interval = mean_interval(SLEEP)
    assert interval.mean == pytest.approx(1.58)
    assert (interval.low, interval.high) == pytest.approx((0.7001142, 2.4598858))


def test_fishers_randomisation_test_of_darwins_maize() -> None:
    """Fisher (1935) counted 1,726 of 32,768 arrangements as extreme: p = 0.05267."""
    assert sign_flip_p(ZEA_MAYS) == pytest.approx(1726 / 32768)


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=8))
def test_the_sign_flip_test_counts_every_arrangement(pairs: list[int]) -> None:
    signs = np.array(list(itertools.product((-1, 1), repeat=len(pairs))))
    extreme = np.abs(signs @ pairs) >= abs(sum(pairs))
    assert sign_flip_p(pairs) == pytest.approx(extreme.mean())


def test_tost_of_students_sleep_data_is_that_of_statsmodels() -> None:
    for margin in (1.5, 2.0, 3.0):
        expected, _, _ = ttost_paired(np.array(SLEEP), np.zeros(10), -margin, margin)
        assert _tost_p(SLEEP, margin) == pytest.approx(expected)


def test_superiority_is_the_share_that_mann_and_whitney_count() -> None:
    ours, theirs = [0.8, 0.82, 0.85, 0.8], [0.79, 0.8, 0.83, 0.81]
    found = superiority(ours, theirs)
    assert found is not None
    assert found.mean == pytest.approx(stats.mannwhitneyu(ours, theirs).statistic / 16)


@pytest.mark.parametrize("n", [6, pytest.param(10, marks=slow)])
def test_intervals_cover_what_they_say(n: int) -> None:
    """2,000 samples of each; 95% nominal."""
    rng = np.random.default_rng(0)
    seed = rng.normal(0, 1, (2000, n))  # what the arms share by seed
    ours, theirs = 10 + seed + rng.normal(0, 1, (2, 2000, n))
    covered = {
        "mean": [covers(mean_interval(list(a)), 10) for a in ours],
        "paired": [
            covers(mean_interval(list(a - b)), 0) for a, b in zip(ours, theirs, strict=True)
        ],
        "ratio": [
            covers(ratio_interval(list(a), list(b)), 1) for a, b in zip(ours, theirs, strict=True)
        ],
    }
    shares = {name: np.mean(own) for name, own in covered.items()}
    assert all(0.93 <= share <= 0.97 for share in shares.values()), shares


@pytest.mark.parametrize("n", [6, pytest.param(10, marks=slow)])
@pytest.mark.parametrize("shift", [0.0, 0.7])
@pytest.mark.parametrize("shared", [0.5, pytest.param(0.0, marks=slow)])
def test_the_interval_of_superiority_covers(n: int, shift: float, shared: float) -> None:
    """Whatever share of the variance the arms have in common by seed."""
    rng = np.random.default_rng(0)
    seed = math.sqrt(shared) * rng.normal(0, 1, (4000, n))
    ours, theirs = seed + math.sqrt(1 - shared) * rng.normal(0, 1, (2, 4000, n))
    truth = stats.norm.cdf(shift / np.sqrt(2))
    hits = []
    for a, b in zip(ours + shift, theirs, strict=True):
        found = superiority(list(a), list(b))
        assert found is not None
        hits.append(found.low is None or covers(found, truth))
    assert 0.93 <= np.mean(hits) <= 0.97, np.mean(hits)


@pytest.mark.parametrize("n", [6, pytest.param(10, marks=slow)])
def test_the_interval_of_the_time_to_target_covers(n: int) -> None:
    """Times are crossings of a target, rounded up to whole epochs and censored at T = 20."""
    rng = np.random.default_rng(0)

    def reached(middle: float, noise: np.ndarray) -> np.ndarray:
        return np.minimum(np.ceil(middle + 3 * noise), 20)

    def told(epochs: np.ndarray) -> TimeToTarget:
        hits = {seed: int(epoch) for seed, epoch in enumerate(epochs)}
        return TimeToTarget(mean_interval(list(epochs)), None, n, n, hits)

    truth = [reached(middle, rng.normal(size=10**6)).mean() for middle in (10, 12)]
    covered: list[list[bool]] = [[], []]
    for a, b in rng.normal(size=(1000, 2, n)):
        ours, theirs = told(reached(10, a)), told(reached(12, b))
        saved = time_saved("step", ours, theirs, 20)
        assert saved is not None
        covered[0].append(covers(ours.epochs, truth[0]))
        covered[1].append(covers(saved.difference, truth[0] - truth[1]))
    assert all(0.93 <= np.mean(own) <= 0.97 for own in covered), list(map(np.mean, covered))


@pytest.mark.parametrize(
    ("num_tasks", "n"), [(2, 6), *(pytest.param(*case, marks=slow) for case in ((2, 10), (7, 6)))]
)
def test_the_interval_of_the_interquartile_mean_covers(n: int, num_tasks: int) -> None:
    rng = np.random.default_rng(0)
    centres = np.linspace(0.9, 1.1, num_tasks)[:, None]
    truth = stats.trim_mean((centres + rng.normal(0, 0.05, (num_tasks, 10**5))).ravel(), 0.25)
    hits = [
        covers(interquartile_mean(list(centres + rng.normal(0, 0.05, (num_tasks, n)))), truth)
        for _ in range(1500)
    ]
    assert 0.93 <= np.mean(hits) <= 0.97, np.mean(hits)


@pytest.mark.parametrize(
    ("shared", "n"), [(0.5, 8), *(pytest.param(*case, marks=slow) for case in ((0, 10), (0.9, 8)))]
)
def test_a_difference_of_one_seed_sd_seldom_passes_for_equivalent(n: int, shared: float) -> None:
    rng = np.random.default_rng(0)
    seed = math.sqrt(shared) * rng.normal(0, 0.01, (2000, n))
    ours, theirs = seed + math.sqrt(1 - shared) * rng.normal(0, 0.01, (2, 2000, n))
    wrong = [
        _tost_p(tuple(a + 0.01 - b), equivalence_margin(list(b))) < ALPHA
        for a, b in zip(ours, theirs, strict=True)
    ]
    assert np.mean(wrong) <= 0.055  # 5%, and two standard errors of 2,000 draws at that


def synthetic(
    rng: np.random.Generator, n: int, num_baselines: int, shift: float = 0.0
) -> str | None:
    """Judge one experiment whose arms share half their variance by seed; return its word."""
    seed = rng.normal(0, 1, n)
    arms = [0.8 + 0.01 * (seed + rng.normal(0, 1, n)) for _ in range(num_baselines + 1)]
    ours = {i: value + shift for i, value in enumerate(arms[0])}
    baselines = {f"b{k}": dict(enumerate(own)) for k, own in enumerate(arms[1:])}
    record = f"b{rng.integers(num_baselines)}"  # chosen on validation: blind to the test split
    comparisons = compare(ours, baselines, record)
    [of_record] = [each for each in comparisons if each.of_record]
    return judge("task", of_record, num_baselines, equivalence_margin(list(arms[1]))).word


@pytest.mark.usefixtures("frozen_heap")
@pytest.mark.parametrize("num_baselines", [1, pytest.param(3, marks=slow)])
def test_the_verdict_errs_in_at_most_five_percent_under_the_null(num_baselines: int) -> None:
    rng = np.random.default_rng(1)
    words = [synthetic(rng, 8, num_baselines) for _ in range(1000)]
    wrong = sum(word in ("better", "worse") for word in words) / 1000
    assert 0 < wrong <= 0.05


@pytest.mark.usefixtures("frozen_heap")
@pytest.mark.parametrize("n", [8, pytest.param(10, marks=slow)])
def test_the_power_is_what_the_plan_promised(n: int) -> None:
    """The promise is for Holm's first threshold: the other baselines do not differ."""
    effect = detectable_sd(n, 2)
    assert effect is not None
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(1000):
        pairs = rng.normal(effect, 1, n)
        p = sign_flip_p(tuple(pairs))
        assert p is not None
        adjusted = multipletests([p, 1.0], ALPHA, "holm")[1][0]
        found += bool(adjusted < ALPHA and pairs.mean() > 0)
    assert 0.76 <= found / 1000 <= 0.84


def test_more_seeds_find_less_and_too_few_find_nothing() -> None:
    found = [detectable_sd(n, 2) for n in (7, 8, 10, 12, 13, 20)]
    assert all(a is not None and b is not None and a > b for a, b in itertools.pairwise(found))
    assert detectable_sd(6, 2) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "word", "told"),
    [
        ([0.1] * 8, [0.1] * 8, None, "no verdict: every run scored the same"),
        ([0.9] * 8, [0.8] * 8, None, "no verdict: every run of a schedule scored the same"),
        # One that varies shows that seeds matter: its ties and the other's constancy are results.
        ([0.8, 0.81, 0.8, 0.82] * 2, [0.8, 0.81, 0.8, 0.82] * 2, "equivalent", ": equivalent ("),
        ([0.9] * 8, [0.8, 0.81, 0.8, 0.82] * 2, "better", ": better ("),
        ([0.1], [0.1], "inconclusive", "too few seeds"),
    ],
)
def test_where_no_run_varies_there_is_no_verdict(
    ours: list[float], theirs: list[float], word: str | None, told: str
) -> None:
    [comparison] = compare(dict(enumerate(ours)), {"step": dict(enumerate(theirs))}, "step")
    verdict = judge("task", comparison, 1, equivalence_margin(theirs))
    assert verdict.word == word
    assert told in verdict.sentence
    assert (comparison.p is None) == (word is None or len(ours) < 2)


def test_a_baseline_that_never_varies_takes_no_part_in_holms_correction() -> None:
    ours, varied = dict(enumerate([0.9] * 8)), dict(enumerate([0.8, 0.81, 0.8, 0.82] * 2))
    found = compare(ours, {"step": varied, "constant": dict(enumerate([0.1] * 8))}, "step")
    assert [each.p_holm for each in found] == [pytest.approx(2 / 2**8), None]
