"""Where each sample of a shard lies, found by reading the tar's headers only; nothing is written beside the shard."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from lightning_r1v3.data.faults import NO_KEY, Fault
from lightning_r1v3.data.members import RECORD, TAR_ERRORS, Group, read_group, refusal, split_name


@dataclass(frozen=True)
class ShardIndex:
    """The samples of one shard in file order, and what cannot be read of it."""

    path: Path
    """The tar file."""
    keys: tuple[str, ...]
    """The samples' keys."""
    offsets: NDArray[np.int64]
    """`[samples, 2]`: first byte of each sample's first header, and the byte behind its last member."""
    cut_off: bool
    """True when the shard is cut and a member of the last sample may be missing."""
    faults: tuple[Fault, ...]
    """Refused members, samples without a record, and the place where a shard is cut."""

    def __len__(self) -> int:
        """Returns the number of samples."""
        return len(self.keys)

    def read(self, number: int) -> Group:
        """Reads the members of one sample; opens the file each time, so any process or thread may call it."""
        start, stop = self.offsets[number]
        with self.path.open("rb") as file:
            file.seek(start)
            block = file.read(stop - start).ljust(stop - start, b"\0")  # a cut may take the last padding
        return read_group(self.keys[number], block, cut_off=self.cut_off and number == len(self) - 1)

    def read_record(self, number: int) -> bytes:
        """Reads the JSON of one sample; its pictures are skipped."""
        with self.path.open("rb") as file:
            file.seek(int(self.offsets[number, 0]))
            with tarfile.open(fileobj=file, mode="r:") as tar:
                members = (member for member in iter(tar.next, None) if split_name(member.name)[1] == RECORD)
                content = tar.extractfile(next(members))
                assert content is not None, "the index has samples with a record only, which is a regular file"
                return content.read()


def index_shard(path: Path) -> ShardIndex:
    """Reads a shard's headers.

    Faults are collected, never raised: a cut shard keeps the samples before the cut.
    """
    builder = _IndexBuilder(path)
    with path.open("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                builder.walk(tar, file)
        except TAR_ERRORS as error:
            builder.cut(f"not readable as an uncompressed tar: {error}")
    return builder.index()


@dataclass
class _Span:
    start: int
    stop: int
    extensions: set[str] = field(default_factory=set)
    reason: str | None = None


class _IndexBuilder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.spans: dict[str, _Span] = {}
        self.last_key = NO_KEY
        self.cut_off = False
        self.faults: list[Fault] = []

    def walk(self, tar: tarfile.TarFile, file: BinaryIO) -> None:
        """Adds every member up to the end-of-archive marker, or up to the cut."""
        try:
            for member in iter(tar.next, None):
                if not 0 <= member.size <= self.size - member.offset_data:
                    self.cut_inside(member)
                    return
                self.add(member)
        except TAR_ERRORS as error:
            self.cut(f"the shard is cut or damaged behind this sample: {error}")
            return
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            self.cut(f"the shard is cut or damaged behind this sample, at byte {tar.offset} of {self.size}")

    def add(self, member: tarfile.TarInfo) -> None:
        key, extension = split_name(member.name)
        if reason := refusal(member):
            self.faults.append(Fault(str(self.path), key, reason))
            return
        if member.isdir():
            return
        span = self.spans.setdefault(key, _Span(member.offset, member.offset))
        if extension in span.extensions:
            span.reason = f"member {member.name!r} stands twice in the shard"
        elif span.extensions and key != self.last_key:
            span.reason = "the sample's members do not stand together: sort the tar by name"
        span.extensions.add(extension)
        blocks = -(-member.size // tarfile.BLOCKSIZE)
        span.stop = member.offset_data + blocks * tarfile.BLOCKSIZE
        self.last_key = key

    def cut(self, reason: str) -> None:
        self.cut_off = True
        self.faults.append(Fault(str(self.path), self.last_key, reason))

    def cut_inside(self, member: tarfile.TarInfo) -> None:
        key = split_name(member.name)[0]
        self.cut_off = False  # the sample before it is whole: another one had begun
        span = self.spans.setdefault(key, _Span(member.offset, member.offset))
        span.reason = f"the shard is cut inside member {member.name!r}, at byte {self.size}"

    def index(self) -> ShardIndex:
        for key, span in self.spans.items():
            if span.reason is None and RECORD not in span.extensions:
                span.reason = f"missing record: there is no {key}.json beside its images"
            if span.reason is not None:
                self.faults.append(Fault(str(self.path), key, span.reason))
        whole = {key: span for key, span in self.spans.items() if span.reason is None}
        offsets = np.array([(span.start, span.stop) for span in whole.values()], dtype=np.int64).reshape(-1, 2)
        cut_off = self.cut_off and self.last_key in whole
        return ShardIndex(self.path, tuple(whole), offsets, cut_off, tuple(self.faults))
