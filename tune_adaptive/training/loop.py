"""The hot loop: one run from step 0 to its horizon, an EpochResult an epoch.

Initialisation and data order depend on the seed only, so runs of different schedules
with the same seed are paired. No device is synchronised inside an epoch.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
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
from tune_adaptive.signals.resources import UsageMeter
from tune_adaptive.tasks import Task
from tune_adaptive.tasks.data import Description
from tune_adaptive.tasks.feed import Split, make_feed
from tune_adaptive.training.checkpoints import Checkpoint
from tune_adaptive.training.evaluate import autocast, evaluate
from tune_adaptive.training.observations import Observations

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
    training = _Run(run, material, heard, keeper)
    if kept is not None:
        training.load_state_dict(kept.num_epochs, kept.state)
        kept = None  # as large as the run itself
    yield from training.epochs(open_test, record)


@dataclass(slots=True)
class _EpochPart:
    """What an epoch adds up until it ends."""

    losses: list[Tensor] = field(default_factory=list)
    trace: list[tuple[int, float]] = field(default_factory=list)
    train_s: float = 0.0
    asked_s: float = 0.0  # of validation that the schedule asked for inside the epoch


class _Run:
    """A run: what it is made of, and all of it that changes from step to step."""

    def __init__(
        self, run: RunSpec, material: Material, heard: Sequence[Signal], keeper: Keeper | None
    ) -> None:
        task, device, recipe = material.task, material.device, run.configuration.recipe
        self._run, self._material, self._keeper = run, material, keeper
        self._total_steps = run.num_epochs * material.steps_per_epoch
        self._last_step = self._total_steps
        if run.slowdown:
            self._last_step = run.slowdown.affordable_steps(self._total_steps)
        torch.manual_seed(run.seed)
        self._order = torch.Generator().manual_seed(run.seed)
        model = task.build(material.description).to(device)
        self._model: nn.Module = model.to(memory_format=torch.channels_last)
        self._optimizer = build_optimizer(
            run.configuration.schedule,
            self._model.parameters(),
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            optimizer=task.optimizer,
        )
        self._schedule = self._build_schedule(heard)
        self._listener = Listener(self._schedule)
        self._feed = make_feed(material.description, task.augment, device, run.seed)
        self._meter = UsageMeter(device)
        # Counting them is slow: at the start and at the end.
        self._num_cotenants = self._meter.num_cotenants()
        self._observations = Observations(
            self._schedule, self._listener, self._meter, run, self._total_steps, heard
        )
        self._trace_every = max(1, material.steps_per_epoch // LR_POINTS_PER_EPOCH)
        self._num_epochs = self._num_steps = self._num_examples = 0
        self._order_before = self._order.get_state()  # the epoch's
        self._part = _EpochPart()
        self._resumed: Mapping[str, Any] | None = None  # inside an epoch

    def _build_schedule(self, heard: Sequence[Signal]) -> LRScheduler:
        run, material = self._run, self._material
        if run.hearing is not None and "lr" in run.hearing.names:
            return open_loop(self._optimizer, [s.lr for s in heard if s.lr is not None])
        horizon = Horizon(
            total_steps=self._total_steps,
            warmup_steps=round(run.configuration.recipe.warmup_frac * self._total_steps),
            complexity=material.description.complexity.value,
            timer=time.perf_counter if run.signals == "live" and not run.slowdown else None,
            time_budget_s=float(self._total_steps) if run.slowdown else run.time_budget_s,
            steps_per_epoch=material.steps_per_epoch,
            batch_size=material.task.batch_size,
        )
        configuration = run.configuration
        return SCHEDULES[configuration.schedule](
            self._optimizer, horizon, **configuration.parameters
        )

    def epochs(
        self,
        open_test: Callable[[], Split] | None,
        record: Callable[[list[Signal]], None] | None,
    ) -> Iterator[EpochResult]:
        """Train to the end; see :func:`train`."""
        while self._num_epochs < self._run.num_epochs:
            losses = self.train_epoch()
            with self._listener.paused():
                result = self._finish_epoch(losses, record)
                if result.ended and not result.diverged and open_test is not None:
                    loss, metric = self._evaluate(open_test())
                    if math.isfinite(loss):
                        result = replace(result, test_loss=loss, test_metric=metric)
                    else:
                        result = replace(result, diverged=True)
                yield result
            if result.ended:
                return
            self._num_cotenants = None

    def train_epoch(self) -> list[float]:
        """Train an epoch, or the rest of one; return the losses of all its steps [nats]."""
        self._model.train()
        set_mode(self._optimizer, training=True)
        self._order_before = self._order.get_state()
        batches = self._feed.train(
            self._material.train, self._material.task.batch_size, self._order
        )
        if self._resumed is None:
            self._part = _EpochPart()
        else:
            self._skip(batches, self._resumed)
            self._resumed = None
        part, keeper = self._part, self._keeper
        start = time.perf_counter() - part.train_s - part.asked_s
        for inputs, y in batches:
            self._train_step(inputs, y)
            if self._num_steps == self._last_step:
                break
            if self._listener.finished or self._listener.diverged:
                break
            if keeper is not None and keeper.is_due():
                start += self._keep(keeper, start)
        losses = torch.stack(part.losses).tolist()
        part.train_s = time.perf_counter() - start - part.asked_s
        self._num_epochs += 1
        return losses

    def _train_step(self, inputs: Sequence[Tensor], y: Tensor) -> None:
        model, optimizer, listener = self._model, self._optimizer, self._listener
        task, part = self._material.task, self._part
        lr = float(optimizer.param_groups[0]["lr"])
        if self._num_steps % self._trace_every == 0:
            part.trace.append((self._num_steps, lr))
        with autocast(self._material.device, self._run.precision):
            loss = task.loss(model(*inputs), y)
        loss.backward()
        grad_norm = val_loss = None
        if listener.wants_grad_norm:
            grads = [p.grad for p in model.parameters() if p.grad is not None]
            grad_norm = nn.utils.get_total_norm(grads)
        if task.clip_norm < math.inf:
            nn.utils.clip_grad_norm_(model.parameters(), task.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        part.losses.append(loss.detach())
        if listener.val_interval and (self._num_steps + 1) % listener.val_interval == 0:
            asked = time.perf_counter()
            val_loss, _ = self.validate()
            model.train()
            set_mode(optimizer, training=True)
            part.asked_s += time.perf_counter() - asked
        self._observations.step(self._num_steps, lr, part.losses[-1], grad_norm, val_loss)
        self._num_steps += 1
        self._num_examples += len(y)

    def validate(self) -> tuple[float, float]:
        """Return the loss [nats] and the metric on the validation split."""
        set_mode(self._optimizer, training=False)
        return self._evaluate(self._material.validation)

    def _evaluate(self, split: Split) -> tuple[float, float]:
        task, precision = self._material.task, self._run.precision
        return evaluate(self._model, task, self._feed, split, precision)

    def _finish_epoch(
        self, losses: list[float], record: Callable[[list[Signal]], None] | None
    ) -> EpochResult:
        listener, part, num_steps = self._listener, self._part, self._num_steps
        train_loss = statistics.fmean(losses)
        start = time.perf_counter()
        val_loss, val_metric = self.validate()
        diverged = listener.diverged or not (math.isfinite(train_loss) and math.isfinite(val_loss))
        progress = num_steps / self._total_steps
        if listener.progress is not None:
            progress = listener.progress
        usage = self._meter.read()
        if listener.observes and listener.val_interval is None:
            self._observations.val_loss(num_steps, val_loss)
        signals = self._observations.take(losses)
        if record is not None:
            record(signals)
        ended = diverged or listener.finished or progress >= 1.0 or num_steps == self._last_step
        if ended:
            self._num_cotenants = self._meter.num_cotenants()
        return EpochResult(
            epoch=self._num_epochs,
            epoch_equivalents=self._num_examples / len(self._material.train),
            num_steps=num_steps,
            planned_steps=self._total_steps,
            train_loss=train_loss,
            val_loss=val_loss,
            val_metric=val_metric,
            lrs=tuple(lr for _, lr in part.trace),
            lr_steps=tuple(step for step, _ in part.trace),
            progress=progress,
            train_s=part.train_s,
            eval_s=time.perf_counter() - start + part.asked_s,
            ended_at=time.time(),
            cpu_percent=usage.cpu_percent,
            rss_bytes=usage.rss_bytes,
            gpu_util=usage.gpu_util,
            gpu_mem_bytes=usage.gpu_mem_bytes,
            gpu_mem_fraction=usage.gpu_mem_fraction,
            node_cpu_percent=usage.node_cpu_percent,
            node_mem_fraction=usage.node_mem_fraction,
            num_cotenants=self._num_cotenants,
            ended=ended,
            diverged=diverged,
        )

    def _keep(self, keeper: Keeper, start: float) -> float:
        """Keep the run's state; return the seconds that it took."""
        part = self._part
        part.losses[-1].item()  # a device is waited for on the run's own time
        with self._listener.paused():
            paused = time.perf_counter()
            part.train_s = paused - start - part.asked_s
            keeper.keep(Checkpoint(self._run, self._num_epochs, self.state_dict()))
            return time.perf_counter() - paused

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes from step to step, inside an epoch."""
        part, device = self._part, self._material.device
        return {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "told": self._observations.state(),
            "order": self._order_before,
            "augmentation": self._feed.generator and self._feed.generator.get_state(),
            "rng": torch.get_rng_state(),
            "device_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "losses": torch.stack(part.losses),
            "trace": part.trace,
            "train_s": part.train_s,
            "asked_s": part.asked_s,
            "num_steps": self._num_steps,
            "num_examples": self._num_examples,
        }

    def load_state_dict(self, num_epochs: int, state: Mapping[str, Any]) -> None:
        """Take back a state, but for what the epoch's batches will draw; see :meth:`_skip`."""
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        for parameter, own in self._optimizer.state.items():
            for name, value in own.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    # Kept contiguous; a fused step wants the memory format of its parameter.
                    own[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        self._schedule.load_state_dict(state["schedule"])
        self._observations.restore(state["told"])
        self._order.set_state(state["order"])
        losses = list(state["losses"].to(self._material.device).unbind())
        self._part = _EpochPart(losses, state["trace"], state["train_s"], state["asked_s"])
        self._num_epochs, self._num_steps = num_epochs, state["num_steps"]
        self._num_examples = state["num_examples"]
        self._resumed = {name: state[name] for name in ("augmentation", "rng", "device_rng")}

    def _skip(self, batches: Iterator[Any], state: Mapping[str, Any]) -> None:
        """Pass over the batches that were trained on, and put the generators where they were."""
        for _ in itertools.islice(batches, len(self._part.losses)):
            pass
        if self._feed.generator is not None:
            self._feed.generator.set_state(state["augmentation"])
        torch.set_rng_state(state["rng"])
        if state["device_rng"] is not None:
            torch.cuda.set_rng_state(state["device_rng"], self._material.device)
