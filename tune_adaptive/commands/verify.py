"""Does a published configuration hold on fresh seeds?

    python -m tune_adaptive verify results/first/best/fashion_mnist_mini-cnn/adaptive.toml

Exit codes: 0 the new mean lies in the published interval; 1 it does not; 2 bad input.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

import typer

from tune_adaptive.analysis.stats import ALPHA, Mean, mean_interval
from tune_adaptive.errors import InputError
from tune_adaptive.planning.inspection import load_data
from tune_adaptive.records.codec import (
    DecodeError,
    Finite,
    Positive,
    PositiveAmount,
    Proportion,
    convert,
)
from tune_adaptive.records.ledger import ONCE
from tune_adaptive.records.metric import ACCURACY, Metric
from tune_adaptive.records.plan import (
    FIRST_SEED,
    SEEDS_PER_EXPERIMENT,
    Seed,
    model_notes,
)
from tune_adaptive.records.runs import Configuration, Precision, RunSpec, SignalSource
from tune_adaptive.records.task_plan import ClipNorm, Note
from tune_adaptive.report.best import BestSchedule, load_schedule
from tune_adaptive.schedules import SCHEDULES
from tune_adaptive.system.console import run_command
from tune_adaptive.tasks import Dataset, Task, TaskOptions, inapplicable, read_own_task, read_task
from tune_adaptive.tasks.datasets import Augment
from tune_adaptive.tasks.feed import Split
from tune_adaptive.training.device import claimed_device
from tune_adaptive.training.loop import Material, train
from tune_adaptive.training.preflight import as_trained

EXIT_NOT_REPRODUCED = 1


@dataclass(frozen=True, slots=True)
class Rerun:
    """A published mean beside that of new seeds.

    Attributes:
        published: Test metric as it was published.
        found: Test metric on the new seeds.
        prediction: 95% interval for the mean of that many new runs.
    """

    published: Mean
    found: Mean
    prediction: tuple[float, float]

    @property
    def reproduced(self) -> bool:
        """Whether the new mean lies in the published interval."""
        assert self.published.low is not None
        assert self.published.high is not None
        return self.published.low <= self.found.mean <= self.published.high

    @property
    def predicted(self) -> bool:
        """Whether it lies where 95% of such means lie."""
        return self.prediction[0] <= self.found.mean <= self.prediction[1]


def judge_rerun(published: Mean, found: Sequence[float]) -> Rerun:
    """Judge N new runs by a published mean of n.

    The published interval is of the true mean; the mean of N new runs leaves it more often than
    one time in twenty. 95% of them lie in mean +- t(0.975, n - 1) s sqrt(1/n + 1/N).

    Raises:
        InputError: Nothing was published that has an interval.
    """
    if published.low is None or published.high is None:
        raise InputError("it was published without an interval, from fewer than 2 seeds")
    half = (published.high - published.low) / 2  # t s / sqrt(n)
    wider = half * math.sqrt(1 + published.n / len(found))
    prediction = (published.mean - wider, published.mean + wider)
    return Rerun(published, mean_interval(found), prediction)


def main(
    path: Annotated[Path, typer.Argument(help="A best/*.toml of an experiment.")],
    seeds: Annotated[int, typer.Option(help="Fresh seeds.")] = 4,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of data sets.")] = None,
    model_path: Annotated[str | None, typer.Option(help="bert's encoder.")] = None,
    task: Annotated[str | None, typer.Option(help="module:task, for one of your own.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="module:builder, for one of your own.")
    ] = None,
) -> None:
    """Re-run a best configuration on fresh seeds; say whether its published mean holds."""
    if seeds < 1:
        raise InputError(f"--seeds must be >= 1, got {seeds}")
    best = load_schedule(path)
    if schedule is not None and SCHEDULES.take(schedule) != best.configuration.schedule:
        raise InputError(f"--schedule {schedule}: {path} is of {best.configuration.schedule}")
    if best.configuration.schedule not in SCHEDULES:
        raise InputError(
            f"{path}: schedule {best.configuration.schedule!r} is one of your own; give it, "
            "--schedule module:builder"
        )
    tuned, here = best.provenance.get("builder"), SCHEDULES.origin(best.configuration.schedule)
    if tuned is not None and tuned != here:
        raise InputError(f"{path}: its schedule was {tuned}, here it is {here}")
    own = _published(best, path)
    judge_rerun(own.mean, [own.mean.mean])  # what cannot be judged, at once
    options = TaskOptions.read(own.options, data_dir, model_path)
    made = replace(
        read_own_task(task, options) if task else read_task(best.task, options),
        batch_size=own.batch_size,
        optimizer=best.optimizer_name,
        augment=own.augment,
        clip_norm=own.clip_norm,
    )
    notes, tuned_notes = model_notes(made.notes), model_notes(own.notes)
    if notes != tuned_notes:
        raise InputError(f"{path}: tuned with another model: {tuned_notes}, here {notes}")
    moved = TaskOptions(data_dir=data_dir, model_path=model_path)
    if problems := inapplicable([task or best.task], moved):
        raise InputError("\n".join(problems))
    if made.measure.plain != own.metric:
        raise InputError(
            f"{path}: judged by another metric: {own.metric}, here {made.measure.plain}"
        )
    data = load_data(made)
    if own.num_train is not None:
        data = as_trained(data, own.num_train)
    if data.sha256() != own.data_sha256:
        raise InputError(
            f"{path}: tuned on other data: SHA-256 {own.data_sha256}, here {data.sha256()}"
        )
    judged = judge_rerun(
        own.mean, _run_again(best.configuration, own, made, data, seeds, typer.echo)
    )
    for what, mean in (("published", judged.published), ("found", judged.found)):
        typer.echo(f"{what}: {_told(mean, own.metric)}")
    low, high = map(own.metric.number, judged.prediction)
    typer.echo(
        f"{'reproduced' if judged.reproduced else 'not reproduced'}: the new mean lies "
        f"{'in' if judged.reproduced else 'outside'} the published interval, and "
        f"{'in' if judged.predicted else 'outside'} [{low}, {high}], where "
        f"{1 - ALPHA:.0%} of such means lie"
    )
    if not judged.reproduced:
        raise typer.Exit(EXIT_NOT_REPRODUCED)


@dataclass(frozen=True, slots=True)
class _Interval:
    """A published metric; its interval may reach beyond the metric's range."""

    mean: Finite
    n: Positive
    low: Finite | None = None
    high: Finite | None = None


@dataclass(frozen=True, slots=True)
class _Published:
    """What the experiment trained with, and what it reached."""

    test_metric: _Interval
    seed: Seed
    num_epochs: Positive
    batch_size: Positive
    augment: Augment
    clip_norm: ClipNorm
    precision: Precision
    signals: SignalSource
    data_sha256: str
    notes: Mapping[str, Note]
    options: Mapping[str, Note]
    metric: Metric = ACCURACY
    run_time_budget_s: PositiveAmount | None = None
    num_train: Positive | None = None  # not in files of before
    # Files of before have neither: a CPU then, and a GPU where there is one.
    cpus_per_trial: PositiveAmount = 1.0
    gpus_per_trial: Proportion = 1.0

    @property
    def mean(self) -> Mean:
        """The published metric with its interval."""
        told = self.test_metric
        return Mean(told.mean, told.low, told.high, told.n)


def _published(best: BestSchedule, path: Path) -> _Published:
    names = {field.name for field in fields(_Published)}
    own = {ONCE.get(name, name): value for name, value in best.provenance.items()}
    own = {name: value for name, value in own.items() if name in names}
    try:
        published = convert(own, _Published, f"{path}: provenance")
    except DecodeError as error:
        raise InputError(f"{path}: no result that can be verified:\n{error}") from error
    told = published.test_metric
    if (problem := published.metric.problem(told.mean)) is not None:
        raise InputError(f"{path}: no result that can be verified: {problem}")
    if told.low is not None and told.high is not None and not told.low <= told.mean <= told.high:
        raise InputError(
            f"{path}: no result that can be verified: its mean {told.mean} lies outside its "
            f"interval [{told.low}, {told.high}]"
        )
    return replace(published, signals="live") if published.signals == "replay" else published


def _run_again(
    configuration: Configuration,
    own: _Published,
    task: Task,
    data: Dataset,
    num_seeds: int,
    say: Callable[[str], None],
) -> list[float]:
    """Train on seeds that no stage of the experiment has; return the test metrics."""
    description = data.describe()
    chance = task.measure.of_guessing(data.train.y, task.loss)
    found = []
    with claimed_device(own.cpus_per_trial, own.gpus_per_trial > 0) as device:
        train_split, validation = (Split.of(part, device) for part in (data.train, data.validation))
        material = Material(task, description, train_split, validation)
        for index in range(num_seeds):
            run = RunSpec(
                id=f"verify-{index}",
                stage="final",
                task=task.name,
                configuration=configuration,
                seed=own.seed * SEEDS_PER_EXPERIMENT + FIRST_SEED["verify"] + index,
                num_epochs=own.num_epochs,
                precision=own.precision,
                signals=own.signals,
                open_test=True,
                time_budget_s=own.run_time_budget_s,
                role="selected",
            )
            *_, last = train(run, material, lambda: Split.of(data.test, device))
            reached = last.test_metric
            found.append(chance if reached is None else reached)
            say(
                f"seed {run.seed}: {own.metric.shown(found[-1])}"
                + (" (diverged)" * (reached is None))
            )
    return found


def _told(mean: Mean, metric: Metric) -> str:
    shown = ""
    if mean.low is not None and mean.high is not None:
        shown = f" [{metric.number(mean.low)}, {metric.number(mean.high)}]"
    return f"{metric.shown(mean.mean)}{shown} n={mean.n}"


if __name__ == "__main__":
    run_command(main)
