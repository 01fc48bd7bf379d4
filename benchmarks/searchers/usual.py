"""What a user of Ray Tune or Optuna writes for one training; the rival searches share it.

Written well: fused AdamW, channels_last, bf16 where the work says so, no synchronisation but
the epoch's. Images are fed from resident tensors, standardised once, or, with ``"feed":
"loader"``, by a ``DataLoader`` over torchvision's transforms, which most scripts have.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import transforms

MEAN, STD = 0.2860, 0.3530  # FashionMNIST's, as everyone has them

Work = dict[str, Any]
"""The file that the benchmark wrote: data, precision, num_epochs, slots, space, trials, ..."""


def read_work() -> Work:
    """Read the work file, the script's first argument."""
    work: Work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    return work


def write_done(work: Work, done: list[dict[str, float]]) -> None:
    """Write what each trial's last epoch returned."""
    Path(work["done"]).write_text(json.dumps(done), encoding="utf-8")


class Images(Dataset[tuple[Tensor, int]]):
    """Images in memory, transformed one by one."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = x, y
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))]
        )

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.x[index, :, :, 0])), int(self.y[index])


class Data:
    """The training and the validation split, read from their file."""

    def __init__(self, work: Work) -> None:
        with np.load(work["data"]) as file:
            train = file["train_x"], file["train_y"]
            validation = file["validation_x"], file["validation_y"]
        if work["feed"] == "loader":
            self.train: Dataset[Any] = Images(*train)
            self.validation: Dataset[Any] = Images(*validation)
        else:
            self.train, self.validation = tensors(*train), tensors(*validation)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the training split in random order."""
        if isinstance(self.train, TensorDataset):
            x, y = self.train.tensors
            for rows in torch.randperm(len(x)).split(batch_size):
                yield x[rows], y[rows]
        else:
            yield from DataLoader(self.train, batch_size, shuffle=True)

    def validation_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the validation split as it comes."""
        if isinstance(self.validation, TensorDataset):
            x, y = self.validation.tensors
            yield from zip(x.split(250), y.split(250), strict=True)
        else:
            yield from DataLoader(self.validation, batch_size=250)


def tensors(x: np.ndarray, y: np.ndarray) -> TensorDataset:
    """Standardise a whole split; it stays channels_last."""
    images = torch.from_numpy(x).permute(0, 3, 1, 2).float().div_(255).sub_(MEAN).div_(STD)
    return TensorDataset(images, torch.from_numpy(y).long())


def cnn() -> nn.Module:
    """Build the task's network."""
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


class Training:
    """One trial: AdamW and StepLR after a linear warm-up, one epoch a call."""

    def __init__(self, config: dict[str, float], data: Data, work: Work) -> None:
        self.started_at = time.time()
        self.data, self.precision, self.batch_size = data, work["precision"], work["batch_size"]
        torch.manual_seed(0)
        self.model = cnn().to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=config["lr"],
            weight_decay=config["weight_decay"],
            fused=True,
        )
        total = work["num_epochs"] * -(-len(data.train) // self.batch_size)  # type: ignore[arg-type]
        warmup = round(config["warmup_frac"] * total)
        drop_every = max(1, round(config["step_size_frac"] * total))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: (
                (step + 1) / warmup
                if step < warmup
                else config["gamma"] ** ((step - warmup) // drop_every)
            ),
        )

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass."""
        return torch.autocast("cpu", torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def epoch(self) -> dict[str, float]:
        """Train one epoch and validate; return the metrics to report."""
        self.model.train()
        losses = []
        for x, y in self.data.batches(self.batch_size):
            with self.autocast():
                loss = cross_entropy(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.schedule.step()
            losses.append(loss.detach())
        self.model.eval()
        num_correct = num_seen = 0
        with torch.inference_mode():
            for x, y in self.data.validation_batches():
                with self.autocast():
                    num_correct += int((self.model(x).argmax(1) == y).sum())
                num_seen += len(y)
        return {
            "train_loss": float(torch.stack(losses).mean()),
            "val_metric": num_correct / num_seen,
            "started_at": self.started_at,
            "ended_at": time.time(),
        }
