"""Record learning curves: what ``benchmarks/quality.py`` lets searches replay.

    python benchmarks/curves.py [--seeds N]

Trains 256 configurations of ``step``'s search space (a scrambled Sobol sequence over the space's
own scales) on the embedded task for T = 9 epochs with ``tune_adaptive.training.loop.train``, one
thread, steady signals, and appends their validation accuracies to ``benchmarks/curves.csv``, a row
as soon as it is there: all configurations with one seed, then all with the next. Rows that the
file has already are not repeated, so it can be interrupted. About 4 s a row.
"""

import csv
import functools
from pathlib import Path
from typing import Annotated

import torch
import typer
from scipy.stats.qmc import Sobol

from tune_adaptive.planning.arm_spaces import builder_defaults
from tune_adaptive.records.runs import RECIPE_NAMES, Configuration, Recipe, RunSpec
from tune_adaptive.records.space_files import default_space_dir, load_space
from tune_adaptive.records.spaces import SearchSpace
from tune_adaptive.tasks import make_task
from tune_adaptive.tasks.feed import Split
from tune_adaptive.training.calibration import calibrate
from tune_adaptive.training.loop import Material, train

TASK = "fashion_mnist_mini/cnn"
SCHEDULE = "step"
NUM_EPOCHS = 9
NUM_CONFIGURATIONS = 256
SOBOL_SEED = 1_000_003  # of no search's controls
FILE = Path(__file__).with_suffix(".csv")


@functools.cache
def space() -> SearchSpace:
    """Return the space that the table covers."""
    return load_space(
        default_space_dir(),
        SCHEDULE,
        TASK,
        common_defaults={name: getattr(Recipe(), name) for name in RECIPE_NAMES},
        schedule_defaults=builder_defaults(SCHEDULE),
    )


def main(seeds: Annotated[int, typer.Option(help="Seeds a configuration.")] = 3) -> None:
    """Train what the file lacks."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    task, covered = make_task(TASK), space()
    data = task.load()
    material = Material(
        task, data.describe(), Split.of(data.train, cpu), Split.of(data.validation, cpu)
    )
    precision = calibrate(material, "auto", by_clock=False).precision
    points = Sobol(len(covered.parameters), rng=SOBOL_SEED).random(NUM_CONFIGURATIONS)
    names = [parameter.name for parameter in covered.parameters]
    if not FILE.exists():
        epochs = [f"epoch_{epoch}" for epoch in range(1, NUM_EPOCHS + 1)]
        FILE.write_text(",".join([*names, "precision", *epochs]) + "\n", encoding="utf-8")
    with FILE.open(encoding="utf-8") as file:
        num_done = sum(1 for _ in file) - 1
    for index in range(num_done, seeds * NUM_CONFIGURATIONS):
        point = points[index % NUM_CONFIGURATIONS]
        # Rounded first, so that what is trained is what the file says.
        values = {name: float(f"{v:.6g}") for name, v in covered.at(point).items()}
        run = RunSpec(
            id="",
            stage="search",
            task=TASK,
            configuration=Configuration.from_values(SCHEDULE, values),
            seed=index,
            num_epochs=NUM_EPOCHS,
            precision=precision,
            signals="steady",
        )
        accuracies = [result.val_metric for result in train(run, material)]
        with FILE.open("a", encoding="utf-8", newline="") as file:
            row = [*values.values(), precision, *accuracies]
            csv.writer(file, lineterminator="\n").writerow(row)


if __name__ == "__main__":
    typer.run(main)
