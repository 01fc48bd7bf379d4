"""Why does adaptive lose on ``imdb/bert``, where a run has 30 steps? Too early an anneal?

    python benchmarks/short_runs.py --data-dir DIR --model-path FOLDER

What the reference experiment selected, and the defaults, with the anneal beginning later: at a
fraction h of the run. 320 texts as there, but other ones (8 are the same), and 1,200 validation
texts, of which 160 selected there and 23 were trained on; none is of a test split. Seeds that
nothing else uses; signals are steady.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import torch
import typer

from tune_adaptive import load_schedule
from tune_adaptive.analysis.stats import mean_interval
from tune_adaptive.records.plan import STUDIED
from tune_adaptive.records.runs import Configuration, Recipe, RunSpec
from tune_adaptive.schedules import Horizon
from tune_adaptive.schedules.simulate import simulate
from tune_adaptive.tasks import TaskOptions, make_task
from tune_adaptive.tasks.feed import Split
from tune_adaptive.training.calibration import calibrate
from tune_adaptive.training.loop import Material, train

TASK = "imdb/bert"
BEST = Path(__file__).resolve().parent.parent / "results/reference/imdb-bert/best/imdb-bert"
TRAIN_SIZE, BATCH_SIZE, MAX_LENGTH, NUM_EPOCHS = 320, 32, 32, 3
DEFAULTS = Recipe(lr=5e-5)  # bert's base rate in search_spaces/common.toml; no warm-up
HOLD, WEIGHT = 0.1, 0.5  # adaptive's defaults
SAME_MEAN_LR = 1.3e-4  # with the selected h a mean over the run near StepLR's
SEEDS = range(500_000, 500_016)
PROCESSES = 2


def main(
    data_dir: Annotated[Path, typer.Option()], model_path: Annotated[str, typer.Option()]
) -> None:
    """Print the table."""
    options = TaskOptions(data_dir, model_path, max_length=MAX_LENGTH)
    print(
        "| configuration | base lr | mean lr, without feedback "
        "| validation accuracy [%] | minus tuned step | n |"
    )
    print("|---|---|---|---|---|---|")
    step: list[float] = []
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        complexity = material(options).description.complexity.value
        for said, configuration in rows(complexity):
            found = list(pool.map(partial(accuracy, options, configuration), SEEDS))
            told = ""
            if step:
                minus = mean_interval([a - b for a, b in zip(found, step, strict=True)])
                told = f"{minus.mean:+.2f} [{minus.low:+.2f}, {minus.high:+.2f}]"
            step = step or found
            mean = mean_interval(found)
            print(
                f"| {said} | {configuration.recipe.lr:.2g} "
                f"| {mean_lr(configuration, complexity):.2g} "
                f"| {mean.mean:.2f} [{mean.low:.2f}, {mean.high:.2f}] | {told} | {mean.n} |",
                flush=True,
            )


@cache
def material(options: TaskOptions) -> Material:
    """Return what is trained on, and validated on."""
    task = make_task(TASK, options)
    data = task.load().with_train_size(TRAIN_SIZE)
    cpu = torch.device("cpu")
    splits = Split.of(data.train, cpu), Split.of(data.validation, cpu)
    return Material(task, data.describe(), *splits)


def accuracy(options: TaskOptions, configuration: Configuration, seed: int) -> float:
    """Train once; return the validation accuracy in percent."""
    torch.set_num_threads(1)
    own = material(options)
    precision = calibrate(own, "auto", by_clock=False).precision
    run = RunSpec("", "search", TASK, configuration, seed, NUM_EPOCHS, precision, "steady")
    *_, last = train(run, own)
    return 100 * last.val_metric


def mean_lr(configuration: Configuration, complexity: float) -> float:
    """Return the mean rate over a run in which no feedback is heard."""
    steps = NUM_EPOCHS * TRAIN_SIZE // BATCH_SIZE
    recipe = configuration.recipe
    horizon = Horizon(steps, round(recipe.warmup_frac * steps), complexity, timer=None)
    plan = simulate(
        configuration.schedule, horizon, lr=recipe.lr, parameters=configuration.parameters
    )
    return sum(plan) / len(plan)


def rows(complexity: float) -> Iterator[tuple[str, Configuration]]:
    """What is run, StepLR first, and its name.

    A later anneal is a higher mean rate, too: one row has the mean of the selected StepLR by its
    base alone.
    """
    yield "step, searched", searched("step")
    for said, configuration, holds in (
        ("searched", searched(STUDIED), (0.4, 0.6, 0.8)),
        ("defaults, no warm-up", Configuration(STUDIED, DEFAULTS), (0.8,)),
    ):
        own = dict(configuration.parameters)
        h = float(own.get("hold", HOLD)) + float(own.get("complexity_weight", WEIGHT)) * complexity
        yield f"{STUDIED}, {said}, h = {h:.2f}", configuration
        for later in holds:
            held = own | {"hold": later, "complexity_weight": 0.0}
            yield f"{STUDIED}, {said}, h = {later:.2f}", replace(configuration, parameters=held)
        if said == "searched":
            faster = replace(configuration.recipe, lr=SAME_MEAN_LR)
            yield f"{STUDIED}, {said}, h = {h:.2f}", replace(configuration, recipe=faster)
    yield "constant, defaults, no warm-up", Configuration("constant", DEFAULTS)


def searched(schedule: str) -> Configuration:
    """Return what the reference experiment selected."""
    return load_schedule(BEST / f"{schedule}.toml").configuration


if __name__ == "__main__":
    typer.run(main)
