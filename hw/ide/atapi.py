"""A packet device on an ATA channel: carries CDBs to a target and its data back, by PIO or DMA.

The target keeps sense data until REQUEST SENSE takes it, for ATAPI has no autosense. Data goes to the guest only: no
target here takes any.
Not modelled: overlapped commands (aborted), interrupts at the command phase (the drive sets DRQ within 50 us).
Source: ATA/ATAPI-6 (T13 1410D), PACKET and its protocols, cited as [ata]; SFF-8020i.
"""

from __future__ import annotations

from hw.ide.ata_spec import (
    ACTIVE_OR_IDLE,
    CAPABILITIES_CDROM,
    CYCLE_NS,
    FEATURES_IGNORED,
    FIRMWARE,
    FIRMWARE_CHARACTERS,
    GENERAL_CDROM,
    IDENTIFY_WORDS,
    MODEL_CDROM,
    MODEL_CHARACTERS,
    PACKET_BYTES,
    PACKET_DMA,
    PACKET_OVERLAP,
    SIGNATURE_PACKET,
    SUPPORTED_CDROM,
    VERSIONS_CDROM,
    Command,
    Error,
    Feature,
    Reason,
    Word,
)
from hw.ide.drive import BUFFER_BYTES, DRDY, DRQ, ERR, READY, Cable, Drive, DriveState, Phase, identify_text
from hw.scsi.wiring import BlocksIn, CdbTarget, CheckCondition, DataIn

LIMIT_MAX = 0xFFFE
ALWAYS_GOOD = (
    Command.STANDBY_IMMEDIATE, Command.IDLE_IMMEDIATE, Command.STANDBY, Command.IDLE, Command.SLEEP,
    Command.FLUSH,
)  # fmt: skip


class AtapiDrive(Drive):
    """The transport. `target` is reset with it at power-on, not by SRST."""

    SIGNATURE = SIGNATURE_PACKET
    RESET_STATUS = 0

    def __init__(self, state: DriveState, cable: Cable, target: CdbTarget) -> None:
        super().__init__(state, cable)
        self.target = target
        self.commands = {
            **dict.fromkeys(ALWAYS_GOOD, self.complete),
            Command.PACKET: self.packet,
            Command.IDENTIFY_PACKET: lambda: self.send_words(self.identity()),
            Command.IDENTIFY: self.not_a_disk,
            Command.READ_SECTORS: self.not_a_disk,
            Command.DEVICE_RESET: self.soft_reset,
            Command.CHECK_POWER: self.check_power,
            Command.SET_FEATURES: self.set_features,
        }

    def reset(self) -> None:
        super().reset()
        self.target.reset()

    def not_a_disk(self) -> None:
        """Aborted, with the signature in place, which tells a driver what this is. [ata: signature and persistence]"""
        self.sign()
        self.abort()

    def check_power(self) -> None:
        self.state.count[0] = ACTIVE_OR_IDLE
        self.complete()

    def set_features(self) -> None:
        feature = self.state.features[0]
        if feature == Feature.TRANSFER_MODE:
            self.set_transfer_mode()
        elif feature in FEATURES_IGNORED:
            self.complete()
        else:
            self.abort()

    # a packet

    def packet(self) -> None:
        """Ask for the CDB. The byte count limit is even, and 0 stands for the most. [ata: PACKET]"""
        s = self.state
        if s.features[0] & PACKET_OVERLAP:
            self.abort()
            return
        s.chunk = (s.lba_mid[0] | s.lba_high[0] << 8) & LIMIT_MAX or LIMIT_MAX
        s.count[0] = Reason.CD
        s.position, s.chunk_end = 0, PACKET_BYTES
        s.phase, s.status = Phase.PACKET, READY | DRQ

    def _received(self) -> None:
        s = self.state
        outcome = self.target.execute(bytes(self.buffer[:PACKET_BYTES]))
        s.position = s.filled = s.remaining = 0
        if isinstance(outcome, CheckCondition):
            self._refuse(outcome)
        elif isinstance(outcome, DataIn) and outcome.data:
            length = min(len(outcome.data), BUFFER_BYTES)
            self.buffer[:length] = outcome.data[:length]
            self._data_in(length)
        elif isinstance(outcome, BlocksIn):
            s.lba, s.remaining = outcome.first, outcome.count
            self._data_in(0)
        else:
            self.complete()

    def _data_in(self, length: int) -> None:
        s = self.state
        if s.features[0] & PACKET_DMA:
            s.filled = length
            s.count[0] = Reason.IO
            self.begin_dma(Phase.DMA_IN)
        else:
            self.send(length, max(s.chunk, 2))

    def _refuse(self, check: CheckCondition) -> None:
        """CHK, and the sense key in the error register. [ata: PACKET, error outputs]"""
        self.complete(DRDY | ERR, check.sense.key << 4 | Error.ABRT)

    def block_bytes(self) -> int:
        return self.target.block_size

    def move_blocks(self, blocks: int, views: list[memoryview]) -> int:
        s = self.state
        moved = self.target.read_blocks(s.lba, blocks, views)
        if isinstance(moved, CheckCondition):
            self._refuse(moved)
            return 0
        s.lba += moved
        s.remaining -= min(moved, s.remaining)
        return moved

    def chunk_ready(self, length: int) -> None:
        s = self.state
        if s.command == Command.PACKET:
            s.count[0] = Reason.IO
            s.lba_mid[0], s.lba_high[0] = length & 0xFF, length >> 8 & 0xFF

    def sent(self) -> None:
        """A packet command ends with an interrupt of its own."""
        self.complete(interrupt=self.state.command == Command.PACKET)

    def complete(self, status: int = READY, error: int = 0, *, interrupt: bool = True) -> None:
        if self.state.command == Command.PACKET:
            self.state.count[0] = Reason.CD | Reason.IO
        super().complete(status, error, interrupt=interrupt)

    def identity(self) -> list[int]:
        """The 256 words of IDENTIFY PACKET DEVICE. [ata: IDENTIFY PACKET DEVICE]"""
        words = [0] * IDENTIFY_WORDS

        def put(first: int, *values: int) -> None:
            words[first : first + len(values)] = values

        put(Word.GENERAL, GENERAL_CDROM)
        put(Word.FIRMWARE, *identify_text(FIRMWARE, FIRMWARE_CHARACTERS))
        put(Word.MODEL, *identify_text(MODEL_CDROM, MODEL_CHARACTERS))
        put(Word.CAPABILITIES, CAPABILITIES_CDROM)
        put(Word.VALID, 0x0007)
        put(Word.MULTIWORD, self.multiword_word(), 0x0003, CYCLE_NS, CYCLE_NS, CYCLE_NS, CYCLE_NS)
        put(Word.MAJOR_VERSION, VERSIONS_CDROM)
        put(Word.SUPPORTED, *SUPPORTED_CDROM)
        put(Word.ENABLED, *SUPPORTED_CDROM)
        put(Word.ULTRA, self.ultra_word())
        return words
