"""A task is a data set and a model to train on it: by name, or a person's own."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tune_adaptive.errors import InputError, did_you_mean
from tune_adaptive.tasks import text, vision
from tune_adaptive.tasks.data import Dataset, Description, Kind
from tune_adaptive.tasks.datasets import DATASETS, Augment, Source
from tune_adaptive.tasks.prepare import prepare
from tune_adaptive.tasks.pretrained import (
    DEFAULT_ENCODER,
    build_pretrained,
    find_checkpoint,
    read_checkpoint,
)
from tune_adaptive.tasks.tokens import Encoder, Subwords, Words, read_tokenizer

Note = str | int | float


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
    batch_size: int = 64
    num_epochs: int = 20
    optimizer: str = "adamw"
    augment: Augment = "none"
    clip_norm: float = float("inf")
    notes: Mapping[str, Note] = field(default_factory=dict)
    nbytes: int = 0

    def load(self) -> Dataset:
        """Return the three splits, checked.

        Raises:
            InputError: They cannot be trained on, and why.
        """
        data = self.data() if callable(self.data) else self.data
        if not isinstance(data, Dataset):
            raise InputError(f"{self.name}: its data must be a Dataset, is {type(data).__name__}")
        data = data.cast()
        if problems := data.problems():
            raise InputError("\n".join(f"{self.name}: {problem}" for problem in problems))
        return data

    def without_data(self) -> "Task":
        """Return what a worker is sent, which is handed the splits apart."""
        return replace(self, data=_kept_by_the_driver)


def _kept_by_the_driver() -> Dataset:
    raise AssertionError("workers are handed their splits")


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What a person may ask of every task; None leaves the task's own.

    Attributes:
        data_dir: Folder of data sets; None takes the hub's cache or the hub.
        model_path: Folder or hub id of the encoder that ``bert`` starts from.
        train_size: Training examples, every class its share, >= 1.
        max_length: Most tokens of a text, >= 1.
        batch_size: Examples per optimizer step, >= 1.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        augment: ``none``, ``shift``, ``standard`` or ``document``.
        stem: Of ``resnet18``: ``cifar`` or ``imagenet``.
        clip_norm: > 0.
    """

    data_dir: Path | None = None
    model_path: str | None = None
    train_size: int | None = None
    max_length: int | None = None
    batch_size: int | None = None
    optimizer: str | None = None
    augment: Augment | None = None
    stem: vision.Stem | None = None
    clip_norm: float | None = None

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
        if "data_dir" in options:
            options["data_dir"] = Path(options["data_dir"])
        try:
            return cls(**options)
        except TypeError as error:
            raise InputError(f"the plan's options: {error}") from error


@dataclass(frozen=True, slots=True)
class Model:
    """A kind of model.

    Attributes:
        kind: Of the data it takes.
        build: Makes it for a data set; None where the options decide how.
        batch_size: Default.
        num_epochs: Default horizon T.
        max_length: Default of the most tokens of a text.
    """

    kind: Kind
    build: Callable[[Description], nn.Module] | None
    batch_size: int
    num_epochs: int
    max_length: int = 0


MODELS: dict[str, Model] = {
    "cnn": Model("image", vision.cnn, batch_size=64, num_epochs=20),
    "mlp": Model("image", vision.mlp, batch_size=64, num_epochs=20),
    "resnet18": Model("image", None, batch_size=64, num_epochs=50),
    "lstm": Model("text", text.lstm, batch_size=32, num_epochs=20, max_length=256),
    "bilstm": Model("text", text.bilstm, batch_size=32, num_epochs=20, max_length=256),
    "bert": Model("text", None, batch_size=32, num_epochs=3, max_length=128),
}
"""Every model that a task can name; each pairs with every data set of its kind."""

NUM_EPOCHS = {"fashion_mnist_mini/cnn": 6}
"""Horizons of tasks that are shorter than their models'."""

TASKS = tuple(
    f"{dataset}/{model}"
    for dataset, source in DATASETS.items()
    for model, its in MODELS.items()
    if its.kind == source.kind
)
"""The names of all tasks there are."""


def make_task(name: str, options: TaskOptions = TaskOptions()) -> Task:
    """Return a task by name, ``dataset/model`` or ``package.module:variable``.

    Weights of an encoder are read here; a data set when the task is asked to ``load``.

    Raises:
        InputError: There is no such task, or an option does not apply to it.
        EnvironmentFault: An encoder is neither here nor to be had.
    """
    task = _own(name, options) if ":" in name else _published(name, options)
    return replace(
        task,
        batch_size=options.batch_size or task.batch_size,
        optimizer=options.optimizer or task.optimizer,
        augment=options.augment or task.augment,
        clip_norm=options.clip_norm or task.clip_norm,
    )


def published_task(name: str, options: TaskOptions) -> Task:
    """Return a task that a file names: a published one. Code is imported for a person only.

    Raises:
        InputError: It is none, and what to do.
    """
    if name not in TASKS:
        raise InputError(f"{name}: a task of your own; give it again, --task module:variable")
    return make_task(name, options)


def unknown_task(name: str) -> str | None:
    """Say why ``name`` cannot be a task; None if it may be one."""
    if ":" in name:
        return None
    dataset, _, model = name.partition("/")
    if dataset in DATASETS and model in MODELS:
        source, wanted = DATASETS[dataset].kind, MODELS[model].kind
        if source == wanted:
            return None
        fitting = ", ".join(each for each in MODELS if MODELS[each].kind == source)
        return f"{dataset} is {source} and {model} takes {wanted}; there is {fitting} for it"
    if dataset in DATASETS:
        return f"unknown model {model!r}{did_you_mean(model, MODELS)}"
    return f"unknown data set {dataset!r}{did_you_mean(dataset, DATASETS)}"


def _published(name: str, options: TaskOptions) -> Task:
    dataset, _, model_name = name.partition("/")
    source, model = DATASETS[dataset], MODELS[model_name]
    build, nbytes = model.build, 0
    encoder: Encoder | None = None
    notes: dict[str, Note] = {"data": _origin(source, options)}
    if model.kind == "text":
        max_length = options.max_length or model.max_length
        notes["max_length"] = max_length
        encoder = Words(max_length)
    if model_name == "resnet18":
        stem = options.stem or "cifar"
        notes["stem"] = stem
        build = partial(vision.resnet18, stem=stem)
    if model_name == "bert":
        folder, checkpoint_name = find_checkpoint(options.model_path or DEFAULT_ENCODER)
        checkpoint = read_checkpoint(folder, checkpoint_name)
        positions = checkpoint.config.get("max_position_embeddings", max_length)
        if max_length > positions:
            raise InputError(f"--max-length {max_length}: {checkpoint_name} takes {positions}")
        num_tokens, known = len(read_tokenizer(folder)), checkpoint.config.get("vocab_size")
        if known is not None and num_tokens > known:
            raise InputError(
                f"--model-path {checkpoint_name}: its tokenizer has {num_tokens} tokens, its "
                f"embedding {known}"
            )
        notes |= {"checkpoint": checkpoint_name, "checkpoint_sha256": checkpoint.sha256}
        build, nbytes = partial(build_pretrained, checkpoint=checkpoint), checkpoint.nbytes
        encoder = Subwords(folder, max_length)
    assert build is not None
    return Task(
        name=name,
        data=partial(prepare, dataset, options.data_dir, options.train_size, encoder),
        build=build,
        batch_size=model.batch_size,
        num_epochs=NUM_EPOCHS.get(name, model.num_epochs),
        augment=source.augment,
        notes=notes,
        nbytes=nbytes,
    )


def _origin(source: Source, options: TaskOptions) -> str:
    if source.hub is None:
        return "embedded in the package"
    if options.data_dir is not None:
        return "files in --data-dir"
    return f"hub: {source.hub.repo}@{source.hub.revision}"


def _own(name: str, options: TaskOptions) -> Task:
    """Import a person's own task and check it."""
    module_name, _, variable = name.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)  # as `python -m` has it, and workers inherit it
    try:
        task = getattr(importlib.import_module(module_name), variable)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"--task {name}: {error}") from error
    if not isinstance(task, Task):
        raise InputError(f"--task {name}: must be a tune_adaptive.Task, is {type(task).__name__}")
    given = {"--max-length": options.max_length, "--model-path": options.model_path}
    if refused := [option for option, value in given.items() if value is not None]:
        raise InputError(f"--task {name}: {', '.join(refused)}: a task of your own decides that")
    if task.augment not in get_args(Augment):
        raise InputError(f"{name}: augment must be one of {', '.join(get_args(Augment))}")
    if task.batch_size < 1 or task.num_epochs < 1 or not task.clip_norm > 0:
        raise InputError(f"{name}: batch_size and num_epochs must be >= 1, clip_norm > 0")
    if options.train_size is None:
        return task
    num_train = options.train_size
    return replace(task, data=lambda: task.load().with_train_size(num_train))
