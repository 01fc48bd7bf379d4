"""What a person asked for, in the words of the command line, and whether it can be."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from tune_adaptive.errors import InputError, did_you_mean
from tune_adaptive.runs import Slowdown
from tune_adaptive.schedules import OPTIMIZERS, SCHEDULES, build_optimizer, is_installed
from tune_adaptive.spaces import default_space_dir
from tune_adaptive.tasks import TaskOptions, unknown_task
from tune_adaptive.tasks.datasets import Augment
from tune_adaptive.tasks.vision import Stem

DOCUMENTED = ("resource_complexity", "feedback")
EXPERTS = ("adaptive", "step", "exponential", "cosine", "linear", "onecycle", "wsd", "plateau")


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
        tasks: Names of tasks: ``dataset/model`` or ``package.module:variable``.
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
        command: What was typed, for the record.
    """

    tasks: tuple[str, ...]
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
    command: str = ""


def request_of(options: Mapping[str, Any]) -> Request:
    """Make a request of the command line's options, by their names with underscores.

    Args:
        options: Texts as they are typed, or numbers, paths and lists; what is None or empty is
            not given, and the preset or the option's default decides.

    Raises:
        InputError: There is no such option, or one cannot be read.
    """
    given = {
        name: value
        for name, value in options.items()
        if value is not None and not (isinstance(value, tuple | list | dict) and not value)
    }
    for name, kind in KINDS.items():
        if name in given:
            given[name] = _read(name, given[name], kind)
    if unknown := [name for name in given if name not in OPTIONS]:
        raise InputError(
            "\n".join(f"unknown option {name!r}{did_you_mean(name, OPTIONS)}" for name in unknown)
        )
    preset = given.get("preset", "smoke")
    if preset not in PRESETS:
        raise InputError(f"--preset {preset!r}{did_you_mean(preset, PRESETS)}")
    usual = PRESETS[preset]
    tasks, schedules = _texts(given.get("task", usual.tasks)), _texts(given.get("schedule", ()))
    time_budget_s = _seconds(given, "time_budget")
    if time_budget_s is None and "epochs" not in given:
        time_budget_s = usual.time_budget_s
    gpus, gpus_of_tasks = parse_gpus(_texts(given.get("gpus_per_trial", ())))
    cpus, cpus_of_tasks = parse_shares(_texts(given.get("cpus_per_trial", ())), "--cpus-per-trial")
    contention = given.get("contention")
    keep_every_s = _seconds(given, "checkpoint_every")
    read: dict[str, Any] = {
        "results_dir": Path(given.get("results_dir", "results")),
        "keep_every_s": 50.0 if keep_every_s is None else keep_every_s,
        **{
            name: given[name]
            for name in (
                *("name", "num_gpus", "max_concurrent", "address", "storage_path", "precision"),
                *("signals", "max_retries", "seed", "command"),
            )
            if name in given
        },
    }
    of_tasks = {name: given[name] for name in OF_TASKS if name in given}
    return Request(
        tasks=tuple(tasks),
        schedules=tuple(SCHEDULES) if schedules == ["all"] else tuple(schedules or usual.schedules),
        options=TaskOptions(**of_tasks),
        space_dir=Path(given.get("space", default_space_dir())),
        num_epochs=given.get("epochs"),
        time_budget_s=time_budget_s,
        budget=given.get("budget", usual.budget),
        num_final_seeds=given.get("final_seeds", usual.num_final_seeds),
        ablations=given.get("ablations", usual.ablations),
        slowdown=usual.slowdown if contention is None else parse_contention(contention),
        gpus_per_trial=gpus,
        gpus_of_tasks=gpus_of_tasks,
        cpus_per_trial=cpus,
        cpus_of_tasks=cpus_of_tasks,
        run_time_budget_s=given.get("run_time_budget"),
        hang_after_s=_seconds(given, "hang_after"),
        **read,
    )


OF_TASKS = tuple(field.name for field in fields(TaskOptions))
OPTIONS = (
    *("task", "schedule", "space", *OF_TASKS, "epochs", "time_budget", "budget", "final_seeds"),
    *("preset", "ablations", "contention", "name", "results_dir", "gpus_per_trial", "num_gpus"),
    *("cpus_per_trial", "max_concurrent", "address", "storage_path", "precision", "signals"),
    *("run_time_budget", "max_retries", "checkpoint_every", "hang_after", "seed", "command"),
)


KINDS: dict[str, type] = {
    **dict.fromkeys(("train_size", "max_length", "batch_size", "epochs", "final_seeds"), int),
    **dict.fromkeys(("num_gpus", "max_concurrent", "max_retries", "seed"), int),
    **dict.fromkeys(("clip_norm", "budget", "run_time_budget"), float),
    **dict.fromkeys(("name", "address", "storage_path", "precision", "signals"), str),
    **dict.fromkeys(("model_path", "optimizer", "augment", "stem"), str),
    **dict.fromkeys(("space", "data_dir", "results_dir"), Path),
}
"""What an option is; a plan can hold nothing else."""


def _read(name: str, value: Any, kind: type) -> Any:
    try:
        read = kind(value)
    except (TypeError, ValueError) as error:
        what = {int: "a whole number", float: "a number"}.get(kind, "a text")
        option = f"--{name.replace('_', '-')}"
        raise InputError(f"{option} {value!r}: must be {what}") from error
    if kind is int and read != float(value):
        raise InputError(f"--{name.replace('_', '-')} {value!r}: must be a whole number")
    return read


def _texts(value: Any) -> list[str]:
    """Return what may be one or several, or said by task, as it would be typed."""
    if isinstance(value, Mapping):
        return [f"{name}={each}" for name, each in value.items()]
    if isinstance(value, str | int | float):
        return [str(value)]
    return [str(each) for each in value]


def _seconds(given: Mapping[str, Any], name: str) -> float | None:
    if name not in given:
        return None
    return parse_duration(given[name], f"--{name.replace('_', '-')}")


def parse_duration(text: str | float, option: str) -> float:
    """Read ``8h``, ``1h30m``, ``90m`` or ``45s``, or a number of seconds [s].

    Raises:
        InputError: It is none of these.
    """
    if isinstance(text, int | float):
        return float(text)
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text)
    if found is None or not text:
        raise InputError(f"{option} {text!r}: must be like 8h, 1h30m, 90m or 45s")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def parse_gpus(texts: Sequence[str]) -> tuple[float | Literal["auto"] | None, dict[str, float]]:
    """Read what :func:`parse_shares` reads, or ``auto`` for all tasks that are not named.

    Raises:
        InputError: One is neither, or is said twice.
    """
    given = [text for text in texts if text != "auto"]
    of_all, of_tasks = parse_shares(given, "--gpus-per-trial")
    if len(given) == len(texts):
        return of_all, of_tasks
    if of_all is not None:
        raise InputError(f"--gpus-per-trial: auto and {of_all:g}: give one of them")
    return "auto", of_tasks


def parse_shares(texts: Sequence[str], option: str) -> tuple[float | None, dict[str, float]]:
    """Read what all tasks get, like ``0.25``, and what single ones get, like ``imdb/bert=0.5``.

    Raises:
        InputError: One is neither, or is said twice.
    """
    of_all: float | None = None
    of_tasks: dict[str, float] = {}
    for text in texts:
        task, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError as error:
            raise InputError(f"{option} {text}: must be a number or TASK=NUMBER") from error
        if task in of_tasks or (not equals and of_all is not None):
            raise InputError(f"{option} {text}: {task or 'a number for all'} is given twice")
        if equals:
            of_tasks[task] = value
        else:
            of_all = value
    return of_all, of_tasks


def parse_contention(text: str) -> Slowdown:
    """Read ``2x@40%``: from 40% of the run on, every step takes twice as long.

    Raises:
        InputError: It is not of that form, the factor not above 1 or the share not below 100%.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)x@(\d+(?:\.\d+)?)%", text)
    if found is None or float(found[1]) <= 1 or float(found[2]) >= 100:
        raise InputError(
            f"--contention {text!r}: must be like 2x@40%, the factor above 1, the share below 100%"
        )
    return Slowdown(float(found[1]), float(found[2]) / 100)


def check_request(request: Request) -> None:
    """Check everything that can be checked without reading data.

    Raises:
        InputError: Every problem found, one a line.
    """
    options = request.options
    problems = [
        f"--task {name}: {problem}" for name in request.tasks if (problem := unknown_task(name))
    ]
    problems += [
        f"unknown schedule {name!r}{did_you_mean(name, SCHEDULES)}"
        for name in request.schedules
        if name not in SCHEDULES
    ]
    for what, names in (("task", request.tasks), ("schedule", request.schedules)):
        problems += [f"{what} {name!r} is given twice" for name in _repeated(names)]
    for option, value, ok, allowed in (
        (
            "--epochs",
            request.num_epochs,
            request.num_epochs is None or request.num_epochs >= 1,
            ">= 1",
        ),
        (
            "--budget",
            request.budget,
            1 <= request.budget < math.inf,
            ">= 1: an arm must afford one full run",
        ),
        ("--final-seeds", request.num_final_seeds, request.num_final_seeds >= 1, ">= 1"),
        (
            "--gpus-per-trial",
            request.gpus_per_trial,
            request.gpus_per_trial in (None, "auto") or 0 < float(request.gpus_per_trial) <= 1,
            "in (0, 1]",
        ),
        *(
            (f"--gpus-per-trial {task}", share, 0 < share <= 1, "in (0, 1]")
            for task, share in request.gpus_of_tasks.items()
        ),
        *(
            (f"--cpus-per-trial {task}", cpus, 0 < cpus < math.inf, "> 0 and finite")
            for task, cpus in request.cpus_of_tasks.items()
        ),
        (
            "--num-gpus",
            request.num_gpus,
            request.num_gpus is None or request.num_gpus >= 0,
            ">= 0",
        ),
        (
            "--cpus-per-trial",
            request.cpus_per_trial,
            request.cpus_per_trial is None or 0 < request.cpus_per_trial < math.inf,
            "> 0 and finite",
        ),
        (
            "--max-concurrent",
            request.max_concurrent,
            request.max_concurrent is None or request.max_concurrent >= 1,
            ">= 1",
        ),
        (
            "--time-budget",
            request.time_budget_s,
            request.time_budget_s is None or 0 < request.time_budget_s < math.inf,
            "> 0 seconds and finite",
        ),
        (
            "--run-time-budget",
            request.run_time_budget_s,
            request.run_time_budget_s is None or 0 < request.run_time_budget_s < math.inf,
            "> 0 seconds and finite",
        ),
        ("--max-retries", request.max_retries, request.max_retries >= 0, ">= 0"),
        (
            "--checkpoint-every",
            request.keep_every_s,
            0 < request.keep_every_s < math.inf,
            "> 0 seconds and finite",
        ),
        (
            "--hang-after",
            request.hang_after_s,
            request.hang_after_s is None or 0 < request.hang_after_s < math.inf,
            "> 0 seconds and finite",
        ),
        *(
            (option, value, value is None or value >= 1, ">= 1")
            for option, value in (
                ("--train-size", options.train_size),
                ("--max-length", options.max_length),
                ("--batch-size", options.batch_size),
            )
        ),
        (
            "--clip-norm",
            options.clip_norm,
            options.clip_norm is None or options.clip_norm > 0,
            "> 0",
        ),
        ("--seed", request.seed, 0 <= request.seed < 2**32, "in [0, 2**32)"),
    ):
        if not ok:
            problems.append(f"{option} must be {allowed}, got {value}")
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


def _repeated(names: tuple[str, ...]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
