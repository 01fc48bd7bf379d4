"""A run that is cut and gone on with elsewhere ends as if it had not been."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.training.test_loop import CPU, TASK
from tune_adaptive.errors import EnvironmentFault
from tune_adaptive.records.runs import Configuration, EpochResult, Recipe, RunSpec, Signal
from tune_adaptive.schedules import SCHEDULES
from tune_adaptive.tasks.data import Dataset, Description, Examples
from tune_adaptive.tasks.feed import Split
from tune_adaptive.training.checkpoints import Checkpoint, CheckpointStore
from tune_adaptive.training.loop import Material, train


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads cost more than they bring on so little work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Cut(Exception):
    """The process ended."""


class KeepAt:
    """Keeps the state after some steps, and ends the process if asked to."""

    def __init__(self, step: int, cut: bool = True) -> None:
        self.left, self.cut = step, cut
        self.kept: bytes | None = None

    def is_due(self) -> bool:
        self.left -= 1
        return self.left == 0

    def keep(self, checkpoint: Checkpoint) -> None:
        self.kept = checkpoint.to_bytes()
        if self.cut:
            raise Cut


def net(data: Description) -> nn.Module:
    """All that a state has to hold: random numbers, running statistics, channels_last weights."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(64, data.num_classes),
    )


def material(**options: object) -> Material:
    task = replace(TASK, build=net, augment="shift", **options)  # type: ignore[arg-type]
    data = task.load()
    return Material(
        task, data.describe(), Split.of(data.train, CPU), Split.of(data.validation, CPU)
    )


def spec(schedule: str) -> RunSpec:
    recipe = Recipe(lr=0.01, warmup_frac=0.1)
    return RunSpec(
        "r", "search", TASK.name, Configuration(schedule, recipe), 3, 3, signals="steady"
    )


def told(results: list[EpochResult]) -> list[object]:
    return [(r.epoch, r.num_steps, r.train_loss, r.val_loss, r.lrs, r.lr_steps) for r in results]


STEPS_PER_EPOCH = 7


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_cut_anywhere_goes_on_to_the_same_end(schedule: str) -> None:
    run, on = spec(schedule), material()
    signals: list[Signal] = []
    whole = list(train(run, on, record=signals.extend))
    for step in (1, STEPS_PER_EPOCH, 9, 20):
        keeper = KeepAt(step)
        heard: list[Signal] = []
        results: list[EpochResult] = []
        with pytest.raises(Cut):
            results.extend(train(run, on, record=heard.extend, keeper=keeper))
        assert keeper.kept is not None
        kept = Checkpoint.from_bytes(keeper.kept)
        assert kept.num_epochs == (step - 1) // STEPS_PER_EPOCH
        del heard[_num_signals(signals, kept.num_epochs * STEPS_PER_EPOCH) :]
        torch.rand(5)
        rest = list(train(run, on, record=heard.extend, kept=kept))
        assert told(rest) == told(whole[kept.num_epochs :])
        assert heard == signals


def _num_signals(signals: list[Signal], num_steps: int) -> int:
    return sum(s.step < num_steps + (s.lr is None) for s in signals)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_each_optimizer_goes_on(optimizer: str) -> None:
    run, on = spec("adaptive"), material(optimizer=optimizer)
    keeper = KeepAt(10)
    with pytest.raises(Cut):
        list(train(run, on, keeper=keeper))
    assert keeper.kept is not None
    assert told(list(train(run, on, kept=Checkpoint.from_bytes(keeper.kept)))) == told(
        list(train(run, on))[1:]
    )


def test_texts_go_on() -> None:
    rng = np.random.default_rng(0)

    def split(num: int) -> Examples:
        y = rng.integers(0, 2, num)
        lengths = rng.integers(1, 9, num).astype(np.int32)
        x = (1 + y[:, None] + 2 * rng.integers(0, 3, (num, 9))).astype(np.int32)
        x[np.arange(9) >= lengths[:, None]] = 0
        return Examples(x, y.astype(np.int64), lengths)

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.EmbeddingBag(10, 4)
            self.out = nn.Sequential(nn.Dropout(0.1), nn.Linear(4, 2))

        def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return self.out(self.embedding(x.long()))

    data = Dataset(split(100), split(40), split(40))
    task = replace(TASK, data=lambda: data, build=lambda data: Mean())
    on = Material(task, data.describe(), Split.of(data.train, CPU), Split.of(data.validation, CPU))
    run, keeper = spec("feedback"), KeepAt(11)
    with pytest.raises(Cut):
        list(train(run, on, keeper=keeper))
    assert keeper.kept is not None
    assert told(list(train(run, on, kept=Checkpoint.from_bytes(keeper.kept)))) == told(
        list(train(run, on))[1:]
    )


def test_keeping_changes_nothing() -> None:
    run, on = spec("adaptive"), material()
    keeper = KeepAt(4, cut=False)
    assert told(list(train(run, on, keeper=keeper))) == told(list(train(run, on)))
    assert keeper.kept is not None


def state() -> Checkpoint:
    held = {
        "weights": {
            "a": torch.arange(6.0).reshape(2, 3).t(),
            3: torch.tensor(1, dtype=torch.int64),
        },
        "plain": [None, True, 2, -0.5, "x", (1, [2.0])],
    }
    return Checkpoint(spec("step"), 2, held)


def test_what_was_written_is_read() -> None:
    loaded = Checkpoint.from_bytes(state().to_bytes())
    assert (loaded.run, loaded.num_epochs) == (spec("step"), 2)
    assert loaded.state["plain"] == state().state["plain"]
    for key, tensor in state().state["weights"].items():
        assert torch.equal(loaded.state["weights"][key], tensor)
        assert loaded.state["weights"][key].dtype == tensor.dtype
    with pytest.raises(TypeError, match="cannot hold"):
        Checkpoint(spec("step"), 0, {"x": object()}).to_bytes()


DUMPED = state().to_bytes()


@given(st.integers(0, len(DUMPED) - 1), st.none() | st.integers(1, 255))
def test_a_checkpoint_torn_or_damaged_anywhere_is_no_checkpoint(at: int, flip: int | None) -> None:
    torn = DUMPED[:at]
    if flip is not None:
        torn += bytes([DUMPED[at] ^ flip]) + DUMPED[at + 1 :]
    try:
        loaded = Checkpoint.from_bytes(torn)
    except ValueError:
        return
    # JSON has more than one spelling of the same header.
    assert loaded.run == spec("step") and loaded.to_bytes() == DUMPED


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointStore:
    roots = {"folder": str(tmp_path / "checkpoints"), "memory": f"memory://{tmp_path}"}
    store = CheckpointStore(roots[request.param])
    store.open()
    return store


def test_a_store_keeps_one_checkpoint_a_run(store: CheckpointStore) -> None:
    assert store.read(spec("step")) is None
    store.write(state())
    store.write(replace(state(), num_epochs=3))
    kept = store.read(spec("step"))
    assert kept is not None and kept.num_epochs == 3
    assert store.read(replace(spec("step"), seed=4)) is None, "it is of another run"
    store.remove("r")
    store.remove("r")
    assert store.read(spec("step")) is None


def test_a_store_passes_on_that_work_should_stop(store: CheckpointStore) -> None:
    assert not store.is_asked_to_stop()
    store.ask_to_stop()
    assert CheckpointStore(store.root).is_asked_to_stop()
    store.open()
    assert not store.is_asked_to_stop()


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(str(tmp_path))
    store.write(state())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.write(replace(state(), num_epochs=3))
    kept = store.read(spec("step"))
    assert kept is not None and kept.num_epochs == 2


def test_a_store_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        CheckpointStore(str(tmp_path / "file" / "checkpoints")).open()
