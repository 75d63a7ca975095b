"""What is published of VMFS-3's structures: offset, size and name of every field, and bytes of a real 3.31 volume.

Sources: vmfs-tools, libvmfs/*.h; dissect.vmfs, c_lvm.py, c_vmfs.py; the dumps are of vmfs-tools' test.img.
"""

from __future__ import annotations

DISK_ID = (
    (0x00, 1, "type"), (0x01, 1, "id_length"), (0x02, 2, "lun"), (0x04, 1, "device_type"), (0x05, 1, "scsi_level"),
    (0x06, 8, "vendor"), (0x0E, 16, "model"), (0x1E, 4, "revision"), (0x22, 44, "id"),
)  # fmt: skip
DEVICE_HEADER = (
    (0x00, 4, "magic"), (0x04, 4, "major"), (0x08, 4, "minor"), (0x0C, 78, "disk_id"), (0x5A, 4, "disk_block_size"),
    (0x5E, 8, "total_bytes"), (0x66, 4, "num_volumes"), (0x6A, 4, "num_pes"), (0x6E, 4, "last_pe"),
    (0x72, 8, "generation"), (0x7A, 8, "data_offset"), (0x82, 16, "device_uuid"), (0x92, 8, "init_time_us"),
    (0x9A, 8, "mod_time_us"), (0xA2, 16, "locked_by"), (0xB2, 8, "locked_when_us"), (0xBE, 4, "num_pe_maps"),
    (0xC2, 8, "extended_offset"), (0xCA, 4, "md_alignment"), (0xCE, 4, "num_pes_6"), (0xD2, 4, "flags"),
)  # fmt: skip
VOLUME_DESCRIPTOR = (
    (0x00, 8, "logical_size"), (0x08, 8, "generation"), (0x10, 4, "state"), (0x14, 64, "name"),
    (0x54, 16, "lvm_uuid"), (0x64, 4, "snap_id"), (0x68, 8, "creation_time_us"), (0x70, 4, "volume_id"),
    (0x74, 4, "num_pes"), (0x78, 8, "first_pe"), (0x80, 8, "last_pe"), (0x88, 8, "mod_time_us"),
    (0x90, 4, "num_devices"), (0x110, 4, "consumed_pes"),
)  # fmt: skip
PE_ENTRY = (
    (0x00, 1, "used"), (0x01, 4, "pe_id"), (0x05, 4, "volume_id"), (0x09, 8, "physical_offset"),
    (0x11, 8, "logical_offset"), (0x19, 8, "length"), (0x21, 4, "version"),
)  # fmt: skip
SUPERBLOCK = (
    (0x00, 4, "magic"), (0x04, 4, "major"), (0x08, 1, "minor"), (0x09, 16, "uuid"), (0x19, 4, "config"),
    (0x1D, 128, "label"), (0x9D, 4, "disk_block_size"), (0xA1, 8, "block_size"), (0xA9, 4, "creation_time"),
    (0xAD, 4, "snap_id"), (0xB1, 16, "lvm_uuid"), (0xC1, 4, "lvm_snap_id"), (0xC5, 12, "volume_info"),
    (0xD1, 4, "fdc_group_offset"), (0xD5, 4, "fdc_clusters_per_group"), (0xD9, 4, "sub_block_size"),
    (0xDD, 4, "journal_slots"), (0xE1, 8, "pb2_position"), (0xE9, 4, "pb2_address"), (0xED, 16, "owner"),
    (0xFD, 8, "owner_generation"), (0x105, 8, "sdd_position"), (0x10D, 4, "sdd_address"),
    (0x134, 4, "metadata_alignment"),
)  # fmt: skip
HEARTBEAT = (
    (0x00, 4, "magic"), (0x04, 8, "position"), (0x0C, 8, "generation"), (0x14, 8, "stamp"), (0x1C, 16, "owner"),
    (0x2C, 4, "journal"), (0x30, 4, "driver_major"), (0x34, 1, "driver_minor"), (0x35, 1, "lock_implementation"),
    (0x36, 46, "ip"), (0x64, 8, "journal_position"), (0x6C, 16, "replay_host"), (0x94, 8, "replay_position"),
    (0x9C, 8, "replay_generation"),
)  # fmt: skip
LOCK = (
    (0x00, 4, "type"), (0x04, 8, "position"), (0x0C, 8, "hb_position"), (0x14, 8, "hb_generation"),
    (0x1C, 8, "token"), (0x24, 4, "mode"), (0x28, 16, "owner"), (0x38, 8, "mtime"), (0x40, 4, "num_holders"),
    (0x44, 256, "holders"), (0x164, 4, "global_holders"), (0x168, 8, "global_generation"),
)  # fmt: skip
HOLDER = ((0x00, 8, "hb_position"), (0x08, 8, "hb_generation"), (0x10, 16, "owner"))
RESOURCE_HEADER = (
    (0x00, 4, "resources_per_cluster"), (0x04, 4, "clusters_per_group"), (0x08, 4, "group_offset"),
    (0x0C, 4, "resource_size"), (0x10, 4, "group_size"), (0x14, 4, "total"), (0x18, 4, "groups"),
)  # fmt: skip
CLUSTER = (
    (0x000, 512, "lock"), (0x200, 4, "number"), (0x204, 4, "total"), (0x208, 4, "free"), (0x20C, 4, "next_free"),
    (0x210, 64, "bitmap"), (0x250, 4, "type_data"), (0x260, 4, "priority"),
)  # fmt: skip
DESCRIPTOR = (
    (0x000, 512, "lock"), (0x200, 4, "address"), (0x204, 4, "generation"), (0x208, 4, "nlink"), (0x20C, 4, "type"),
    (0x210, 4, "flags"), (0x214, 8, "length"), (0x21C, 8, "block_size"), (0x224, 8, "num_blocks"),
    (0x22C, 4, "mtime"), (0x230, 4, "ctime"), (0x234, 4, "atime"), (0x238, 4, "uid"), (0x23C, 4, "gid"),
    (0x240, 4, "mode"), (0x244, 4, "zla"), (0x248, 4, "tbz"), (0x24C, 4, "cow"), (0x250, 4, "new_since_epoch"),
    (0x254, 4, "tbz_high"), (0x258, 4, "cow_high"), (0x25C, 4, "pointer_blocks"), (0x264, 4, "signature"),
    (0x268, 4, "affinity"), (0x26C, 4, "tbz_granularity_shift"), (0x270, 4, "parent"), (0x274, 4, "last_cluster"),
    (0x280, 4, "affinity_bitmap"), (0x289, 1, "block_offset_shift"), (0x400, 1024, "contents"),
)  # fmt: skip
ENTRY = ((0x00, 4, "type"), (0x04, 4, "address"), (0x08, 4, "generation"), (0x0C, 128, "name"))


def dump(text: str, size: int) -> bytes:
    """Rows of `offset bytes...` in hex; what no row gives is zero."""
    data = bytearray(size)
    for row in text.strip().splitlines():
        offset, *values = row.split()
        at = int(offset, 16)
        data[at : at + len(values)] = bytes.fromhex("".join(values))
    return bytes(data)


REAL_DEVICE_HEADER = dump("""
0000 0d d0 01 c0 03 00 00 00 10 00 00 00 00 0f 00 00
0010 00 03 53 75 6e 20 20 20 20 20 56 4f 4c 31 20 20
0020 20 20 20 20 20 20 20 20 20 20 56 31 2e 30 76 6d
0030 68 62 61 30 3a 43 30 3a 54 30 3a 4c 30 00 00 00
0050 00 00 00 00 00 00 00 00 00 00 00 02 00 00 00 34
0060 02 4b 00 00 00 00 01 00 00 00 04 00 00 00 03 00
0070 00 00 06 00 00 00 00 00 00 00 00 00 10 01 00 00
0080 00 00 44 f8 ed 49 19 de 2d da 7b 74 00 21 28 00
0090 83 cf e7 d1 7e 61 13 68 04 00 98 55 80 61 13 68
00a0 04 00
""", 512)  # fmt: skip
REAL_VOLUME_DESCRIPTOR = dump("""
0000 00 00 00 40 00 00 00 00 05 00 00 00 00 00 00 00
0010 01 00 00 00 34 39 65 64 66 38 34 32 2d 64 63 62
0020 33 35 64 33 37 2d 62 33 38 33 2d 30 30 32 31 32
0030 38 30 30 38 33 63 66 00 00 00 00 00 00 00 00 00
0050 00 00 00 00 42 f8 ed 49 37 5d b3 dc 83 b3 00 21
0060 28 00 83 cf 01 00 00 00 ff e8 7e 61 13 68 04 00
0070 00 00 00 00 04 00 00 00 00 00 00 00 00 00 00 00
0080 03 00 00 00 00 00 00 00 4b 3f 80 61 13 68 04 00
0090 01 00 00 00
""", 512)  # fmt: skip
REAL_PE_ENTRY_1 = dump("""
0000 01 01 00 00 00 00 00 00 00 00 00 10 11 00 00 00
0010 00 00 00 00 10 00 00 00 00 00 00 00 10 00 00 00
0020 00 01 00 00 00
""", 128)  # fmt: skip
REAL_SUPERBLOCK = dump("""
0000 5e f1 ab 2f 04 00 00 00 1f 44 f8 ed 49 f3 28 fc
0010 eb cb 65 00 21 28 00 83 cf 02 00 00 00 74 6f 74
0020 6f
0090 00 00 00 00 00 00 00 00 00 00 00 00 00 00 02 00
00a0 00 00 00 10 00 00 00 00 00 44 f8 ed 49 01 00 00
00b0 00 42 f8 ed 49 37 5d b3 dc 83 b3 00 21 28 00 83
00c0 cf 01 00 00 00
00d0 00 00 00 01 00 20 00 00 00 00 00 01 00
""", 512)  # fmt: skip
REAL_FDC_HEADER = dump("""
0000 20 00 00 00 20 00 00 00 00 00 01 00 00 08 00 00 00 80 20 00 00 01 00 00 01 00 00 00
""", 512)  # fmt: skip
REAL_FBB_HEADER = dump("""
0000 c8 00 00 00 20 00 00 00 00 00 01 00 00 00 00 00 00 80 00 00 00 04 00 00 01 00 00 00
""", 512)  # fmt: skip
REAL_FDC_CLUSTER_0 = dump("""
000 05 00 c0 10 00 00 41 00 00 00 00 00 00 00 00 00
010 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00 00
030 00 00 00 00 00 00 00 00 ac 75 96 0e 00 00 00 00
200 00 00 00 00 20 00 00 00 1a 00 00 00 06 00 00 00
210 c0 ff ff ff
""", 1024)  # fmt: skip
REAL_FDC_CLUSTER_6 = dump("""
000 05 00 c0 10 00 18 41 00 00 00 00 00 00 06 3e 00
010 00 00 00 00 0d 00 00 00 00 00 00 00 0b 00 00 00
030 00 00 00 00 00 00 00 00 57 d7 57 16 00 00 00 00
200 06 00 00 00 20 00 00 00 18 00 00 00 08 00 00 00
210 00 ff ff ff
250 08 00 00 00
""", 1024)  # fmt: skip
REAL_ROOT = dump("""
000 01 00 c0 10 00 80 41 00 00 00 00 00 00 06 3e 00
010 00 00 00 00 0d 00 00 00 00 00 00 00 11 00 00 00
030 00 00 00 00 00 00 00 00 e1 37 52 16 00 00 00 00
200 04 00 00 00 01 00 00 00 02 00 00 00 02 00 00 00
210 00 00 00 00 34 08 00 00 00 00 00 00 00 00 10 00
220 00 00 00 00 01 00 00 00 00 00 00 00 c8 f8 ed 49
230 c8 f8 ed 49 c8 f8 ed 49 00 00 00 00 00 00 00 00
240 ed 03 00 00 01 00 00 00 00 00 00 00 00 00 00 00
400 41 01 00 00
""", 2048)  # fmt: skip
