"""What is the resource weight worth on a machine that slows down in the middle of a run?

    python benchmarks/slowdown.py

Validation accuracy on the embedded task, by seeds that nothing else uses. From 40% of the planned
steps on every step takes twice as long, on a simulated clock, and a run is cut when the time that
was planned for it is over. ``searched`` is what the reference experiment selected at steady speed.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from tune_adaptive import load_schedule
from tune_adaptive.analysis.stats import mean_interval
from tune_adaptive.records.runs import Configuration, Recipe, RunSpec, Slowdown
from tune_adaptive.tasks import make_task
from tune_adaptive.tasks.feed import Split
from tune_adaptive.training.calibration import calibrate
from tune_adaptive.training.loop import Material, train

TASK = "fashion_mnist_mini/cnn"
BEST = Path(__file__).resolve().parent.parent / "results/reference/fashion_mnist_mini-cnn/best"
NUM_EPOCHS = 8
SEEDS = range(400_000, 400_010)
SLOWDOWN = Slowdown(2.0, 0.4)
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    task = make_task(TASK)
    data = task.load()
    splits = Split.of(data.train, cpu), Split.of(data.validation, cpu)
    material = Material(task, data.describe(), *splits)
    precision = calibrate(material, "auto", by_clock=False).precision
    print("| configuration | resource weight | machine | validation accuracy [%] | n |")
    print("|---|---|---|---|---|")
    for name, weight, configuration, slowdown in rows():
        found = []
        for seed in SEEDS:
            run = RunSpec("", "contention", TASK, configuration, seed, NUM_EPOCHS, precision)
            *_, last = train(replace(run, signals="steady", slowdown=slowdown), material)
            found.append(100 * last.val_metric)
        mean = mean_interval(found)
        print(
            f"| {name} | {'' if weight is None else f'{weight:g}'} "
            f"| {'slows down' if slowdown else 'steady'} "
            f"| {mean.mean:.2f} [{mean.low:.2f}, {mean.high:.2f}] | {mean.n} |",
            flush=True,
        )


def rows() -> Iterator[tuple[str, float | None, Configuration, Slowdown | None]]:
    """What is run: its name, weight, configuration, and how the machine behaves."""
    for name, configuration in (
        ("adaptive, defaults", Configuration("adaptive", Recipe())),
        ("adaptive, searched", searched("adaptive")),
    ):
        yield name, None, configuration, None
        for weight in WEIGHTS:
            parameters = dict(configuration.parameters) | {"resource_weight": weight}
            yield name, weight, replace(configuration, parameters=parameters), SLOWDOWN
    for schedule in ("step", "exponential", "cosine"):
        yield f"{schedule}, searched", None, searched(schedule), SLOWDOWN


def searched(schedule: str) -> Configuration:
    """Return what the reference experiment selected."""
    return load_schedule(BEST / TASK.replace("/", "-") / f"{schedule}.toml").configuration


if __name__ == "__main__":
    main()
