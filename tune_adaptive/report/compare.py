"""Several experiments on one page: what holds from one search to the next."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tune_adaptive.analysis.estimates import Analysis
from tune_adaptive.analysis.stats import Mean, Verdict, mean_interval
from tune_adaptive.errors import EnvironmentFault, InputError
from tune_adaptive.records.metric import Metric
from tune_adaptive.records.plan import model_notes
from tune_adaptive.report.blocks import (
    Block,
    Command,
    Judgement,
    Paragraph,
    Part,
    Section,
    Table,
    measured,
    render,
)
from tune_adaptive.system.files import write_whole


@dataclass(frozen=True, slots=True)
class Row:
    """What one experiment says of one task."""

    experiment: str
    seed: int
    verdict: Verdict
    standing: str
    metrics: tuple[Mean | None, ...]  # in the order of the table's schedules
    differences: tuple[Mean | None, ...]  # studied minus each baseline


@dataclass(frozen=True, slots=True)
class Shared:
    """A task that several experiments have in common.

    Attributes:
        task: ``dataset/model``.
        metric: What it is judged by.
        schedules: Those that every one of them has, the studied one first.
        rows: One an experiment.
        over_searches: Studied minus each baseline; its interval is over the experiments, so
            that it holds the noise of the search too.
    """

    task: str
    metric: Metric
    schedules: tuple[str, ...]
    rows: tuple[Row, ...]
    over_searches: tuple[Mean | None, ...]


def write_comparison(analyses: Sequence[Analysis], out: Path) -> list[Path]:
    """Write ``comparison.html`` and ``comparison.md`` into ``out``.

    Raises:
        InputError: They cannot be compared, and why.
        EnvironmentFault: ``out`` cannot be written.
    """
    shared = compare_experiments(analyses)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"--out {out}: cannot be made: {error.strerror}") from error
    title = ", ".join(analysis.plan.name for analysis in analyses)
    paths = []
    for form in ("html", "md"):
        path = out / f"comparison.{form}"
        write_whole(path, render(form, title, _blocks(analyses, shared)))
        paths.append(path)
    return paths


def _blocks(analyses: Sequence[Analysis], shared: Sequence[Shared]) -> Iterator[Block]:
    seeds = [analysis.plan.seed for analysis in analyses]
    yield Paragraph(
        "Each row is one experiment: a search of its own, with final seeds of its own. The last "
        "rows are over the experiments: they hold the noise of the search, which the final seeds "
        "of one experiment cannot see."
    )
    if len(set(seeds)) < len(seeds):
        yield Judgement(
            "not independent",
            "Some of these experiments share a --seed: they are no draws of their own, and the "
            "interval over them is too narrow.",
        )
    for number, each in enumerate(shared, start=1):
        yield Section(f"task-{number}", each.task)
        for row in each.rows:
            standing = "" if row.standing == "as planned" else f" ({row.standing})"
            word = row.verdict.word or "no verdict"
            yield Judgement(f"{row.experiment}: {word}{standing}", row.verdict.sentence)
        yield from _tables(each, analyses[0].plan.studied)
    yield Section("methods", "How they were made")
    yield from (Command(analysis.plan.command) for analysis in analyses)


def _tables(shared: Shared, studied: str) -> Iterator[Block]:
    metric = shared.metric
    points = partial(metric.number, sign="+")
    yield Part(f"Test {metric.label}")
    yield Table(
        ["experiment", "seed", "standing", *shared.schedules],
        [
            [row.experiment, row.seed, row.standing]
            + [measured(value, metric.number) for value in row.metrics]
            for row in shared.rows
        ],
    )
    yield Part(f"{studied} minus each baseline{metric.in_differences}")
    rows = [(row.experiment, row.differences) for row in shared.rows]
    yield Table(
        ["experiment", *shared.schedules[1:]],
        [
            [name, *(measured(value, points) for value in differences)]
            for name, differences in (*rows, ("over the experiments", shared.over_searches))
        ],
    )


def compare_experiments(analyses: Sequence[Analysis]) -> list[Shared]:
    """Return every task that all experiments share.

    Raises:
        InputError: They share no task, or not its data, horizon or schedules.
    """
    names = [analysis.plan.name for analysis in analyses]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{', '.join(twice)}: given twice; one experiment is one draw")
    tasks = [
        task.name
        for task in analyses[0].plan.tasks
        if all(task.name in [other.name for other in each.plan.tasks] for each in analyses)
    ]
    if not tasks:
        told = "; ".join(
            f"{a.plan.name}: {', '.join(t.name for t in a.plan.tasks)}" for a in analyses
        )
        raise InputError(f"these experiments share no task ({told})")
    problems = []
    for task in tasks:
        for what, values in (
            ("T", [analysis.history.task(task).num_epochs for analysis in analyses]),
            ("data", [analysis.history.task(task).data_sha256[:12] for analysis in analyses]),
            ("batch size", [analysis.history.task(task).batch_size for analysis in analyses]),
            ("optimizer", [analysis.history.task(task).optimizer for analysis in analyses]),
            ("augmentation", [analysis.history.task(task).augment for analysis in analyses]),
            ("clip norm", [analysis.history.task(task).clip_norm for analysis in analyses]),
            ("precision", [analysis.history.task(task).precision for analysis in analyses]),
            ("model", [model_notes(analysis.history.task(task).notes) for analysis in analyses]),
            ("metric", [analysis.history.task(task).metric for analysis in analyses]),
            ("studied schedule", [analysis.plan.studied for analysis in analyses]),
            ("search budget", [analysis.plan.budget for analysis in analyses]),
        ):
            if len(set(values)) > 1:
                told = ", ".join(f"{n} {v}" for n, v in zip(names, values, strict=True))
                problems.append(f"{task}: another {what} in each: {told}")
    if problems:
        raise InputError("\n".join(problems))
    studied = analyses[0].plan.studied
    schedules = tuple(
        schedule
        for schedule in analyses[0].plan.schedules
        if schedule != studied and all(schedule in each.plan.schedules for each in analyses)
    )
    if not schedules or any(studied not in each.plan.schedules for each in analyses):
        raise InputError(f"these experiments do not share {studied} and a baseline")
    return [_shared(analyses, task, (studied, *schedules)) for task in tasks]


def _shared(analyses: Sequence[Analysis], task: str, schedules: tuple[str, ...]) -> Shared:
    rows = tuple(_row(analysis, task, schedules) for analysis in analyses)
    over = []
    for column in range(len(schedules) - 1):
        means = [d.mean for row in rows if (d := row.differences[column]) is not None]
        over.append(mean_interval(means) if means else None)
    metric = analyses[0].history.task(task).metric
    return Shared(task, metric, schedules, rows, tuple(over))


def _row(analysis: Analysis, task: str, schedules: tuple[str, ...]) -> Row:
    metrics = {arm.schedule: arm.test_metric for arm in analysis.arms if arm.task == task}
    differences = {each.baseline: each.difference for each in analysis.comparisons[task]}
    standing = "audit broken" if analysis.breaches else "as planned"
    return Row(
        experiment=analysis.plan.name,
        seed=analysis.plan.seed,
        verdict=analysis.verdicts[task],
        standing="exploratory" if analysis.history.exploratory else standing,
        metrics=tuple(metrics.get(schedule) for schedule in schedules),
        differences=tuple(differences.get(schedule) for schedule in schedules[1:]),
    )
