"""Estimates, intervals and verdicts, on ledgers made for the purpose."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.analysis.maker import BASE, TASK, Maker, epoch, three
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.analysis.stats import Comparison, judge, mean_interval, sign_flip_p
from tune_adaptive.analysis.targets import stable_epoch
from tune_adaptive.report.write import verdict_document


def compared(folder: Path, ours: Sequence[float], theirs: Sequence[float]) -> Analysis:
    maker = Maker(folder)
    for schedule, test in (("adaptive", ours), ("step", theirs)):
        maker.select(schedule, 0.9)
        maker.final(schedule, test)
    return maker.analysis()


WIGGLE = [0.001, -0.001, 0.002, 0.0, -0.002, 0.001, 0.0, -0.001]


@pytest.mark.parametrize(
    ("shift", "wiggle", "word"),
    [(0.05, 1, "better"), (-0.05, 1, "worse"), (0.0, 1, "equivalent"), (0.01, 20, "inconclusive")],
)
def test_the_four_words(tmp_path: Path, shift: float, wiggle: float, word: str) -> None:
    ours = [base + shift + wiggle * noise for base, noise in zip(BASE, WIGGLE, strict=True)]
    verdict = compared(tmp_path, ours, BASE).verdicts[TASK]
    assert verdict.word == word
    assert word in verdict.sentence
    shrunk = math.sqrt(7 / stats.chi2.ppf(0.8, 7))
    assert verdict.margin == pytest.approx(shrunk * np.std(BASE, ddof=1))


def test_too_few_seeds_decide_nothing_however_large_the_difference(tmp_path: Path) -> None:
    verdict = compared(tmp_path, [0.9] * 5, [0.1, 0.2, 0.1, 0.2, 0.1]).verdicts[TASK]
    assert verdict.word == "inconclusive"
    assert "too few seeds for a verdict" in verdict.sentence


@pytest.mark.parametrize(("num_baselines", "fewest"), [(1, 6), (2, 7)])
def test_the_fewest_seeds_that_can_decide(num_baselines: int, fewest: int) -> None:
    for n in (fewest - 1, fewest):
        pairs = tuple(0.5 + index / 100 for index in range(n))
        p = sign_flip_p(pairs)
        assert p == pytest.approx(2 / 2**n)
        record = Comparison("step", mean_interval(pairs), pairs, p, p * num_baselines, True)
        word = judge(TASK, record, num_baselines, 0.01).word
        assert word == ("better" if n == fewest else "inconclusive")


def test_the_interval_is_the_paired_t_interval(tmp_path: Path) -> None:
    ours = [base + noise for base, noise in zip(BASE, WIGGLE[::-1], strict=True)]
    [comparison] = compared(tmp_path, ours, BASE).comparisons[TASK]
    interval = stats.ttest_rel(ours, BASE).confidence_interval()
    assert comparison.difference.low == pytest.approx(interval.low)
    assert comparison.difference.high == pytest.approx(interval.high)
    assert comparison.difference.mean == pytest.approx(np.mean(ours) - np.mean(BASE))


def test_the_sign_flip_test_is_exact() -> None:
    pairs = (0.1, 0.3, -0.05, 0.2)
    flips = np.array(np.meshgrid(*[(-1, 1)] * 4)).reshape(4, -1)
    means = np.abs((flips * np.array(pairs)[:, None]).mean(axis=0))
    assert sign_flip_p(pairs) == pytest.approx((means >= abs(np.mean(pairs)) - 1e-12).mean())
    assert sign_flip_p((0.1,)) is None


def test_holm_adjusts_over_the_baselines(tmp_path: Path) -> None:
    maker = Maker(tmp_path, ("adaptive", "step", "exponential"))
    for schedule, val, shift in (
        ("adaptive", 0.9, 0.03),
        ("step", 0.8, 0),
        ("exponential", 0.7, 0),
    ):
        maker.select(schedule, val)
        maker.final(schedule, [base + shift for base in BASE])
    found = maker.analysis().comparisons[TASK]
    assert [each.p for each in found] == [2 / 256] * 2
    assert [each.p_holm for each in found] == [4 / 256] * 2
    assert [(each.baseline, each.of_record) for each in found] == [
        ("step", True),
        ("exponential", False),
    ]


def test_the_defaults_are_compared_with_what_others_were_tuned_to(tmp_path: Path) -> None:
    """Paired by seed; neither adaptive's own tuning nor the others' defaults matter."""
    maker = Maker(tmp_path, ("adaptive", "step"))
    for schedule, tuned in (("adaptive", 0.2), ("step", 0.0)):
        maker.select(schedule, 0.9)
        maker.final(schedule, [base + tuned for base in BASE])
        for seed, base in enumerate(BASE):
            shift = 0.03 if schedule == "adaptive" else -0.5
            epochs = [*three(0.9)[:2], epoch(3, 0.9, base + shift)]
            id_ = f"final-{schedule}-default-{seed}"
            maker.run(id_, schedule, epochs, seed=200_000 + seed, role="default")
    [comparison] = maker.analysis().untuned_comparisons[TASK]
    assert comparison.pairs == pytest.approx([0.03] * 8)
    assert (comparison.baseline, comparison.p_holm) == ("step", 2 / 256)


def test_identical_accuracies_are_equivalent(tmp_path: Path) -> None:
    verdict = compared(tmp_path, BASE, BASE).verdicts[TASK]
    assert verdict.word == "equivalent"
    assert verdict.margin is not None and verdict.margin >= 0.002


def test_the_baseline_of_record_is_chosen_by_validation(tmp_path: Path) -> None:
    maker = Maker(tmp_path, ("adaptive", "step", "exponential"))
    for schedule, val, test in (
        ("adaptive", 0.5, 0.5),
        ("step", 0.9, 0.1),
        ("exponential", 0.8, 0.9),
    ):
        maker.select(schedule, val)
        maker.final(schedule, [test] * 8)
    assert maker.analysis().history.baseline_of_record(TASK) == "step"


def test_a_diverged_final_run_counts_as_chance_and_is_not_dropped(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    for schedule in maker.schedules:
        maker.select(schedule, 0.9)
    maker.final("step", [0.8] * 2)
    maker.final("adaptive", [0.8])
    maker.run("final-adaptive-1", "adaptive", [epoch(1, 0.1)], seed=200_001, status="diverged")
    analysis = maker.analysis()
    [arm] = [arm for arm in analysis.arms if arm.schedule == "adaptive"]
    assert arm.num_diverged == 1
    assert arm.test_metric is not None
    assert arm.test_metric.mean == pytest.approx((0.8 + 0.5) / 2)  # two classes
    assert analysis.comparisons[TASK][0].pairs == pytest.approx((0.0, -0.3))


def diverging(folder: Path, schedule: str) -> Analysis:
    """Eight finals of each; the last of ``schedule`` diverged at its first epoch."""
    maker = Maker(folder)
    for each, shift in (("adaptive", -0.03), ("step", 0.0)):
        maker.select(each, 0.9)
        tests = [base + shift for base in BASE]
        maker.final(each, tests[:7] if each == schedule else tests)
    bad = float("nan")
    lost = replace(epoch(1, 0.1), train_loss=bad, val_loss=bad, ended=True, diverged=True)
    maker.run(f"final-{schedule}-7", schedule, [lost], seed=200_007, status="diverged")
    return maker.analysis()


def test_a_diverged_run_leaves_every_number_finite_and_is_censored(tmp_path: Path) -> None:
    analysis = diverging(tmp_path, "adaptive")
    document = json.dumps(verdict_document(analysis), allow_nan=False)
    assert "NaN" not in document
    [arm] = [arm for arm in analysis.arms if arm.schedule == "adaptive"]
    assert arm.train_loss is not None
    assert (arm.train_loss.n, arm.train_loss.mean) == (7, 1.0)
    assert (arm.num_completed, arm.num_diverged, arm.to_target["primary"].num_hits) == (7, 1, 7)
    seconds = arm.to_target["primary"].seconds
    assert seconds is not None
    assert seconds.mean == pytest.approx((7 * 2 + 6) / 8)  # the lost one: T epochs


def test_a_diverged_baseline_does_not_widen_the_margin(tmp_path: Path) -> None:
    verdict = diverging(tmp_path, "step").verdicts[TASK]
    shrunk = math.sqrt(6 / stats.chi2.ppf(0.8, 6))
    assert verdict.margin == pytest.approx(shrunk * np.std(BASE[:7], ddof=1))
    assert verdict.word != "equivalent"


def test_a_baseline_that_always_diverges_is_beaten(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    for schedule in maker.schedules:
        maker.select(schedule, 0.9)
    maker.final("adaptive", BASE)
    for seed in range(8):
        gone = replace(epoch(1, 0.1), ended=True)
        maker.run(f"final-step-{seed}", "step", [gone], 200_000 + seed, status="diverged")
    verdict = maker.analysis().verdicts[TASK]
    assert (verdict.word, verdict.margin) == ("better", 0.002)


def test_a_failed_final_is_censored_and_counted(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    for schedule in maker.schedules:
        maker.select(schedule, 0.9)
    maker.final("step", [0.8] * 3)
    maker.final("adaptive", [0.8] * 2)
    maker.run("final-adaptive-2", "adaptive", [epoch(1, 0.99)], seed=200_002, status="failed")
    [arm] = [arm for arm in maker.analysis().arms if arm.schedule == "adaptive"]
    assert (arm.num_completed, arm.num_failed, arm.to_target["primary"].num_hits) == (2, 1, 2)
    assert arm.to_target["primary"].epochs.mean == pytest.approx((1 + 1 + 3) / 3)


def test_a_baseline_without_finals_is_named(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    for schedule in maker.schedules:
        maker.select(schedule, 0.9)
    maker.final("adaptive", [0.8] * 3)
    verdict = maker.analysis().verdicts[TASK]
    assert verdict.word is None
    assert "no final runs of adaptive and step to pair" in verdict.sentence


def test_many_seeds_are_flipped_at_random_and_repeatably() -> None:
    pairs = tuple(np.random.default_rng(1).normal(0.2, 1, 40))
    p = sign_flip_p(pairs)
    assert p == sign_flip_p(pairs)
    assert p == pytest.approx(stats.ttest_1samp(pairs, 0).pvalue, abs=0.02)


def test_a_run_without_an_end_is_lost_not_forgotten(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    maker.run("search-x", "step", [epoch(1, 0.5)], status=None)
    analysis = maker.analysis()
    assert [run.status for run in analysis.runs] == ["lost"]
    assert analysis.verdicts[TASK].word is None


def test_time_to_target_is_restricted_at_the_horizon(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    maker.select("step", 0.80)  # e* = 0.2, target error 0.22
    maker.select("adaptive", 0.90)
    hit = [epoch(1, 0.70), epoch(2, 0.79), epoch(3, 0.80, 0.8)]
    flash = [epoch(1, 0.79), epoch(2, 0.70), epoch(3, 0.70, 0.8)]  # never confirmed: a miss
    last = [epoch(1, 0.10), epoch(2, 0.10), epoch(3, 0.80, 0.8)]
    for seed, epochs in enumerate((hit, flash, last)):
        maker.run(f"final-step-{seed}", "step", epochs, seed)
    analysis = maker.analysis()
    assert analysis.target_error(TASK) == pytest.approx(0.22)
    [arm] = [arm for arm in analysis.arms if arm.schedule == "step"]
    assert arm.to_target["primary"].num_hits == 2
    assert arm.to_target["primary"].epochs.mean == pytest.approx((2 + 3 + 3) / 3)
    seconds = arm.to_target["primary"].seconds
    assert seconds is not None
    assert seconds.mean == pytest.approx((4 + 6 + 6) / 3)


def test_busy_counts_training_between_the_first_and_the_last_result(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    # Two slots; each epoch trains 2 s, then validates 1 s. From t = 3 to t = 9.
    for slot in range(2):
        times = (3.0, 6.0, 9.0) if slot == 0 else (5.0, 8.0)
        epochs = [epoch(index + 1, 0.5, at=at) for index, at in enumerate(times)]
        maker.run(f"search-{slot}", "step", epochs, status="stopped")
    busy = maker.analysis().busy
    # slot 0: 2 + 2 s trained, 0 + 1 + 1 validated; slot 1: 1 + 2 trained, 1 + 1 validated.
    assert busy == pytest.approx((7 / 12, 4 / 12))


def test_not_measured_is_null_never_zero(tmp_path: Path) -> None:
    for arm in compared(tmp_path, BASE, BASE).arms:
        assert arm.gpu_util is None
        assert arm.gpu_mem_bytes is None
        assert arm.cpu_percent is None


def test_the_stable_epoch_is_the_first_that_stays_within_two_percent() -> None:
    assert stable_epoch([]) is None
    assert stable_epoch([1.0, 1.0, 1.0]) == 1
    # 1, 0.84, 0.744, 0.6864: only the last is within 2% of the last.
    assert stable_epoch([1.0, 0.6, 0.6, 0.6]) == 4
    assert stable_epoch([1.0, 0.5, 9.0]) is None


def test_an_ablation_is_worth_what_is_lost_without_it(tmp_path: Path) -> None:
    maker = Maker(tmp_path, num_final_seeds=2)
    maker.select("adaptive", 0.9)
    maker.final("adaptive", [0.80, 0.82])
    for seed, test in enumerate((0.75, 0.79)):
        epochs = [epoch(1, 0.9), epoch(2, 0.9), epoch(3, 0.9, test)]
        maker.run(f"ablation-{seed}", "adaptive", epochs, 200_000 + seed, role="feedback off")
    [found] = maker.analysis().ablations
    assert (found.name, found.slowed) == ("feedback off", False)
    assert found.metric.mean == pytest.approx(0.77)
    assert found.worth is not None
    assert found.worth.mean == pytest.approx(0.04)


def test_the_verdict_is_about_the_studied_schedule(tmp_path: Path) -> None:
    """By the same rows, of another schedule: each difference the other way round."""
    found = {}
    for studied in ("adaptive", "step"):
        (tmp_path / studied).mkdir()
        maker = Maker(tmp_path / studied, ("adaptive", "step", "linear"), studied=studied)
        for schedule, shift in (("adaptive", 0.03), ("step", 0.0), ("linear", -0.03)):
            maker.select(schedule, 0.9 + shift)
            maker.final(schedule, [base + shift for base in BASE])
        found[studied] = maker.analysis()
    ours, step = found["adaptive"], found["step"]
    assert ours.verdicts[TASK].sentence.startswith(f"{TASK}: adaptive minus step +3.00 points")
    assert step.verdicts[TASK].sentence.startswith(f"{TASK}: step minus adaptive -3.00 points")
    assert [ours.verdicts[TASK].word, step.verdicts[TASK].word] == ["better", "worse"]
    by_name = {each.baseline: each.difference.mean for each in step.comparisons[TASK]}
    assert by_name == {"adaptive": pytest.approx(-0.03), "linear": pytest.approx(0.03)}
    assert verdict_document(step)["studied"] == "step"


def test_who_is_not_compared_gets_no_verdict(tmp_path: Path) -> None:
    maker = Maker(tmp_path, ("adaptive", "step"), studied="linear")
    for schedule in ("adaptive", "step"):
        maker.select(schedule, 0.9)
        maker.final(schedule, BASE)
    verdict = maker.analysis().verdicts[TASK]
    assert verdict.word is None
    assert "linear is not among the schedules" in verdict.sentence
