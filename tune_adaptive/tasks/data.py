"""Data sets as plain arrays: three splits, described and checked."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tune_adaptive.errors import InputError
from tune_adaptive.records.complexity import Complexity, measure_complexity
from tune_adaptive.tasks.arrays import as_promised, moments, problems

Labels = npt.NDArray[np.int64]  # (N,)
Targets = Literal["classes", "labels", "numbers"]
Kind = Literal["image", "text", "features"]

VALIDATION_SHARE = 0.1
MAX_VALIDATION = 5000
SPLIT_SEED = 0


@dataclass(frozen=True, slots=True)
class Examples:
    """One split. What it holds is told by the arrays themselves.

    Attributes:
        x: Images, uint8, (N, H, W, C); or token ids, int32, (N, L), padded on the right;
            or features, float32, (N, d).
        y: Classes, int64, shape (N,), in [0, K); or numbers, float32, shape (N, M), of which
            (N,) is taken as (N, 1); or booleans, shape (N, M): labels, any number of which may
            apply to an example.
        lengths: Of texts alone: how many tokens of each row count, int32, (N,), in [1, L].
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    lengths: npt.NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def kind(self) -> Kind:
        """What the examples are: ``image``, ``text`` or ``features``."""
        if self.lengths is not None:
            return "text"
        return "image" if self.x.dtype == np.uint8 and self.x.ndim == 4 else "features"

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """The arrays there are."""
        return (self.x, self.y) if self.lengths is None else (self.x, self.y, self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays)

    def cast(self) -> "Examples":
        """Return the examples in the types promised above, as far as nothing is lost."""
        return Examples(
            as_promised(self.x, "x", self),
            _in_columns(as_promised(self.y, "y", self)),
            as_promised(self.lengths, "lengths", self),
        )

    def take(self, rows: npt.NDArray[np.int64]) -> "Examples":
        """Return the examples at ``rows``, in that order."""
        return Examples(*(array[rows] for array in self.arrays))


def _in_columns(y: Any) -> Any:
    """Return numbers as (N, M); classes as they are."""
    is_row = isinstance(y, np.ndarray) and y.dtype == np.float32 and y.ndim == 1
    return y[:, None] if is_row else y


@dataclass(frozen=True, slots=True)
class Description:
    """What a model and a schedule are told of a data set, from its training split alone.

    Attributes:
        kind: ``image``, ``text`` or ``features``.
        num_classes: K; of labels and numbers, how many an example has.
        shape: Of one example: (H, W, C), (L,) or (d,).
        complexity: C and what it was made of.
        mean: Of the training pixels per channel, in [0, 255], or per feature; empty for text.
        std: Standard deviations of the same; 1 where all are equal.
        vocab_size: Of texts: token ids are in [0, vocab_size).
        targets: ``classes``, ``labels`` or ``numbers``.
    """

    kind: Kind
    num_classes: int
    shape: tuple[int, ...]
    complexity: Complexity
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    vocab_size: int = 0
    targets: Targets = "classes"


@dataclass(frozen=True, slots=True)
class Dataset:
    """The three splits. Search code is handed train and validation only.

    Attributes:
        train: What is trained on.
        validation: What configurations are chosen by.
        test: What the chosen ones are compared on.
        vocab_size: Of texts: token ids are in [0, vocab_size).
        classes: Names of the classes 0 to K - 1, where they have names.
        remarks: What the plan should say of them: what was left out or converted.
    """

    train: Examples
    validation: Examples
    test: Examples
    vocab_size: int = 0
    classes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def splits(self) -> dict[str, Examples]:
        """The splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def targets(self) -> Targets:
        """What is predicted: ``classes``, ``labels`` or ``numbers``."""
        y = self.train.y
        kinds: dict[str, Targets] = {"f": "numbers", "b": "labels"}
        return kinds.get(y.dtype.kind, "classes") if y.ndim == 2 else "classes"

    @property
    def nbytes(self) -> int:
        """Bytes of all splits."""
        return sum(split.nbytes for split in self.splits.values())

    def describe(self) -> Description:
        """Describe the data from the training split alone."""
        kind, y = self.train.kind, self.train.y
        mean: list[float] = []
        std: list[float] = []
        if self.train.lengths is not None:
            num_features = float(self.train.lengths.mean())
        else:
            mean, std = moments(self.train.x)
            num_features = float(math.prod(self.train.x.shape[1:]))
        return Description(
            kind=kind,
            num_classes=int(y.max()) + 1 if y.ndim == 1 else y.shape[1],
            shape=tuple(self.train.x.shape[1:]),
            complexity=measure_complexity(y, num_features),
            mean=tuple(mean),
            std=tuple(value if value > 0 else 1.0 for value in std),
            vocab_size=self.vocab_size,
            targets=self.targets,
        )

    def sha256(self) -> str:
        """Hash the content of all three splits."""
        digest = hashlib.sha256()
        for split in self.splits.values():
            digest.update(str(split.x.shape).encode())
            for array in split.arrays:
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def with_train_size(self, num_examples: int) -> "Dataset":
        """Keep ``num_examples`` of the training split, every class its share; numbers at random.

        Raises:
            InputError: There are not as many.
        """
        if num_examples > len(self.train):
            raise InputError(
                f"--train-size {num_examples}: there are {len(self.train)} training examples"
            )
        rng = np.random.default_rng(SPLIT_SEED)
        if self.train.y.ndim > 1:
            rows = rng.permutation(len(self.train))[:num_examples]
        else:
            rows = stratified(self.train.y, num_examples, rng)
        return replace(self, train=self.train.take(rows))

    def cast(self) -> "Dataset":
        """Return it in the types and the layout that :class:`Examples` promises.

        Nothing is cast that would lose something, and nothing copied that is right already;
        :meth:`problems` says what is left.
        """
        splits: dict[str, Any] = {
            name: split.cast() for name, split in self.splits.items() if isinstance(split, Examples)
        }
        return replace(self, **splits)

    def problems(self) -> list[str]:
        """Say what about the arrays cannot be trained on; empty if nothing is."""
        strange = [
            f"{name}: must be Examples, is {type(split).__name__}"
            for name, split in self.splits.items()
            if not isinstance(split, Examples)
        ]
        return strange or problems(self)


def load_fashion_mnist_mini() -> Dataset:
    """Load the embedded subset of FashionMNIST: 5,000 / 1,000 / 2,000 images, 28 x 28 x 1."""
    path = Path(__file__).parent / "fashion_mnist_mini" / "data.npz"
    with np.load(path, allow_pickle=False) as file:
        train, validation, test = (
            Examples(file[f"{split}_x"], file[f"{split}_y"])
            for split in ("train", "validation", "test")
        )
    return Dataset(train, validation, test)


def split_validation(
    labels: Labels, train_size: int | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cut a validation split from a training set, the same for every search.

    Validation takes a tenth, at most 5,000, and at most half of ``train_size``, so that a
    small training set is not validated on a large one. Every class keeps its share in both.

    Args:
        labels: Classes of the whole training set.
        train_size: Examples to keep of the rest; None keeps all.

    Returns:
        The rows of train and of validation, both in random order.

    Raises:
        InputError: There are not as many.
    """
    num_validation = max(1, min(int(VALIDATION_SHARE * len(labels)), MAX_VALIDATION))
    if train_size is not None:
        num_validation = max(1, min(num_validation, train_size // 2))
    rng = np.random.default_rng(SPLIT_SEED)
    validation = stratified(labels, num_validation, rng)
    rest = np.setdiff1d(np.arange(len(labels)), validation)
    num_train = len(rest) if train_size is None else train_size
    if num_train > len(rest):
        raise InputError(
            f"--train-size {train_size}: there are {len(rest)} training examples and "
            f"{num_validation} for validation"
        )
    return rest[stratified(labels[rest], num_train, rng)], validation


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


def pad(rows: Sequence[Sequence[int]], value: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return token ids, int32, (N, L), padded with ``value`` on the right, and their lengths."""
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int32, count=len(rows))
    tokens = np.full((len(rows), int(lengths.max(initial=1))), value, dtype=np.int32)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row
    return tokens, lengths
