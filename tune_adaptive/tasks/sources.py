"""Where a data set comes from, and how its files are read.

In this order: the folder the person named, the local cache of the hub, the hub. Never a
silent substitute: a folder that was named must have it.
"""

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from tune_adaptive.errors import InputError
from tune_adaptive.tasks.data import Labels
from tune_adaptive.tasks.datasets import Source
from tune_adaptive.tasks.hub import fetch

IMAGE_COLUMNS = ("image", "img")
TEXT_COLUMNS = ("text",)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
REQUIRED_SPLITS = ("train", "test")
SHARD = re.compile(r"(?P<split>.+)-(?P<index>\d+)-of-(?P<num>\d+)")
"""How the hub names the files of a split that it cut."""


@dataclass(frozen=True, slots=True)
class Files:
    """A data set's files.

    Attributes:
        folder: Where they lie.
        splits: By split, its files, or the one folder that holds a folder of images per class;
            ``train`` and ``test``, and ``validation`` where the data set has its own.
    """

    folder: Path
    splits: Mapping[str, Sequence[Path]]

    def sha256(self) -> str:
        """Hash the content of all files."""
        digest = hashlib.sha256()
        for split, paths in sorted(self.splits.items()):
            digest.update(split.encode())
            for path in paths:
                for file in _images_in(path) if path.is_dir() else [path]:
                    digest.update(str(file.relative_to(self.folder)).encode())
                    with file.open("rb") as opened:
                        digest.update(hashlib.file_digest(opened, "sha256").digest())
        return digest.hexdigest()


def find_files(name: str, source: Source, data_dir: Path | None) -> Files:
    """Find a published data set's files.

    Raises:
        InputError: ``data_dir`` is given and does not hold it.
        EnvironmentFault: It is neither in the hub's cache nor to be had from the hub.
    """
    assert source.hub is not None
    if data_dir is not None:
        folder = data_dir / name
        if not folder.is_dir():
            there = sorted(path.name for path in data_dir.glob("*/")) if data_dir.is_dir() else []
            raise InputError(
                f"--data-dir {data_dir}: has no folder {name}"
                + (f"; there is {', '.join(there[:20])}" if there else "")
            )
    else:
        where = source.hub.folder
        snapshot = fetch(
            source.hub.repo,
            "dataset",
            source.hub.revision,
            [f"{source.hub.folder}/*.parquet"],
            lacking=lambda snapshot: _lacking(snapshot / where, source.kind),
            remedy=f"Where there is a network: python -m tune_adaptive.prefetch --task {name}/MODEL"
            " --to DIR; then search with --data-dir DIR.",
        )
        folder = snapshot / where
    if lacking := _lacking(folder, source.kind):
        raise InputError("\n".join(f"{folder}: {what}" for what in lacking))
    splits = (*REQUIRED_SPLITS, "validation")
    paths = {split: _files_of(folder, split, source.kind) for split in splits}
    return Files(folder, {split: found for split, found in paths.items() if found})


def _lacking(folder: Path, kind: str) -> list[str]:
    """Say what a data set's folder lacks: a split, or one of the files a split was cut into."""
    lacking = []
    for split in (*REQUIRED_SPLITS, "validation"):
        paths = _files_of(folder, split, kind)
        if not paths and split in REQUIRED_SPLITS:
            endings = (
                f"{split}-*.csv or {split}-*.jsonl"
                if kind == "text"
                else f"a folder {split}/ of a folder per class"
            )
            lacking.append(f"no {split}-*.parquet there, nor {endings}")
        there = {path.name for path in paths}
        for path in paths:
            if shard := SHARD.fullmatch(path.stem):
                width, num = len(shard["index"]), shard["num"]
                lacking += [
                    f"no {name} there"
                    for index in range(int(num))
                    if (name := f"{shard['split']}-{index:0{width}}-of-{num}{path.suffix}")
                    not in there
                ]
    return list(dict.fromkeys(lacking))


def _files_of(folder: Path, split: str, kind: str) -> list[Path]:
    """Return the split's files in the first format that is there."""
    for suffix in ("parquet", "csv", "jsonl") if kind == "text" else ("parquet",):
        if paths := sorted(
            {*folder.glob(f"{split}-*.{suffix}"), *folder.glob(f"{split}.{suffix}")}
        ):
            return paths
    inside = folder / split
    return [inside] if kind == "image" and inside.is_dir() else []


def read_images(
    paths: Sequence[Path], num_classes: int, shape: tuple[int, int, int]
) -> tuple[npt.NDArray[np.uint8], Labels]:
    """Read images and their classes.

    Args:
        paths: Parquet files in the hub's own columns (image or img, label), or a folder of a
            folder per class, the classes in the order of their names.
        num_classes: K; labels are in [0, K).
        shape: (H, W, C) of every image.

    Returns:
        Images, uint8, (N, H, W, C), and labels, int64, (N,).

    Raises:
        InputError: Which file and row, what is wrong there, and what is allowed.
    """
    images: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    for path in paths:
        if path.is_dir():
            classes = sorted(inside.name for inside in path.glob("*/"))
            for file in _images_in(path):
                images.append(_decode(file.read_bytes(), shape, str(file)))
                labels.append(classes.index(file.parent.name))
            _check_labels(labels, num_classes, str(path))
            continue
        column, of_file = _read(path, IMAGE_COLUMNS, num_classes)
        for row, cell in enumerate(column):
            encoded = cell.get("bytes") if isinstance(cell, dict) else None
            if not encoded:
                raise InputError(f"{path}: row {row}: no image bytes there")
            images.append(_decode(encoded, shape, f"{path}: row {row}"))
        labels += of_file
    return (
        np.stack(images) if images else np.empty((0, *shape), np.uint8),
        np.asarray(labels, dtype=np.int64),
    )


def read_texts(paths: Sequence[Path], num_classes: int) -> tuple[list[str], Labels]:
    """Read texts and their classes from Parquet, CSV or JSON lines (text, label).

    Raises:
        InputError: Which file and row, what is wrong there, and what is allowed.
    """
    texts: list[str] = []
    labels: list[int] = []
    for path in paths:
        column, of_file = _read(path, TEXT_COLUMNS, num_classes)
        for row, text in enumerate(column):
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"{path}: row {row}: the text is empty")
        texts += column
        labels += of_file
    return texts, np.asarray(labels, dtype=np.int64)


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*") if path.suffix.lower() in IMAGE_SUFFIXES)


def _decode(encoded: bytes, shape: tuple[int, int, int], where: str) -> npt.NDArray[np.uint8]:
    height, width, channels = shape
    try:
        image = np.asarray(Image.open(io.BytesIO(encoded)))
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{where}: not an image: {error}") from error
    image = image if image.ndim == 3 else image[:, :, None]
    if image.shape != shape or image.dtype != np.uint8:
        raise InputError(
            f"{where}: an image of {' x '.join(map(str, image.shape))} ({image.dtype}); must be "
            f"{height} x {width} x {channels} (uint8)"
        )
    return image


def _read(path: Path, names: Sequence[str], num_classes: int) -> tuple[list[Any], list[int]]:
    """Read the first of the columns ``names`` that is there, and the labels."""
    try:
        table = _table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read, truncated perhaps: {error}") from error
    name = next((name for name in names if name in table.column_names), None)
    if name is None or "label" not in table.column_names:
        raise InputError(
            f"{path}: needs the columns {' (or '.join(names)}{')' * (len(names) - 1)} and label, "
            f"has {table.column_names}"
        )
    labels = table.column("label").to_pylist()
    _check_labels(labels, num_classes, str(path))
    return table.column(name).to_pylist(), labels


def _table(path: Path) -> Any:
    if path.suffix == ".csv":
        lines = pyarrow.csv.ParseOptions(newlines_in_values=True)
        return pyarrow.csv.read_csv(path, parse_options=lines)
    if path.suffix == ".jsonl":
        return pyarrow.json.read_json(path)
    return pq.read_table(path)


def _check_labels(labels: Sequence[Any], num_classes: int, where: str) -> None:
    for row, label in enumerate(labels):
        if not isinstance(label, int) or not 0 <= label < num_classes:
            raise InputError(
                f"{where}: row {row}: label {label!r}; must be an integer in [0, {num_classes - 1}]"
            )
