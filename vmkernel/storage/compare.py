"""Finds the first byte in which two disks differ.

What both have as zeros is not read, nor what both have from the same place of the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vmkernel.storage.disk import Disk, Piece

STEP_BYTES = 4 << 20
Progress = Callable[[int, int], None]


class Part(NamedTuple):
    """A range, and what each disk has there."""

    start: int
    length: int
    first: Piece
    second: Piece


@dataclass(frozen=True, slots=True)
class Difference:
    """The first byte that differs; `in_tail` when only one of the disks has it, and it is not zero."""

    offset: int
    in_tail: bool = False


def first_difference(first: Disk, second: Disk, progress: Progress | None = None) -> Difference | None:
    """None: the same bytes, and where one disk is longer nothing but zeros. Raises MediaError."""
    common, whole = sorted((first.size_bytes, second.size_bytes))
    for part in parts(first, second, common):
        if not is_same_place(part):
            at = differing(first, second, part)
            if at is not None:
                return Difference(at)
        if progress is not None:
            progress(part.start + part.length, whole)
    longer = first if first.size_bytes == whole else second
    at = first_filled(longer, common, whole - common, progress)
    return None if at is None else Difference(at, in_tail=True)


def parts(first: Disk, second: Disk, size: int) -> Iterator[Part]:
    """Ranges in which neither disk changes from one piece to the next."""
    ours, theirs = first.runs(0, size), second.runs(0, size)
    at = 0
    one, other = next(ours, None), next(theirs, None)
    while one is not None and other is not None:
        end = min(one.start + one.length, other.start + other.length)
        yield Part(at, end - at, one, other)
        at = end
        if one.start + one.length == end:
            one = next(ours, None)
        if other.start + other.length == end:
            other = next(theirs, None)


def is_same_place(part: Part) -> bool:
    """Do both have the same bytes without having to look?"""
    one, other = part.first, part.second
    if one.file is None or other.file is None:
        return one.file is other.file
    if one.packed or other.packed or one.file.identity != other.file.identity:
        return False
    return one.offset - one.start == other.offset - other.start


def differing(first: Disk, second: Disk, part: Part) -> int | None:
    if part.first.file is None:
        return first_filled(second, part.start, part.length)
    if part.second.file is None:
        return first_filled(first, part.start, part.length)
    ours, theirs = bytearray(min(STEP_BYTES, part.length)), bytearray(min(STEP_BYTES, part.length))
    for at in range(part.start, part.start + part.length, STEP_BYTES):
        length = min(STEP_BYTES, part.start + part.length - at)
        if length < len(ours):
            ours, theirs = bytearray(length), bytearray(length)
        first.read(at, [memoryview(ours)])
        second.read(at, [memoryview(theirs)])
        if ours != theirs:
            wrong = np.frombuffer(ours, np.uint8) != np.frombuffer(theirs, np.uint8)
            return at + int(wrong.argmax())
    return None


def first_filled(disk: Disk, offset: int, length: int, progress: Progress | None = None) -> int | None:
    """The first byte of a range that is not zero."""
    for piece in disk.runs(offset, length) if length else ():
        for at in range(piece.start, piece.start + piece.length, STEP_BYTES) if piece.file is not None else ():
            view = memoryview(bytearray(min(STEP_BYTES, piece.start + piece.length - at)))
            disk.read(at, [view])
            filled = np.frombuffer(view, np.uint64) != 0
            if filled.any():
                word = int(filled.argmax()) * 8
                return at + word + next(index for index, byte in enumerate(view[word : word + 8]) if byte)
        if progress is not None:
            progress(piece.start + piece.length, offset + length)
    return None
