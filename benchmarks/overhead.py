"""What the schedule and the monitor cost a whole training: against a bare loop with StepLR.

    python benchmarks/overhead.py

Epochs of the embedded task on one thread in fp32: the bare loop (a forward, a backward, an
optimizer step and a StepLR step a batch, the epoch's loss read at its end) and
``tune_adaptive.training.loop.train`` with AdaptiveLR in live mode, its losses, signals and use of
the machine recorded. AdaptiveLR's bounds are both its base, so that it does all its work and
both take the very same steps; validation is cut to one example in both. Epochs alternate,
bare, ours, bare, in one process and are measured in its CPU seconds, the sampler's thread
included, because other tenants of the machine move wall-clock time by more than is to be
measured. The figures are over the ratios of ours to the mean of its two neighbours; the
control is the ratio of the neighbours.

The second table times the parts alone, without an epoch's noise: what is called once a step,
thousands of times in a row, and what is called once an epoch.
"""

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import StepLR

from tune_adaptive.analysis.stats import mean_interval
from tune_adaptive.records.runs import Configuration, Recipe, RunSpec, Signal
from tune_adaptive.schedules import SCHEDULES, AdaptiveLR, Horizon, build_optimizer
from tune_adaptive.signals.replay import dump_signals
from tune_adaptive.signals.resources import UsageMeter
from tune_adaptive.tasks import make_task
from tune_adaptive.tasks.feed import Split, make_feed
from tune_adaptive.training.evaluate import evaluate
from tune_adaptive.training.loop import Material, train

NUM_PAIRS = 120
SEED = 0


def bare(material: Material) -> Iterator[None]:
    """Train without end, an epoch at a time."""
    torch.manual_seed(SEED)
    order = torch.Generator().manual_seed(SEED)
    model = material.task.build(material.description).to(memory_format=torch.channels_last)
    optimizer = build_optimizer("step", model.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = StepLR(optimizer, step_size=10**6)
    mean = torch.tensor(material.description.mean).view(1, -1, 1, 1)
    std = torch.tensor(material.description.std).view(1, -1, 1, 1)
    feed = make_feed(material.description, "none", material.device, SEED)
    model.train()
    while True:
        losses = []
        permutation = torch.randperm(len(material.train), generator=order)
        for batch in permutation.split(material.task.batch_size):
            x, y = (material.train.x[batch] - mean).div_(std), material.train.y[batch]
            loss = cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            losses.append(loss.detach())
        float(torch.stack(losses).mean())
        evaluate(model, material.task, feed, material.validation, "fp32")
        model.train()
        yield


def ours(material: Material) -> Iterator[None]:
    """Train with AdaptiveLR and the monitor, an epoch at a time."""
    fixed = {"resource_weight": 1.0, "min_lr_ratio": 1.0, "max_lr_ratio": 1.0}
    configuration = Configuration("adaptive", Recipe(), fixed)
    run = RunSpec("", "final", material.task.name, configuration, SEED, 2 * NUM_PAIRS)
    heard: list[Signal] = []
    for _ in train(run, material, record=heard.extend):
        dump_signals(heard)  # as a worker does
        heard.clear()
        yield


def alone(material: Material) -> dict[str, float]:
    """Return seconds an epoch of the parts that the bare loop lacks, timed alone."""
    steps = material.steps_per_epoch
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = build_optimizer("adaptive", [weight], lr=1e-3, weight_decay=0.0)
    horizon = Horizon(total_steps=10**4)
    schedule = SCHEDULES["adaptive"](optimizer, horizon, resource_weight=1.0)
    assert isinstance(schedule, AdaptiveLR)
    optimizer.step()
    (hook,) = optimizer._optimizer_step_post_hooks.values()
    yardstick = StepLR(build_optimizer("step", [weight], lr=1e-3, weight_decay=0.0), 10**6)
    yardstick.optimizer.step()
    meter, loss, heard = UsageMeter(material.device), torch.tensor(1.0), []

    def step_schedule() -> None:
        schedule.observe(loss=loss)
        hook(optimizer, (), {})
        schedule.step()

    def step_monitor() -> None:
        heard.append(Signal(0, 1e-3, seconds=schedule.step_s, load=meter.load()))

    per_step = each(step_schedule, 5000) - each(yardstick.step, 5000)
    return {
        "schedule, beyond StepLR's": steps * per_step,
        "monitor, each step": steps * each(step_monitor, 5000),
        "monitor, each epoch": each(meter.read, 50),
    }


def sampler_share(seconds: float = 10.0) -> float:
    """Return the CPU seconds a second of this process at rest: of the node's sampler alone."""
    start = time.process_time()
    time.sleep(seconds)
    return (time.process_time() - start) / seconds


def cpu_s(loop: Iterator[None]) -> float:
    """Return the CPU seconds of the loop's next epoch."""
    start = time.process_time()
    next(loop)
    return time.process_time() - start


def each(call: Callable[[], object], num: int) -> float:
    """Return the mean seconds of a call."""
    start = time.perf_counter()
    for _ in range(num):
        call()
    return (time.perf_counter() - start) / num


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    task = make_task("fashion_mnist_mini/cnn")
    data = task.load()
    validation = Split.of(data.validation, cpu)
    one = Split(validation.x[:1], validation.y[:1])
    material = Material(task, data.describe(), Split.of(data.train, cpu), one)
    loops = [bare(material), ours(material), bare(material)]
    for _ in range(2):  # warm up
        for loop in loops:
            next(loop)
    rows = [[cpu_s(loop) for loop in loops] for _ in range(NUM_PAIRS)]
    epoch_s = statistics.median(first for first, _, _ in rows)
    print("| whole training | median ratio - 1 [%] | mean [%], 95% interval | pairs |")
    print("|---|---|---|---|")
    for name, excess in (
        ("schedule + monitor", [100 * (2 * x / (before + after) - 1) for before, x, after in rows]),
        ("bare loop (control)", [100 * (after / before - 1) for before, _, after in rows]),
    ):
        mean = mean_interval(excess)
        print(
            f"| {name} | {statistics.median(excess):+.2f} "
            f"| {mean.mean:+.2f} [{mean.low:+.2f}, {mean.high:+.2f}] | {mean.n} |"
        )
    print("\n| part alone | ms an epoch | of an epoch [%] |")
    print("|---|---|---|")
    parts = alone(material) | {"the node's sampler, beside it": sampler_share() * epoch_s}
    for name, seconds in [*parts.items(), ("all", sum(parts.values()))]:
        print(f"| {name} | {1000 * seconds:.3f} | {100 * seconds / epoch_s:.3f} |")


if __name__ == "__main__":
    main()
