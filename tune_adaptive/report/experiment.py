"""One experiment's report, section by section."""

from collections import Counter
from collections.abc import Iterable, Iterator

from tune_adaptive.analysis.across import claim
from tune_adaptive.analysis.check import Check
from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.errors import last_line
from tune_adaptive.records.runs import file_name
from tune_adaptive.report.blocks import (
    Block,
    Command,
    Items,
    Judgement,
    Paragraph,
    Section,
    Table,
    measured,
)
from tune_adaptive.report.drawing import Figure, drawn
from tune_adaptive.report.one_task import task_blocks

MARKS = {True: "holds", False: "broken", None: "cannot be said"}
STATUSES = ("completed", "stopped", "diverged", "failed", "lost")


def experiment_blocks(analysis: Analysis, figures: Iterable[Figure]) -> Iterator[Block]:
    """Yield everything that the report shows."""
    figures = list(figures)
    yield from _answer(analysis)
    yield from _cost(analysis, figures)
    yield from _audit(analysis.checks)
    for number, task in enumerate(analysis.plan.tasks, start=1):
        yield Section(f"task-{number}", task.name)
        yield from task_blocks(analysis, task, figures)
    yield from _across(analysis, figures)
    yield from _runs(analysis)
    yield from _methods(analysis)


def _answer(analysis: Analysis) -> Iterator[Block]:
    plan = analysis.plan
    num_tasks = f"{len(plan.tasks)} task{'s' * (len(plan.tasks) > 1)}"
    yield Paragraph(
        f"{plan.name}: {', '.join(plan.schedules)}; {num_tasks}; each arm was given {plan.budget} "
        f"full runs to search with, {plan.num_final_seeds} fresh seeds to be compared on."
    )
    if analysis.history.exploratory:
        yield Judgement(
            "exploratory",
            f"{analysis.history.exploratory}. What follows is not what was planned.",
        )
    if analysis.breaches:
        broken = "; ".join(check.rule for check in analysis.breaches)
        yield Judgement("audit broken", f"Do not forward these verdicts: {broken}.")
    for verdict in analysis.verdicts.values():
        yield Judgement(verdict.word or "no verdict", verdict.sentence)


def _cost(analysis: Analysis, figures: list[Figure]) -> Iterator[Block]:
    yield Section("cost", "What tuning costs")
    yield Paragraph(
        "All metrics of this section are of the validation split, the only one that a search "
        "sees. The lines are the expected best of 1, 2, ... random-search controls: full runs "
        "drawn at random beforehand, so that they show what a search of that many runs buys, "
        "without bias.",
        is_small=True,
    )
    for task in analysis.plan.tasks:
        yield from drawn(figures, "cost", task.name)
        if needed := analysis.runs_needed[task.name]:
            yield Paragraph(f"{task.name}:")
            yield Items([each.sentence for each in needed])


def _audit(checks: list[Check]) -> Iterator[Block]:
    def mark(check: Check) -> str:
        is_minor = check.ok is False and (check.advice or check.timing_only)
        return "flagged" if is_minor else MARKS[check.ok]

    yield Section("audit", "Audit")
    yield Table(
        ["rule", "", "found"], [[check.rule, mark(check), check.finding] for check in checks]
    )


def _across(analysis: Analysis, figures: list[Figure]) -> Iterator[Block]:
    yield Section("across", "Across tasks")
    yield Paragraph(claim([task.name for task in analysis.plan.tasks], analysis.usable_tasks))
    if not analysis.across:
        return
    yield Table(
        ["schedule", "IQM of normalised error (n runs)", "mean over tasks", "mean rank"],
        [
            [each.schedule, *map(measured, (each.iqm, each.mean_error, each.mean_rank))]
            for each in analysis.across
        ],
    )
    yield Paragraph(
        "Test error divided by the mean error of the task's reference baseline; below 1 is better "
        "than it. n counts tasks.",
        is_small=True,
    )
    yield from drawn(figures, "across")


def _runs(analysis: Analysis) -> Iterator[Block]:
    counts = Counter((run.spec.stage, run.status) for run in analysis.runs)
    yield Section("runs", "Every run")
    yield Table(
        ["stage", *STATUSES],
        [
            [stage, *(counts[stage, status] for status in STATUSES)]
            for stage in analysis.plan.stages
        ],
    )
    failures = [run for run in analysis.runs if run.status in ("failed", "diverged", "lost")]
    if failures:
        yield Items(
            [
                f"{run.spec.id}: {run.status}"
                + (f" - {last_line(run.message)}" if run.message else "")
                for run in failures
            ]
        )
    else:
        yield Paragraph("No run failed, diverged or was lost.")
    if analysis.busy:
        training, validating = analysis.busy
        yield Paragraph(
            f"Slots busy training {100 * training:.0f}% of the search's time, from its first to "
            f"its last result, and validating {100 * validating:.0f}%."
        )


def _methods(analysis: Analysis) -> Iterator[Block]:
    plan, history = analysis.plan, analysis.history
    margins = dict.fromkeys(
        f"{task.metric.number(task.metric.margin)} {task.metric.unit_of_differences}".rstrip()
        for task in plan.tasks
    )
    yield Section("methods", "How it was made")
    yield Paragraph(
        "Each schedule on each task is an arm with an Optuna study (TPE) of its own and the same "
        f"epochs to spend; {plan.num_controls} of its trials are drawn beforehand and never "
        "stopped; ASHA stops others, never before a third of the run. The best "
        f"{plan.num_candidates} trials and the defaults are re-run on {plan.num_select_seeds} "
        "fresh seeds and the best mean is selected. Selected and default configurations then run "
        f"on {plan.num_final_seeds} final seeds, the same for every arm, {plan.final_slots} at a "
        "time, in random order, and open the test split once each. The verdict is on the paired "
        "difference to the reference baseline, the strongest by validation: exact sign-flip test "
        "with Holm's adjustment over all baselines, two one-sided t tests for equivalence within "
        f"max({' or '.join(margins)}, one seed SD at its lower 80% bound). One search is one draw: "
        "repeat it with another --seed to measure the noise of the search itself."
    )
    yield Paragraph(
        f"{plan.slots} concurrent trials on {plan.device}; signals {plan.signals}; seed "
        f"{plan.seed}. Plan of SHA-256 {history.plan_sha256}."
    )
    yield Command(plan.command)
    for arm in analysis.arms:
        path = f"results/{plan.name}/best/{file_name(arm.task)}/{arm.schedule}.toml"
        yield Command(f"python -m tune_adaptive verify {path}")
    versions = [f"{name} {version}" for name, version in plan.versions.items()]
    if hardware := plan.hardware:
        versions[-1:] = [
            f"{versions[-1]}; {hardware['system']} on {hardware['machine']}, "
            f"{hardware['cpus']} CPUs, {round(int(hardware['memory_bytes']) / 2**30)} GiB"
        ]
    yield Paragraph(f"{', '.join(versions)}. Created {plan.created}.", is_small=True)
