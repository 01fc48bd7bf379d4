"""Search, compare and report: ``python -m tune_adaptive.search``."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.table import Table

from tune_adaptive.analysis import Analysis
from tune_adaptive.cli import run_command
from tune_adaptive.export import export
from tune_adaptive.plan import Plan
from tune_adaptive.planning import Experiment, Request, prepare
from tune_adaptive.progress import STAGES, Progress
from tune_adaptive.protocol import run
from tune_adaptive.report import write_report
from tune_adaptive.schedules import SCHEDULES
from tune_adaptive.spaces import default_space_dir
from tune_adaptive.tasks import TaskOptions
from tune_adaptive.tasks.datasets import Augment
from tune_adaptive.tasks.vision import Stem

WHAT, HOW_MUCH, WHERE, HOW = "What", "How much", "Where", "How"


def main(
    task: Annotated[
        list[str], typer.Option(help="dataset/model or module:task.", rich_help_panel=WHAT)
    ] = ["fashion_mnist_mini/cnn"],  # noqa: B006
    schedule: Annotated[
        list[str], typer.Option(help="Schedule, or all; repeatable.", rich_help_panel=WHAT)
    ] = ["adaptive", "step", "exponential"],  # noqa: B006
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
    budget: Annotated[
        float, typer.Option(help="Full-run equivalents per arm.", rich_help_panel=HOW_MUCH)
    ] = 8.0,
    final_seeds: Annotated[
        int, typer.Option(help="Fresh seeds compared.", rich_help_panel=HOW_MUCH)
    ] = 8,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the plan and stop.", rich_help_panel=HOW_MUCH)
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Experiment's name.", rich_help_panel=WHERE)
    ] = None,
    results_dir: Annotated[
        Path, typer.Option(help="Folder of experiments.", rich_help_panel=WHERE)
    ] = Path("results"),
    gpus_per_trial: Annotated[
        float | None, typer.Option(help="Share of a GPU, (0, 1].", rich_help_panel=WHERE)
    ] = None,
    num_gpus: Annotated[
        int | None, typer.Option(help="Declare logical GPUs.", rich_help_panel=WHERE)
    ] = None,
    cpus_per_trial: Annotated[
        float | None, typer.Option(help="CPUs of a trial; 1 or less.", rich_help_panel=WHERE)
    ] = None,
    max_concurrent: Annotated[
        int | None, typer.Option(help="Most trials at once.", rich_help_panel=WHERE)
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
    seed: Annotated[int, typer.Option(help="Root of all seeds.", rich_help_panel=HOW)] = 0,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Let Ray speak.", rich_help_panel=HOW)
    ] = False,
) -> None:
    """Tune learning-rate schedules, compare the best on fresh seeds, report and export."""
    console = Console()
    experiment = prepare(
        Request(
            tasks=tuple(task),
            schedules=tuple(SCHEDULES) if schedule == ["all"] else tuple(schedule),
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
            budget=budget,
            num_final_seeds=final_seeds,
            gpus_per_trial=gpus_per_trial,
            num_gpus=num_gpus,
            cpus_per_trial=cpus_per_trial,
            max_concurrent=max_concurrent,
            precision=precision,
            signals=signals,
            run_time_budget_s=run_time_budget,
            seed=seed,
            command=shlex.join(["python", "-m", "tune_adaptive.search", *sys.argv[1:]]),
        )
    )
    show_plan(experiment.plan, console)
    if plan:
        return
    with Progress(experiment.plan, console) as progress:
        run(experiment, progress, verbose)
    conclude(experiment, console)


def show_plan(plan: Plan, console: Console) -> None:
    """Print what would run and its estimated cost."""
    table = Table(box=None, pad_edge=False, title=f"plan of {plan.name}", title_justify="left")
    for header in ("stage", "full runs an arm", "arms", "epochs in all"):
        table.add_column(header, justify="left" if header == "stage" else "right")
    full_runs = {
        "search": f"{plan.budget:g}",
        "select": f"{plan.num_candidates * plan.num_select_seeds}",
        "final": f"{plan.num_final_seeds}",
    }
    num_arms = len(plan.tasks) * len(plan.schedules)
    for stage in STAGES:
        table.add_row(stage, full_runs[stage], str(num_arms), f"{plan.stage_epochs(stage):g}")
    console.print(table)
    for task in plan.tasks:
        console.print(
            f"{task.name}: T = {task.num_epochs} epochs of {task.num_train} examples, "
            f"{task.precision}, {task.epoch_s:.2f} s an epoch; {', '.join(plan.schedules)}",
            highlight=False,
        )
    console.print(
        f"{plan.slots} trials at once on {plan.device}; "
        f"estimated {plan.estimated_s():.0f} s and start-up",
        highlight=False,
    )


def conclude(experiment: Experiment, console: Console) -> None:
    """Write tables, report and exports; print the answer."""
    analysis = Analysis(experiment.folder)
    exported = export(analysis)
    written = write_report(analysis)
    if analysis.busy is not None:
        trained, validated = analysis.busy
        console.print(
            f"slots busy training: {trained:.0%} (and validating: {validated:.0%})",
            highlight=False,
        )
    for verdict in analysis.verdicts.values():
        console.print(verdict.sentence, markup=False, highlight=False)
    for path in (*written, *exported):
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
