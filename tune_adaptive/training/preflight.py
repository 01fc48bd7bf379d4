"""Whether a task can be trained: a step of each kind of batch, before anything is planned."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tune_adaptive.errors import InputError, located
from tune_adaptive.records.runs import Recipe
from tune_adaptive.schedules import build_optimizer
from tune_adaptive.system.own_code import persons_code
from tune_adaptive.tasks import Task
from tune_adaptive.tasks.data import Dataset, Description, Examples
from tune_adaptive.tasks.feed import Feed, Split, make_feed
from tune_adaptive.training.device import claimed_device
from tune_adaptive.training.evaluate import autocast

NUM_VALIDATED = 100


def sample(data: Dataset, batch_size: int) -> tuple[Examples, Examples]:
    """Return what :func:`try_out` needs of a data set: the first examples of its two splits."""
    return _head(data.train, batch_size), _head(data.validation, NUM_VALIDATED)


def _head(examples: Examples, num: int) -> Examples:
    return Examples(*(array[:num] for array in examples.arrays))


def try_out(
    task: Task,
    description: Description,
    training: Examples,
    validation: Examples,
    *,
    num_train: int,
    precision: str,
    on_gpu: bool,
) -> str | None:
    """Train on a whole batch and on the epoch's last, and validate a little.

    Args:
        task: What is tried.
        description: Of its data.
        training: The first batch of its training split.
        validation: Some of its validation split, >= 1.
        num_train: Size of the training split.
        precision: ``fp32`` or ``bf16``.
        on_gpu: Whether its runs get a share of a GPU.

    Returns:
        Why the epoch's last batch cannot be trained on, where that is one example alone and all
        others can be; None if there is nothing to leave out.

    Raises:
        InputError: It cannot be trained, and why.
        EnvironmentFault: It does not fit in memory.
    """
    with claimed_device(1, on_gpu) as device:
        with persons_code(f"{task.name}: its model"):
            model = _built(task, description).to(device)
            model = model.to(memory_format=torch.channels_last)
        feed = make_feed(description, task.augment, device, seed=0)
        trial = _Trial(task, model, feed, description, precision)
        first = Split.of(training, device)
        trial.train(first)
        held_out = Split.of(validation, device)
        trial.validate(held_out)
        trial.validate(_cut(held_out, 1))  # a last batch of one is nothing rare there
        num_last = num_train % task.batch_size
        if num_last in (0, len(first)):
            return None
        try:
            trial.train(_cut(first, num_last))
        except InputError as error:
            if num_last > 1:
                raise
            return located(error.__cause__ or error)
    return None


def as_trained(data: Dataset, num_train: int) -> Dataset:
    """Return ``data`` without the one example that a plan left out, if it left one out."""
    return data.with_train_size(num_train) if len(data.train) == num_train + 1 else data


def _built(task: Task, description: Description) -> nn.Module:
    """Build the model as each run does, and see that each run gets one of its own."""
    torch.manual_seed(0)
    model, another = task.build(description), task.build(description)
    if not isinstance(model, nn.Module):
        raise InputError(f"{task.name}: build must return a torch.nn.Module, is {_kind(model)}")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"{task.name}: its model has no parameter to train: all are frozen")
    if _places(model) & _places(another):
        raise InputError(
            f"{task.name}: build must return a fresh model each time: two of them share weights, "
            "so that a run would begin where the one before it ended; copy what it starts from"
        )
    return model


def _places(model: nn.Module) -> set[int]:
    """Return where in memory what is trained lies."""
    return {
        parameter.data_ptr()
        for parameter in model.parameters()
        if parameter.requires_grad and not is_lazy(parameter) and parameter.numel()
    }


@dataclass(frozen=True, slots=True)
class _Trial:
    """A model that is tried."""

    task: Task
    model: nn.Module
    feed: Feed
    description: Description
    precision: str

    def train(self, batch: Split) -> None:
        """Take a step on ``batch``, as a run does."""
        task, num = self.task, len(batch)
        what = f"{task.name}: a training batch of {num} example{'s' * (num > 1)}"
        with persons_code(what):
            [(inputs, y)] = self.feed.train(batch, num, torch.Generator().manual_seed(0))
            self.model.train()
            recipe = Recipe()
            optimizer = build_optimizer(
                "constant",
                self.model.parameters(),
                lr=recipe.lr,
                weight_decay=recipe.weight_decay,
                optimizer=task.optimizer,
            )
            with autocast(y.device, self.precision):
                loss = self._loss(self.model(*inputs), y)
            if not loss.requires_grad:
                raise InputError(
                    f"{task.name}: its loss cannot be differentiated: it depends on no parameter "
                    "that is trained"
                )
            if not torch.isfinite(loss):
                raise InputError(
                    f"{task.name}: its loss on a training batch of {num} is {loss.item()}: "
                    "every run would diverge"
                )
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    def validate(self, split: Split) -> None:
        """Evaluate ``split`` as a run does."""
        self.model.eval()
        with persons_code(f"{self.task.name}: validation"), torch.inference_mode():
            for inputs, y in self.feed.evaluate(split):
                with autocast(y.device, self.precision):
                    logits = self.model(*inputs)
                loss = self._loss(logits.float() if isinstance(logits, Tensor) else logits, y)
                measure = self.task.measure
                problem = None
                if measure.compute is None and torch.isfinite(loss):
                    problem = measure.problem(measure.value(loss, y, loss.item()))
                if problem is not None:
                    raise InputError(f"{self.task.name}: on some of its validation split {problem}")

    def _loss(self, logits: object, y: Tensor) -> Tensor:
        name, classes = self.task.name, self.description.targets == "classes"
        wanted = (len(y), self.description.num_classes)
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            raise InputError(
                f"{name}: its model must return logits, a tensor of numbers (N, K), is "
                f"{_kind(logits)}"
            )
        if classes and (
            logits.dim() != 2 or len(logits) != wanted[0] or logits.shape[1] < wanted[1]
        ):
            raise InputError(
                f"{name}: its model must return logits of shape (N, K) = {wanted}, one for each "
                f"of the {wanted[1]} classes, is {tuple(logits.shape)}"
            )
        if not classes and logits.shape != wanted:
            raise InputError(
                f"{name}: its model must return outputs of shape (N, M) = {wanted}, one for each "
                f"of the {self.description.targets}, is {tuple(logits.shape)}"
            )
        loss = self.task.loss(logits, y)
        if not isinstance(loss, Tensor) or not loss.is_floating_point() or loss.shape:
            raise InputError(
                f"{name}: its loss must be one number, the mean over the batch as a tensor of "
                f"shape (), is {_kind(loss)}"
            )
        return loss


def _cut(split: Split, num: int) -> Split:
    return Split(
        split.x[:num],
        split.y[:num],
        None if split.lengths is None else split.lengths[:num],
        None if split.widths is None else split.widths[:num],
    )


def _kind(value: object) -> str:
    """Say what ``value`` is: of a tensor its type and shape."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return type(value).__name__
