"""The sections of a report that are about one task."""

from collections.abc import Iterator, Sequence
from functools import partial

from tune_adaptive.analysis.estimates import Analysis, ArmResult
from tune_adaptive.analysis.stats import Comparison
from tune_adaptive.analysis.targets import RATIOS
from tune_adaptive.records.task_plan import TaskPlan
from tune_adaptive.report.blocks import Block, Paragraph, Part, Table, measured
from tune_adaptive.report.drawing import Figure, drawn

UNLIMITED = 1e300


def task_blocks(analysis: Analysis, task: TaskPlan, figures: list[Figure]) -> Iterator[Block]:
    """Yield what the report shows of one task."""
    arms = [arm for arm in analysis.arms if arm.task == task.name]
    yield Paragraph(_described(task))
    yield from _reached(analysis, task, arms)
    yield from _compared(analysis, task)
    yield from drawn(figures, "comparison", task.name)
    yield from _to_targets(analysis, task, arms)
    yield from drawn(figures, "curves", task.name)
    yield Part("The search")
    searched: Sequence[Block] = drawn(figures, "search", task.name)
    yield from searched or [Paragraph("Too few full-length trials to draw.")]
    yield from _ablated(analysis, task)
    yield from _slowed(analysis, task, arms)
    yield from _resources(arms)


def _described(task: TaskPlan) -> str:
    c = task.complexity
    clipped = ""
    if task.clip_norm < UNLIMITED:
        clipped = f", gradients clipped at {task.clip_norm}"
    notes = "".join(f"; {what.replace('_', ' ')}: {value}" for what, value in task.notes.items())
    return (
        f"{task.num_train} / {task.num_validation} / {task.num_test} examples (train / validation "
        f"/ test), T = {task.num_epochs} epochs, batch {task.batch_size}, {task.optimizer}, "
        f"augmentation {task.augment}{clipped}, {task.precision}{notes}. Complexity C = "
        f"{c.value:.3f} (K = {c.num_classes}, d = {c.num_features:.0f}, N = {c.num_examples}, "
        f"label entropy {c.label_entropy:.3f} nats)."
    )


def _reached(analysis: Analysis, task: TaskPlan, arms: list[ArmResult]) -> Iterator[Block]:
    number, void = task.metric.number, analysis.timing_void

    def ends(arm: ArmResult) -> str:
        told = f"{arm.num_completed} completed"
        if arm.num_diverged:
            told += f", {arm.num_diverged} diverged (counted as chance)"
        return told + (f", {arm.num_failed} failed (no metric)" if arm.num_failed else "")

    yield Table(
        [
            *("schedule", f"test {task.metric.label}", f"defaults{task.metric.in_unit}"),
            *("validation loss", "train loss", "stable epoch", "training [s]", "final runs"),
            "epochs searched",
        ],
        [
            [
                arm.schedule,
                measured(arm.test_metric, number),
                measured(arm.untuned_test_metric, number),
                *map(measured, (arm.val_loss, arm.train_loss, arm.stable_epoch)),
                "void" if void else measured(arm.train_s),
                ends(arm),
                f"{arm.search_epochs:.1f} of {analysis.plan.budget * task.num_epochs:g}",
            ]
            for arm in arms
        ],
    )
    yield Paragraph(
        "Means with 95% t intervals over n final seeds, the same for every schedule. Stable "
        "epoch: the first after which the smoothed validation loss stays within 2% of its minimum.",
        is_small=True,
    )


def _pvalue(p: float | None) -> str:
    return measured(p, ".4f")


def _baseline(each: Comparison) -> str:
    return f"{each.baseline}{' (reference baseline)' * each.of_record}"


def _compared(analysis: Analysis, task: TaskPlan) -> Iterator[Block]:
    studied, metric = analysis.plan.studied, task.metric
    points = partial(metric.number, sign="+")
    better = ">" if metric.greater_is_better else "<"
    yield Table(
        [
            *(f"{studied} minus", f"difference{metric.in_differences}"),
            *(f"P({studied} {better} it)", "sign-flip p", "Holm p"),
        ],
        [
            [
                *(_baseline(each), measured(each.difference, points), measured(each.superiority)),
                *(_pvalue(each.p), _pvalue(each.p_holm)),
            ]
            for each in analysis.comparisons[task.name]
        ],
    )
    if untuned := analysis.untuned_comparisons[task.name]:
        yield Part("One run against a search")
        yield Table(
            [
                *(f"{studied} by default minus the tuned", f"difference{metric.in_differences}"),
                *("sign-flip p", "Holm p"),
            ],
            [
                [
                    *(_baseline(each), measured(each.difference, points)),
                    *(_pvalue(each.p), _pvalue(each.p_holm)),
                ]
                for each in untuned
            ],
        )
        yield Paragraph(
            f"The defaults of {studied}, which nothing was spent on, minus each baseline as its "
            "search left it, paired by seed; Holm over this table.",
            is_small=True,
        )


def _to_targets(analysis: Analysis, task: TaskPlan, arms: list[ArmResult]) -> Iterator[Block]:
    errors = {name: analysis.target_error(task.name, name) for name in RATIOS}
    if errors["primary"] is None:
        return
    shown = {name: task.metric.shown(error) for name, error in errors.items() if error is not None}
    void = analysis.timing_void
    yield Part("Epochs and seconds to a target")
    yield Table(
        ["schedule", "target", "epochs", "seconds", "runs that reached it"],
        [
            [
                *(arm.schedule, f"{name} ({shown[name]} error)", measured(time.epochs)),
                "void" if void else measured(time.seconds),
                f"{time.num_hits} of {time.num_runs}",
            ]
            for arm in arms
            for name, time in arm.to_target.items()
        ],
    )
    if saved := analysis.times_saved[task.name]:
        yield Table(
            [
                *(f"{analysis.plan.studied} minus, to the primary target", "difference [epochs]"),
                "ratio",
            ],
            [
                [each.baseline, measured(each.difference, "+.1f"), measured(each.ratio)]
                for each in saved
            ],
        )
    ratios = ", ".join(f"{name} {ratio}" for name, ratio in RATIOS.items())
    yield Paragraph(
        "Targets are multiples of e*, the median validation error of the re-runs of "
        f"{analysis.history.baseline_of_record(task.name)}: {ratios}. Restricted means: a run "
        "that misses counts as T epochs; no interval where all runs agree.",
        is_small=True,
    )


def _ablated(analysis: Analysis, task: TaskPlan) -> Iterator[Block]:
    yield Part("Ablations")
    rows = [
        [
            *(f"{each.schedule}: {each.name}", "slowed" if each.slowed else "steady"),
            measured(each.metric, task.metric.number),
            measured(each.worth, partial(task.metric.number, sign="+")),
        ]
        for each in analysis.ablations
        if each.task == task.name
    ]
    if rows:
        worth = f"what it is worth{task.metric.in_differences}"
        yield Table(["without", "speed", f"test {task.metric.label}", worth], rows)
    else:
        yield Paragraph("None were asked for (--ablations).")


def _slowed(analysis: Analysis, task: TaskPlan, arms: list[ArmResult]) -> Iterator[Block]:
    plan, metric = analysis.plan, task.metric
    yield Part("Under contention")
    if plan.slowdown is None:
        yield Paragraph("None was injected (--contention).")
        return
    yield Paragraph(
        f"From {round(100 * plan.slowdown.start_frac)}% of the planned steps on every step takes "
        f"{plan.slowdown.factor} times as long, on a clock of its own, for every schedule alike; "
        "each run is cut when the time that was planned for it is over."
    )
    yield Table(
        ["schedule", f"test {metric.name}, slowed{metric.in_unit}", f"steady{metric.in_unit}"],
        [
            [
                arm.schedule,
                measured(analysis.slowed_metric(task.name, arm.schedule), metric.number),
                measured(arm.test_metric, metric.number),
            ]
            for arm in arms
        ],
    )
    yield Table(
        [f"{plan.studied} minus, slowed", f"difference{metric.in_differences}", "Holm p"],
        [
            [
                each.baseline,
                measured(each.difference, partial(metric.number, sign="+")),
                _pvalue(each.p_holm),
            ]
            for each in analysis.slowed_comparisons[task.name]
        ],
    )


def _resources(arms: list[ArmResult]) -> Iterator[Block]:
    def mib(num_bytes: int | None) -> str:
        return f"{num_bytes / 2**20:.0f}" if num_bytes else "not measured"

    yield Part("Resources and configurations")
    yield Table(
        [
            *("schedule", "CPU [%, 100 is one core]", "process memory [MiB, largest]"),
            *("GPU utilisation [%]", "GPU memory [MiB, largest]", "selected configuration"),
        ],
        [
            [
                *(arm.schedule, measured(arm.cpu_percent), mib(arm.rss_bytes)),
                measured(arm.gpu_util, lambda share: f"{100 * share:.0f}"),
                mib(arm.gpu_mem_bytes),
                ", ".join(
                    f"{name} = {f'{value:.4g}' if isinstance(value, float) else value}"
                    for name, value in arm.configuration.values().items()
                ),
            ]
            for arm in arms
        ],
    )
