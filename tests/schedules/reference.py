"""AdaptiveLR written a second time, slowly: the formulas of its module, step by step.

No closed form, no anchors, no fast path: the whole history is looked at again each step.
"""

import math
import statistics
from collections.abc import Sequence


def reference_lrs(
    *,
    base: float,
    total_steps: int,
    losses: Sequence[float],
    seconds: Sequence[float],
    complexity: float = 0.5,
    complexity_weight: float = 0.5,
    resource_weight: float = 0.5,
    hold: float = 0.1,
    power: float = 1.0,
    min_lr: float = 0.0,
    max_lr: float | None = None,
    warmup_steps: int = 0,
    feedback: bool = True,
    feedback_interval: int,
    feedback_factor: float = 0.2,
    feedback_threshold: float = 0.1,
    feedback_z: float = 1.0,
    time_budget_s: float | None = None,
) -> list[float]:
    """Return the learning rates of steps 0 .. len(losses)."""
    max_lr = 100 * base if max_lr is None else max_lr
    h = min(0.9, hold + complexity_weight * complexity)
    floor = min_lr / base

    def lr(t: int, p: float, m: float) -> float:
        warm = min(1.0, (t + 1) / warmup_steps) if warmup_steps else 1.0
        anneal = 1.0 if p < h else floor + (1 - floor) * ((1 - p) / (1 - h)) ** power
        return min(max(base * warm * anneal * m, min_lr), max_lr)

    p, m = 0.0, 1.0
    looks: list[tuple[float, float]] = []
    lrs = [lr(0, p, m)]
    for t in range(1, len(losses) + 1):
        if p >= 1:
            lrs.append(lrs[-1])  # the budget is spent: the rate is held
            continue
        p = next_p(t, p, total_steps, resource_weight, seconds[:t], time_budget_s)
        if feedback and t % feedback_interval == 0 and t > warmup_steps:
            window = losses[t - feedback_interval : t]
            mean = sum(window) / len(window)
            squares = sum((x - mean) ** 2 for x in window)
            se = math.sqrt(squares / max(1, len(window) - 1) / len(window))
            best = min((x for x, _ in looks), default=math.inf)
            if p < h:
                harmed = bool(looks) and (
                    mean - looks[-1][0] > feedback_z * math.hypot(se, looks[-1][1])
                    or mean > best + feedback_threshold * best + feedback_z * se
                )
                m *= 1 - 2 * feedback_factor if harmed else 1 + feedback_factor
            elif looks and mean > best + 0.5 * best:
                m *= 0.7
            m = min(max(m, floor), max_lr / base)
            looks.append((mean, se))
        lrs.append(lr(t, p, m))
    return lrs


def next_p(
    t: int,
    p: float,
    total_steps: int,
    w: float,
    seconds: Sequence[float],
    time_budget_s: float | None,
) -> float:
    """Return p after step t, the seconds of steps 1 .. t known."""
    size = max(5, total_steps // 60)
    windows = [
        statistics.fmean(seconds[start : start + size])
        for start in range(0, len(seconds) - size + 1, size)
    ][1:]
    tau = statistics.median(windows[-3:]) if windows else None
    if time_budget_s is None and len(windows) >= 3:
        heard = 4 * size
        tau_0 = statistics.median(windows[:3])
        time_budget_s = sum(seconds[:heard]) + (total_steps - heard) * tau_0
    remaining = total_steps - t
    if remaining <= 0 or p >= 1:
        return 1.0
    affordable = float(remaining)
    if time_budget_s is not None:
        left = time_budget_s - sum(seconds)
        if left <= 0:
            affordable = 0.0
        elif tau:
            affordable = min(float(remaining), left / tau)
    if w == 0 or affordable >= 0.9 * remaining:
        affordable = float(remaining)
    return p + (1 - p) / (1 + (1 - w) * remaining + w * affordable)
