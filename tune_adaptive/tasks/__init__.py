"""What is trained. A data set is one line in ``DATASETS``, a model one in ``MODELS``."""

from tune_adaptive.tasks.data import Dataset, Description, Examples
from tune_adaptive.tasks.datasets import DATASETS
from tune_adaptive.tasks.task import (
    MODELS,
    TASKS,
    Task,
    TaskOptions,
    make_task,
    published_task,
    unknown_task,
)

__all__ = [
    "DATASETS",
    "MODELS",
    "TASKS",
    "Dataset",
    "Description",
    "Examples",
    "Task",
    "TaskOptions",
    "make_task",
    "published_task",
    "unknown_task",
]
