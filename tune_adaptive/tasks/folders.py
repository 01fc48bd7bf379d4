"""Any files as a data set, no Python needed: ``folder:PATH``, or ``hub:OWNER/NAME`` of the hub.

PATH is a folder with ``train`` and ``test`` (and ``validation``) in it, or with one file, or such a
file: Parquet, CSV, TSV or JSON lines with a column of texts or images and one of labels; or
folders of images, one a class. What the columns and the classes are is found in the files.

``hub:OWNER/NAME[@REVISION][#CONFIG]`` is such a folder, fetched: CONFIG is the folder in it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from tune_adaptive.errors import InputError, did_you_mean
from tune_adaptive.system.files import expanded
from tune_adaptive.tasks.datasets import Source
from tune_adaptive.tasks.download import fetch
from tune_adaptive.tasks.files import ROWS, Files, images_of, in_folder, lacking_in, rows_in
from tune_adaptive.tasks.images import FORMATS, SUFFIXES
from tune_adaptive.tasks.read import COLUMNS
from tune_adaptive.tasks.tables import header_of

FOLDER, HUB = "folder:", "hub:"
ON_HUB = re.compile(
    r"hub:(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(#(?P<config>[\w./-]+))?"
)
LABELS = ("label", "labels", "class", "target", "category", "sentiment")
"""What a column of labels is usually called."""
GREY = ("1", "L", "LA")


@dataclass(frozen=True, slots=True)
class Columns:
    """What a person says of the columns; None is found.

    Attributes:
        text: Name of the column of texts.
        image: Name of the column of images.
        label: Name of the column of labels.
        image_size: Side that images are scaled to; None leaves them.
    """

    text: str | None = None
    image: str | None = None
    label: str | None = None
    image_size: int | None = None


def is_of_files(dataset: str) -> bool:
    """Whether a data set is given by its files."""
    return dataset.startswith((FOLDER, HUB))


def problem_of(dataset: str) -> str | None:
    """Say why a data set cannot be opened, as far as nothing has to be fetched to know."""
    if dataset.startswith(HUB):
        is_right = ON_HUB.fullmatch(dataset) is not None
        return None if is_right else "must be hub:OWNER/NAME[@REVISION][#CONFIG]/MODEL"
    try:
        path = expanded(dataset.removeprefix(FOLDER), f"--task {dataset}")
    except InputError as error:
        return str(error)
    return None if path.exists() else "no such file or folder"


def name_of(dataset: str) -> str:
    """Return what a data set is called in names of files: the last part of where it lies."""
    if not is_of_files(dataset):
        return dataset
    if (found := ON_HUB.fullmatch(dataset)) is not None:
        stem = found["repo"].rpartition("/")[2]
    else:
        stem = Path(dataset.removeprefix(FOLDER)).expanduser().resolve().stem
    return re.sub(r"[^A-Za-z0-9._]+", "_", stem).strip("._") or "files"


def folder_of(dataset: str) -> tuple[Path, str]:
    """Return where a data set's files lie, fetched if need be, and where they are from.

    Raises:
        InputError: There is nothing there.
        EnvironmentFault: It is neither in the hub's cache nor to be had.
    """
    found = ON_HUB.fullmatch(dataset)
    if found is None:
        path = expanded(dataset.removeprefix(FOLDER), f"--task {dataset}")
        return path, str(path.absolute())
    config = found["config"]
    snapshot = fetch(
        found["repo"],
        "dataset",
        found["revision"],
        [f"{config}/*"] if config else [f"*{suffix}" for suffix in (*ROWS, *SUFFIXES)],
        lacking=lambda snapshot: lacking_in(snapshot if config is None else snapshot / config),
        remedy="Where there is a network, fetch it there, and give --task folder:PATH/MODEL.",
    )
    origin = f"{HUB}{found['repo']}@{snapshot.name}{f'#{config}' if config else ''}"
    if config is not None:
        return snapshot / config, origin
    inside = [snapshot, *sorted(path for path in snapshot.iterdir() if path.is_dir())]
    candidates = [path for path in inside if rows_in(path, "text")]
    if len(candidates) > 1:
        told = ", ".join(path.name for path in candidates if path != snapshot)
        raise InputError(f"--task {dataset}: which of its folders? #CONFIG; there is {told}")
    return (candidates[0] if candidates else snapshot), origin


def kind_of(path: Path, columns: Columns = Columns()) -> Literal["image", "text"]:
    """Return what a folder's examples are, by its first file."""
    if columns.text is not None:
        return "text"
    found = [path] if path.is_file() else rows_in(path, "text")
    if not found or columns.image is not None:
        return "image"
    first = found[0]
    header = header_of(first)
    is_image = first.suffix.lower() == ".parquet" and any(
        name in header for name in COLUMNS["image"]
    )
    return "image" if is_image else "text"


def open_folder(path: Path, columns: Columns) -> tuple[Files, Source]:
    """Return a person's own files, and what they are.

    Raises:
        InputError: What cannot be found in them, what there is, and the option that says it.
    """
    kind = kind_of(path, columns)
    files = in_folder(path, kind)
    first = files.splits["train"][0]
    if first.is_dir():
        if columns.label is not None:
            raise InputError(f"--label-column {columns.label}: {path} has folders, one a class")
        shape = _shape_of(images_of(first), path, columns.image_size)
        return files, Source(None, shape, is_resized=columns.image_size is not None)
    header = header_of(first)
    label = _label(first, header, columns.label)
    if kind == "text":
        return files, Source(
            None, columns=(_text(first, header, label, columns.text),), label=label
        )
    if columns.image_size is None:
        raise InputError(f"{path}: images in a table need --image-size")
    names = COLUMNS["image"] if columns.image is None else (columns.image,)
    side = columns.image_size
    return files, Source(None, (side, side, 3), columns=names, label=label, is_resized=True)


def _label(path: Path, header: Sequence[str], asked: str | None) -> str:
    if asked is not None:
        if asked not in header:
            raise InputError(f"--label-column {asked}: {path} has not{did_you_mean(asked, header)}")
        return asked
    found = [name for name in header if name.lower() in LABELS]
    if len(found) != 1:
        raise InputError(
            f"{path}: which column holds the labels? --label-column NAME; there is "
            f"{', '.join(header[:20])}"
        )
    return found[0]


def _text(path: Path, header: Sequence[str], label: str, asked: str | None) -> str:
    if asked is not None:
        if asked not in header:
            raise InputError(f"--text-column {asked}: {path} has not{did_you_mean(asked, header)}")
        return asked
    others = [name for name in header if name != label]
    if "text" in others:
        return "text"
    if len(others) != 1:
        raise InputError(
            f"{path}: which column holds the texts? --text-column NAME; there is "
            f"{', '.join(others[:20])}"
        )
    return others[0]


def _shape_of(images: Sequence[Path], path: Path, side: int | None) -> tuple[int, int, int]:
    """Return the (H, W, C) that all images have, or are scaled to."""
    sizes: Counter[tuple[int, int]] = Counter()
    is_grey = True
    for file in images:
        try:
            with Image.open(file, formats=FORMATS) as image:
                sizes[image.size] += 1
                is_grey &= image.mode in GREY
        except Exception:  # reading it will say what is wrong
            continue
    if not sizes:
        raise InputError(f"{path}: none of its {len(images)} images can be read")
    if side is None and len(sizes) != 1:
        told = ", ".join(f"{h} x {w} ({num})" for (w, h), num in sizes.most_common(5))
        raise InputError(
            f"{path}: images of {len(sizes)} sizes: {told}; --image-size N scales all to N x N"
        )
    width, height = (side, side) if side is not None else next(iter(sizes))
    return height, width, 1 if is_grey else 3
