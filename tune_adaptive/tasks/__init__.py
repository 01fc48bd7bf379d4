"""What is trained. A data set is one line in ``DATASETS``, a model one in ``MODELS``."""

from tune_adaptive.tasks.data import Dataset, Description, Examples
from tune_adaptive.tasks.datasets import DATASETS
from tune_adaptive.tasks.make import (
    MODELS,
    TASKS,
    inapplicable,
    make_task,
    make_tasks,
    read_own_task,
    read_task,
    unknown_task,
)
from tune_adaptive.tasks.metrics import METRICS, Measure
from tune_adaptive.tasks.task import Task, TaskOptions

__all__ = [
    "DATASETS",
    "METRICS",
    "MODELS",
    "TASKS",
    "Dataset",
    "Description",
    "Examples",
    "Measure",
    "Task",
    "TaskOptions",
    "inapplicable",
    "make_task",
    "make_tasks",
    "read_own_task",
    "read_task",
    "unknown_task",
]
