"""Directories: an array of 140-byte entries, `.` and `..` first, without gaps or order; no behaviour.

Little-endian, packed.
Source: vmfs-tools, libvmfs/vmfs_dirent.h; dissect.vmfs, c_vmfs.py.
"""

import numpy as np

NAME_BYTES = 128
NAME_MAX = NAME_BYTES - 1
ENTRY = np.dtype([
    ("type", "<u4"),  # the descriptor's
    ("address", "<u4"),
    ("generation", "<u4"),  # the descriptor's
    ("name", f"S{NAME_BYTES}"),  # UTF-8, padded with NULs
])  # fmt: skip
ENTRY_BYTES = ENTRY.itemsize
assert ENTRY_BYTES == 140
SELF, PARENT = ".", ".."
