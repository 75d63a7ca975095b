"""File descriptors (FD) and the 32-bit addresses in them; no behaviour.

    0x000   lock
    0x200   metadata
    0x400   256 addresses; or a disk id (raw device mapping); or the contents themselves (VMFS-5, ZeroLevel.RESIDENT)

    address         31..28      27..22      21..6       5    4    3    2..0
    file block      number .....................        TBZ  COW  -    1
    sub-block       resource    cluster .......         COW  (DENSE)   2    DENSE: bits 4-3 are the resource's 5-4
    pointer block   resource    cluster .......         COW  -    -    3
    descriptor      resource (31..22)   cluster         -    -    -    4
    second-level    as a pointer block; VMFS-5                         5

Little-endian, packed.
Source: vmfs-tools, libvmfs/vmfs_inode.h, vmfs_block.h; dissect.vmfs, c_vmfs.py, address.py, descriptor.py.
"""

from enum import IntEnum, IntFlag

import numpy as np

from vmkernel.storage.vmfs3.volume_spec import LOCK, LOCK_BYTES

FD_BYTES = 2048
METADATA_AT, CONTENTS_AT = LOCK_BYTES, 1024
ADDRESSES = 256
RESIDENT_MAX = 1024
POINTER_BLOCK_BYTES = 4096
PER_POINTER_BLOCK = 1024
ADDRESS = np.dtype("<u4")


class AddressType(IntEnum):
    """The low three bits of an address."""

    NULL = 0  # with the whole word 0: a hole
    FILE_BLOCK = 1
    SUB_BLOCK = 2
    POINTER_BLOCK = 3
    FILE_DESCRIPTOR = 4
    POINTER_BLOCK_2 = 5
    JOURNAL_BLOCK = 6


TYPE_MASK = 0x7


class FileBlockFlag(IntFlag):
    """Bits of a file block's address."""

    COW = 1 << 4
    TBZ = 1 << 5  # allocated, never written: reads as zeros


BLOCK_SHIFT = 6
BLOCK_MAX = (1 << 26) - 1
CLUSTER_SHIFT = 6
RESOURCE_SHIFT, SMALL_CLUSTER_MASK, SMALL_RESOURCE_MASK = 28, 0x3FFFFF, 0xF  # sub-block and pointer blocks
FD_RESOURCE_SHIFT, FD_CLUSTER_MASK, FD_RESOURCE_MASK = 22, 0xFFFF, 0x3FF
DENSE_SHIFT, DENSE_MASK, DENSE_RESOURCE_SHIFT = 3, 0x3, 4
SUB_BLOCK_COW = 1 << 5  # and of a pointer block


class SystemFile(IntEnum):
    """Addresses of the descriptors that every volume has."""

    ROOT = 0x00000004
    FBB = 0x00400004
    FDC = 0x00800004
    PBC = 0x00C00004
    SBC = 0x01000004
    VH = 0x01400004


SYSTEM_NAMES = {
    SystemFile.FBB: ".fbb.sf", SystemFile.FDC: ".fdc.sf", SystemFile.PBC: ".pbc.sf", SystemFile.SBC: ".sbc.sf",
    SystemFile.VH: ".vh.sf",
}  # fmt: skip


class FileType(IntEnum):
    """`type` of a descriptor and of a directory entry."""

    INVALID = 0
    VOLUME = 1
    DIRECTORY = 2
    REGULAR = 3
    SYMLINK = 4
    SYSTEM = 5
    RDM = 6


class ZeroLevel(IntEnum):
    """`zla`, zero-level address type: what the addresses of a descriptor are of."""

    NONE = 0
    FILE_BLOCK = 1
    SUB_BLOCK = 2
    POINTER_BLOCK = 3
    POINTER_BLOCK_2 = 5  # from here on VMFS-5
    DOUBLE = 0x10D0  # second-level pointer blocks of pointer blocks
    RESIDENT = 0x10D1  # the contents are in the descriptor


DESCRIPTOR = np.dtype([
    ("lock", LOCK),
    ("address", "<u4"),  # its own
    ("generation", "<u4"),
    ("nlink", "<u4"),  # 0: deleted
    ("type", "<u4"),
    ("flags", "<u4"),
    ("length", "<u8"),
    ("block_size", "<u8"),
    ("num_blocks", "<u8"),  # data blocks; pointer blocks are not counted
    ("mtime", "<u4"),  # seconds since 1970, as the next two
    ("ctime", "<u4"),
    ("atime", "<u4"),
    ("uid", "<u4"),
    ("gid", "<u4"),
    ("mode", "<u4"),
    ("zla", "<u4"),
    ("tbz", "<u4"),  # addresses with TBZ
    ("cow", "<u4"),
    ("new_since_epoch", "<u4"),  # from here on VMFS-5; zeros before, but for block_offset_shift
    ("tbz_high", "<u4"),
    ("cow_high", "<u4"),
    ("pointer_blocks", "<u4"),
    ("new_since_epoch_high", "<u4"),
    ("signature", "<u4"),
    ("affinity", "<u4"),
    ("tbz_granularity_shift", "<u4"),
    ("parent", "<u4"),
    ("last_cluster", "<u4"),
    ("reserved_278", "V8"),
    ("affinity_bitmap", "<u4"),
    ("reserved_284", "V5"),
    ("block_offset_shift", "u1"),  # log2(block_size): one reader needs it, ESX 3 writes 0
    ("reserved_28a", "V374"),
    ("contents", ADDRESS, ADDRESSES),
])  # fmt: skip
assert DESCRIPTOR.itemsize == FD_BYTES

ROOT_MODE = 0o1755  # stored without type bits
DIRECTORY_MODE = 0o755
SYSTEM_MODE = 0o400
REGULAR_MODE = 0o100600
SYMLINK_MODE = 0o777
RDM_MODE = 0o600
RDM_BLOCK_BYTES = 512
