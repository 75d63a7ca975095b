"""Logical volumes: extents of several devices in their order, and what does not fit together."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from tests.vmkernel.storage.vmfs3.filled import small
from tests.vmkernel.storage.vmfs3.specimen import DATA_AT, LBA_128, LVM_UUID, PE, Specimen, uuid_text
from vmkernel.storage.errors import HostTrouble, Unsupported
from vmkernel.storage.vmfs3.errors import CorruptVolume, IncompleteVolume
from vmkernel.storage.vmfs3.lun import Lun
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.volume import Volume

HEADER, DESCRIPTOR, ENTRY = 0x100000, 0x100200, 0x180600


def poke(path: Path, offset: int, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, data, LBA_128 + offset)
    os.close(fd)


def opened(paths: list[Path]) -> LogicalVolume:
    return LogicalVolume.open([Lun.open(path) for path in paths])


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    return small(tmp_path, pes=(1, 3, 2))


def test_the_order_in_which_devices_are_given_does_not_matter(three: list[Path]) -> None:
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        with Volume.open([three[index] for index in order]) as volume:
            assert volume.lv.size == 6 * PE
            assert [lun.path for lun in volume.lv.luns] == three
            assert uuid_text(volume.lv.uuid or b"") == uuid_text(LVM_UUID)


def test_an_offset_finds_its_device(three: list[Path]) -> None:
    lv = opened(three)
    for extent, (device, inside) in enumerate([(0, 0), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]):
        lun, offset = lv.lun_at(extent * PE + 5)
        assert (lun.path, offset) == (three[device], DATA_AT + inside * PE + 5)


def test_a_run_is_cut_where_the_device_changes(three: list[Path]) -> None:
    lv = opened(three)
    runs = [(run.lun.path, run.offset, run.length) for run in lv.runs(PE - 100, 3 * PE + 200)]
    assert runs == [
        (three[0], DATA_AT + PE - 100, 100), (three[1], DATA_AT, 3 * PE), (three[2], DATA_AT, 100),
    ]  # fmt: skip


def test_bytes_across_devices_are_joined(three: list[Path]) -> None:
    poke(three[0], DATA_AT + PE - 3, b"abc")
    poke(three[1], DATA_AT, b"defg")
    lv = opened(three)
    assert lv.bytes_at(PE - 3, 7) == b"abcdefg"
    one, other = bytearray(2), bytearray(5)
    lv.read(PE - 3, [memoryview(one), memoryview(other)])
    assert one + other == b"abcdefg"


def test_past_the_end_there_is_nothing(three: list[Path]) -> None:
    lv = opened(three)
    assert lv.bytes_at(6 * PE, 0) == b""
    for offset, length in ((6 * PE - 1, 2), (6 * PE, 1), (-1, 1)):
        with pytest.raises(HostTrouble, match="past the end of the volume"):
            lv.bytes_at(offset, length)


def test_extents_may_lie_in_any_order_on_a_device(tmp_path: Path) -> None:
    """The table says where; that the format's other readers assume an order is their own limit."""
    path = small(tmp_path, pes=(3,))[0]
    for index, place in ((1, 2), (2, 1)):
        poke(path, ENTRY + index * 128 + 0x09, struct.pack("<Q", DATA_AT + place * PE))
    lv = opened([path])
    assert [run.offset for run in lv.runs(0, 3 * PE)] == [DATA_AT, DATA_AT + 2 * PE, DATA_AT + PE]


def test_a_missing_device_is_named_by_the_volume(three: list[Path]) -> None:
    with pytest.raises(IncompleteVolume, match=rf"devices: expected the 3 of volume {uuid_text(LVM_UUID)}, found 2"):
        opened(three[:2])
    with pytest.raises(IncompleteVolume, match="expected one that was not given yet, found the same as"):
        opened([three[0], three[0], three[2]])


def test_a_foreign_device_is_named(three: list[Path], tmp_path: Path) -> None:
    other = small(tmp_path, pes=(1, 1), name="other")
    poke(other[1], DESCRIPTOR + 0x54, b"another volume..")
    with pytest.raises(IncompleteVolume, match=r"other1\.img: lvm_uuid of the volume descriptor"):
        opened([three[0], three[1], other[1]])


def number(form: str, value: int) -> bytes:
    return struct.pack(form, value)


DAMAGE: list[tuple[int, bytes, str, type[Exception]]] = [
    (HEADER + 0x04, number("<I", 6), "version of LVM: expected 3 to 5, found 6", Unsupported),
    (HEADER + 0x66, number("<I", 2), "volumes on the device: expected 1, found 2", CorruptVolume),
    (HEADER + 0x6A, number("<I", 0), "physical extents: expected 1 to", CorruptVolume),
    (HEADER + 0x6A, number("<I", 1 << 31), "physical extents: expected 1 to", CorruptVolume),
    (HEADER + 0xBE, number("<I", 9), "PE tables in one place: expected up to 8, found 9", CorruptVolume),
    (DESCRIPTOR + 0x00, number("<Q", PE), "size of the volume: expected 536870912, its extents", CorruptVolume),
    (DESCRIPTOR + 0x74, number("<I", 1), "physical extents: expected the header's 2, found 1", CorruptVolume),
    (DESCRIPTOR + 0x78, number("<Q", 5), "first extent: expected 0, found 5", CorruptVolume),
    (DESCRIPTOR + 0x80, number("<Q", 7), "last extent: expected 1, found 7", CorruptVolume),
    (DESCRIPTOR + 0x70, number("<I", 1), "extents in use: expected 2, found 0", CorruptVolume),
    (ENTRY, b"\0", "extents in use: expected 2, found 1", CorruptVolume),
    (ENTRY + 0x09, number("<Q", 5), "physical offset of extent 0: expected whole sectors", CorruptVolume),
    (ENTRY + 0x09, number("<Q", 1 << 63), "physical offset of extent 0: expected whole sectors", CorruptVolume),
    (ENTRY + 0x09, number("<Q", DATA_AT + PE), "extents: expected one behind the other, found two that", CorruptVolume),
    (ENTRY + 0x11, number("<Q", PE), "place in the volume: expected 0x0, found 0x10000000", CorruptVolume),
    (ENTRY + 0x91, number("<Q", 0), "place in the volume: expected 0x10000000, found 0x0", CorruptVolume),
    (ENTRY + 0x19, number("<Q", 512), "length of extent 0: expected 0x10000000, found 0x200", CorruptVolume),
]


@pytest.mark.parametrize(("offset", "data", "text", "kind"), DAMAGE, ids=[text[:40] for _, _, text, _ in DAMAGE])
def test_damage_is_named(tmp_path: Path, offset: int, data: bytes, text: str, kind: type[Exception]) -> None:
    path = Specimen(tmp_path, pes=(2,)).finish()[0]
    opened([path]).close()
    poke(path, offset, data)
    with pytest.raises(kind) as caught:
        opened([path])
    assert text in str(caught.value)
    assert str(path) in str(caught.value)


def test_damage_is_named_by_its_byte(tmp_path: Path) -> None:
    path = Specimen(tmp_path, pes=(2,)).finish()[0]
    poke(path, ENTRY + 128 + 0x19, number("<Q", 512))
    with pytest.raises(CorruptVolume) as caught:
        opened([path])
    assert (caught.value.offset, caught.value.device) == (ENTRY + 128 + 0x19, True)


def chained() -> list[tuple[int, bytes]]:
    """Extended headers of LVM 5 that name themselves."""
    at = 0x200000
    return [(HEADER + 0xC2, number("<Q", at)), (at, struct.pack("<IIQQ", 0xC001D00D, 0, 0, at))]


@pytest.mark.parametrize(("writes", "text"), [
    (chained(), "PE tables: expected room for 8193 extents"),
    ([(HEADER + 0xC2, number("<Q", 1 << 60))], "place of the extended header"),
    ([(HEADER + 0xC2, number("<Q", 0x200000))], "magic of the extended header"),
])  # fmt: skip
def test_tables_that_lead_nowhere_are_refused(tmp_path: Path, writes: list[tuple[int, bytes]], text: str) -> None:
    path = Specimen(tmp_path, partitioned=False).finish()[0]
    os.truncate(path, DATA_AT + 8200 * PE)
    fd = os.open(path, os.O_WRONLY)
    for offset, data in [*writes, (DESCRIPTOR + 0x74, number("<I", 8193)), (HEADER + 0x6A, number("<I", 8193))]:
        os.pwrite(fd, data, offset)
    os.close(fd)
    with pytest.raises(CorruptVolume, match=text):
        opened([path])
