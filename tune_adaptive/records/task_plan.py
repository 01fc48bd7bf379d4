"""What a plan fixes for one task, and what planning found in its data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from tune_adaptive.records.codec import (
    Amount,
    Count,
    Finite,
    Positive,
    PositiveAmount,
    Proportion,
    Whole,
)
from tune_adaptive.records.complexity import Complexity
from tune_adaptive.records.metric import ACCURACY, Metric
from tune_adaptive.records.runs import OptimizerName, Precision
from tune_adaptive.records.spaces import SearchSpace

MAX_CLASS_RATIO = 3.0
"""Classes are of very unequal size where the largest has this many times the smallest's."""

ClipNorm = Annotated[float, Meta(gt=0, description="a number > 0")]
Note = str | Whole | float


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What was found in a task's data while planning; none of it forbids a search.

    Attributes:
        num_validation_in_train: Validation examples that are training examples too.
        num_test_in_train: Test examples that are training examples too.
        class_ratio: Examples of train's largest class to those of its smallest, >= 1; 1 where
            classes are not what is predicted.
        majority_accuracy: Test accuracy of always answering with train's largest class, if
            classes are predicted.
        remarks: What was left out, converted or is missing.
    """

    num_validation_in_train: Count
    num_test_in_train: Count
    class_ratio: Amount
    majority_accuracy: Proportion | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What is fixed for one task.

    Attributes:
        name: ``dataset/model``.
        num_epochs: T.
        num_train: Size of the training split.
        num_validation: Size of the validation split.
        num_test: Size of the test split.
        batch_size: Examples per optimizer step.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        augment: Of images: ``none``, ``shift``, ``standard`` or ``document``.
        clip_norm: Gradients of a larger norm are scaled down to it; infinity leaves them.
        notes: What else was decided: where the data are from, a model's stem or checkpoint.
        data_sha256: Hash of the three splits.
        complexity: C and what it was made of.
        precision: ``fp32`` or ``bf16``.
        epoch_s: Seconds of one epoch and its validation on one slot, as calibrated.
        loaded_epoch_s: The same with every slot at work.
        cpus_per_trial: CPUs each trial gets.
        gpus_per_trial: Share of a GPU each trial gets; 0 trains on the CPU.
        slots: Trials of it that run at once where no others do.
        spaces: Per schedule, its search space.
        space_sha256: Per schedule, the hash of its search space.
        facts: What was found in its data; None in plans of earlier versions.
        metric: What its models are judged by.
        chance: The metric of guessing, which a run that diverged counts as; None, in plans of
            earlier versions, is 1/K.
    """

    name: str
    num_epochs: Positive
    num_train: Positive
    num_validation: Positive
    num_test: Positive
    batch_size: Positive
    optimizer: OptimizerName
    augment: str
    clip_norm: ClipNorm
    notes: Mapping[str, Note]
    data_sha256: str
    complexity: Complexity
    precision: Precision
    epoch_s: PositiveAmount
    loaded_epoch_s: PositiveAmount
    cpus_per_trial: PositiveAmount
    gpus_per_trial: Proportion
    slots: Positive
    spaces: Mapping[str, SearchSpace]
    space_sha256: Mapping[str, str]
    facts: DataFacts | None = None
    metric: Metric = ACCURACY
    chance: Finite | None = None

    @property
    def of_guessing(self) -> float:
        """The metric of guessing."""
        return 1 / self.complexity.num_classes if self.chance is None else self.chance

    @property
    def contained(self) -> list[str]:
        """Say how much of validation and test is training data too."""
        if self.facts is None:
            return []
        return [
            f"{name}: {num} of {size} examples ({num / size:.2%}) are training examples too"
            for name, num, size in (
                ("validation", self.facts.num_validation_in_train, self.num_validation),
                ("test", self.facts.num_test_in_train, self.num_test),
            )
            if num
        ]

    @property
    def imbalance(self) -> list[str]:
        """Say of classes of very unequal size what guessing the largest is worth."""
        if self.facts is None or self.facts.class_ratio < MAX_CLASS_RATIO:
            return []
        return [
            f"the largest class has {self.facts.class_ratio:.3g} times the training examples of "
            f"the smallest: guessing it has a test accuracy of {self.facts.majority_accuracy:.3f}"
        ]

    @property
    def remarks(self) -> list[str]:
        """Say what a person should know of its data."""
        own = [] if self.facts is None else self.facts.remarks
        return [*own, *self.contained, *self.imbalance]
