"""Optimizers within others: AdaptiveLR counts the steps that are taken, whoever takes them."""

import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.scheduler import AcceleratedScheduler
from accelerate.state import AcceleratorState
from torch import nn
from torch.distributed.algorithms.model_averaging.averagers import ModelAverager
from torch.distributed.optim import PostLocalSGDOptimizer
from torch.optim import SGD, AdamW, Optimizer

from tune_adaptive import AdaptiveLR

BASE = 0.1
PLAIN: dict[str, Any] = {"feedback": False, "hold": 0.0, "complexity_weight": 0, "timer": None}


class Averager(ModelAverager):
    """Averages nothing: there is one process."""

    def __init__(self) -> None:
        self.step = 0

    def average_parameters(self, params: Any) -> None:
        self.step += 1


class Lookahead(Optimizer):
    """Zhang et al. 2019, as it is often written: ``Optimizer.__init__`` is not called."""

    def __init__(self, optimizer: Optimizer, k: int = 2) -> None:
        self.optimizer, self.k, self.count = optimizer, k, 0
        self.param_groups, self.state = optimizer.param_groups, optimizer.state
        self.defaults = optimizer.defaults
        self.slow = [p.detach().clone() for g in self.param_groups for p in g["params"]]

    def step(self, closure: Any = None) -> Any:
        loss = self.optimizer.step(closure)
        self.count += 1
        if self.count % self.k == 0:
            fast = [p for g in self.param_groups for p in g["params"]]
            for slow, parameter in zip(self.slow, fast, strict=True):
                slow.lerp_(parameter.detach(), 0.5)
                parameter.data.copy_(slow)
        return loss


class SAM(Optimizer):
    """Foret et al. 2021 in its well-known form: two steps, and ``step`` is not called."""

    def __init__(self, params: Any, base: type[Optimizer], **options: Any) -> None:
        super().__init__(params, options)
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    def first_step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["old"] = parameter.detach().clone()
                parameter.data.add_(parameter.grad, alpha=0.05)

    def second_step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.copy_(self.state[parameter]["old"])
        self.base_optimizer.step()

    def step(self, closure: Any = None) -> None:
        raise AssertionError("two steps, please")


class Hidden(Optimizer):
    """Forwards to an optimizer that nobody finds, and has no hooks."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.within = [optimizer]
        self.param_groups, self.defaults = optimizer.param_groups, optimizer.defaults

    def step(self, closure: Any = None) -> Any:
        return self.within[0].step(closure)


def weights() -> nn.Parameter:
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    return parameter


def sgd() -> SGD:
    return SGD([weights()], lr=BASE)


def one_step(optimizer: Optimizer) -> None:
    optimizer.step()


def two_steps(optimizer: Any) -> None:
    optimizer.first_step()
    optimizer.second_step()


@pytest.fixture
def accelerator() -> Any:
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize(
    ("make", "step"),
    [
        (lambda: AcceleratedOptimizer(sgd()), one_step),
        (lambda: PostLocalSGDOptimizer(sgd(), Averager()), one_step),
        (lambda: Lookahead(sgd()), one_step),
        (lambda: Lookahead(Lookahead(sgd())), one_step),
        (lambda: SAM([weights()], SGD, lr=BASE), two_steps),
        (lambda: AcceleratedOptimizer(Lookahead(sgd()), device_placement=False), one_step),
    ],
    ids=["accelerate", "post-local-sgd", "lookahead", "lookahead-twice", "sam", "both"],
)
def test_it_counts_the_steps_of_an_optimizer_within(
    make: Callable[[], Optimizer], step: Callable[[Optimizer], None], accelerator: Accelerator
) -> None:
    optimizer = make()
    schedule = AdaptiveLR(optimizer, 10, **PLAIN)
    rates = []
    for t in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        step(optimizer)
        schedule.step()
        if t % 3 == 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                schedule.step()  # no step was taken: none is counted
    assert rates == pytest.approx([BASE * (1 - t / 10) for t in range(10)])
    assert schedule.finished


def test_a_bound_is_that_of_the_optimizer_within(accelerator: Accelerator) -> None:
    """Around SGD it was taken for an Adam, which is not probed above 1e-2."""

    def highest(optimizer: Optimizer) -> float:
        schedule = AdaptiveLR(optimizer, 10_000, feedback_interval=1, timer=None, batch_size=256)
        for _ in range(40):
            optimizer.step()
            schedule.observe(loss=1.0)
            schedule.step()
        return float(optimizer.param_groups[0]["lr"])

    assert highest(AcceleratedOptimizer(sgd())) == highest(sgd())
    adam = AdamW([weights()], lr=1e-3)
    assert highest(AcceleratedOptimizer(adam)) == highest(AdamW([weights()], lr=1e-3))


def test_without_any_hooks_each_call_counts_and_it_is_said() -> None:
    optimizer = Hidden(sgd())
    with pytest.warns(UserWarning, match="Hidden has no hooks.*each call.* counts") as caught:
        schedule = AdaptiveLR(optimizer, 10, **PLAIN)
    assert caught[0].filename == __file__
    for _ in range(10):
        optimizer.step()
        schedule.step()
    assert schedule.finished


def test_standing_still_is_said_once() -> None:
    optimizer = sgd()
    schedule = AdaptiveLR(optimizer, 100, **PLAIN)
    optimizer.step()
    schedule.step()
    with pytest.warns(UserWarning, match=r"ignored 20 calls of step\(\) in a row.*SGD") as caught:
        for _ in range(60):
            schedule.step()
    assert [each.filename for each in caught] == [__file__]


def test_a_step_that_accelerate_skips_is_none() -> None:
    """Its scaler skips the optimizer within; accumulated micro-batches it skips itself."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    try:
        model = nn.Linear(1, 1)
        optimizer = SGD(model.parameters(), lr=BASE)
        schedule = AdaptiveLR(optimizer, 5, **PLAIN)
        model, optimizer, prepared = accelerator.prepare(model, optimizer, schedule)
        for _ in range(20):
            with accelerator.accumulate(model):
                accelerator.backward(model(torch.ones(1, 1)).sum())
                optimizer.step()
                prepared.step()
                optimizer.zero_grad()
        assert (schedule.last_epoch, schedule.progress) == (5, 1.0)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


class TwoProcesses:
    """What an ``AcceleratedScheduler`` asks of Accelerate's state."""

    num_processes = 2


@pytest.mark.parametrize(
    "options", [{"step_with_optimizer": False}, {"split_batches": True}, {}], ids=str
)
def test_calls_for_each_process_are_refused_with_the_remedy(
    options: dict[str, bool], accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.scheduler.AcceleratorState", TwoProcesses)
    optimizer = AcceleratedOptimizer(sgd())
    schedule = AdaptiveLR(optimizer, 10, **PLAIN)
    prepared = AcceleratedScheduler(schedule, optimizer, **options)
    if not options:
        optimizer.step()
        with pytest.raises(ValueError, match=r"2 times per optimizer step.*step_scheduler_with"):
            prepared.step()
        return
    for _ in range(10):
        optimizer.step()
        prepared.step()
    assert schedule.finished


TRAIN = """
import sys, torch
from accelerate import Accelerator
from tune_adaptive.schedules.adaptive import AdaptiveLR
accelerator = Accelerator(cpu=True, step_scheduler_with_optimizer=sys.argv[1] == "True")
assert accelerator.num_processes == 2
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
schedule = AdaptiveLR(optimizer, 6, feedback=False, hold=0.0, complexity_weight=0, timer=None)
model, optimizer, prepared = accelerator.prepare(model, optimizer, schedule)
for _ in range(6):
    accelerator.backward(model(torch.ones(1, 1)).sum())
    optimizer.step()
    prepared.step()
print(schedule.last_epoch, schedule.progress, optimizer.param_groups[0]["lr"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("with_optimizer", [True, False])
def test_two_real_processes_end_together_or_are_refused(
    with_optimizer: bool, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(with_optimizer)],
            env=os.environ
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
            | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for process in running:
        out, err = process.communicate(timeout=120)
        if with_optimizer:
            assert process.returncode == 1
            assert "step_scheduler_with_optimizer=False" in err
        else:
            assert (process.returncode, out.split()) == (0, ["6", "1.0", "0.0"]), err
