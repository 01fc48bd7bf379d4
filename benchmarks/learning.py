"""Do the tasks learn? Each against a floor that a broken loop would not reach.

    python benchmarks/learning.py --data-dir DIR --model-path FOLDER [TASK ...]

Trains each task (default: all of the table) once per seed with
``tune_adaptive.training.loop.train``: AdamW, a linear decay to 0 after the warm-up, the precision
that ``--precision auto`` chooses.
The configurations are usual ones; mnist/cnn missed its floor until its augmentation was chosen, by
hand, on validation images. ``bert`` starts from the encoder in FOLDER.
"""

import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from tune_adaptive.records.runs import Configuration, Recipe, RunSpec
from tune_adaptive.tasks import TaskOptions, read_task
from tune_adaptive.tasks.feed import Split
from tune_adaptive.training.calibration import calibrate
from tune_adaptive.training.loop import Material, train


@dataclass(frozen=True)
class Row:
    """One task's size and recipe, and the test accuracy [%] that it must reach."""

    floor: float
    num_epochs: int
    recipe: Recipe
    options: TaskOptions = TaskOptions()  # noqa: RUF009 (frozen)
    num_seeds: int = 1


BERT = Recipe(lr=5e-5, weight_decay=0.01, warmup_frac=0.1)
ROWS = {
    "mnist/cnn": Row(
        floor=98.5,
        num_epochs=5,
        recipe=Recipe(lr=3e-3, warmup_frac=0.1),
        options=TaskOptions(batch_size=16, augment="shift"),
        num_seeds=3,
    ),
    "fashion_mnist/cnn": Row(
        90.0, 12, Recipe(lr=2e-3, warmup_frac=0.1), TaskOptions(train_size=20_000)
    ),
    "ag_news/bert": Row(88.0, 3, BERT),
    "imdb/bert": Row(80.0, 3, BERT, TaskOptions(train_size=4_000, max_length=128)),
    "imdb/lstm": Row(80.0, 8, Recipe(lr=2e-3, warmup_frac=0.1)),
    "cifar10/resnet18": Row(
        60.0, 15, Recipe(lr=2e-3, weight_decay=0.05, warmup_frac=0.1), TaskOptions(stem="imagenet")
    ),
}


def main(
    data_dir: Annotated[Path, typer.Option(help="Folder of data sets.")],
    model_path: Annotated[str, typer.Option(help="bert's encoder.")],
    tasks: Annotated[list[str] | None, typer.Argument(help="Rows to run.")] = None,
) -> None:
    """Print the table, a row as soon as it is there."""
    print(
        "| task | train | epochs | batch | base lr | precision | test accuracy [%] | n | floor "
        "| s an epoch |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in tasks or ROWS:
        row = ROWS[name]
        task = read_task(name, replace(row.options, data_dir=data_dir, model_path=model_path))
        data = task.load()
        cpu = torch.device("cpu")
        train_split, validation, test = (Split.of(split, cpu) for split in data.splits.values())
        material = Material(task, data.describe(), train_split, validation)
        precision = calibrate(material, "auto").precision
        accuracies, start = [], time.perf_counter()
        for seed in range(row.num_seeds):
            run = RunSpec(
                id=f"{name}-{seed}",
                stage="final",
                task=name,
                configuration=Configuration("linear", row.recipe),
                seed=seed,
                num_epochs=row.num_epochs,
                precision=precision,
            )
            *_, last = train(run, material, open_test=lambda test=test: test)
            accuracies.append(100 * last.test_metric)
        epoch_s = (time.perf_counter() - start) / row.num_seeds / row.num_epochs
        spread = f" ({min(accuracies):.2f} to {max(accuracies):.2f})" * (len(accuracies) > 1)
        print(
            f"| {name} | {len(data.train):,} | {row.num_epochs} | {task.batch_size} "
            f"| {row.recipe.lr:g} | {precision} | {statistics.fmean(accuracies):.2f}{spread} "
            f"| {row.num_seeds} | {row.floor:g} | {epoch_s:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    typer.run(main)
