"""What a step of the schedule costs: ``AdaptiveLR.step()`` against torch's ``StepLR.step()``.

    python benchmarks/schedule_step.py

Plain steps, between two feedback boundaries, the clock read each step; what AdaptiveLR does
when the optimizer has stepped is counted too. Runs alternate in one process; the figure is the
median of the ratios pair by pair. The control pairs StepLR with itself.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler, StepLR

from tune_adaptive import AdaptiveLR

NUM_PAIRS = 31
NUM_STEPS = 3000


def microseconds(build: Callable[[SGD], LRScheduler], num_groups: int) -> float:
    """Return the mean duration of a step."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(num_groups)]
    optimizer = SGD(groups, lr=0.1)
    schedule = build(optimizer)
    for _ in range(2):
        optimizer.step()
        schedule.step()
    hooks = list(optimizer._optimizer_step_post_hooks.values())  # ours has one, StepLR none
    start = time.perf_counter()
    for _ in range(NUM_STEPS):
        for hook in hooks:
            hook(optimizer, (), {})
        schedule.step()
    return (time.perf_counter() - start) / NUM_STEPS * 1e6


def adaptive(optimizer: SGD) -> LRScheduler:
    """A run so long that no measured step is at a boundary."""
    return AdaptiveLR(optimizer, total_steps=10**7, feedback_interval=10**6)


def step(optimizer: SGD) -> LRScheduler:
    """The yardstick."""
    return StepLR(optimizer, step_size=10**6)


def main() -> None:
    """Print the table."""
    print("| param groups | StepLR [us] | AdaptiveLR / StepLR | StepLR / StepLR (control) |")
    print("|---|---|---|---|")
    for num_groups in (1, 2, 8):
        rows = [
            [microseconds(build, num_groups) for build in (step, adaptive, step)]
            for _ in range(NUM_PAIRS)
        ]
        yardstick = statistics.median(first for first, _, _ in rows)
        ratio = statistics.median(ours / first for first, ours, _ in rows)
        control = statistics.median(second / first for first, _, second in rows)
        print(f"| {num_groups} | {yardstick:.2f} | {ratio:.2f} | {control:.2f} |", flush=True)


if __name__ == "__main__":
    main()
