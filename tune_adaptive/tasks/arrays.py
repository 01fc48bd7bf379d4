"""Arrays of a data set: cast to what is promised of them, checked, and summed up.

All of it goes through the data in pieces, so that nothing of their size is copied.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tune_adaptive.tasks.data import Dataset, Examples

PIECE_BYTES = 2**20
EXACT_IN_FLOAT32 = 2**24
MAX_TOLD = 20
Array = npt.NDArray[Any]


def pieces(x: Array) -> Iterator[Array]:
    """Cut an array along its first axis into views of a MiB, or of a row if that is more."""
    rows = max(1, PIECE_BYTES // max(1, x[:1].nbytes))
    return (x[start : start + rows] for start in range(0, len(x), rows))


# -------------------------------------------------------------------------------- casting


def as_promised(array: Any, part: str, split: Examples) -> Any:
    """Cast ``x``, ``y`` or ``lengths`` where nothing is lost; else return it as it is."""
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        return array
    dtype = {"x": _dtype_of_x, "y": _dtype_of_y, "lengths": _dtype_of_lengths}[part](array, split)
    return array if dtype is None else np.ascontiguousarray(array, dtype)


def _dtype_of_x(x: Array, split: Examples) -> type | None:
    is_whole = x.dtype.kind in "iu"
    if split.lengths is not None:
        return np.int32 if is_whole and _fits(x, np.int32) else None
    if x.ndim == 4:
        return np.uint8 if is_whole and _fits(x, np.uint8) else None
    is_exact = is_whole and _within(x, -EXACT_IN_FLOAT32, EXACT_IN_FLOAT32)
    return np.float32 if x.ndim == 2 and (x.dtype.kind in "fb" or is_exact) else None


def _dtype_of_y(y: Array, split: Examples) -> type | None:
    if y.dtype.kind == "f":
        return np.float32
    if y.dtype.kind == "b" and y.ndim == 2:
        return np.bool_
    return (
        np.int64 if y.dtype.kind == "b" or (y.dtype.kind in "iu" and _fits(y, np.int64)) else None
    )


def _dtype_of_lengths(lengths: Array, split: Examples) -> type | None:
    return np.int32 if lengths.dtype.kind in "iu" and _fits(lengths, np.int32) else None


def _fits(x: Array, dtype: type) -> bool:
    return _within(x, np.iinfo(dtype).min, np.iinfo(dtype).max)


def _within(x: Array, low: int, high: int) -> bool:
    return x.size == 0 or (low <= int(x.min()) and int(x.max()) <= high)


# ------------------------------------------------------------------------------- checking


def problems(data: Dataset) -> list[str]:
    """Say what about the arrays cannot be trained on; empty if nothing is."""
    splits = data.splits.items()
    found = [
        f"{name}: {problem}"
        for name, split in splits
        for problem in _problems_of(split, data.vocab_size)
    ]
    if found:
        return found
    kind, shape = data.train.kind, data.train.x.shape[1:]
    found = [
        f"{name}: {split.kind} of shape {split.x.shape[1:]}, but the training split is {kind} of "
        f"shape {shape}"
        for name, split in splits
        if (split.kind, split.x.shape[1:]) != (kind, shape)
    ]
    y = data.train.y
    found += [
        f"{name}: y is {split.y.dtype} of shape {split.y.shape}, but the training split's is "
        f"{y.dtype} of shape {y.shape}"
        for name, split in splits
        if (split.y.dtype.kind, split.y.shape[1:]) != (y.dtype.kind, y.shape[1:])
    ]
    if found:
        return found
    return _problems_of_classes(data) if data.targets == "classes" else []


def _problems_of(split: Examples, vocab_size: int) -> Iterator[str]:
    """Yield the problems of one split; of several that follow from one, the first."""
    parts: dict[str, Any] = dict(zip(("x", "y", "lengths"), split.arrays, strict=False))
    for name, array in parts.items():
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            yield f"{name} must be a NumPy array, is {type(array).__name__}"
        elif array.ndim == 0 or array.dtype.kind not in "biuf":
            yield f"{name} must be an array of numbers, is {array.dtype} of shape {array.shape}"
        else:
            continue
        return
    are_numbers = split.y.dtype.kind == "f"
    if split.y.ndim != 1 + (split.y.dtype.kind in "fb"):
        yield (
            f"y must have the shape (N,) for classes, (N,) or (N, M) for numbers and booleans, has "
            f"{split.y.shape} of {split.y.dtype}"
        )
    elif len({len(array) for array in parts.values()}) > 1:
        sizes = ", ".join(str(len(array)) for array in parts.values())
        yield f"its arrays have different lengths: {sizes}"
    elif len(split) == 0:
        yield "is empty"
    elif are_numbers and not np.isfinite(split.y).all():
        row = int(np.flatnonzero(~np.isfinite(split.y).all(axis=1))[0])
        yield f"y must be finite numbers within float32; row {row} has others"
    elif split.y.ndim == 2 and split.y.shape[1] == 0:
        yield "y has no numbers"
    else:
        yield from _problems_of_x(split, vocab_size)


def _problems_of_x(split: Examples, vocab_size: int) -> Iterator[str]:
    x, kind = split.x, split.kind
    if kind == "text":
        yield from _problems_of_texts(split, vocab_size)
    elif vocab_size:
        yield f"vocab_size is {vocab_size}, so these are texts, but there are no lengths"
    elif kind == "image":
        if 0 in x.shape:
            yield f"images of shape {x.shape[1:]}: no axis may be 0"
    elif x.ndim != 2:
        yield (
            f"x is {x.dtype} of shape {x.shape}; must be images, uint8 (N, H, W, C), or features, "
            "float32 (N, d), or token ids, int32 (N, L), with lengths"
        )
    elif x.dtype.kind in "iu" and not _within(x, -EXACT_IN_FLOAT32, EXACT_IN_FLOAT32):
        yield "features: whole numbers beyond 2**24 lose digits in float32; scale them"
    elif x.shape[1] == 0:
        yield "has no features"
    elif not all(np.isfinite(piece).all() for piece in pieces(x)):
        row = next(row for row, values in enumerate(x) if not np.isfinite(values).all())
        yield f"features must be finite numbers within float32; row {row} has others"


def _problems_of_texts(split: Examples, vocab_size: int) -> Iterator[str]:
    x, lengths = split.x, split.lengths
    assert lengths is not None
    if (
        x.ndim != 2
        or x.dtype.kind not in "iu"
        or lengths.ndim != 1
        or lengths.dtype.kind not in "iu"
    ):
        yield (
            "token ids must be int32 (N, L) and lengths int32 (N,), are "
            f"{x.dtype} {x.shape} and {lengths.dtype} {lengths.shape}"
        )
        return
    if vocab_size < 1:
        yield "are texts, but the Dataset's vocab_size is not given"
    elif wrong := _outside(x, 0, vocab_size - 1):
        yield f"token ids must be in [0, {vocab_size - 1}] (vocab_size {vocab_size}); {wrong}"
    if wrong := _outside(lengths, 1, x.shape[1]):
        yield f"lengths must be in [1, {x.shape[1]}]; {wrong}"


def _outside(array: Array, low: int, high: int) -> str | None:
    """Say which row first has a value out of [low, high], if any."""
    if array.size and _within(array, low, high):
        return None
    rows = array.reshape(len(array), -1)
    for row, values in enumerate(rows):
        for value in (values.min(initial=high), values.max(initial=low)):
            if not low <= value <= high:
                return f"row {row} has {value}"
    return None


def _problems_of_classes(data: Dataset) -> list[str]:
    classes = np.unique(data.train.y)
    num_classes = int(classes[-1]) + 1
    if classes[0] < 0 or num_classes < 2:
        shown = classes.tolist()[:MAX_TOLD]
        return [f"train: classes must be 0, 1, ..., at least two, are {shown}"]
    if len(classes) < num_classes:  # not as a range: a label may be 10**15
        first = int(np.flatnonzero(classes != np.arange(len(classes)))[0])
        num = num_classes - len(classes)
        more = f" and {num - 1} others below {num_classes - 1}" if num > 1 else ""
        return [f"train: no example of class {first}{more}"]
    found = []
    for name, split in (("validation", data.validation), ("test", data.test)):
        low, high = int(split.y.min()), int(split.y.max())
        if low < 0 or high >= num_classes:
            found.append(
                f"{name}: a label {low if low < 0 else high}, but the training split has "
                f"classes 0 to {num_classes - 1}"
            )
    return found


# -------------------------------------------------------------------------------- summing


def moments(x: Array) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation over all but the last axis."""
    columns = x.reshape(-1, x.shape[-1])
    if x.dtype == np.uint8:
        return _moments_of_pixels(columns)
    num, zero = len(columns), np.zeros(columns.shape[1])
    mean = sum((piece.sum(axis=0, dtype=np.float64) for piece in pieces(columns)), zero) / num
    squares = (((piece - mean) ** 2).sum(axis=0) for piece in pieces(columns))  # in float64
    return mean.tolist(), np.sqrt(sum(squares, zero) / num).tolist()


def _moments_of_pixels(columns: Array) -> tuple[list[float], list[float]]:
    values = np.arange(256)  # exact, by counting
    counts = [
        sum((np.bincount(piece, minlength=256) for piece in pieces(column)), np.zeros(256, int))
        for column in columns.T
    ]
    shares = [count / len(columns) for count in counts]
    mean = [float(share @ values) for share in shares]
    variance = [
        float(share @ (values - centre) ** 2) for share, centre in zip(shares, mean, strict=True)
    ]
    return mean, [math.sqrt(value) for value in variance]


def num_contained(split: Examples, train: Examples) -> int:
    """Return how many examples of ``split`` are, byte by byte, examples of ``train`` too.

    Labels do not count. Features of few values repeat by nature.
    """
    known = set(_digests(train.x))
    return sum(digest in known for digest in _digests(split.x))


def _digests(x: Array) -> Iterator[bytes]:
    for piece in pieces(x):
        for row in np.ascontiguousarray(piece):
            yield hashlib.blake2b(row, digest_size=16).digest()
