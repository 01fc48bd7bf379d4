"""Image models: (N, C, H, W) float in, (N, K) logits out."""

from functools import cache
from typing import Literal

from torch import Tensor, nn

from tune_adaptive.tasks.data import Description

Stem = Literal["cifar", "imagenet"]

SEVERAL_OUTPUTS = ("googlenet", "inception_v3")
"""In training they return auxiliary logits, too."""


def cnn(data: Description) -> nn.Module:
    """Build two convolutions and two linear layers (16 and 32 channels, 128 units).

    H and W must be at least 4.
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


def mlp(data: Description) -> nn.Module:
    """Build three hidden layers (128, 64, 32 units), each with ReLU and dropout 0.2."""
    height, width, channels = data.shape
    layers: list[nn.Module] = [nn.Flatten()]
    before = height * width * channels
    for units in (128, 64, 32):
        layers += [nn.Linear(before, units), nn.ReLU(), nn.Dropout(0.2)]
        before = units
    return nn.Sequential(*layers, nn.Linear(before, data.num_classes))


@cache
def torchvision_names() -> tuple[str, ...]:
    """Return the names of torchvision's classifiers, but for those of several outputs."""
    from torchvision import models

    return tuple(name for name in models.list_models(module=models) if name not in SEVERAL_OUTPUTS)


class InColours(nn.Module):
    """A model of colours that is given grey images: each is shown to it thrice."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of grey images (N, 1, H, W)."""
        logits: Tensor = self.model(images.expand(-1, 3, -1, -1))
        return logits


def torchvision_model(data: Description, name: str) -> nn.Module:
    """Build a classifier of torchvision from random weights, with a head for the classes.

    Args:
        data: What it is trained on.
        name: One of :func:`torchvision_names`.
    """
    from torchvision import models

    model: nn.Module = models.get_model(name, weights=None, num_classes=data.num_classes)
    return model if data.shape[2] == 3 else InColours(model)


def resnet18(data: Description, stem: Stem) -> nn.Module:
    """Build ResNet-18 from random weights (He et al., 2016, arXiv:1512.03385).

    Args:
        data: What it is trained on.
        stem: ``imagenet`` is the paper's: 7 x 7 convolution of stride 2, then max pooling.
            ``cifar`` is a 3 x 3 convolution of stride 1 and no pooling, for small images.
    """
    from torchvision.models import resnet18 as build

    model: nn.Module = build(num_classes=data.num_classes)
    channels = data.shape[2]
    if stem == "cifar":
        model.conv1 = nn.Conv2d(channels, 64, kernel_size=3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    elif channels != 3:
        model.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    if stem == "cifar" or channels != 3:
        assert isinstance(model.conv1, nn.Conv2d)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    return model
