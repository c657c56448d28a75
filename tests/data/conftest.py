from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

Member = tuple[str, bytes] | tarfile.TarInfo
Members = Iterable[Member]


def encode(size: tuple[int, int] = (4, 3), mode: str = "RGB", image_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, image_format)
    return buffer.getvalue()


def record(**fields: object) -> bytes:
    return json.dumps({"question": "<image> How many?", "answer": "3", **fields}).encode()


def sample(key: str, **fields: object) -> list[Member]:
    return [(f"{key}.json", record(id=key, **fields)), (f"{key}.0.png", encode())]


def write(path: Path, members: Members) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


@pytest.fixture(name="encode")
def encode_fixture() -> Callable[..., bytes]:
    return encode


@pytest.fixture(name="record")
def record_fixture() -> Callable[..., bytes]:
    return record


@pytest.fixture(name="sample")
def sample_fixture() -> Callable[..., list[Member]]:
    return sample


@pytest.fixture
def shard(tmp_path: Path) -> Callable[..., Path]:
    return lambda members, name="s-000000.tar": write(tmp_path / name, members)
