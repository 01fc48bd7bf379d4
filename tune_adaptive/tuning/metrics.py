"""Custom metrics of Ray: Prometheus scrapes them beside Ray's own, as ``ray_tune_adaptive_*``."""

from collections.abc import Mapping

from ray.util.metrics import Gauge


class Gauges:
    """Sets gauges of this process, each declared when it is first set; Ray must be running."""

    def __init__(self) -> None:
        self._gauges: dict[str, Gauge] = {}

    def __call__(self, name: str, told: str, labels: Mapping[str, str], value: float) -> None:
        """Set one series.

        Args:
            name: Of the metric, without its prefix.
            told: What it is.
            labels: Of the series; the names are the same in every series of a metric.
            value: Any number.
        """
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"tune_adaptive_{name}", told, tuple(labels))
        self._gauges[name].set(value, dict(labels))
