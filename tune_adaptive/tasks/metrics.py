"""The metrics that a task can name; each is one entry of ``METRICS``.

Where torchmetrics has one, it is computed there, on the device of the model.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tune_adaptive.errors import InputError, did_you_mean
from tune_adaptive.records.metric import MARGIN, Metric
from tune_adaptive.system.own_code import persons_code
from tune_adaptive.tasks.data import Targets

Array = npt.NDArray[Any]
Loss = Callable[[Tensor, Tensor], Tensor]

DISCRETE: tuple[Targets, ...] = ("classes", "labels")
ALL: tuple[Targets, ...] = (*DISCRETE, "numbers")
TINY = 1e-6
MAX_LOSS = 300.0  # whose exponential is a number that can be squared


@dataclass(frozen=True, slots=True)
class Measure(Metric):
    """A metric and how it is computed.

    Attributes:
        compute: Returns its value, a number or a tensor of shape (), of a split's outputs and
            targets: (N, K) and (N,) of classes; (N, M) both of labels and of numbers. None: the
            metric is the task's loss.
        of_loss: Where it is, what is made of the loss; None leaves it.
        chance: What guessing reaches, of the training targets and the task's loss: runs that
            diverged count as that. None: the worst value there is.
        targets: What it is of: ``classes``, ``labels`` (0 or 1, any number of which may apply)
            or ``numbers``.

    Example:
        >>> top_2 = Measure("top-2 accuracy", compute=lambda outputs, y: (
        ...     outputs.topk(2).indices == y[:, None]).any(1).float().mean())
        >>> top_2.value(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([1]), loss=0.0)
        1.0
    """

    compute: Callable[[Tensor, Tensor], Tensor | float] | None = None
    of_loss: Callable[[float], float] | None = None
    chance: Callable[[Array, Loss], float] | None = None
    targets: tuple[Targets, ...] = ALL

    def problems(self) -> Iterator[str]:
        """Say what of its own fields cannot be."""
        yield from Metric.problems(self)
        for name in ("compute", "of_loss", "chance"):
            if not (getattr(self, name) is None or callable(getattr(self, name))):
                yield f"{name} {getattr(self, name)!r}: must be a function"
        if not isinstance(self.targets, tuple) or not {*self.targets} <= {*ALL}:
            yield f"targets {self.targets!r}: must be some of {', '.join(ALL)}, in a tuple"

    @property
    def plain(self) -> Metric:
        """What a plan keeps of it."""
        return Metric(**{each.name: getattr(self, each.name) for each in fields(Metric)})

    def fits(self, targets: Targets) -> bool:
        """Whether it is a metric for such targets."""
        return targets in self.targets

    def value(self, outputs: Tensor, targets: Tensor, loss: float) -> float:
        """Return the metric of a split.

        Args:
            outputs: Of the model.
            targets: Of the split.
            loss: Their mean loss.
        """
        if self.compute is None:
            return loss if self.of_loss is None else self.of_loss(loss)
        return float(self.compute(outputs, targets))

    def of_guessing(self, targets: Array, loss: Loss) -> float:
        """Return what guessing reaches on ``targets``, those of the training split.

        Raises:
            InputError: The metric's own ``chance`` raised something.
        """
        if self.chance is None:
            return self.worst
        with persons_code(f"metric {self.name}: chance"):
            return float(self.chance(targets, loss))


def _accuracy(outputs: Tensor, targets: Tensor) -> float:
    if targets.is_floating_point():
        return float(((outputs > 0) == (targets > 0)).double().mean())
    return int((outputs.argmax(1) == targets).sum()) / len(targets)


def _balanced_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    from torchmetrics.functional.classification import multiclass_recall

    recalls = multiclass_recall(outputs, targets, outputs.shape[1], average=None)
    return recalls[targets.unique()].mean()


def _macro_f1(outputs: Tensor, targets: Tensor) -> Tensor:
    from torchmetrics.functional.classification import binary_f1_score, multiclass_f1_score

    if targets.is_floating_point():
        return _by_label(binary_f1_score, outputs, targets)
    return multiclass_f1_score(outputs, targets, outputs.shape[1], average="macro")


def _auroc(outputs: Tensor, targets: Tensor) -> Tensor | float:
    """One class against all others, or one label, the mean over those that the split has."""
    from torchmetrics.functional.classification import binary_auroc, multiclass_auroc

    if targets.is_floating_point():
        shares = targets.mean(0)
        has_both = (shares > 0) & (shares < 1)
        return _by_label(binary_auroc, outputs[:, has_both], targets[:, has_both])
    with warnings.catch_warnings():  # of classes that it has not
        warnings.filterwarnings("ignore", message="No (positive|negative) samples")
        probabilities = outputs.double().softmax(1)  # in float32 large logits tie
        areas = multiclass_auroc(probabilities, targets, outputs.shape[1], average=None)
    present = targets.unique()
    return areas[present].mean() if len(present) > 1 else math.nan


def _by_label(
    metric: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor
) -> Tensor:
    """Return the mean of a metric over the labels."""
    probabilities = outputs.double().sigmoid()
    columns = zip(probabilities.T, targets.long().T, strict=True)
    values = [metric(*column) for column in columns]
    return torch.stack(values).mean() if values else torch.tensor(math.nan)


def _r2(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 - the sum of squared errors over that of the mean; the mean over the columns."""
    squares = ((targets - targets.mean(0)) ** 2).sum(0)
    return (1 - ((outputs - targets) ** 2).sum(0) / squares).mean()


def _one_in_k(targets: Array, loss: Loss) -> float:
    return 0.5 if targets.ndim > 1 else 1 / len(np.unique(targets))


def _macro_f1_of_guessing(targets: Array, loss: Loss) -> float:
    """Of K classes alike: F1 of one with share s is 2 s / (K s + 1); of labels, K = 2."""
    if targets.ndim > 1:
        num, shares = 2, targets.mean(axis=0)
    else:
        counts = np.unique(targets, return_counts=True)[1]
        num, shares = len(counts), counts / counts.sum()
    return float(np.mean(2 * shares / (num * shares + 1)))


def _loss_of_guessing(targets: Array, loss: Loss) -> float:
    """Of an answer that is the same for every example: the logits of the shares, or the means."""
    if targets.ndim == 1:
        answer = np.log(np.bincount(targets) / len(targets))
    else:
        answer = targets.mean(axis=0)
        if targets.dtype == np.bool_:
            answer = np.log(answer + TINY) - np.log1p(TINY - answer)
            targets = targets.astype(np.float32)
    outputs = torch.from_numpy(answer).float().expand(len(targets), -1)
    return float(loss(outputs, torch.from_numpy(targets)))


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, MAX_LOSS))


METRICS: dict[str, Measure] = {
    measure.name.replace(" ", "_").lower(): measure
    for measure in (
        Measure("accuracy", margin=MARGIN, compute=_accuracy, chance=_one_in_k, targets=DISCRETE),
        Measure(
            "balanced accuracy",
            margin=MARGIN,
            compute=_balanced_accuracy,
            chance=_one_in_k,
            targets=("classes",),
        ),
        Measure(
            "macro F1",
            margin=MARGIN,
            compute=_macro_f1,
            chance=_macro_f1_of_guessing,
            targets=DISCRETE,
        ),
        Measure(
            "AUROC",
            margin=MARGIN,
            compute=_auroc,
            chance=lambda targets, loss: 0.5,
            targets=DISCRETE,
        ),
        Measure(
            "MAE",
            greater_is_better=False,
            high=math.inf,
            unit="",
            compute=lambda outputs, targets: (outputs - targets).abs().mean(),
            chance=lambda targets, loss: np.abs(targets - np.median(targets, axis=0)).mean(),
            targets=("numbers",),
        ),
        Measure(
            "R2",
            low=-math.inf,
            unit="",
            compute=_r2,
            chance=lambda targets, loss: 0.0,
            targets=("numbers",),
        ),
        Measure(
            "loss",
            greater_is_better=False,
            low=-math.inf,
            high=math.inf,
            unit="",
            chance=_loss_of_guessing,
        ),
        Measure(
            "perplexity",
            greater_is_better=False,
            low=1.0,
            high=math.inf,
            unit="",
            of_loss=_perplexity,
            chance=lambda targets, loss: _perplexity(_loss_of_guessing(targets, loss)),
            targets=("classes",),
        ),
    )
}
"""By the name that ``--metric`` takes."""


def find_measure(metric: str | Measure) -> Measure:
    """Return a metric by its name, or one given.

    Raises:
        InputError: There is none.
    """
    if isinstance(metric, Measure):
        return metric
    if (found := METRICS.get(str(metric))) is None:
        raise InputError(
            f"metric must be a Measure or one of {', '.join(METRICS)}, got {metric!r}"
            f"{did_you_mean(str(metric), METRICS)}"
        )
    return found
