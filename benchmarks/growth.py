"""Does the driver's work for one more trial grow? 100, 1,000 and 10,000 simulated trials.

    python benchmarks/growth.py                # ours: seconds, but minutes for the largest
    python benchmarks/growth.py --tune 1000    # with Ray Tune's controller, too

Nothing trains and no time passes: runs answer with an accuracy that their configuration and
epoch decide. Everything else of the driver is the product's own: stages, arms, Optuna's TPE,
ASHA, the progress view, the ledger on disk and ``studies.db`` at the end; T = 6, a fifth of the
budget for random-search controls. Each row is a process of its own, warmed up by a small search;
CPU is the process's, memory what Python holds more than before (``tracemalloc``, in a second
process).

``--tune N`` hands N runs of 3 epochs to ``ray_backend.engine.execute`` on 2 slots with workers that
answer immediately: the driver's CPU then is Ray Tune's controller, beside nothing of ours.
"""

import gc
import json
import math
import multiprocessing
import sys
import tempfile
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import optuna
import typer
from rich.console import Console

from tune_adaptive.planning.options import Request
from tune_adaptive.planning.prepare import CONTROL_SHARE, prepare
from tune_adaptive.protocol.fixed_runs import FixedRuns
from tune_adaptive.protocol.stages import Stages
from tune_adaptive.records.ledger import Event, Ledger
from tune_adaptive.records.plan import Plan
from tune_adaptive.records.runs import Configuration, EpochResult, RunSpec
from tune_adaptive.records.space_files import default_space_dir
from tune_adaptive.training.checkpoints import CheckpointStore
from tune_adaptive.watch.progress import Progress

SLOTS = 4
TRIALS_PER_FULL_RUN = 1.6  # a sampled trial costs 5/9 of one on average, a random-search control 1


@dataclass(frozen=True)
class Cost:
    """What a simulated search cost the driver."""

    num_trials: int
    search_s: float  # CPU
    studies_s: float  # CPU of writing studies.db
    memory_bytes: int | None


def main(
    sizes: Annotated[str, typer.Option(help="Trials, comma-separated.")] = "100,1000,10000",
    arms: Annotated[str, typer.Option(help="Arms, comma-separated; even.")] = "2,100",
    tune: Annotated[int, typer.Option(help="Runs for Ray Tune's controller; 0: none.")] = 0,
) -> None:
    """Print the tables."""
    print(
        "| arms | trials | driver CPU in the search, ms a trial | growth | with studies.db "
        "| growth | memory, kB a trial | growth |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for num_arms in map(int, arms.split(",")):
        first: list[float] = []
        for size in map(int, sizes.split(",")):
            cost = in_a_process(measure, size, num_arms, False)
            traced = in_a_process(measure, size, num_arms, True)
            per_trial = [
                1e3 * cost.search_s / cost.num_trials,
                1e3 * (cost.search_s + cost.studies_s) / cost.num_trials,
                (traced.memory_bytes or 0) / 1e3 / traced.num_trials,
            ]
            first = first or per_trial
            cells = [f"{x:.1f} | {x / x0:.2f}" for x, x0 in zip(per_trial, first, strict=True)]
            print(f"| {num_arms} | {cost.num_trials:,} | {' | '.join(cells)} |", flush=True)
    if tune:
        print("\n| runs through Ray Tune | driver CPU, ms a run | seconds in all |")
        print("|---|---|---|")
        for size in (max(1, tune // 10), tune):
            cpu_s, wall_s = in_a_process(through_tune, size)
            print(f"| {size:,} | {1e3 * cpu_s / size:.1f} | {wall_s:.1f} |", flush=True)


def in_a_process(function: Any, *arguments: Any) -> Any:
    """Call ``function`` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def measure(num_trials: int, num_arms: int, trace: bool) -> Cost:
    """Simulate a search of about ``num_trials`` in all and say what it cost."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    simulate(make_plan(40, 2))  # imports and caches, once
    plan = make_plan(num_trials, num_arms)
    gc.collect()
    if trace:
        tracemalloc.start()
    return simulate(plan)


def make_plan(num_trials: int, num_arms: int) -> Plan:
    """Return a plan of the embedded task whose search tries about ``num_trials``."""
    schedules = ("adaptive", "step")[:num_arms]
    request = Request(
        tasks=("fashion_mnist_mini/cnn",),
        schedules=schedules,
        space_dir=default_space_dir(),
        precision="fp32",
        signals="steady",
        max_concurrent=SLOTS,
    )
    plan = prepare(request).plan
    budget = max(1.0, num_trials / num_arms / TRIALS_PER_FULL_RUN)
    tasks = [
        replace(plan.tasks[0], name=f"simulated-{index}/cnn", slots=SLOTS)
        for index in range(num_arms // len(schedules))
    ]
    return replace(
        plan,
        tasks=tuple(tasks),
        budget=budget,
        num_controls=max(0, min(round(CONTROL_SHARE * budget), math.floor(budget) - 1)),
    )


class SearchOnly(Stages):
    """Ends with the search."""

    def _sequence(self):  # type: ignore[no-untyped-def]
        self._begin("search")
        yield self._arms


def simulate(plan: Plan) -> Cost:
    """Run the search of ``plan`` without training."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        before = tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0
        with Ledger(Path(folder) / "ledger.jsonl") as ledger:
            progress = Progress(plan, Console(file=StringIO()))

            def note(event: Event) -> None:
                ledger.append(event)
                progress(event)

            stages = SearchOnly(plan, note)
            work(stages, SLOTS)
            search_s = time.process_time() - start
            if tracemalloc.is_tracing():
                gc.collect()
                memory = tracemalloc.get_traced_memory()[0] - before
                return Cost(stages.num_started, search_s, 0.0, memory)
            start = time.process_time()
            stages.save_studies(Path(folder) / "studies.db")
        return Cost(stages.num_started, search_s, time.process_time() - start, None)


def work(stages: Stages, slots: int) -> None:
    """Let every slot end an epoch in turn, until nothing is left to do."""
    running: dict[str, tuple[RunSpec, int]] = {}
    while not stages.exhausted:
        while len(running) < slots and (run := stages.next()) is not None:
            running[run.id] = run, 0
        for run, num_done in list(running.values()):
            running[run.id] = run, num_done + 1
            if stages.heard(run, answer(run, num_done + 1)) is not None:
                del running[run.id]


def answer(run: RunSpec, epoch: int) -> EpochResult:
    """Return what an epoch would say: best near lr = 2e-3, better with each epoch."""
    off = math.log10(run.configuration.recipe.lr / 2e-3)
    accuracy = 0.9 - 0.1 * off**2 - 0.2 * 0.6**epoch - run.configuration.recipe.weight_decay / 10
    return EpochResult(
        epoch=epoch,
        epoch_equivalents=float(epoch),
        num_steps=79 * epoch,
        planned_steps=79 * run.num_epochs,
        train_loss=1.0,
        val_loss=1.0,
        val_metric=accuracy,
        lrs=(1e-3,) * 20,
        lr_steps=tuple(range(0, 79, 4)),
        progress=epoch / run.num_epochs,
        train_s=0.6,
        eval_s=0.1,
        ended_at=0.0,
        ended=epoch == run.num_epochs,
    )


# ----------------------------------------------------------- Ray Tune's controller


def through_tune(num_runs: int) -> tuple[float, float]:
    """Hand ``num_runs`` to the engine with workers that answer immediately; return CPU, seconds."""
    import ray
    from ray import cloudpickle, tune

    from tune_adaptive.ray_backend import engine

    class Stub(tune.Trainable):
        def setup(self, config: dict[str, Any], **parameters: Any) -> None:
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.run, self.epoch = RunSpec.from_dict(new_config["run"]), 0
            return True

        def step(self) -> dict[str, Any]:
            self.epoch += 1
            return {"epoch": json.dumps(asdict(answer(self.run, self.epoch))), "signals": ""}

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import it
    engine.Worker = Stub  # type: ignore[misc, assignment]
    plan = make_plan(2, 2)
    plan = replace(plan, tasks=(replace(plan.tasks[0], slots=2),))
    runs = [
        RunSpec(f"run-{index}", "search", plan.tasks[0].name, Configuration("step"), index, 3)
        for index in range(num_runs)
    ]
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        with engine.quiet(verbose=False), tempfile.TemporaryDirectory() as folder:
            store = CheckpointStore(folder)
            engine.execute(FixedRuns(runs[:2]), plan, {}, {}, store)  # warm
            cpu, wall = time.process_time(), time.perf_counter()
            engine.execute(FixedRuns(runs), plan, {}, {}, store)
            return time.process_time() - cpu, time.perf_counter() - wall
    finally:
        ray.shutdown()


if __name__ == "__main__":
    typer.run(main)
