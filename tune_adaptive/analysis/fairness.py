"""Had every arm the same chance in search and selection? The audit's rules for these."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from statistics import fmean

from scipy import stats

from tune_adaptive.analysis.check import Check, make_check
from tune_adaptive.analysis.history import History, Run
from tune_adaptive.records import ledger
from tune_adaptive.records.runs import RECIPE_NAMES
from tune_adaptive.records.task_plan import MAX_CLASS_RATIO, TaskPlan

BUDGET_TOLERANCE = 0.02
MIN_RANK_CORRELATION = 0.6
MIN_FULL_RUNS = 4
BOUND_SHARE = 0.05
MAX_DIVERGED = 0.3


def first_rung(task: TaskPlan) -> int:
    """Return the shortest that a trial may be, in epochs."""
    return math.ceil(task.num_epochs / 3)


def budgets(history: History) -> Check:
    """Every arm may spend the same; spends differ by 2% or one first rung at most."""
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
    return make_check("Every arm spent the same, in epoch-equivalents", found, "; ".join(told))


def nuisance(history: History) -> Check:
    """Every arm searches the same ranges of what all of them tune."""
    found = []
    for task in history.plan.tasks:
        for name in RECIPE_NAMES:
            ranges = {
                schedule: {
                    key: value
                    for key, value in task.spaces[schedule].to_dict().get(name, {}).items()
                    if key != "default"
                }
                for schedule in history.plan.schedules
                if schedule in task.spaces
            }
            usual = Counter(map(str, ranges.values())).most_common(1)
            found += [
                f"{task.name}: {schedule} searches {name} elsewhere, as in its space file"
                for schedule, own in ranges.items()
                if str(own) != usual[0][0]
            ]
    return make_check(
        "Every arm tunes the same base rate, decay and warm-up",
        found,
        ", ".join(RECIPE_NAMES),
        advice=True,
    )


def selection(history: History) -> Check:
    """What is compared must be what selection chose, by the re-runs that were planned."""
    plan, found = history.plan, []
    events = [event for event in history.events if isinstance(event, ledger.Selected)]
    counts = Counter((event.task, event.configuration.schedule) for event in events)
    found += [f"{' '.join(arm)}: selected {n} times" for arm, n in counts.items() if n > 1]
    if events or history.failed_arms:
        found += [
            f"{task} {schedule}: {problem}"
            for task, schedule in plan.arms
            for problem in _left_out(history, task, schedule)
        ]
    for (task, schedule), event in history.selected.items():
        compared = history.final_runs(task, schedule)
        compared += history.of("contention", task, schedule, "selected")
        problems = [*_candidates(history, task, schedule), *_choice(history, event)]
        if any(run.spec.configuration != event.configuration for run in compared):
            problems.append("final runs are not of the selected configuration")
        found += [f"{task} {schedule}: {problem}" for problem in problems]
    told = f"{plan.num_candidates} candidates and the defaults, {plan.num_select_seeds} seeds each"
    return make_check("What is compared is what selection chose, by its re-runs", found, told)


def _left_out(history: History, task: str, schedule: str) -> Iterator[str]:
    """Check that an arm is without a selection only where none of its candidates ended well."""
    is_selected = (task, schedule) in history.selected
    has_failed = (task, schedule) in history.failed_arms
    if is_selected and has_failed:
        yield "selected, and failed too"
    elif not is_selected and not has_failed:
        yield "neither selected nor failed"
    elif has_failed and _means(history, task, schedule):
        yield "failed, though its re-runs ended well"


def _candidates(history: History, task: str, schedule: str) -> Iterator[str]:
    """Check that the best full trials and the defaults were re-run, each as often as planned."""
    plan, score = history.plan, history.task(task).metric.score
    ended = {
        run.spec.id: (score(run.last.val_metric), run)
        for run in history.of("search", task, schedule)
        if run.status == "completed" and run.last is not None
    }
    in_order = [id_ for id_ in history.ended_in_order if id_ in ended]  # which decides ties
    ranked = sorted(in_order, key=lambda id_: ended[id_][0], reverse=True)
    best = ranked[: plan.num_candidates]
    defaults = [id_ for id_, (_, run) in ended.items() if run.spec.role == "default"]
    reruns = _reruns(history, task, schedule)
    if len(reruns) != len({*best, *defaults}):
        yield f"{len(reruns)} candidates were re-run, {len({*best, *defaults})} planned"
    for trial_id, runs in reruns.items():
        if len(runs) != plan.num_select_seeds:
            yield f"{len(runs)} re-runs of {trial_id}, {plan.num_select_seeds} planned"
        if trial_id not in ended:
            yield f"{trial_id} was re-run and is no full trial"
            continue
        reached, trial = ended[trial_id]
        if trial_id not in defaults and reached < ended[best[-1]][0]:
            yield f"{trial_id} was re-run and is not among the best"
        if any(run.spec.configuration != trial.spec.configuration for run in runs):
            yield f"{trial_id} was re-run with another configuration"


def _choice(history: History, event: ledger.Selected) -> Iterator[str]:
    """Check that the candidate of the best mean was chosen."""
    arm = event.task, event.configuration.schedule
    score = history.task(event.task).metric.score
    means = _means(history, *arm)
    own = means.get(event.trial_id)
    if own is None or not math.isclose(own, event.val_metric):
        yield f"selected for {event.val_metric:.4f}, which its re-runs did not reach"
    elif score(own) < max(map(score, means.values())):
        yield "another candidate was better"
    trials = {run.spec.id: run.spec.configuration for run in history.of("search", *arm)}
    if trials.get(event.trial_id) != event.configuration:
        yield "what was selected is not what was tried"


def _means(history: History, task: str, schedule: str) -> dict[str, float]:
    """Return by trial the mean of its re-runs, of those whose re-runs all ended well."""
    return {
        trial_id: fmean(run.last.val_metric for run in runs if run.last is not None)
        for trial_id, runs in _reruns(history, task, schedule).items()
        if all(run.status == "completed" and run.last is not None for run in runs)
    }


def _reruns(history: History, task: str, schedule: str) -> dict[str, list[Run]]:
    """Return an arm's selection runs by the trial they repeat.

    Ledgers before version 4 do not name it; there a re-run is called as its trial and its seed.
    """
    trials = [run.spec.id for run in history.of("search", task, schedule)]
    called = {
        f"select-{trial_id}-{index}": trial_id
        for trial_id in trials
        for index in range(history.plan.num_select_seeds)
    }
    found: dict[str, list[Run]] = {}
    for run in history.of("select", task, schedule):
        trial_id = run.spec.repeats or called.get(run.spec.id, run.spec.id)
        found.setdefault(trial_id, []).append(run)
    return found


def controls(history: History) -> Check:
    """Every arm has the controls that were planned, and none was stopped early."""
    found = []
    planned = history.plan.num_controls
    for task, schedule in history.plan.arms:
        runs = history.of("search", task, schedule, "control")
        if len(runs) != planned:
            found.append(
                f"{task} {schedule}: {len(runs)} random-search controls, {planned} planned"
            )
        found += [f"{run.spec.id} was stopped early" for run in runs if run.status == "stopped"]
    return make_check(
        "Each arm has its random-search controls, never stopped early",
        found,
        f"{planned} an arm",
        ok_if=planned,
    )


def rank_correlation(history: History) -> Check:
    """What is seen at the first rung must rank runs much as their ends do."""
    rule = f"First rung and end rank full runs alike (Spearman >= {MIN_RANK_CORRELATION})"
    found, told = [], []
    for task, schedule in history.plan.arms:
        rung = first_rung(history.task(task))
        pairs = [
            (at[rung], run.epochs[-1].val_metric)
            for run in history.of("search", task, schedule)
            if run.spec.role in ("control", "default") and run.status == "completed"
            if rung in (at := {epoch.epoch: epoch.val_metric for epoch in run.epochs})
            and run.epochs[-1].epoch > rung
        ]
        if len(pairs) < MIN_FULL_RUNS or len({a for a, _ in pairs}) == 1:
            continue
        rho = float(stats.spearmanr(*zip(*pairs, strict=True)).statistic)
        told.append(f"{task} {schedule} {rho:.2f} (n={len(pairs)})")
        if not rho >= MIN_RANK_CORRELATION:
            found.append(told[-1])
    if not told:
        few = f"fewer than {MIN_FULL_RUNS} full runs an arm that nothing could stop"
        return Check(rule, None, few, advice=True)
    return make_check(rule, found, "; ".join(told), advice=True)


def bounds(history: History) -> Check:
    """A best value next to a bound says that the space may be too narrow."""
    found = []
    for (task, schedule), event in history.selected.items():
        space = history.task(task).spaces[schedule]
        values = event.configuration.values()
        if strange := space.violations(values):
            found += [f"{task} {schedule}: {problem}" for problem in strange]
            continue
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
    return make_check(
        f"No selected value lies within {BOUND_SHARE:.0%} of a bound", found, "none", advice=True
    )


def diverged(history: History) -> Check:
    """Many diverged trials say that a space is too wide."""
    found, told = [], []
    for task, schedule in history.plan.arms:
        runs = history.of("search", task, schedule)
        share = sum(run.status == "diverged" for run in runs) / max(1, len(runs))
        told.append(f"{task} {schedule} {share:.0%}")
        if share > MAX_DIVERGED:
            found.append(told[-1])
    return make_check(
        f"At most {MAX_DIVERGED:.0%} of an arm's trials diverged",
        found,
        ", ".join(told),
        advice=True,
    )


def contained(history: History) -> Check:
    """A test metric on examples that were trained on says little."""
    return _of_data(
        history,
        "No validation or test example is a training example too",
        {task.name: task.contained for task in history.plan.tasks},
    )


def balance(history: History) -> Check:
    """Where one class is much larger, accuracy is high without learning anything."""
    return _of_data(
        history,
        f"No class is {MAX_CLASS_RATIO:g} times as large as another",
        {task.name: task.imbalance for task in history.plan.tasks},
    )


def _of_data(history: History, rule: str, said: Mapping[str, list[str]]) -> Check:
    is_known = all(task.facts is not None for task in history.plan.tasks)
    found = [f"{task}: {each}" for task, own in said.items() for each in own]
    told = "none" if is_known else "not counted by the version that planned it"
    return make_check(rule, found, told, advice=True, ok_if=is_known)
