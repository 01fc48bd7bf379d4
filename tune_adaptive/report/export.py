"""Best configurations as files.

A file holds the configuration, the space it was found in and where it came from.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomli_w

from tune_adaptive.analysis.estimates import Analysis, ArmResult
from tune_adaptive.records.runs import file_name
from tune_adaptive.report.best import FORMAT
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
    reached = arm.test_metric
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
            **({"builder": origin} if (origin := plan.builders.get(arm.schedule)) else {}),
            "precision": task.precision,
            "cpus_per_trial": task.cpus_per_trial,
            "gpus_per_trial": task.gpus_per_trial,
            "options": dict(plan.options),
            "signals": plan.signals,
            **({"run_time_budget_s": plan.run_time_budget_s} if plan.run_time_budget_s else {}),
            "data_sha256": task.data_sha256,
            "num_train": task.num_train,
            "metric": asdict(task.metric),
            "val_metric": arm.select_val_metric,
            "verdict": analysis.verdicts[arm.task].sentence,
            # TOML has no null: what was not measured is left out.
            "test_metric": {k: v for k, v in asdict(reached).items() if v is not None}
            if reached
            else {},
            "versions": dict(plan.versions),
        },
        "space": task.spaces[arm.schedule].to_dict(),
    }
