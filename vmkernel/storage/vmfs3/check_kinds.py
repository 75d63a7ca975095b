"""What a descriptor's zla must have been, where its own words contradict it.

The zla says what the addresses are of, and each address says so too, as does the size of the file's blocks. A wrong zla
must not be believed: every address of the file would be none. Of a file without any address, one that can be is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.vmfs3 import descriptor_spec as spec
from vmkernel.storage.vmfs3.descriptor_spec import AddressType, FileType, ZeroLevel
from vmkernel.storage.vmfs3.volume_spec import SUB_BLOCK_BYTES

LEVELS = {
    AddressType.FILE_BLOCK: ZeroLevel.FILE_BLOCK, AddressType.SUB_BLOCK: ZeroLevel.SUB_BLOCK,
    AddressType.POINTER_BLOCK: ZeroLevel.POINTER_BLOCK,
}  # fmt: skip
WITH_BLOCKS = (FileType.REGULAR, FileType.SYMLINK, FileType.SYSTEM)
OF_LEVEL = {int(level): int(kind) for kind, level in LEVELS.items()}


def right_levels(fds: NDArray[Any], rows: NDArray[np.int64], block_size: int) -> dict[int, int]:
    """The rows of these whose zla is wrong, and what it has to be; none of those of which nothing is known."""
    zla, words = fds["zla"][rows], fds["contents"][rows]
    rdm = fds["type"][rows] == FileType.RDM
    expected = np.zeros(len(rows), np.int64)
    for told, kind in OF_LEVEL.items():
        expected[zla == told] = kind
    used = words != 0
    agrees = (used & (words & spec.TYPE_MASK == expected[:, None])).any(axis=1) & (expected != 0)
    is_known = np.where(rdm, zla == ZeroLevel.NONE, expected != 0)
    doubtful = np.where(rdm | ~used.any(axis=1), ~is_known, ~agrees)
    doubtful |= (fds["type"][rows] == FileType.DIRECTORY) & (zla == ZeroLevel.POINTER_BLOCK)
    found = {}
    for row in rows[np.flatnonzero(doubtful)].tolist():
        level = level_of(fds[row], block_size)
        if level is not None and level != fds["zla"][row]:
            found[row] = int(level)
    return found


def level_of(fd: Any, block_size: int) -> ZeroLevel | None:
    """By all but the zla itself; None: nothing tells, or it is told in two ways."""
    if fd["type"] == FileType.RDM:
        return ZeroLevel.NONE
    kinds = fd["contents"][fd["contents"] != 0] & spec.TYPE_MASK
    if not len(kinds):
        return _level_of_holes(fd, block_size)
    counts = np.bincount(kinds, minlength=spec.TYPE_MASK + 1)
    kind = int(np.argmax(counts))
    level = LEVELS.get(AddressType(kind)) if kind in OF_LEVEL.values() else None
    if level is ZeroLevel.POINTER_BLOCK and fd["type"] == FileType.DIRECTORY:  # none is as long as that
        return _level_of_holes(fd, block_size)
    other = block_size if level is ZeroLevel.SUB_BLOCK else SUB_BLOCK_BYTES  # the size that contradicts it
    return None if int(counts[kind]) == 1 and fd["block_size"] == other else level


def _level_of_holes(fd: Any, block_size: int) -> ZeroLevel | None:
    """Where there is no address, any level is true of the contents; the usual one where the size does not tell."""
    if fd["block_size"] == SUB_BLOCK_BYTES:
        return ZeroLevel.SUB_BLOCK
    if fd["type"] == FileType.DIRECTORY:
        return ZeroLevel.FILE_BLOCK if fd["block_size"] == block_size else ZeroLevel.SUB_BLOCK
    if fd["block_size"] != block_size and fd["type"] not in WITH_BLOCKS:
        return None
    few = fd["length"] <= spec.ADDRESSES * block_size
    return ZeroLevel.FILE_BLOCK if few else ZeroLevel.POINTER_BLOCK
