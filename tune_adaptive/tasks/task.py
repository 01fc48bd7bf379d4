"""A task: what is trained, and what a person may ask of every task."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tune_adaptive.errors import InputError
from tune_adaptive.records.codec import Positive, convert
from tune_adaptive.records.declared import HOW, MAX_WHOLE, WHAT, Option
from tune_adaptive.records.runs import OPTIMIZER_NAMES
from tune_adaptive.system.own_code import persons_code
from tune_adaptive.tasks.data import Dataset, Description, Targets
from tune_adaptive.tasks.datasets import Augment
from tune_adaptive.tasks.metrics import METRICS, Measure, find_measure
from tune_adaptive.tasks.prepare import prepare, prepare_files
from tune_adaptive.tasks.vision import Stem

Note = str | int | float

MAX_EPOCHS = 1_000_000
MAX_BATCH_SIZE = MAX_WHOLE
MAX_IMAGE_SIZE = 4096
COUNTS = ("batch_size", "num_epochs", "nbytes")


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained, and everything about it that no schedule decides.

    Attributes:
        name: ``dataset/model``.
        data: The three splits, or a function that returns them, called once, by the driver.
        build: Returns a fresh model; called after seeding, once a run. Images come to it as
            (N, C, H, W) and features as (N, d), standardised; texts as ids (N, L) and
            lengths (N,).
        loss: Mean loss of logits (N, K) and classes (N,).
        metric: What models are judged by: a name, one of ``METRICS``, or a ``Measure``.
        batch_size: Examples per optimizer step, >= 1.
        num_epochs: Default horizon T.
        optimizer: ``adam``, ``adamw`` or ``sgd`` (momentum 0.9).
        augment: Of images, in training: ``none``, ``shift``, ``standard`` or ``document``.
        clip_norm: Gradients of a larger norm are scaled down to it; infinity leaves them.
        notes: What else was decided, for the record.
        nbytes: Of what ``build`` carries with it, where that is large.
    """

    name: str
    data: Dataset | Callable[[], Dataset]
    build: Callable[[Description], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    metric: str | Measure = "accuracy"
    batch_size: int = 64
    num_epochs: int = 20
    optimizer: str = "adamw"
    augment: Augment = "none"
    clip_norm: float = float("inf")
    notes: Mapping[str, Note] = field(default_factory=dict)
    nbytes: int = 0

    def __post_init__(self) -> None:
        for name in COUNTS:  # whole numbers of numpy are whole numbers
            value = getattr(self, name)
            if isinstance(value, np.integer):
                object.__setattr__(self, name, int(value))

    @property
    def measure(self) -> Measure:
        """What models are judged by, and how it is computed."""
        return find_measure(self.metric)

    def load(self) -> Dataset:
        """Return the three splits, checked.

        Raises:
            InputError: They cannot be trained on, and why.
            EnvironmentFault: They are not to be had.
        """
        data = self.data
        if callable(data):
            is_published = isinstance(data, partial) and data.func in (prepare, prepare_files)
            with nullcontext() if is_published else persons_code(f"{self.name}: its data"):
                data = data()
        if not isinstance(data, Dataset):
            raise InputError(f"{self.name}: its data must be a Dataset, is {type(data).__name__}")
        data = data.cast()
        problems = data.problems()
        if not problems and self.augment != "none" and data.train.kind != "image":
            problems = [f"augment = {self.augment!r}: images alone, its data are {data.train.kind}"]
        if not problems:
            problems = self._unfit(data.targets)
        if problems:
            raise InputError("\n".join(f"{self.name}: {problem}" for problem in problems))
        return data

    def _unfit(self, targets: Targets) -> list[str]:
        """Say why the metric is none for such targets, and which metrics are; empty if it is."""
        measure = self.measure
        if targets != "classes" and self.loss is cross_entropy and measure.fits(targets):
            other = {"labels": "binary_cross_entropy_with_logits", "numbers": "mse_loss"}[targets]
            return [f"loss cross_entropy is of classes, and the targets are {targets}: {other}?"]
        if measure.fits(targets):
            return []
        fitting = ", ".join(name for name, each in METRICS.items() if each.fits(targets))
        are_classes = "" if targets == "classes" else " (classes are integers: y.astype(np.int64))"
        return [
            f"metric {measure.name} is of {' or '.join(measure.targets)}, and the targets are "
            f"{targets}{are_classes}; of {targets} there is {fitting}"
        ]

    def problems(self) -> list[str]:
        """Say what of its fields cannot be; empty if nothing."""
        counts = (
            ("batch_size", self.batch_size, 1, MAX_BATCH_SIZE),
            ("num_epochs", self.num_epochs, 1, MAX_EPOCHS),
            ("nbytes", self.nbytes, 0, 2**63 - 1),
        )
        clips = isinstance(self.clip_norm, int | float) and self.clip_norm > 0
        noted = isinstance(self.notes, Mapping) and all(
            isinstance(name, str) and type(value) in (str, int, float)
            for name, value in self.notes.items()
        )
        wrong = [
            f"{what} must be {allowed}, got {value!r}"
            for what, value, is_right, allowed in (
                ("name", self.name, isinstance(self.name, str), "a text"),
                ("build", self.build, callable(self.build), "a function"),
                ("loss", self.loss, callable(self.loss), "a function"),
                *(
                    (
                        what,
                        value,
                        type(value) is int and low <= value <= high,
                        f"a whole number in [{low}, {high}]",
                    )
                    for what, value, low, high in counts
                ),
                *(
                    (what, value, value in choices, f"one of {', '.join(choices)}")
                    for what, value, choices in (
                        ("optimizer", self.optimizer, OPTIMIZER_NAMES),
                        ("augment", self.augment, get_args(Augment)),
                    )
                ),
                ("clip_norm", self.clip_norm, clips, "> 0"),
                ("notes", self.notes, noted, "texts and numbers, by name"),
            )
            if not is_right
        ]
        return [*wrong, *self._problems_of_metric()]

    def _problems_of_metric(self) -> Iterator[str]:
        try:
            yield from (f"metric: {problem}" for problem in self.measure.problems())
            if self.measure.chance is None and math.isnan(self.measure.worst):
                yield "metric: it has no worst value: give chance, what guessing reaches"
        except InputError as error:
            yield str(error)

    def without_data(self) -> "Task":
        """Return what a worker is sent, which is handed the splits apart."""
        return replace(self, data=_kept_by_the_driver)


def _kept_by_the_driver() -> Dataset:
    raise AssertionError("workers are handed their splits")


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What a person may ask of every task; None leaves the task's own."""

    data_dir: Annotated[
        Path | None,
        Option(
            WHAT, "Folder of data sets; else the hub's cache, or the hub.", goes_with_resume=True
        ),
    ] = None
    model_path: Annotated[
        str | None, Option(WHAT, "Folder or hub id of bert's encoder.", goes_with_resume=True)
    ] = None
    train_size: Annotated[
        Positive | None, Option(WHAT, "Training examples, stratified.", low=1, high=MAX_WHOLE)
    ] = None
    max_length: Annotated[
        Positive | None, Option(WHAT, "Most tokens of a text.", low=1, high=MAX_WHOLE)
    ] = None
    text_column: Annotated[str | None, Option(WHAT, "Of texts, in files of your own.")] = None
    image_column: Annotated[str | None, Option(WHAT, "Of images, in files of your own.")] = None
    label_column: Annotated[str | None, Option(WHAT, "Of labels, in files of your own.")] = None
    image_size: Annotated[
        Positive | None,
        Option(WHAT, "Scales your own images to N x N.", low=1, high=MAX_IMAGE_SIZE),
    ] = None
    batch_size: Annotated[
        Positive | None, Option(HOW, "Examples a step.", low=1, high=MAX_BATCH_SIZE)
    ] = None
    optimizer: Annotated[
        str | None, Option(HOW, "adam, adamw or sgd.", choices=OPTIMIZER_NAMES)
    ] = None
    metric: Annotated[
        str | None,
        Option(HOW, "Judges models: accuracy, macro_f1, mae ...", choices=tuple(METRICS)),
    ] = None
    augment: Annotated[Augment | None, Option(HOW, "none, shift, standard or document.")] = None
    stem: Annotated[Stem | None, Option(HOW, "resnet18's: cifar or imagenet.")] = None
    clip_norm: Annotated[float | None, Option(HOW, "Largest gradient norm.", low=0, above=True)] = (
        None
    )

    @classmethod
    def read(
        cls,
        recorded: Mapping[str, Note],
        data_dir: Path | None = None,
        model_path: str | None = None,
    ) -> "TaskOptions":
        """Read the options that a plan recorded; files may have moved since.

        Raises:
            InputError: It recorded something that is no option.
        """
        moved = {"data_dir": data_dir, "model_path": model_path}
        options: dict[str, Any] = {**recorded} | {k: v for k, v in moved.items() if v is not None}
        where = options.pop("data_dir", None)
        read = convert(options, cls, "the plan's options")
        return read if where is None else replace(read, data_dir=Path(where))
