"""The PC/AT's two 8237A DMA controllers with their page registers: channels 0 to 3 move bytes, 5 to 7 words.

A device raises its DREQ with `request` and moves data with `write_memory` and `read_memory` while `granted`; what it
cannot do now it does when `connect`'s callback says that the channel has been opened. A transfer takes no time, so
demand, single and block mode are alike, and priorities and bus timing have no effect. Addresses wrap within the 64 KiB
(words: 128 KiB) that the page register names. Where no memory answers, reads give all ones and writes are lost.
Not modelled: memory-to-memory transfers and the temporary register, which the PIIX4 lacks too.
Source: Intel 8237A data sheet, cited as [ds]; Intel 82371AB (PIIX4) data sheet, cited as [piix].
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import LittleEndianStructure, c_uint8, c_uint16, sizeof

from hw.dma8237_spec import (
    ALL_MASKED,
    BLOCK,
    CASCADE,
    CASCADE_CHANNEL,
    CHANNEL,
    CHANNELS,
    PAGE_OF_CHANNEL,
    PAGE_REGISTERS,
    PER_CHIP,
    SET,
    Command,
    Mode,
    Reg,
    Type,
)
from hw.wiring import GuestMemory
from ringfence.errors import RingfenceError

FLOATING = 0xFF


class ChipState(LittleEndianStructure):
    """One controller. `status` holds terminal counts (3:0) and requests (7:4)."""

    _fields_ = [
        ("base_address", c_uint16 * PER_CHIP),
        ("base_count", c_uint16 * PER_CHIP),
        ("address", c_uint16 * PER_CHIP),
        ("count", c_uint16 * PER_CHIP),
        ("mode", c_uint8 * PER_CHIP),
        ("command", c_uint8),
        ("status", c_uint8),
        ("mask", c_uint8),
        ("upper_byte", c_uint8),
    ]


class DmaState(LittleEndianStructure):
    """All guest-visible state. `page` is by the port's distance from 80h; its first byte is unused."""

    _fields_ = [("chips", ChipState * 2), ("page", c_uint8 * PAGE_REGISTERS)]


assert sizeof(ChipState) == 40 and sizeof(DmaState) == 96


class Dma8237:
    """Both controllers. `first`, `second` and `pages` go on the bus at 0, C0h and 81h."""

    State = DmaState

    def __init__(self, state: DmaState, memory: GuestMemory) -> None:
        self.state, self.memory = state, memory
        self.first, self.second, self.pages = ChipPorts(self, 0), ChipPorts(self, 1), PagePorts(self)
        self._opened: dict[int, Callable[[], None]] = {}

    def connect(self, channel: int, opened: Callable[[], None]) -> None:
        """Plug a device in: `opened` is called when a write has let a channel go on whose device requests."""
        assert channel % PER_CHIP or channel < CASCADE_CHANNEL, f"DMA channel {channel} has no device"
        self._opened[channel] = opened

    def reset(self) -> None:
        """RESET. Addresses, counts and pages are undefined then; here they are 0. Devices keep their requests. [ds]"""
        for index, chip in enumerate(self.state.chips):
            for channel in range(PER_CHIP):
                chip.base_address[channel] = chip.base_count[channel] = 0
                chip.address[channel] = chip.count[channel] = chip.mode[channel] = 0
            self.master_clear(index)
        self.state.page[:] = bytes(PAGE_REGISTERS)
        self.sync()

    def sync(self) -> None:
        """Drives nothing: a device asks whether it may transfer."""

    # from a device

    def request(self, channel: int, level: bool) -> None:
        """Drive DREQ."""
        chip, bit = self.state.chips[channel // PER_CHIP], 0x10 << channel % PER_CHIP
        chip.status = chip.status | bit if level else chip.status & ~bit

    def granted(self, channel: int) -> bool:
        """Whether a request on this channel is served now."""
        index, number = divmod(channel, PER_CHIP)
        chip = self.state.chips[index]
        if chip.command & Command.DISABLE or chip.mask >> number & 1:
            return False
        if index == 1:
            return chip.mode[number] & Mode.KIND != CASCADE
        upper = self.state.chips[1]
        passed = upper.mode[0] & Mode.KIND == CASCADE and not upper.mask & 1 and not upper.command & Command.DISABLE
        return passed and chip.mode[number] & Mode.KIND != CASCADE

    def write_memory(self, channel: int, data: memoryview) -> tuple[int, bool]:
        """The device gives `data`: how many bytes went, and whether terminal count was reached.

        A channel that is set up for the other direction, or to verify, only counts.
        """
        stores = self._type(channel) == Type.WRITE
        runs, ended = self._advance(channel, len(data))
        moved = 0
        for gpa, length, backwards in runs:
            if stores:
                part = data[moved : moved + length]
                self._store(gpa, reverse_units(part, channel) if backwards else part)
            moved += length
        return moved, ended

    def read_memory(self, channel: int, data: memoryview) -> tuple[int, bool]:
        """The device takes into `data`; likewise. What is not read from memory is all ones."""
        loads = self._type(channel) == Type.READ
        runs, ended = self._advance(channel, len(data))
        moved = 0
        for gpa, length, backwards in runs:
            part = data[moved : moved + length]
            if loads:
                self._load(gpa, part)
            else:
                part[:] = bytes([FLOATING]) * length
            if backwards:
                part[:] = reverse_units(part, channel)
            moved += length
        return moved, ended

    # the transfer

    def _type(self, channel: int) -> int:
        return int(self.state.chips[channel // PER_CHIP].mode[channel % PER_CHIP] & Mode.TYPE)

    def _advance(self, channel: int, wanted: int) -> tuple[list[tuple[int, int, bool]], bool]:
        """Move address and count on over at most `wanted` bytes; whether the count ran out.

        The runs of memory passed, in order: where each begins, its bytes, whether the transfer goes down through it.
        """
        index, number = divmod(channel, PER_CHIP)
        chip = self.state.chips[index]
        down = bool(chip.mode[number] & Mode.DECREMENT)
        page = self.state.page[PAGE_OF_CHANNEL[channel]]
        base = (page & 0xFE if index else page) << 16
        units = min(wanted >> index, chip.count[number] + 1)
        chip.count[number] = (chip.count[number] - units) & 0xFFFF
        ended = units > 0 and chip.count[number] == 0xFFFF
        runs = []
        while units:
            address = chip.address[number]
            run = min(units, address + 1 if down else 0x10000 - address)
            lowest = address - run + 1 if down else address
            runs.append((base + (lowest << index), run << index, down))
            chip.address[number] = (address - run if down else address + run) & 0xFFFF
            units -= run
        if ended:
            self._terminal_count(chip, number)
        return runs, ended

    def _terminal_count(self, chip: ChipState, number: int) -> None:
        """The count went from 0 to FFFFh. [ds: terminal count, autoinitialize]"""
        chip.status |= 1 << number
        if chip.mode[number] & Mode.AUTO_INITIALIZE:
            chip.address[number], chip.count[number] = chip.base_address[number], chip.base_count[number]
        else:
            chip.mask |= 1 << number

    def _store(self, gpa: int, data: memoryview | bytes) -> None:
        try:
            with self.memory.dma(gpa, len(data), True) as views:
                at = 0
                for view in views:
                    view[:] = data[at : at + len(view)]
                    at += len(view)
        except RingfenceError:
            return  # no memory answers there

    def _load(self, gpa: int, data: memoryview) -> None:
        try:
            with self.memory.dma(gpa, len(data), False) as views:
                at = 0
                for view in views:
                    data[at : at + len(view)] = view
                    at += len(view)
        except RingfenceError:
            data[:] = bytes([FLOATING]) * len(data)

    # register handlers; `index` is the controller

    def read_register(self, index: int, reg: int) -> int:
        chip = self.state.chips[index]
        if reg < Reg.STATUS_COMMAND:
            return self._read_half(chip, reg)
        if reg == Reg.STATUS_COMMAND:
            value = int(chip.status)
            chip.status &= 0xF0  # reading clears the terminal counts
            return value
        if reg == Reg.ALL_MASK:
            return int(chip.mask & ALL_MASKED)  # [piix: WAM is read/write]
        return 0 if reg == Reg.TEMPORARY_MASTER_CLEAR else FLOATING

    def write_register(self, index: int, reg: int, value: int) -> None:
        chip = self.state.chips[index]
        bit = 1 << (value & CHANNEL)
        if reg < Reg.STATUS_COMMAND:
            self._write_half(chip, reg, value)
        elif reg == Reg.STATUS_COMMAND:
            chip.command = value
        elif reg == Reg.REQUEST:
            self._software_request(index, value)
        elif reg == Reg.SINGLE_MASK:
            chip.mask = chip.mask | bit if value & SET else chip.mask & ~bit
        elif reg == Reg.MODE:
            chip.mode[value & CHANNEL] = value & ~CHANNEL
        elif reg == Reg.CLEAR_POINTER:
            chip.upper_byte = 0
        elif reg == Reg.TEMPORARY_MASTER_CLEAR:
            self.master_clear(index)
        elif reg == Reg.CLEAR_MASK:
            chip.mask = 0
        else:
            chip.mask = value & ALL_MASKED
        self._serve()

    def master_clear(self, index: int) -> None:
        """As RESET, but for the modes, addresses and counts. [ds: master clear]"""
        chip = self.state.chips[index]
        chip.command = chip.upper_byte = 0
        chip.status &= 0xF0
        chip.mask = ALL_MASKED

    def _read_half(self, chip: ChipState, reg: int) -> int:
        value = chip.count[reg >> 1] if reg & 1 else chip.address[reg >> 1]
        shift, chip.upper_byte = 8 * (chip.upper_byte & 1), ~chip.upper_byte & 1
        return int(value) >> shift & 0xFF

    def _write_half(self, chip: ChipState, reg: int, value: int) -> None:
        """Base and current register are written together. [ds: base address and base word count registers]"""
        shift, chip.upper_byte = 8 * (chip.upper_byte & 1), ~chip.upper_byte & 1
        base, now = (chip.base_count, chip.count) if reg & 1 else (chip.base_address, chip.address)
        kept = base[reg >> 1] & ~(0xFF << shift)
        base[reg >> 1] = now[reg >> 1] = kept & 0xFFFF | value << shift

    def _software_request(self, index: int, value: int) -> None:
        """In block mode only, whatever the mask says; runs to its end, no device answering. [ds: request register]"""
        chip, number = self.state.chips[index], value & CHANNEL
        if not value & SET or chip.command & Command.DISABLE or chip.mode[number] & Mode.KIND != BLOCK:
            return
        channel = index * PER_CHIP + number
        length = chip.count[number] + 1 << index
        self.write_memory(channel, memoryview(bytes([FLOATING]) * length))

    def _serve(self) -> None:
        """Devices that wait for their channel go on."""
        for channel, opened in self._opened.items():
            chip = self.state.chips[channel // PER_CHIP]
            if chip.status & 0x10 << channel % PER_CHIP and self.granted(channel):
                opened()


class ChipPorts:
    """One controller on the bus: the first at every port, the second at every other."""

    def __init__(self, dma: Dma8237, index: int) -> None:
        self.dma, self.index = dma, index

    def port_read(self, offset: int, width: int) -> int:
        return self.dma.read_register(self.index, offset >> self.index)

    def port_write(self, offset: int, width: int, value: int) -> None:
        self.dma.write_register(self.index, offset >> self.index, value)


class PagePorts:
    """Ports 81h to 8Fh: page registers, and others that only store."""

    def __init__(self, dma: Dma8237) -> None:
        self.dma = dma

    def port_read(self, offset: int, width: int) -> int:
        return int(self.dma.state.page[offset + 1])

    def port_write(self, offset: int, width: int, value: int) -> None:
        self.dma.state.page[offset + 1] = value


def reverse_units(data: memoryview, channel: int) -> bytes:
    """In the order in which a falling address moves them; the bytes of a word keep theirs."""
    if channel < PER_CHIP:
        return bytes(data)[::-1]
    words = bytes(data)
    return b"".join(words[at : at + 2] for at in range(len(words) - 2, -1, -2))


assert len(PAGE_OF_CHANNEL) == CHANNELS
