"""Random augmentation of image batches, on the device they lie on."""

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from tune_adaptive.tasks.datasets import Augment

STANDARD_PIXELS = 4
SHIFT_PIXELS = 2
ROTATION_DEGREES = 20.0
SHIFT = SHEAR = ZOOM = 0.2


def augmented(images: Tensor, augment: Augment, generator: Generator) -> Tensor:
    """Return ``images``, uint8 (N, C, H, W), each changed at random; the dtype stays.

    ``none`` changes nothing. ``standard`` pads by 4 black pixels, crops at random and flips
    half of the images left to right (He et al., 2016, section 4.2). ``shift`` pads by 2 and crops,
    for what means something else when mirrored, as digits do. ``document`` is the founding code
    change: rotation by at most 20 degrees, shifts by at most 0.2 of the size, shear by a
    factor of at most 0.2, zoom between 0.8 and 1.2, flip; what enters at the edges repeats them.
    """
    if augment == "standard":
        return _pad_crop(images, STANDARD_PIXELS, generator, flip=True)
    if augment == "shift":
        return _pad_crop(images, SHIFT_PIXELS, generator, flip=False)
    if augment == "document":
        return _affine(images, generator)
    return images


def _pad_crop(images: Tensor, most: int, generator: Generator, *, flip: bool) -> Tensor:
    num, _, height, width = images.shape
    device = images.device
    padded = pad(images, (most,) * 4).permute(0, 2, 3, 1)
    offsets = torch.randint(0, 2 * most + 1, (2, num, 1), generator=generator, device=device)
    rows = offsets[0] + torch.arange(height, device=device)
    across = torch.arange(width, device=device)
    if flip:
        flipped = torch.rand(num, 1, generator=generator, device=device) < 0.5
        across = torch.where(flipped, width - 1 - across, across)
    columns = (offsets[1] + across).expand(num, width)
    each = torch.arange(num, device=device)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _affine(images: Tensor, generator: Generator) -> Tensor:
    num, device = len(images), images.device

    def uniform(high: float) -> Tensor:
        return high * (2 * torch.rand(num, generator=generator, device=device) - 1)

    angle, shear = uniform(math.radians(ROTATION_DEGREES)), uniform(SHEAR)
    # In affine_grid's coordinates an image is 2 wide.
    shift_x, shift_y = 2 * uniform(SHIFT), 2 * uniform(SHIFT)
    zoom_x, zoom_y = 1 + uniform(ZOOM), 1 + uniform(ZOOM)
    flip = torch.where(torch.rand(num, generator=generator, device=device) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.stack(
        [
            torch.stack([flip * zoom_x * cos, zoom_y * (shear * cos - sin), shift_x], dim=1),
            torch.stack([flip * zoom_x * sin, zoom_y * (shear * sin + cos), shift_y], dim=1),
        ],
        dim=1,
    )
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    moved = grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return moved.round_().to(torch.uint8)
