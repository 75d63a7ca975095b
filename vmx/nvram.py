"""The .nvram file: what the clock chip's memory holds while a machine is switched off.

The 128 bytes of CMOS as they are, time and registers included, of which the memory is taken back at power-on. What says
how the machine is made goes by its configuration, not by the file: memory, drives, boot order, processors. A file of
another size is another program's: it is not read, and not written. The file is locked while the machine runs.
UNKNOWN: the files of ESX, which hold more; they are left alone.
"""

from __future__ import annotations

from hw.rtc import RtcState
from hw.rtc_spec import CMOS_BYTES, Index
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.place import Place

WORDS = (Index.BASE_KIB, Index.EXTENDED_KIB, Index.EXTENDED_KIB_FOUND, Index.ABOVE_16_MIB)
CONFIGURED = frozenset({
    Index.SHUTDOWN, Index.FLOPPIES, Index.EQUIPMENT, Index.CENTURY, Index.BOOT_FLAG, Index.BOOT_THIRD,
    Index.BOOT_ORDER, Index.CPUS, *WORDS, *(index + 1 for index in WORDS),
})  # fmt: skip
MEMORY = [index for index in range(Index.DIAGNOSTICS, CMOS_BYTES) if index not in CONFIGURED]
FILE_MODE = 0o600


class Nvram:
    """An open .nvram file of a machine."""

    def __init__(self, file: BlockFile, state: RtcState) -> None:
        self._file, self._state = file, state
        self.is_ours = file.size in (0, CMOS_BYTES)

    @classmethod
    def open(cls, path: Place, state: RtcState) -> Nvram:
        """Made where there is none. Raises HostRefused and BadInput."""
        return cls(BlockFile.open(path, writable=True) if path.exists() else BlockFile.create(path, FILE_MODE), state)

    def load(self) -> None:
        """Into the chip, which has been configured. Raises HostTrouble."""
        if self.is_ours and self._file.size:
            kept = self._file.bytes_at(0, CMOS_BYTES, "memory of the clock chip")
            for index in MEMORY:
                self._state.cmos[index] = kept[index]

    def save(self) -> None:
        """Raises HostTrouble."""
        if self.is_ours:
            self._file.write(0, [bytes(self._state.cmos)])
            self._file.sync()

    def close(self) -> None:
        self._file.close()
