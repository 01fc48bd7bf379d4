"""The command line's options, as they are typed, read into a request."""

import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from tune_adaptive.errors import InputError, did_you_mean
from tune_adaptive.planning.request import PRESETS, Request
from tune_adaptive.records.ablations import ABLATIONS
from tune_adaptive.records.runs import Slowdown
from tune_adaptive.records.space_files import default_space_dir
from tune_adaptive.schedules import SCHEDULES
from tune_adaptive.tasks import Task, TaskOptions

OF_TASKS = tuple(field.name for field in fields(TaskOptions))
OPTIONS = (
    *("task", "schedule", "space", *OF_TASKS, "epochs", "time_budget", "budget", "final_seeds"),
    *("preset", "ablations", "contention", "name", "results_dir", "gpus_per_trial", "num_gpus"),
    *("cpus_per_trial", "max_concurrent", "address", "storage_path", "precision", "signals"),
    *("run_time_budget", "max_retries", "checkpoint_every", "hang_after", "seed"),
    *("nice", "command"),
)


MAX_FACTOR = 1000

KINDS: dict[str, type] = {
    **dict.fromkeys(("train_size", "max_length", "batch_size", "epochs", "final_seeds"), int),
    **dict.fromkeys(("num_gpus", "max_concurrent", "max_retries", "seed", "nice"), int),
    **dict.fromkeys(("clip_norm", "budget", "run_time_budget"), float),
    **dict.fromkeys(("name", "address", "storage_path", "precision", "signals"), str),
    **dict.fromkeys(("model_path", "optimizer", "augment", "stem"), str),
    **dict.fromkeys(("preset", "contention"), str),
    **dict.fromkeys(("space", "data_dir", "results_dir"), Path),
    "ablations": bool,
}
"""What an option is; a plan can hold nothing else."""

KIND_IN_WORDS = {int: "a whole number", float: "a number", bool: "True or False"}


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
    problems = [
        f"unknown option {name!r}{did_you_mean(name, OPTIONS)}"
        for name in given
        if name not in OPTIONS
    ]
    for name, kind in KINDS.items():
        if name in given:
            try:
                given[name] = _read(name, given[name], kind)
            except InputError as error:
                problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    preset = given.get("preset", "smoke")
    if preset not in PRESETS:
        raise InputError(f"--preset {preset!r}{did_you_mean(preset, PRESETS)}")
    usual = PRESETS[preset]
    tasks, schedules = tasks_of(given.get("task", usual.tasks)), texts_of(given.get("schedule", ()))
    if "all" in schedules and len(schedules) > 1:
        raise InputError("--schedule all: every schedule there is; leave the others out")
    schedules = list(SCHEDULES) if schedules == ["all"] else schedules or list(usual.schedules)
    ablations = usual.ablations and any(name in ABLATIONS for name in schedules)
    time_budget_s = _seconds(given, "time_budget")
    if time_budget_s is None and "epochs" not in given:
        time_budget_s = usual.time_budget_s
    gpus, gpus_of_tasks = parse_gpus(texts_of(given.get("gpus_per_trial", ())))
    cpus, cpus_of_tasks = parse_shares(
        texts_of(given.get("cpus_per_trial", ())), "--cpus-per-trial"
    )
    contention = given.get("contention")
    if "command" in given:  # it may name files that are not UTF-8, and the plan is
        given["command"] = given["command"].encode(errors="backslashreplace").decode()
    keep_every_s = _seconds(given, "checkpoint_every")
    read: dict[str, Any] = {
        "results_dir": given.get("results_dir", Path("results")),
        "keep_every_s": 50.0 if keep_every_s is None else keep_every_s,
        **{
            name: given[name]
            for name in (
                *("name", "num_gpus", "max_concurrent", "address", "storage_path", "precision"),
                *("signals", "max_retries", "seed", "nice", "command"),
            )
            if name in given
        },
    }
    of_tasks = {name: given[name] for name in OF_TASKS if name in given}
    return Request(
        tasks=tuple(tasks),
        schedules=tuple(schedules),
        options=TaskOptions(**of_tasks),
        space_dir=given.get("space", default_space_dir()),
        num_epochs=given.get("epochs"),
        time_budget_s=time_budget_s,
        budget=given.get("budget", usual.budget),
        num_final_seeds=given.get("final_seeds", usual.num_final_seeds),
        ablations=given.get("ablations", ablations),
        slowdown=usual.slowdown if contention is None else parse_contention(contention),
        gpus_per_trial=gpus,
        gpus_of_tasks=gpus_of_tasks,
        cpus_per_trial=cpus,
        cpus_of_tasks=cpus_of_tasks,
        run_time_budget_s=given.get("run_time_budget"),
        hang_after_s=_seconds(given, "hang_after"),
        **read,
    )


def _read(name: str, value: Any, kind: type) -> Any:
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, int) and value.bit_length() > 63:  # too long to be shown, perhaps
        raise InputError(f"{option}: must be a number of at most 64 bits")
    refused = InputError(f"{option} {value!r}: must be {KIND_IN_WORDS.get(kind, 'a text')}")
    is_text = isinstance(value, str | Path)
    if kind is bool or isinstance(value, bool):
        fits = isinstance(value, bool) and kind is bool
    elif kind in (int, float):
        fits = is_text or isinstance(value, numbers.Real)
    else:
        fits = is_text
    if not fits:
        raise refused
    try:
        read = kind(value)
        is_whole = kind is not int or isinstance(value, str) or read == value
    except (TypeError, ValueError, OverflowError) as error:
        raise refused from error
    if not is_whole:
        raise refused
    if kind is int and read.bit_length() > 63:
        raise InputError(f"{option} {value!r}: must be a number of at most 64 bits")
    if is_text and not str(value):
        raise InputError(f"{option} {str(value)!r}: is empty")
    return read


def tasks_of(value: Any) -> list[str | Task]:
    """Return the tasks given: one or several, by name or as they are.

    Raises:
        InputError: It is something else.
    """
    if isinstance(value, Task):
        return [value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [each if isinstance(each, Task) else str(each) for each in value]
    return [*texts_of(value)]


def texts_of(value: Any) -> list[str]:
    """Return what may be one or several, or said by task, as it would be typed.

    Raises:
        InputError: It is neither.
    """
    if isinstance(value, Mapping):
        return [f"{name}={each}" for name, each in value.items()]
    if isinstance(value, str | numbers.Real):
        return [str(value)]
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise InputError(f"{value!r}: must be a text, a number, or several in a list")
    return [str(each) for each in value]


def _seconds(given: Mapping[str, Any], name: str) -> float | None:
    if name not in given:
        return None
    return parse_duration(given[name], f"--{name.replace('_', '-')}")


DURATION = r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?"


def parse_duration(text: object, option: str) -> float:
    """Read ``8h``, ``1h30m``, ``90m`` or ``45s``, or a number of seconds [s].

    Raises:
        InputError: It is none of these.
    """
    found = re.fullmatch(DURATION, text, re.ASCII) if isinstance(text, str) and text else None
    if found is None:
        if isinstance(text, bool) or not isinstance(text, numbers.Real):
            raise InputError(f"{option} {text!r}: must be like 8h, 1h30m, 90m or 45s")
        return float(text)
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
        InputError: It is not of that form, the factor not above 1 and at most 1,000, or the share
            not below 100%.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)x@(\d+(?:\.\d+)?)%", text, re.ASCII)
    if found is None or not 1 < float(found[1]) <= MAX_FACTOR or float(found[2]) >= 100:
        raise InputError(
            f"--contention {text!r}: must be like 2x@40%, the factor above 1 and at most "
            f"{MAX_FACTOR}, the share below 100%"
        )
    return Slowdown(float(found[1]), float(found[2]) / 100)
