"""A data set's files to its splits: pixels or texts, and classes."""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tune_adaptive.errors import InputError
from tune_adaptive.tasks.classes import Classes, named, raise_all
from tune_adaptive.tasks.data import Labels
from tune_adaptive.tasks.datasets import Source
from tune_adaptive.tasks.files import Files, images_of, readable
from tune_adaptive.tasks.images import decode
from tune_adaptive.tasks.tables import Table, read_table

COLUMNS = {"image": ("image", "img"), "text": ("text",)}


@dataclass(frozen=True, slots=True)
class Raw:
    """A data set as its files have it.

    Attributes:
        splits: Images, uint8, (N, H, W, C), or N texts; and their classes, int64, (N,).
        classes: Names of the classes, where they are known.
        remarks: What was converted.
    """

    splits: dict[str, tuple[npt.NDArray[np.uint8] | list[str], Labels]]
    classes: tuple[str, ...]
    remarks: tuple[str, ...]


def read_files(name: str, files: Files, source: Source) -> Raw:
    """Read all splits of a data set.

    Args:
        name: Of the data set, for messages.
        files: Where it lies.
        source: What it declares: K, and the shape of its images.

    Raises:
        InputError: Which files and rows, what is wrong there, and what is allowed.
    """
    tables = {
        split: [_table(path, source) for path in paths] for split, paths in files.splits.items()
    }
    if empty := [split for split, own in tables.items() if not any(t.labels for t in own)]:
        raise InputError(f"{files.folder}: {', '.join(empty)}: is empty")
    if source.num_classes is None:
        tables = {split: [named(table) for table in own] for split, own in tables.items()}
    classes = Classes.of(tables["train"], source.num_classes, name)
    num_rows = sum(len(table.labels) for table in tables["train"])
    if source.num_classes is None and len(classes.names) > num_rows / 2:
        raise InputError(
            f"{files.folder}: {len(classes.names)} classes in {num_rows} examples: is "
            f"{source.label!r} the column of labels? --label-column NAME says which"
        )
    splits: dict[str, tuple[npt.NDArray[np.uint8] | list[str], Labels]] = {}
    remarks: list[str] = []
    for split, own in tables.items():
        y = np.concatenate([classes.number(table) for table in own])
        if source.shape is None:
            splits[split] = [text for table in own for text in _texts(table)], y
            continue
        x, converted = _images(own, source.shape, source.is_resized)
        splits[split] = x, y
        remarks += [f"{split}: images converted, {how}: {num}" for how, num in converted.items()]
    return Raw(splits, classes.names, tuple(remarks))


def _table(path: Path, source: Source) -> Table:
    if not path.is_dir():
        return read_table(path, source.columns or COLUMNS[source.kind], source.label)
    images = images_of(path)
    return Table(path, images, [readable(file.parent.name) for file in images], is_named=True)


def _images(
    tables: Sequence[Table], shape: tuple[int, int, int], is_resized: bool
) -> tuple[npt.NDArray[np.uint8], Counter[str]]:
    """Decode the images of a split; count what was converted."""
    pixels = np.empty((sum(len(table.cells) for table in tables), *shape), np.uint8)
    converted: Counter[str] = Counter()
    where = ((table, row) for table in tables for row in range(len(table.cells)))

    def problems() -> Iterator[str]:
        for index, (table, row) in enumerate(where):
            try:
                pixels[index], how = decode(_encoded(table, row), shape, table.at(row), is_resized)
            except InputError as error:
                yield str(error)
                continue
            if how is not None:
                converted[how] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PIL, on damaged metadata and on sizes; both checked
        raise_all(problems())
    return pixels, converted


def _encoded(table: Table, row: int) -> bytes:
    """Return an image's bytes as they are stored."""
    cell: Any = table.cells[row]
    path = None
    if isinstance(cell, Path):
        try:
            cell = cell.read_bytes()
        except OSError as error:
            raise InputError(f"{cell}: cannot be read: {error.strerror}") from error
    elif isinstance(cell, dict):
        cell, path = cell.get("bytes"), cell.get("path")
    if not isinstance(cell, bytes) or not cell:
        at = f", only the path {path!r}" if path else ""
        raise InputError(f"{table.at(row)}: no image bytes there{at}")
    return cell


def _texts(table: Table) -> list[str]:
    raise_all(
        f"{table.at(row)}: {problem}"
        for row, text in enumerate(table.cells)
        if (problem := _problem(text))
    )
    return list(table.cells)


def _problem(text: object) -> str | None:
    if text is None:
        return "the text is missing"
    if not isinstance(text, str):
        return f"must be text, is {type(text).__name__}: {str(text)[:40]}"
    if not text.strip():
        return "the text is empty"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"the text holds half a surrogate pair, \\u{ord(text[error.start]):04x}"
    return None
