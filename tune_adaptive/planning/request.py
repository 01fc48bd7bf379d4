"""What a person asked for, and whether it can be."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from tune_adaptive.errors import InputError, did_you_mean
from tune_adaptive.records.ablations import ABLATIONS
from tune_adaptive.records.plan import MAX_BUDGET, SEEDS_PER_STAGE
from tune_adaptive.records.runs import Slowdown
from tune_adaptive.schedules import OPTIMIZERS, SCHEDULES, build_optimizer, is_installed
from tune_adaptive.tasks import Task, TaskOptions, inapplicable, unknown_task
from tune_adaptive.tasks.datasets import Augment
from tune_adaptive.tasks.task import MAX_EPOCHS
from tune_adaptive.tasks.vision import Stem

DOCUMENTED = ("resource_complexity", "feedback")
MAX_NICE = 19
EXPERTS = ("adaptive", "step", "exponential", "cosine", "linear", "onecycle", "wsd", "plateau")

IN_TIME = ("adaptive",)
"""Schedules that read ``Horizon.time_budget_s``."""

MAX_WHOLE = 2**31 - 1
MAX_LOGICAL_GPUS = 1024
MIN_SHARE = 0.01
"""Of a CPU or GPU: a hundred trials on one are more processes than any has room for."""
MAX_DURATION_S = 10 * 366 * 24 * 3600.0
"""A clock's timers take no more than some hundred years."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Defaults of the options that decide how large an experiment is."""

    tasks: tuple[str, ...]
    schedules: tuple[str, ...]
    budget: float
    num_final_seeds: int
    time_budget_s: float | None
    ablations: bool
    slowdown: Slowdown | None


PRESETS = {
    "smoke": Preset(
        tasks=("fashion_mnist_mini/cnn",),
        schedules=("adaptive", "step", "exponential"),
        budget=8.0,
        num_final_seeds=8,
        time_budget_s=None,
        ablations=False,
        slowdown=None,
    ),
    "night": Preset(
        tasks=("fashion_mnist/resnet18", "cifar10/resnet18"),
        schedules=(*EXPERTS, *DOCUMENTED),
        budget=16.0,
        num_final_seeds=10,
        time_budget_s=9 * 3600.0,
        ablations=True,
        slowdown=Slowdown(2.0, 0.4),
    ),
    "cluster": Preset(
        tasks=(
            *("fashion_mnist/resnet18", "cifar10/resnet18", "imdb/bert", "ag_news/bert"),
            *("mnist/cnn", "imdb/lstm", "ag_news/bilstm"),
        ),
        schedules=(*EXPERTS, *DOCUMENTED, "constant", "sgdr", "rex", "greedy"),
        budget=32.0,
        num_final_seeds=12,
        time_budget_s=None,
        ablations=True,
        slowdown=Slowdown(2.0, 0.4),
    ),
}
"""``smoke`` takes minutes on two cores, ``night`` a night on one GPU, ``cluster`` many GPUs."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for; the command line's options in their own words.

    Attributes:
        tasks: Names of tasks: ``dataset/model`` or ``package.module:variable``; or tasks.
        schedules: Names of schedules.
        options: What is asked of every task.
        space_dir: Folder of the search spaces.
        results_dir: Folder of the experiments.
        name: The experiment's name; None makes one of the date.
        num_epochs: T; None is each task's own, or what the time budget pays for.
        time_budget_s: Seconds the whole experiment may take, > 0; T is solved for it.
        budget: Full-run equivalents per arm, >= 1.
        num_final_seeds: Fresh seeds of the comparison, >= 1.
        ablations: Whether to run the studied schedule without each of its parts.
        slowdown: What to run every selected configuration under, once more.
        gpus_per_trial: Share of a GPU in (0, 1], or ``auto``, which measures what is best; None
            is 1 where there is a GPU, else 0.
        num_gpus: GPUs the cluster is told it has; None is what is there.
        gpus_of_tasks: By the task's name, the share of a GPU of a task that has another.
        cpus_of_tasks: By the task's name, the CPUs of a task that has others.
        cpus_per_trial: CPUs a trial gets, > 0; None is 1, or less where that lets as many
            trials run at once as share the GPUs.
        max_concurrent: Most trials at once; None is what fits.
        address: Of the Ray cluster to join, ``HOST:PORT`` or ``auto``; None starts one here.
        storage_path: Folder or URL that all its nodes share, for checkpoints.
        precision: ``auto``, ``fp32`` or ``bf16``.
        signals: ``live``, ``steady`` or ``replay:FILE``.
        run_time_budget_s: Seconds that a schedule which plans in time should take for a run,
            > 0; None lets it measure them.
        max_retries: How often a run is tried again whose worker died, hung or met with a fault
            of its surroundings, >= 0.
        keep_every_s: Seconds between two checkpoints of a run, > 0; what a run loses at most.
        hang_after_s: Seconds after which an epoch that has not ended is taken to hang, > 0; None
            is 30 epochs, at least 10 minutes.
        seed: Root of all seeds.
        nice: Added to the niceness of the workers of our own Ray, in [0, 19].
        command: What was typed, for the record.
    """

    tasks: tuple[str | Task, ...]
    schedules: tuple[str, ...]
    space_dir: Path
    options: TaskOptions = TaskOptions()  # noqa: RUF009 (frozen)
    results_dir: Path = Path("results")
    name: str | None = None
    num_epochs: int | None = None
    time_budget_s: float | None = None
    budget: float = 8.0
    num_final_seeds: int = 8
    ablations: bool = False
    slowdown: Slowdown | None = None
    gpus_per_trial: float | Literal["auto"] | None = None
    num_gpus: int | None = None
    cpus_per_trial: float | None = None
    gpus_of_tasks: Mapping[str, float] = field(default_factory=dict)
    cpus_of_tasks: Mapping[str, float] = field(default_factory=dict)
    max_concurrent: int | None = None
    address: str | None = None
    storage_path: str | None = None
    precision: str = "auto"
    signals: str = "live"
    run_time_budget_s: float | None = None
    max_retries: int = 3
    keep_every_s: float = 50.0
    hang_after_s: float | None = None
    seed: int = 0
    nice: int = 0
    command: str = ""


def check_request(request: Request) -> None:
    """Check everything that can be checked without reading data.

    Raises:
        InputError: Every problem found, one a line.
    """
    options = request.options
    named = [name for name in request.tasks if isinstance(name, str)]
    problems = [f"--task {name}: {problem}" for name in named if (problem := unknown_task(name))]
    if not problems:
        problems = inapplicable(request.tasks, options)
    problems += [
        f"unknown schedule {name!r}{did_you_mean(name, SCHEDULES)}"
        for name in request.schedules
        if name not in SCHEDULES
    ]
    for what, names in (("task", named), ("schedule", request.schedules)):
        problems += [f"{what} {name!r} is given twice" for name in _repeated(names)]
    shares = [("", request.gpus_per_trial), *request.gpus_of_tasks.items()]
    cpus = [("", request.cpus_per_trial), *request.cpus_of_tasks.items()]
    for option, value, low, high in (
        ("--epochs", request.num_epochs, 1, MAX_EPOCHS),
        ("--budget", request.budget, 1, MAX_BUDGET),
        ("--final-seeds", request.num_final_seeds, 1, SEEDS_PER_STAGE),
        *((f"--gpus-per-trial {task}".strip(), share, MIN_SHARE, 1) for task, share in shares),
        *((f"--cpus-per-trial {task}".strip(), num, MIN_SHARE, math.inf) for task, num in cpus),
        ("--num-gpus", request.num_gpus, 0, MAX_LOGICAL_GPUS),
        ("--max-concurrent", request.max_concurrent, 1, MAX_WHOLE),
        ("--max-retries", request.max_retries, 0, MAX_WHOLE),
        ("--train-size", options.train_size, 1, MAX_WHOLE),
        ("--max-length", options.max_length, 1, MAX_WHOLE),
        ("--batch-size", options.batch_size, 1, MAX_WHOLE),
        ("--seed", request.seed, 0, 2**32 - 1),
    ):
        if (
            value is not None
            and value != "auto"
            and not low <= value <= min(high, sys.float_info.max)
        ):
            bounds = f">= {low} and finite" if high == math.inf else f"in [{low}, {high}]"
            problems.append(f"{option} must be {bounds}, got {value}")
    for option, value, most in (
        ("--time-budget", request.time_budget_s, MAX_DURATION_S),
        ("--run-time-budget", request.run_time_budget_s, MAX_DURATION_S),
        ("--checkpoint-every", request.keep_every_s, MAX_DURATION_S),
        ("--hang-after", request.hang_after_s, MAX_DURATION_S),
        ("--clip-norm", options.clip_norm, math.inf),
    ):
        if value is not None and not 0 < value <= most:
            bounds = "> 0" if most == math.inf else f"> 0 and at most {most:.0f} s, ten years"
            problems.append(f"{option} must be {bounds}, got {value:g}")
    if request.ablations and not any(name in ABLATIONS for name in request.schedules):
        problems.append(f"--ablations: only {' and '.join(ABLATIONS)} can be run part by part")
    if request.run_time_budget_s is not None and not set(request.schedules) & set(IN_TIME):
        problems.append(f"--run-time-budget: only {' and '.join(IN_TIME)} can plan in time")
    for option, choice, choices in (
        ("--precision", request.precision, ("auto", "fp32", "bf16")),
        ("--signals", request.signals.partition(":")[0], ("live", "steady", "replay")),
        ("--optimizer", options.optimizer, tuple(OPTIMIZERS)),
        ("--augment", options.augment, get_args(Augment)),
        ("--stem", options.stem, get_args(Stem)),
    ):
        if choice is not None and choice not in choices:
            problems.append(
                f"{option} must be one of {', '.join(choices)}, got {choice!r}"
                f"{did_you_mean(choice, choices)}"
            )
    if request.signals == "replay" or request.signals.startswith(("live:", "steady:")):
        problems.append(f"--signals {request.signals}: live, steady or replay:FILE")
    if request.signals == "steady" and request.run_time_budget_s is not None:
        problems.append("--run-time-budget needs a clock, and --signals steady has none")
    if request.time_budget_s is not None and request.num_epochs is not None:
        problems.append("--time-budget solves for --epochs: give one of them")
    paths = {
        "--results-dir": request.results_dir,
        "--space": request.space_dir,
        "--data-dir": options.data_dir,
        "--model-path": options.model_path,
        "--storage-path": request.storage_path,
        "--signals": request.signals,
    }
    problems += [
        f"{option} {str(path)!a}: the plan cannot hold it: it is not UTF-8, or has a zero byte"
        for option, path in paths.items()
        if not _is_text(str(path))
    ]
    if (request.storage_path or "").startswith("memory://"):
        problems.append(
            f"--storage-path {request.storage_path}: each process would have a memory of its own"
        )
    if request.storage_path is not None and "@" in request.storage_path.partition("://")[2]:
        problems.append(
            "--storage-path: credentials would be written down with the plan; leave "
            "them to the environment"
        )
    if request.gpus_per_trial == "auto" and request.address is not None:
        problems.append(
            "--gpus-per-trial auto measures on this machine: with --address, say a share"
        )
    if request.gpus_per_trial == "auto" and request.signals == "steady":
        problems.append("--gpus-per-trial auto needs a clock, and --signals steady has none")
    if request.time_budget_s is not None and request.signals == "steady":
        problems.append("--time-budget needs a clock, and --signals steady has none")
    if request.address is not None:
        problems += address_problems(request.address)
        if request.num_gpus is not None:
            problems.append("--num-gpus rehearses on this machine: a cluster says what it has")
    problems += nice_problems(request.nice, request.address)
    if problems:
        raise InputError("\n".join(problems))
    for schedule in request.schedules:
        if not is_installed(schedule):
            build_optimizer(schedule, [], lr=1.0, weight_decay=0.0)  # says what to install


def address_problems(address: str) -> list[str]:
    """Return why ``address`` cannot be a cluster's, if so."""
    host, _, port = address.rpartition(":")
    is_port = port.isascii() and port.isdigit() and 0 < int(port) < 2**16
    if address == "auto" or (host and "/" not in host and is_port):
        return []
    return [f"--address {address!r}: must be HOST:PORT, as `ray start --head` printed it, or auto"]


def nice_problems(nice: int, address: str | None) -> list[str]:
    """Return why workers cannot run at ``nice``, if so."""
    if not 0 <= nice <= MAX_NICE:
        return [f"--nice must be in [0, {MAX_NICE}], got {nice}"]
    if nice and address is not None:
        return ["--nice is for a Ray of our own: a cluster's workers run as its owner started them"]
    return []


def _is_text(path: str) -> bool:
    """Whether a path can be written as UTF-8; the bytes of a name on a disk may be anything."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in path


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
