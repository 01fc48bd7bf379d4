"""How fast our loop trains: against three loops that people write, an alternating pair each.

    python benchmarks/training.py --data-dir DIR --model-path FOLDER [bare|loader|trainer ...]

- ``bare``: a hand-written loop over resident tensors, in our precision. Texts are padded to the
  longest of their batch.
- ``loader``: the usual loop over a ``DataLoader`` with torchvision's transforms, in fp32,
  contiguous tensors; ours in fp32 and in the precision that ``--precision auto`` chooses.
- ``trainer``: Hugging Face's ``Trainer`` with ``DataCollatorWithPadding``, in our precision,
  without its clipping of gradients, as ours does none.

All train the same model from the same seed on the same examples with fused AdamW and the same
schedule; ours keeps its losses and signals as a worker does. One thread: a slot of a search.
Epochs alternate, theirs, ours, theirs; validation, which only ours does, is cut to one example.
A ratio is the mean of the two neighbours' seconds over ours, so 1.1 is a tenth faster; the
control is the ratio of the neighbours.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from torchvision import transforms

from tune_adaptive.records.runs import Configuration, Recipe, RunSpec, Signal
from tune_adaptive.signals.replay import dump_signals
from tune_adaptive.tasks import Dataset, Task, TaskOptions, read_task
from tune_adaptive.tasks.feed import Split
from tune_adaptive.training.calibration import calibrate
from tune_adaptive.training.evaluate import autocast
from tune_adaptive.training.loop import Material, train

CPU = torch.device("cpu")
RECIPE = Recipe(lr=1e-4)
SEED = 0

Loop = Iterator[object]
"""Each ``next`` trains one epoch."""


class Case:
    """A task, its data and how long its rows are run."""

    def __init__(self, name: str, options: TaskOptions, num_pairs: int) -> None:
        self.task: Task = read_task(name, options)
        self.data: Dataset = self.task.load()
        self.num_pairs = num_pairs
        self.num_epochs = 2 * num_pairs + 4
        validation = Split.of(self.data.validation, CPU)
        one = Split(
            validation.x[:1],
            validation.y[:1],
            None if validation.lengths is None else validation.lengths[:1],
            None if validation.widths is None else validation.widths[:1],
        )
        train_split = Split.of(self.data.train, CPU)
        self.material = Material(self.task, self.data.describe(), train_split, one)
        self.total_steps = self.num_epochs * self.material.steps_per_epoch

    def auto(self) -> str:
        """Return the precision that ``--precision auto`` chooses here."""
        return calibrate(self.material, "auto").precision

    def model(self) -> nn.Module:
        """Build the task's model from the seed."""
        torch.manual_seed(SEED)
        return self.task.build(self.material.description).train()

    def optimizer(self, model: nn.Module) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """Return fused AdamW with a linear decay to 0."""
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=RECIPE.lr, weight_decay=RECIPE.weight_decay, fused=True
        )
        return optimizer, LambdaLR(optimizer, lambda step: 1 - step / self.total_steps)


def ours(case: Case, precision: str) -> Loop:
    """Train with ``tune_adaptive.training.loop.train``, as a worker does."""
    run = RunSpec(
        id="ours",
        stage="search",
        task=case.task.name,
        configuration=Configuration("linear", RECIPE),
        seed=SEED,
        num_epochs=case.num_epochs,
        precision=precision,
    )
    heard: list[Signal] = []
    for _ in train(run, case.material, record=heard.extend):
        dump_signals(heard)
        heard.clear()
        yield


def bare(case: Case, precision: str) -> Loop:
    """Train over resident tensors, with nothing but what training takes."""
    model = case.model().to(memory_format=torch.channels_last)
    optimizer, schedule = case.optimizer(model)
    split, description = case.material.train, case.material.description
    mean = torch.tensor(description.mean).view(1, -1, 1, 1)
    std = torch.tensor(description.std).view(1, -1, 1, 1)
    while True:
        losses = []
        for rows in torch.randperm(len(split)).split(case.task.batch_size):
            if split.lengths is None:
                inputs: tuple[torch.Tensor, ...] = ((split.x[rows] - mean).div_(std),)
            else:
                lengths = split.lengths[rows]
                inputs = (split.x[rows, : int(lengths.max())], lengths)
            with autocast(CPU, precision):
                loss = cross_entropy(model(*inputs), split.y[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            losses.append(loss.detach())
        torch.stack(losses).mean().item()
        yield


class Pictures(torch.utils.data.Dataset[Any]):
    """Images as torchvision's own data sets give them: from PIL through the transforms."""

    def __init__(self, case: Case) -> None:
        description = case.material.description
        self._x, self._y = case.data.train.x, case.data.train.y
        augment = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        self._transform = transforms.Compose(
            [
                *(augment if case.task.augment == "standard" else []),
                transforms.ToTensor(),
                transforms.Normalize(
                    [value / 255 for value in description.mean],
                    [value / 255 for value in description.std],
                ),
            ]
        )

    def __len__(self) -> int:
        return len(self._y)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        image = Image.fromarray(np.squeeze(self._x[row]))
        return self._transform(image), int(self._y[row])


def loader(case: Case) -> Loop:
    """Train over a DataLoader, in this process: a slot has one core."""
    model = case.model()
    optimizer, schedule = case.optimizer(model)
    batches = DataLoader(Pictures(case), batch_size=case.task.batch_size, shuffle=True)
    while True:
        total = 0.0
        for x, y in batches:
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        yield


def trainer(case: Case, precision: str, model_path: str) -> Loop:
    """Train with Hugging Face's Trainer, an epoch a call; what it says is the epoch alone."""
    from transformers import (
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    rows = case.data.train
    assert rows.lengths is not None
    examples = [
        {"input_ids": x[:length].tolist(), "labels": int(y)}
        for x, y, length in zip(rows.x, rows.y, rows.lengths, strict=True)
    ]
    model = case.model().model  # transformers' own, without our mask
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_epoch_begin(self, *args: object, **kwargs: object) -> None:
            times.append(time.perf_counter())

        def on_epoch_end(self, *args: object, **kwargs: object) -> None:
            times.append(time.perf_counter())

    arguments = TrainingArguments(
        output_dir="unused",
        num_train_epochs=1,
        per_device_train_batch_size=case.task.batch_size,
        learning_rate=RECIPE.lr,
        weight_decay=RECIPE.weight_decay,
        lr_scheduler_type="linear",
        max_grad_norm=0.0,
        bf16=precision == "bf16",
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
    )
    collate = DataCollatorWithPadding(AutoTokenizer.from_pretrained(model_path))
    while True:
        times.clear()
        Trainer(
            model, arguments, train_dataset=examples, data_collator=collate, callbacks=[Clock()]
        ).train()
        begin, end = times
        yield end - begin


def epoch_s(loop: Loop) -> float:
    """Return the seconds of the loop's next epoch: as it says itself, else as timed."""
    start = time.perf_counter()
    said = next(loop)
    return said if isinstance(said, float) else time.perf_counter() - start


def compare(case: Case, against: str, theirs: Callable[[], Loop], precision: str) -> None:
    """Alternate the loops' epochs and print a row."""
    loops = [theirs(), ours(case, precision), theirs()]
    for loop in loops:  # warm up
        epoch_s(loop)
    rows = [[epoch_s(loop) for loop in loops] for _ in range(case.num_pairs)]
    ratios = [(before + after) / 2 / between for before, between, after in rows]
    low, high = np.quantile(ratios, [0.25, 0.75])
    control = statistics.median(after / before for before, _, after in rows)
    rate = statistics.median(len(case.data.train) / between for _, between, _ in rows)
    print(
        f"| {against} | {case.task.name} | {precision} | {rate:,.0f} "
        f"| {statistics.median(ratios):.2f} | {low:.2f} to {high:.2f} | {control:.2f} "
        f"| {case.num_pairs} |",
        flush=True,
    )


def main(
    data_dir: Annotated[Path, typer.Option(help="Folder of data sets.")],
    model_path: Annotated[str, typer.Option(help="bert's encoder.")],
    against: Annotated[list[str] | None, typer.Argument(help="bare, loader, trainer.")] = None,
) -> None:
    """Print the table, a row as soon as it is there."""
    torch.set_num_threads(1)

    def case(name: str, train_size: int, num_pairs: int, max_length: int | None = None) -> Case:
        options = TaskOptions(data_dir, model_path, train_size=train_size, max_length=max_length)
        return Case(name, options, num_pairs)

    print(
        "| against | task | our precision | our examples/s | times as fast (median) | quartiles "
        "| control | pairs |"
    )
    print("|---|---|---|---|---|---|---|---|")
    if not against or "bare" in against:
        for it in (
            case("fashion_mnist/cnn", 5_000, 30),
            case("fashion_mnist/mlp", 5_000, 30),
            case("ag_news/bilstm", 2_000, 10),
            case("ag_news/bert", 320, 10),
        ):
            precision = it.auto()
            compare(it, "bare", partial(bare, it, precision), precision)
    if not against or "loader" in against:
        for it in (
            case("fashion_mnist/cnn", 5_000, 10),
            case("fashion_mnist/mlp", 5_000, 10),
            case("cifar10/resnet18", 128, 5),
        ):
            for precision in dict.fromkeys(("fp32", it.auto())):
                compare(it, "loader, fp32", partial(loader, it), precision)
    if not against or "trainer" in against:
        for it in (case("ag_news/bert", 320, 8), case("imdb/bert", 160, 8, max_length=128)):
            precision = it.auto()
            compare(it, "trainer", partial(trainer, it, precision, model_path), precision)


if __name__ == "__main__":
    typer.run(main)
