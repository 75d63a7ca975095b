"""A command's buffer as a list of views: cut into pieces, read once, filled at its end."""

from __future__ import annotations

from collections.abc import Iterator

from hw.blocks import first_bytes
from hw.scsi.scsi_spec import LIST_LENGTH, Direction
from hw.scsi.sense import Refused
from hw.scsi.wiring import Command


def sent(command: Command, length: int) -> bytes:
    """A parameter list's first bytes, copied once: the guest may write to it meanwhile. Raises Refused."""
    data = b"".join(first_bytes(command.room(Direction.OUT), length))
    if len(data) < length:
        raise Refused(LIST_LENGTH)
    return data


def whole_blocks(views: list[memoryview], block_bytes: int) -> list[memoryview]:
    """Without the part of a block at the end."""
    length = sum(map(len, views))
    return first_bytes(views, length - length % block_bytes)


def in_pieces(views: list[memoryview], size: int) -> Iterator[list[memoryview]]:
    """The same bytes as lists of views of `size` bytes, but for the last."""
    piece: list[memoryview] = []
    missing = size
    for view in views:
        at = 0
        while at < len(view):
            piece.append(view[at : at + missing])
            at, missing = at + len(piece[-1]), missing - len(piece[-1])
            if not missing:
                yield piece
                piece, missing = [], size
    if piece:
        yield piece


def put_at_end(views: list[memoryview], data: bytes) -> None:
    """Into the views' last bytes."""
    left = len(data)
    for view in reversed(views):
        size = min(len(view), left)
        view[len(view) - size :] = data[left - size : left]
        left -= size
