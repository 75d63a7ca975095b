"""Requests to a block device: cutting views, and reading up to a bad block."""

from __future__ import annotations

from hw.wiring import BlockDevice
from ringfence.errors import MediaError


def first_bytes(views: list[memoryview], length: int) -> list[memoryview]:
    """The views' first `length` bytes."""
    cut: list[memoryview] = []
    for view in views:
        if length <= 0:
            break
        cut.append(view if len(view) <= length else view[:length])
        length -= len(view)
    return cut


def read_until_bad(device: BlockDevice, first: int, count: int, views: list[memoryview]) -> int:
    """Read `count` blocks from `first` on, or those before a bad one; how many.

    Raises MediaError when the first block is the bad one, and for blocks that the device does not have.
    """
    if first + count > device.blocks:
        raise MediaError(first, count)
    try:
        device.read(first, views)
    except MediaError as error:
        good = error.block - first
        if not 0 < good < count:
            raise
        device.read(first, first_bytes(views, good * device.block_size))
        return good
    return count
