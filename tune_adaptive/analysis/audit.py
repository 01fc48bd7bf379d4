"""Was the comparison fair? Every rule of the protocol, checked against the ledger."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from scipy import stats

from tune_adaptive import ledger
from tune_adaptive.analysis.history import History, Run
from tune_adaptive.plan import TaskPlan
from tune_adaptive.runs import RECIPE_NAMES, Stage
from tune_adaptive.spaces import space_from_dict

BUDGET_TOLERANCE = 0.02
MIN_RANK_CORRELATION = 0.6
MIN_WITNESSES = 4
BOUND_SHARE = 0.05
MAX_DIVERGED = 0.3
MAX_DRIFT = 0.03
OPENS_TEST: tuple[Stage, ...] = ("final", "ablation", "contention")


@dataclass(frozen=True, slots=True)
class Check:
    """One rule and what was found.

    Attributes:
        rule: What must hold.
        ok: Whether it does; None where it cannot be said.
        finding: In words.
        timing_only: Whether a failure voids times and not accuracies.
        advice: Whether a failure is something to know of the search rather than a breach.
    """

    rule: str
    ok: bool | None
    finding: str
    timing_only: bool = False
    advice: bool = False


def audit(history: History) -> list[Check]:
    """Check every rule of the protocol."""
    return [
        _plan(history),
        _ledger(history),
        _accounts(history),
        _budgets(history),
        _nuisance(history),
        _horizons(history),
        _seeds(history),
        _test_split(history),
        _witnesses(history),
        _rank_correlation(history),
        _bounds(history),
        _diverged(history),
        _exclusive(history),
        _drift(history),
    ]


def first_rung(task: TaskPlan) -> int:
    """Return the shortest that a trial may be, in epochs."""
    return math.ceil(task.num_epochs / 3)


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
    return _check("The ledger is whole", found, f"{len(history.events)} rows")


def _accounts(history: History) -> Check:
    """Nothing launched is missing: every run has its end, every number its run."""
    plan, found = history.plan, []
    lost = [run.spec.id for run in history.runs if run.status == "lost"]
    if lost:
        found.append(f"{len(lost)} lost: {', '.join(lost)}")
    for task, schedule in plan.arms:
        numbers = [int(run.spec.id[-4:]) for run in history.of("search", task, schedule)]
        if missing := sorted(set(range(max(numbers, default=-1) + 1)) - set(numbers)):
            found.append(f"{task} {schedule}: no record of trials {missing}")
        num_finals = len(history.final_runs(task, schedule))
        if (task, schedule) in history.selected and num_finals != plan.num_final_seeds:
            found.append(
                f"{task} {schedule}: {num_finals} final runs, {plan.num_final_seeds} planned"
            )
    counts = Counter(run.status for run in history.runs)
    told = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    if num_resumed := sum(run.num_resumed > 0 for run in history.runs):
        told += f"; {num_resumed} of them begun anew after an interruption"
    return _check("Every launched run is accounted for", found, told)


def _budgets(history: History) -> Check:
    found, told = [], []
    for task in history.plan.tasks:
        budget = history.plan.budget * task.num_epochs
        allowed = max(BUDGET_TOLERANCE * budget, first_rung(task))
        spent = {
            schedule: sum(
                run.epoch_equivalents for run in history.of("search", task.name, schedule)
            )
            for schedule in history.plan.schedules
        }
        told.append(
            f"{task.name}: " + ", ".join(f"{name} {value:g}" for name, value in spent.items())
        )
        found += [
            f"{task.name}: {name} spent {value:g} of {budget:g}"
            for name, value in spent.items()
            if value > budget + 1e-6
        ]
        if max(spent.values()) - min(spent.values()) > allowed + 1e-6:
            found.append(f"{task.name}: spends differ by more than {allowed:g}: {told[-1]}")
    return _check("Every arm spent the same, in epoch-equivalents", found, "; ".join(told))


def _nuisance(history: History) -> Check:
    found = []
    for task in history.plan.tasks:
        for name in RECIPE_NAMES:
            ranges = {
                schedule: {
                    key: value
                    for key, value in task.spaces[schedule].get(name, {}).items()
                    if key != "default"
                }
                for schedule in history.plan.schedules
                if schedule in task.spaces
            }
            usual = Counter(map(str, ranges.values())).most_common(1)
            found += [
                f"{task.name}: {schedule} searches {name} elsewhere, as its space file says"
                for schedule, own in ranges.items()
                if str(own) != usual[0][0]
            ]
    return _check(
        "Every arm tunes the same base rate, decay and warm-up",
        found,
        ", ".join(RECIPE_NAMES),
        advice=True,
    )


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
    return _check("Every schedule plans for the full T", found, told)


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
    return _check("Search, selection and final have seeds of their own", found, told)


def _test_split(history: History) -> Check:
    found = []
    opened = Counter(e.run_id for e in history.events if isinstance(e, ledger.TestOpened))
    for run in history.runs:
        told = sum(epoch.test_accuracy is not None for epoch in run.epochs)
        times = max(opened[run.spec.id], told)
        if (times or run.spec.open_test) and run.spec.stage not in OPENS_TEST:
            found.append(f"{run.spec.id} opened it in the {run.spec.stage} stage")
        if times > 1 or told != opened[run.spec.id]:
            found.append(f"{run.spec.id}: opened {opened[run.spec.id]} times, told {told} times")
    return _check(
        "The test split is opened once by each final run, by nothing else",
        found,
        f"opened {sum(opened.values())} times",
    )


def _witnesses(history: History) -> Check:
    found = []
    planned = history.plan.num_witnesses
    for task, schedule in history.plan.arms:
        runs = history.of("search", task, schedule, "witness")
        if len(runs) != planned:
            found.append(f"{task} {schedule}: {len(runs)} witnesses, {planned} planned")
        found += [f"{run.spec.id} was stopped early" for run in runs if run.status == "stopped"]
    return _check(
        "Each arm has its witnesses, never stopped early", found, f"{planned} an arm", ok_if=planned
    )


def _rank_correlation(history: History) -> Check:
    rule = f"First rung and end rank the witnesses alike (Spearman >= {MIN_RANK_CORRELATION})"
    found, told = [], []
    for task, schedule in history.plan.arms:
        rung = first_rung(history.task(task))
        pairs = [
            (run.epochs[rung - 1].val_accuracy, run.epochs[-1].val_accuracy)
            for run in history.of("search", task, schedule, "witness")
            if run.status == "completed" and len(run.epochs) > rung
        ]
        if len(pairs) < MIN_WITNESSES or len({a for a, _ in pairs}) == 1:
            continue
        rho = float(stats.spearmanr(*zip(*pairs, strict=True)).statistic)
        told.append(f"{task} {schedule} {rho:.2f} (n={len(pairs)})")
        if not rho >= MIN_RANK_CORRELATION:
            found.append(told[-1])
    if not told:
        return Check(rule, None, f"fewer than {MIN_WITNESSES} witnesses an arm", advice=True)
    return _check(rule, found, "; ".join(told), advice=True)


def _bounds(history: History) -> Check:
    found = []
    for (task, schedule), event in history.selected.items():
        space = space_from_dict(history.task(task).spaces[schedule], "plan.toml")
        values = event.configuration.values()
        for parameter in space.parameters:
            if parameter.name not in values or parameter.type == "categorical":
                continue
            place = parameter.quantile(float(values[parameter.name]))
            if place is not None and not BOUND_SHARE <= place <= 1 - BOUND_SHARE:
                end = "lowest" if place < 0.5 else "highest"
                found.append(
                    f"{task} {schedule}: {parameter.name} = {values[parameter.name]:.3g} is next "
                    f"to its {end}"
                )
    return _check(
        f"No selected value lies within {BOUND_SHARE:.0%} of a bound", found, "none", advice=True
    )


def _diverged(history: History) -> Check:
    found, told = [], []
    for task, schedule in history.plan.arms:
        runs = history.of("search", task, schedule)
        share = sum(run.status == "diverged" for run in runs) / max(1, len(runs))
        told.append(f"{task} {schedule} {share:.0%}")
        if share > MAX_DIVERGED:
            found.append(told[-1])
    return _check(
        f"At most {MAX_DIVERGED:.0%} of an arm's trials diverged",
        found,
        ", ".join(told),
        advice=True,
    )


def _exclusive(history: History) -> Check:
    runs = [run for run in history.runs if run.spec.stage in OPENS_TEST]
    most = _most_at_once(runs)
    allowed = history.plan.final_slots
    found = [f"{most} at once on {allowed} devices"] if most > allowed else []
    strangers = [
        run.spec.id for run in runs if any((epoch.num_cotenants or 0) > 0 for epoch in run.epochs)
    ]
    if strangers:
        found.append(f"foreign processes on the GPU beside {len(strangers)} runs")
    return _check(
        "Final runs had their device to themselves",
        found,
        f"{most} at once on {allowed} {'device' if allowed == 1 else 'devices'}",
        timing_only=True,
    )


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
    return _check(rule, found, f"{drift:.1%}", timing_only=True)


def _check(
    rule: str,
    breaches: list[str],
    told: str,
    *,
    timing_only: bool = False,
    advice: bool = False,
    ok_if: float = 1,
) -> Check:
    """Make the check: ok without breaches, None where there was nothing to look at."""
    ok = (not breaches) if ok_if or breaches else None
    return Check(rule, ok, "; ".join(breaches) or told, timing_only, advice)


def breaches(checks: list[Check]) -> Iterator[Check]:
    """Yield the checks that failed and touch the accuracies."""
    yield from (c for c in checks if c.ok is False and not c.timing_only and not c.advice)
