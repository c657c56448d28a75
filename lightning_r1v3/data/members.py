"""Members of a shard: which are read, to which sample they belong, and the sample that a group of them makes."""

from __future__ import annotations

import io
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from lightning_r1v3.data.placeholders import count_placeholders
from lightning_r1v3.data.sample import build_sample, parse_record
from lightning_r1v3.types import Sample

RECORD = "json"
"""Extension of a sample's record."""

TAR_ERRORS = (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError)
"""What the tar reader raises on broken or hostile headers."""

_IMAGE = re.compile(r"(\d+)\.(png|jpg|jpeg|webp)")
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass
class Group:
    """The members of one sample, by extension."""

    key: str
    """Their common name up to the first dot."""
    contents: dict[str, bytes] = field(default_factory=dict)
    """`json`, `0.png`, … to bytes."""
    cut_off: bool = False
    """True when the shard is cut behind the group, so that a picture may be missing."""
    fault: str | None = None
    """What is wrong with the members whatever they hold, or None."""


def split_name(name: str) -> tuple[str, str]:
    """Splits a member's name at the first dot of its last part, as WebDataset does: `a/7.0.png` is `a/7`, `0.png`."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()


def leaves_shard(name: str) -> bool:
    """Returns whether a member's path is absolute or climbs out of the shard's own tree."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name) is not None


def refusal(member: tarfile.TarInfo) -> str | None:
    """Returns why a member is never read, or None when it is a record or an image of the layout (or a folder)."""
    extension = split_name(member.name)[1]
    if leaves_shard(member.name):
        return f"member path {member.name!r} is absolute or leaves the shard"
    if member.isdir():
        return None
    if not member.isreg() or member.issparse():
        return f"member {member.name!r} is a link, device or sparse file: expected a regular file"
    if extension == RECORD or _IMAGE.fullmatch(extension):
        return None
    if member.name.lower().endswith(_IMAGE_SUFFIXES):
        return f"member {member.name!r} has no image number: expected a name like KEY.0.png"
    return f"member {member.name!r} is neither KEY.json nor an image: never decoded"


def read_group(key: str, block: bytes, *, cut_off: bool = False) -> Group:
    """Reads the members of one sample out of its bytes of the shard."""
    group = Group(key, cut_off=cut_off)
    with tarfile.open(fileobj=io.BytesIO(block), mode="r:") as tar:
        for member in iter(tar.next, None):
            if member.isreg() and refusal(member) is None:  # the others are named once, by the index
                content = tar.extractfile(member)
                assert content is not None, "regular files have content"
                group.contents[split_name(member.name)[1]] = content.read()
    return group


def image_bytes(group: Group) -> list[bytes]:
    """Returns the encoded images in the order of their numbers.

    Raises:
        ValueError: If a number is missing or stands twice.
    """
    numbered = sorted(
        (int(match[1]), extension) for extension in group.contents if (match := _IMAGE.fullmatch(extension))
    )
    for expected, (number, extension) in enumerate(numbered):
        if number != expected:
            fault = f"missing image: there is no {group.key}.{expected}.*" if number > expected else "image twice"
            raise ValueError(f"{fault}, but there is {group.key}.{extension}")
    return [group.contents[extension] for _, extension in numbered]


def group_sample(group: Group, max_image_pixels: int) -> Sample:
    """Returns the sample that a group's members make.

    Raises:
        ValueError: With the first fault found.
    """
    if group.fault is not None:
        raise ValueError(group.fault)
    if RECORD not in group.contents:
        raise ValueError(f"missing record: there is no {group.key}.json beside its images")
    record, images = parse_record(group.contents[RECORD]), image_bytes(group)
    if group.cut_off and count_placeholders(str(record.get("question"))) != max(len(images), 1):
        raise ValueError("the shard is cut behind this sample, and a picture may be missing")
    return build_sample(record, images, key=group.key, max_image_pixels=max_image_pixels)
