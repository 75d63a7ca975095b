"""AMD Am79C970A PCnet-PCI II: its registers and resets, around the transmitter and the receiver.

The driver hands over an initialization block and two descriptor rings; the chip walks them by DMA and asserts INTA#.
A frame is sent within the access that asks for it. The timer with which the chip looks at its transmit ring unasked is
whoever calls `poll`. A transfer to or from memory that does not exist ends in a master abort: the controller stops,
with SINT. While the function may not master the bus, MERR says that a transfer was not possible.
Not modelled: the serial EEPROM (its register is stored), magic packets, big-endian buffers (BSWP), FIFO thresholds and
bus timing, activity lamps (their events are over at once), the time of the wire.
Source: AMD Am79C970A data sheet (publication 19436), "User Accessible Registers", "Buffer Management Unit".
"""

from __future__ import annotations

from ctypes import sizeof
from typing import Protocol

from hw.net.pcnet_receive import Receiver
from hw.net.pcnet_registers import PROMPT, PcnetState, Registers
from hw.net.pcnet_spec import (
    ADDRESS_24,
    ALIASES,
    APROM_BYTES,
    APROM_WRITE,
    BCR,
    CSR,
    DWIO,
    FILTERS,
    HARDWARE_ID,
    LADRF_WORDS,
    PADR_WORDS,
    RAP_BITS,
    RING_LOG_16_SHIFT,
    RING_LOG_32_SHIFT,
    RING_LOG_MAX,
    SIGNATURE,
    SOFT_RESET_KEEPS_15,
    STOP_CLEARS_4,
    STOP_CLEARS_5,
    STOPPED_ONLY,
    STYLE_BITS,
    Aprom,
    Bcr,
    Csr,
    Csr0,
    Csr4,
    Csr5,
    InitBlock16,
    InitBlock32,
    Mode,
    Window,
)
from hw.net.pcnet_transmit import Transmitter
from hw.net.wiring import Frame, Port
from hw.wiring import GuestMemory
from ringfence.errors import RingfenceError

ALL_ONES, WORD = 0xFFFFFFFF, 0xFFFF
CAUSES = CSR.by_name["STATUS"].w1c
INIT, STRT, STOP, TDMD = (int(bit) for bit in (Csr0.INIT, Csr0.STRT, Csr0.STOP, Csr0.TDMD))
TXON, RXON, IENA, IDON, MERR = (int(bit) for bit in (Csr0.TXON, Csr0.RXON, Csr0.IENA, Csr0.IDON, Csr0.MERR))
STATUS, RINT = int(Csr.STATUS), int(Csr0.RINT)
UINT, UINTCMD, DPOLL, SINT, LOOP = (
    int(bit) for bit in (Csr4.UINT, Csr4.UINTCMD, Csr4.DPOLL, Csr5.SINT, Mode.LOOP)
)  # fmt: skip


class BusMaster(Protocol):
    """The PCI function around the chip."""

    @property
    def may_master(self) -> bool: ...

    def master_aborted(self) -> None:
        """A transfer found nobody at its address."""

    def interrupt_changed(self) -> None:
        """INTA# may have."""

    def filter_changed(self) -> None:
        """What is received may have."""


def aprom_image(address: bytes) -> bytes:
    """The address PROM of an adapter with this station address."""
    image = Aprom()
    image.address[:] = address
    image.hardware_id = HARDWARE_ID
    image.signature[:] = SIGNATURE
    image.checksum = sum(bytes(image)[: Aprom.checksum.offset]) + sum(SIGNATURE)
    return bytes(image)


class Pcnet:
    """The chip without its configuration space."""

    def __init__(self, state: PcnetState, bus: BusMaster, memory: GuestMemory, port: Port, address: bytes) -> None:
        """Wire only. `address` is what the address PROM is made with."""
        self.state, self.bus, self.memory, self.port, self.address = state, bus, memory, port, address
        self.registers = Registers(state)
        self.receiver = Receiver(self.registers, memory)
        self.transmitter = Transmitter(self.registers, memory, port, self.receiver)
        self._scanning = False

    def reset(self) -> None:
        """H_RESET. The cable stays plugged in, or not."""
        BCR.reset(self.state.bcr)
        self.state.aprom[:] = list(aprom_image(self.address))
        self.registers.csr[Csr.MODE] = 0
        self._reset_csrs()

    def soft_reset(self) -> None:
        """S_RESET, by reading the reset register: the BCRs stay, but it is back to word I/O."""
        self.registers.bcr[Bcr.BUS] &= ~DWIO
        self._reset_csrs()

    def _reset_csrs(self) -> None:
        csr, state = self.registers.csr, self.state
        mode = int(csr[Csr.MODE]) & SOFT_RESET_KEEPS_15
        CSR.reset(state.csr)
        csr[Csr.MODE] = mode
        for index in range(PADR_WORDS):
            csr[Csr.PADR + index] = state.aprom[2 * index] | state.aprom[2 * index + 1] << 8
        state.rap = state.deferred = state.attended = state.unsaid = 0
        state.prompt = PROMPT
        self.bus.filter_changed()
        self.bus.interrupt_changed()

    # from the guest

    def read(self, offset: int, width: int) -> int:
        """In the window of 32 bytes. An access of another width than the one in force is undefined: all ones."""
        if offset + width <= APROM_BYTES:
            return int.from_bytes(bytes(self.state.aprom[offset : offset + width]), "little")
        registers, rap = self.registers, int(self.state.rap)
        which = self._selected(offset, width)
        if which == Window.RDP:
            if rap == STATUS and self.state.unsaid:
                registers.tell_sent()
                self.bus.interrupt_changed()
            value = registers.read_csr(rap)
            return value | registers.read_csr(rap + 1) << 16 if rap == Csr.CHIP_ID and width == 4 else value
        if which == Window.RAP:
            return rap
        if which == Window.BDP:
            return registers.read_bcr(rap)
        if which == Window.RESET:
            self.soft_reset()
            return 0
        return ALL_ONES

    def write(self, offset: int, width: int, value: int) -> None:
        which = self._selected(offset, width)
        if which == Window.RDP:
            self._write_csr(int(self.state.rap), value & WORD)
        elif which == Window.RAP:
            self.state.rap = value & RAP_BITS
        elif which == Window.BDP:
            self._write_bcr(int(self.state.rap), value & WORD)
        elif offset + width <= APROM_BYTES:
            if self.registers.bcr[Bcr.MISC] & APROM_WRITE:
                self.state.aprom[offset : offset + width] = list(value.to_bytes(width, "little"))
        elif width == 4 and offset == APROM_BYTES:
            self.registers.bcr[Bcr.BUS] |= DWIO  # the first double word write there, in word I/O

    def _selected(self, offset: int, width: int) -> int | None:
        """Which register an access is for, if it has the width that is in force."""
        step = 4 if self.registers.bcr[Bcr.BUS] & DWIO else 2
        number, rest = divmod(offset - APROM_BYTES, step)
        return number if width == step and not rest and 0 <= number <= Window.BDP else None

    def _write_csr(self, number: int, value: int) -> None:
        if number == Csr.STATUS:
            self._status_written(value)
        elif number == Csr.SWSTYLE:
            self._write_bcr(Bcr.SWSTYLE, value)
            return
        else:
            number = ALIASES.get(number, number)
            if number in STOPPED_ONLY and not self._may_change:
                return
            CSR.dispatch(self, CSR.write(self.state.csr, 2 * number, 2, value))
            if number in FILTERS:
                self.bus.filter_changed()
            if number == Csr.INTERRUPT_MASK and self._is_done():
                self.port.ready()
        self.bus.interrupt_changed()

    def _is_done(self) -> bool:
        """Does the driver let frames interrupt it again, after it was?"""
        csr, state = self.registers.csr, self.state
        if not state.attended or not csr[Csr.STATUS] & IENA or csr[Csr.INTERRUPT_MASK] & RINT:
            return False
        state.attended = 0
        return True

    def _write_bcr(self, number: int, value: int) -> None:
        if number == Bcr.SWSTYLE and not self._may_change:
            return
        BCR.dispatch(self, BCR.write(self.state.bcr, 2 * number, 2, value))

    @property
    def _may_change(self) -> bool:
        """Nothing uses the registers that describe rings and frames."""
        return self.registers.stopped or self.registers.suspended

    # register handlers

    def _status_written(self, value: int) -> None:
        """STOP overrides INIT and STRT, which act when they were clear. [CSR0]"""
        csr = self.registers.csr
        csr[Csr.STATUS] = csr[Csr.STATUS] & ~(value & CAUSES | IENA) | value & IENA
        if value & STOP:
            self._stop()
            return
        if value & INIT and not csr[Csr.STATUS] & INIT:
            self._initialize()
        if value & STRT and not csr[Csr.STATUS] & STRT:
            self._start()
        if value & TDMD:
            csr[Csr.STATUS] |= TDMD
        if csr[Csr.STATUS] & TDMD:
            self._scan()
        self._user_interrupt()
        self._is_done()
        self.port.ready()

    def features_written(self) -> None:
        self._user_interrupt()

    def _user_interrupt(self) -> None:
        """UINTCMD waits for IENA. [CSR4, bit 7]"""
        csr = self.registers.csr
        if csr[Csr.FEATURES] & UINTCMD and csr[Csr.STATUS] & IENA:
            csr[Csr.FEATURES] = csr[Csr.FEATURES] & ~UINTCMD | UINT

    def extended_written(self) -> None:
        """Without SPND, whatever waited goes on."""
        if not self.registers.suspended:
            if self.registers.csr[Csr.STATUS] & TDMD:
                self._scan()
            self.port.ready()

    def style_written(self) -> None:
        """SSIZE32 and CSRPCNET follow from the style; one that there is not is style 0. [BCR20]"""
        bcr = self.registers.bcr
        number = bcr[Bcr.SWSTYLE] & 0xFF
        bcr[Bcr.SWSTYLE] = STYLE_BITS[number] | number if number in STYLE_BITS else STYLE_BITS[0]

    # states

    def _initialize(self) -> None:
        """Read the initialization block. [CSR0, bit 0]"""
        registers = self.registers
        csr = registers.csr
        csr[Csr.STATUS] = csr[Csr.STATUS] & ~STOP | INIT
        if not self._has_bus():
            return
        kind = InitBlock32 if registers.style.wide else InitBlock16
        try:
            with self.memory.dma(registers.dword(Csr.IADR), sizeof(kind), False) as views:
                block = kind.from_buffer_copy(b"".join(views))
        except RingfenceError:
            self._abort()
            return
        self._set_rings(block)
        csr[Csr.MODE] = block.mode
        csr[Csr.LADRF : Csr.LADRF + LADRF_WORDS] = block.ladrf[:]
        csr[Csr.PADR : Csr.PADR + PADR_WORDS] = block.padr[:]
        csr[Csr.STATUS] |= IDON
        self.bus.filter_changed()

    def _set_rings(self, block: InitBlock16 | InitBlock32) -> None:
        registers = self.registers
        if isinstance(block, InitBlock32):
            logs = block.rlen >> RING_LOG_32_SHIFT, block.tlen >> RING_LOG_32_SHIFT
            bases = block.rdra, block.tdra
        else:
            logs = block.rdra >> RING_LOG_16_SHIFT, block.tdra >> RING_LOG_16_SHIFT
            high = registers.high_address
            bases = block.rdra & ADDRESS_24 | high, block.tdra & ADDRESS_24 | high
        csr = registers.csr
        csr[Csr.RING_LENGTHS] = logs[1] << 12 | logs[0] << 8
        csr[Csr.RCVRL] = csr[Csr.RCVRC] = 1 << min(logs[0], RING_LOG_MAX)
        csr[Csr.XMTRL] = csr[Csr.XMTRC] = 1 << min(logs[1], RING_LOG_MAX)
        registers.set_dword(Csr.BADR, bases[0])
        registers.set_dword(Csr.BADX, bases[1])
        self.state.deferred = 0

    def _start(self) -> None:
        """[CSR0, bit 1]"""
        csr = self.registers.csr
        mode, status = int(csr[Csr.MODE]), csr[Csr.STATUS] & ~STOP | STRT
        status |= 0 if mode & Mode.DTX else TXON
        status |= 0 if mode & Mode.DRX else RXON
        csr[Csr.STATUS] = status
        self.bus.filter_changed()
        if status & TXON:
            self._scan()

    def _stop(self) -> None:
        """What it was doing is over; rings and positions stay as they are. [CSR0, bit 2]"""
        csr = self.registers.csr
        csr[Csr.STATUS] = STOP
        csr[Csr.FEATURES] &= ~STOP_CLEARS_4
        csr[Csr.EXTENDED] &= ~STOP_CLEARS_5
        self.state.deferred = self.state.attended = self.state.unsaid = 0
        self.bus.filter_changed()

    def _abort(self) -> None:
        """Nobody answered a transfer, which is fatal. ["Master Abort"]"""
        self._stop()
        self.registers.csr[Csr.EXTENDED] |= SINT
        self.bus.master_aborted()

    def _has_bus(self) -> bool:
        """May we transfer now? If not, MERR says so."""
        if self.bus.may_master:
            return True
        self.registers.csr[Csr.STATUS] |= MERR
        return False

    # frames

    def _scan(self) -> None:
        """Once at a time: a port may call back."""
        registers = self.registers
        if self._scanning or registers.suspended:
            return
        if not registers.csr[Csr.STATUS] & TXON or not self._has_bus():
            registers.csr[Csr.STATUS] &= ~TDMD
            return
        self._scanning = True
        try:
            self.transmitter.scan()
        except RingfenceError:
            self._abort()
        finally:
            self._scanning = False

    @property
    def wants_poll(self) -> bool:
        """Is `poll` to be called every two milliseconds or so? [CSR4, bit 12]"""
        csr = self.registers.csr
        looks = csr[Csr.STATUS] & TXON and not csr[Csr.FEATURES] & DPOLL and not self.registers.suspended
        return bool(looks or self.state.unsaid)

    def poll(self) -> None:
        """The poll timer has run out, if it is running."""
        if not self.wants_poll or not self.bus.may_master:
            return
        self.registers.sent_for_long()
        if not self.registers.csr[Csr.FEATURES] & DPOLL:
            self._scan()
        self.bus.interrupt_changed()

    def port_ready(self) -> None:
        if self.registers.csr[Csr.STATUS] & TDMD:
            self._scan()
            self.bus.interrupt_changed()

    def receive(self, frame: Frame) -> bool:
        if not self._listens() or self.registers.suspended:
            return True
        if self._has_bus() and self._store(frame):
            return True
        self.receiver.miss()
        self.bus.interrupt_changed()
        return False

    def offer(self, frame: Frame) -> bool:
        """While it is suspended frames wait."""
        if not self._listens():
            return True
        return not self.registers.suspended and self.bus.may_master and self._store(frame)

    def _store(self, frame: Frame) -> bool:
        """False: there is no buffer."""
        try:
            taken = self.receiver.receive(frame)
        except RingfenceError:
            self._abort()
            taken = True
        if taken:
            self.bus.interrupt_changed()
        return taken

    def _listens(self) -> bool:
        csr = self.registers.csr
        return bool(csr[Csr.STATUS] & RXON) and not csr[Csr.MODE] & LOOP

    def set_link(self, up: bool) -> None:
        self.state.link = up
