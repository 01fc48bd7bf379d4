"""Was the comparison honest? Every rule of the protocol, checked against the ledger."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator

from tune_adaptive.analysis import fairness
from tune_adaptive.analysis.check import Check, make_check
from tune_adaptive.analysis.history import History, Run
from tune_adaptive.records import ledger
from tune_adaptive.records.ablations import ablation_names
from tune_adaptive.records.plan import SEEDS_PER_STAGE
from tune_adaptive.records.runs import Stage

MAX_DRIFT = 0.03
OPENS_TEST: tuple[Stage, ...] = ("final", "ablation", "contention")


def audit(history: History) -> list[Check]:
    """Check every rule of the protocol."""
    return [
        _plan(history),
        _ledger(history),
        _accounts(history),
        fairness.budgets(history),
        fairness.nuisance(history),
        _horizons(history),
        fairness.selection(history),
        _seeds(history),
        _test_split(history),
        fairness.contained(history),
        fairness.balance(history),
        fairness.controls(history),
        fairness.rank_correlation(history),
        fairness.bounds(history),
        fairness.diverged(history),
        _exclusive(history),
        _drift(history),
    ]


def canary_drift(history: History) -> float | None:
    """Return by how much the canaries' epoch times differ: largest / smallest - 1.

    Of each canary the median epoch counts; over tasks, the largest drift. None where no task
    has two canaries.
    """
    drifts = []
    for task in history.plan.tasks:
        times = [
            sorted(epoch.train_s for epoch in run.epochs)[len(run.epochs) // 2]
            for run in history.runs
            if run.spec.role == "canary" and run.spec.task == task.name and run.epochs
        ]
        if len(times) > 1 and min(times) > 0:
            drifts.append(max(times) / min(times) - 1)
    return max(drifts, default=None)


def _plan(history: History) -> Check:
    why = history.exploratory
    found = f"unchanged, SHA-256 {history.plan_sha256[:12]}" if why is None else why
    return Check("The plan is the one the experiment began with", why is None, found)


def _ledger(history: History) -> Check:
    found = [*history.damage]
    if not history.closed:
        found.append("the experiment did not run to its end")
    return make_check("The ledger is whole", found, f"{len(history.events)} rows")


def _accounts(history: History) -> Check:
    """Nothing launched is missing: every run has its end, every number its run."""
    plan, found = history.plan, []
    lost = [run.spec.id for run in history.runs if run.status == "lost"]
    if lost:
        found.append(f"{len(lost)} lost: {', '.join(lost)}")
    num_started = 0
    for event in history.events:
        if isinstance(event, ledger.RunStarted):
            num_started += 1
        elif (
            isinstance(event, ledger.StageStarted | ledger.Closed)
            and event.num_started != num_started
        ):
            before = f"stage {event.stage}" if isinstance(event, ledger.StageStarted) else "the end"
            found.append(
                f"{event.num_started} runs were started before {before}, not {num_started}"
            )
            num_started = event.num_started
    for task, schedule in plan.arms:
        found += [
            f"{task} {schedule}: {problem}" for problem in _trial_numbers(history, task, schedule)
        ]
        if (task, schedule) in history.selected:
            found += [
                f"{task} {schedule}: {number} test metrics of its {what} runs, {planned} planned"
                for what, runs, planned in _compared(history, task, schedule)
                if (number := len(history.test_metrics(runs))) != planned
            ]
    counts = Counter(run.status for run in history.runs)
    told = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    if resumed := [run for run in history.runs if run.num_resumed]:
        void = sum(run.void_epochs for run in resumed)
        told += f"; {len(resumed)} resumed after an interruption, {void:g} epochs thrown away"
    return make_check("Every launched run is accounted for", found, told)


def _trial_numbers(history: History, task: str, schedule: str) -> Iterator[str]:
    """Check that an arm's trials are numbered from 0, each number once.

    Ledgers before version 4 do not number them; trial i has the i-th seed of the search.
    """
    first = history.plan.stage_seed("search", 0)
    runs = [run.spec for run in history.of("search", task, schedule)]
    numbers = [spec.seed - first if spec.number is None else spec.number for spec in runs]
    in_range = {number for number in numbers if 0 <= number < SEEDS_PER_STAGE}
    if missing := sorted(set(range(max(in_range, default=-1) + 1)) - in_range):
        yield f"no record of trials {missing}"
    counts = Counter(spec.number for spec in runs if spec.number is not None)
    if twice := sorted(number for number, count in counts.items() if count > 1):
        yield f"trials {twice} are there twice"


def _compared(history: History, task: str, schedule: str) -> Iterator[tuple[str, list[Run], int]]:
    """Yield what is compared of an arm: runs that must have a test metric, and how many."""
    num_seeds = history.plan.num_final_seeds
    finals = history.final_runs(task, schedule)
    yield "final", finals, num_seeds
    default = history.default_trial(task, schedule)
    if default is not None and default.status == "completed":
        yield "default", history.default_runs(task, schedule), num_seeds
    slowed = history.of("contention", task, schedule, "selected")
    if history.plan.slowdown is not None:
        yield "slowed", slowed, num_seeds
    wholes: dict[Stage, list[Run]] = {"ablation": finals, "contention": slowed}
    for stage, whole in wholes.items():
        num_recorded = sum(run.status == "completed" for run in whole)
        if history.plan.ablations and stage in history.plan.stages:
            for role in ablation_names(schedule, num_recorded):
                runs = history.of(stage, task, schedule, role)
                yield f"{stage} {role}", runs, num_recorded


def _horizons(history: History) -> Check:
    found = []
    for run in history.runs:
        task = history.task(run.spec.task)
        horizon = run.spec.num_epochs if run.spec.role == "canary" else task.num_epochs
        if run.spec.num_epochs != horizon:
            found.append(f"{run.spec.id} was planned for {run.spec.num_epochs} of {horizon} epochs")
        planned = horizon * math.ceil(task.num_train / task.batch_size)
        if any(epoch.planned_steps != planned for epoch in run.epochs):
            steps = next(e.planned_steps for e in run.epochs if e.planned_steps != planned)
            found.append(f"{run.spec.id}: its schedule planned {steps} of {planned} steps")
    told = ", ".join(f"{task.name} T = {task.num_epochs}" for task in history.plan.tasks)
    return make_check("Every schedule was given the full T to plan for", found, told)


def _seeds(history: History) -> Check:
    seeds = {
        stage: {run.spec.seed for run in history.runs if run.spec.stage == stage}
        for stage in ("search", "select", "final")
    }
    found = [
        f"{one} and {other} share {sorted(seeds[one] & seeds[other])}"
        for one, other in itertools.combinations(seeds, 2)
        if seeds[one] & seeds[other]
    ]
    for task in history.plan.tasks:
        finals = {
            tuple(run.spec.seed for run in history.final_runs(task.name, schedule))
            for schedule in history.plan.schedules
            if (task.name, schedule) in history.selected
        }
        if len(finals) > 1:
            found.append(f"{task.name}: the arms' final seeds are not the same")
    told = ", ".join(f"{stage} {len(own)}" for stage, own in seeds.items())
    return make_check("Search, selection and final have seeds of their own", found, told)


def _test_split(history: History) -> Check:
    found = []
    opened = Counter(e.run_id for e in history.events if isinstance(e, ledger.TestOpened))
    for run in history.runs:
        told = sum(epoch.test_metric is not None for epoch in run.epochs)
        times = max(opened[run.spec.id], told)
        if (times or run.spec.open_test) and run.spec.stage not in OPENS_TEST:
            found.append(f"{run.spec.id} opened it in the {run.spec.stage} stage")
        if times > 1 or told != opened[run.spec.id]:
            found.append(
                f"{run.spec.id}: opened {opened[run.spec.id]} times, reported {told} times"
            )
        if run.spec.stage in OPENS_TEST and run.spec.role != "canary" and run.status == "completed":
            found += [f"{run.spec.id} completed and did not report it"] * (not told)
    return make_check(
        "The test split is opened once by each run after the selection, by nothing else",
        found,
        f"opened {sum(opened.values())} times",
    )


def _exclusive(history: History) -> Check:
    runs = [run for run in history.runs if run.spec.stage in OPENS_TEST]
    most = _most_at_once(runs)
    allowed = history.plan.final_slots
    found = [f"{most} concurrent runs on {allowed} devices"] if most > allowed else []
    strangers = [
        run.spec.id for run in runs if any((epoch.num_cotenants or 0) > 0 for epoch in run.epochs)
    ]
    if strangers:
        found.append(f"foreign processes on the GPU beside {len(strangers)} runs")
    told = f"{most} concurrent on {allowed} {'device' if allowed == 1 else 'devices'}"
    counted = [epoch.num_cotenants for run in runs for epoch in run.epochs]
    used = [e.foreign_cpus for run in runs for e in run.epochs if e.foreign_cpus is not None]
    if used:
        told += f"; other processes used at most {max(used):.1f} CPUs"
        left = _cpus_left(history)
        short = [
            run.spec.id for run in runs if any((e.foreign_cpus or 0.0) > left for e in run.epochs)
        ]
        if short:
            found.append(
                f"other processes used up to {max(used):.1f} CPUs beside {len(short)} runs, which "
                f"left {left:.1f} free"
            )
    is_known = bool(used) or any(number is not None for number in counted)
    return make_check(
        "Final runs had their device to themselves",
        found,
        told if is_known else f"{told}; foreign processes are counted on GPUs only",
        timing_only=True,
        ok_if=is_known,
    )


def _cpus_left(history: History) -> float:
    """Return the CPUs that final runs leave to others, and a tenth of all for what is brief."""
    plan = history.plan
    ours = plan.final_slots * max(task.cpus_per_trial for task in plan.tasks)
    return max(0.0, plan.num_cpus - ours) + 0.1 * plan.num_cpus


def _most_at_once(runs: list[Run]) -> int:
    changes = []
    for run in runs:
        if run.ended_at is not None:
            changes += [(run.started_at, 1), (run.ended_at, -1)]
    changes.sort()  # at the same instant, ends come before starts
    return max(itertools.accumulate(change for _, change in changes), default=0)


def _drift(history: History) -> Check:
    rule = f"The machine's speed drifted by at most {MAX_DRIFT:.0%} (a constant-rate canary)"
    drift = canary_drift(history)
    if drift is None:
        return Check(rule, None, "no canaries", timing_only=True)
    found = [f"{drift:.1%}: the columns of seconds are void"] if drift > MAX_DRIFT else []
    return make_check(rule, found, f"{drift:.1%}", timing_only=True)


def breaches(checks: list[Check]) -> Iterator[Check]:
    """Yield the checks that failed and touch the metrics."""
    yield from (c for c in checks if c.ok is False and not c.timing_only and not c.advice)
