"""A fresh volume, byte by byte: what mkfs writes is what is known of volumes that ESX made."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from vmkernel.storage.vmfs3.mkfs import format_volume

MB = 1 << 20
PE, DATA_AT, BASE = 256 * MB, 0x1100000, 128 * 512
SIZES = (1, 2, 4, 8)
NAMES = (b".", b"..", b".fbb.sf", b".fdc.sf", b".pbc.sf", b".sbc.sf", b".vh.sf")


class Fresh:
    """A volume of three devices, of 3, 1 and 2 extents, read with nothing of the product."""

    def __init__(self, folder: Path, block_mb: int) -> None:
        self.size, self.pes = block_mb * MB, (3, 1, 2)
        self.paths = [folder / f"lun{index}" for index in range(3)]
        for path, count in zip(self.paths, self.pes, strict=True):
            path.touch()
            os.truncate(path, BASE + DATA_AT + count * PE + 5 * MB)
        format_volume(self.paths, label="fresh", block_size=self.size)
        self.files = [os.open(path, os.O_RDONLY) for path in self.paths]
        self.head = max(1, 4 * MB // self.size)
        self.fdc_at = self.head * self.size

    def device(self, index: int, offset: int, form: str) -> Any:
        found = struct.unpack(f"<{form}", os.pread(self.files[index], struct.calcsize(f"<{form}"), BASE + offset))
        return found if len(found) > 1 else found[0]

    def volume(self, offset: int, form: str) -> Any:
        """All of a fresh volume's own files lie on the head device."""
        assert offset < self.pes[0] * PE
        return self.device(0, DATA_AT + offset, form)

    def descriptor(self, number: int) -> int:
        return self.fdc_at + 0x10000 + 32 * 1024 + number * 2048

    def blocks(self, number: int) -> list[int]:
        words = self.volume(self.descriptor(number) + 0x400, "256I")
        assert all(word & 0x3F == 1 for word in words if word)
        return [word >> 6 for word in words if word]


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"{size} MB")
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    return Fresh(tmp_path_factory.mktemp("fresh"), request.param)


def test_the_partition_is_the_first_entry_at_sector_128(fresh: Fresh) -> None:
    for index, path in enumerate(fresh.paths):
        mbr = os.pread(fresh.files[index], 512, 0)
        kind, start, sectors = mbr[450], *struct.unpack("<II", mbr[454:462])
        assert (kind, start, mbr[510:]) == (0xFB, 128, b"\x55\xaa")
        assert start + sectors <= path.stat().st_size // 512


def test_every_device_has_its_header_and_descriptor(fresh: Fresh) -> None:
    shared, own = set(), set()
    for index, count in enumerate(fresh.pes):
        first = sum(fresh.pes[:index])
        assert fresh.device(index, 0x100000, "III") == (0xC001D00D, 3, 0x10)
        assert fresh.device(index, 0x10005A, "I") == 512
        assert fresh.device(index, 0x100066, "III") == (1, count, count - 1)
        assert fresh.device(index, 0x10007A, "Q") == DATA_AT
        assert fresh.device(index, 0x1000A2, "52s") == bytes(52)  # no lock, no maps, nothing extended, no flags
        own.add(fresh.device(index, 0x100082, "16s"))
        size, generation, state, name, uuid, snap = fresh.device(index, 0x100200, "QQI64s16sI")
        assert (size, generation, state, snap) == (6 * PE, 6 + 3, 1, 1)
        low, high, chance = struct.unpack("<IIH", uuid[:10])
        assert name.rstrip(b"\0").decode() == f"{low:08x}-{high:08x}-{chance:04x}-{uuid[10:].hex()}"
        assert fresh.device(index, 0x100270, "IIQQ") == (0, count, first, first + count - 1)
        assert fresh.device(index, 0x100290, "I") == 3
        shared.add((uuid, name, fresh.device(index, 0x100268, "Q")))
    assert (len(shared), len(own)) == (1, 3)


def test_extents_lie_one_behind_the_other(fresh: Fresh) -> None:
    for index, count in enumerate(fresh.pes):
        first = sum(fresh.pes[:index])
        assert fresh.device(index, 0x180200, "1024s") == bytes([(1 << count) - 1]) + bytes(1023)
        for pe in range(count):
            row = fresh.device(index, 0x180600 + pe * 128, "BIIQQQI")
            assert row == (1, pe, 0, DATA_AT + pe * PE, (first + pe) * PE, PE, 1)
        assert fresh.device(index, 0x180600 + count * 128, "128s") == bytes(128)


def test_the_superblock(fresh: Fresh) -> None:
    magic, major, minor, uuid, config, label = fresh.volume(0x200000, "IIB16sI128s")
    assert (magic, major, minor, config) == (0x2FABF15E, 4, 31, 2)
    assert label == b"fresh".ljust(128, b"\0")
    assert fresh.volume(0x20009D, "IQ") == (512, fresh.size)
    assert fresh.volume(0x2000AD, "I") == 1
    lvm, snap = fresh.volume(0x2000B1, "16sI")
    assert (lvm, snap) == (fresh.device(0, 0x100254, "16s"), 1)
    assert uuid != lvm
    assert fresh.volume(0x2000D1, "III") == (0x10000, 32, 0x10000)
    assert fresh.volume(0x2000DD, "291s") == bytes(291)  # VMFS-5's part


def test_every_heartbeat_slot_is_free_and_knows_its_place(fresh: Fresh) -> None:
    slots = fresh.volume(0x300000, f"{2048 * 512}s")
    for slot in range(2048):
        raw = slots[slot * 512 : slot * 512 + 512]
        assert struct.unpack_from("<IQ", raw) == (0xABCDEF01, 0x300000 + slot * 512)
        assert not any(raw[12:])


def test_file_blocks_are_handed_out_in_the_known_order(fresh: Fresh) -> None:
    order = [*fresh.blocks(5), fresh.blocks(2)[0], *fresh.blocks(0), *fresh.blocks(1), *fresh.blocks(2)[1:],
             *fresh.blocks(3), *fresh.blocks(4)]  # fmt: skip
    assert order == list(range(len(order)))
    assert len(fresh.blocks(5)) == fresh.head
    assert len(fresh.blocks(0)) == 1


def test_system_descriptors(fresh: Fresh) -> None:
    for number in range(6):
        at = fresh.descriptor(number)
        assert fresh.volume(at, "IQQQQI16s") == (0x10C00001, at, 0, 0, 1, 0, bytes(16))
        address, generation, nlink, kind, flags = fresh.volume(at + 0x200, "IIIII")
        assert (address, generation, flags) == (number << 22 | 4, 1, 0)
        assert (nlink, kind) == ((1, 5) if number else (2, 2))
        length, block_size, blocks = fresh.volume(at + 0x214, "QQQ")
        assert (block_size, blocks) == (fresh.size, len(fresh.blocks(number)))
        assert length <= blocks * fresh.size or number == 5
        uid, gid, mode, zla, tbz, cow = fresh.volume(at + 0x238, "IIIIII")
        assert (uid, gid, mode, zla, tbz, cow) == (0, 0, 0o400 if number else 0o1755, 1, 0, 0)
        assert fresh.volume(at + 0x289, "B") == fresh.size.bit_length() - 1
        assert fresh.volume(at + 0x250, "57s") == bytes(57)
    assert fresh.volume(fresh.descriptor(5) + 0x214, "Q") == 0x400000
    assert fresh.volume(fresh.descriptor(0) + 0x214, "Q") == 7 * 140


def test_the_root_directory(fresh: Fresh) -> None:
    at = fresh.blocks(0)[0] * fresh.size
    for index, name in enumerate(NAMES):
        number = max(index - 1, 0)
        row = fresh.volume(at + index * 140, "III128s")
        assert row == (5 if number else 2, number << 22 | 4, 1, name.ljust(128, b"\0"))


@pytest.mark.parametrize(("number", "lock", "size"), [
    (1, 0x10C00002, 0), (2, 0x10C00005, 2048), (3, 0x10C00004, 4096), (4, 0x10C00003, 65536),
])  # fmt: skip
def test_resource_files(fresh: Fresh, number: int, lock: int, size: int) -> None:
    blocks, length = fresh.blocks(number), fresh.volume(fresh.descriptor(number) + 0x214, "Q")

    def place(offset: int) -> int:
        return blocks[offset // fresh.size] * fresh.size + offset % fresh.size

    per, group, first, item, group_size, total, groups = fresh.volume(place(0), "7I")
    assert (group, first, item, group_size) == (32, 0x10000, size, 32 * 1024 + 32 * per * size)
    clusters = -(-total // per)
    assert groups == -(-clusters // group)
    in_last = total - (groups - 1) * group * per
    formula = 0x10000 + (groups - 1) * group_size + group * 1024 + in_last * size
    assert length == max(formula, fresh.size if number == 2 else 0)
    assert len(blocks) == -(-length // fresh.size) <= 256
    used = {1: sum(len(fresh.blocks(file)) for file in range(6)), 2: 6}.get(number, 0)
    if number == 1:
        assert (per, total) == (200, 6 * PE // fresh.size)
    for cluster in range(clusters):
        at = place(0x10000 + cluster // group * group_size + cluster % group * 1024)
        has = min(per, total - cluster * per)
        taken = min(max(used - cluster * per, 0), has)
        assert fresh.volume(at, "IQQQQI16s") == (lock, at, 0, 0, 1, 0, bytes(16))
        index, whole, free, cursor = fresh.volume(at + 0x200, "IIII")
        assert (index, whole, free) == (cluster, has, has - taken)
        assert cursor == (taken if 0 < taken < has else 0)
        bits = int.from_bytes(fresh.volume(at + 0x210, "64s"), "little")
        assert bits == (1 << has) - (1 << taken)
        assert fresh.volume(at + 0x250, "432s") == bytes(432)


def test_descriptors_that_nobody_has_are_zeros(fresh: Fresh) -> None:
    for number in (6, 7, 31):
        assert fresh.volume(fresh.descriptor(number), "2048s") == bytes(2048)
