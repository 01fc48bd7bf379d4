"""Texts to token ids, in parallel, once: by the training split's vocabulary, or a checkpoint's.

An encoder is made for one data set: ``encode = encoder(training_texts)``.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tune_adaptive.errors import InputError

Ids = list[list[int]]


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Texts to token ids.

    Attributes:
        encode: Returns at least one id for each text, at most the maximal length.
        vocab_size: Ids are in [0, vocab_size).
        pad_id: What pads rows on the right.
    """

    encode: Callable[[Sequence[str]], Ids]
    vocab_size: int
    pad_id: int


class Encoder(Protocol):
    """Makes the tokenizer of a data set."""

    @property
    def identity(self) -> str:
        """What decides its output, beside the texts."""

    def fit(self, texts: Sequence[str]) -> Tokenizer:
        """Make the tokenizer from the training split's texts."""


@dataclass(frozen=True, slots=True)
class Words:
    """Lower-cased words and runs of punctuation, the most frequent of the training split.

    Attributes:
        max_length: Most tokens of a text; the first are kept.
        vocab_size: Most words known, the padding (0) and the unknown word (1) among them.
        min_frequency: Rarer words are unknown.
    """

    max_length: int
    vocab_size: int = 20_000
    min_frequency: int = 2

    @property
    def identity(self) -> str:
        """What decides its output, beside the texts."""
        return f"words {self.max_length} {self.vocab_size} {self.min_frequency}"

    def fit(self, texts: Sequence[str]) -> Tokenizer:
        """Learn the vocabulary of ``texts``."""
        import tokenizers
        from tokenizers import models, normalizers, pre_tokenizers, trainers

        tokenizer = tokenizers.Tokenizer(models.WordLevel(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            special_tokens=["[PAD]", "[UNK]"],
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        tokenizer.enable_truncation(self.max_length)
        return Tokenizer(
            encode=lambda texts: [each.ids for each in tokenizer.encode_batch_fast(list(texts))],
            vocab_size=tokenizer.get_vocab_size(),
            pad_id=0,
        )


@dataclass(frozen=True, slots=True)
class Subwords:
    """A checkpoint's own tokenizer, its special tokens included.

    Attributes:
        folder: Of the checkpoint.
        max_length: Most tokens of a text; the first are kept.
    """

    folder: Path
    max_length: int

    @property
    def identity(self) -> str:
        """What decides its output, beside the texts."""
        digest = hashlib.sha256()
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            path = self.folder / name
            digest.update(path.read_bytes() if path.is_file() else b"-")
        return f"subwords {self.max_length} {digest.hexdigest()}"

    def fit(self, texts: Sequence[str]) -> Tokenizer:
        """Read the tokenizer; ``texts`` teach it nothing."""
        tokenizer = read_tokenizer(self.folder)

        def encode(texts: Sequence[str]) -> Ids:
            ids: Ids = tokenizer(
                list(texts),
                truncation=True,
                max_length=self.max_length,
                return_attention_mask=False,
                return_token_type_ids=False,
            )["input_ids"]
            return ids

        return Tokenizer(encode, len(tokenizer), tokenizer.pad_token_id)


def read_tokenizer(folder: Path) -> Any:
    """Read a checkpoint's tokenizer.

    Raises:
        InputError: It cannot be read, or cannot pad.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(f"--model-path {folder}: no tokenizer there: {error}") from error
    if tokenizer.pad_token_id is None:
        raise InputError(f"--model-path {folder}: its tokenizer has no padding token")
    return tokenizer
