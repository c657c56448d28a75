"""Pictures of a sample: from encoded bytes to RGB, refusing what is too large before it is decoded."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
"""The formats that are decoded, with the extension that the writer gives them."""

MAX_IMAGE_PIXELS = 2**26
"""Default bound on width x height: 67 megapixels, 192 MiB once decoded to RGB."""


@dataclass(frozen=True)
class PictureHeader:
    """What a picture says of itself, before decoding."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    mode: str
    """Pillow's name of the pixel format, e.g. `RGBA`."""
    format: str
    """`PNG`, `JPEG` or `WEBP`."""


def check_max_image_pixels(max_image_pixels: int) -> None:
    """Raises ValueError unless the bound is positive and below Pillow's own guard."""
    guard = Image.MAX_IMAGE_PIXELS
    if max_image_pixels < 1 or (guard is not None and max_image_pixels > guard):
        raise ValueError(f"max_image_pixels must be from 1 to {guard} (Pillow's own guard), not {max_image_pixels}")


def read_header(encoded: bytes) -> PictureHeader:
    """Returns size, mode and format without decoding the pixels.

    Raises:
        ValueError: If the bytes are no PNG, JPEG or WebP picture.
    """
    image = _open(encoded)
    return PictureHeader(image.width, image.height, image.mode, str(image.format))


def decode_rgb(encoded: bytes, max_image_pixels: int = MAX_IMAGE_PIXELS) -> Image.Image:
    """Decodes a picture, upright by its EXIF orientation, transparency over white.

    Args:
        encoded: A PNG, JPEG or WebP file; of an animation the first picture counts.
        max_image_pixels: Bound on width x height by the file's header.

    Raises:
        ValueError: If the picture is too large (it is not decoded then) or cannot be decoded.
    """
    image = _open(encoded)
    if image.width * image.height > max_image_pixels:
        raise ValueError(
            f"image of {image.width}x{image.height} pixels exceeds max_image_pixels={max_image_pixels}: not decoded"
        )
    try:
        return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # Pillow's decoders raise nearly anything on broken bytes
        raise ValueError(f"undecodable image: {error}") from error


def encode_png(image: Image.Image) -> bytes:
    """Returns the picture as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _open(encoded: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(encoded), formats=tuple(EXTENSIONS))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"image too large, not decoded: {error}") from error
    except Exception as error:  # Pillow's parsers raise nearly anything on broken bytes
        raise ValueError(f"undecodable image: expected PNG, JPEG or WebP ({error})") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        return Image.fromarray((np.asarray(image) // 256).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
