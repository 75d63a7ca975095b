"""The address words of a file that is written: read and set through the descriptor or its pointer blocks.

A file's zero-level type only grows: sub-block, file blocks (up to 256), pointer blocks (up to 256 * 1024 file blocks).
Source: vmfs-tools, libvmfs/vmfs_inode.c.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3.allocate import allocate_pointer_block
from vmkernel.storage.vmfs3.descriptor_spec import (
    ADDRESS,
    ADDRESSES,
    PER_POINTER_BLOCK,
    POINTER_BLOCK_BYTES,
    AddressType,
    ZeroLevel,
)
from vmkernel.storage.vmfs3.operation import Operation
from vmkernel.storage.vmfs3.records import DescriptorRecord, PointerBlockRecord

Words = NDArray[np.uint32]


def set_block_size(record: DescriptorRecord, size: int, *, reader_shift: bool) -> None:
    record.block_size = size
    if reader_shift:
        record.block_offset_shift = size.bit_length() - 1


def reach(zla: int) -> int:
    """How many file blocks a file of this zero-level type can have."""
    return {ZeroLevel.FILE_BLOCK: ADDRESSES, ZeroLevel.POINTER_BLOCK: ADDRESSES * PER_POINTER_BLOCK}.get(
        ZeroLevel(zla), 0
    )


def get_words(operation: Operation, record: DescriptorRecord, first: int, count: int) -> Words:
    """A copy of the words of these file blocks; 0 for holes."""
    if record.zla == ZeroLevel.FILE_BLOCK:
        return record.addresses[first : first + count].copy()
    words = np.zeros(count, ADDRESS)
    for table, start, end in tables(first, count):
        pointer = int(record.addresses[table])
        if pointer:
            at = table * PER_POINTER_BLOCK
            block = operation.pointer_block(pointer)
            words[start - first : end - first] = block.addresses[start - at : end - at]
    return words


def tables(first: int, count: int) -> list[tuple[int, int, int]]:
    """(index of the pointer block, first file block, end) for a range of file blocks."""
    found = []
    while count > 0:
        table = first // PER_POINTER_BLOCK
        step = min(count, (table + 1) * PER_POINTER_BLOCK - first)
        found.append((table, first, first + step))
        first, count = first + step, count - step
    return found


def make_room(operation: Operation, record: DescriptorRecord, first: int, count: int) -> None:
    """Pointer blocks for these file blocks, when the file has pointer blocks. Raises VolumeFull."""
    if record.zla != ZeroLevel.POINTER_BLOCK:
        return
    for table, _, _ in tables(first, count):
        if not record.addresses[table]:
            record.addresses[table] = new_pointer_block(operation)[0]
            record.addresses_changed(table)


def new_pointer_block(operation: Operation) -> tuple[int, PointerBlockRecord]:
    """(address, an empty one)."""
    word = allocate_pointer_block(operation)
    position = operation.pools[AddressType.POINTER_BLOCK].item_position(*addresses.place(word))
    block = operation.new(PointerBlockRecord(position, bytearray(POINTER_BLOCK_BYTES)))
    block.addresses_changed(0, PER_POINTER_BLOCK)
    return word, block


def put_words(operation: Operation, record: DescriptorRecord, first: int, words: Words) -> None:
    """Set the words of these file blocks, for which there is room."""
    if record.zla == ZeroLevel.FILE_BLOCK:
        record.addresses[first : first + len(words)] = words
        record.addresses_changed(first, len(words))
        return
    for table, start, end in tables(first, len(words)):
        at = table * PER_POINTER_BLOCK
        pointer = int(record.addresses[table])
        if not pointer:
            continue  # holes become holes
        block = operation.touch(operation.pointer_block(pointer))
        block.addresses[start - at : end - at] = words[start - first : end - first]
        block.addresses_changed(start - at, end - start)


def use_pointer_blocks(operation: Operation, record: DescriptorRecord) -> None:
    """From file blocks in the descriptor to a pointer block of them. Raises VolumeFull."""
    old = record.addresses.copy()
    words = np.zeros(ADDRESSES, ADDRESS)
    if old.any():
        words[0], block = new_pointer_block(operation)
        block.addresses[:ADDRESSES] = old
    record.addresses[:] = words
    record.addresses_changed(0, ADDRESSES)
    record.zla = ZeroLevel.POINTER_BLOCK
