"""What models are judged by: a number, which way is better, its unit and its margin."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Literal

PERCENT = "%"


@dataclass(frozen=True, slots=True)
class Metric:
    """What the models of a task are judged by on a split.

    Attributes:
        name: As documents call it, ``accuracy``.
        greater_is_better: Whether a larger value is the better one.
        low: Smallest value there is; ``-inf`` where there is none.
        high: Largest value there is; ``inf`` where there is none.
        unit: Of its values, like ``nats``; ``%`` for shares, in [0, 1], whose differences are
            shown in percentage points.
        margin: Least difference that counts, in its own unit (0.002 is 0.2 points), >= 0; the
            equivalence margin is this, or one seed's SD where that is larger.
    """

    name: str
    greater_is_better: bool = True
    low: float = 0.0
    high: float = 1.0
    unit: str = PERCENT
    margin: float = 0.0

    def __post_init__(self) -> None:
        for name in ("low", "high", "margin"):
            if isinstance(getattr(self, name), Real):  # numpy's numbers cannot be written down
                object.__setattr__(self, name, float(getattr(self, name)))

    def score(self, value: float) -> float:
        """Return ``value`` such that more is better."""
        return value if self.greater_is_better else -value

    def error(self, value: float) -> float | None:
        """Return how far ``value`` is from a perfect model's; None where none is perfect."""
        best = self.high if self.greater_is_better else self.low
        return abs(best - value) if math.isfinite(best) else None

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """As Optuna names it."""
        return "maximize" if self.greater_is_better else "minimize"

    @property
    def worst(self) -> float:
        """The end of the range away from the best; NaN where there is none."""
        worst = self.low if self.greater_is_better else self.high
        return worst if math.isfinite(worst) else math.nan

    @property
    def scale(self) -> float:
        """What a value is multiplied with to be shown."""
        return 100.0 if self.unit == PERCENT else 1.0

    @property
    def digits(self) -> str:
        """Format of a number that is shown."""
        return ".2f" if self.unit == PERCENT else "#.4g"

    @property
    def label(self) -> str:
        """The name with the unit, for axes and columns.

        Example:
            >>> Metric("accuracy").label
            'accuracy [%]'
        """
        return self.name + self.in_unit

    @property
    def unit_of_differences(self) -> str:
        """The unit of differences, in words; empty where there is none."""
        return "points" if self.unit == PERCENT else self.unit

    @property
    def in_differences(self) -> str:
        """The unit of differences, for a heading: `` [percentage points]``."""
        unit = "percentage points" if self.unit == PERCENT else self.unit
        return f" [{unit}]" if unit else ""

    @property
    def in_unit(self) -> str:
        """The unit, for a heading: `` [%]``."""
        return f" [{self.unit}]" if self.unit else ""

    def number(self, value: float, sign: str = "") -> str:
        """Show a value, or with ``sign`` = ``+`` a difference, without its unit."""
        return f"{self.scale * value:{sign}{self.digits}}"

    def shown(self, value: float) -> str:
        """Show a value with its unit.

        Example:
            >>> Metric("accuracy").shown(0.8765)
            '87.65%'
        """
        unit = self.unit if self.unit == PERCENT else f" {self.unit}" * bool(self.unit)
        return self.number(value) + unit

    def problem(self, value: float) -> str | None:
        """Say why ``value`` cannot be one of this metric; None if it can."""
        if self.low <= value <= self.high and math.isfinite(value):
            return None
        return f"{self.name} {value}: must be a finite number in [{self.low:g}, {self.high:g}]"

    def problems(self) -> Iterator[str]:
        """Say what of its own fields cannot be."""
        texts = {"name": self.name, "unit": self.unit}
        numbers = {"low": self.low, "high": self.high, "margin": self.margin}
        strange = [
            f"{name} {each!r}: must be a text"
            for name, each in texts.items()
            if not isinstance(each, str)
        ]
        strange += [
            f"{name} {each!r}: must be a number"
            for name, each in numbers.items()
            if not isinstance(each, float)
        ]
        if strange:
            yield from strange
            return
        if not self.name.isprintable() or not self.name.strip():
            yield f"name {self.name!r}: must be a text"
        if not self.low < self.high:
            yield f"low {self.low} must be < high {self.high}"
        if self.unit == PERCENT and not (self.low >= 0 and self.high <= 1):
            yield f"unit %: a share lies within [0, 1], not [{self.low}, {self.high}]"
        if not 0 <= self.margin < math.inf:
            yield f"margin {self.margin} must be a finite number >= 0"


MARGIN = 0.002
"""Of shares: 0.2 points."""
ACCURACY = Metric("accuracy", margin=MARGIN)
