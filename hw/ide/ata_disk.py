"""An ATA hard disk: 28- and 48-bit LBA, cylinders and heads, PIO, multiple, multiword and ultra DMA.

Not modelled: security, SMART, host-protected areas (the native maximum is the capacity), tagged queuing; standby and
sleep are accepted and the disk stays ready. The write cache is the backend's: it is flushed by FLUSH CACHE, and after
every command while the guest has turned the cache off. Where the storage has no room for a write the drive stays busy
until an operator has said whether to try again; what was asked for is then done once more from the start of the block.
Source: ATA/ATAPI-6 (T13 1410D), cited as [ata].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from hw.blocks import read_until_bad
from hw.ide.ata_spec import (
    ACTIVE_OR_IDLE,
    CAPABILITIES_DISK,
    CYCLE_NS,
    CYLINDERS_MAX,
    FEATURES_IGNORED,
    FIRMWARE,
    FIRMWARE_CHARACTERS,
    GENERAL_FIXED,
    HEADS,
    IDENTIFY_WORDS,
    LBA28_MAX,
    LBA48_MASK,
    MODEL_CHARACTERS,
    MODEL_DISK,
    MULTIPLE_MAX,
    PIO_TIMING_2,
    SECTOR_BYTES,
    SECTORS_PER_TRACK,
    SERIAL_CHARACTERS,
    SERIAL_DISK,
    SIGNATURE_ATA,
    SUPPORTED_DISK,
    VERSIONS_DISK,
    WRITE_CACHE,
    Command,
    Device,
    Error,
    Feature,
    Status,
    Word,
)
from hw.ide.drive import (
    BSY,
    BUFFER_BYTES,
    DRQ,
    ERR,
    HELD,
    IDLE,
    READY,
    Cable,
    Drive,
    DriveState,
    Phase,
    identify_text,
)  # fmt: skip
from hw.scsi.backing import OutOfSpace
from hw.scsi.wiring import Operator
from hw.wiring import BlockDevice
from ringfence.errors import MediaError

NO_SUCH_SECTOR = -1


@dataclass(frozen=True, slots=True)
class Transfer:
    """A command that moves sectors."""

    write: bool = False
    dma: bool = False
    extended: bool = False
    multiple: bool = False


TRANSFERS = {
    Command.READ_SECTORS: Transfer(),
    Command.READ_SECTORS_NO_RETRY: Transfer(),
    Command.READ_SECTORS_EXT: Transfer(extended=True),
    Command.READ_MULTIPLE: Transfer(multiple=True),
    Command.READ_MULTIPLE_EXT: Transfer(extended=True, multiple=True),
    Command.READ_DMA: Transfer(dma=True),
    Command.READ_DMA_NO_RETRY: Transfer(dma=True),
    Command.READ_DMA_EXT: Transfer(dma=True, extended=True),
    Command.WRITE_SECTORS: Transfer(write=True),
    Command.WRITE_SECTORS_NO_RETRY: Transfer(write=True),
    Command.WRITE_SECTORS_EXT: Transfer(write=True, extended=True),
    Command.WRITE_MULTIPLE: Transfer(write=True, multiple=True),
    Command.WRITE_MULTIPLE_EXT: Transfer(write=True, extended=True, multiple=True),
    Command.WRITE_DMA: Transfer(write=True, dma=True),
    Command.WRITE_DMA_NO_RETRY: Transfer(write=True, dma=True),
    Command.WRITE_DMA_EXT: Transfer(write=True, dma=True, extended=True),
}
EXTENDED = frozenset({code for code, row in TRANSFERS.items() if row.extended} | {Command.VERIFY_EXT})
WRITES = frozenset(code for code, row in TRANSFERS.items() if row.write)
ALWAYS_GOOD = (
    Command.RECALIBRATE, Command.SEEK, Command.STANDBY_IMMEDIATE, Command.IDLE_IMMEDIATE, Command.STANDBY,
    Command.IDLE, Command.SLEEP,
)  # fmt: skip


class AtaDisk(Drive):
    """A disk over a block device of 512-byte sectors."""

    SIGNATURE = SIGNATURE_ATA

    def __init__(
        self, state: DriveState, cable: Cable, medium: BlockDevice, operator: Operator | None = None
    ) -> None:
        """`operator` is asked when `medium` raises OutOfSpace; without one that is an error like others."""
        super().__init__(state, cable)
        self.medium, self.operator = medium, operator
        self.commands = {
            **{code: partial(self.transfer, row) for code, row in TRANSFERS.items()},
            **dict.fromkeys(ALWAYS_GOOD, self.complete),
            Command.VERIFY: self.verify,
            Command.VERIFY_NO_RETRY: self.verify,
            Command.VERIFY_EXT: self.verify,
            Command.SET_MULTIPLE: self.set_multiple,
            Command.INITIALIZE_PARAMETERS: self.initialize_parameters,
            Command.CHECK_POWER: self.check_power,
            Command.FLUSH: self.flush,
            Command.FLUSH_EXT: self.flush,
            Command.IDENTIFY: lambda: self.send_words(self.identity()),
            Command.SET_FEATURES: self.set_features,
            Command.READ_NATIVE_MAX: self.read_native_max,
            Command.READ_NATIVE_MAX_EXT: self.read_native_max,
        }

    def reset(self) -> None:
        s = self.state
        s.heads, s.sectors_per_track = HEADS, SECTORS_PER_TRACK
        super().reset()

    # sectors

    def block_bytes(self) -> int:
        return SECTOR_BYTES

    def move_blocks(self, blocks: int, views: list[memoryview]) -> int:
        s = self.state
        write = s.command in WRITES
        try:
            if not write:
                blocks = read_until_bad(self.medium, s.lba, blocks, views)
            elif s.lba + blocks <= self.medium.blocks:
                self.medium.write(s.lba, views)
                if s.remaining <= blocks and not s.write_cache:
                    self.medium.flush()
            else:
                raise MediaError(s.lba, blocks)
        except OutOfSpace as error:
            self._hold(Phase.HELD_DMA if s.phase == Phase.DMA_OUT else Phase.HELD_PIO, error)
            return 0
        except MediaError as error:
            self._bad_sector(error.block, write)
            return 0
        s.lba += blocks
        s.remaining -= min(blocks, s.remaining)
        return blocks

    # no room

    def _hold(self, phase: Phase, error: OutOfSpace) -> None:
        """Stay busy until the operator has said what to do."""
        if self.operator is None:
            self._bad_sector(self.state.lba, write=True)
            return
        self.state.phase, self.state.status = phase, BSY | READY
        self.operator.out_of_space(error, self._answered)

    def _answered(self, again: bool) -> None:
        """Unless a reset has ended what was asked for."""
        s = self.state
        held = s.phase
        if held not in HELD:
            return
        if not again:
            self._bad_sector(s.lba, write=True)
        elif held == Phase.HELD_DMA:
            s.phase = Phase.DMA_OUT
        elif held == Phase.HELD_PIO:
            s.phase = Phase.PIO_OUT
            self._received()
        else:
            s.phase = IDLE
            self.flush()
        self.cable.went_on(self)

    def _bad_sector(self, sector: int, write: bool) -> None:
        self._set_address(sector)
        if write:
            self.complete(READY | ERR | Status.DF, int(Error.ABRT))
        else:
            self.fail(Error.UNC)

    def transfer(self, row: Transfer) -> None:
        """READ and WRITE in all their forms."""
        s = self.state
        count = self._count(row.extended)
        lba = self._address(row.extended)
        if row.multiple and not s.multiple:
            self.abort()
        elif lba == NO_SUCH_SECTOR or lba + count > self.medium.blocks:
            self.fail(Error.IDNF)
        else:
            s.lba, s.remaining = lba, count
            sectors = s.multiple if row.multiple else 1
            if row.dma:
                self.begin_dma(Phase.DMA_OUT if row.write else Phase.DMA_IN)
            elif row.write:
                s.chunk = sectors * SECTOR_BYTES
                self._ask()
            else:
                self.send(0, sectors * SECTOR_BYTES)

    def _ask(self) -> None:
        """DRQ for the next block; only those after the first interrupt. [ata: PIO data-out protocol]"""
        s = self.state
        s.position, s.chunk_end = 0, min(s.chunk, s.remaining * SECTOR_BYTES)
        s.phase, s.status = Phase.PIO_OUT, READY | DRQ

    def _received(self) -> None:
        s = self.state
        sectors = min(s.chunk_end, BUFFER_BYTES, s.remaining * SECTOR_BYTES) // SECTOR_BYTES
        if sectors and not self.move_blocks(sectors, [self.buffer[: sectors * SECTOR_BYTES]]):
            return
        if s.remaining and sectors:
            self._ask()
            self.interrupt()
        else:
            self.complete()

    def verify(self) -> None:
        """The sectors must exist; the backend is not read."""
        extended = self.state.command in EXTENDED
        lba = self._address(extended)
        if lba == NO_SUCH_SECTOR or lba + self._count(extended) > self.medium.blocks:
            self.fail(Error.IDNF)
        else:
            self.complete()

    # addresses

    def _count(self, extended: bool) -> int:
        s = self.state
        if extended:
            return s.count[0] | s.count[1] << 8 or 0x10000
        return s.count[0] or 0x100

    def _address(self, extended: bool) -> int:
        """The first sector; NO_SUCH_SECTOR for a cylinder, head and sector that cannot be."""
        s = self.state
        low = s.lba_low[0] | s.lba_mid[0] << 8 | s.lba_high[0] << 16
        if extended:
            return low | s.lba_low[1] << 24 | s.lba_mid[1] << 32 | s.lba_high[1] << 40
        head = s.device & Device.HEAD
        if s.device & Device.LBA:
            return int(low | head << 24)
        cylinder, sector = low >> 8, low & 0xFF
        if not 1 <= sector <= s.sectors_per_track or head >= s.heads:
            return NO_SUCH_SECTOR
        return int((cylinder * s.heads + head) * s.sectors_per_track + sector - 1)

    def _set_address(self, lba: int) -> None:
        """Show a sector in the form in which the command named its first one."""
        s = self.state
        if s.command in EXTENDED or s.command == Command.READ_NATIVE_MAX_EXT:
            lba &= LBA48_MASK
            s.lba_low[1], s.lba_mid[1], s.lba_high[1] = lba >> 24 & 0xFF, lba >> 32 & 0xFF, lba >> 40 & 0xFF
        elif s.device & Device.LBA:
            s.device = s.device & ~Device.HEAD | lba >> 24 & Device.HEAD
        elif s.heads and s.sectors_per_track:
            track, sector = divmod(lba, s.sectors_per_track)
            cylinder, head = divmod(track, s.heads)
            s.device = s.device & ~Device.HEAD | head & Device.HEAD
            lba = cylinder << 8 | sector + 1
        s.lba_low[0], s.lba_mid[0], s.lba_high[0] = lba & 0xFF, lba >> 8 & 0xFF, lba >> 16 & 0xFF

    def read_native_max(self) -> None:
        last = self.medium.blocks - 1
        self._set_address(min(last, LBA28_MAX) if self.state.command == Command.READ_NATIVE_MAX else last)
        self.complete()

    # settings

    def set_multiple(self) -> None:
        count = self.state.count[0]
        if count > MULTIPLE_MAX or count & (count - 1):
            self.abort()
        else:
            self.state.multiple = count
            self.complete()

    def initialize_parameters(self) -> None:
        """Sectors per track and the highest head, of the geometry that the driver wants to use."""
        s = self.state
        if not s.count[0]:
            self.abort()
            return
        s.sectors_per_track, s.heads = s.count[0], (s.device & Device.HEAD) + 1
        self.complete()

    def check_power(self) -> None:
        self.state.count[0] = ACTIVE_OR_IDLE
        self.complete()

    def set_features(self) -> None:
        s = self.state
        feature = s.features[0]
        if feature == Feature.TRANSFER_MODE:
            self.set_transfer_mode()
        elif feature in (Feature.WRITE_CACHE_ON, Feature.WRITE_CACHE_OFF):
            s.write_cache = feature == Feature.WRITE_CACHE_ON
            if s.write_cache or self._flushed():
                self.complete()
        elif feature in FEATURES_IGNORED:
            self.complete()
        else:
            self.abort()

    def flush(self) -> None:
        if self._flushed():
            self.complete()

    def _flushed(self) -> bool:
        """False: the command has failed, or waits for room, after which all is flushed."""
        try:
            self.medium.flush()
        except OutOfSpace as error:
            self._hold(Phase.HELD_FLUSH, error)
            return False
        except MediaError as error:
            self._bad_sector(error.block, write=True)
            return False
        return True

    def identity(self) -> list[int]:
        """The 256 words of IDENTIFY DEVICE. [ata: IDENTIFY DEVICE]"""
        s, sectors = self.state, self.medium.blocks
        words = [0] * IDENTIFY_WORDS

        def put(first: int, *values: int) -> None:
            words[first : first + len(values)] = [value & 0xFFFF for value in values]

        cylinders = min(sectors // (HEADS * SECTORS_PER_TRACK), CYLINDERS_MAX)
        per_cylinder = max(1, s.heads * s.sectors_per_track)
        current = min(sectors // per_cylinder, 0xFFFF)
        shown = current * per_cylinder
        lba28 = min(sectors, LBA28_MAX)
        put(Word.GENERAL, GENERAL_FIXED, cylinders)
        put(Word.HEADS, HEADS)
        put(Word.SECTORS_PER_TRACK, SECTORS_PER_TRACK)
        put(Word.SERIAL, *identify_text(SERIAL_DISK, SERIAL_CHARACTERS))
        put(Word.BUFFER_TYPE, 3, 64, 4)
        put(Word.FIRMWARE, *identify_text(FIRMWARE, FIRMWARE_CHARACTERS))
        put(Word.MODEL, *identify_text(MODEL_DISK, MODEL_CHARACTERS))
        put(Word.MULTIPLE, 0x8000 | MULTIPLE_MAX)
        put(Word.CAPABILITIES, CAPABILITIES_DISK)
        put(Word.PIO_TIMING, PIO_TIMING_2, PIO_TIMING_2)
        put(Word.VALID, 0x0007, current, s.heads, s.sectors_per_track, shown, shown >> 16)
        put(Word.MULTIPLE_NOW, 0x0100 | s.multiple)
        put(Word.LBA28_SECTORS, lba28, lba28 >> 16)
        put(Word.MULTIWORD, self.multiword_word(), 0x0003, CYCLE_NS, CYCLE_NS, CYCLE_NS, CYCLE_NS)
        put(Word.MAJOR_VERSION, VERSIONS_DISK)
        put(Word.SUPPORTED, *SUPPORTED_DISK)
        enabled = SUPPORTED_DISK[0] & ~WRITE_CACHE | (WRITE_CACHE if s.write_cache else 0)
        put(Word.ENABLED, enabled, *SUPPORTED_DISK[1:])
        put(Word.ULTRA, self.ultra_word())
        put(Word.LBA48_SECTORS, sectors, sectors >> 16, sectors >> 32, sectors >> 48)
        return words
