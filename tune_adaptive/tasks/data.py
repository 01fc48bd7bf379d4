"""Data sets as plain arrays: read, cut, checked."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image

from tune_adaptive.errors import InputError
from tune_adaptive.signals.complexity import Complexity, measure_complexity

Images = npt.NDArray[np.uint8]  # (N, H, W, C)
Labels = npt.NDArray[np.int64]  # (N,)


@dataclass(frozen=True, slots=True)
class Examples:
    """One split.

    Attributes:
        x: Images, uint8, shape (N, H, W, C).
        y: Classes, int64, shape (N,), in [0, K).
    """

    x: Images
    y: Labels

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, slots=True)
class Description:
    """What a model and a schedule are told of a data set, from its training split alone.

    Attributes:
        num_classes: K.
        shape: (H, W, C) of one example.
        mean: Mean of the training pixels per channel, in [0, 255].
        std: Standard deviation of the training pixels per channel.
        complexity: C and what it was made of.
    """

    num_classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    complexity: Complexity


@dataclass(frozen=True, slots=True)
class Dataset:
    """The three splits. Search code is handed train and validation only."""

    train: Examples
    validation: Examples
    test: Examples

    def describe(self) -> Description:
        """Describe the data from the training split alone."""
        pixels = self.train.x.reshape(-1, self.train.x.shape[-1])
        _, height, width, channels = self.train.x.shape
        return Description(
            num_classes=int(self.train.y.max()) + 1,
            shape=(height, width, channels),
            mean=tuple(float(value) for value in pixels.mean(axis=0)),
            std=tuple(float(value) for value in pixels.std(axis=0)),
            complexity=measure_complexity(self.train.y, height * width * channels),
        )

    def sha256(self) -> str:
        """Hash the content of all three splits."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            digest.update(str(split.x.shape).encode())
            digest.update(split.x.tobytes())
            digest.update(split.y.tobytes())
        return digest.hexdigest()


def load_fashion_mnist_mini() -> Dataset:
    """Load the embedded subset of FashionMNIST: 5,000 / 1,000 / 2,000 images, 28 x 28 x 1."""
    path = Path(__file__).parent / "fashion_mnist_mini" / "data.npz"
    with np.load(path, allow_pickle=False) as file:
        return Dataset(
            *(
                Examples(file[f"{split}_x"], file[f"{split}_y"])
                for split in ("train", "validation", "test")
            )
        )


def read_image_split(directory: Path, split: str) -> tuple[Images, Labels]:
    """Read ``directory/<split>-*.parquet`` in the hub's own columns.

    Returns:
        Images, uint8, (N, H, W, C), and labels, int64, (N,).

    Raises:
        InputError: There is no such file, or a column is missing.
    """
    paths = sorted(directory.glob(f"{split}-*.parquet"))
    if not paths:
        raise InputError(f"{directory}: no {split}-*.parquet there")
    images: list[npt.NDArray[Any]] = []
    labels: list[int] = []
    for path in paths:
        table = pq.read_table(path)
        column = next((name for name in ("image", "img") if name in table.column_names), None)
        if column is None or "label" not in table.column_names:
            raise InputError(
                f"{path}: needs the columns image (or img) and label, has {table.column_names}"
            )
        for cell in table.column(column).to_pylist():
            image = np.asarray(Image.open(io.BytesIO(cell["bytes"])), dtype=np.uint8)
            images.append(image if image.ndim == 3 else image[:, :, None])
        labels += table.column("label").to_pylist()
    return np.stack(images), np.asarray(labels, dtype=np.int64)


def stratified(
    labels: Labels, num_examples: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Pick ``num_examples`` positions so that every class keeps its share, in random order.

    Shares that do not divide evenly are rounded by largest remainder.
    """
    classes, counts = np.unique(labels, return_counts=True)
    ideal = counts * num_examples / counts.sum()
    quota = np.floor(ideal).astype(int)
    for index in np.argsort(quota - ideal, kind="stable")[: num_examples - quota.sum()]:
        quota[index] += 1
    picked = [
        rng.permutation(np.flatnonzero(labels == value))[:amount]
        for value, amount in zip(classes, quota, strict=True)
    ]
    return rng.permutation(np.concatenate(picked))
