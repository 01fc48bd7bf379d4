"""Best configurations as files.

    python -m tune_adaptive export results/NAME         writes best/ again from the ledger
    python -m tune_adaptive export best/X/adaptive.toml checks one file and shows it

A file holds the configuration, the space it was found in and where it came from.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import tomli_w
import typer

from tune_adaptive.analysis.estimates import Analysis, ArmResult
from tune_adaptive.records.runs import file_name
from tune_adaptive.report.best import FORMAT, load_schedule
from tune_adaptive.system.console import printable, run_command, tell_damage
from tune_adaptive.system.files import make_inside, write_whole


def export(analysis: Analysis) -> list[Path]:
    """Write ``best/<dataset>-<model>/<schedule>.toml`` for every selected configuration."""
    paths = []
    for arm in analysis.arms:
        best = make_inside(analysis.folder, "best")
        path = make_inside(best, file_name(arm.task)) / f"{arm.schedule}.toml"
        write_whole(path, tomli_w.dumps(_document(analysis, arm)))
        paths.append(path)
    return paths


def _document(analysis: Analysis, arm: ArmResult) -> dict[str, Any]:
    plan, task = analysis.plan, analysis.history.task(arm.task)
    accuracy = arm.test_accuracy
    return {
        "format": FORMAT,
        "task": arm.task,
        "schedule": arm.schedule,
        "optimizer": task.optimizer,
        "recipe": asdict(arm.configuration.recipe),
        "parameters": dict(arm.configuration.parameters),
        "complexity": asdict(task.complexity),
        "provenance": {
            "experiment": plan.name,
            "created": plan.created,
            "command": plan.command,
            "seed": plan.seed,
            "num_epochs": task.num_epochs,
            "batch_size": task.batch_size,
            "augment": task.augment,
            "clip_norm": task.clip_norm,
            "notes": dict(task.notes),
            "precision": task.precision,
            "cpus_per_trial": task.cpus_per_trial,
            "gpus_per_trial": task.gpus_per_trial,
            "options": dict(plan.options),
            "signals": plan.signals,
            **({"run_time_budget_s": plan.run_time_budget_s} if plan.run_time_budget_s else {}),
            "data_sha256": task.data_sha256,
            "num_train": task.num_train,
            "val_accuracy": arm.select_val_accuracy,
            "verdict": analysis.verdicts[arm.task].sentence,
            # TOML has no null: what was not measured is left out.
            "test_accuracy": {k: v for k, v in asdict(accuracy).items() if v is not None}
            if accuracy
            else {},
            "versions": dict(plan.versions),
        },
        "space": dict(task.spaces[arm.schedule]),
    }


def main(
    path: Annotated[Path, typer.Argument(help="An experiment's folder, or one best/*.toml.")],
) -> None:
    """Write an experiment's best configurations again, or check one exported file."""
    if path.is_dir():
        analysis = Analysis(path)
        tell_damage(path, analysis.history.damage)
        for written in export(analysis):
            typer.echo(written)
        return
    best = load_schedule(path)
    typer.echo(printable(f"{best.task}: {best.configuration.schedule}"))
    for name, value in best.configuration.values().items():
        typer.echo(printable(f"  {name} = {value}"))


if __name__ == "__main__":
    run_command(main)
