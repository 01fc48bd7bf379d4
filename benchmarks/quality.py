"""How many epochs until a search has what there is to find? On recorded learning curves.

    python benchmarks/quality.py

``benchmarks/curves.csv`` (by ``benchmarks/curves.py``) holds the validation accuracies of
configurations of ``step``'s space, trained for T = 9 epochs. Here searches run on it, at equal
epochs and on 2 slots: a configuration that a sampler asks for answers with the curve of the
nearest one recorded, by distance in the unit cube of the space's own (log) scales; it is the
mean over the seeds recorded.

- ``ours``: an arm as shipped. Its TPE, its ASHA (rungs from T/3), stopped trials told PRUNED, the
  defaults first, a fifth of the epochs for random-search controls that are never stopped.
- ``ours, told COMPLETE``: the same, but stopped trials are told as complete with the value they
  had, as OptunaSearch does.
- ``ours without controls``: what those cost the search.
- ``stock``: Ray's ``OptunaSearch`` and ``ASHAScheduler`` as they come (rungs 1 and 4), called in
  the order of Tune's controller.
- ``stock, our rungs``: the same with our first trial, first rung and reduction factor.

The incumbent is the best final accuracy of a trial trained to T. A search has arrived once it is
within 0.5 points of the best recorded; what has not by the end of its budget counts with the whole
budget, in both: a restricted mean. Ratios are of these means, paired over search seeds, with the
95% interval of the logarithm by the delta method; below 1, ours needs fewer epochs. The best of
256 holds the luck of its seeds, so a second table asks for 0.5 points of the mean of the best 5.
"""

import csv
import logging
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import optuna
import typer
from curves import FILE, NUM_CONFIGURATIONS, NUM_EPOCHS, SCHEDULE, TASK, space
from optuna.trial import TrialState

from tune_adaptive.analysis.stats import ratio_interval
from tune_adaptive.planning.prepare import CONTROL_SHARE
from tune_adaptive.protocol.arms import Arm
from tune_adaptive.records.runs import Configuration, EpochResult, RunSpec, Status, Value
from tune_adaptive.records.spaces import SearchSpace

SLOTS = 2
NEAR = 0.005  # of accuracy


class Curves:
    """The recorded curves, by the nearest configuration."""

    def __init__(self, covered: SearchSpace, rows: Sequence[dict[str, str]]) -> None:
        self._space = covered
        self.num_seeds = len(rows) // NUM_CONFIGURATIONS
        names = [parameter.name for parameter in covered.parameters]
        self._points = np.array(
            [
                self._point({name: float(row[name]) for name in names})
                for row in rows[:NUM_CONFIGURATIONS]
            ]
        )
        epochs = [f"epoch_{epoch}" for epoch in range(1, NUM_EPOCHS + 1)]
        recorded = np.array([[float(row[epoch]) for epoch in epochs] for row in rows])
        whole = recorded[: self.num_seeds * NUM_CONFIGURATIONS]
        self.values = whole.reshape(-1, NUM_CONFIGURATIONS, NUM_EPOCHS).mean(axis=0)

    @classmethod
    def read(cls) -> "Curves":
        """Read the file."""
        with FILE.open(encoding="utf-8") as file:
            return cls(space(), list(csv.DictReader(file)))

    def target(self, num_best: int) -> float:
        """Return what an incumbent has to reach: nearly the mean of the best few."""
        return float(np.sort(self.values[:, -1])[-num_best:].mean()) - NEAR

    def _point(self, values: dict[str, Value] | dict[str, float]) -> npt.NDArray[np.float64]:
        return np.array([p.quantile(float(values[p.name])) for p in self._space.parameters])

    def of(self, values: dict[str, Value]) -> list[float]:
        """Return the validation accuracies by epoch."""
        distances = ((self._points - self._point(values)) ** 2).sum(axis=1)
        curve: list[float] = self.values[distances.argmin()].tolist()
        return curve


@dataclass(frozen=True)
class Told:
    """After ``spent`` epochs in all, a trial ended with ``final``, or was stopped: None."""

    spent: int
    final: float | None


Search = Callable[[Curves, int, int], Iterator[Told]]
"""Curves, epochs to spend and a seed -> how its trials end."""


# ----------------------------------------------------------------------- ours


class ToldComplete(Arm):
    """Tells Optuna an early value as if the trial had been trained to its end."""

    def _end(
        self, run: RunSpec, state: TrialState, status: Status, value: float | None = None
    ) -> Status:
        if state is TrialState.PRUNED:
            last = list(self._running[run.id].values.values())[-1]
            return super()._end(run, TrialState.COMPLETE, status, last)
        return super()._end(run, state, status, value)


def ours(
    curves: Curves, budget: int, seed: int, kind: type[Arm] = Arm, controls: float = CONTROL_SHARE
) -> Iterator[Told]:
    """Search with an arm."""
    arm = kind(
        RunSpec("", "search", TASK, Configuration(SCHEDULE), 0, NUM_EPOCHS),
        space(),
        float(budget),
        seeds=[0],
        sampler_seed=seed,
        num_controls=round(controls * budget / NUM_EPOCHS),
    )
    running: dict[str, tuple[RunSpec, list[float], int]] = {}
    spent = 0
    while arm.can_start or running:
        while arm.can_start and len(running) < SLOTS:
            run = arm.start()
            running[run.id] = run, curves.of(run.configuration.values()), 0
        for run, curve, num_done in list(running.values()):
            spent += 1
            status = arm.heard(run, _result(num_done + 1, curve[num_done]))
            running[run.id] = run, curve, num_done + 1
            if status is not None:
                del running[run.id]
                yield Told(spent, curve[-1] if status == "completed" else None)


def _result(epoch: int, val_metric: float) -> EpochResult:
    return EpochResult(
        epoch=epoch,
        epoch_equivalents=float(epoch),
        num_steps=epoch,
        planned_steps=NUM_EPOCHS,
        train_loss=1.0,
        val_loss=1.0,
        val_metric=val_metric,
        lrs=(),
        lr_steps=(),
        progress=epoch / NUM_EPOCHS,
        train_s=1.0,
        eval_s=0.0,
        ended_at=0.0,
        ended=epoch == NUM_EPOCHS,
    )


def told_complete(curves: Curves, budget: int, seed: int) -> Iterator[Told]:
    """Search with an arm that tells COMPLETE."""
    return ours(curves, budget, seed, ToldComplete)


def without_controles(curves: Curves, budget: int, seed: int) -> Iterator[Told]:
    """Search with an arm that has none."""
    return ours(curves, budget, seed, controls=0.0)


# ---------------------------------------------------------------------- theirs


def stock(
    curves: Curves,
    budget: int,
    seed: int,
    grace_period: int = 1,
    reduction_factor: int = 4,
    first: Sequence[dict[str, Value]] = (),
) -> Iterator[Told]:
    """Search with OptunaSearch and ASHAScheduler, without a cluster."""
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    searcher = OptunaSearch(
        space=_define_by_run,
        metric="val_metric",
        mode="max",
        points_to_evaluate=list(first) or None,
        seed=seed,
    )
    scheduler = ASHAScheduler(
        metric="val_metric",
        mode="max",
        max_t=NUM_EPOCHS,
        grace_period=grace_period,
        reduction_factor=reduction_factor,
    )
    running: dict[str, tuple[Any, list[float], int]] = {}
    spent = num_started = 0
    while spent < budget:
        while len(running) < SLOTS:
            trial = SimpleNamespace(trial_id=f"{num_started:05d}")
            num_started += 1
            config = searcher.suggest(trial.trial_id)
            scheduler.on_trial_add(None, trial)
            running[trial.trial_id] = trial, curves.of(config), 0
        for trial, curve, num_done in list(running.values()):
            spent += 1
            epoch = num_done + 1
            result = {"training_iteration": epoch, "val_metric": curve[num_done]}
            if scheduler.on_trial_result(None, trial, result) == "STOP":
                scheduler.on_trial_complete(None, trial, result)
                searcher.on_trial_complete(trial.trial_id, result)
                del running[trial.trial_id]
                yield Told(spent, curve[-1] if epoch == NUM_EPOCHS else None)
            else:
                searcher.on_trial_result(trial.trial_id, result)
                running[trial.trial_id] = trial, curve, epoch
            if spent == budget:
                return


def _define_by_run(trial: optuna.Trial) -> None:
    space().suggest(trial)


def stock_with_our_rungs(curves: Curves, budget: int, seed: int) -> Iterator[Told]:
    """Search with the stock parts, set as ours are."""
    return stock(curves, budget, seed, NUM_EPOCHS // 3, 3, [space().defaults()])


SEARCHES: dict[str, Search] = {
    "ours": ours,
    "ours, told COMPLETE": told_complete,
    "ours without controls": without_controles,
    "stock": stock,
    "stock, our rungs": stock_with_our_rungs,
}


# ----------------------------------------------------------------------- table


def table(ends: dict[str, list[list[Told]]], budget: int, target: float) -> Iterator[str]:
    """Yield the rows.

    Args:
        ends: By name, how the trials of each search seed ended; ours first.
        budget: Epochs that each might spend.
        target: What an incumbent has to reach.
    """
    yield (
        "| search | arrived | epochs to arrive, restricted mean | median | ours / it "
        "| best at the end [%], mean | trials, mean |"
    )
    yield "|---|---|---|---|---|---|---|"
    reference: list[int] = []
    for name, searches in ends.items():
        arrived = [arrival(each, target) for each in searches]
        epochs = [budget if each is None else each for each in arrived]
        reference = reference or epochs
        ratio = ratio_interval(reference, epochs)
        assert ratio is not None
        interval = "" if ratio.low is None else f" [{ratio.low:.2f}, {ratio.high:.2f}]"
        median = statistics.median(epochs)
        best = [max((told.final or 0.0 for told in each), default=0.0) for each in searches]
        yield (
            f"| {name} | {len(arrived) - arrived.count(None)} of {len(arrived)} "
            f"| {statistics.fmean(epochs):.0f} "
            f"| {f'{median:g}' if median < budget else f'> {budget}'} "
            f"| {'' if epochs is reference else f'{ratio.mean:.2f}{interval}'} "
            f"| {100 * statistics.fmean(best):.2f} "
            f"| {statistics.fmean(map(len, searches)):.0f} |"
        )


def arrival(ends: Sequence[Told], target: float) -> int | None:
    """Return the epochs spent when a trial first reached ``target``; None if none did."""
    return next((t.spent for t in ends if t.final is not None and t.final >= target), None)


def main(
    seeds: Annotated[int, typer.Option(help="Search seeds.")] = 100,
    full_runs: Annotated[int, typer.Option(help="Budget, in runs of T.")] = 32,
) -> None:
    """Print the table."""
    quiet()
    curves, budget = Curves.read(), full_runs * NUM_EPOCHS
    ends = {
        name: [list(search(curves, budget, seed)) for seed in range(seeds)]
        for name, search in SEARCHES.items()
    }
    print(
        f"{NUM_CONFIGURATIONS} configurations, the mean of {curves.num_seeds} seeds each; "
        f"{budget} epochs a search, {seeds} search seeds."
    )
    for num_best in (1, 5):
        target = curves.target(num_best)
        share = float((curves.values[:, -1] >= target).mean())
        print(
            f"\nWithin {100 * NEAR:g} points of the mean of the best {num_best} "
            f"({target + NEAR:.1%}), as {share:.1%} of the configurations are:\n"
        )
        print("\n".join(table(ends, budget, target)), flush=True)


def quiet() -> None:
    """Keep Optuna and Ray from logging."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)


if __name__ == "__main__":
    typer.run(main)
