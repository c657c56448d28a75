from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from lightning_r1v3.data.pictures import check_max_image_pixels, decode_rgb, encode_png, read_header


def save(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
@pytest.mark.parametrize("size", [(13, 3), (7, 28), (1, 1)])
def test_every_mode_becomes_rgb(encode: Callable[..., bytes], mode: str, size: tuple[int, int]) -> None:
    image = decode_rgb(encode(size, mode))
    assert (image.mode, image.size) == ("RGB", size)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_the_three_formats_are_decoded(encode: Callable[..., bytes], image_format: str) -> None:
    assert decode_rgb(encode(image_format=image_format)).size == (4, 3)
    assert read_header(encode(image_format=image_format)).format == image_format


def test_transparency_is_shown_over_white() -> None:
    half_red = Image.new("RGBA", (1, 1), (255, 0, 0, 0))
    assert decode_rgb(save(half_red)).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    grey = Image.fromarray(np.full((1, 1), 0x8000, dtype=np.uint16))
    assert decode_rgb(save(grey)).getpixel((0, 0)) == (128, 128, 128)


def test_exif_orientation_turns_the_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_rgb(save(Image.new("RGB", (4, 2)), "JPEG", exif=exif)).size == (2, 4)


def test_png_round_trip_keeps_the_pixels() -> None:
    image = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    assert decode_rgb(encode_png(image)).tobytes() == image.tobytes()


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises more pixels than any data that follows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8193, 10_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="not decoded"):
        decode_rgb(bomb(side, side))


def test_the_bound_is_on_the_area(encode: Callable[..., bytes]) -> None:
    assert decode_rgb(encode((4, 3)), max_image_pixels=12)
    with pytest.raises(ValueError, match="4x3 pixels exceeds max_image_pixels=11"):
        decode_rgb(encode((4, 3)), max_image_pixels=11)


@pytest.mark.parametrize("image_format", ["GIF", "BMP", "TIFF"])
def test_other_formats_are_not_opened(encode: Callable[..., bytes], image_format: str) -> None:
    with pytest.raises(ValueError, match="expected PNG, JPEG or WebP"):
        decode_rgb(encode(image_format=image_format))


def test_broken_bytes_are_a_fault_wherever_they_break() -> None:
    generator = np.random.default_rng(0)
    encoded = [save(Image.fromarray(generator.integers(0, 255, (9, 9, 3), dtype=np.uint8)), f) for f in ("PNG", "JPEG")]
    for original in encoded:
        with pytest.raises(ValueError, match="undecodable"):
            decode_rgb(original[: len(original) // 2])
        for _ in range(100):
            broken = bytearray(original)
            broken[generator.integers(len(broken))] = int(generator.integers(256))
            try:
                decode_rgb(bytes(broken))
            except ValueError as error:
                assert "image" in str(error)  # noqa: PT017 - some changes leave a good picture


@pytest.mark.parametrize("bound", [0, -1, 10**9])
def test_an_impossible_bound_is_refused(bound: int) -> None:
    with pytest.raises(ValueError, match="max_image_pixels"):
        check_max_image_pixels(bound)
