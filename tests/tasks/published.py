"""Small folders in the layout of published data sets and checkpoints."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tune_adaptive.tasks import DATASETS

WORDS = ("good", "bad", "film", "plot", "the", "a", "ball", "vote", "shares", "chip", "of", "and")


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.squeeze(pixels)).save(file, format="PNG")
    return file.getvalue()


def write_parquet(path: Path, columns: dict[str, Sequence[Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def publish(data_dir: Path, name: str, num_train: int = 100, num_test: int = 40) -> Path:
    """Write ``data_dir/name`` in the hub's own columns; classes differ."""
    rng = np.random.default_rng(0)
    source = DATASETS[name]
    for split, num in (("train", num_train), ("test", num_test)):
        labels = [index % source.num_classes for index in range(num)]
        columns: dict[str, Sequence[Any]]
        if source.shape is None:
            texts = [
                " ".join([WORDS[label], *rng.choice(WORDS[4:], size=rng.integers(1, 12))])
                for label in labels
            ]
            columns = {"text": texts, "label": labels}
        else:
            images = [
                (rng.integers(0, 30, source.shape) + 20 * label).astype(np.uint8)
                for label in labels
            ]
            cells = [{"bytes": png(image), "path": None} for image in images]
            columns = {"img" if name == "cifar10" else "image": cells, "label": labels}
        write_parquet(data_dir / name / f"{split}-00000-of-00001.parquet", columns)
    return data_dir / name


def save_encoder(folder: Path) -> Path:
    """Save a BERT of one small layer, with random weights and a tokenizer of ``WORDS``."""
    import tokenizers
    import torch
    from tokenizers import models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocab = {word: i for i, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(vocab),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
        )
    ).save_pretrained(folder)
    return folder
