"""One pass over a URL or a pipe, sample by sample, without a file in between."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, cast

from webdataset.gopen import gopen

from lightning_r1v3.data.faults import NO_KEY, Fault
from lightning_r1v3.data.members import TAR_ERRORS, Group, group_sample, refusal, split_name
from lightning_r1v3.types import Sample

_DRAIN_BYTES = 2**20


def read_stream(url: str, max_image_pixels: int) -> Iterator[Sample | Fault]:
    """Yields what a shard holds, in its order: good samples, and a fault for each bad sample or member.

    Webdataset opens the URL (`pipe:COMMAND`, http, s3, …, or a path); its decoders are not used. A cut shard or a
    failed command yields the samples before it, then a fault.
    """
    for group in _groups(url):
        if isinstance(group, Fault):
            yield group
            continue
        try:
            yield group_sample(group, max_image_pixels)
        except ValueError as error:
            yield Fault(url, group.key, str(error))


class _MeasuredStream:
    """Remembers where a stream ends and where its last non-zero byte lies, for a pipe cannot be asked later."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.length = 0
        self.length_of_data = 0

    def read(self, size: int) -> bytes:
        block = self.stream.read(size)
        if data := len(block.rstrip(b"\0")):
            self.length_of_data = self.length + data
        self.length += len(block)
        return block

    def ends_at(self, offset: int) -> bool:
        """Reads on to the end; returns whether the archive's end marker, and nothing else, stands at the offset."""
        while self.read(_DRAIN_BYTES):
            pass
        return self.length_of_data <= offset <= self.length - tarfile.BLOCKSIZE


def _groups(url: str) -> Iterator[Group | Fault]:
    group: Group | None = None
    cut: str | None = None
    try:
        with gopen(url) as opened:
            stream = _MeasuredStream(opened)
            with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as tar:
                for member in iter(tar.next, None):
                    key, extension = split_name(member.name)
                    if reason := refusal(member):
                        yield Fault(url, key, reason)
                    elif member.isreg():
                        if group is not None and group.key != key:
                            yield group
                            group = None
                        group = group or Group(key)
                        _add(group, extension, tar, member)
                if not stream.ends_at(tar.offset):
                    cut = f"the stream is cut or damaged behind this sample, at byte {tar.offset} of {stream.length}"
    except (*TAR_ERRORS, OSError) as error:
        cut = f"the stream is cut or cannot be read behind this sample: {error}"
    if cut is not None:
        yield Fault(url, group.key if group else NO_KEY, cut)
    if group is not None:
        group.cut_off = cut is not None
        yield group


def _add(group: Group, extension: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    content = tar.extractfile(member)
    assert content is not None, "regular files have content"
    if extension in group.contents:
        group.fault = f"member {member.name!r} stands twice in the shard"
    group.contents[extension] = content.read()
