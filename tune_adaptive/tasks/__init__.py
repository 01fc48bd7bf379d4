"""What is trained. A task is one line in ``TASKS``."""

from tune_adaptive.tasks.task import TASKS, Task

__all__ = ["TASKS", "Task"]
