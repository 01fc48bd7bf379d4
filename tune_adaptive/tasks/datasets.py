"""The data sets by name. A new one is one line in ``DATASETS``."""

from dataclasses import dataclass
from typing import Literal

Augment = Literal["none", "shift", "standard", "document"]


@dataclass(frozen=True, slots=True)
class Hub:
    """Where a data set lives on the Hugging Face hub.

    Attributes:
        repo: ``owner/name``.
        revision: The commit that is read, always the same.
        folder: Of its Parquet files, ``<split>-*.parquet``.
    """

    repo: str
    revision: str
    folder: str


@dataclass(frozen=True, slots=True)
class Source:
    """A data set for classification.

    Attributes:
        num_classes: K; None where the labels of the training split say it.
        shape: (H, W, C) of its images; None where it is text.
        hub: Where it is published; None where it is embedded in the package or a person's own.
        augment: What is usual for it: ``none``, ``shift``, ``standard`` or ``document``.
        columns: Names of the column of texts or images, in the order of preference; the usual.
        label: Name of the column of labels.
        is_resized: Whether images of other sizes are scaled to ``shape`` and cut at their middle.
    """

    num_classes: int | None
    shape: tuple[int, int, int] | None = None
    hub: Hub | None = None
    augment: Augment = "none"
    columns: tuple[str, ...] = ()
    label: str = "label"
    is_resized: bool = False

    @property
    def kind(self) -> Literal["image", "text"]:
        """What its examples are."""
        return "text" if self.shape is None else "image"


DATASETS: dict[str, Source] = {
    "fashion_mnist_mini": Source(10, (28, 28, 1)),
    "fashion_mnist": Source(
        10,
        (28, 28, 1),
        Hub(
            "zalando-datasets/fashion_mnist",
            "531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2",
            "fashion_mnist",
        ),
    ),
    "mnist": Source(
        10,
        (28, 28, 1),
        Hub("ylecun/mnist", "77f3279092a1c1579b2250db8eafed0ad422088c", "mnist"),
    ),
    "cifar10": Source(
        10,
        (32, 32, 3),
        Hub("uoft-cs/cifar10", "0b2714987fa478483af9968de7c934580d0bb9a2", "plain_text"),
        augment="standard",
    ),
    "imdb": Source(
        2, hub=Hub("stanfordnlp/imdb", "e6281661ce1c48d982bc483cf8a173c1bbeb5d31", "plain_text")
    ),
    "ag_news": Source(
        4, hub=Hub("fancyzhx/ag_news", "eb185aade064a813bc0b7f42de02595523103ca4", "data")
    ),
}
"""Every data set that a task can name."""
