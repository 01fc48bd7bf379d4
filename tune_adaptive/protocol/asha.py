"""Asynchronous successive halving, within one arm.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020.
"""

import math
from bisect import insort


class Asha:
    """Early stopping over rungs r, r * eta, r * eta**2, ... below T; the first at >= T / 3.

    At a rung, a run goes on if it is among the best 1/eta of those that reached it so far,
    itself included; the first one always goes on. Values are maximised.

    Example:
        >>> asha = Asha(num_epochs=9)
        >>> asha.rungs
        (3,)
        >>> [asha.goes_on(run, 3, value) for run, value in (("a", 0.5), ("b", 0.4), ("c", 0.6))]
        [True, False, True]
        >>> asha.goes_on("a", 4, 0.0)  # not a rung
        True
    """

    def __init__(self, num_epochs: int, reduction_factor: int = 3) -> None:
        self.reduction_factor = reduction_factor
        rungs, rung = [], first_rung(num_epochs)
        while rung < num_epochs:
            rungs.append(rung)
            rung *= reduction_factor
        self.rungs = tuple(rungs)
        self._values: dict[int, dict[str, float]] = {rung: {} for rung in rungs}
        self._sorted: dict[int, list[float]] = {rung: [] for rung in rungs}

    def goes_on(self, run_id: str, epoch: int, value: float) -> bool:
        """Record a run's ``value`` at ``epoch`` and say whether it goes on."""
        if epoch not in self._values:
            return True
        values, ranked = self._values[epoch], self._sorted[epoch]
        if run_id in values:
            ranked.remove(values[run_id])
        values[run_id] = value
        insort(ranked, value)
        num_kept = max(1, len(ranked) // self.reduction_factor)
        return value >= ranked[-num_kept]

    def forget(self, run_id: str, num_epochs: int) -> None:
        """Take a run that goes on from ``num_epochs`` epochs off the rungs above."""
        for rung, values in self._values.items():
            if rung > num_epochs and run_id in values:
                self._sorted[rung].remove(values.pop(run_id))


def first_rung(num_epochs: int) -> int:
    """Return the first epoch at which a run of ``num_epochs`` may be stopped."""
    return math.ceil(num_epochs / 3)
