"""Image models."""

from torch import nn

from tune_adaptive.tasks.data import Description


def cnn(data: Description) -> nn.Module:
    """Build two convolutions and two linear layers (16 and 32 channels, 128 units).

    Input (N, C, H, W) float, output (N, K) logits. H and W must be at least 4.
    """
    height, width, channels = data.shape
    return nn.Sequential(
        nn.Conv2d(channels, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), 128),
        nn.ReLU(),
        nn.Linear(128, data.num_classes),
    )
