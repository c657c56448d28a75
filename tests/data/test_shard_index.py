from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_r1v3.data.members import group_sample
from lightning_r1v3.data.shard_index import index_shard

Sample = Callable[..., list[tuple[str, bytes]]]
Shard = Callable[..., Path]


def special(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_samples_keep_file_order(shard: Shard, sample: Sample) -> None:
    index = index_shard(shard([*sample("b"), *sample("a"), *sample("deep/c")]))
    assert index.keys == ("b", "a", "deep/c")
    assert index.faults == ()
    assert set(index.read(2).contents) == {"json", "0.png"}


def test_indexing_writes_nothing(shard: Shard, sample: Sample, tmp_path: Path) -> None:
    path = shard([*sample("a")])
    before = path.read_bytes()
    index_shard(path).read(0)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_long_names_are_read(tmp_path: Path, sample: Sample) -> None:
    key = "x" * 300
    for tar_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "long.tar", "w", format=tar_format) as tar:
            for name, content in [*sample("a"), *sample(key)]:
                (tmp_path / "member").write_bytes(content)
                tar.add(tmp_path / "member", arcname=name)
        index = index_shard(tmp_path / "long.tar")
        assert index.keys == ("a", key)
        assert set(index.read(1).contents) == {"json", "0.png"}


@pytest.mark.parametrize("name", ["/a.json", "../a.json", "x/../../a.0.png", "C:\\a.json", "..\\a.json"])
def test_a_path_outside_is_refused_and_the_others_stay(shard: Shard, sample: Sample, name: str) -> None:
    index = index_shard(shard([*sample("g"), (name, b"{}"), *sample("h")]))
    assert index.keys == ("g", "h")
    assert [fault.reason for fault in index.faults] == [f"member path {name!r} is absolute or leaves the shard"]


@pytest.mark.parametrize(
    "name", ["g.pkl", "g.pyd", "g.npy", "g.0.npy", "x.pickle", "x.pth", "x", "g.meta.json", "x.cls"]
)
def test_a_foreign_member_is_never_read_and_its_sample_stays(shard: Shard, sample: Sample, name: str) -> None:
    record, picture = sample("g")
    index = index_shard(shard([record, (name, b"cos\nsystem\n"), picture, *sample("h")]))
    assert index.keys == ("g", "h")
    assert set(index.read(0).contents) == {"json", "0.png"}
    assert [(fault.key, "never decoded" in fault.reason) for fault in index.faults] == [(name.split(".", 1)[0], True)]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(shard: Shard, sample: Sample, kind: bytes) -> None:
    index = index_shard(shard([*sample("g"), special("h.json", kind)]))
    assert index.keys == ("g",)
    assert "link, device or sparse" in index.faults[0].reason


def test_folders_are_no_fault(shard: Shard, sample: Sample) -> None:
    index = index_shard(shard([special("./", tarfile.DIRTYPE), special("d", tarfile.DIRTYPE), *sample("d/g")]))
    assert (index.keys, index.faults) == (("d/g",), ())


def test_an_image_without_number_is_named(
    shard: Shard, record: Callable[..., bytes], encode: Callable[..., bytes]
) -> None:
    index = index_shard(shard([("g.json", record()), ("g.png", encode())]))
    assert "expected a name like KEY.0.png" in index.faults[0].reason


def test_images_without_record_are_named(shard: Shard, sample: Sample) -> None:
    index = index_shard(shard([sample("g")[1], *sample("h")]))
    assert index.keys == ("h",)
    assert "there is no g.json" in index.faults[0].reason


def test_members_that_do_not_stand_together_are_named(shard: Shard, sample: Sample) -> None:
    record, picture = sample("g", question="no placeholder")
    index = index_shard(shard([record, *sample("h"), picture]))
    assert index.keys == ("h",)
    assert "sort the tar by name" in index.faults[0].reason


def test_a_member_that_stands_twice_is_named(shard: Shard, sample: Sample) -> None:
    index = index_shard(shard([*sample("g"), *sample("g"), *sample("h")]))
    assert index.keys == ("h",)
    assert "stands twice" in index.faults[0].reason


def whole_samples(path: Path, cut: int) -> list[str]:
    """Keys of the samples of which every member ends before the cut, by the tar library."""
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    cut_keys = {m.name.split(".")[0] for m in members if m.offset_data + m.size > cut}
    return sorted({m.name.split(".")[0] for m in members} - cut_keys)


def test_wherever_a_shard_is_cut_the_whole_samples_stay(shard: Shard, sample: Sample, tmp_path: Path) -> None:
    path = shard([member for key in "abc" for member in sample(key)])
    content, cut_path = path.read_bytes(), tmp_path / "cut.tar"
    end = len(content.rstrip(b"\0")) // 512 * 512 + 512
    for cut in range(0, end, 64):
        cut_path.write_bytes(content[:cut])
        index = index_shard(cut_path)
        good = [index.keys[n] for n in range(len(index)) if _is_good(index.read(n))]
        assert good == whole_samples(path, cut)
        assert index.faults, f"nothing says that the shard is cut at byte {cut}"


def _is_good(group: object) -> bool:
    try:
        group_sample(group, 100)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True


def test_a_cut_sample_that_may_lack_its_picture_is_not_trusted(shard: Shard, sample: Sample, tmp_path: Path) -> None:
    path = shard(sample("a", question="no placeholder"))
    with tarfile.open(path) as tar:
        boundary = tar.getmembers()[1].offset
    (tmp_path / "cut.tar").write_bytes(path.read_bytes()[:boundary])
    index = index_shard(tmp_path / "cut.tar")
    with pytest.raises(ValueError, match="a picture may be missing"):
        group_sample(index.read(0), 100)


def test_a_damaged_header_names_the_place(shard: Shard, sample: Sample) -> None:
    path = shard([*sample("a"), *sample("b")])
    with tarfile.open(path) as tar:
        offset = tar.getmembers()[2].offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 8] = b"garbage!"
    path.write_bytes(content)
    index = index_shard(path)
    assert index.keys == ("a",)
    assert f"at byte {offset}" in index.faults[0].reason


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b compressed", b"{}" * 999])
def test_what_is_no_tar_is_named_as_a_whole(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "no.tar").write_bytes(content)
    index = index_shard(tmp_path / "no.tar")
    assert len(index) == 0
    assert [(fault.key, "uncompressed tar" in fault.reason) for fault in index.faults] == [("-", True)]
