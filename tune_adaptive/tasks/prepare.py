"""Files of a published data set -> its three splits as arrays, prepared once.

What is prepared is kept in the user's cache directory under the hash of the files'
content and of everything that decides the arrays. An entry appears whole or not at all.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs
from filelock import FileLock

from tune_adaptive.errors import InputError
from tune_adaptive.tasks.data import (
    SPLIT_SEED,
    Dataset,
    Examples,
    load_fashion_mnist_mini,
    pad,
    split_validation,
    stratified,
)
from tune_adaptive.tasks.datasets import DATASETS, Source
from tune_adaptive.tasks.files import Files, find_files
from tune_adaptive.tasks.read import read_files
from tune_adaptive.tasks.tokens import Encoder

TEST_SHARE = 5
"""A fifth is tested on where there is no test split."""
VERSION = 3
"""Changes whenever the same files and options would give other arrays."""


def prepare(
    name: str,
    data_dir: Path | None = None,
    train_size: int | None = None,
    encoder: Encoder | None = None,
) -> Dataset:
    """Return a data set of ``DATASETS``.

    Args:
        name: Of the data set.
        data_dir: Folder that must hold it; None looks in the hub's cache, then at the hub.
        train_size: Examples to train on, every class its share; None takes all.
        encoder: Makes token ids of texts; None for images.

    Raises:
        InputError: The files are not what they should be.
        EnvironmentFault: There are no files to be had.
    """
    source = DATASETS[name]
    if source.hub is None:
        mini = load_fashion_mnist_mini()
        return mini if train_size is None else mini.with_train_size(train_size)
    return prepare_files(name, find_files(name, source, data_dir), source, train_size, encoder)


def prepare_files(
    name: str,
    files: Files,
    source: Source,
    train_size: int | None = None,
    encoder: Encoder | None = None,
) -> Dataset:
    """Return the data set that some files are.

    Args:
        name: Of the data set.
        files: Of its splits; without a test split a fifth of the training split becomes one.
        source: What it is.
        train_size: Examples to train on, every class its share; None takes all.
        encoder: Makes token ids of texts; None for images.

    Raises:
        InputError: The files are not what they should be.
    """
    decides = {
        "version": VERSION,
        "files": files.sha256(),
        "source": asdict(source),
        "train_size": train_size,
        "encoder": encoder.identity if encoder else None,
    }
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    path = platformdirs.user_cache_path("tune_adaptive") / "prepared" / f"{name}-{key[:24]}.npz"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = os.access(path.parent, os.W_OK | os.X_OK)
    except OSError:
        kept = False  # nowhere to keep it: prepared anew each time
    if not kept:
        data = _read(name, files, source, train_size, encoder)
    else:
        data = _prepared_once(path, lambda: _read(name, files, source, train_size, encoder))
    return replace(data, remarks=files.unused + data.remarks)


def _prepared_once(path: Path, read: Callable[[], Dataset]) -> Dataset:
    """Return what ``path`` keeps; where it is not there, read it and keep it."""
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(path.with_suffix(".lock")))
        except OSError:
            return read()  # a file system without locks, where two could write the same file
        data = load_arrays(path)
        if data is None:
            data = read()
            save_arrays(path, data)
        return data


def _read(
    name: str, files: Files, source: Source, train_size: int | None, encoder: Encoder | None
) -> Dataset:
    read = read_files(name, files, source)
    raw: dict[str, tuple[Any, npt.NDArray[np.int64]]] = {**read.splits}
    remarks = read.remarks
    if "test" not in raw:
        raw["train"], raw["test"] = _cut(*raw["train"])
        remarks += (f"no test split: {len(raw['test'][1])} examples of train are it, drawn once",)
    x, y = raw["train"]
    if "validation" in raw:
        held_out, validation = raw["validation"], np.arange(len(raw["validation"][1]))
        rows = _some(y, train_size)
    else:
        held_out = raw["train"]
        rows, validation = split_validation(y, train_size)
    picked = {
        "train": ((x, y), rows),
        "validation": (held_out, validation),
        "test": (raw["test"], np.arange(len(raw["test"][1]))),
    }
    vocab_size = 0
    if encoder is None:
        splits = {name: Examples(x[rows], y[rows]) for name, ((x, y), rows) in picked.items()}
    else:
        tokenizer = encoder.fit([x[row] for row in rows])
        vocab_size = tokenizer.vocab_size
        splits = {}
        for name, ((x, y), rows) in picked.items():
            tokens, lengths = pad(tokenizer.encode([x[row] for row in rows]), tokenizer.pad_id)
            splits[name] = Examples(tokens, y[rows], lengths)
        splits = _same_width(splits, tokenizer.pad_id)
    data = Dataset(
        splits["train"],
        splits["validation"],
        splits["test"],
        vocab_size,
        classes=read.classes,
        remarks=remarks,
    )
    num_classes = source.num_classes or len(read.classes)
    missing = sorted(set(range(num_classes)) - set(data.train.y.tolist()))
    if missing:
        raise InputError(
            f"{files.folder}: train: no example of class {', '.join(map(str, missing))} among "
            f"{len(data.train)}; must have each of 0 to {num_classes - 1}"
        )
    if problems := data.problems():
        raise InputError("\n".join(f"{files.folder}: {problem}" for problem in problems))
    return data


def _some(y: npt.NDArray[np.int64], train_size: int | None) -> npt.NDArray[np.int64]:
    """Return the rows to train on, of a split that no validation is cut from."""
    if train_size is None:
        return np.arange(len(y))
    if train_size > len(y):
        raise InputError(f"--train-size {train_size}: there are {len(y)} training examples")
    return stratified(y, train_size, np.random.default_rng(SPLIT_SEED))


def _cut(x: Any, y: npt.NDArray[np.int64]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Cut a test split from examples by a fixed seed, every class its share."""
    test = stratified(y, max(1, len(y) // TEST_SHARE), np.random.default_rng(SPLIT_SEED))
    train = np.setdiff1d(np.arange(len(y)), test)

    def take(rows: npt.NDArray[np.int64]) -> tuple[Any, Any]:
        return (x[rows] if isinstance(x, np.ndarray) else [x[row] for row in rows]), y[rows]

    return take(train), take(test)


def _same_width(splits: dict[str, Examples], pad_id: int) -> dict[str, Examples]:
    width = max(split.x.shape[1] for split in splits.values())
    return {
        name: Examples(
            np.pad(split.x, ((0, 0), (0, width - split.x.shape[1])), constant_values=pad_id),
            split.y,
            split.lengths,
        )
        for name, split in splits.items()
    }


def save_arrays(path: Path, data: Dataset) -> None:
    """Write ``data`` as one file that appears whole or not at all, as on a disk that is full."""
    arrays: dict[str, Any] = {"vocab_size": np.int64(data.vocab_size)}
    arrays |= {"classes": np.array(data.classes, str), "remarks": np.array(data.remarks, str)}
    for name, split in data.splits.items():
        arrays |= {
            f"{name}_{part}": array
            for part, array in zip(("x", "y", "lengths"), split.arrays, strict=False)
        }
    partial = path.with_suffix(".partial")  # one: the lock is held
    try:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink()


def load_arrays(path: Path) -> Dataset | None:
    """Read what :func:`save_arrays` wrote; None where it is not there or damaged."""
    try:
        # Opened here: numpy leaves a damaged file open.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}  # the archive's checksums are read
        train, validation, test = (
            Examples(arrays[f"{name}_x"], arrays[f"{name}_y"], arrays.get(f"{name}_lengths"))
            for name in ("train", "validation", "test")
        )
        classes, remarks = (tuple(arrays[name].tolist()) for name in ("classes", "remarks"))
        return Dataset(train, validation, test, int(arrays["vocab_size"]), classes, remarks)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
