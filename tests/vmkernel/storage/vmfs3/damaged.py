"""A volume for tests of checking and repairing, and every way in which they damage it.

Places are computed from published offsets by the specimen, not by the product.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.vmkernel.storage.vmfs3.specimen import DATA_AT, MIB, TBZ, File, Resources, Specimen
from vmkernel.storage.vmfs3.finding import Fault

HEAD, TAIL = b"first block".ljust(MIB, b"\1"), b"last block".ljust(MIB, b"\2")
SUPERBLOCK, HEARTBEATS = 0x200000, 0x300000
OWNER = bytes(range(100, 116))


class Sound(Specimen):
    """A volume with one of everything. It remembers the files by their paths."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.vm = self.mkdir("vm")
        self.small = self.file("small", b"a few bytes", self.vm)
        self.disk = self.sparse("disk", 10 * MIB, {0: HEAD, 3: TBZ, 9: TAIL}, self.vm)
        self.large = self.sparse("large", 300 * MIB, {0: HEAD, 299: TAIL}, self.vm)
        self.other = self.sparse("other", 2 * MIB, {0: HEAD, 1: TAIL})
        self.note = self.file("note", b"another few bytes")
        self.deep = self.mkdir("deep", self.mkdir("deeper"))
        self.inner = self.file("inner", b"deep down", self.deep)
        self.symlink("link", "vm/small")
        self.rdm("raw", b"\0" * 78, 1 << 30)
        self.empty = self.file("empty", b"")
        self.finish()

    # places, of the volume

    def fd(self, file: File) -> int:
        return self.place(self.fdc, self.fdc.item(file.number))

    def cluster(self, resources: Resources, number: int) -> int:
        group, index = divmod(number, resources.group)
        return self.place(resources, 0x10000 + group * resources.group_size + index * 1024)

    def entry(self, folder: File, index: int) -> int:
        """Of a directory's entry."""
        word = folder.words[0]
        if folder.zla == 1:
            return (word >> 6) * self.block_size + index * 140
        return self.place(self.sbc, self.sbc.item((word >> 6 & 0x3FFFFF) * 16 + (word >> 28)) + index * 140)

    def poke(self, offset: int, layout: str, *values: object) -> None:
        """At a byte of the volume, which is on one device."""
        self.poke_device(DATA_AT + offset, layout, *values)

    def poke_device(self, offset: int, layout: str, *values: object) -> None:
        with open(self.paths[0], "r+b") as file:
            os.pwrite(file.fileno(), struct.pack(layout, *values), self.base + offset)

    def peek(self, offset: int, layout: str) -> int:
        with open(self.paths[0], "rb") as file:
            raw = os.pread(file.fileno(), struct.calcsize(layout), self.base + DATA_AT + offset)
        return int(struct.unpack(layout, raw)[0])

    def mark(self, resources: Resources, number: int, *, free: bool) -> int:
        """Set a bit and its count; the place of the byte."""
        cluster, bit = divmod(number, resources.per)
        at = self.cluster(resources, cluster)
        byte = self.peek(at + 0x210 + bit // 8, "B")
        byte = byte | 1 << bit % 8 if free else byte & ~(1 << bit % 8)
        self.poke(at + 0x210 + bit // 8, "B", byte)
        self.poke(at + 0x208, "<I", self.peek(at + 0x208, "<I") + (1 if free else -1))
        return at + 0x210 + bit // 8


@dataclass(frozen=True)
class Damage:
    """`make` does it and says where a check must find it, and as what. `is_mended`: a repair leaves nothing."""

    name: str
    fault: Fault
    make: Callable[[Sound], int]
    what: str
    is_mended: bool = True
    on_device: bool = False


def field(at: Callable[[Sound], int], offset: int, layout: str, value: object) -> Callable[[Sound], int]:
    def make(sound: Sound) -> int:
        sound.poke(at(sound) + offset, layout, value)
        return at(sound) + offset

    return make


def device_field(offset: int, layout: str, value: object) -> Callable[[Sound], int]:
    def make(sound: Sound) -> int:
        sound.poke_device(offset, layout, value)
        return offset

    return make


def disk(sound: Sound) -> int:
    return sound.fd(sound.disk)


def fdc_cluster(sound: Sound) -> int:
    return sound.cluster(sound.fdc, 0)


def fbb_header(sound: Sound) -> int:
    return sound.place(sound.fbb, 0)


def superblock(_: Sound) -> int:
    return SUPERBLOCK


def slot(number: int) -> Callable[[Sound], int]:
    return lambda _: HEARTBEATS + number * 512


def lost_block(sound: Sound) -> int:
    return sound.mark(sound.fbb, 250, free=False)


def lost_sub_block(sound: Sound) -> int:
    return sound.mark(sound.sbc, 33, free=False)


def lost_pointer_block(sound: Sound) -> int:
    return sound.mark(sound.pbc, 9, free=False)


def lost_descriptor(sound: Sound) -> int:
    return sound.mark(sound.fdc, 100, free=False)


def free_block(sound: Sound) -> int:
    return sound.mark(sound.fbb, sound.disk.words[0] >> 6, free=True)


def free_sub_block(sound: Sound) -> int:
    return sound.mark(sound.sbc, 0, free=True)


def free_pointer_block(sound: Sound) -> int:
    return sound.mark(sound.pbc, 0, free=True)


def free_descriptor(sound: Sound) -> int:
    return sound.mark(sound.fdc, sound.disk.number, free=True)


def shared_block(sound: Sound) -> int:
    """`other` claims the first block of `disk` in the place of its own, which is lost by that."""
    sound.poke(sound.fd(sound.other) + 0x400, "<I", sound.disk.words[0])
    return sound.fd(sound.other) + 0x400


def shared_sub_block(sound: Sound) -> int:
    sound.poke(sound.fd(sound.note) + 0x400, "<I", sound.small.words[0])
    return sound.fd(sound.note) + 0x400


def unnamed(sound: Sound) -> int:
    """The last entry of `deep`, `inner`, is cut off."""
    sound.poke(sound.fd(sound.deep) + 0x214, "<Q", 280)
    return sound.fd(sound.inner)


def unnamed_folder(sound: Sound) -> int:
    """`deeper` has lost the entry of `deep`, its only one."""
    deeper = next(one for one in sound.files if sound.address(sound.deep) in [entry[1] for entry in one.entries[2:]])
    sound.poke(sound.fd(deeper) + 0x214, "<Q", 280)
    return sound.fd(sound.deep)


def entry_field(offset: int, layout: str, value: object) -> Callable[[Sound], int]:
    """Of `small` in `vm`."""
    return field(lambda sound: sound.entry(sound.vm, 2), offset, layout, value)


def stale_entry(sound: Sound) -> int:
    """Names a descriptor that was never used."""
    sound.poke(sound.entry(sound.vm, 2) + 4, "<I", 20 << 22 | 3 << 6 | 4)
    return sound.entry(sound.vm, 2) + 4


def twice(sound: Sound) -> int:
    """A directory gets a second name."""
    sound.poke(sound.entry(sound.root, len(sound.root.entries) - 1) + 4, "<I", sound.address(sound.deep))
    return sound.entry(sound.root, len(sound.root.entries) - 1) + 4


def stale_lock(sound: Sound) -> int:
    """Exclusive, of a host whose slot is free by now."""
    at = disk(sound)
    sound.poke(at + 0x0C, "<Q", HEARTBEATS + 7 * 512)
    sound.poke(at + 0x14, "<QQI16s", 3, 9, 1, OWNER)
    return at + 0x24


def stale_cluster_lock(sound: Sound) -> int:
    at = sound.cluster(sound.fbb, 1)
    sound.poke(at + 0x0C, "<QQQI16s", HEARTBEATS + 7 * 512, 3, 9, 1, OWNER)
    return at + 0x24


def stale_reader(sound: Sound) -> int:
    """Read-only, of one holder whose slot is free by now."""
    at = disk(sound)
    sound.poke(at + 0x24, "<I16s", 2, bytes(16))
    sound.poke(at + 0x40, "<IQQ16s", 1, HEARTBEATS + 9 * 512, 5, OWNER)
    return at + 0x24


def dead_host(sound: Sound) -> int:
    """A slot in use by a host that is no more, whose journal's block is allocated."""
    sound.mark(sound.fbb, 249, free=False)
    sound.poke(HEARTBEATS + 7 * 512, "<IQQQ16sI", 0xABCDEF02, HEARTBEATS + 7 * 512, 3, 1, OWNER, 249 << 6 | 1)
    return HEARTBEATS + 7 * 512


def extra_bit(sound: Sound) -> int:
    sound.poke(fdc_cluster(sound) + 0x218, "B", 1)
    return fdc_cluster(sound) + 0x210


def pe_table(offset: int, layout: str, value: object) -> Callable[[Sound], int]:
    return device_field(0x180600 + offset, layout, value)


DAMAGES = (
    # LVM
    Damage("lvm last PE", Fault.LVM, device_field(0x10006E, "<I", 5), "last_pe", on_device=True),
    Damage("lvm PE count", Fault.LVM, device_field(0x10006A, "<I", 3), "num_pes", on_device=True),
    Damage("lvm size", Fault.LVM, device_field(0x10005E, "<Q", 1 << 50), "total_bytes", on_device=True),
    Damage("lvm size, small", Fault.LVM, device_field(0x10005E, "<Q", 1 << 28), "total_bytes", on_device=True),
    Damage("lvm data offset", Fault.LVM, device_field(0x10007A, "<Q", 0x1000000), "data_offset", on_device=True),
    Damage("lvm volumes", Fault.LVM, device_field(0x100066, "<I", 2), "num_volumes", on_device=True),
    Damage("volume last PE", Fault.LVM, device_field(0x100280, "<Q", 5), "last_pe", on_device=True),
    Damage("volume state", Fault.LVM, device_field(0x100210, "<I", 2), "state", on_device=True),
    Damage("volume name", Fault.LVM, device_field(0x100214, "8s", b"\xff\xfe"), "name", on_device=True),
    Damage("volume devices", Fault.LVM, device_field(0x100290, "<I", 3), "num_devices", on_device=True),
    Damage("volume size", Fault.LVM, device_field(0x100200, "<Q", 1 << 30), "logical_size", on_device=True),
    Damage("PE bitmap", Fault.LVM, device_field(0x180200, "B", 0x00), "PE 0", on_device=True),
    Damage("PE unused", Fault.LVM, pe_table(0x00, "B", 0), "used", on_device=True),
    Damage("PE number", Fault.LVM, pe_table(0x01, "<I", 7), "pe_id", on_device=True),
    Damage("PE volume", Fault.LVM, pe_table(0x05, "<I", 7), "volume_id", on_device=True),
    Damage("PE place", Fault.LVM, pe_table(0x09, "<Q", 0x2100000), "physical_offset", on_device=True),
    Damage("PE in the volume", Fault.LVM, pe_table(0x11, "<Q", 1 << 28), "logical_offset", on_device=True),
    Damage("PE length", Fault.LVM, pe_table(0x19, "<Q", 1 << 20), "length", on_device=True),
    Damage("PE too many", Fault.LVM, pe_table(0x80, "B", 1), "used", on_device=True),
    # superblock, heartbeats
    Damage("superblock sub-blocks", Fault.SUPERBLOCK, field(superblock, 0xD9, "<I", 8192), "sub_block_size"),
    Damage("superblock FDC", Fault.SUPERBLOCK, field(superblock, 0xD1, "<I", 0x20000), "fdc_group_offset"),
    Damage("superblock dense", Fault.SUPERBLOCK, field(superblock, 0x19, "<I", 6), "config"),
    Damage("superblock LVM", Fault.SUPERBLOCK, field(superblock, 0xB1, "16s", OWNER), "lvm_uuid"),
    Damage("superblock label", Fault.SUPERBLOCK, field(superblock, 0x1D, "4s", b"a\xff\xfeb"), "label"),
    Damage("superblock behind the label", Fault.SUPERBLOCK, lambda sound: field(
        superblock, 0x3D, "4s", b"junk")(sound) - 0x20, "label"),
    Damage("superblock magic", Fault.SUPERBLOCK, field(superblock, 0, "<I", 0), "magic"),
    Damage("superblock version", Fault.SUPERBLOCK, field(superblock, 4, "<I", 9), "major"),
    Damage("superblock later version", Fault.SUPERBLOCK, field(superblock, 4, "<I", 15), "major", False),
    Damage("superblock block size", Fault.SUPERBLOCK, field(superblock, 0xA1, "<Q", 3 << 20), "block_size"),
    Damage("superblock other block size", Fault.SUPERBLOCK, field(superblock, 0xA1, "<Q", 2 << 20), "block_size"),
    Damage("superblock other place", Fault.SUPERBLOCK, field(superblock, 0xA1, "<Q", 8 << 20), "block_size"),
    Damage("superblock PB2 place", Fault.SUPERBLOCK, field(superblock, 0xE1, "<Q", 0x48 << 24), "pb2_position"),
    Damage("superblock SDD", Fault.SUPERBLOCK, field(superblock, 0x10D, "<I", 0x01800004), "sdd_address"),
    Damage("slot magic", Fault.HEARTBEAT, field(slot(5), 0, "<I", 0), "magic"),
    Damage("slot position", Fault.HEARTBEAT, field(slot(5), 4, "<Q", 0x300000), "position"),
    Damage("slot owner", Fault.HEARTBEAT, field(slot(5), 0x1C, "16s", OWNER), "owner"),
    Damage("slot journal", Fault.HEARTBEAT, field(slot(5), 0x2C, "<I", 0x1041), "journal"),
    Damage("dead host", Fault.HEARTBEAT, dead_host, "state"),
    # resource files
    Damage("header total", Fault.RESOURCE_FILE, field(fbb_header, 0x14, "<I", 200), "total"),
    Damage("header groups", Fault.RESOURCE_FILE, field(fbb_header, 0x18, "<I", 9), "groups"),
    Damage("header group size", Fault.RESOURCE_FILE, field(fbb_header, 0x10, "<I", 9), "group_size"),
    Damage("header per cluster", Fault.RESOURCE_FILE, field(fbb_header, 0, "<I", 0), "resources_per_cluster"),
    Damage("header per cluster, possible", Fault.RESOURCE_FILE, field(
        lambda sound: sound.place(sound.fdc, 0), 0, "<I", 16), "resources_per_cluster"),
    Damage("header per group", Fault.RESOURCE_FILE, field(fbb_header, 4, "<I", 0), "clusters_per_group"),
    Damage("header offset", Fault.RESOURCE_FILE, field(fbb_header, 8, "<I", 0), "group_offset"),
    Damage("header size", Fault.RESOURCE_FILE, field(fbb_header, 0x0C, "<I", 512), "resource_size"),
    Damage("header without total", Fault.RESOURCE_FILE, field(
        lambda sound: sound.place(sound.pbc, 0), 0x14, "<I", 0), "total"),
    Damage("cluster lock type", Fault.CLUSTER, field(fdc_cluster, 0, "<I", 0x10C00002), "lock type"),
    Damage("cluster lock position", Fault.CLUSTER, field(fdc_cluster, 4, "<Q", 0), "lock position"),
    Damage("cluster number", Fault.CLUSTER, field(fdc_cluster, 0x200, "<I", 3), "number"),
    Damage("cluster total", Fault.CLUSTER, field(fdc_cluster, 0x204, "<I", 31), "total"),
    Damage("cluster free", Fault.CLUSTER, field(fdc_cluster, 0x208, "<I", 31), "free"),
    Damage("cluster next free", Fault.CLUSTER, field(fdc_cluster, 0x20C, "<I", 99), "next_free"),
    Damage("cluster extra bits", Fault.CLUSTER, extra_bit, "bits behind the last resource"),
    # bitmaps
    Damage("lost block", Fault.LOST, lost_block, "state in the bitmap"),
    Damage("lost sub-block", Fault.LOST, lost_sub_block, "state in the bitmap"),
    Damage("lost pointer block", Fault.LOST, lost_pointer_block, "state in the bitmap"),
    Damage("lost descriptor", Fault.LOST, lost_descriptor, "state in the bitmap"),
    Damage("free block", Fault.FREE, free_block, "state in the bitmap"),
    Damage("free sub-block", Fault.FREE, free_sub_block, "state in the bitmap"),
    Damage("free pointer block", Fault.FREE, free_pointer_block, "state in the bitmap"),
    Damage("free descriptor", Fault.FREE, free_descriptor, "state in the bitmap"),
    Damage("shared block", Fault.SHARED, shared_block, "address of block 0"),
    Damage("shared sub-block", Fault.SHARED, shared_sub_block, "address of block 0"),
    # descriptors
    Damage("FD lock type", Fault.DESCRIPTOR, field(disk, 0, "<I", 0), "lock type"),
    Damage("FD lock position", Fault.DESCRIPTOR, field(disk, 4, "<Q", 0), "lock position"),
    Damage("FD address", Fault.DESCRIPTOR, field(disk, 0x200, "<I", 0x44), "address"),
    Damage("FD generation", Fault.DESCRIPTOR, field(disk, 0x204, "<I", 0), "generation"),
    Damage("FD nlink", Fault.LINKS, field(disk, 0x208, "<I", 3), "nlink"),
    Damage("directory nlink", Fault.LINKS, field(lambda sound: sound.fd(sound.vm), 0x208, "<I", 9), "nlink"),
    Damage("FD type", Fault.DESCRIPTOR, field(disk, 0x20C, "<I", 9), "type"),
    Damage("FD length", Fault.DESCRIPTOR, field(disk, 0x214, "<Q", 1 << 40), "length"),
    Damage("FD block size", Fault.DESCRIPTOR, field(disk, 0x21C, "<Q", 65536), "block_size"),
    Damage("FD blocks", Fault.COUNT, field(disk, 0x224, "<Q", 9), "num_blocks"),
    Damage("FD zla", Fault.DESCRIPTOR, field(disk, 0x244, "<I", 7), "zla"),
    Damage("FD tbz", Fault.COUNT, field(disk, 0x248, "<I", 0), "tbz"),
    Damage("FD cow", Fault.COUNT, field(disk, 0x24C, "<I", 1), "cow"),
    Damage("FD shift", Fault.DESCRIPTOR, field(disk, 0x289, "B", 3), "block_offset_shift"),
    Damage("address type", Fault.ADDRESS, field(disk, 0x404, "<I", 0x3), "address of block 1"),
    Damage("address too large", Fault.ADDRESS, field(disk, 0x404, "<I", 0xFFFFFFC1), "address of block 1"),
    Damage("address flags", Fault.ADDRESS, lambda sound: field(
        disk, 0x400, "<I", sound.disk.words[0] | 0x18)(sound), "flags in the address of block 0"),
    Damage("address behind the end", Fault.ADDRESS, field(disk, 0x400 + 4 * 20, "<I", 251 << 6 | 1),
           "address of block 20"),
    # directories
    Damage("entry without descriptor", Fault.DIRECTORY, stale_entry, "the entry 'small'"),
    Damage("entry type", Fault.DIRECTORY, entry_field(0, "<I", 2), "type in the entry 'small'"),
    Damage("entry generation", Fault.DIRECTORY, entry_field(8, "<I", 77), "generation in the entry 'small'"),
    Damage("entry name empty", Fault.DIRECTORY, entry_field(0x0C, "5s", b""), "name of FD <0,7>"),
    Damage("entry name with slash", Fault.DIRECTORY, entry_field(0x0C, "5s", b"a/b"), "name of FD <0,7>"),
    Damage("entry name not UTF-8", Fault.DIRECTORY, entry_field(0x0C, "2s", b"\xff\xfe"), "name of FD <0,7>"),
    Damage("entry name twice", Fault.DIRECTORY, lambda sound: entry_field(0x0C, "5s", b"disk")(sound) + 140,
           "name of FD <0,8>"),
    Damage("junk behind a name", Fault.DIRECTORY, lambda sound: entry_field(0x40, "4s", b"junk")(sound) - 0x34,
           "name of FD <0,7>"),
    Damage("no dot", Fault.DIRECTORY, lambda sound: field(
        lambda one: one.entry(one.vm, 0), 4, "<I", 0x44)(sound) - 4, "entry 0"),
    Damage("wrong dot-dot", Fault.DIRECTORY, lambda sound: field(
        lambda one: one.entry(one.vm, 1), 4, "<I", 0x44)(sound) - 4, "entry 1"),
    Damage("directory length", Fault.DIRECTORY, field(lambda sound: sound.fd(sound.vm), 0x214, "<Q", 701), "length"),
    Damage("directory with two names", Fault.DIRECTORY, twice, "the entry 'empty'"),
    Damage("file without a name", Fault.ORPHAN, unnamed, "entry in a directory"),
    Damage("directory without a name", Fault.ORPHAN, unnamed_folder, "entry in a directory"),
    # locks
    Damage("stale lock", Fault.LOCK, stale_lock, "holder of the exclusive lock"),
    Damage("stale cluster lock", Fault.LOCK, stale_cluster_lock, "holder of the exclusive lock"),
    Damage("stale reader", Fault.LOCK, stale_reader, "holder of the read-only lock"),
    Damage("lock mode", Fault.LOCK, field(disk, 0x24, "<I", 9), "lock mode"),
    Damage("owner of a free lock", Fault.LOCK, lambda sound: field(disk, 0x28, "16s", OWNER)(sound) - 4,
           "owner of a free lock"),
)  # fmt: skip


def copied(sound: Sound, folder: Path) -> Sound:
    """The same volume in another folder: a copy of the image, which stays sparse."""
    target = folder / sound.paths[0].name
    subprocess.run(["cp", "--sparse=always", sound.paths[0], target], check=True)
    made: Sound = object.__new__(Sound)
    made.__dict__ = dict(sound.__dict__)
    made.paths = [target]
    return made
