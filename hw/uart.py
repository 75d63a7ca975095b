"""National PC16550D UART: a COM port.

Time: a character is transmitted as soon as it is written, and the character time-out is reached as soon as the FIFO
holds less than its trigger level; the baud rate is stored and otherwise ignored. The far end is asked for the next
character when there is room, so nothing overruns unless the far end insists; and it is asked only once the guest has
begun to use the port (sent something, raised DTR or RTS, or enabled the receiver's interrupt), because what comes
earlier is lost when a driver clears the FIFOs.
Not modelled: parity and framing errors (no far end makes any), sending a break.
Source: National Semiconductor PC16550D data sheet, cited as [ds].
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import LittleEndianStructure, c_uint8, c_uint16, sizeof

from hw.uart_spec import (
    CABLE_CONNECTED,
    CHARACTER_ERRORS,
    FIFO_DEPTH,
    IER_WRITABLE,
    IIR_FIFOS,
    LINE_ERRORS,
    LOOPED,
    MCR_WRITABLE,
    MSR_DELTAS,
    RESET_DIVISOR,
    TRIGGER_BYTES,
    Fcr,
    Ier,
    Iir,
    Lcr,
    Lsr,
    Mcr,
    Msr,
    Offset,
)
from hw.wiring import BytePort, IrqLine

# Flags that every access meets, as plain integers: operations on IntFlag cost more than the rest of the access.
DLAB, WLS, LOOP, OUT2, FIFOS = int(Lcr.DLAB), int(Lcr.WLS), int(Mcr.LOOP), int(Mcr.OUT2), int(Fcr.ENABLE)
ERBFI, ETBEI, ELSI, EDSSI = int(Ier.ERBFI), int(Ier.ETBEI), int(Ier.ELSI), int(Ier.EDSSI)
DATA_READY, EMPTY, FIFO_ERROR = int(Lsr.DR), int(Lsr.THRE | Lsr.TEMT), int(Lsr.FIFO_ERROR)
LINE_ERROR_BITS, MODEM_CHANGES = int(LINE_ERRORS), int(MSR_DELTAS)
DIVISOR_HIGH = int(Offset.IER)  # with DLAB set the divisor lies at offsets 0 and 1
WORD_MASK = (0x1F, 0x3F, 0x7F, 0xFF)  # by LCR.WLS


class UartState(LittleEndianStructure):
    """All guest-visible state. rx holds rx_count characters, the oldest first, each with its error bits."""

    _fields_ = [
        ("divisor", c_uint16),
        ("ier", c_uint8),
        ("fcr", c_uint8),
        ("lcr", c_uint8),
        ("mcr", c_uint8),
        ("msr", c_uint8),
        ("scr", c_uint8),
        ("lsr_errors", c_uint8),
        ("thre_pending", c_uint8),
        ("inputs", c_uint8),
        ("rx_count", c_uint8),
        ("in_use", c_uint8),
        ("reserved", c_uint8 * 3),
        ("rx", c_uint8 * FIFO_DEPTH),
        ("rx_errors", c_uint8 * FIFO_DEPTH),
    ]


assert sizeof(UartState) == 48


class Uart:
    """One UART. `received` and `set_inputs` are called by the far end, under the machine's lock."""

    State = UartState

    def __init__(self, state: UartState, irq: IrqLine, port: BytePort) -> None:
        """Wire only. The two tables are what each port does, by offset, with DLAB clear."""
        self.state, self.irq, self.port = state, irq, port
        self._readers: tuple[Callable[[], int], ...] = (
            self.read_rbr, lambda: state.ier, self.read_iir, lambda: state.lcr, lambda: state.mcr,
            self.read_lsr, self.read_msr, lambda: state.scr,
        )  # fmt: skip
        self._writers: tuple[Callable[[int], None], ...] = (
            self.write_thr, self.write_ier, self.write_fcr, self.write_lcr, self.write_mcr,
            ignore, ignore, self.write_scr,
        )  # fmt: skip

    def reset(self) -> None:
        """Master reset. [ds: table I] The cable stays as it was."""
        s = self.state
        s.ier = s.fcr = s.lcr = s.mcr = s.scr = s.lsr_errors = s.thre_pending = s.rx_count = s.in_use = 0
        s.rx[:] = s.rx_errors[:] = [0] * FIFO_DEPTH
        s.divisor = RESET_DIVISOR
        s.inputs = s.msr = CABLE_CONNECTED
        self.sync()

    # from the guest

    def port_read(self, offset: int, width: int) -> int:
        if offset <= DIVISOR_HIGH and self.state.lcr & DLAB:
            return int(self.state.divisor) >> 8 * offset & 0xFF
        value = self._readers[offset]()
        self.sync()
        return value

    def port_write(self, offset: int, width: int, value: int) -> None:
        s = self.state
        if offset <= DIVISOR_HIGH and s.lcr & DLAB:
            s.divisor = s.divisor & ~(0xFF << 8 * offset) & 0xFFFF | value << 8 * offset
            return
        self._writers[offset](value)
        self.sync()

    # from the far end

    def can_receive(self) -> bool:
        """Does the guest use the port, and is there room? In loopback the receiver is disconnected from SIN."""
        s = self.state
        return bool(s.in_use) and not s.mcr & LOOP and s.rx_count < self._depth()

    def received(self, byte: int, errors: int = 0) -> None:
        """A character arrived, with its PE, FE and BI bits."""
        if not self.state.mcr & Mcr.LOOP:
            self._receive(byte, errors)
            self.sync()

    def set_inputs(self, inputs: int) -> None:
        """The far end drives CTS, DSR, RI and DCD (as MSR bits 7:4)."""
        self.state.inputs = inputs & 0xF0
        self._modem_changed()
        self.sync()

    # register handlers

    def read_rbr(self) -> int:
        s = self.state
        if not s.rx_count:
            return int(s.rx[0])  # the last character stays readable
        byte = int(s.rx[0])
        s.rx_count -= 1
        if s.rx_count:
            s.rx[: FIFO_DEPTH - 1], s.rx_errors[: FIFO_DEPTH - 1] = s.rx[1:], s.rx_errors[1:]
            s.lsr_errors |= s.rx_errors[0]
        if self.can_receive():
            self.port.ready()
        return byte

    def read_iir(self) -> int:
        """Reading it clears the THRE interrupt, if that is what it reports. [ds: table III]"""
        cause = self._cause()
        if cause is Iir.THR_EMPTY:
            self.state.thre_pending = 0
        return cause | (IIR_FIFOS if self.state.fcr & Fcr.ENABLE else 0)

    def read_lsr(self) -> int:
        """Reading it clears the error bits. The transmitter is always empty."""
        s = self.state
        value = EMPTY | int(s.lsr_errors)
        if s.rx_count:
            value |= DATA_READY
            if s.fcr & FIFOS and any(s.rx_errors[: s.rx_count]):
                value |= FIFO_ERROR
            s.rx_errors[0] = 0
        s.lsr_errors = 0
        return value

    def read_msr(self) -> int:
        value = int(self.state.msr)
        self.state.msr &= ~int(MSR_DELTAS) & 0xFF
        return value

    def write_thr(self, byte: int) -> None:
        """The character leaves at once, so THRE is raised again in the same access."""
        s = self.state
        byte &= WORD_MASK[s.lcr & WLS]
        s.thre_pending = 1
        if s.mcr & LOOP:
            self._receive(byte, 0)
        else:
            self.port.transmit(byte)
            self._use()

    def write_ier(self, value: int) -> None:
        """Enabling ETBEI while THR is empty raises the interrupt at once. [ds: FIFO interrupt mode, XMIT B]"""
        value &= IER_WRITABLE
        if value & Ier.ETBEI and not self.state.ier & Ier.ETBEI:
            self.state.thre_pending = 1
        self.state.ier = value
        if value & Ier.ERBFI:
            self._use()

    def write_fcr(self, value: int) -> None:
        """Other bits are only programmed with ENABLE set; changing ENABLE clears both FIFOs. [ds: FCR]"""
        s = self.state
        if (value ^ s.fcr) & Fcr.ENABLE or value & Fcr.CLEAR_RX:
            s.rx_count = 0
        s.fcr = value & (Fcr.ENABLE | Fcr.DMA_MODE | Fcr.TRIGGER) if value & Fcr.ENABLE else 0
        if self.can_receive():
            self.port.ready()

    def write_lcr(self, value: int) -> None:
        self.state.lcr = value

    def write_scr(self, value: int) -> None:
        self.state.scr = value

    def write_mcr(self, value: int) -> None:
        value &= MCR_WRITABLE
        was = self.state.mcr
        self.state.mcr = value
        self._modem_changed()
        if value & (Mcr.DTR | Mcr.RTS):
            self._use()
        if was & ~value & Mcr.LOOP and self.can_receive():
            self.port.ready()

    # inside

    def _use(self) -> None:
        if not self.state.in_use:
            self.state.in_use = 1
            if self.can_receive():
                self.port.ready()

    def _depth(self) -> int:
        return FIFO_DEPTH if self.state.fcr & FIFOS else 1

    def _receive(self, byte: int, errors: int) -> None:
        """Overrun: a full FIFO keeps what it has, a lone RBR is overwritten. [ds: LSR, bit 1]"""
        s = self.state
        if s.rx_count >= self._depth():
            s.lsr_errors |= Lsr.OE
            if s.fcr & Fcr.ENABLE:
                return
            s.rx_count = 0
        s.rx[s.rx_count], s.rx_errors[s.rx_count] = byte & 0xFF, errors & CHARACTER_ERRORS
        if s.rx_count == 0:  # error bits show when their character is at the top
            s.lsr_errors |= errors & CHARACTER_ERRORS
        s.rx_count += 1

    def _modem_changed(self) -> None:
        """Recompute MSR; a change sets its delta, for RI only the trailing edge. [ds: MSR, bits 0-3]"""
        s = self.state
        now = s.inputs
        if s.mcr & Mcr.LOOP:
            now = sum(int(level) for output, level in LOOPED if s.mcr & output)
        changed = (now ^ s.msr) & 0xF0
        deltas = changed & ~int(Msr.RI) | changed & s.msr & Msr.RI
        s.msr = now | s.msr & MSR_DELTAS | deltas >> 4

    def _cause(self) -> Iir:
        """The enabled interrupt of highest priority. [ds: table III]"""
        s = self.state
        enabled = int(s.ier)
        if enabled & ELSI and s.lsr_errors & LINE_ERROR_BITS:
            return Iir.LINE_STATUS
        if enabled & ERBFI and s.rx_count:
            trigger = TRIGGER_BYTES[s.fcr >> 6] if s.fcr & FIFOS else 1
            return Iir.RECEIVED_DATA if s.rx_count >= trigger else Iir.TIMEOUT
        if enabled & ETBEI and s.thre_pending:
            return Iir.THR_EMPTY
        if enabled & EDSSI and s.msr & MODEM_CHANGES:
            return Iir.MODEM_STATUS
        return Iir.NONE

    def sync(self) -> None:
        """INTR reaches the PC's interrupt controller through a gate that OUT2 opens; loopback holds OUT2 inactive."""
        s = self.state
        gate = s.ier and s.mcr & (OUT2 | LOOP) == OUT2
        self.irq.set_level(bool(gate) and self._cause() is not Iir.NONE)


def ignore(value: int) -> None:
    """A read-only register."""
