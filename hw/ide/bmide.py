"""PIIX4 IDE function: decodes two ATA channels and masters the bus for them.

A transfer happens whole, as soon as the drive asks for it and the engine is started; a table that is too short leaves
the drive waiting, as hardware does; a drive whose storage has no room keeps the engine active, and the whole transfer
is made again when it goes on. A descriptor outside memory sets the error bit, and the drive ends its command as
after a CRC error. An engine that runs against the drive's direction moves nothing.
Not modelled: timing (its registers are stored), the native mode of the channels.
Source: Intel 82371AB (PIIX4) data sheet, cited as [ds].
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from ctypes import LittleEndianStructure, c_uint8, sizeof

from hw.bus import Claim
from hw.ide.ata import Channel
from hw.ide.ata_spec import COMMAND_PORTS, PRIMARY, PRIMARY_CONTROL, SECONDARY, SECONDARY_CONTROL
from hw.ide.bmide_spec import (
    BLOCK,
    BLOCK_PORTS,
    BMIBA,
    COMMANDS,
    CONFIG,
    IDE_DECODE,
    PRD_BYTES,
    PRD_COUNT_0,
    PRD_EOT,
    STATUSES,
    TABLE_BYTES_MAX,
    TABLES,
    TIMINGS,
    Bmicx,
    Bmisx,
    Prd,
)
from hw.pci import PciBuses, PciDevice
from hw.wiring import GuestMemory
from ringfence.errors import RingfenceError
from ringfence.pci_header import CONFIG_BYTES, Command, Header

PAGE_BYTES = 4096
ADDRESSES = ((PRIMARY, PRIMARY_CONTROL), (SECONDARY, SECONDARY_CONTROL))


class Piix4IdeState(LittleEndianStructure):
    """All guest-visible state but the channels'. `started` is each engine's SSBM as last written."""

    _fields_ = [
        ("config", c_uint8 * CONFIG_BYTES),
        ("block", c_uint8 * BLOCK_PORTS),
        ("started", c_uint8 * 2),
        ("reserved", c_uint8 * 6),
    ]


assert sizeof(Piix4IdeState) == CONFIG_BYTES + BLOCK_PORTS + 8


class Piix4Ide(PciDevice):
    """Function 1 of the PIIX4. The channels are devices of their own, which are reset on their own."""

    State = Piix4IdeState
    CONFIG = CONFIG
    BARS = (BMIBA,)

    def __init__(
        self, state: Piix4IdeState, buses: PciBuses, memory: GuestMemory, channels: tuple[Channel, Channel]
    ) -> None:
        super().__init__(state.config, buses)
        self.state, self.memory, self.channels = state, memory, channels
        self._decoded: list[list[Claim]] = [[], []]
        for index, channel in enumerate(channels):
            channel.master = Engine(self, index)

    def reset(self) -> None:
        self.reset_config()
        BLOCK.reset(self.state.block)
        self.state.started[:] = [0, 0]
        self.sync()

    # from the guest

    def port_read(self, offset: int, width: int) -> int:
        return BLOCK.read(self.state.block, offset, width)

    def port_write(self, offset: int, width: int, value: int) -> None:
        BLOCK.dispatch(self, BLOCK.write(self.state.block, offset, width, value))

    # register handlers

    def map_bars(self) -> None:
        """What is decoded has changed, and whether the function may master the bus."""
        super().map_bars()
        self._decode_channels()
        for index in range(2):
            self.transfer(index)

    def command_written(self) -> None:
        """Setting SSBM starts the engine, clearing it stops it. [ds: BMICX]"""
        for index in range(2):
            start = BLOCK.get(self.state.block, COMMANDS[index]) & Bmicx.SSBM
            if start == self.state.started[index]:
                continue
            self.state.started[index] = start
            self._set_status(index, Bmisx.BMIDEA if start else 0, Bmisx.BMIDEA)
            self.transfer(index)

    # from the channels

    def interrupted(self, index: int) -> None:
        """IDEINTS is set by the rising edge of the channel's interrupt. [ds: BMISX]"""
        self._set_status(index, Bmisx.IDEINTS, Bmisx.IDEINTS)

    def transfer(self, index: int) -> None:
        """Move what the drive wants and the table describes, if the engine is active."""
        channel, block = self.channels[index], self.state.block
        if not BLOCK.get(block, STATUSES[index]) & Bmisx.BMIDEA or not (wanted := channel.dma_wanted()):
            return
        to_memory = bool(BLOCK.get(block, COMMANDS[index]) & Bmicx.RWCON)
        if not self.may_master or to_memory != channel.dma_to_memory():
            return
        try:
            with ExitStack() as pinned:
                views, length, ended = self._regions(pinned, BLOCK.get(block, TABLES[index]), wanted, to_memory)
                channel.dma(views, length)
            if ended and not channel.is_held():
                self._set_status(index, 0, Bmisx.BMIDEA)
        except RingfenceError:
            self._set_status(index, Bmisx.ERROR, Bmisx.BMIDEA | Bmisx.ERROR)
            channel.dma_failed()
        channel.sync()

    # inside

    def _regions(
        self, pinned: ExitStack, table: int, wanted: int, to_memory: bool
    ) -> tuple[list[memoryview], int, bool]:
        """Memory for up to `wanted` bytes; how many bytes it is; whether that was the whole table."""
        views: list[memoryview] = []
        length, ended = 0, True
        for prd in self._table(table):
            if length == wanted:
                ended = False
                break
            count = prd.count & ~1 or PRD_COUNT_0
            used = min(count, wanted - length)
            views += pinned.enter_context(self.memory.dma(prd.base & ~1, used, to_memory))
            length += used
            if used < count:
                ended = False
                break
        return views, length, ended

    def _table(self, table: int) -> Iterator[Prd]:
        """The descriptors, the one with EOT the last; each is read once, a page's worth at a time."""
        end = table + TABLE_BYTES_MAX
        while table < end:
            length = min(PAGE_BYTES - table % PAGE_BYTES, end - table)
            with self.memory.dma(table, length, False) as views:
                page = b"".join(views)
            for at in range(0, length - PRD_BYTES + 1, PRD_BYTES):
                prd = Prd.from_buffer_copy(page, at)
                yield prd
                if prd.flags & PRD_EOT:
                    return
            table += length

    def _set_status(self, index: int, bits: int, mask: int) -> None:
        name = STATUSES[index]
        BLOCK.put(self.state.block, name, BLOCK.get(self.state.block, name) & ~int(mask) | int(bits))

    def _decode_channels(self) -> None:
        """Each channel answers at its fixed ports while its IDETIM and the command register say so. [ds: IDETIM]"""
        io = self.config[Header.COMMAND] & Command.IO
        for index, (name, (command, control)) in enumerate(zip(TIMINGS, ADDRESSES, strict=True)):
            on = bool(io and CONFIG.get(self.config, name) & IDE_DECODE)
            claims = self._decoded[index]
            if on and not claims:
                channel, ports = self.channels[index], self.buses.ports
                claims += [
                    ports.place(command, range(COMMAND_PORTS), channel, width=4, name=f"ide{index}", burst=channel),
                    ports.place(control, range(1), channel.control_block, width=1, name=f"ide{index} control"),
                ]
            elif not on:
                for claim in claims:
                    self.buses.ports.release(claim)
                claims.clear()

    def sync(self) -> None:
        """The ranges lie where the configuration says."""
        super().map_bars()
        self._decode_channels()


class Engine:
    """One channel's bus master."""

    def __init__(self, chip: Piix4Ide, index: int) -> None:
        self.chip, self.index = chip, index

    def requested(self) -> None:
        self.chip.transfer(self.index)

    def interrupted(self) -> None:
        self.chip.interrupted(self.index)
