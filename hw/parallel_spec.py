"""PC parallel port, bidirectional as in the PS/2: registers and bits; no behaviour.

Source: IBM PS/2 Hardware Interface Technical Reference, "Parallel port controller".
"""

from enum import IntEnum, IntFlag

LPT1, LPT1_IRQ = 0x378, 7
PORTS = 3


class Offset(IntEnum):
    """Ports, from the base."""

    DATA = 0
    STATUS = 1
    CONTROL = 2


class Status(IntFlag):
    """Status; the # names are active low."""

    NOT_IRQ = 1 << 2
    NOT_ERROR = 1 << 3
    SELECT = 1 << 4
    PAPER_OUT = 1 << 5
    NOT_ACK = 1 << 6
    NOT_BUSY = 1 << 7


UNUSED = 0x03  # read as ones
READY = UNUSED | Status.NOT_ERROR | Status.SELECT | Status.NOT_ACK | Status.NOT_BUSY
NOTHING_CONNECTED = UNUSED | Status.NOT_ERROR | Status.SELECT | Status.PAPER_OUT | Status.NOT_ACK


class Control(IntFlag):
    """Control. STROBE going to 1 hands the data to the printer."""

    STROBE = 1 << 0
    AUTO_FEED = 1 << 1
    NOT_INIT = 1 << 2
    SELECT_IN = 1 << 3
    IRQ_ENABLE = 1 << 4
    INPUT = 1 << 5


CONTROL_STORED, CONTROL_ONES = 0x3F, 0xC0
