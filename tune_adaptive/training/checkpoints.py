"""The state of a run between two of its steps, kept where another process finds it.

A checkpoint is one safetensors file: its tensors, and in its header, as JSON, all the rest and
a checksum. Nothing of it can run when it is read. It replaces the one before in one go, so that
a process killed while it writes leaves that one whole.
"""

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import safetensors.torch
import torch
from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError
from torch import Tensor

from tune_adaptive.errors import EnvironmentFault
from tune_adaptive.records.codec import UNREADABLE, Count, convert, parse_json
from tune_adaptive.records.runs import RunSpec


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run between two steps.

    Attributes:
        run: What is trained.
        num_epochs: Whole epochs that it has done.
        state: All else: plain Python with tensors in it, nested as it likes.
    """

    run: RunSpec
    num_epochs: int
    state: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """Return it as a safetensors file.

        Raises:
            TypeError: Something in its state is neither plain Python nor a tensor.
        """
        tensors: dict[str, Tensor] = {}
        told = json.dumps(
            {
                "run": self.run.to_dict(),
                "num_epochs": self.num_epochs,
                "state": _pack(self.state, tensors),
            }
        )
        header = {"checkpoint": told, "sha256": _sha256(told, tensors)}
        return bytes(safetensors.torch.save(tensors, header))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Checkpoint":
        """Read what :meth:`to_bytes` returned.

        Raises:
            ValueError: It is torn or damaged.
        """
        try:
            tensors = safetensors.torch.load(data)
            (size,) = struct.unpack_from("<Q", data)
            header = parse_json(data[8 : 8 + size], "header")["__metadata__"]
            told = header["checkpoint"]
            if header["sha256"] != _sha256(told, tensors):
                raise ValueError("its checksum is another")
            row = convert(parse_json(told, "checkpoint"), _Row, "checkpoint")
            return cls(row.run, row.num_epochs, _unpack(row.state, tensors))
        except (*UNREADABLE, SafetensorError, struct.error, LookupError, TypeError) as error:
            raise ValueError(f"not a whole checkpoint: {error!r}") from error


@dataclass(frozen=True, slots=True)
class _Row:
    """A checkpoint without its tensors."""

    run: RunSpec
    num_epochs: Count
    state: Any


def _sha256(told: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(told.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return ``value`` as JSON, its tensors moved to ``tensors``."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[key, _pack(each, tensors)] for key, each in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_pack(each, tensors) for each in value]}
    if isinstance(value, list):
        return [_pack(each, tensors) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint cannot hold {value!r}")


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    [(kind, held)] = value.items()
    if kind == "tensor":
        return tensors[held]
    if kind == "tuple":
        return tuple(_unpack(each, tensors) for each in held)
    return {key: _unpack(each, tensors) for key, each in held}


def as_kept(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state as a checkpoint gives it back.

    Raises:
        TypeError: Something in it is neither plain Python nor a tensor.
    """
    tensors: dict[str, Tensor] = {}
    packed = json.loads(json.dumps(_pack(state, tensors)))
    kept: Mapping[str, Any] = _unpack(packed, tensors)
    return kept


class CheckpointStore:
    """A folder of checkpoints, one a run, that all workers and the driver see.

    Args:
        root: A folder, or the URL (``SCHEME://``) of one that fsspec knows.

    Raises:
        EnvironmentFault: fsspec cannot open such a URL here.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        try:
            if "://" in root:
                self._files, self._folder = fsspec.core.url_to_fs(root)
            else:  # a folder's name may hold what means something in a URL
                self._files, self._folder = LocalFileSystem(), os.path.abspath(root)
        except (ValueError, ImportError) as error:
            raise EnvironmentFault(f"{root}: cannot be written: {error}") from error
        self._is_local = "file" in self._files.protocol

    def read(self, run: RunSpec) -> Checkpoint | None:
        """Return the checkpoint of ``run``; None where there is none that is whole and its own."""
        try:
            checkpoint = Checkpoint.from_bytes(self._files.cat_file(self._path(run)))
        except (OSError, ValueError):
            return None
        return checkpoint if checkpoint.run == run else None

    def write(self, checkpoint: Checkpoint) -> None:
        """Put ``checkpoint`` in the place of the one before."""
        self._put(self._path(checkpoint.run), checkpoint.to_bytes())

    def remove(self, run_id: str) -> None:
        """Forget what is kept of a run, if anything is."""
        for name in (f"{run_id}.safetensors", f"{run_id}.safetensors.new", f"{run_id}.txt"):
            with suppress(OSError):  # it does no harm there
                self._remove(f"{self._folder}/{name}")

    def leave_last_words(self, run_id: str, words: str) -> None:
        """Keep what a process has to say of a run before it ends itself."""
        self._put(f"{self._folder}/{run_id}.txt", words.encode())

    def take_last_words(self, run_id: str) -> str:
        """Return what was said of a run, once; nothing where nothing was."""
        path = f"{self._folder}/{run_id}.txt"
        try:
            words = self._files.cat_file(path).decode()
            self._remove(path)
        except OSError:
            return ""
        return str(words)

    def ask_to_stop(self) -> None:
        """Ask every run at work to keep its state now and to end its work."""
        self._put(self._stop, b"")

    def is_asked_to_stop(self) -> bool:
        """Whether somebody asked."""
        return bool(self._files.exists(self._stop))

    def open(self) -> None:
        """Make the folder, and forget that anybody asked to stop.

        Raises:
            EnvironmentFault: It cannot be written.
        """
        try:
            self._files.makedirs(self._folder, exist_ok=True)
            self._put(self._stop, b"")
            self._remove(self._stop)
        except Exception as error:  # every file system has errors of its own
            raise EnvironmentFault(f"{self.root}: cannot be written: {error}") from error

    @property
    def _stop(self) -> str:
        return f"{self._folder}/stop"

    def _path(self, run: RunSpec) -> str:
        return f"{self._folder}/{run.id}.safetensors"

    def _put(self, path: str, data: bytes) -> None:
        if not self._is_local:  # an object appears whole or not at all
            self._files.pipe_file(path, data)
            return
        new = Path(f"{path}.new")
        try:
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)  # it takes the room that is wanting
            raise

    def _remove(self, path: str) -> None:
        if self._files.exists(path):
            self._files.rm_file(path)
