"""Hugging Face encoders: found and read once by the driver, built from memory by the workers."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from tune_adaptive.errors import InputError
from tune_adaptive.system.files import expanded
from tune_adaptive.system.packages import meets
from tune_adaptive.tasks.data import Description
from tune_adaptive.tasks.download import fetch

DEFAULT_ENCODER = "google-bert/bert-base-uncased"
PINNED = {DEFAULT_ENCODER: "86b5e0934494bd15c9632b12f734a8a67f723594"}
FILES = ("*.json", "*.safetensors", "vocab.txt", "merges.txt")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An encoder's configuration and weights.

    Attributes:
        name: Hub id and revision, or the folder's name.
        config: What ``config.json`` holds.
        weights: By their names in the file, float32.
        sha256: Hash of the weights' files.
    """

    name: str
    config: Mapping[str, Any]
    weights: Mapping[str, npt.NDArray[Any]]
    sha256: str

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return sum(array.nbytes for array in self.weights.values())


class PretrainedClassifier(nn.Module):
    """An encoder with its own head for sequence classification.

    Token ids (N, L) and lengths (N,) in, logits (N, K) out. Nobody attends to the padding.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.takes_whole_masks = meets("transformers>=5.0")  # of four dimensions

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return logits (N, K) of ``tokens`` (N, L), of which ``lengths`` (N,) count."""
        place = torch.arange(tokens.shape[1], device=tokens.device)
        mask = place < lengths[:, None]
        if self.takes_whole_masks:  # of one of two it asks whether it masks anything, and waits
            mask = mask[:, None, None, :]
        logits: Tensor = self.model(input_ids=tokens, attention_mask=mask).logits
        return logits


def build_pretrained(data: Description, checkpoint: Checkpoint) -> nn.Module:
    """Build a :class:`PretrainedClassifier`; what the checkpoint lacks is drawn at random."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    config = AutoConfig.for_model(**dict(checkpoint.config))
    config.num_labels = data.num_classes
    config.dtype = torch.float32  # of the model, whatever its weights were stored in
    # Copies: training must not write into what other workers read.
    weights = {name: torch.from_numpy(array.copy()) for name, array in checkpoint.weights.items()}
    with _silent():
        kind: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
        model: nn.Module = kind.from_pretrained(
            None, config=config, state_dict=weights, attn_implementation="sdpa"
        )
    return PretrainedClassifier(model)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep transformers from reporting, at each trial, that the head is new."""
    from transformers.utils import logging as transformers_logging

    logger = logging.getLogger("transformers")
    level, bars = logger.level, transformers_logging.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def find_checkpoint(model_path: str) -> tuple[Path, str]:
    """Return a checkpoint's folder and name: a local folder, or the hub's snapshot.

    Args:
        model_path: A folder, or an id on the hub, from whose cache it is taken or else fetched.

    Raises:
        InputError: The folder lacks configuration, weights or tokenizer.
        EnvironmentFault: The hub does not answer and its cache has nothing.
    """
    folder = expanded(model_path, "--model-path")
    name = folder.resolve().name
    if not folder.is_dir():
        if model_path.startswith((".", "/", "~")) or model_path.count("/") > 1:
            raise InputError(f"--model-path {model_path}: there is no such folder")
        folder = fetch(
            model_path,
            "model",
            PINNED.get(model_path),
            FILES,
            _lacking,
            remedy="Where there is a network: python -m tune_adaptive prefetch --task DATASET/bert "
            f"--model-path {model_path} --to DIR; then search with the --model-path it prints.",
        )
        name = f"{model_path}@{folder.name}"
    if lacking := _lacking(folder):
        raise InputError(f"--model-path {model_path}: has no {', no '.join(lacking)}")
    return folder, name


def _lacking(folder: Path) -> list[str]:
    """Say which parts of a checkpoint ``folder`` lacks."""
    lacking = [
        what
        for what, patterns in (
            ("config.json", ["config.json"]),
            ("weights (*.safetensors)", ["*.safetensors"]),
            ("tokenizer (tokenizer.json or vocab.txt)", ["tokenizer.json", "vocab.txt"]),
        )
        if not any(path for pattern in patterns for path in folder.glob(pattern))
    ]
    for index in folder.glob("*.safetensors.index.json"):  # large weights lie in several files
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        lacking += [shard for shard in shards if not (folder / shard).is_file()]
    return lacking


def read_checkpoint(folder: Path, name: str) -> Checkpoint:
    """Read a checkpoint's configuration and weights.

    Raises:
        InputError: They cannot be read, or are of no encoder that classifies.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    digest, weights = hashlib.sha256(), {}
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = type(AutoConfig.for_model(**config))
        for path in sorted(folder.glob("*.safetensors")):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
            for key, tensor in load_file(path).items():
                weights[key] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise InputError(f"--model-path {folder}: cannot be read: {error}") from error
    if kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise InputError(
            f"--model-path {folder}: transformers has no sequence classifier for "
            f"{config.get('model_type')!r}"
        )
    return Checkpoint(name, config, weights, digest.hexdigest())
