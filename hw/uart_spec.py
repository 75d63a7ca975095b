"""16550A registers: names, bits, reset values; no behaviour.

Names are the data sheet's.
Source: National Semiconductor PC16550D data sheet, "Registers" and table II.
"""

from enum import IntEnum, IntFlag

FIFO_DEPTH = 16
PORTS = 8
COM1 = 0x3F8
COM1_IRQ = 4
COM2 = 0x2F8
COM2_IRQ = 3


class Offset(IntEnum):
    """Ports, from the base. 0 and 1 hold the divisor latch while LCR.DLAB is set."""

    RBR_THR = 0
    IER = 1
    IIR_FCR = 2
    LCR = 3
    MCR = 4
    LSR = 5
    MSR = 6
    SCR = 7


class Ier(IntFlag):
    """Interrupt enable; bits 7:4 are always 0."""

    ERBFI = 1 << 0
    ETBEI = 1 << 1
    ELSI = 1 << 2
    EDSSI = 1 << 3


class Iir(IntEnum):
    """Interrupt identification, bits 3:0, in falling priority after NONE."""

    NONE = 0x1
    LINE_STATUS = 0x6
    RECEIVED_DATA = 0x4
    TIMEOUT = 0xC
    THR_EMPTY = 0x2
    MODEM_STATUS = 0x0


IIR_FIFOS = 0xC0


class Fcr(IntFlag):
    """FIFO control, write-only."""

    ENABLE = 1 << 0
    CLEAR_RX = 1 << 1
    CLEAR_TX = 1 << 2
    DMA_MODE = 1 << 3
    TRIGGER = 3 << 6


TRIGGER_BYTES = (1, 4, 8, 14)  # by FCR bits 7:6


class Lcr(IntFlag):
    """Line control."""

    WLS = 3 << 0
    STB = 1 << 2
    PEN = 1 << 3
    EPS = 1 << 4
    STICK = 1 << 5
    BREAK = 1 << 6
    DLAB = 1 << 7


class Mcr(IntFlag):
    """Modem control; OUT2 gates the interrupt on a PC."""

    DTR = 1 << 0
    RTS = 1 << 1
    OUT1 = 1 << 2
    OUT2 = 1 << 3
    LOOP = 1 << 4


class Lsr(IntFlag):
    """Line status."""

    DR = 1 << 0
    OE = 1 << 1
    PE = 1 << 2
    FE = 1 << 3
    BI = 1 << 4
    THRE = 1 << 5
    TEMT = 1 << 6
    FIFO_ERROR = 1 << 7


CHARACTER_ERRORS = Lsr.PE | Lsr.FE | Lsr.BI
LINE_ERRORS = Lsr.OE | CHARACTER_ERRORS


class Msr(IntFlag):
    """Modem status: inputs in the upper half, their changes since the last read in the lower."""

    DCTS = 1 << 0
    DDSR = 1 << 1
    TERI = 1 << 2
    DDCD = 1 << 3
    CTS = 1 << 4
    DSR = 1 << 5
    RI = 1 << 6
    DCD = 1 << 7


MSR_DELTAS = Msr.DCTS | Msr.DDSR | Msr.TERI | Msr.DDCD
CABLE_CONNECTED = Msr.CTS | Msr.DSR | Msr.DCD

# In loopback the four outputs are connected to the four inputs. [PC16550D: MCR, bit 4]
LOOPED = ((Mcr.RTS, Msr.CTS), (Mcr.DTR, Msr.DSR), (Mcr.OUT1, Msr.RI), (Mcr.OUT2, Msr.DCD))

IER_WRITABLE, MCR_WRITABLE = 0x0F, 0x1F
RESET_DIVISOR = 12  # 9600 baud; the chip leaves it undefined
