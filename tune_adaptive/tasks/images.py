"""Encoded images to pixels in the shape a data set declares.

Only what loses nothing is converted: palettes, 1-bit images, opaque alpha channels, grey
stored as colour, the orientation that a camera recorded. Everything else is refused.
"""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps

from tune_adaptive.errors import InputError

SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".tif", ".tiff"),
    ".gif",
)
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
"""What is decoded. Not whatever PIL opens: EPS, for one, would start another program."""

WORDS = {"1": "1-bit", "P": "palette", "PA": "palette with alpha", "LA": "grey with alpha"}
"""Modes of PIL that are converted, in words, where their names say little."""
UNSCALABLE = {"1": "L", "P": "RGBA", "PA": "RGBA"}
"""Modes whose pixels cannot be averaged, and what they are scaled as."""
CONVERTED = ("L", "RGB", "RGBA", *WORDS)
MAX_PIXELS = 2**27
"""Of an image that is scaled down: a small file may claim gigabytes."""
ORIENTATION = 0x0112  # of EXIF; 1 is upright


def decode(
    encoded: bytes, shape: tuple[int, int, int], where: str, is_resized: bool = False
) -> tuple[npt.NDArray[np.uint8], str | None]:
    """Decode one image.

    Args:
        encoded: PNG, JPEG, BMP, WebP, TIFF or GIF.
        shape: (H, W, C) that it must have; C is 1 or 3.
        where: File, and row if any, for messages.
        is_resized: Whether one of another size is scaled and cut at its middle.

    Returns:
        Pixels, uint8, (H, W, C), and what was converted, if anything.

    Raises:
        InputError: It cannot be decoded, has another size, or would lose something.
    """
    try:
        # The size is looked at before any pixel is decoded: a small file may claim gigabytes.
        opened = Image.open(io.BytesIO(encoded), formats=FORMATS)
        if why := _unusable(opened, None if is_resized else shape):
            raise InputError(f"{where}: {why}")
        opened.load()
        is_turned = opened.getexif().get(ORIENTATION, 1) != 1
        image = ImageOps.exif_transpose(opened) if is_turned else opened
        if is_resized:
            if image.mode in UNSCALABLE:
                image = image.convert(UNSCALABLE[image.mode])
            image = ImageOps.fit(image, (shape[1], shape[0]), Image.Resampling.BILINEAR)
        if image.size != (shape[1], shape[0]):
            raise InputError(f"{where}: {_sizes(image, shape)}")
        pixels, converted = _pixels(image, shape[2], where)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # of a damaged file every decoder of PIL raises its own
        raise InputError(f"{where}: not an image that can be read: {error}") from error
    if is_turned:
        converted = "turned by EXIF" if converted is None else f"{converted}, turned"
    return pixels, converted


def _unusable(image: ImageFile.ImageFile, shape: tuple[int, int, int] | None) -> str | None:
    """Say why an image that is not decoded yet cannot be used."""
    if shape is None:
        if image.size[0] * image.size[1] > MAX_PIXELS:
            return f"an image of {image.size[1]} x {image.size[0]}: too large to decode"
    elif sorted(image.size) != sorted(shape[:2]):
        return _sizes(image, shape)
    if image.mode.startswith(("I", "F")) or any(map(_is_deep, image.tile)):
        return "more than 8 bits a channel; must be 8, and scaling here could lose differences"
    if image.mode == "CMYK":
        return "CMYK, whose colours depend on a profile; save it as RGB"
    if image.mode not in CONVERTED:
        return f"of mode {image.mode}; must be grey or RGB"
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a camera's JPEG with a preview behind it
        return f"{frames} frames; must be one"
    return None


def _is_deep(tile: Any) -> bool:
    """Whether what is stored has 16 bits a channel, which PIL cuts to 8 without a word."""
    stored = tile[3] if isinstance(tile[3], str) else str((*tile[3], "")[0])
    return ";16" in stored and not stored.startswith("BGR")  # of BMP: 5, 6 and 5 bits


def _sizes(image: Image.Image, shape: tuple[int, int, int]) -> str:
    width, height = image.size
    return f"an image of {height} x {width}; must be {shape[0]} x {shape[1]} x {shape[2]}"


def _pixels(
    image: Image.Image, channels: int, where: str
) -> tuple[npt.NDArray[np.uint8], str | None]:
    mode, is_plain = image.mode, "transparency" not in image.info
    if is_plain and mode == ("L" if channels == 1 else "RGB"):
        pixels = np.asarray(image)
        return (pixels[:, :, None] if channels == 1 else pixels), None
    rgba = np.asarray(image.convert("RGBA"))
    if (rgba[:, :, 3] < 255).any():
        raise InputError(f"{where}: transparent pixels, and no background is declared")
    colours = rgba[:, :, :3]
    if channels == 1:
        if (colours != colours[:, :, :1]).any():
            raise InputError(f"{where}: colours; must be grey")
        colours = colours[:, :, :1]
    what = WORDS.get(mode, mode) if mode != "L" else "grey"
    return colours, f"{what} as {'grey' if channels == 1 else 'RGB'}"
