"""Custom metrics of Ray: Prometheus scrapes them beside Ray's own, as ``ray_tune_adaptive_*``."""

import sys
import threading
from collections.abc import Mapping

import ray
from ray.util.metrics import Gauge

EVERY_S = 2.0
"""Ray forgets a gauge that is not set again within some seconds; an epoch may take longer."""

Labels = tuple[tuple[str, str], ...]


class Gauges:
    """Keeps gauges set, from a thread, while Ray runs; what it is told is never waited for."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}
        self._values: dict[tuple[str, Labels], float] = {}
        self._lock = threading.Lock()
        self._gauges: dict[str, Gauge] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_set, daemon=True, name="metrics")

    def __enter__(self) -> "Gauges":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def __call__(
        self, name: str, told: str, labels: Mapping[str, str], value: float | None
    ) -> None:
        """Set one series.

        Args:
            name: Of the metric, without its prefix.
            told: What it is.
            labels: Of the series; the names are the same in every series of a metric.
            value: Any number; None ends the series.
        """
        series = name, tuple(labels.items())
        with self._lock:
            if value is None:
                self._values.pop(series, None)
            else:
                self._told[name] = told
                self._values[series] = value

    def _keep_set(self) -> None:
        while not self._ended.wait(EVERY_S):
            if not ray.is_initialized():
                continue
            with self._lock:
                values = list(self._values.items())
            try:
                for (name, labels), value in values:
                    if name not in self._gauges:
                        keys = tuple(key for key, _ in labels)
                        self._gauges[name] = Gauge(f"tune_adaptive_{name}", self._told[name], keys)
                    self._gauges[name].set(value, dict(labels))
            except Exception as error:
                print(f"warning: no metrics from here on: {error!r}", file=sys.stderr)
                return
