"""What the ledger tells, as gauges: Prometheus scrapes them, dashboards draw them.

A trial has no label of its own, or there would be one more series of each metric with every
trial: it has the number of the place, ``slot``, that it runs in, from 0 to ``slots - 1``.
``tune_adaptive_trial`` says which trial that is.
"""

from collections.abc import Callable, Iterable, Mapping

from tune_adaptive.records import ledger
from tune_adaptive.records.plan import Plan
from tune_adaptive.records.runs import RunSpec
from tune_adaptive.watch.progress import Tally

CURVES = {
    "train/loss": ("train_loss", "Mean training loss over the epoch [nats]."),
    "validation/loss": ("val_loss", "Validation loss [nats]."),
    "validation/metric": ("val_metric", "The task's metric on the validation split."),
    "lr": ("lr", "Learning rate at the epoch's end."),
    "examples_per_s": ("examples_per_s", "Training examples a second."),
    "gpu/utilisation": ("gpu_utilisation", "Of the GPU, all tenants together, 0 to 1."),
    "gpu/peak_bytes": ("gpu_peak_bytes", "Most memory the run held on the GPU."),
    "gpu/memory_fraction": ("gpu_memory_fraction", "Of the GPU, all tenants together, 0 to 1."),
    "cpu/resident_bytes": ("resident_bytes", "Memory of the worker's process."),
}
"""By the curve's name, a run's metric, without its prefix, and what it is."""
STATES = ("running", "completed", "stopped", "lost")


SetGauge = Callable[[str, str, Mapping[str, str], float | None], None]
"""Takes a metric's name, what it is, a series' labels and its value; None ends the series."""


class Monitor:
    """Sets the gauges; call it with each event.

    Args:
        plan: The experiment's.
        set_gauge: Where they go.
        past: What the ledger has already.
    """

    def __init__(self, plan: Plan, set_gauge: SetGauge, past: Iterable[ledger.Event] = ()) -> None:
        self._plan = plan
        self._set = set_gauge
        self._num_train = {task.name: task.num_train for task in plan.tasks}
        self._tally = Tally(plan)
        self._places: dict[str, int] = {}  # of the runs at work
        self._series: dict[int, dict[str, dict[str, str]]] = {}  # of a slot: metric -> labels
        for event in past:
            self._tally.add(event)

    def __call__(self, event: ledger.Event) -> None:
        """Take in one event."""
        self._tally.add(event)
        if isinstance(event, ledger.RunStarted):
            self._begin(event.run)
        elif isinstance(event, ledger.RunResumed):
            self._begin(self._tally.runs[event.run_id])
        elif isinstance(event, ledger.EpochDone):
            self._epoch(self._tally.runs[event.run_id], event)
        elif isinstance(event, ledger.RunEnded | ledger.RunInterrupted):
            self._places.pop(event.run_id, None)
        if isinstance(event, ledger.RunStarted | ledger.RunResumed | ledger.RunEnded):
            self._arms()

    def _begin(self, run: RunSpec) -> None:
        taken = set(self._places.values())
        self._places[run.id] = next(place for place in range(len(taken) + 1) if place not in taken)
        for name, labels in self._series.pop(self._places[run.id], {}).items():
            self._set(name, "", labels, None)  # of the run that was in this slot before
        self._set_own(run, "epoch", "Epochs done by the run in this slot.", 0.0)
        if run.number is not None:
            self._set_own(run, "trial", "Number of the run in this slot.", float(run.number))

    def _epoch(self, run: RunSpec, event: ledger.EpochDone) -> None:
        epoch = float(event.result.epoch)
        self._set_own(run, "epoch", "Epochs done by the run in this slot.", epoch)
        for name, value in event.result.curves(self._num_train[run.task], "metric").items():
            if name in CURVES:
                metric, told = CURVES[name]
                self._set_own(run, metric, told, value)
        self._arms()

    def _arms(self) -> None:
        """Set what is of arms and of the whole search."""
        own = {"experiment": self._plan.name}
        for (task, schedule), arm in self._tally.arms.items():
            labels = own | {"task": task, "schedule": schedule}
            self._set("arm_epochs_spent", "Epochs spent in this stage.", labels, arm.spent)
            if arm.best is not None:
                self._set("arm_best_val_metric", "Of a run trained to its end.", labels, arm.best)
            for state in STATES:
                told, num = "Runs of this stage by their state.", getattr(arm, state)
                self._set("arm_runs", told, labels | {"state": state}, num)
        self._set("slots_busy", "Runs that are running.", own, len(self._places))
        self._set("slots", "Runs that fit concurrently.", own, self._plan.slots)

    def _set_own(self, run: RunSpec, name: str, told: str, value: float) -> None:
        labels = {
            "experiment": self._plan.name,
            "task": run.task,
            "schedule": run.configuration.schedule,
            "slot": str(self._places[run.id]),
        }
        self._series.setdefault(self._places[run.id], {})[name] = labels
        self._set(name, told, labels, value)
