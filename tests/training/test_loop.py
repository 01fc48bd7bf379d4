"""The hot loop, on a tiny task."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR

from tune_adaptive.records.runs import Configuration, EpochResult, Recipe, RunSpec, Signal
from tune_adaptive.schedules import SCHEDULES, Horizon, is_installed
from tune_adaptive.schedules.simulate import replay
from tune_adaptive.signals.replay import dump_signals, read_signals
from tune_adaptive.tasks import Task
from tune_adaptive.tasks.data import Dataset, Description, Examples
from tune_adaptive.tasks.feed import Split
from tune_adaptive.training.loop import Material, train

CPU = torch.device("cpu")
NUM_TRAIN, BATCH = 100, 16


def tiny_data(seed: int = 0) -> Dataset:
    """Two classes that differ in brightness."""
    rng = np.random.default_rng(seed)

    def split(num: int) -> Examples:
        y = rng.integers(0, 2, num)
        x = rng.integers(0, 120, (num, 4, 4, 1)) + 100 * y[:, None, None, None]
        return Examples(x.astype(np.uint8), y.astype(np.int64))

    return Dataset(split(NUM_TRAIN), split(40), split(40))


def linear(data: Description) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, data.num_classes))


TASK = Task("tiny/linear", data=tiny_data, build=linear, batch_size=BATCH, num_epochs=3)


@pytest.fixture
def material() -> Material:
    data = TASK.load()
    return Material(
        TASK, data.describe(), Split.of(data.train, CPU), Split.of(data.validation, CPU)
    )


def spec(schedule: str = "constant", seed: int = 0, **recipe: float) -> RunSpec:
    configuration = Configuration(schedule, replace(Recipe(lr=0.01), **recipe))
    return RunSpec("r", "search", TASK.name, configuration, seed, 3, signals="steady")


def metrics(result: EpochResult) -> tuple[float, ...]:
    return result.train_loss, result.val_loss, result.val_metric, *result.lrs


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_learns_to_the_horizon(schedule: str, material: Material) -> None:
    results = list(train(spec(schedule), material))
    assert [result.epoch for result in results] == [1, 2, 3]
    assert [result.ended for result in results] == [False, False, True]
    assert [result.epoch_equivalents for result in results] == [1.0, 2.0, 3.0]
    assert results[-1].num_steps == 3 * math.ceil(NUM_TRAIN / BATCH)
    assert results[-1].progress == 1.0
    assert results[-1].val_metric > 0.9
    assert results[-1].train_loss < results[0].train_loss
    assert not any(result.test_metric for result in results)


def test_same_seed_same_metrics_other_seed_other(material: Material) -> None:
    first, again, other = (
        [metrics(result) for result in train(spec("adaptive", seed), material)]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_runs_of_different_schedules_are_paired(material: Material) -> None:
    """Initialisation and data order depend on the seed only."""
    seen: dict[str, list[torch.Tensor]] = {}
    for schedule in ("constant", "adaptive"):
        batches: list[torch.Tensor] = []

        class Spy(nn.Module):
            def __init__(self, data: Description, batches: list[torch.Tensor]) -> None:
                super().__init__()
                self.inner = linear(data)
                self.batches = batches
                batches.append(self.inner[1].weight.detach().clone())

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                if self.training:
                    self.batches.append(x.clone())
                return self.inner(x)

        spied = replace(TASK, build=lambda data, batches=batches, spy=Spy: spy(data, batches))
        list(train(spec(schedule), replace(material, task=spied)))
        seen[schedule] = batches
    assert len(seen["constant"]) == len(seen["adaptive"]) == 1 + 3 * 7
    for ours, theirs in zip(seen["constant"], seen["adaptive"], strict=True):
        assert torch.equal(ours, theirs)


def test_the_seed_does_not_depend_on_what_ran_before(material: Material) -> None:
    alone = [metrics(result) for result in train(spec(seed=5), material)]
    torch.rand(17)
    assert [metrics(result) for result in train(spec(seed=5), material)] == alone


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(material: Material) -> None:
    class Broken(nn.Module):
        def __init__(self, data: Description) -> None:
            super().__init__()
            self.inner, self.calls = linear(data), 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += self.training
            return self.inner(x) * (float("nan") if self.calls > 7 else 1.0)

    broken = replace(material, task=replace(TASK, build=Broken))
    for schedule in filter(is_installed, SCHEDULES):
        results = list(train(spec(schedule), broken, open_test=lambda: material.validation))
        assert [result.diverged for result in results] == [False, True]
        assert results[-1].ended
        assert results[-1].test_metric is None


def test_the_test_split_is_opened_once_at_the_end(material: Material) -> None:
    opened = []

    def open_test() -> Split:
        opened.append(len(results))
        return Split.of(TASK.load().test, CPU)

    results: list[EpochResult] = []
    for result in train(spec(), material, open_test):
        results.append(result)
    assert opened == [2]
    assert [result.test_metric is None for result in results] == [True, True, False]


def test_time_between_epochs_is_not_on_the_schedules_clock(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("tune_adaptive.training.loop.time.perf_counter", lambda: now[0])
    original: Callable[..., None] = torch.optim.AdamW.step

    def slow_step(self: torch.optim.AdamW) -> None:
        now[0] += 1.0
        original(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", slow_step)
    configuration = Configuration("adaptive", Recipe(), {"resource_weight": 1.0})
    run = replace(spec(), configuration=configuration, signals="live", num_epochs=8)
    progress = []
    for result in train(run, material):
        progress.append(result.progress)
        if result.epoch >= 4:  # the step time is known by now
            now[0] += 1000.0
    assert progress == [epoch / 8 for epoch in range(1, 9)]


def test_the_first_rule_hears_the_load_of_the_epoch_that_ends(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = iter([1.0] * 7 + [0.0] * 7 + [0.5] * 7)
    monkeypatch.setattr("tune_adaptive.training.loop.UsageMeter.load", lambda self: next(loads))
    parameters = {"complexity_weight": 0.0, "max_lr": 1.0}
    configuration = Configuration("resource_complexity", Recipe(lr=0.01), parameters)
    results = list(train(replace(spec(), configuration=configuration), material))
    base = 0.01 * math.sqrt(BATCH / 64)
    factors = [1.0, 2**-0.5, 2**0.5]  # no reading yet, then the epoch before's
    assert [result.lrs[0] for result in results] == pytest.approx([base * f for f in factors])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_was_recorded_gives_the_same_rates_bit_for_bit(
    schedule: str, material: Material, tmp_path: Path
) -> None:
    heard: list[Signal] = []
    run = replace(spec(schedule, warmup_frac=0.1), num_epochs=8, signals="live")
    results = list(train(run, material, record=heard.extend))
    file = tmp_path / "signals.jsonl"
    file.write_text(dump_signals(heard))
    recording = read_signals(file)
    assert recording == heard
    horizon = Horizon(
        total_steps=8 * 7,
        warmup_steps=6,
        complexity=material.description.complexity.value,
        timer=None,
        steps_per_epoch=7,
        batch_size=BATCH,
    )
    lrs = replay(schedule, horizon, recording, lr=0.01)
    assert len(lrs) == results[-1].num_steps
    if schedule == "plateau":  # heard between two steps
        between = [signal.val_loss for signal in recording if signal.lr is None]
        assert between == [result.val_loss for result in results]
    assert lrs == [signal.lr for signal in recording if signal.lr is not None]


def test_trained_again_with_its_signals_replayed_a_run_is_the_same(material: Material) -> None:
    """Losses are the run's own; step times, which would differ, are replayed."""
    first: list[Signal] = []
    again: list[Signal] = []
    configuration = Configuration("adaptive", Recipe(lr=0.01), {"resource_weight": 1.0})
    live = replace(spec(), configuration=configuration, num_epochs=8, signals="live")
    one = [metrics(result) for result in train(live, material, record=first.extend)]
    replayed = replace(live, signals="replay")
    two = [
        metrics(result) for result in train(replayed, material, record=again.extend, heard=first)
    ]
    assert one == two
    # The first step has no time of its own; what the machine was at is no part of it.
    assert [signal.lr for signal in again] == [signal.lr for signal in first]
    assert [signal.seconds for signal in again] == [signal.seconds for signal in first]


@pytest.mark.parametrize("stated", [True, False])
def test_slowed_down_in_the_middle_a_plan_in_time_ends_on_its_budget(
    stated: bool, material: Material
) -> None:
    """Twice as slow from 40% on: w = 1 ends within a step of W, w = 0 overruns it."""
    total = 20 * 7
    slowed = [
        Signal(step, lr=1.0, seconds=1.0 if step < 0.4 * total else 2.0) for step in range(total)
    ]
    taken = {}
    for weight in (0.0, 1.0):
        configuration = Configuration("adaptive", Recipe(lr=0.01), {"resource_weight": weight})
        run = replace(
            spec(),
            configuration=configuration,
            num_epochs=20,
            signals="replay",
            time_budget_s=float(total) if stated else None,
        )
        heard: list[Signal] = []
        *_, last = train(run, material, record=heard.extend, heard=slowed)
        assert last.progress == 1.0
        taken[weight] = sum(signal.seconds or 0.0 for signal in heard)
    assert total <= taken[1.0] < total + 2.0
    assert taken[0.0] == 1.6 * total


@pytest.mark.parametrize("listens", ["val_loss", "loss", "grad_norm"])
def test_the_second_rule_hears_whichever_signal_it_asks_for(
    listens: str, material: Material
) -> None:
    heard: list[Signal] = []
    parameters = {"interval": 3, "listens": listens}
    run = replace(spec(), configuration=Configuration("feedback", Recipe(lr=0.01), parameters))
    results = list(train(run, material, record=heard.extend))
    lrs = [lr for result in results for lr in result.lrs]
    assert len(set(lrs)) >= 4
    at_looks = [s for s in heard if s.lr is not None and (s.step + 1) % 3 == 0]
    assert all(getattr(signal, listens) is not None for signal in at_looks)
    if listens != "grad_norm":
        assert all(signal.grad_norm is None for signal in heard), "not computed unasked"


def test_the_second_rule_gets_the_validation_losses_it_asks_for(material: Material) -> None:
    asked = Configuration("feedback", Recipe(lr=0.01), {"interval": 3})
    results = list(train(replace(spec(), configuration=asked), material))
    changes = sum(before != after for result in results for before, after in pairwise(result.lrs))
    assert changes >= 4  # 21 steps, a look every 3, the first only remembers


def test_a_plateau_hears_each_epochs_validation_loss(material: Material) -> None:
    stuck = Configuration("plateau", Recipe(lr=1e-12), {"factor": 0.5, "patience": 0})
    results = list(train(replace(spec(), configuration=stuck), material))
    assert [result.lrs[0] for result in results] == [1e-12] * 3, "torch's eps is 1e-8"
    high = Configuration("plateau", Recipe(lr=30.0), {"factor": 0.5, "patience": 0})
    lrs = [r.lrs[0] for r in train(replace(spec(), configuration=high, num_epochs=8), material)]
    assert lrs[-1] < 30.0


def test_warm_up_comes_from_the_recipe(material: Material) -> None:
    first = next(iter(train(spec(warmup_frac=0.25), material)))
    assert first.lrs[:5] == pytest.approx([0.01 * (t + 1) / 5 for t in range(5)])


def test_bf16_trains_too(material: Material) -> None:
    *_, last = train(replace(spec(), precision="bf16"), material)
    assert last.val_metric > 0.9


def test_a_schedule_of_any_class_is_observed(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for validation losses and ends the run, without any base class of ours."""
    told: list[tuple[float, float | None]] = []

    class Own(ConstantLR):
        val_interval = 4
        finished = False

        def observe(self, loss: torch.Tensor | None, val_loss: float | None) -> None:
            if loss is not None:
                told.append((float(loss), val_loss))
            self.finished = len(told) == 10

    monkeypatch.setitem(SCHEDULES._given, "own", lambda optimizer, horizon: Own(optimizer, 1.0, 1))
    run = replace(spec(), configuration=Configuration("own", Recipe(lr=0.01), {}))
    results = list(train(run, material))
    assert (len(told), results[-1].num_steps, results[-1].ended) == (10, 10, True)
    assert [val_loss is not None for _, val_loss in told] == [t % 4 == 3 for t in range(10)]


def test_what_no_schedule_observes_is_not_in_the_recording(material: Material) -> None:
    rows: dict[str, list[Signal]] = {"step": [], "plateau": []}
    for schedule, heard in rows.items():
        list(train(spec(schedule), material, record=heard.extend))
    between = {name: sum(s.lr is None for s in heard) for name, heard in rows.items()}
    assert between == {"step": 0, "plateau": 3}
