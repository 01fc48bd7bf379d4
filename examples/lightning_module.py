"""AdaptiveLR in Lightning: ``configure_optimizers`` with interval "step".

    python examples/lightning_module.py

It trains a small model on real images, in seconds on a CPU.
"""

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tune_adaptive import AdaptiveLR, make_task, measure_complexity
from tune_adaptive.tasks.data import Examples

NUM_EPOCHS = 3
BATCH_SIZE = 64

Batch = tuple[Tensor, Tensor]


class Classifier(lightning.LightningModule):
    """A small network whose schedule hears its losses.

    Args:
        complexity: C of the training data, in [0, 1].
    """

    def __init__(self, complexity: float) -> None:
        super().__init__()
        self.complexity = complexity
        self.model = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 13 * 13, 10)
        )

    def configure_optimizers(self) -> dict[str, object]:
        """AdamW and AdaptiveLR, stepped once per optimizer step."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        self.schedule = AdaptiveLR(
            optimizer,
            total_steps=int(self.trainer.estimated_stepping_batches),
            complexity=self.complexity,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.schedule, "interval": "step"},
        }

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Tell the schedule the loss; it is not read before it must be."""
        x, y = batch
        loss = nn.functional.cross_entropy(self.model(x), y)
        self.schedule.observe(loss=loss)
        return loss

    def on_train_batch_end(self, outputs: object, batch: Batch, index: int) -> None:
        """End the training where the budget ends, or the loss is lost."""
        if self.schedule.finished or self.schedule.diverged:
            self.trainer.should_stop = True

    def test_step(self, batch: Batch, index: int) -> None:
        """Log the accuracy."""
        x, y = batch
        self.log("accuracy", (self.model(x).argmax(1) == y).float().mean())


def loader(examples: Examples, *, shuffle: bool = False) -> DataLoader[tuple[Tensor, ...]]:
    """Batches of standardised images and their classes."""
    x = torch.from_numpy(examples.x).permute(0, 3, 1, 2).float().div(255)
    data = TensorDataset((x - 0.29) / 0.35, torch.from_numpy(examples.y))
    return DataLoader(data, batch_size=BATCH_SIZE, shuffle=shuffle)


def main() -> None:
    """Train on 5,000 FashionMNIST images and print the test accuracy."""
    lightning.seed_everything(0, verbose=False)
    data = make_task("fashion_mnist_mini/cnn").load()
    module = Classifier(measure_complexity(data.train.y, num_features=28 * 28).value)
    trainer = lightning.Trainer(
        max_epochs=NUM_EPOCHS,
        accelerator="auto",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader(data.train, shuffle=True))
    (result,) = trainer.test(module, loader(data.test), verbose=False)
    print(f"progress {module.schedule.progress:.2f}  multiplier {module.schedule.multiplier:.2f}")
    print(f"test accuracy {result['accuracy']:.3f}")


if __name__ == "__main__":
    main()
