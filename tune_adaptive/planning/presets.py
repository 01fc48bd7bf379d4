"""Presets: what decides how large an experiment is, by one word."""

from typing import Any

from tune_adaptive.records.runs import Slowdown

DOCUMENTED = ("resource_complexity", "feedback")
EXPERTS = ("adaptive", "step", "exponential", "cosine", "linear", "onecycle", "wsd", "plateau")

PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {},
    "night": {
        "tasks": ("fashion_mnist/resnet18", "cifar10/resnet18"),
        "schedules": (*EXPERTS, *DOCUMENTED),
        "budget": 16.0,
        "num_final_seeds": 10,
        "time_budget_s": 9 * 3600.0,
        "ablations": True,
        "slowdown": Slowdown(2.0, 0.4),
    },
    "cluster": {
        "tasks": (
            *("fashion_mnist/resnet18", "cifar10/resnet18", "imdb/bert", "ag_news/bert"),
            *("mnist/cnn", "imdb/lstm", "ag_news/bilstm"),
        ),
        "schedules": (*EXPERTS, *DOCUMENTED, "constant", "sgdr", "rex", "greedy"),
        "budget": 32.0,
        "num_final_seeds": 12,
        "ablations": True,
        "slowdown": Slowdown(2.0, 0.4),
    },
}
"""What a preset decides besides the defaults of :class:`Request`, by field. ``smoke`` takes minutes
on two cores, ``night`` a night on one GPU, ``cluster`` many GPUs."""
