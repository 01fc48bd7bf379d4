"""Planted cheats: each breaks exactly one rule of an experiment that kept them all."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.maker import BASE, TASK, Maker, epoch, honest, three
from tune_adaptive.analysis.check import Check
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.errors import InputError
from tune_adaptive.records import ledger
from tune_adaptive.records.ablations import ABLATIONS
from tune_adaptive.records.runs import Configuration, EpochResult, RunSpec, Slowdown
from tune_adaptive.records.task_plan import DataFacts
from tune_adaptive.report.write import write_report

OPENED = "The test split is opened once by each run after the selection"
ACCOUNTED = "Every launched run is accounted for"
HORIZON = "Every schedule was given the full T to plan for"
SELECTION = "What is compared is what selection chose"


def failed(analysis: Analysis) -> list[Check]:
    return [check for check in analysis.checks if check.ok is False]


def rules(analysis: Analysis) -> list[str]:
    return [check.rule.split(",")[0] for check in failed(analysis)]


def change_runs(maker: Maker, start: str, change: Callable[[RunSpec], RunSpec]) -> None:
    maker.events = [
        replace(event, run=change(event.run))
        if isinstance(event, ledger.RunStarted) and event.run.id.startswith(start)
        else event
        for event in maker.events
    ]


def change_epochs(maker: Maker, start: str, change: Callable[[EpochResult], EpochResult]) -> None:
    maker.events = [
        replace(event, result=change(event.result))
        if isinstance(event, ledger.EpochDone) and event.run_id.startswith(start)
        else event
        for event in maker.events
    ]


def drop(maker: Maker, run_id: str) -> None:
    def tells_of(event: Any) -> bool:
        own = event.run.id if isinstance(event, ledger.RunStarted) else None
        return run_id in (own, getattr(event, "run_id", None))

    maker.events = [event for event in maker.events if not tells_of(event)]


def test_an_honest_experiment_keeps_every_rule(tmp_path: Path) -> None:
    analysis = honest(tmp_path).analysis()
    assert failed(analysis) == []
    undecided = [check.rule for check in analysis.checks if check.ok is None]
    assert undecided == []
    assert (analysis.breaches, analysis.timing_void) == ([], None)
    assert analysis.verdicts[TASK].word == "better"


def test_ten_percent_more_epochs_for_one_arm(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    change_epochs(
        maker,
        "search-adaptive",
        lambda e: replace(e, epoch_equivalents=1.1 * e.epoch_equivalents),
    )
    assert "Every arm spent the same" in rules(maker.analysis())


def test_a_difference_of_spends_within_one_first_rung_is_allowed(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    shorter = iter([replace(epoch(3, 0.86), epoch_equivalents=2.0)])
    change_epochs(maker, "search-step-0004", lambda e: next(shorter) if e.epoch == 3 else e)
    assert rules(maker.analysis()) == []


@pytest.mark.parametrize(
    ("run", "seed"), [("search-step-0002", 200_003), ("select-search-step-0004-1", 1)]
)
def test_an_overlapping_seed(tmp_path: Path, run: str, seed: int) -> None:
    maker = honest(tmp_path)
    change_runs(maker, run, lambda spec: replace(spec, seed=seed))
    assert rules(maker.analysis()) == ["Search"]


def test_final_seeds_of_ones_own(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    change_runs(maker, "final-step-7", lambda spec: replace(spec, seed=200_099))
    assert rules(maker.analysis()) == ["Search"]


@pytest.mark.parametrize("how", ["spec", "row", "result"])
def test_the_test_split_opened_in_the_search(tmp_path: Path, how: str) -> None:
    maker = honest(tmp_path)
    if how == "spec":
        change_runs(maker, "search-adaptive-0003", lambda spec: replace(spec, open_test=True))
    elif how == "row":
        maker.events.append(ledger.TestOpened("search-adaptive-0003", 9.0))
    else:
        change_epochs(
            maker,
            "search-adaptive-0003",
            lambda e: replace(e, test_metric=0.9) if e.ended else e,
        )
    assert OPENED in rules(maker.analysis())


def test_the_test_split_opened_twice(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    change_epochs(maker, "final-adaptive-3", lambda e: replace(e, test_metric=0.99))
    assert rules(maker.analysis()) == [OPENED]


@pytest.mark.parametrize("run_id", ["search-adaptive-0002", "final-adaptive-3"])
def test_a_dropped_diverged_run(tmp_path: Path, run_id: str) -> None:
    maker = honest(tmp_path)
    drop(maker, run_id)
    analysis = maker.analysis()
    assert ACCOUNTED in rules(analysis)
    assert analysis.breaches


def test_the_last_trials_dropped(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    maker.num_told = sum(isinstance(event, ledger.RunStarted) for event in maker.events)
    for schedule in maker.schedules:
        drop(maker, f"search-{schedule}-0004")
    [found] = [check for check in failed(maker.analysis()) if check.rule == ACCOUNTED]
    told = maker.num_told
    assert f"{told} runs were started before the end, not {told - 2}" in found.finding


def test_a_run_dropped_before_a_later_stage(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    num_started = sum(isinstance(event, ledger.RunStarted) for event in maker.events)
    maker.num_before["final"] = num_started
    [found] = [check for check in failed(maker.analysis()) if check.rule == ACCOUNTED]
    assert "before stage final" in found.finding


@pytest.mark.parametrize("left", ["slowed", "one slowed", "ablation"])
def test_what_is_planned_after_the_final_runs_must_be_there(tmp_path: Path, left: str) -> None:
    maker = honest(tmp_path)
    maker.plan_fields |= {"ablations": True, "slowdown": Slowdown(2.0, 0.4)}
    for seed, base in enumerate(BASE):
        epochs = three(0.8, base)
        for schedule in maker.schedules:
            own = f"contention-{schedule}-{seed}"
            if left != "slowed" and not (left == "one slowed" and own == "contention-step-3"):
                maker.run(own, schedule, epochs, 200_000 + seed, role="selected")
        for role in ABLATIONS["adaptive"]:
            for stage in ("ablation", "contention"):
                if left != "ablation" or (stage, role) != ("contention", "all off"):
                    id_ = f"{stage}-adaptive-{seed}-{role.replace(' ', '_')}"
                    maker.run(id_, "adaptive", epochs, 200_000 + seed, role=role)
    [found] = failed(maker.analysis())
    assert found.rule == ACCOUNTED
    expected = "contention all off" if left == "ablation" else "slowed"
    assert f"test metrics of its {expected} runs" in found.finding


def test_a_stranger_on_the_gpu_voids_the_times(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    change_epochs(maker, "final-step-4", lambda e: replace(e, num_cotenants=1))
    assert maker.analysis().timing_void == "foreign processes on the GPU beside 1 runs"


@pytest.mark.parametrize(
    ("foreign", "ok"), [(None, True), (0.0, True), (1.1, True), (1.4, False)], ids=str
)
def test_others_on_the_cpus_void_the_times_where_none_were_left(
    tmp_path: Path, foreign: float | None, ok: bool
) -> None:
    """Of two CPUs, one run at a time takes one."""
    maker = honest(tmp_path)
    change_epochs(maker, "final-step-4", lambda e: replace(e, foreign_cpus=foreign))
    analysis = maker.analysis()
    assert (analysis.timing_void is None) is ok
    assert list(analysis.breaches) == [], "the metrics are not touched"
    if not ok:
        assert "other processes used up to 1.4 CPUs beside 1 runs" in str(analysis.timing_void)


@pytest.mark.parametrize("how", ["dropped", "told failed"])
def test_the_strongest_baseline_is_not_left_out(tmp_path: Path, how: str) -> None:
    maker = honest(tmp_path)
    [place] = [
        n
        for n, e in enumerate(maker.events)
        if isinstance(e, ledger.Selected) and e.configuration.schedule == "step"
    ]
    del maker.events[place]
    if how == "told failed":
        maker.events.insert(place, ledger.ArmFailed(TASK, "step"))
    assert SELECTION in rules(maker.analysis())


def test_an_arm_that_failed_is_no_breach(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    maker.schedules = (*maker.schedules, "cosine")
    maker.search("cosine", [0.1] * 5)
    maker.events = [
        replace(event, status="failed", message="OSError: gone")
        if isinstance(event, ledger.RunEnded) and event.run_id.startswith("search-cosine")
        else event
        for event in maker.events
    ]
    maker.events.append(ledger.ArmFailed(TASK, "cosine"))
    analysis = maker.analysis()
    assert analysis.breaches == []
    verdict = analysis.verdicts[TASK]
    assert verdict.word == "better"


def test_seeds_must_suffice_for_all_the_baselines_that_were_planned(tmp_path: Path) -> None:
    """One of two failed: six seeds could decide for one, and may not."""
    maker = Maker(tmp_path, ("adaptive", "step", "cosine"))
    for schedule, shift in (("adaptive", 0.05), ("step", 0.0)):
        maker.select(schedule, 0.9)
        maker.final(schedule, [base + shift for base in BASE[:6]])
    assert "too few seeds" in maker.analysis().verdicts[TASK].sentence


@pytest.mark.parametrize("how", ["diverged", "twice", "after its end"])
def test_an_end_that_contradicts_the_epochs(tmp_path: Path, how: str) -> None:
    maker = honest(tmp_path)
    [place] = [
        n
        for n, e in enumerate(maker.events)
        if isinstance(e, ledger.RunEnded) and e.run_id == "final-step-3"
    ]
    event = maker.events[place]
    assert isinstance(event, ledger.RunEnded)
    if how == "diverged":
        maker.events[place] = replace(event, status="diverged")
    elif how == "twice":
        maker.events.append(event)
    else:
        maker.events.append(ledger.EpochDone("final-step-3", epoch(4, 0.99)))
    assert "The ledger is whole" in rules(maker.analysis())


def test_ties_are_broken_as_selection_breaks_them(tmp_path: Path) -> None:
    """The default ties for the last place and ended after its rival: all three were re-run."""
    maker = Maker(tmp_path, budget=4.0, num_final_seeds=8)
    for schedule in maker.schedules:
        begin = len(maker.events)
        maker.search(schedule, [0.84, 0.84, 0.86])
        first, rest = maker.events[begin : begin + 5], maker.events[begin + 5 :]
        maker.events[begin:] = [*first[:4], *rest, first[4]]
        maker.reselect(schedule, [0.84, 0.845, 0.86])
        maker.events = [
            replace(e, result=replace(e.result, val_metric=0.84))
            if isinstance(e, ledger.EpochDone) and e.result.val_metric == 0.845
            else e
            for e in maker.events
        ]
        maker.final(schedule, BASE)
    maker.canaries([2.0, 2.0, 2.0])
    assert SELECTION not in rules(maker.analysis())


@pytest.mark.parametrize(
    ("number", "finding"), [(4, "trials [4] are there twice"), (6, "no record of trials [5]")]
)
def test_a_trial_of_a_strange_number_is_a_finding(
    tmp_path: Path, number: int, finding: str
) -> None:
    maker = honest(tmp_path)
    maker.run("search-foo", "step", three(0.1), number=number)
    [found] = [check for check in failed(maker.analysis()) if check.rule == ACCOUNTED]
    assert finding in found.finding


def test_a_ledger_of_version_3_names_neither_trials_nor_what_is_repeated(tmp_path: Path) -> None:
    """Its trials have the seeds of the search in their order; a re-run is called as its trial."""
    maker = honest(tmp_path)
    change_runs(maker, "", lambda spec: replace(spec, number=None, repeats=None))
    assert failed(maker.analysis()) == []
    (tmp_path / "ledger.jsonl").unlink()
    drop(maker, "search-step-0002")
    [found] = [check for check in failed(maker.analysis()) if check.rule == ACCOUNTED]
    assert "no record of trials [2]" in found.finding


def test_what_interruptions_threw_away_adds_up(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    interruption = [ledger.Opened(0.0, ""), ledger.RunResumed("search-adaptive-0000", 0, 0.0)]
    maker.events[3:3] = [*interruption, ledger.EpochDone("search-adaptive-0000", epoch(1, 0.5))]
    maker.events[6:6] = interruption
    maker.events[8:8] = [ledger.EpochDone("search-adaptive-0000", e) for e in three(0.85)]
    run = maker.analysis().runs[0]
    assert (run.spec.id, run.void_epochs) == ("search-adaptive-0000", 3.0)


def test_what_a_checkpoint_kept_is_not_thrown_away(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    first = [n for n, e in enumerate(maker.events) if isinstance(e, ledger.EpochDone)][1]
    name = "search-adaptive-0000"
    maker.events[first + 1 : first + 1] = [
        ledger.RunInterrupted(name, "the worker process died", 0.0),
        ledger.RunResumed(name, 1, 0.0),
        ledger.EpochDone(name, three(0.85)[1]),
    ]
    analysis = maker.analysis()
    run = analysis.runs[0]
    assert [e.epoch for e in run.epochs] == [1, 2, 3]
    assert (run.num_resumed, run.void_epochs) == (1, 1.0)
    [told] = [check for check in analysis.checks if check.rule == ACCOUNTED]
    assert told.ok
    assert "1 resumed after an interruption, 1 epochs thrown away" in told.finding


@pytest.mark.parametrize("how", ["withheld", "failed", "same seed"])
def test_bad_final_runs_are_not_left_out(tmp_path: Path, how: str) -> None:
    maker = honest(tmp_path)
    for seed in (2, 5):
        run_id = f"final-adaptive-{seed}"
        if how == "same seed":
            change_runs(maker, run_id, lambda spec: replace(spec, seed=200_000))
            continue
        change_epochs(maker, run_id, lambda e: replace(e, test_metric=None))
        maker.events = [
            event
            for event in maker.events
            if not (isinstance(event, ledger.TestOpened) and event.run_id == run_id)
        ]
        if how == "failed":
            maker.events = [
                replace(event, status="failed")
                if isinstance(event, ledger.RunEnded) and event.run_id == run_id
                else event
                for event in maker.events
            ]
    analysis = maker.analysis()
    assert ACCOUNTED in rules(analysis)
    assert (OPENED in rules(analysis)) == (how == "withheld")


def test_final_runs_of_another_configuration(tmp_path: Path) -> None:
    maker = honest(tmp_path)

    def other(spec: RunSpec) -> RunSpec:
        recipe = replace(spec.configuration.recipe, lr=0.02)
        return replace(spec, configuration=replace(spec.configuration, recipe=recipe))

    change_runs(maker, "final-adaptive-3", other)
    assert rules(maker.analysis()) == [SELECTION]


@pytest.mark.parametrize("how", ["more re-runs", "fewer", "value", "twice", "worse"])
def test_a_selection_that_was_not_the_planned_one(tmp_path: Path, how: str) -> None:
    maker = honest(tmp_path)
    [place] = [
        n
        for n, e in enumerate(maker.events)
        if isinstance(e, ledger.Selected) and e.configuration.schedule == "step"
    ]
    event = maker.events[place]
    assert isinstance(event, ledger.Selected)
    if how == "more re-runs":
        for trial in (1, 2):
            maker.run(f"select-search-step-{trial:04d}-0", "step", three(0.9), 100_000)
    elif how == "fewer":
        drop(maker, "select-search-step-0004-1")
    elif how == "value":
        maker.events[place] = replace(event, val_metric=0.99)
    elif how == "twice":
        maker.events.append(event)
    else:
        maker.events[place] = replace(event, trial_id="search-step-0003", val_metric=0.84)
    assert rules(maker.analysis()) == [SELECTION]


def test_a_run_that_goes_on_without_an_interruption(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    maker.events.insert(3, ledger.RunResumed("search-adaptive-0000", 0, 0.0))
    analysis = maker.analysis()
    assert "The ledger is whole" in rules(analysis)
    assert "continues without an interruption" in failed(analysis)[0].finding


def test_a_lost_run_is_told(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    maker.events.remove(next(e for e in maker.events if isinstance(e, ledger.RunEnded)))
    [check] = [check for check in failed(maker.analysis()) if check.rule == ACCOUNTED]
    assert "1 lost: search-adaptive-0000" in check.finding


def test_an_edited_plan_makes_it_exploratory(tmp_path: Path) -> None:
    folder = honest(tmp_path).write()
    assert Analysis(folder).history.exploratory is None
    plan = folder / "plan.toml"
    plan.write_text(plan.read_text().replace("num_cpus = 2", "num_cpus = 3"))
    analysis = Analysis(folder)
    assert rules(analysis) == ["The plan is the one the experiment began with"]
    assert analysis.history.exploratory == "plan.toml was edited after the experiment began"


@pytest.mark.parametrize(
    ("old", "new"),
    [('"tiny/linear"', '"tiny/other"'), ('schedules = [\n    "adaptive",', "schedules = [")],
)
def test_an_edited_plan_is_reported_on_whatever_was_edited(
    tmp_path: Path, old: str, new: str
) -> None:
    folder = honest(tmp_path).write()
    plan = folder / "plan.toml"
    assert old in plan.read_text()
    plan.write_text(plan.read_text().replace(old, new))
    analysis = Analysis(folder)
    write_report(analysis)
    assert analysis.history.exploratory
    assert any("is of no arm of the plan" in damage for damage in analysis.history.damage)
    assert "exploratory" in (folder / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schedules = [\n", 'schedules = [\n    "cosine",\n', "has no space for 'cosine'"),
        ("num_classes = 2", "num_classes = 0", "num_classes = 0: must be a whole number >= 1"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = honest(tmp_path).write()
    plan = folder / "plan.toml"
    assert old in plan.read_text()
    plan.write_text(plan.read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        Analysis(folder)


def test_a_run_planned_for_half_the_horizon(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    change_runs(maker, "final-step-2", lambda spec: replace(spec, num_epochs=2))
    assert rules(maker.analysis()) == [HORIZON]


def test_a_schedule_that_plans_for_half_the_steps(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    change_epochs(maker, "search-step-0001", lambda e: replace(e, planned_steps=10))
    assert rules(maker.analysis()) == [HORIZON]


def test_a_control_that_was_stopped(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    maker.events = [
        replace(event, status="stopped")
        if isinstance(event, ledger.RunEnded) and event.run_id == "search-step-0002"
        else event
        for event in maker.events
    ]
    assert "Each arm has its random-search controls" in rules(maker.analysis())


def test_a_first_rung_that_ranks_otherwise_is_flagged(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    change_epochs(
        maker,
        "search-step",
        lambda e: replace(e, val_metric=1 - e.val_metric) if e.epoch == 1 else e,
    )
    analysis = maker.analysis()
    assert rules(analysis) == ["First rung and end rank full runs alike (Spearman >= 0.6)"]
    assert analysis.breaches == [], "it is advice"


def test_many_diverged_trials_are_flagged(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    maker.events = [
        replace(event, status="diverged")
        if isinstance(event, ledger.RunEnded) and event.run_id in diverged
        else event
        for event in maker.events
        for diverged in [("search-step-0003", "search-step-0004")]
    ]
    assert "At most 30% of an arm's trials diverged" in rules(maker.analysis())


def test_a_value_next_to_its_bound_is_flagged(tmp_path: Path) -> None:
    maker = honest(tmp_path)

    def near(configuration: Configuration) -> Configuration:
        return replace(configuration, recipe=replace(configuration.recipe, lr=0.09))

    change_runs(maker, "", lambda spec: replace(spec, configuration=near(spec.configuration)))
    maker.events = [
        replace(event, configuration=near(event.configuration))
        if isinstance(event, ledger.Selected)
        else event
        for event in maker.events
    ]
    analysis = maker.analysis()
    assert rules(analysis) == ["No selected value lies within 5% of a bound"]
    assert "lr = 0.09 is next to its highest" in failed(analysis)[0].finding


def test_drift_voids_the_times_and_not_the_metrics(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    change_epochs(maker, "final-canary-2", lambda e: replace(e, train_s=2.1))
    analysis = maker.analysis()
    assert analysis.timing_void == "the machine's speed drifted by 5.0%"
    assert analysis.breaches == []
    assert analysis.verdicts[TASK].word == "better"


def test_final_runs_beside_each_other_void_the_times(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    maker.events = [
        replace(event, at=event.at - 0.5)
        if isinstance(event, ledger.RunStarted) and event.run.id == "final-step-4"
        else event
        for event in maker.events
    ]
    assert maker.analysis().timing_void == "2 concurrent runs on 1 devices"


def test_damage_is_named(tmp_path: Path) -> None:
    folder = honest(tmp_path).write()
    path = folder / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    starts = [n for n, line in enumerate(lines) if json.loads(line)["event"] == "run_started"]
    lines[starts[0]] = b"\x00\x01\n"
    path.write_bytes(b"".join(lines) + b'{"event":')
    analysis = Analysis(folder)
    [check] = [check for check in analysis.checks if check.rule == "The ledger is whole"]
    assert check.ok is False
    assert f"line {starts[0] + 1} cannot be read" in check.finding
    assert f"line {len(lines) + 1} torn" in check.finding
    assert "search-adaptive-0000, whose start is not there" in check.finding


def test_an_experiment_that_did_not_end_and_one_without_an_arm(tmp_path: Path) -> None:
    maker = Maker(tmp_path, num_final_seeds=2)
    maker.run("search-adaptive-0000", "adaptive", three(0.8), role="default")
    analysis = maker.analysis()
    assert analysis.verdicts[TASK].word is None
    assert analysis.arms == []


def test_what_the_data_share_and_how_unequal_they_are_is_advice(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    maker.facts = DataFacts(0, 3, 9.0, 0.9, ("not used, files: 1 (dev.csv)",))
    analysis = maker.analysis()
    assert {check.rule: check.finding for check in failed(analysis)} == {
        "No validation or test example is a training example too": (
            f"{TASK}: test: 3 of 40 examples (7.50%) are training examples too"
        ),
        "No class is 3 times as large as another": (
            f"{TASK}: the largest class has 9 times the training examples of the smallest: "
            "guessing it has a test accuracy of 0.900"
        ),
    }
    assert analysis.breaches == []


def test_what_an_earlier_version_did_not_count_is_not_said_to_be_none(tmp_path: Path) -> None:
    maker = honest(tmp_path)
    maker.facts = None
    undecided = [check.finding for check in maker.analysis().checks if check.ok is None]
    assert undecided == ["not counted by the version that planned it"] * 2
