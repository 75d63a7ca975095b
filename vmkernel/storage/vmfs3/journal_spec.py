"""A host's journal: one file block, named by its heartbeat slot. The layout is our own; no behaviour.

    0x000   header, one sector
    0x200   table: where each piece of the transaction belongs, and its length; padded to a sector
    ...     the pieces, whole sectors, one behind the other

There is one transaction or none. It is whole when its digest agrees: a write that was cut short leaves none. ESX 3's
own layout is a redo log of sectors too, but how it marks a transaction as whole is not known; it only needs the block
to be allocated and named. Little-endian, packed. Offsets in the table are bytes of the logical volume.
"""

from enum import IntEnum

import numpy as np

MAGIC = b"RFJOURNL"
VERSION = 1
DIGEST_BYTES = 16
NAME_BYTES = 64
HEADER_BYTES = 512


class JournalState(IntEnum):
    """Does the block hold a transaction?"""

    EMPTY = 0
    COMMITTED = 1


HEADER = np.dtype([
    ("magic", "V8"),
    ("version", "<u4"),
    ("state", "<u4"),
    ("owner", "V16"),  # the host's UUID
    ("hb_position", "<u8"),  # its slot, and the slot's generation
    ("hb_generation", "<u8"),
    ("sequence", "<u8"),  # one more for every transaction
    ("pieces", "<u4"),  # rows of the table
    ("sectors", "<u4"),  # of all pieces
    ("digest", f"V{DIGEST_BYTES}"),  # BLAKE2b of table and pieces
    ("machine", "V16"),  # what machine and process space `pid` is of
    ("pid", "<u4"),
    ("pid_start", "<u8"),  # when the process was started, in ticks since the machine was
    ("name", f"V{NAME_BYTES}"),  # UTF-8, padded with NULs
    ("reserved_ac", "V324"),
    ("header_digest", f"V{DIGEST_BYTES}"),  # of all before
])  # fmt: skip
assert HEADER.itemsize == HEADER_BYTES
DIGEST_AT = HEADER_BYTES - DIGEST_BYTES

PIECE = np.dtype([("position", "<u8"), ("sectors", "<u4"), ("reserved", "<u4")])
assert PIECE.itemsize == 16
