"""Where a data set comes from: which files are its splits, and what else lies there.

In this order: the folder the person named, the local cache of the hub, the hub. Never a
silent substitute: a folder that was named must have it.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tune_adaptive.errors import InputError
from tune_adaptive.tasks.datasets import Source
from tune_adaptive.tasks.download import fetch
from tune_adaptive.tasks.images import SUFFIXES

REQUIRED_SPLITS = ("train", "test")
ROWS = (".parquet", ".csv", ".tsv", ".jsonl")
FORMATS = {"text": ("parquet", "csv", "tsv", "jsonl"), "image": ("parquet",)}
SHARD = re.compile(r"(?P<split>.+)-(?P<index>\d+)-of-(?P<num>\d+)")
"""How the hub names the files of a split that it cut."""
MAX_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Files:
    """A data set's files.

    Attributes:
        folder: Where they lie.
        splits: By split, its files, or the one folder that holds a folder of images per class;
            ``train`` and ``test``, and ``validation`` where the data set has its own.
        unused: What else lies there, in words.
    """

    folder: Path
    splits: Mapping[str, Sequence[Path]]
    unused: tuple[str, ...] = ()

    def sha256(self) -> str:
        """Hash the content of all files that are used."""
        digest = hashlib.sha256()
        for split, paths in sorted(self.splits.items()):
            digest.update(split.encode())
            for path in paths:
                for file in images_of(path) if path.is_dir() else [path]:
                    digest.update(os.fsencode(file.relative_to(self.folder)))
                    try:
                        with file.open("rb") as opened:
                            digest.update(hashlib.file_digest(opened, "sha256").digest())
                    except OSError as error:
                        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
        return digest.hexdigest()


def in_folder(path: Path, kind: str) -> Files:
    """Find the files of a person's own data set: those of its splits, or one that is all of it.

    Args:
        path: A folder as :func:`find_files` reads it, with one file of rows or a folder a class
            in it, or such a file.
        kind: ``image`` or ``text``.

    Raises:
        InputError: There are none, and what there is.
    """
    if path.is_file():
        return Files(path.parent, {"train": [path]})
    splits = {
        split: own
        for split in (*REQUIRED_SPLITS, "validation")
        if (own := _files_of(path, split, kind))
    }
    if not splits:
        whole = rows_in(path, kind)
        if len(whole) > 1 and not SHARD.fullmatch(whole[0].stem):
            raise InputError(
                f"{path}: {', '.join(each.name for each in whole)}: name them train and "
                "test, or give one of them"
            )
        splits = {"train": whole or [path]}
    if "train" not in splits:
        raise InputError(f"{path}: no train{_there(path)}")
    if missing := dict.fromkeys(each for own in splits.values() for each in _missing_shards(own)):
        raise InputError("\n".join(f"{path}: {each}" for each in missing))
    if not splits["train"][0].is_dir() or images_of(splits["train"][0]):
        return Files(path, splits, _unused(path, splits))
    raise InputError(
        f"{path}: no parquet, csv, tsv or jsonl there, nor folders of images{_there(path)}"
    )


def lacking_in(snapshot: Path) -> list[str]:
    """Say what a copy of a data set lacks: the rest of a split that was cut, or any file at all."""
    files = [path for path in snapshot.rglob("*") if path.is_file()]
    data = [path for path in files if path.suffix.lower() in (*ROWS, *SUFFIXES)]
    by_folder: dict[Path, list[Path]] = {}
    for path in data:
        by_folder.setdefault(path.parent, []).append(path)
    missing = [each for own in by_folder.values() for each in _missing_shards(own)]
    return list(dict.fromkeys(missing)) if data else ["its files"]


def rows_in(folder: Path, kind: str) -> list[Path]:
    """Return the files of rows in a folder, in the first format that is there."""
    for suffix in FORMATS[kind]:
        if found := sorted(each for each in folder.glob(f"*.{suffix}") if each.is_file()):
            return found
    return []


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
            remedy=f"Where there is a network: python -m tune_adaptive prefetch --task {name}/MODEL"
            " --to DIR; then search with --data-dir DIR.",
        )
        folder = snapshot / where
    if lacking := _lacking(folder, source.kind):
        raise InputError("\n".join(f"{folder}: {what}" for what in lacking))
    splits = (*REQUIRED_SPLITS, "validation")
    paths = {split: _files_of(folder, split, source.kind) for split in splits}
    found = {split: own for split, own in paths.items() if own}
    return Files(folder, found, _unused(folder, found))


def _lacking(folder: Path, kind: str) -> list[str]:
    """Say what a data set's folder lacks: a split, or one of the files a split was cut into."""
    lacking = []
    for split in (*REQUIRED_SPLITS, "validation"):
        paths = _files_of(folder, split, kind)
        if not paths and split in REQUIRED_SPLITS:
            endings = (
                f"{split}-*.csv, {split}-*.tsv or {split}-*.jsonl"
                if kind == "text"
                else f"a folder {split}/ of a folder per class"
            )
            lacking.append(f"no {split}-*.parquet there, nor {endings}{_there(folder)}")
        lacking += _missing_shards(paths)
    return list(dict.fromkeys(lacking))


def _missing_shards(paths: Sequence[Path]) -> list[str]:
    """Say which of the files that a split was cut into are not among ``paths``."""
    there = {path.name for path in paths}
    missing = []
    for path in paths:
        if shard := SHARD.fullmatch(path.stem):
            split, width, num = shard["split"], len(shard["index"]), shard["num"]
            names = [f"{split}-{i:0{width}}-of-{num}{path.suffix}" for i in range(int(num))]
            missing += [f"no {name} there" for name in names if name not in there]
    return missing


def _there(folder: Path) -> str:
    """Say what lies in a folder that lacks something."""
    names = sorted(readable(path.name) for path in folder.iterdir()) if folder.is_dir() else []
    return f"; there is {_some(names)}" if names else ""


def _files_of(folder: Path, split: str, kind: str) -> list[Path]:
    """Return the split's files in the first format that is there."""
    for suffix in FORMATS[kind]:
        named = {*folder.glob(f"{split}-*.{suffix}"), *folder.glob(f"{split}.{suffix}")}
        if paths := sorted(path for path in named if path.is_file()):
            return paths
    inside = folder / split
    return [inside] if kind == "image" and inside.is_dir() else []


def images_of(folder: Path) -> list[Path]:
    """Return the images of a folder of a folder per class, in the order of their paths.

    Raises:
        InputError: What is named like an image is no file.
    """
    images = sorted(
        path
        for inside in folder.iterdir()
        if inside.is_dir() and not _is_hidden(inside)
        for path in inside.iterdir()
        if _is_image(path)
    )
    if strange := [path for path in images if not path.is_file()]:
        raise InputError(
            "\n".join(
                f"{path}: " + ("a broken link" if path.is_symlink() else "not a regular file")
                for path in strange[:MAX_SHOWN]
            )
        )
    return images


def _unused(folder: Path, splits: Mapping[str, Sequence[Path]]) -> tuple[str, ...]:
    """Say what lies in a data set's folder and is not read, and how much of it."""
    used = {path for paths in splits.values() for path in paths}
    is_whole = folder in used  # its folders are the classes
    unused = [("files", path) for path in folder.iterdir() if not (is_whole or path in used)]
    for split in filter(Path.is_dir, used):
        for inside in split.iterdir():
            if _is_hidden(inside):
                unused.append(("hidden files", inside))
            elif not inside.is_dir():
                unused.append(("files outside the classes", inside))
            elif not any(map(_is_image, inside.iterdir())):
                unused.append(("folders without images", inside))
            else:
                unused += [(_kind(path), path) for path in inside.iterdir() if not _is_image(path)]
    by_kind: dict[str, list[str]] = {}
    for kind, path in unused:
        by_kind.setdefault(kind, []).append(readable(str(path.relative_to(folder))))
    return tuple(
        f"not used, {kind}: {len(names)} ({_some(sorted(names))})"
        for kind, names in sorted(by_kind.items())
    )


def _kind(path: Path) -> str:
    """Say what lies beside the images of a class."""
    if _is_hidden(path):
        return "hidden files"
    return "folders within classes" if path.is_dir() else "files that are no images"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_SHOWN]) + (", ..." if len(names) > MAX_SHOWN else "")


def _is_hidden(path: Path) -> bool:
    return path.name.startswith((".", "__MACOSX"))


def _is_image(path: Path) -> bool:
    """Whether its name is an image's. A folder or a hidden file of that name is none."""
    return path.suffix.lower() in SUFFIXES and not _is_hidden(path) and not path.is_dir()


def readable(name: str) -> str:
    """Return a file's name as text that can be stored: what is not UTF-8 in it is escaped."""
    return os.fsencode(name).decode(errors="backslashreplace")
