"""8237A DMA controllers as a PC/AT has them: ports, registers, bits; no behaviour.

Source: Intel 8237A data sheet, "Register description"; Intel 82371AB (PIIX4) data sheet, "DMA registers"; IBM PC/AT
Technical Reference, "Direct memory access".
"""

from enum import IntEnum, IntFlag

CHANNELS = 8
PER_CHIP = 4
CASCADE_CHANNEL = 4  # the first controller's request arrives here
FLOPPY_CHANNEL = 2

FIRST_PORT, FIRST_PORTS = 0x00, 16
SECOND_PORT, SECOND_PORTS = 0xC0, 32  # a register at every even port
PAGE_PORT = 0x81  # 80h is the diagnostic port
PAGE_PORTS = 15
PAGE_REGISTERS = 16

# A channel's page register, by its port's distance from 80h. Channel 4's is the one for refresh.
PAGE_OF_CHANNEL = (0x7, 0x3, 0x1, 0x2, 0xF, 0xB, 0x9, 0xA)


class Reg(IntEnum):
    """Registers of one controller; 0 to 7 are the channels' addresses (even) and counts (odd)."""

    STATUS_COMMAND = 0x8
    REQUEST = 0x9
    SINGLE_MASK = 0xA
    MODE = 0xB
    CLEAR_POINTER = 0xC
    TEMPORARY_MASTER_CLEAR = 0xD
    CLEAR_MASK = 0xE
    ALL_MASK = 0xF


class Command(IntFlag):
    """Command register."""

    MEMORY_TO_MEMORY = 1 << 0
    HOLD_ADDRESS = 1 << 1
    DISABLE = 1 << 2
    COMPRESSED = 1 << 3
    ROTATING = 1 << 4
    EXTENDED_WRITE = 1 << 5
    DREQ_LOW = 1 << 6
    DACK_HIGH = 1 << 7


SET = 1 << 2  # in a write to the request register and to the single mask
CHANNEL = 0x03


class Mode(IntFlag):
    """Mode register, without the channel number in bits 1:0."""

    TYPE = 3 << 2
    AUTO_INITIALIZE = 1 << 4
    DECREMENT = 1 << 5
    KIND = 3 << 6


class Type(IntEnum):
    """Mode bits 3:2, seen from memory."""

    VERIFY = 0 << 2
    WRITE = 1 << 2
    READ = 2 << 2
    ILLEGAL = 3 << 2


BLOCK, CASCADE = 2 << 6, 3 << 6  # mode bits 7:6; the others are demand and single
ALL_MASKED = 0x0F
