"""What a training loop asks of any scheduler, whatever its class."""

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR

from tune_adaptive.schedules import SCHEDULES, Horizon, Listener, ListeningLR
from tune_adaptive.schedules.simulate import simulate

ALL = {"loss": 1.0, "seconds": 2.0, "grad_norm": 3.0, "val_loss": None, "load": 0.5}


def sgd() -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


class Own(ConstantLR):
    """A schedule of a person's own, no subclass of ours."""

    def __init__(self, optimizer: Any, total_steps: int) -> None:
        self.heard: list[Any] = []
        super().__init__(optimizer, 1.0, total_steps)


def test_a_scheduler_without_any_of_it_has_the_defaults() -> None:
    listener = Listener(ConstantLR(sgd()))
    listener.observe(**ALL)
    with listener.paused():
        pass
    assert listener.val_interval is listener.progress is None
    assert listener.finished is listener.diverged is listener.wants_grad_norm is False
    assert listener.step_s(1.5) == 1.5
    assert not listener.observes


@pytest.mark.parametrize(
    ("observe", "heard"),
    [
        (lambda heard: lambda loss: heard.append(loss), [1.0]),
        (lambda heard: lambda **signals: heard.append(signals), [ALL]),
        (lambda heard: lambda loss, **rest: heard.append((loss, len(rest))), [(1.0, 4)]),
        (lambda heard: lambda *, load, loss=None: heard.append((loss, load)), [(1.0, 0.5)]),
        (lambda heard: lambda val_loss: heard.append(val_loss), []),
        (lambda heard: lambda loss, patience=3: heard.append((loss, patience)), [(1.0, 3)]),
        (lambda heard: lambda loss, *rest: heard.append((loss, rest)), [(1.0, ())]),
    ],
)
def test_it_is_told_what_its_observe_takes(observe: Any, heard: list[Any]) -> None:
    schedule: Any = Own(sgd(), 10)
    schedule.observe = observe(schedule.heard)
    Listener(schedule).observe(**ALL)
    assert schedule.heard == heard


def test_between_two_steps_it_is_told_the_validation_loss_if_it_takes_it() -> None:
    for takes, heard in ((lambda h: lambda loss: h.append(loss), []),):
        schedule: Any = Own(sgd(), 10)
        schedule.observe = takes(schedule.heard)
        Listener(schedule).observe(val_loss=0.7)
        assert schedule.heard == heard
    schedule = Own(sgd(), 10)
    schedule.observe = lambda loss, val_loss: schedule.heard.append((loss, val_loss))
    Listener(schedule).observe(val_loss=0.7)
    assert schedule.heard == [(None, 0.7)]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"observe": lambda metric: None}, r"Own.observe needs metric; .* loss, seconds, grad_no"),
        ({"observe": lambda loss, epoch: None}, "Own.observe needs epoch"),
        ({"observe": lambda loss, /: None}, "Own.observe needs loss"),
        ({"observe": lambda: None}, "Own.observe takes none of the signals"),
        ({"observe": lambda metric=None: None}, "Own.observe takes none of the signals"),
        ({"observe": "every step"}, "Own.observe cannot be called"),
        ({"val_interval": 0}, "Own.val_interval must be >= 1, got Own.val_interval = 0"),
        ({"val_interval": "epoch"}, "Own.val_interval must be a whole number >= 1"),
        ({"val_interval": True}, "Own.val_interval must be a whole number >= 1"),
        ({"finished": lambda: False}, r"Own.finished must be True or False .*property"),
        ({"diverged": 0}, "Own.diverged must be True or False"),
        ({"wants_grad_norm": "yes"}, "Own.wants_grad_norm must be True or False"),
        ({"progress": 1.5}, r"Own.progress must be None or in \[0, 1\], got 1.5"),
        ({"progress": float("nan")}, "Own.progress must be None or in"),
        ({"paused": True}, "Own.paused must be a method"),
    ],
)
def test_what_cannot_be_used_is_refused_when_it_is_built(
    attributes: dict[str, Any], message: str
) -> None:
    schedule = Own(sgd(), 10)
    vars(schedule).update(attributes)
    with pytest.raises(ValueError, match=message):
        Listener(schedule)


def test_what_it_provides_is_asked_for() -> None:
    stopped: list[str] = []

    @contextmanager
    def paused() -> Any:
        stopped.append("in")
        yield
        stopped.append("out")

    schedule: Any = Own(sgd(), 10)
    vars(schedule).update(
        val_interval=np.int64(3), wants_grad_norm=True, progress=np.float32(0.5), step_s=7.0
    )
    schedule.paused = paused
    listener = Listener(schedule)
    schedule.finished = np.bool_(True)
    with listener.paused():
        assert stopped == ["in"]
    assert (listener.val_interval, listener.progress, listener.step_s(1.0)) == (3, 0.5, 7.0)
    assert listener.finished is listener.wants_grad_norm is True
    assert stopped == ["in", "out"]


def test_ours_gets_all_and_is_no_special_case() -> None:
    class Ours(ListeningLR):
        def get_lr(self) -> Any:
            return [group["lr"] for group in self.optimizer.param_groups]

        def observe(self, loss: Any = None, **signals: Any) -> None:
            self.heard = SimpleNamespace(loss=loss, **signals)

    schedule = Ours(sgd())
    Listener(schedule).observe(**ALL)
    assert vars(schedule.heard) == ALL


def test_a_registered_schedule_of_any_class_is_observed(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def builder(optimizer: Any, horizon: Horizon) -> Any:
        schedule: Any = ConstantLR(optimizer, 1.0, horizon.total_steps)
        schedule.observe = lambda loss: told.append(loss)
        return schedule

    monkeypatch.setitem(SCHEDULES._given, "own", builder)
    simulate("own", Horizon(3, timer=None), losses=[3.0, 2.0, 1.0])
    assert told == [3.0, 2.0, 1.0]
