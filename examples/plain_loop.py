"""AdaptiveLR in a plain PyTorch loop.

    python examples/plain_loop.py

It trains a small model on real images, in seconds on a CPU.
"""

import torch
from torch import Tensor, nn

from tune_adaptive import AdaptiveLR, make_task, measure_complexity
from tune_adaptive.tasks.data import Examples

NUM_EPOCHS = 3
BATCH_SIZE = 64


def as_tensors(examples: Examples) -> tuple[Tensor, Tensor]:
    """Standardised images, float32 (N, C, H, W), and their classes (N,)."""
    x = torch.from_numpy(examples.x).permute(0, 3, 1, 2).float().div(255)
    return (x - 0.29) / 0.35, torch.from_numpy(examples.y)


def main() -> None:
    """Train a small network on 5,000 FashionMNIST images and print its test accuracy."""
    torch.manual_seed(0)
    data = make_task("fashion_mnist_mini/cnn").load()
    x, y = as_tensors(data.train)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 13 * 13, 10)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = AdaptiveLR(
        optimizer,
        total_steps=NUM_EPOCHS * -(-len(y) // BATCH_SIZE),
        complexity=measure_complexity(data.train.y, num_features=x[0].numel()).value,
    )
    while not (schedule.finished or schedule.diverged):
        for batch in torch.randperm(len(y)).split(BATCH_SIZE):
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.observe(loss=loss, grad_norm=norm)  # nothing is read before it must be
            schedule.step()
            if schedule.finished or schedule.diverged:
                break
        with schedule.paused(), torch.inference_mode():  # not on the budget's clock
            x_test, y_test = as_tensors(data.test)
            accuracy = (model(x_test).argmax(1) == y_test).float().mean().item()
        print(
            f"progress {schedule.progress:.2f}  lr {schedule.get_last_lr()[0]:.2e}  "
            f"test accuracy {accuracy:.3f}"
        )


if __name__ == "__main__":
    main()
