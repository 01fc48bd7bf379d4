"""How many trials an hour: our search against three that people write, alternating.

    python benchmarks/search.py [--train-size N] [--trials N] [--rounds N]

The scripts stand in ``benchmarks/searchers``: ``ray_function`` (a usual Ray Tune script: the data
loaded by each trial, OptunaSearch, ASHA), ``ray_class`` (a class Trainable with
``reuse_actors=True``, the data loaded once a process), ``plain_optuna`` (one process, all cores
to torch) and ``ours`` (the search stage of ``python -m tune_adaptive.search``: plan,
calibration, ledger and studies included).

Held equal: the task and its images, the network, the batch size, T, the precision, the slots (one
thread each; ``plain_optuna`` has as many threads), the optimizer, a validation after each epoch,
and the configurations: the defaults and controls that our arm draws beforehand are handed to the
others as ``points_to_evaluate`` or by ``enqueue_trial``. No trial is stopped early: ours are
controls, and the others' ASHA has its only rung at T. So everyone trains trials x T epochs, which
is checked. The others feed resident tensors, as we do, unless ``--feed loader`` asks for the
``DataLoader`` over torchvision's transforms that most scripts have.

Each search is a fresh process, timed from its command to its end, start-up and all: that is the
ratio of trials an hour. Beside it stands the ratio from the first trial's start to the last
result. A round is ours, theirs, ours, for each of them; a ratio is theirs over the mean of its
neighbours, so 2 is twice as many trials an hour; the control is a neighbour over the other.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from scipy.stats.qmc import Halton

from tune_adaptive.planning.arm_spaces import builder_defaults
from tune_adaptive.planning.prepare import cpus_here
from tune_adaptive.records import ledger
from tune_adaptive.records.runs import RECIPE_NAMES, Recipe
from tune_adaptive.records.space_files import default_space_dir, load_space
from tune_adaptive.tasks import TaskOptions, make_task
from tune_adaptive.tasks.feed import Split
from tune_adaptive.training.calibration import calibrate
from tune_adaptive.training.loop import Material

TASK, SCHEDULE = "fashion_mnist_mini/cnn", "step"
SEARCHERS = Path(__file__).with_name("searchers")
RIVALS = {"ray_function": 4.0, "ray_class": 1.8, "plain_optuna": 1.5}
"""Each with the target of its ratio."""


@dataclass(frozen=True)
class Timed:
    """One search: seconds from its command, and from its first trial's start, to its end."""

    whole_s: float
    trials_s: float
    val_metric: float


def main(
    rivals: Annotated[list[str] | None, typer.Argument(help="Against whom; all.")] = None,
    train_size: Annotated[int, typer.Option(help="Training images.")] = 2000,
    epochs: Annotated[int, typer.Option(help="T.")] = 3,
    trials: Annotated[int, typer.Option(help="Trials a search.")] = 100,
    rounds: Annotated[int, typer.Option(help="Pairs.")] = 5,
    feed: Annotated[str, typer.Option(help="The rivals': tensors or loader.")] = "tensors",
) -> None:
    """Print the table, a rival's row as soon as it is there."""
    slots = cpus_here()
    print(
        f"{trials} trials of {epochs} epochs of {train_size:,} images, {slots} slots; "
        f"the others feed by {feed}\n"
    )
    print(
        "| against | trials/hour, ours | theirs | ratio (median) | of each pair | target "
        "| control (ours / ours) | ratio from the first trial's start | val. accuracy [%], ours "
        "| theirs |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        work = make_work(Path(folder), train_size, epochs, trials, slots, feed)
        for rival in rivals or RIVALS:
            before, pairs = search("ours", work), []
            for _ in range(rounds):
                theirs, after = search(rival, work), search("ours", work)
                pairs.append((before, theirs, after))
                before = after
            print(row(rival, pairs, trials), flush=True)


def row(rival: str, pairs: list[tuple[Timed, Timed, Timed]], trials: int) -> str:
    """Return a rival's row of the table."""
    ratios = [2 * theirs.whole_s / (a.whole_s + b.whole_s) for a, theirs, b in pairs]
    later = [2 * theirs.trials_s / (a.trials_s + b.trials_s) for a, theirs, b in pairs]
    control = [b.whole_s / a.whole_s for a, _, b in pairs]
    ours_s = statistics.median(b.whole_s for *_, b in pairs)
    theirs_s = statistics.median(theirs.whole_s for _, theirs, _ in pairs)
    accuracies = [
        100 * statistics.fmean(each[which].val_metric for each in pairs) for which in (2, 1)
    ]
    return (
        f"| {rival} | {3600 * trials / ours_s:,.0f} | {3600 * trials / theirs_s:,.0f} "
        f"| {statistics.median(ratios):.2f} | {', '.join(f'{r:.2f}' for r in ratios)} "
        f"| {RIVALS[rival]:g} | {statistics.median(control):.2f} "
        f"({', '.join(f'{r:.2f}' for r in control)}) | {statistics.median(later):.2f} "
        f"| {accuracies[0]:.1f} | {accuracies[1]:.1f} |"
    )


def make_work(
    folder: Path, train_size: int, num_epochs: int, num_trials: int, slots: int, feed: str
) -> dict[str, Any]:
    """Write the data that the others read; return what all of them are told."""
    task = make_task(TASK, TaskOptions(train_size=train_size))
    data, cpu = task.load(), torch.device("cpu")
    material = Material(
        task, data.describe(), Split.of(data.train, cpu), Split.of(data.validation, cpu)
    )
    (train_x, train_y), (validation_x, validation_y) = data.train.arrays, data.validation.arrays
    np.savez(
        folder / "data.npz",
        train_x=train_x,
        train_y=train_y,
        validation_x=validation_x,
        validation_y=validation_y,
    )
    space = load_space(
        default_space_dir(),
        SCHEDULE,
        TASK,
        common_defaults={name: getattr(Recipe(), name) for name in RECIPE_NAMES},
        schedule_defaults=builder_defaults(SCHEDULE),
    )
    # As protocol/arms.py draws an arm's controls.
    points = Halton(len(space.parameters), rng=np.random.default_rng(0)).random(num_trials - 1)
    return {
        "folder": str(folder),
        "data": str(folder / "data.npz"),
        "done": str(folder / "done.json"),
        "task": TASK,
        "schedule": SCHEDULE,
        "train_size": train_size,
        "batch_size": task.batch_size,
        "precision": calibrate(material, "auto", by_clock=False).precision,
        "num_epochs": num_epochs,
        "slots": slots,
        "feed": feed,
        "space": {
            each.name: {"low": each.low, "high": each.high, "log": each.log}
            for each in space.parameters
        },
        "trials": [space.defaults(), *(space.at(point) for point in points)],
    }


def search(name: str, work: dict[str, Any]) -> Timed:
    """Run one search in a process of its own and check that it did the work."""
    with tempfile.TemporaryDirectory(dir=work["folder"]) as folder:
        path = Path(folder) / "work.json"
        own = {**work, "folder": folder, "done": str(Path(folder) / "done.json")}
        path.write_text(json.dumps(own), encoding="utf-8")
        command = [sys.executable, str(SEARCHERS / f"{name}.py"), str(path)]
        start = time.time()
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        whole_s = time.time() - start
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{process.stdout}{process.stderr}")
        done = of_ledger(Path(folder) / "ours", work) if name == "ours" else of_file(own)
    num_epochs = sum(each["training_iteration"] for each in done)
    if (len(done), num_epochs) != (len(work["trials"]), len(work["trials"]) * work["num_epochs"]):
        raise SystemExit(f"{name} trained {len(done)} trials and {num_epochs} epochs in all")
    trials_s = max(each["ended_at"] for each in done) - min(each["started_at"] for each in done)
    mean = statistics.fmean(each["val_metric"] for each in done)
    return Timed(whole_s, trials_s, mean)


def of_file(work: dict[str, Any]) -> list[dict[str, float]]:
    """Return what each trial's last epoch returned."""
    done: list[dict[str, float]] = json.loads(Path(work["done"]).read_text(encoding="utf-8"))
    return done


def of_ledger(folder: Path, work: dict[str, Any]) -> list[dict[str, float]]:
    """Return the same of our search, and check that it trained the configurations asked for."""
    runs: dict[str, dict[str, float]] = {}
    trained = []
    for event in ledger.read(folder / "ledger.jsonl"):
        if isinstance(event, ledger.RunStarted):
            trained.append(dict(event.run.configuration.values()))
        if isinstance(event, ledger.EpochDone):
            result = event.result
            begun = result.ended_at - result.train_s - result.eval_s
            run = runs.setdefault(event.run_id, {"started_at": begun})
            run |= {
                "training_iteration": result.epoch,
                "val_metric": result.val_metric,
                "ended_at": result.ended_at,
            }
    if trained != work["trials"]:
        raise SystemExit("ours trained other configurations")
    return list(runs.values())


if __name__ == "__main__":
    typer.run(main)
