"""Tasks by name, ``dataset/model``, or a person's own; with the options that apply to them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

from torch import nn

from tune_adaptive.errors import InputError, did_you_mean
from tune_adaptive.system.own_code import imported, misspelt
from tune_adaptive.tasks import text, vision
from tune_adaptive.tasks.data import Description, Kind
from tune_adaptive.tasks.datasets import DATASETS, Source
from tune_adaptive.tasks.folders import (
    Columns,
    folder_of,
    is_of_files,
    name_of,
    open_folder,
    problem_of,
)
from tune_adaptive.tasks.prepare import prepare, prepare_files
from tune_adaptive.tasks.pretrained import (
    DEFAULT_ENCODER,
    build_pretrained,
    find_checkpoint,
    read_checkpoint,
)
from tune_adaptive.tasks.task import Note, Task, TaskOptions
from tune_adaptive.tasks.tokens import Encoder, Subwords, Words, read_tokenizer


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

TORCHVISION = "torchvision:"


def model_of(name: str) -> Model | None:
    """Return a model by its name, one of ``MODELS`` or ``torchvision:NAME``, if there is one."""
    if name.startswith(TORCHVISION):
        of_torchvision = name.removeprefix(TORCHVISION)
        if of_torchvision not in vision.torchvision_names():
            return None
        build = partial(vision.torchvision_model, name=of_torchvision)
        return Model("image", build, batch_size=64, num_epochs=50)
    return MODELS.get(name)


def unknown_model(name: str) -> str:
    """Say that there is no model of that name."""
    if name.startswith(TORCHVISION):
        given, known = name.removeprefix(TORCHVISION), vision.torchvision_names()
        return f"torchvision has no classifier {given!r}{did_you_mean(given, known)}"
    return f"unknown model {name!r}{did_you_mean(name, MODELS)}"


NUM_EPOCHS = {"fashion_mnist_mini/cnn": 6}
"""Horizons of tasks that are shorter than their models'."""

TASKS = tuple(
    f"{dataset}/{model}"
    for dataset, source in DATASETS.items()
    for model, its in MODELS.items()
    if its.kind == source.kind
)
"""The names of all tasks there are."""


def make_task(name: str | Task, options: TaskOptions = TaskOptions()) -> Task:  # noqa: B008
    """Return a task by name, ``dataset/model`` or ``package.module:variable``, or one given.

    Weights of an encoder are read here; a data set when the task is asked to ``load``.

    Raises:
        InputError: There is no such task, or an option does not apply to it.
        EnvironmentFault: An encoder is neither here nor to be had.
    """
    [task] = make_tasks([name], options)
    return task


def make_tasks(names: Sequence[str | Task], options: TaskOptions) -> list[Task]:
    """Return several tasks; each takes those of the options that apply to it.

    Raises:
        InputError: There is no such task, or an option applies to none of them.
        EnvironmentFault: An encoder is neither here nor to be had.
    """
    problems = [
        f"--task {name}: {problem}"
        for name in names
        if isinstance(name, str) and (problem := unknown_task(name))
    ]
    if problems := problems or inapplicable(names, options):
        raise InputError("\n".join(problems))
    tasks = [_make(name, options) for name in names]
    if options.augment not in (None, "none", *(task.augment for task in tasks)):
        raise InputError(f"--augment {options.augment}: {NOT_APPLICABLE['augment']}")
    return tasks


def read_task(name: str, options: TaskOptions) -> Task:
    """Return a task that a file names: a published one. Code is imported for a person only.

    Raises:
        InputError: It is none, and what to do.
        EnvironmentFault: An encoder is neither here nor to be had.
    """
    if name not in TASKS:
        raise InputError(
            f"{name}: a task of your own; give it again, --task module:variable or as it was"
        )
    return _make(name, options)


def read_own_task(name: str | Task, options: TaskOptions) -> Task:
    """Return a person's own task for an experiment whose ``options`` a file holds.

    Raises:
        InputError: There is no such task.
    """
    if isinstance(name, str) and (problem := unknown_task(name)):
        raise InputError(f"--task {name}: {problem}")
    return _make(name, options)


NOT_APPLICABLE = {
    "data_dir": "no task reads files: the embedded data and a task of your own bring theirs",
    "model_path": "only bert starts from an encoder",
    "max_length": "only published texts are cut to a length",
    "stem": "only a published resnet18 has a stem to choose",
    "augment": "only images are augmented",
    "text_column": "only texts in files of your own have columns to name: --task folder:PATH/MODEL",
    "image_column": "only images in files of your own do: --task folder:PATH/MODEL",
    "label_column": "only files of your own do: --task folder:PATH/MODEL",
    "image_size": "only images of your own are scaled: --task folder:PATH/MODEL",
}
"""Why an option may apply to none of the tasks; the others apply to all."""


def inapplicable(names: Sequence[str | Task], options: TaskOptions) -> list[str]:
    """Say which options of ``names``, tasks there are, apply to none of them."""
    return [
        f"--{option.replace('_', '-')} {getattr(options, option)}: {why}"
        for option, why in NOT_APPLICABLE.items()
        if getattr(options, option) is not None
        and not any(_applies(option, name) for name in names)
    ]


def _applies(option: str, name: str | Task) -> bool:
    """Whether an option decides anything about a task; of a person's own, its data decide."""
    if is_own_code(name):
        return option not in NOT_APPLICABLE or option == "augment"
    assert isinstance(name, str)
    dataset, model = halves(name)
    is_folder = is_of_files(dataset)
    found = model_of(model)
    kind = None if found is None else found.kind
    return {
        "data_dir": not is_folder and DATASETS[dataset].hub is not None,
        "model_path": model == "bert",
        "max_length": kind == "text",
        "stem": model == "resnet18",
        "augment": kind == "image",
        "text_column": is_folder and kind == "text",
        "image_column": is_folder and kind == "image",
        "label_column": is_folder,
        "image_size": is_folder and kind == "image",
    }.get(option, True)


def is_own_code(name: str | Task) -> bool:
    """Whether a task is a person's own code."""
    if not isinstance(name, str):
        return True
    is_named = is_of_files(name) or halves(name)[1].startswith(TORCHVISION)
    return ":" in name and not is_named


def _make(name: str | Task, options: TaskOptions) -> Task:
    """Make a task, with those of the options that apply to it."""
    options = replace(
        options,
        **{each.name: None for each in fields(options) if not _applies(each.name, name)},
    )
    task = _own(name, options) if is_own_code(name) else _by_name(str(name), options)
    return replace(
        task,
        batch_size=options.batch_size or task.batch_size,
        optimizer=options.optimizer or task.optimizer,
        metric=options.metric or task.metric,
        clip_norm=options.clip_norm or task.clip_norm,
    )


def unknown_task(name: str) -> str | None:
    """Say why ``name`` cannot be a task; None if it may be one."""
    dataset, model = halves(name)
    found = model_of(model)
    if is_of_files(name):
        if found is None:
            return f"must be {name.partition(':')[0]}:.../MODEL; {unknown_model(model)}"
        return problem_of(dataset)
    if is_own_code(name):
        return misspelt(name, "task")
    if dataset in DATASETS and found is not None:
        kind = DATASETS[dataset].kind
        return None if kind == found.kind else _misfit(dataset, kind, model, found.kind)
    if dataset in DATASETS:
        return unknown_model(model)
    return f"unknown data set {dataset!r}{did_you_mean(dataset, DATASETS)}"


def _by_name(name: str, options: TaskOptions) -> Task:
    dataset, model_name = halves(name)
    model = model_of(model_name)
    assert model is not None
    build, nbytes = model.build, 0
    encoder: Encoder | None = None
    if is_of_files(dataset):
        columns = _columns(options)
        folder, origin = folder_of(dataset)
        files, source = open_folder(folder, columns)
        if source.kind != model.kind:
            problem = _misfit(dataset, source.kind, model_name, model.kind)
            raise InputError(f"--task {name}: {problem}")
        notes: dict[str, Note] = {"data": origin}
    else:
        source = DATASETS[dataset]
        notes = {"data": _origin(source, options)}
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
    if is_of_files(dataset):
        data = partial(prepare_files, name_of(dataset), files, source, options.train_size, encoder)
    else:
        data = partial(prepare, dataset, options.data_dir, options.train_size, encoder)
    return Task(
        name=f"{name_of(dataset)}/{model_name.replace(':', '-')}",
        data=data,
        build=build,
        batch_size=model.batch_size,
        num_epochs=NUM_EPOCHS.get(name, model.num_epochs),
        augment=options.augment or source.augment,
        notes=notes,
        nbytes=nbytes,
    )


def halves(name: str) -> tuple[str, str]:
    """Return the data set and the model of a task's name; a path may have slashes."""
    is_path = is_of_files(name)
    dataset, _, model = name.rpartition("/") if is_path else name.partition("/")
    return dataset, model


def _columns(options: TaskOptions) -> Columns:
    return Columns(
        options.text_column, options.image_column, options.label_column, options.image_size
    )


def _misfit(dataset: str, kind: Kind, model: str, takes: Kind) -> str:
    fitting = ", ".join(each for each in MODELS if MODELS[each].kind == kind)
    return f"{dataset} is {kind} and {model} takes {takes}; there is {fitting} for it"


def _origin(source: Source, options: TaskOptions) -> str:
    if source.hub is None:
        return "embedded in the package"
    if options.data_dir is not None:
        return "files in --data-dir"
    return f"hub: {source.hub.repo}@{source.hub.revision}"


def _own(name: str | Task, options: TaskOptions) -> Task:
    """Check a person's own task, imported where a name is given, and take the options in."""
    task = imported(name, "--task") if isinstance(name, str) else name
    if not isinstance(task, Task):
        raise InputError(f"--task {name}: must be a tune_adaptive.Task, is {type(task).__name__}")
    if problems := task.problems():
        raise InputError("\n".join(f"--task {task.name}: {problem}" for problem in problems))
    if options.augment is not None:
        data = task.load()  # what they are decides
        task = replace(task, data=data)
        if data.train.kind == "image":
            task = replace(task, augment=options.augment)
    if options.train_size is None:
        return task
    num_train = options.train_size
    return replace(task, data=lambda: task.load().with_train_size(num_train))
