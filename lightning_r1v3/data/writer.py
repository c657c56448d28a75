"""Writes samples into shards, byte for byte the same every time."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from lightning_r1v3.data.pictures import EXTENSIONS, MAX_IMAGE_PIXELS, check_max_image_pixels, encode_png, read_header
from lightning_r1v3.data.sample import build_sample, record_of
from lightning_r1v3.types import Sample

MANIFEST = "MANIFEST.json"
_PARTIAL = ".partial"


class ShardWriter:
    """Writes `NAME-000000.tar`, `NAME-000001.tar`, … and its entry of the folder's MANIFEST.json, as a context manager.

    Shards are written aside and renamed when the context ends; when it ends by an exception nothing is left.

    Args:
        folder: Made when absent.
        name: Of the shard set.
        max_samples: Samples of a shard.
        max_bytes: A shard is closed once it has reached this size.
        max_image_pixels: A sample with a larger picture (width x height) is refused.

    Raises:
        ValueError: If the folder holds shards of that name already, or a bound is not positive.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        max_samples: int = 2048,
        max_bytes: int = 2**30,
        max_image_pixels: int = MAX_IMAGE_PIXELS,
    ) -> None:
        if max_samples < 1 or max_bytes < 1:
            raise ValueError(f"max_samples and max_bytes must be at least 1, not {max_samples} and {max_bytes}")
        check_max_image_pixels(max_image_pixels)
        folder.mkdir(parents=True, exist_ok=True)
        if old := sorted(folder.glob(f"{name}-*.tar")):
            raise ValueError(f"{old[0]} exists: remove the shards {name}-*.tar, or write to another folder")
        self.folder = folder
        self.name = name
        self.max_samples = max_samples
        self.max_bytes = max_bytes
        self.max_image_pixels = max_image_pixels
        self.counts: Counter[str] = Counter()
        self._shards: list[Path] = []
        self._tar: tarfile.TarFile | None = None
        self._samples_in_shard = 0

    def __enter__(self) -> ShardWriter:
        """Returns itself."""
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Renames the shards and writes the manifest, or removes what was written when there was an exception."""
        self._close_shard()
        if exception_type is not None:
            for shard in self._shards:
                shard.unlink()
            return
        finished = [shard.rename(shard.with_name(shard.name.removesuffix(_PARTIAL))) for shard in self._shards]
        self._write_manifest(finished)

    def write(self, record: Mapping[str, Any], images: Sequence[bytes]) -> None:
        """Writes a sample as it is: its record and its encoded images.

        Raises:
            ValueError: If the sample would be refused when read; nothing of it is written.
        """
        key = f"{self.counts['samples']:08d}"
        encoded = json.dumps(record, ensure_ascii=False, allow_nan=False)
        sample = build_sample(json.loads(encoded), images, key=key, max_image_pixels=self.max_image_pixels)
        extensions = [EXTENSIONS[read_header(image).format] for image in images]
        tar = self._shard()
        _add(tar, f"{key}.json", encoded.encode())
        for number, (image, extension) in enumerate(zip(images, extensions, strict=True)):
            _add(tar, f"{key}.{number}.{extension}", image)
        self._samples_in_shard += 1
        self.counts.update(
            samples=1,
            images=len(images),
            multiple_choice=int(sample.choices is not None),
            with_response=int(sample.response is not None),
        )

    def write_sample(self, sample: Sample) -> None:
        """Writes a sample, its pictures as PNG.

        Raises:
            ValueError: If the sample would be refused when read; nothing of it is written.
        """
        self.write(record_of(sample), [encode_png(image) for image in sample.images])

    def _shard(self) -> tarfile.TarFile:
        if self._tar is not None and (self._samples_in_shard >= self.max_samples or self._tar.offset >= self.max_bytes):
            self._close_shard()
        if self._tar is None:
            shard = self.folder / f"{self.name}-{len(self._shards):06d}.tar{_PARTIAL}"
            self._tar = tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - closed by _close_shard
            self._shards.append(shard)
        return self._tar

    def _close_shard(self) -> None:
        if self._tar is not None:
            self._tar.close()
        self._tar, self._samples_in_shard = None, 0

    def _write_manifest(self, shards: Sequence[Path]) -> None:
        path = self.folder / MANIFEST
        manifest = json.loads(path.read_text()) if path.exists() else {}
        manifest[self.name] = {**self.counts, "sha256": {shard.name: _sha256(shard) for shard in shards}}
        aside = path.with_name(MANIFEST + _PARTIAL)
        aside.write_text(json.dumps(manifest, indent=2) + "\n")
        aside.rename(path)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # its time, owner and mode are constants
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
