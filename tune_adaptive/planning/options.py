"""What a person asked for, and whether it can be."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from tune_adaptive.errors import InputError, did_you_mean
from tune_adaptive.planning.parsing import (
    Shares,
    read_duration,
    read_schedules,
    read_shares,
    read_shares_or_auto,
    read_slowdown,
    read_tasks,
)
from tune_adaptive.planning.presets import PRESETS
from tune_adaptive.records.ablations import ABLATIONS
from tune_adaptive.records.declared import (
    HOW,
    HOW_MUCH,
    MAX_WHOLE,
    WHAT,
    Declared,
    Option,
    declared,
)
from tune_adaptive.records.plan import MAX_BUDGET, SEEDS_PER_STAGE
from tune_adaptive.records.runs import Slowdown
from tune_adaptive.records.space_files import default_space_dir
from tune_adaptive.schedules import (
    PLANS_IN_TIME,
    SCHEDULES,
    require_installed,
    unknown_schedule,
)
from tune_adaptive.tasks import Task, TaskOptions, inapplicable, unknown_task
from tune_adaptive.tasks.task import MAX_EPOCHS

MAX_NICE = 19

MAX_LOGICAL_GPUS = 1024
MIN_SHARE = 0.01
"""Of a CPU or GPU: a hundred trials on one are more processes than any has room for."""
MAX_DURATION_S = 10 * 366 * 24 * 3600.0
"""Ten years: a clock's timers take no more than some hundred."""

_SECONDS: dict[str, Any] = {"low": 0, "above": True, "high": MAX_DURATION_S, "unit": " s"}


def _duration(group: str, help: str, name: str) -> Option:
    return Option(group, help, name, read=read_duration, **_SECONDS)


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for: each field is an option, declared here and nowhere else.

    ``options`` is what is asked of every task, and ``command`` what was typed, for the record.
    """

    tasks: Annotated[
        tuple[str | Task, ...],
        Option(
            *(
                WHAT,
                "dataset/model, folder:PATH/model or module:task.",
                "task",
            ),
            read=read_tasks,
            is_repeatable=True,
            goes_with_resume=True,
        ),
    ] = ("fashion_mnist_mini/cnn",)
    schedules: Annotated[
        tuple[str, ...],
        Option(
            *(WHAT, "Or module:builder, all.", "schedule"),
            read=read_schedules,
            is_repeatable=True,
            goes_with_resume=True,
        ),
    ] = ("adaptive", "step", "exponential")
    studied: Annotated[
        str | None, Option(WHAT, "Schedule that the verdict is about.", "studied")
    ] = None
    space_dir: Annotated[Path, Option(WHAT, "Folder of search spaces.", "space")] = field(
        default_factory=default_space_dir
    )
    options: TaskOptions = TaskOptions()  # noqa: RUF009 (frozen)
    num_epochs: Annotated[
        int | None, Option(HOW_MUCH, "Horizon T of every run.", "epochs", low=1, high=MAX_EPOCHS)
    ] = None
    time_budget_s: Annotated[
        float | None, _duration(HOW_MUCH, "Of all, like 8h; T is solved.", "time_budget")
    ] = None
    budget: Annotated[
        float, Option(HOW_MUCH, "Full-run equivalents per arm.", low=1, high=MAX_BUDGET)
    ] = 8.0
    num_final_seeds: Annotated[
        int,
        Option(HOW_MUCH, "Fresh seeds compared.", "final_seeds", low=1, high=SEEDS_PER_STAGE),
    ] = 8
    preset: Annotated[str, Option(HOW_MUCH, "smoke, night or cluster.", choices=tuple(PRESETS))] = (
        "smoke"
    )
    ablations: Annotated[bool, Option(HOW_MUCH, "Run adaptive part by part.")] = False
    slowdown: Annotated[
        Slowdown | None,
        Option(HOW_MUCH, "Slow down, like 2x@40%.", "contention", read=read_slowdown),
    ] = None
    name: Annotated[str | None, Option(HOW, "Experiment's name.")] = None
    results_dir: Annotated[Path, Option(HOW, "Folder of experiments.")] = Path("results")
    gpus_per_trial: Annotated[
        Shares,
        Option(
            *(HOW, "Share of a GPU, auto, or TASK=SHARE."),
            low=MIN_SHARE,
            high=1,
            read=read_shares_or_auto,
            is_repeatable=True,
        ),
    ] = Shares()  # noqa: RUF009 (frozen)
    num_gpus: Annotated[
        int | None, Option(HOW, "Declare logical GPUs.", low=0, high=MAX_LOGICAL_GPUS)
    ] = None
    cpus_per_trial: Annotated[
        Shares,
        Option(
            *(HOW, "CPUs of a trial, or TASK=CPUS."),
            low=MIN_SHARE,
            read=read_shares,
            is_repeatable=True,
        ),
    ] = Shares()  # noqa: RUF009 (frozen)
    max_concurrent: Annotated[
        int | None, Option(HOW, "Most concurrent trials.", low=1, high=MAX_WHOLE)
    ] = None
    address: Annotated[
        str | None, Option(HOW, "Ray to join, HOST:PORT or auto.", goes_with_resume=True)
    ] = None
    storage_path: Annotated[
        str | None, Option(HOW, "Folder or URL all nodes share.", goes_with_resume=True)
    ] = None
    precision: Annotated[Literal["auto", "fp32", "bf16"], Option(HOW, "auto, fp32 or bf16.")] = (
        "auto"
    )
    signals: Annotated[str, Option(HOW, "live, steady (no clock) or replay:FILE.")] = "live"
    run_time_budget_s: Annotated[
        float | None,
        Option(HOW, "Seconds a run should take, for adaptive.", "run_time_budget", **_SECONDS),
    ] = None
    max_retries: Annotated[
        int, Option(HOW, "Of a run whose worker died.", low=0, high=MAX_WHOLE)
    ] = 3
    keep_every_s: Annotated[
        float, _duration(HOW, "What a run may lose, like 5m.", "checkpoint_every")
    ] = 50.0
    hang_after_s: Annotated[
        float | None, _duration(HOW, "When an epoch hangs, like 10m.", "hang_after")
    ] = None
    seed: Annotated[int, Option(HOW, "Root of all seeds.", low=0, high=2**32 - 1)] = 0
    nice: Annotated[
        int,
        Option(HOW, "Added to the workers' niceness.", low=0, high=MAX_NICE, goes_with_resume=True),
    ] = 0
    command: str = ""


OPTIONS: dict[str, Declared] = {
    name: option
    for each in fields(Request)
    for name, option in declared(TaskOptions if each.name == "options" else Request).items()
    if each.name in ("options", option.field)
}
"""Every option, by name, as ``--help`` lists them."""

OF_TASKS = frozenset(declared(TaskOptions))


def read_request(options: Mapping[str, Any], command: str = "") -> Request:
    """Make a request of options by their names with underscores.

    Args:
        options: Texts as they are typed, or numbers, paths and lists; what is None or empty is
            not given, and the preset or the option's default decides.
        command: What was typed, for the record.

    Raises:
        InputError: Options that there are not or that cannot be read, and what else is wrong.
    """
    read, problems = _read(options)
    asked = PRESETS.get(read.get("preset", "smoke"), {}) | {
        OPTIONS[name].field: value for name, value in read.items() if name not in OF_TASKS
    }
    of_tasks = {name: value for name, value in read.items() if name in OF_TASKS}
    if "epochs" in read and "time_budget" not in read:
        asked["time_budget_s"] = None
    if "ablations" not in read:
        asked["ablations"] = "ablations" in asked and _can_ablate(asked["schedules"])
    # It may name files that are not UTF-8, and the plan is.
    asked["command"] = command.encode(errors="backslashreplace").decode()
    request = Request(**asked, options=TaskOptions(**of_tasks))
    if problems:
        raise InputError("\n".join([*problems, *_problems(request)]))
    return request


def read_for_resume(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the options that are given to a resumed experiment, by name.

    Raises:
        InputError: Options that there are not, that its plan has decided, that cannot be read or
            that are out of range.
    """
    read, problems = _read(options)
    for name, value in read.items():
        problems += _of_value(OPTIONS[name], value)
        if not OPTIONS[name].option.goes_with_resume:
            problems.append(f"{OPTIONS[name].flag}: decided by the plan of the experiment")
    if problems:
        raise InputError("\n".join(problems))
    return read


def _read(options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the values that could be read, by the option's name, and the problems of others."""
    given = {name: value for name, value in options.items() if is_given(value)}
    read: dict[str, Any] = {}
    problems = [
        f"unknown option {name!r}{did_you_mean(name, OPTIONS)}"
        for name in given
        if name not in OPTIONS
    ]
    for name, option in OPTIONS.items():
        try:
            if name in given:
                read[name] = option.read(given[name])
        except InputError as error:
            problems.append(str(error))
    return read, problems


def is_given(value: object) -> bool:
    """Whether an option is given: None and what is empty leave it to its default."""
    return value is not None and not (isinstance(value, tuple | list | dict) and not value)


def check_request(request: Request) -> None:
    """Check everything that can be checked without reading data.

    Raises:
        InputError: Every problem found, one a line.
        EnvironmentFault: A schedule's package is not installed.
    """
    if problems := [*_problems(request)]:
        raise InputError("\n".join(problems))
    for schedule in request.schedules:
        require_installed(schedule)


def _problems(request: Request) -> Iterator[str]:
    yield from _of_names(request)
    for option in OPTIONS.values():
        yield from _of_value(option, _value(request, option))
    yield from _of_schedules(request)
    yield from _of_clock(request)
    yield from _of_paths(request)
    if request.address is not None:
        yield from address_problems(request.address)
        if request.num_gpus is not None:
            yield "--num-gpus rehearses on this machine: a cluster reports its own"
        if request.gpus_per_trial.is_measured:
            yield "--gpus-per-trial auto measures on this machine: with --address, give a share"
        if request.nice:
            yield NICE_ELSEWHERE


def _value(request: Request, option: Declared) -> Any:
    return getattr(request.options if option.name in OF_TASKS else request, option.field)


def _of_names(request: Request) -> Iterator[str]:
    named = [name for name in request.tasks if isinstance(name, str)]
    unknown = [f"--task {name}: {problem}" for name in named if (problem := unknown_task(name))]
    yield from unknown or inapplicable(request.tasks, request.options)
    for name in request.schedules:
        if name not in SCHEDULES:
            yield unknown_schedule(name)
    for what, names in (("task", named), ("schedule", request.schedules)):
        yield from (f"{what} {name!r} is given twice" for name in _repeated(names))


def _of_value(option: Declared, value: Any) -> Iterator[str]:
    if isinstance(value, Shares):
        for task, share in (("", value.of_all), *value.of_tasks.items()):
            if (problem := option.out_of_range(share, task)) is not None:
                yield problem
    elif (problem := option.problem(value)) is not None:
        yield problem


def _can_ablate(schedules: Sequence[str]) -> bool:
    return any(name in ABLATIONS for name in schedules)


def _of_schedules(request: Request) -> Iterator[str]:
    studied = request.studied
    if studied is not None and studied not in request.schedules:
        near = did_you_mean(studied, request.schedules)
        yield f"--studied {studied}: is not among the schedules{near}"
    if request.ablations and not _can_ablate(request.schedules):
        yield f"--ablations: only {' and '.join(ABLATIONS)} can be run part by part"
    outside = [name for name in request.schedules if not SCHEDULES.is_own(name)]
    plans_in_time = PLANS_IN_TIME & {*request.schedules}
    if request.run_time_budget_s is not None and not (plans_in_time or outside):
        yield f"--run-time-budget: only {' and '.join(sorted(PLANS_IN_TIME))} can plan in time"


def _of_clock(request: Request) -> Iterator[str]:
    kind, colon, _ = request.signals.partition(":")
    kinds = ("live", "steady", "replay")
    if kind not in kinds:
        yield (
            f"--signals must be one of {', '.join(kinds)}, got {kind!r}{did_you_mean(kind, kinds)}"
        )
    elif bool(colon) != (kind == "replay"):
        yield f"--signals {request.signals}: live, steady or replay:FILE"
    if request.signals == "steady":
        for option, is_asked in (
            ("--run-time-budget", request.run_time_budget_s is not None),
            ("--time-budget", request.time_budget_s is not None),
            ("--gpus-per-trial auto", request.gpus_per_trial.is_measured),
        ):
            if is_asked:
                yield f"{option} needs a clock, and --signals steady has none"
    if request.time_budget_s is not None and request.num_epochs is not None:
        yield "--time-budget solves for --epochs: give one of them"


def _of_paths(request: Request) -> Iterator[str]:
    for name in ("results_dir", "space", "data_dir", "model_path", "storage_path", "signals"):
        path = str(_value(request, OPTIONS[name]))
        if not _is_text(path):
            yield (
                f"{OPTIONS[name].flag} {path!a}: the plan cannot hold it: it is not UTF-8, or has "
                "a zero byte"
            )
    path = request.storage_path or ""
    if path.startswith("memory://"):
        yield f"--storage-path {path}: each process would have a memory of its own"
    if "@" in path.partition("://")[2]:
        yield (
            "--storage-path: credentials would be written down with the plan; leave them to the "
            "environment"
        )


NICE_ELSEWHERE = "--nice is for a Ray of our own: a cluster's workers run as its owner started them"


def address_problems(address: str) -> list[str]:
    """Return why ``address`` cannot be a cluster's, if so."""
    host, _, port = address.rpartition(":")
    is_port = port.isascii() and port.isdigit() and 0 < int(port) < 2**16
    if address == "auto" or (host and "/" not in host and is_port):
        return []
    return [f"--address {address!r}: must be HOST:PORT, as `ray start --head` printed it, or auto"]


def nice_problems(nice: int, address: str | None) -> list[str]:
    """Return why workers cannot run at ``nice``, if so."""
    if problem := OPTIONS["nice"].problem(nice):
        return [problem]
    if nice and address is not None:
        return [NICE_ELSEWHERE]
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
