"""Arguments of schedules: of the right kind, within their range, and plain Python afterwards.

A state that holds numpy's numbers or a tensor where a configuration was given does not load with
``weights_only=True``; so whatever is a number comes out as ``int`` or ``float``.
"""

import math
import operator
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

MOST = 2**63


class Checks:
    """Reads arguments and collects what is wrong with them, so that all is said at once.

    Example:
        >>> checks = Checks()
        >>> checks.whole("total_steps", 10, 1), checks.number("hold", 2, lambda x: x <= 1, "<= 1")
        (10, 2.0)
        >>> checks.done()
        Traceback (most recent call last):
        ValueError: hold must be <= 1, got hold = 2.
    """

    def __init__(self) -> None:
        self._problems: list[str] = []

    def refuse(self, name: str, value: object, allowed: str) -> None:
        """Note that ``value`` is not what is ``allowed``."""
        self._problems.append(f"{name} must be {allowed}, got {name} = {value!r}.")

    def whole(self, name: str, value: Any, least: int, below: int | None = None) -> int:
        """Return ``value`` as an int in [least, below); a refused one as ``least``."""
        allowed = f">= {least}" if below is None else f"in [{least}, {below})"
        plain = _plain(value)
        if isinstance(plain, bool) or not isinstance(plain, Integral):
            self.refuse(name, value, f"a whole number {allowed}")
            return least
        number = operator.index(plain)
        if number >= MOST:
            self.refuse(name, value, f"{allowed} and fit 64 bits")
            return least
        if number < least or (below is not None and number >= below):
            self.refuse(name, value, allowed)
            return least
        return number

    def number(self, name: str, value: Any, ok: Callable[[float], bool], allowed: str) -> float:
        """Return ``value`` as a float for which ``ok`` holds; NaN where it is no number."""
        number = _real(value)
        if number is None:
            self.refuse(name, value, f"a number {allowed}")
            return math.nan
        if not ok(number):
            self.refuse(name, value, allowed)
        return number

    def numbers(self, name: str, value: Any) -> float | list[float]:
        """Return one float, or a list of them where ``value`` has several."""
        one = _real(value)
        if one is not None:
            return one
        several = value.tolist() if hasattr(value, "tolist") else value
        numbers = [_real(each) for each in several] if isinstance(several, list | tuple) else []
        if not numbers or None in numbers:
            self.refuse(name, value, "a number, or one per param group")
            return math.nan
        return [number for number in numbers if number is not None]

    def timer(self, timer: object) -> None:
        """Accept a clock, or None."""
        if timer is not None and not callable(timer):
            self.refuse("timer", timer, "a function without arguments, or None")

    def done(self) -> None:
        """Raise ValueError with all that was refused, if anything was."""
        if self._problems:
            raise ValueError(" ".join(self._problems))


def _plain(value: Any) -> Any:
    """Take a number out of a tensor or an array that holds one."""
    is_scalar = getattr(value, "ndim", None) == 0 and hasattr(value, "item")
    return value.item() if is_scalar else value


def _real(value: Any) -> float | None:
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, Real):
        return None
    try:
        return float(plain)
    except OverflowError:
        return math.inf if operator.gt(plain, 0) else -math.inf
