"""The medium of an IDE disk as its drive sees it: a host without room for a write is told apart from a bad sector."""

from __future__ import annotations

import errno

from hw.scsi.backing import OutOfSpace
from hw.wiring import BlockDevice
from ringfence.errors import MediaError
from vmkernel.storage import errors

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class IdeMedium:
    """A hw.wiring.BlockDevice over another, whose writes and flushes raise OutOfSpace where that is the reason."""

    def __init__(self, medium: BlockDevice, name: str) -> None:
        self.medium, self.name = medium, name

    @property
    def block_size(self) -> int:
        return self.medium.block_size

    @property
    def blocks(self) -> int:
        return self.medium.blocks

    def read(self, block: int, views: list[memoryview]) -> None:
        self.medium.read(block, views)

    def write(self, block: int, views: list[memoryview]) -> None:
        try:
            self.medium.write(block, views)
        except MediaError as error:
            self._raise(error)

    def flush(self) -> None:
        try:
            self.medium.flush()
        except MediaError as error:
            self._raise(error)

    def _raise(self, error: MediaError) -> None:
        """A raw image says why it failed by the host's error, a chain by the kind of its own."""
        cause = error.__cause__
        no_room = isinstance(error, errors.OutOfSpace) or (isinstance(cause, OSError) and cause.errno in NO_ROOM)
        if not no_room:
            raise error
        trouble = getattr(self.medium, "trouble", "") or str(error)
        raise OutOfSpace(trouble if trouble.startswith(self.name) else f"{self.name}: {trouble}") from error
