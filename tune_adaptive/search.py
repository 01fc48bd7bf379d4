"""Search, compare and report: ``python -m tune_adaptive.search``."""

import inspect
import json
import math
import shlex
import sys
import typing
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from rich.console import Console

from tune_adaptive.api import carry_out, check_watchers, search, shown
from tune_adaptive.errors import InputError
from tune_adaptive.planning.options import (
    OPTIONS,
    check_request,
    is_given,
    read_for_resume,
    read_request,
)
from tune_adaptive.planning.parsing import read_texts
from tune_adaptive.planning.prepare import Prepared, absolute_storage, prepare
from tune_adaptive.planning.run_file import read_run_file, write_run_file
from tune_adaptive.protocol.resume import reopened
from tune_adaptive.records.declared import HOW, HOW_MUCH, Declared
from tune_adaptive.records.ledger import has_ended
from tune_adaptive.system.console import run_command, terminal
from tune_adaptive.watch.plan_summary import show_plan


def main(
    context: typer.Context,
    *,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the plan and stop.", rich_help_panel=HOW_MUCH)
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="Run file: options in TOML.", rich_help_panel=HOW)
    ] = None,
    save_config: Annotated[
        Path | None, typer.Option(help="Write the options as a run file.", rich_help_panel=HOW)
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Interrupted experiment's folder.", rich_help_panel=HOW)
    ] = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Ray's, on loopback.", rich_help_panel=HOW)
    ] = False,
    track: Annotated[
        list[str],
        typer.Option(help="tensorboard, mlflow[:URI] or wandb.", rich_help_panel=HOW),
    ] = [],  # noqa: B006
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Show the answer only.", rich_help_panel=HOW)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print verdict.json, or the plan.", rich_help_panel=HOW)
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show Ray's own logs.", rich_help_panel=HOW)
    ] = False,
    **options: Any,
) -> None:
    """Tune learning-rate schedules, compare the best on fresh seeds, report and export."""
    console = terminal(stderr=as_json)
    folder = resume
    try:
        if resume is not None:
            _check_alone(context, resume)
            check_watchers(track, dashboard and options["address"] is None)
            with reopened(resume, **read_for_resume(options)) as prepared:
                _carry_out(context, prepared, console)
            return
        if config is not None:
            given = {name: value for name, value in options.items() if is_given(value)}
            options = read_run_file(config) | given
            context.params.update(options)  # as if they were typed
        check_watchers(track, dashboard and options.get("address") is None)
        command = shlex.join(["python", "-m", "tune_adaptive.search", *sys.argv[1:]])
        request = read_request(options, command)
        if save_config is not None:
            check_request(request)
            write_run_file(save_config, options)
        prepared = prepare(request)
        folder = prepared.folder
        if plan and as_json:
            typer.echo(json.dumps(_without_infinity(asdict(prepared.plan)), allow_nan=False))
            return
        if plan or not (quiet or as_json):
            show_plan(prepared.plan, console)
        if not plan:
            _carry_out(context, prepared, console)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(*_where_it_ended(context, folder, console)) from error


def _without_infinity(value: Any) -> Any:
    """Replace what JSON does not know: a number that is not finite is null."""
    if isinstance(value, dict):
        return {key: _without_infinity(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinity(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _carry_out(context: typer.Context, prepared: Prepared, console: Console) -> None:
    quiet, as_json = context.params["quiet"], context.params["as_json"]

    def say(line: object) -> None:
        console.print(str(line), markup=False, highlight=False, soft_wrap=True)

    experiment = carry_out(
        prepared,
        shown(prepared, quiet or as_json, console),
        context.params["track"],
        say if context.params["dashboard"] else None,
        context.params["verbose"],
    )
    if as_json:
        typer.echo((prepared.folder / "verdict.json").read_text(encoding="utf-8"), nl=False)
        return
    analysis = experiment.analysis
    if analysis.busy is not None:
        trained, validated = analysis.busy
        say(f"slots busy training: {trained:.0%} (and validating: {validated:.0%})")
    for check in analysis.breaches:
        say(f"audit broken: {check.rule}: {check.finding}")
    for verdict in analysis.verdicts.values():
        say(verdict.sentence)
    for path in experiment.written:
        say(path)


def _where_it_ended(context: typer.Context, folder: Path | None, console: Console) -> list[str]:
    """Print what to run after an interruption; return what else to say of it."""

    def say(purpose: str, *arguments: str) -> None:
        command = shlex.join(["python", "-m", *arguments])
        with suppress(OSError):  # the terminal may be gone: SIGHUP says so
            console.out(f"{purpose}: {command}", highlight=False)

    if folder is None or not (folder / "plan.toml").exists():
        return ["nothing was begun"]
    if has_ended(folder):
        say("to write its report again", "tune_adaptive", "report", str(folder))
        say("to export its schedules again", "tune_adaptive", "export", str(folder))
        return ["the search is finished; its report may be incomplete"]
    again = ["--resume", str(folder), *_options_again(context)]
    say("to resume", "tune_adaptive.search", *again)
    return []


def _options_again(context: typer.Context) -> list[str]:
    """Return the options that a resumed experiment needs once more."""
    given, again = context.params, list[str]()
    for task in read_texts(given["task"], "--task"):
        again += ["--task", task] if ":" in task else []
    if given["address"] is not None:
        again += ["--address", given["address"]]
    if (storage := absolute_storage(given["storage_path"])) is not None:
        again += ["--storage-path", storage]
    if given["nice"]:
        again += ["--nice", str(given["nice"])]
    for tracker in given["track"]:
        again += ["--track", tracker]
    for name in ("dashboard", "quiet", "as_json"):
        again += [_flag(name)] if given[name] else []
    return again


def _check_alone(context: typer.Context, folder: Path) -> None:
    """Refuse what a frozen plan has decided already."""
    allowed = [name for name, each in OPTIONS.items() if each.option.goes_with_resume]
    allowed += ["dashboard", "track", "quiet", "as_json", "verbose"]
    given = [
        _flag(name)
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
        and name not in (*allowed, "resume")
    ]
    if given:
        raise InputError(
            f"{', '.join(given)}: decided by the plan of {folder}; --resume goes with "
            + ", ".join(map(_flag, allowed))
        )


def _flag(name: str) -> str:
    return f"--{name.removeprefix('as_').replace('_', '-')}"


def _with_options(command: Callable[..., None]) -> None:
    """Give a command's ``**options`` the form of every option that a request declares."""
    signature = inspect.signature(command)
    own = {name: each for name, each in signature.parameters.items() if name != "options"}
    asked = {name: _parameter(each) for name, each in OPTIONS.items()}
    context = own.pop("context")
    parameters = [context, *asked.values(), *own.values()]
    hints = typing.get_type_hints(command, include_extras=True)
    command.__annotations__ = hints | {name: each.annotation for name, each in asked.items()}
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]


def _parameter(option: Declared) -> inspect.Parameter:
    """Return an option as Typer reads it: a text, which the request makes a value of."""
    kind: Any = bool | None if option.kind is bool else str | None
    if option.option.is_repeatable:
        kind = list[str]
    said = typer.Option(
        help=option.option.help,
        rich_help_panel=option.option.group,
        metavar=None if option.kind is bool else _metavar(option),
        show_default=option.usual or False,
    )
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=[] if option.option.is_repeatable else None,
        annotation=Annotated[kind, said],
    )


def _metavar(option: Declared) -> str:
    names = {int: "INTEGER", float: "FLOAT", Path: "PATH"}
    return "TEXT" if option.option.read else names.get(option.kind, "TEXT")


_with_options(main)


class _Callable(ModuleType):
    """This module, which is also the function that does what its command line does."""

    __call__ = staticmethod(search)


sys.modules[__name__].__class__ = _Callable

if __name__ == "__main__":
    run_command(main)
