"""The configuration of AdaptiveLR: each argument checked, and plain Python."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from tune_adaptive.schedules.checks import Checks
from tune_adaptive.schedules.clock import MIN_WINDOW_STEPS, NUM_WINDOWS_PER_RUN

MAX_HOLD = 0.9
MAX_LR_RATIO = 100.0

Bound = float | list[float]

REFERENCE_BATCH_SIZE = 64

STATE_VERSION = 2
"""Version of the dictionary that ``AdaptiveLR.state_dict`` returns."""


@dataclass(frozen=True, slots=True)
class AdaptiveConfiguration:
    """Arguments of ``AdaptiveLR``, where their meanings stand; a state holds them as they are here.

    Raises:
        ValueError: Arguments are of another kind or outside their range; all of them are named.
    """

    total_steps: int
    complexity: float
    complexity_weight: float
    resource_weight: float
    hold: float
    power: float
    min_lr: Bound
    max_lr: Bound | None
    warmup_steps: int
    feedback: bool
    feedback_interval: int
    feedback_factor: float
    feedback_threshold: float
    feedback_z: float
    time_budget_s: float | None
    batch_size: int | None
    reference_batch_size: int
    min_lr_ratio: float = 0.0
    max_lr_ratio: float = MAX_LR_RATIO

    @classmethod
    def checked(cls, *, timer: object, **given: Any) -> "AdaptiveConfiguration":
        """Return the configuration that is ``given``, defaults that depend on it filled in."""
        checks = Checks()
        checks.timer(timer)
        plain: dict[str, Any] = {"feedback": bool(given["feedback"])}
        for name in ("complexity", "complexity_weight", "resource_weight"):
            plain[name] = checks.number(name, given[name], lambda x: 0 <= x <= 1, "in [0, 1]")
        for name in ("feedback_threshold", "feedback_z"):
            plain[name] = checks.number(name, given[name], lambda x: x >= 0, ">= 0")
        for name, least in (("total_steps", 1), ("warmup_steps", 0), ("reference_batch_size", 1)):
            plain[name] = checks.whole(name, given[name], least)
        plain["hold"] = checks.number(
            "hold", given["hold"], lambda x: 0 <= x <= MAX_HOLD, f"in [0, {MAX_HOLD}]"
        )
        plain["power"] = checks.number(
            "power", given["power"], lambda x: 0 <= x < math.inf, ">= 0 and finite"
        )
        plain["feedback_factor"] = checks.number(
            "feedback_factor", given["feedback_factor"], lambda x: 0 < x < 0.5, "in (0, 0.5)"
        )
        plain["min_lr_ratio"] = checks.number(
            "min_lr_ratio", given["min_lr_ratio"], lambda x: 0 <= x <= 1, "in [0, 1]"
        )
        plain["max_lr_ratio"] = checks.number(
            "max_lr_ratio", given["max_lr_ratio"], lambda x: 1 <= x < math.inf, ">= 1 and finite"
        )
        plain["min_lr"] = checks.numbers("min_lr", given["min_lr"])
        plain |= dict.fromkeys(("max_lr", "time_budget_s", "batch_size"))
        if given["max_lr"] is not None:
            plain["max_lr"] = checks.numbers("max_lr", given["max_lr"])
        if given["time_budget_s"] is not None:
            plain["time_budget_s"] = checks.number(
                "time_budget_s",
                given["time_budget_s"],
                lambda x: 0 < x < math.inf,
                "> 0 and finite",
            )
        if given["batch_size"] is not None:
            plain["batch_size"] = checks.whole("batch_size", given["batch_size"], 1)
        interval = given["feedback_interval"]
        if interval is None:
            interval = max(MIN_WINDOW_STEPS, plain["total_steps"] // NUM_WINDOWS_PER_RUN)
        plain["feedback_interval"] = checks.whole("feedback_interval", interval, 1)
        checks.done()
        return cls(**plain)


ARGUMENTS = frozenset(field.name for field in fields(AdaptiveConfiguration))


def check_state(state: Mapping[str, Any], configuration: AdaptiveConfiguration) -> None:
    """Check that a state is of this version and of a configuration.

    Raises:
        ValueError: It is of another.
    """
    if state.get("version") != STATE_VERSION:
        raise ValueError(
            f"state_dict has version {state.get('version')!r}; this AdaptiveLR reads "
            f"{STATE_VERSION}."
        )
    ratios = {"min_lr_ratio": 0.0, "max_lr_ratio": MAX_LR_RATIO}  # older states have none
    theirs, ours = ratios | state["configuration"], asdict(configuration)
    differing = [key for key in ours if theirs.get(key) != ours[key]]
    if differing:
        key = differing[0]
        raise ValueError(
            f"state_dict is of another configuration: {key} = {theirs.get(key)!r} there, "
            f"{ours[key]!r} here (differing: {', '.join(differing)})."
        )


def check_bounds(group: int, base: float, min_lr: float, max_lr: float) -> None:
    """Raise ValueError where the rate of param group ``group`` cannot lie between its bounds."""
    checks = Checks()
    where = f" (param group {group})"
    checks.number("lr", base, lambda x: 0 <= x < math.inf, ">= 0 and finite" + where)
    checks.number("min_lr", min_lr, lambda x: 0 <= x <= base, f"in [0, lr = {base}]{where}")
    checks.number(
        "max_lr", max_lr, lambda x: base <= x < math.inf, f">= lr = {base} and finite{where}"
    )
    checks.done()


def per_group(name: str, value: Bound, num_groups: int) -> Sequence[float]:
    """Return one value for each param group."""
    values = value if isinstance(value, list) else [value] * num_groups
    if len(values) != num_groups:
        raise ValueError(
            f"{name} must have one value or one per param group ({num_groups}), got {values!r}. "
            f"Where groups are added later, give one value or {name}_ratio."
        )
    return values
