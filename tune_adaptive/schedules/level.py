"""The feedback multiplier m: how far above or below its base the learning rate stands.

Looked at once a window, over x, the window's mean training loss, and se, its standard
error. With a = factor, z and threshold:

- While the level is held, *probe upwards unless harmed*: m *= 1 - 2a if x is not finite,
  ``x - previous > z * sqrt(se**2 + se_previous**2)`` or
  ``x > best * (1 + threshold) + z * se``; else m *= 1 + a.
- While it is annealed, m only falls: m *= 0.7 if x > 1.5 best, m *= 0.5 if x is not
  finite, m *= 1 - a if a gradient norm exceeded 10 times its running median.

NaN behaviour: a window with a loss that is not finite is harm, changes neither ``best``
nor ``previous``, and is counted: after three of them :attr:`Level.diverged` is True. A
gradient norm that is NaN is ignored, one that is infinite is a spike.
"""

import math
import statistics
from typing import Any

from torch import Tensor

from tune_adaptive.schedules.base import floats, scalar

SPIKE_RATIO = 10.0
NUM_SPIKE_WINDOWS = 20
NUM_NONFINITE_TO_DIVERGE = 3


class Level:
    """The multiplier of one run, and the windows it listens to.

    Args:
        factor: a in (0, 0.5).
        threshold: Relative rise over the best loss that counts as harm, >= 0.
        z: Standard errors a rise must exceed to count, >= 0.

    Attributes:
        m: The multiplier, > 0.
    """

    def __init__(self, *, factor: float, threshold: float, z: float) -> None:
        self.m = 1.0
        self._factor, self._threshold, self._z = factor, threshold, z
        self._losses: list[float | Tensor] = []
        self._grad_norms: list[float | Tensor] = []
        self._grad_norm_medians: list[float] = []
        self._best = math.inf
        self._previous: tuple[float, float] | None = None  # mean loss, its standard error
        self._num_nonfinite = 0

    @property
    def diverged(self) -> bool:
        """Whether three windows held a loss that is not finite."""
        return self._num_nonfinite >= NUM_NONFINITE_TO_DIVERGE

    def hear(self, loss: float | Tensor | None, grad_norm: float | Tensor | None) -> None:
        """Keep a step's loss and gradient norm; a tensor stays on its device unread."""
        if loss is not None:
            self._losses.append(scalar("loss", loss))
        if grad_norm is not None:
            self._grad_norms.append(scalar("grad_norm", grad_norm))

    def look(self, holding: bool, lowest: float, highest: float) -> None:
        """Move m by what was heard since the last look, and forget it.

        Args:
            holding: Whether the level is held (p < h), not annealed.
            lowest: Below it the bounds let no group move, so m stays at or above.
            highest: Above it likewise.
        """
        losses, norms = self._losses, self._grad_norms
        self._losses, self._grad_norms = [], []
        spiked = self._has_spiked(floats(norms)) if norms else False
        if losses:
            self.m *= self._loss_factor(floats(losses), holding)
        if spiked and not holding:
            self.m *= 1.0 - self._factor
        if losses or norms:
            self.m = min(max(self.m, lowest), highest)

    def forget(self) -> None:
        """Drop what was heard since the last look."""
        self._losses, self._grad_norms = [], []

    def drop_infinite_norms(self) -> None:
        """Drop the norms of optimizer steps that were skipped because of them."""
        if self._grad_norms:
            self._grad_norms = [n for n in floats(self._grad_norms) if math.isfinite(n)]

    def _loss_factor(self, losses: list[float], holding: bool) -> float:
        mean = sum(losses) / len(losses)
        se = _standard_error(losses, mean)
        up, down = 1.0 + self._factor, 1.0 - 2.0 * self._factor
        if not math.isfinite(mean):
            self._num_nonfinite += 1
            return down if holding else 0.5
        best, previous = self._best, self._previous
        self._best, self._previous = min(best, mean), (mean, se)
        if previous is None:
            return up if holding else 1.0
        if not holding:
            return 0.7 if mean > best + 0.5 * abs(best) else 1.0
        rise, noise = mean - previous[0], self._z * math.hypot(se, previous[1])
        far_above = best + self._threshold * abs(best) + self._z * se
        return down if rise > noise or mean > far_above else up

    def _has_spiked(self, norms: list[float]) -> bool:
        medians = self._grad_norm_medians
        norms = [norm for norm in norms if not math.isnan(norm)]
        spiked = bool(norms and medians and max(norms) > SPIKE_RATIO * statistics.median(medians))
        finite = [norm for norm in norms if math.isfinite(norm)]
        if finite:
            medians.append(statistics.median(finite))
            del medians[:-NUM_SPIKE_WINDOWS]
        return spiked

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain Python; what lies on a device is read."""
        return {
            "m": self.m,
            "_losses": floats(self._losses),
            "_grad_norms": floats(self._grad_norms),
            "_grad_norm_medians": list(self._grad_norm_medians),
            "_best": self._best,
            "_previous": self._previous,
            "_num_nonfinite": self._num_nonfinite,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        for name, value in state.items():
            setattr(self, name, list(value) if isinstance(value, list) else value)


def _standard_error(values: list[float], mean: float) -> float:
    if len(values) < 2:
        return 0.0
    variance = sum((value - mean) * (value - mean) for value in values) / (len(values) - 1)
    return math.sqrt(variance / len(values))
