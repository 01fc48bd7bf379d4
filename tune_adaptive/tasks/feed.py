"""How a split reaches the model: kept on the device, cut into batches, made into its inputs.

Everything lies on the device once, and no batch makes the host wait for it: indices go there
once an epoch, and the widths of text batches are known from lengths that the host keeps.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from tune_adaptive.tasks.augment import augmented
from tune_adaptive.tasks.data import Description, Examples
from tune_adaptive.tasks.datasets import Augment

EVAL_BATCH_SIZE = 1000
EVAL_BATCH_SIZE_ON_CPU = 250  # the CNN takes half the time it takes in batches of 1,000
EVAL_TOKENS = 2**15
BATCHES_PER_BUCKET = 50

Batch = tuple[tuple[Tensor, ...], Tensor]
"""The model's inputs, and the classes."""


@dataclass(frozen=True, slots=True)
class Split:
    """One split on a device.

    Attributes:
        x: Images, uint8 (N, C, H, W), channels_last; token ids, int32 (N, L); or features,
            float32 (N, d).
        y: Classes, int64 (N,); labels and numbers, float32 (N, M).
        lengths: Of texts, int32 (N,).
        widths: The same, on the host.
    """

    x: Tensor
    y: Tensor
    lengths: Tensor | None = None
    widths: npt.NDArray[np.int32] | None = None

    @classmethod
    def of(cls, examples: Examples, device: torch.device) -> "Split":
        """Bring ``examples`` to ``device``; on the CPU nothing is copied."""
        with warnings.catch_warnings():
            # The arrays may be read-only memory shared with other workers. Nothing writes there.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            x, y, *rest = (torch.from_numpy(array) for array in examples.arrays)
        if examples.kind == "image":
            x = x.permute(0, 3, 1, 2)  # of (N, H, W, C): already channels_last
        elif examples.kind == "features":
            x = x.float()
        y = y.float() if y.dtype == torch.bool else y  # labels, as losses take them
        lengths = rest[0].to(device) if rest else None
        return cls(x.to(device), y.to(device), lengths, examples.lengths)

    def __len__(self) -> int:
        return len(self.y)


class Feed(Protocol):
    """Cuts splits into batches of a model's inputs."""

    @property
    def generator(self) -> Generator | None:
        """What draws the augmentation, if anything is drawn."""

    def train(self, split: Split, batch_size: int, order: Generator) -> Iterator[Batch]:
        """Yield ceil(N / batch_size) batches, in an order drawn from ``order``."""

    def evaluate(self, split: Split) -> Iterator[Batch]:
        """Yield large batches, as they come."""


def make_feed(
    description: Description, augment: Augment, device: torch.device, seed: int
) -> "Feed":
    """Return the feed for data of this kind; ``seed`` draws the augmentation."""
    if description.kind == "text":
        return TextFeed()
    return ArrayFeed(description, augment, device, seed)


class ArrayFeed:
    """Images or features, standardised to mean 0 and deviation 1 over the training split."""

    def __init__(
        self, description: Description, augment: Augment, device: torch.device, seed: int
    ) -> None:
        shape = (1, -1, 1, 1) if description.kind == "image" else (1, -1)
        self._mean = torch.tensor(description.mean, device=device).view(shape)
        self._std = torch.tensor(description.std, device=device).view(shape)
        self._augment = augment
        self.generator = Generator(device).manual_seed(seed)

    def train(self, split: Split, batch_size: int, order: Generator) -> Iterator[Batch]:
        """Yield batches in random order, augmented; the last may be smaller."""
        permutation = to_device(torch.randperm(len(split), generator=order), split.x.device)
        for rows in permutation.split(batch_size):
            x = augmented(split.x[rows], self._augment, self.generator)
            yield (self._standardized(x),), split.y[rows]

    def evaluate(self, split: Split) -> Iterator[Batch]:
        """Yield batches of 1,000, on a CPU of 250, as they come."""
        on_cpu = split.x.device.type == "cpu"
        size = EVAL_BATCH_SIZE_ON_CPU if on_cpu else EVAL_BATCH_SIZE
        for x, y in zip(split.x.split(size), split.y.split(size), strict=True):
            yield (self._standardized(x),), y

    def _standardized(self, x: Tensor) -> Tensor:
        return torch.sub(x, self._mean).div_(self._std)  # from uint8 to float32 in one pass


class TextFeed:
    """Texts of like length together, padded to the longest of their batch and no further."""

    generator = None

    def train(self, split: Split, batch_size: int, order: Generator) -> Iterator[Batch]:
        """Yield batches of ``batch_size`` (the last of the last bucket may be smaller).

        The texts are shuffled, cut into buckets of 50 batches, sorted by length within each,
        and the batches shuffled: every text once an epoch, with others of its length.
        """
        assert split.widths is not None
        permutation = torch.randperm(len(split), generator=order).numpy()
        batches: list[npt.NDArray[np.int64]] = []
        for start in range(0, len(split), BATCHES_PER_BUCKET * batch_size):
            bucket = permutation[start : start + BATCHES_PER_BUCKET * batch_size]
            bucket = bucket[np.argsort(split.widths[bucket], kind="stable")]
            batches += np.split(bucket, range(batch_size, len(bucket), batch_size))
        shuffled = torch.randperm(len(batches), generator=order).tolist()
        yield from self._batches(split, [batches[index] for index in shuffled])

    def evaluate(self, split: Split) -> Iterator[Batch]:
        """Yield the texts by length, in batches of at most 32,768 tokens and their padding."""
        assert split.widths is not None
        by_length = np.argsort(split.widths, kind="stable")
        batches, start = [], 0
        while start < len(by_length):
            # Lengths rise: as many rows as the budget holds, if the last of them sets the width.
            most = math.ceil(EVAL_TOKENS / split.widths[by_length[start]])
            rows = by_length[start : start + most]
            tokens = split.widths[rows] * np.arange(1, len(rows) + 1)
            rows = rows[: max(1, int((tokens <= EVAL_TOKENS).sum()))]
            batches.append(rows)
            start += len(rows)
        yield from self._batches(split, batches)

    def _batches(self, split: Split, batches: list[npt.NDArray[np.int64]]) -> Iterator[Batch]:
        assert split.widths is not None and split.lengths is not None
        rows_of_all = to_device(torch.from_numpy(np.concatenate(batches)), split.x.device)
        for rows, batch in zip(
            rows_of_all.split([len(batch) for batch in batches]), batches, strict=True
        ):
            width = int(split.widths[batch].max())
            yield (split.x[rows, :width], split.lengths[rows]), split.y[rows]


def to_device(indices: Tensor, device: torch.device) -> Tensor:
    """Copy ``indices`` to ``device`` without waiting for it."""
    if device.type == "cuda":
        indices = indices.pin_memory()
    return indices.to(device, non_blocking=True)
