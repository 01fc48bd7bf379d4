"""The hot loop: one run from step 0 to its horizon, an EpochResult an epoch.

Initialisation and data order depend on the seed only, so runs of different schedules
with the same seed are paired. No device is synchronised inside an epoch.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tune_adaptive.records.runs import EpochResult, RunSpec, Signal
from tune_adaptive.schedules import (
    SCHEDULES,
    Horizon,
    Listener,
    build_optimizer,
    open_loop,
    set_mode,
)
from tune_adaptive.schedules.listening import floats
from tune_adaptive.signals.resources import UsageMeter
from tune_adaptive.tasks import Task
from tune_adaptive.tasks.data import Description
from tune_adaptive.tasks.feed import Feed, Split, make_feed
from tune_adaptive.training.checkpoints import Checkpoint

LR_POINTS_PER_EPOCH = 20


@dataclass(frozen=True, slots=True)
class Material:
    """What a run trains on: the task, its description and the splits it may see."""

    task: Task
    description: Description
    train: Split
    validation: Split

    @property
    def device(self) -> torch.device:
        """Where the splits lie, and so where the run takes place."""
        return self.train.x.device

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch; the last batch may be smaller."""
        return math.ceil(len(self.train) / self.task.batch_size)


class Keeper(Protocol):
    """Keeps a run's state, so that it can be gone on with elsewhere."""

    def is_due(self) -> bool:
        """Whether it should be kept now; asked between any two steps."""

    def keep(self, checkpoint: Checkpoint) -> None:
        """Keep it."""


def train(
    run: RunSpec,
    material: Material,
    open_test: Callable[[], Split] | None = None,
    *,
    record: Callable[[list[Signal]], None] | None = None,
    heard: Sequence[Signal] = (),
    keeper: Keeper | None = None,
    kept: Checkpoint | None = None,
) -> Iterator[EpochResult]:
    """Train ``run`` on ``material``; yield one result an epoch, the last with ``ended``.

    The run ends at its horizon, when the schedule's budget is spent, or when a loss is
    not finite (``diverged``), or when an injected slowdown has used its time up. Time the
    caller spends between epochs is not on the clock.

    Args:
        run: What to train.
        material: What to train it on.
        open_test: Opens the test split; called once, after the last epoch of a run that
            did not diverge. ``None`` leaves it closed.
        record: Hears, before each result, what the schedule heard in the epoch.
        heard: A recording that the schedule hears, step by step, instead of this run; its
            last step goes on. Of it come what ``run.hearing`` names or, with ``run.signals``
            = ``replay``, seconds and load.
        keeper: Keeps the run's state whenever it asks for it.
        kept: What a keeper was given of this very run. It goes on from there and, where its
            signals do not depend on a clock, ends as it would have, bit for bit.
    """
    device, steps_per_epoch = material.device, material.steps_per_epoch
    total_steps = run.num_epochs * steps_per_epoch
    recipe = run.configuration.recipe
    task = material.task
    torch.manual_seed(run.seed)
    order = torch.Generator().manual_seed(run.seed)
    model = task.build(material.description).to(device)
    model = model.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(
        run.configuration.schedule,
        model.parameters(),
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        optimizer=task.optimizer,
    )
    horizon = Horizon(
        total_steps=total_steps,
        warmup_steps=round(recipe.warmup_frac * total_steps),
        complexity=material.description.complexity.value,
        timer=time.perf_counter if run.signals == "live" and not run.slowdown else None,
        time_budget_s=float(total_steps) if run.slowdown else run.time_budget_s,
        steps_per_epoch=steps_per_epoch,
        batch_size=task.batch_size,
    )
    if run.hearing is not None and "lr" in run.hearing.names:
        schedule: LRScheduler = open_loop(optimizer, [s.lr for s in heard if s.lr is not None])
    else:
        schedule = SCHEDULES[run.configuration.schedule](
            optimizer, horizon, **run.configuration.parameters
        )
    last_step = run.slowdown.affordable_steps(total_steps) if run.slowdown else total_steps
    listener = Listener(schedule)
    feed = make_feed(material.description, task.augment, device, run.seed)
    meter = UsageMeter(device)
    num_cotenants = meter.num_cotenants()
    told = _Told(schedule, listener, meter, run, total_steps, heard)
    trace_every = max(1, steps_per_epoch // LR_POINTS_PER_EPOCH)
    num_steps = num_examples = num_epochs_before = 0
    part: _EpochPart | None = None  # of an epoch that was begun elsewhere
    parts = _Parts(model, optimizer, schedule, feed, told)
    if kept is not None:
        num_epochs_before, num_steps = kept.num_epochs, kept.state["num_steps"]
        num_examples = kept.state["num_examples"]
        part = parts.restore(kept.state, order)

    for epoch in range(num_epochs_before + 1, run.num_epochs + 1):
        model.train()
        set_mode(optimizer, training=True)
        order_before = order.get_state()
        batches = feed.train(material.train, task.batch_size, order)
        if part is None:
            part = _EpochPart()
        elif kept is not None:
            parts.skip(batches, len(part.losses), kept.state)
            kept = None  # as large as the run itself
        losses, trace = part.losses, part.trace
        asked_s = part.asked_s  # validation that the schedule asked for inside the epoch
        start = time.perf_counter() - part.train_s - asked_s
        for inputs, y in batches:
            lr = float(optimizer.param_groups[0]["lr"])
            if num_steps % trace_every == 0:
                trace.append((num_steps, lr))
            with autocast(device, run.precision):
                loss = task.loss(model(*inputs), y)
            loss.backward()
            grad_norm = val_loss_asked = None
            if listener.wants_grad_norm:
                grads = [p.grad for p in model.parameters() if p.grad is not None]
                grad_norm = nn.utils.get_total_norm(grads)
            if task.clip_norm < math.inf:
                nn.utils.clip_grad_norm_(model.parameters(), task.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
            if listener.val_interval and (num_steps + 1) % listener.val_interval == 0:
                asked = time.perf_counter()
                set_mode(optimizer, training=False)
                val_loss_asked, _ = evaluate(model, task, feed, material.validation, run.precision)
                model.train()
                set_mode(optimizer, training=True)
                asked_s += time.perf_counter() - asked
            told.step(num_steps, lr, losses[-1], grad_norm, val_loss_asked)
            num_steps += 1
            num_examples += len(y)
            if num_steps == last_step:
                break
            if listener.finished or listener.diverged:
                break
            if keeper is not None and keeper.is_due():
                losses[-1].item()  # a device is waited for on the run's own time
                with listener.paused():
                    paused = time.perf_counter()
                    done = _EpochPart(losses, trace, paused - start - asked_s, asked_s)
                    state = parts.state(order_before, done)
                    state |= {"num_steps": num_steps, "num_examples": num_examples}
                    keeper.keep(Checkpoint(run, epoch - 1, state))
                    start += time.perf_counter() - paused
        losses_read = torch.stack(losses).tolist()
        train_loss = statistics.fmean(losses_read)
        train_s = time.perf_counter() - start - asked_s

        with listener.paused():
            start = time.perf_counter()
            set_mode(optimizer, training=False)
            val_loss, val_accuracy = evaluate(model, task, feed, material.validation, run.precision)
            diverged = listener.diverged or not (
                math.isfinite(train_loss) and math.isfinite(val_loss)
            )
            progress = num_steps / total_steps
            if listener.progress is not None:
                progress = listener.progress
            usage = meter.read()
            if listener.observes and listener.val_interval is None:
                told.val_loss(num_steps, val_loss)
            signals = told.take(losses_read)
            if record is not None:
                record(signals)
            ended = diverged or listener.finished or progress >= 1.0 or num_steps == last_step
            if ended:
                num_cotenants = meter.num_cotenants()
            result = EpochResult(
                epoch=epoch,
                epoch_equivalents=num_examples / len(material.train),
                num_steps=num_steps,
                planned_steps=horizon.total_steps,
                train_loss=train_loss,
                val_loss=val_loss,
                val_accuracy=val_accuracy,
                lrs=tuple(lr for _, lr in trace),
                lr_steps=tuple(step for step, _ in trace),
                progress=progress,
                train_s=train_s,
                eval_s=time.perf_counter() - start + asked_s,
                ended_at=time.time(),
                cpu_percent=usage.cpu_percent,
                rss_bytes=usage.rss_bytes,
                gpu_util=usage.gpu_util,
                gpu_mem_bytes=usage.gpu_mem_bytes,
                gpu_mem_fraction=usage.gpu_mem_fraction,
                node_cpu_percent=usage.node_cpu_percent,
                node_mem_fraction=usage.node_mem_fraction,
                num_cotenants=num_cotenants,
                ended=ended,
                diverged=diverged,
            )
            if ended and not diverged and open_test is not None:
                test_loss, accuracy = evaluate(model, task, feed, open_test(), run.precision)
                result = replace(result, test_loss=test_loss, test_accuracy=accuracy)
            yield result
        if ended:
            return
        part = None
        num_cotenants = None  # counting them is slow: at the start and at the end


@dataclass(slots=True)
class _EpochPart:
    """What an epoch adds up until it ends."""

    losses: list[Tensor] = field(default_factory=list)
    trace: list[tuple[int, float]] = field(default_factory=list)
    train_s: float = 0.0
    asked_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Parts:
    """All of a run that changes from step to step, but for its counters and its data's order."""

    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    feed: Feed
    told: "_Told"

    def state(self, order_before: Tensor, part: _EpochPart) -> dict[str, Any]:
        """Return the state; ``order_before`` is the data order's generator before the epoch."""
        device = part.losses[0].device
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "told": self.told.state(),
            "order": order_before,
            "augmentation": self.feed.generator and self.feed.generator.get_state(),
            "rng": torch.get_rng_state(),
            "device_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "losses": torch.stack(part.losses),
            "trace": part.trace,
            "train_s": part.train_s,
            "asked_s": part.asked_s,
        }

    def restore(self, state: Mapping[str, Any], order: Generator) -> _EpochPart:
        """Take back a state, but for what the epoch's batches will draw; see :meth:`skip`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter, own in self.optimizer.state.items():
            for name, value in own.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    # Kept contiguous; a fused step wants the memory format of its parameter.
                    own[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        self.schedule.load_state_dict(state["schedule"])
        self.told.restore(state["told"])
        order.set_state(state["order"])
        device = next(self.model.parameters()).device
        losses = list(state["losses"].to(device).unbind())
        return _EpochPart(losses, state["trace"], state["train_s"], state["asked_s"])

    def skip(self, batches: Iterator[Any], num: int, state: Mapping[str, Any]) -> None:
        """Pass over the batches that were trained on, and put the generators where they were."""
        for _ in itertools.islice(batches, num):
            pass
        if self.feed.generator is not None:
            self.feed.generator.set_state(state["augmentation"])
        torch.set_rng_state(state["rng"])
        if state["device_rng"] is not None:
            device = next(self.model.parameters()).device
            torch.cuda.set_rng_state(state["device_rng"], device)


class _Told:
    """Tells a run's schedule what happened, steps it, and keeps what it was told."""

    def __init__(
        self,
        schedule: LRScheduler,
        listener: Listener,
        meter: UsageMeter,
        run: RunSpec,
        total_steps: int,
        heard: Sequence[Signal],
    ) -> None:
        self._schedule = schedule
        self._listener = listener
        self._meter = meter
        self._slowdown = run.slowdown
        self._total_steps = total_steps
        self._recording = [signal for signal in heard if signal.lr is not None]
        replayed = () if run.slowdown else ("seconds", "load")
        self._names = run.hearing.names if run.hearing else replayed
        self._signals: list[Signal] = []
        self._grad_norms: list[float | Tensor] = []

    def step(
        self, step: int, lr: float, loss: Tensor, grad_norm: Tensor | None, val_loss: float | None
    ) -> None:
        """Tell of the optimizer step that ended; its tensors stay on their device unread."""
        heard: dict[str, Any] = {
            "loss": loss,
            "seconds": None,
            "grad_norm": grad_norm,
            "val_loss": val_loss,
            "load": self._meter.load(),
        }
        if self._slowdown is not None:
            heard["seconds"] = self._slowdown.step_s(step, self._total_steps)
            if heard["seconds"] > 1:
                heard["load"] = 1.0  # of all tenants: the other one takes what there is
        if self._recording:
            same = self._recording[min(step, len(self._recording) - 1)]
            heard |= {name: getattr(same, name) for name in self._names if name != "lr"}
        self._listener.observe(**heard)
        self._schedule.step()
        seconds = self._listener.step_s(heard["seconds"])
        if grad_norm is not None:
            self._grad_norms.append(grad_norm)
        load = heard["load"]
        self._signals.append(Signal(step, lr, seconds=seconds, val_loss=val_loss, load=load))

    def val_loss(self, step: int, val_loss: float) -> None:
        """Tell of a validation between two steps."""
        self._listener.observe(val_loss=val_loss)
        self._signals.append(Signal(step, val_loss=val_loss))

    def state(self) -> dict[str, Any]:
        """Return what was told since :meth:`take`."""
        return {
            "signals": [asdict(signal) for signal in self._signals],
            "grad_norms": floats(self._grad_norms),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state` returned."""
        self._signals = [Signal(**row) for row in state["signals"]]
        self._grad_norms = list(state["grad_norms"])

    def take(self, losses: Sequence[float]) -> list[Signal]:
        """Return what was told since the last call, with the losses of its steps."""
        loss, grad_norm = iter(losses), iter(floats(self._grad_norms))
        signals = [
            signal
            if signal.lr is None
            else replace(signal, loss=next(loss), grad_norm=next(grad_norm, None))
            for signal in self._signals
        ]
        self._signals, self._grad_norms = [], []
        return signals


@torch.inference_mode()
def evaluate(
    model: nn.Module, task: Task, feed: Feed, split: Split, precision: str
) -> tuple[float, float]:
    """Return the mean loss [nats] and the accuracy of ``model`` on ``split``."""
    model.eval()
    loss = torch.zeros((), device=split.x.device)
    num_correct = torch.zeros((), device=split.x.device)
    for inputs, y in feed.evaluate(split):
        with autocast(split.x.device, precision):
            logits = model(*inputs)
        loss += task.loss(logits.float(), y) * len(y)
        num_correct += (logits.argmax(1) == y).sum()
    return float(loss) / len(split), float(num_correct) / len(split)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context of a forward pass in ``precision`` (``fp32`` or ``bf16``)."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
