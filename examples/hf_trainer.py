"""AdaptiveLR in the Hugging Face Trainer: ``optimizers=`` and a callback that feeds it.

    python examples/hf_trainer.py

It trains a small model on real images, in seconds on a CPU.
"""

import tempfile
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

from tune_adaptive import AdaptiveLR, make_task, measure_complexity
from tune_adaptive.tasks.data import Examples

NUM_EPOCHS = 3
BATCH_SIZE = 64


class Observe(TrainerCallback):
    """Tells the schedule each micro-batch's loss, stops its clock, and ends with it."""

    def __init__(self, schedule: AdaptiveLR) -> None:
        self.schedule = schedule
        self._pause = ExitStack()

    def on_train_begin(self, *args: Any, model: nn.Module, **kwargs: Any) -> None:
        """Hear each training loss where the model returns it, without reading it."""

        def hear(module: nn.Module, inputs: Any, outputs: Any) -> None:
            if module.training:
                self.schedule.observe(loss=outputs.loss)

        self._hook = model.register_forward_hook(hear)

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Let the clock go on after evaluating and saving."""
        self._pause.close()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop the clock for them; end the training where the budget ends."""
        self._pause.close()
        if control.should_evaluate or control.should_save:
            self._pause.enter_context(self.schedule.paused())
        control.should_training_stop |= self.schedule.finished or self.schedule.diverged

    on_epoch_end = on_step_end

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Leave the model as it was."""
        self._pause.close()
        self._hook.remove()


class Images(Dataset[dict[str, torch.Tensor]]):
    """Images as the Trainer wants them."""

    def __init__(self, examples: Examples) -> None:
        self.x = torch.from_numpy(examples.x).permute(0, 3, 1, 2).float().div(255)
        self.y = torch.from_numpy(examples.y)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"pixel_values": (self.x[index] - 0.29) / 0.35, "labels": self.y[index]}


def main() -> None:
    """Train a small vision transformer on 5,000 FashionMNIST images, print its accuracy."""
    torch.manual_seed(0)
    data = make_task("fashion_mnist_mini/cnn").load()
    model = ViTForImageClassification(
        ViTConfig(
            image_size=28,
            patch_size=7,
            num_channels=1,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            num_labels=10,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    schedule = AdaptiveLR(
        optimizer,
        total_steps=NUM_EPOCHS * -(-len(data.train.y) // BATCH_SIZE),
        complexity=measure_complexity(data.train.y, num_features=28 * 28).value,
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            TrainingArguments(
                output_dir=folder,
                num_train_epochs=NUM_EPOCHS,
                per_device_train_batch_size=BATCH_SIZE,
                eval_strategy="epoch",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Images(data.train),
            eval_dataset=Images(data.test),
            compute_metrics=lambda p: {
                "accuracy": float(np.mean(p.predictions.argmax(1) == p.label_ids))
            },
            optimizers=(optimizer, schedule),
            callbacks=[Observe(schedule)],
        )
        trainer.train()
        accuracy = trainer.evaluate()["eval_accuracy"]
    print(f"progress {schedule.progress:.2f}  multiplier {schedule.multiplier:.2f}")
    print(f"test accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
