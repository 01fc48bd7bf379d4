"""Search, compare and report: ``python -m tune_adaptive.search``."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.table import Table

from tune_adaptive.analysis.stats import promised_power
from tune_adaptive.cli import run_command
from tune_adaptive.errors import InputError, did_you_mean
from tune_adaptive.packing import in_words
from tune_adaptive.plan import Plan
from tune_adaptive.planning import Experiment, prepare
from tune_adaptive.progress import Progress, duration
from tune_adaptive.protocol import run
from tune_adaptive.request import (
    PRESETS,
    Request,
    parse_contention,
    parse_duration,
    parse_share,
)
from tune_adaptive.resuming import reopened
from tune_adaptive.schedules import SCHEDULES
from tune_adaptive.spaces import default_space_dir
from tune_adaptive.tasks import TaskOptions
from tune_adaptive.tasks.datasets import Augment
from tune_adaptive.tasks.vision import Stem

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
        str | None, typer.Option(help="Share of a GPU, (0, 1], or auto.", rich_help_panel=HOW)
    ] = None,
    num_gpus: Annotated[
        int | None, typer.Option(help="Declare logical GPUs.", rich_help_panel=HOW)
    ] = None,
    cpus_per_trial: Annotated[
        float | None, typer.Option(help="CPUs of a trial; 1 or less.", rich_help_panel=HOW)
    ] = None,
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
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Let Ray speak.", rich_help_panel=HOW)
    ] = False,
) -> None:
    """Tune learning-rate schedules, compare the best on fresh seeds, report and export."""
    console = Console()
    if resume is not None:
        _check_alone(context, resume)
        with reopened(resume, task, data_dir, model_path, address, storage_path) as experiment:
            _carry_out(experiment, console, verbose, task)
        return
    if preset not in PRESETS:
        raise InputError(f"--preset {preset!r}{did_you_mean(preset, PRESETS)}")
    usual = PRESETS[preset]
    time_budget_s = None if time_budget is None else parse_duration(time_budget, "--time-budget")
    if time_budget is None and epochs is None:
        time_budget_s = usual.time_budget_s
    experiment = prepare(
        Request(
            tasks=tuple(task) or usual.tasks,
            schedules=tuple(SCHEDULES)
            if schedule == ["all"]
            else tuple(schedule) or usual.schedules,
            options=TaskOptions(
                data_dir=data_dir,
                model_path=model_path,
                train_size=train_size,
                max_length=max_length,
                batch_size=batch_size,
                optimizer=optimizer,
                augment=cast("Augment | None", augment),  # prepare() checks both
                stem=cast("Stem | None", stem),
                clip_norm=clip_norm,
            ),
            space_dir=default_space_dir() if space is None else space,
            results_dir=results_dir,
            name=name,
            num_epochs=epochs,
            time_budget_s=time_budget_s,
            budget=usual.budget if budget is None else budget,
            num_final_seeds=usual.num_final_seeds if final_seeds is None else final_seeds,
            ablations=usual.ablations if ablations is None else ablations,
            slowdown=usual.slowdown if contention is None else parse_contention(contention),
            gpus_per_trial=None if gpus_per_trial is None else parse_share(gpus_per_trial),
            num_gpus=num_gpus,
            cpus_per_trial=cpus_per_trial,
            max_concurrent=max_concurrent,
            address=address,
            storage_path=storage_path,
            precision=precision,
            signals=signals,
            run_time_budget_s=run_time_budget,
            max_retries=max_retries,
            keep_every_s=parse_duration(checkpoint_every, "--checkpoint-every"),
            hang_after_s=None if hang_after is None else parse_duration(hang_after, "--hang-after"),
            seed=seed,
            command=shlex.join(["python", "-m", "tune_adaptive.search", *sys.argv[1:]]),
        )
    )
    show_plan(experiment.plan, console)
    if plan:
        return
    _carry_out(experiment, console, verbose, task)


def _carry_out(
    experiment: Experiment, console: Console, verbose: bool, tasks: Sequence[str]
) -> None:
    try:
        with Progress(experiment.plan, console, experiment.past or ()) as progress:
            run(experiment, progress, verbose)
    except KeyboardInterrupt:
        again = ["python", "-m", "tune_adaptive.search", "--resume", str(experiment.folder)]
        for task in tasks:
            again += ["--task", task] if ":" in task else []
        if experiment.address is not None:
            again += ["--address", experiment.address]
        if experiment.plan.storage_path is not None:
            again += ["--storage-path", experiment.plan.storage_path]
        console.print(
            f"to go on: {shlex.join(again)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        raise
    conclude(experiment, console)


def _check_alone(context: typer.Context, folder: Path) -> None:
    """Refuse what a frozen plan has decided already."""
    given = [
        f"--{name.replace('_', '-')}"
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
        and name not in WITH_RESUME
    ]
    if given:
        raise InputError(
            f"{', '.join(given)}: decided by the plan of {folder}; --resume goes with "
            + ", ".join(f"--{name.replace('_', '-')}" for name in WITH_RESUME[1:])
        )


WITH_RESUME = ("resume", "task", "data_dir", "model_path", "address", "storage_path", "verbose")


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
            f"{task.precision}, {task.epoch_s:.2f} s an epoch; {', '.join(plan.schedules)}",
            highlight=False,
        )
    nodes = ""
    if plan.num_nodes > 1:
        nodes = f"{plan.num_nodes} nodes of {plan.num_cpus} CPUs and {plan.num_gpus} GPUs: "
    console.print(
        f"{plan.slots} trials at once on {nodes}{plan.device}, in the final stage "
        f"{plan.final_slots}; "
        f"estimated {duration(plan.estimated_s())}, start-up included",
        highlight=False,
    )
    for line in in_words(plan.packing, plan.gpus_per_trial, plan.device):
        console.print(line, highlight=False, markup=False)
    console.print(promised_power(plan.num_final_seeds, len(plan.schedules) - 1), highlight=False)


def conclude(experiment: Experiment, console: Console) -> None:
    """Write tables, report and exports; print the answer."""
    # Slow to import, and no trial should wait for them.
    from tune_adaptive.analysis.estimates import Analysis
    from tune_adaptive.export import export
    from tune_adaptive.report import write_report

    analysis = Analysis(experiment.folder)
    exported = export(analysis)
    written = write_report(analysis)
    if analysis.busy is not None:
        trained, validated = analysis.busy
        console.print(
            f"slots busy training: {trained:.0%} (and validating: {validated:.0%})",
            highlight=False,
        )
    for check in analysis.breaches:
        console.print(f"audit broken: {check.rule}: {check.finding}", markup=False, highlight=False)
    for verdict in analysis.verdicts.values():
        console.print(verdict.sentence, markup=False, highlight=False)
    for path in (*written, *exported):
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
