"""Does an adaptive learning-rate schedule beat well-tuned baselines? Search, compare, export.

Names are imported when they are first used, so that the report needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tune_adaptive.system.user import settle

if TYPE_CHECKING:
    from tune_adaptive.api import Experiment, resume, search
    from tune_adaptive.records.complexity import measure_complexity
    from tune_adaptive.report.best import BestSchedule, load_schedule
    from tune_adaptive.schedules import SCHEDULES, AdaptiveLR
    from tune_adaptive.tasks import TASKS, Dataset, Description, Examples, Measure, Task, make_task

__all__ = [
    "SCHEDULES",
    "TASKS",
    "AdaptiveLR",
    "BestSchedule",
    "Dataset",
    "Description",
    "Examples",
    "Experiment",
    "Measure",
    "Task",
    "load_schedule",
    "make_task",
    "measure_complexity",
    "resume",
    "search",
]

_HOMES = {
    "SCHEDULES": "tune_adaptive.schedules",
    "TASKS": "tune_adaptive.tasks",
    "AdaptiveLR": "tune_adaptive.schedules",
    "BestSchedule": "tune_adaptive.report.best",
    "Dataset": "tune_adaptive.tasks",
    "Description": "tune_adaptive.tasks",
    "Examples": "tune_adaptive.tasks",
    "Experiment": "tune_adaptive.api",
    "Measure": "tune_adaptive.tasks",
    "Task": "tune_adaptive.tasks",
    "load_schedule": "tune_adaptive.report.best",
    "make_task": "tune_adaptive.tasks",
    "measure_complexity": "tune_adaptive.records.complexity",
    "resume": "tune_adaptive.api",
}

settle()  # before anything else is imported: Ray asks for a home when it is


def __getattr__(name: str) -> Any:
    if name == "search":  # the command line's module; it can be called
        return import_module("tune_adaptive.search")
    if name not in _HOMES:
        raise AttributeError(f"module 'tune_adaptive' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
