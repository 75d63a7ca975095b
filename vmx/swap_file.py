"""The .vswp file of a machine on a volume: there while the machine runs, locked, as long as its memory, without blocks.

Nothing is swapped into it yet: all of a guest's memory is the host's to page. On a directory of the host there is none.
Source: VMware KB 1004082 (files of a machine); VMware, Resource Management Guide (ESX Server 3), "Swap Files".
"""

from __future__ import annotations

from contextlib import suppress

from ringfence.errors import RingfenceError
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.place import Elsewhere


class SwapFile:
    """Made at power-on; `close` removes it."""

    def __init__(self, path: Elsewhere, size: int) -> None:
        """What a killed process left under this name goes. Raises Locked, naming who has it, and HostRefused."""
        path.unlink(missing_ok=True)
        self._path, self._file = path, BlockFile.create(path, 0o600)
        self._file.truncate(size)

    def close(self) -> None:
        self._file.close()
        with suppress(RingfenceError, OSError):
            self._path.unlink()
