"""Search, compare and report: ``python -m tune_adaptive.search``."""

import json
import math
import shlex
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tune_adaptive.analysis.stats import promised
from tune_adaptive.api import carry_out, check_watchers, search, shown
from tune_adaptive.errors import InputError
from tune_adaptive.planning.options import OPTIONS, request_of
from tune_adaptive.planning.prepare import MAX_GROWTH, Prepared, absolute_storage, prepare
from tune_adaptive.protocol.resume import reopened
from tune_adaptive.records.ledger import has_ended
from tune_adaptive.records.packing import in_words
from tune_adaptive.records.plan import Plan, TaskPlan
from tune_adaptive.system.console import run_command, terminal
from tune_adaptive.watch.progress import duration

WHAT, HOW_MUCH, HOW = "What", "How much", "How and where"


def main(
    context: typer.Context,
    task: Annotated[
        list[str], typer.Option(help="dataset/model or module:task.", rich_help_panel=WHAT)
    ] = [],  # noqa: B006
    schedule: Annotated[
        list[str], typer.Option(help="Schedule, or all; repeatable.", rich_help_panel=WHAT)
    ] = [],  # noqa: B006
    space: Annotated[
        Path | None, typer.Option(help="Folder of search spaces.", rich_help_panel=WHAT)
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of data sets; else the hub.", rich_help_panel=WHAT),
    ] = None,
    model_path: Annotated[
        str | None,
        typer.Option(help="Folder or hub id of bert's encoder.", rich_help_panel=WHAT),
    ] = None,
    train_size: Annotated[
        int | None, typer.Option(help="Training examples, stratified.", rich_help_panel=WHAT)
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Most tokens of a text.", rich_help_panel=WHAT)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Examples a step.", rich_help_panel=HOW)
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="adam, adamw or sgd.", rich_help_panel=HOW)
    ] = None,
    augment: Annotated[
        str | None, typer.Option(help="none, shift, standard or document.", rich_help_panel=HOW)
    ] = None,
    stem: Annotated[
        str | None, typer.Option(help="resnet18's: cifar or imagenet.", rich_help_panel=HOW)
    ] = None,
    clip_norm: Annotated[
        float | None, typer.Option(help="Largest gradient norm.", rich_help_panel=HOW)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Horizon T of every run.", rich_help_panel=HOW_MUCH)
    ] = None,
    time_budget: Annotated[
        str | None, typer.Option(help="Of all, like 8h; T is solved.", rich_help_panel=HOW_MUCH)
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Full-run equivalents per arm.", rich_help_panel=HOW_MUCH)
    ] = None,
    final_seeds: Annotated[
        int | None, typer.Option(help="Fresh seeds compared.", rich_help_panel=HOW_MUCH)
    ] = None,
    preset: Annotated[
        str, typer.Option(help="smoke, night or cluster.", rich_help_panel=HOW_MUCH)
    ] = "smoke",
    ablations: Annotated[
        bool | None, typer.Option(help="Run adaptive part by part.", rich_help_panel=HOW_MUCH)
    ] = None,
    contention: Annotated[
        str | None, typer.Option(help="Slow down, like 2x@40%.", rich_help_panel=HOW_MUCH)
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the plan and stop.", rich_help_panel=HOW_MUCH)
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Experiment's name.", rich_help_panel=HOW)
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Interrupted experiment's folder.", rich_help_panel=HOW)
    ] = None,
    results_dir: Annotated[
        Path, typer.Option(help="Folder of experiments.", rich_help_panel=HOW)
    ] = Path("results"),
    gpus_per_trial: Annotated[
        list[str],
        typer.Option(help="Share of a GPU, auto, or TASK=SHARE.", rich_help_panel=HOW),
    ] = [],  # noqa: B006
    num_gpus: Annotated[
        int | None, typer.Option(help="Declare logical GPUs.", rich_help_panel=HOW)
    ] = None,
    cpus_per_trial: Annotated[
        list[str],
        typer.Option(help="CPUs of a trial, or TASK=CPUS.", rich_help_panel=HOW),
    ] = [],  # noqa: B006
    max_concurrent: Annotated[
        int | None, typer.Option(help="Most trials at once.", rich_help_panel=HOW)
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray to join, HOST:PORT or auto.", rich_help_panel=HOW)
    ] = None,
    storage_path: Annotated[
        str | None, typer.Option(help="Folder or URL all nodes share.", rich_help_panel=HOW)
    ] = None,
    precision: Annotated[
        str, typer.Option(help="auto, fp32 or bf16.", rich_help_panel=HOW)
    ] = "auto",
    signals: Annotated[
        str, typer.Option(help="live, steady (no clock) or replay:FILE.", rich_help_panel=HOW)
    ] = "live",
    run_time_budget: Annotated[
        float | None,
        typer.Option(help="Seconds a run should take, for adaptive.", rich_help_panel=HOW),
    ] = None,
    max_retries: Annotated[
        int, typer.Option(help="Of a run whose worker died.", rich_help_panel=HOW)
    ] = 3,
    checkpoint_every: Annotated[
        str, typer.Option(help="What a run may lose, like 5m.", rich_help_panel=HOW)
    ] = "50s",
    hang_after: Annotated[
        str | None, typer.Option(help="When an epoch hangs, like 10m.", rich_help_panel=HOW)
    ] = None,
    seed: Annotated[int, typer.Option(help="Root of all seeds.", rich_help_panel=HOW)] = 0,
    nice: Annotated[
        int, typer.Option(help="Added to the workers' niceness.", rich_help_panel=HOW)
    ] = 0,
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
        bool, typer.Option("--verbose", help="Let Ray speak.", rich_help_panel=HOW)
    ] = False,
) -> None:
    """Tune learning-rate schedules, compare the best on fresh seeds, report and export."""
    options = {name: value for name, value in locals().items() if name in OPTIONS}
    console = terminal(stderr=as_json)
    check_watchers(track, dashboard and address is None)
    folder = resume
    try:
        if resume is not None:
            _check_alone(context, resume)
            where = (data_dir, model_path, address, storage_path, nice)
            with reopened(resume, task, *where) as prepared:
                _carry_out(context, prepared, console)
            return
        command = shlex.join(["python", "-m", "tune_adaptive.search", *sys.argv[1:]])
        prepared = prepare(request_of(options | {"command": command}))
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
    say("to go on", "tune_adaptive.search", *again)
    return []


def _options_again(context: typer.Context) -> list[str]:
    """Return the options that a resumed experiment needs once more."""
    given, again = context.params, list[str]()
    for task in given["task"]:
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
        again += [_option(name)] if given[name] else []
    return again


def _check_alone(context: typer.Context, folder: Path) -> None:
    """Refuse what a frozen plan has decided already."""
    given = [
        _option(name)
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
        and name not in WITH_RESUME
    ]
    if given:
        raise InputError(
            f"{', '.join(given)}: decided by the plan of {folder}; --resume goes with "
            + ", ".join(_option(name) for name in WITH_RESUME[1:])
        )


def _option(name: str) -> str:
    return f"--{name.removeprefix('as_').replace('_', '-')}"


WITH_RESUME = (
    *("resume", "task", "data_dir", "model_path", "address", "storage_path", "nice"),
    *("dashboard", "track", "quiet", "as_json", "verbose"),
)


def show_plan(plan: Plan, console: Console) -> None:
    """Print what would run and its estimated cost."""
    table = Table(box=None, pad_edge=False, title=f"plan of {plan.name}", title_justify="left")
    for header in ("stage", "full runs a task", "epochs in all", "estimated"):
        table.add_column(header, justify="left" if header == "stage" else "right")
    for stage in plan.stages:
        epochs = f"{plan.stage_epochs(stage):g}"
        table.add_row(stage, f"{plan.full_runs(stage):g}", epochs, duration(plan.stage_s(stage)))
    console.print(table)
    for task in plan.tasks:
        console.print(
            f"{task.name}: T = {task.num_epochs} epochs of {task.num_train} examples, "
            f"{task.precision}, {task.epoch_s:.2f} s an epoch; {share(task)}; "
            + ", ".join(plan.schedules),
            highlight=False,
        )
        for remark in task.remarks:
            console.print(f"note: {task.name}: {remark}", highlight=False, markup=False)
    nodes = ""
    if plan.num_nodes > 1:
        nodes = f"{plan.num_nodes} nodes of {plan.num_cpus} CPUs and {plan.num_gpus} GPUs: "
    console.print(
        f"{plan.slots} trials at once on {nodes}{plan.device}, in the final stage "
        f"{plan.final_slots}; "
        f"estimated {duration(plan.estimated_s())}, start-up included",
        highlight=False,
    )
    for line in in_words(plan.packing, plan.device):
        console.print(line, highlight=False, markup=False)
    if plan.time_budget_s is not None:
        console.print(
            f"T is solved for --time-budget {duration(plan.time_budget_s)}, up to {MAX_GROWTH} "
            "times a task's own number of epochs; --epochs sets another",
            highlight=False,
        )
    console.print(promised(plan.schedules, plan.num_final_seeds), highlight=False)


def share(task: TaskPlan) -> str:
    """Say what a trial of ``task`` gets."""
    cpus = f"{task.cpus_per_trial:g} CPU" + "s" * (task.cpus_per_trial > 1)
    gpus = f" and {task.gpus_per_trial:g} of a GPU" if task.gpus_per_trial else ""
    return f"{cpus}{gpus} a trial, {task.slots} at once"


class _Callable(ModuleType):
    """This module, which is also the function that does what its command line does."""

    __call__ = staticmethod(search)


sys.modules[__name__].__class__ = _Callable

if __name__ == "__main__":
    run_command(main)
