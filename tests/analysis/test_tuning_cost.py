"""What tuning costs, on constructed controls; targets and tasks by hand."""

import itertools
import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.analysis.maker import MIDDLE, TASK, Maker, honest, three
from tune_adaptive.analysis.across import claim
from tune_adaptive.analysis.importance import importances
from tune_adaptive.analysis.stats import mean_interval
from tune_adaptive.analysis.targets import TimeToTarget, best_error, time_saved
from tune_adaptive.analysis.tuning_cost import (
    CostCurve,
    best_quantile,
    expected_best,
    runs_needed,
)
from tune_adaptive.records import ledger
from tune_adaptive.report.write import verdict_document

VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=6)


@given(VALUES, st.data())
def test_the_best_of_k_is_that_over_all_subsets(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    bests = sorted(max(subset) for subset in itertools.combinations(values, k))
    assert expected_best(values, k) == pytest.approx(np.mean(bests))
    for quantile in (0.1, 0.5, 0.9):
        expected = np.quantile(bests, quantile, method="inverted_cdf")
        assert best_quantile(values, k, quantile) == pytest.approx(expected)


def curve(*controls: float) -> CostCurve:
    return CostCurve("step", (), (), (), (), controls, None, None, 0.0)


@pytest.mark.parametrize(
    ("untuned", "runs"),
    [([0.70, 0.70], 1), ([0.745, 0.755], 4 / 3), ([0.85, 0.85], 4), ([0.90, 0.90], None)],
)
def test_runs_needed(untuned: list[float], runs: float | None) -> None:
    found = runs_needed(curve(0.70, 0.75, 0.80, 0.85), untuned)
    assert found.runs == runs
    assert ("needs more than 4" in found.sentence) == (runs is None)
    assert found.low is not None
    assert 1 <= found.low <= (runs or 5)
    assert found.high is None or found.high >= (runs or 5)


def test_the_error_is_split_between_the_mean_and_the_share() -> None:
    untuned = [0.74, 0.76, 0.75]  # t(0.9875, 2) = 6.205, so from 0.7142 to 0.7858
    found = runs_needed(curve(0.70, 0.75, 0.80, 0.85), untuned)
    assert found.low == pytest.approx(1 / stats.beta.ppf(0.9875, 4, 1))  # 3 of 4 reach the low end
    assert found.high == pytest.approx(1 / stats.beta.ppf(0.0125, 2, 3))  # 2 of 4 the high one


def test_ties_are_as_good() -> None:
    assert runs_needed(curve(0.83, 0.83, 0.83), [0.83, 0.83]).runs == 1


@pytest.mark.parametrize(
    ("num", "share"),
    [
        (2, 0.3),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((3, 0.7), (6, 0.1), (20, 0.3))),
    ],
)
def test_its_interval_covers_at_least_what_it_says(num: int, share: float) -> None:
    """Exact and of a count, so it cannot be exactly 95%: it must not be less."""
    rng = np.random.default_rng(0)
    goal = stats.norm.isf(share)  # controls are standard normal
    hits = []
    for _ in range(1000):
        untuned = list(rng.normal(goal, 0.3, 8))
        found = runs_needed(curve(*rng.normal(size=num)), untuned)
        assert found.low is not None
        hits.append(found.low <= 1 / share and (found.high is None or 1 / share <= found.high))
    assert np.mean(hits) >= 0.95


def test_without_controles_nothing_is_told() -> None:
    for found in (runs_needed(curve(), [0.75, 0.75]), runs_needed(curve(0.7, 0.8), [0.75])):
        assert found.runs is None
        assert "unknown" in found.sentence


def test_what_diverged_counts_as_chance_on_both_sides(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    for schedule in maker.schedules:
        for run_id in (f"final-{schedule}-3", f"search-{schedule}-0002"):
            maker.events = [
                replace(event, status="diverged")
                if isinstance(event, ledger.RunEnded) and event.run_id == run_id
                else event
                for event in maker.events
            ]
    for each in maker.analysis().cost_curves[TASK]:
        assert min(each.controls) == 0.5
        assert each.untuned is not None
        assert each.untuned.mean == pytest.approx((7 * 0.9 + 0.5) / 8)


def test_a_default_that_was_selected_is_not_run_twice(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    history = maker.analysis().history
    selected = history.final_runs(TASK, "step")
    assert history.default_runs(TASK, "step") == selected
    other = replace(MIDDLE, recipe=replace(MIDDLE.recipe, lr=0.02), schedule="step")
    maker.events = [
        replace(e, configuration=other)
        if isinstance(e, ledger.Selected) and e.configuration.schedule == "step"
        else e
        for e in maker.events
    ]
    maker.folder = tmp_path / "other"
    maker.folder.mkdir()
    assert maker.analysis().history.default_runs(TASK, "step") == []


def test_the_curve_counts_what_was_spent(tmp_path: Path) -> None:
    analysis = honest(tmp_path).analysis()
    adaptive, step = analysis.cost_curves[TASK]
    assert step.epochs == (3.0, 6.0, 9.0, 12.0)
    assert step.metric[0] == pytest.approx(np.mean([0.70, 0.72, 0.84, 0.86]))
    assert step.metric[-1] == 0.86
    assert (
        adaptive.tuned_epochs == 5 * 3 + 4 * 3
    )  # five trials; two candidates, one of them the defaults, twice


def test_the_target_is_set_by_the_re_runs_of_what_was_selected(tmp_path: Path) -> None:
    history = honest(tmp_path).analysis().history
    assert history.baseline_of_record(TASK) == "step"
    assert best_error(history, TASK) == pytest.approx(1 - 0.86)


def reached(*hits: int | None) -> TimeToTarget:
    epochs = mean_interval([float(hit or 10) for hit in hits])
    num_hits = sum(hit is not None for hit in hits)
    return TimeToTarget(epochs, None, num_hits, len(hits), dict(enumerate(hits)))


def test_time_saved_is_paired_and_censored_at_the_horizon() -> None:
    saved = time_saved("step", reached(2, 4, None), reached(4, 8, None), horizon=10)
    assert saved is not None
    assert saved.difference.mean == pytest.approx((2 - 4 + 4 - 8 + 10 - 10) / 3)
    assert saved.ratio is not None
    assert saved.ratio.mean == pytest.approx(16 / 22)
    none = replace(reached(3), hit_epochs={})
    assert time_saved("step", reached(2), none, 10) is None


def two_tasks(folder: Path) -> Maker:
    maker = Maker(folder, num_final_seeds=2)
    first = maker.plan().tasks[0]
    maker.plan_fields["tasks"] = (first, replace(first, name="tiny/other"))
    for task in (TASK, "tiny/other"):
        for schedule, shift in (("adaptive", 0.1), ("step", 0.0)):
            begin = len(maker.events)
            maker.select(schedule, 0.9)
            maker.final(schedule, [0.8 + shift, 0.8 + shift])
            for index in range(begin, len(maker.events)):
                event = maker.events[index]
                if isinstance(event, ledger.RunStarted):
                    run = replace(event.run, task=task, id=f"{event.run.id}-{task[-5:]}")
                    maker.events[index] = replace(event, run=run)
                elif isinstance(event, ledger.Selected):
                    maker.events[index] = replace(event, task=task)
                elif isinstance(event, ledger.EpochDone | ledger.RunEnded | ledger.TestOpened):
                    maker.events[index] = replace(event, run_id=f"{event.run_id}-{task[-5:]}")
    return maker


def test_over_two_tasks_errors_are_normalised_and_nothing_is_claimed(tmp_path: Path) -> None:
    adaptive, step = two_tasks(tmp_path).analysis().across
    assert (adaptive.iqm.mean, step.iqm.mean) == pytest.approx((0.5, 1.0))
    assert (adaptive.iqm.n, adaptive.iqm.low) == (4, pytest.approx(0.5))
    assert (adaptive.mean_rank.mean, step.mean_rank.mean) == (1.0, 2.0)
    assert (adaptive.profile(0.6), step.profile(0.6)) == (1.0, 0.0)
    many = [f"task-{number}" for number in range(10)]
    assert claim(many, many) == "10 tasks."
    assert claim(many, many[:9]).startswith(
        "9 tasks (not every schedule was run to an end on task-9): no general"
    )


def test_the_verdict_of_what_was_made_keeps_its_schema(tmp_path: Path) -> None:
    schema = json.loads(files("tune_adaptive.report").joinpath("verdict.schema.json").read_text())
    for name, make in (("one", honest), ("two", two_tasks)):
        (tmp_path / name).mkdir()
        document = verdict_document(make(tmp_path / name).analysis())
        jsonschema.validate(json.loads(json.dumps(document, allow_nan=False)), schema)


def test_a_schedule_that_never_ended_well_counts_as_chance(tmp_path: Path) -> None:
    maker = two_tasks(tmp_path)
    gone = {
        event.run.id
        for event in maker.events
        if isinstance(event, ledger.RunStarted) and event.run.arm == (TASK, "adaptive")
    }
    maker.events = [
        event
        for event in maker.events
        if getattr(event, "run_id", None) not in gone
        and not (isinstance(event, ledger.RunStarted) and event.run.id in gone)
        and not (
            isinstance(event, ledger.Selected)
            and event.task == TASK
            and event.configuration.schedule == "adaptive"
        )
    ]
    assert maker.analysis().across == [], "it has not been run to an end"
    maker.events.append(ledger.ArmFailed(TASK, "adaptive"))
    maker.folder = tmp_path / "failed"
    maker.folder.mkdir()
    adaptive = maker.analysis().across[0]
    assert adaptive.errors[0] == pytest.approx(0.5 / 0.2)
    assert adaptive.mean_rank.mean == 1.5


def test_what_decides_is_important(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(24):
        lr, decay = 10 ** rng.uniform(-4, -1), rng.uniform(0, 0.1)
        value = 0.5 + 0.1 * np.log10(lr / 1e-4)
        maker.run(f"search-step-{number:04d}", "step", three(float(value)), seed=number)
        event = maker.events[-5]
        assert isinstance(event, ledger.RunStarted)
        recipe = replace(event.run.configuration.recipe, lr=lr, weight_decay=decay)
        configuration = replace(event.run.configuration, recipe=recipe)
        maker.events[-5] = replace(event, run=replace(event.run, configuration=configuration))
    shares = importances(maker.analysis().history, TASK, "step")
    assert max(shares, key=lambda name: shares[name]) == "lr"


def test_few_trials_say_nothing_of_importance(tmp_path: Path) -> None:
    assert importances(honest(tmp_path).analysis().history, TASK, "step") == {}
