"""Every run and every epoch as data frames."""

from dataclasses import fields
from typing import Any

import pandas as pd

from tune_adaptive.analysis.history import History, Run
from tune_adaptive.records.runs import EpochResult

EPOCH_COLUMNS = [field.name for field in fields(EpochResult)]


def tables(history: History) -> dict[str, pd.DataFrame]:
    """Return ``trials`` (the search), ``runs`` (all others) and ``epochs`` (of both)."""
    rows = [_run_row(run, history.task(run.spec.task).metric.name) for run in history.runs]
    epochs = [
        {"run_id": run.spec.id, "task": run.spec.task, "schedule": run.spec.arm[1]}
        | {"stage": run.spec.stage, "role": run.spec.role, "seed": run.spec.seed}
        | {name: getattr(epoch, name) for name in EPOCH_COLUMNS}
        for run in history.runs
        for epoch in run.epochs
    ]
    runs = _of_one_type(pd.DataFrame(rows))
    is_trial = pd.Series([row["stage"] == "search" for row in rows], dtype=bool)
    return {"trials": runs[is_trial], "epochs": pd.DataFrame(epochs), "runs": runs[~is_trial]}


def _run_row(run: Run, metric: str) -> dict[str, Any]:
    last = run.last
    row = {
        "run_id": run.spec.id,
        "stage": run.spec.stage,
        "role": run.spec.role,
        "task": run.spec.task,
        "schedule": run.spec.configuration.schedule,
        "seed": run.spec.seed,
        "status": run.status,
        "message": run.message,
        "started_at": run.started_at,
        "num_epochs": len(run.epochs),
        "epoch_equivalents": last.epoch_equivalents if last else 0.0,
        "train_s": sum(epoch.train_s for epoch in run.epochs),
        "train_loss": last.train_loss if last else None,
        "val_loss": last.val_loss if last else None,
        "metric": metric,
        "val_metric": last.val_metric if last else None,
        "test_loss": last.test_loss if last else None,
        "test_metric": last.test_metric if last else None,
    }
    values = run.spec.configuration.values()
    return row | {f"parameters.{n}" if n in row else n: value for n, value in values.items()}


def _of_one_type(frame: pd.DataFrame) -> pd.DataFrame:
    """Return ``frame`` with its columns of mixed types as text: a Parquet column has one type.

    Two schedules may each have a parameter of the same name, one a number, one a string.
    """
    for name in [name for name, kind in frame.dtypes.items() if kind.name == "object"]:
        kinds = {type(value) for value in frame[name].dropna()}
        if len(kinds) > 1 and not kinds <= {int, float}:
            frame[name] = frame[name].map(str, na_action="ignore")
    return frame
