"""8042 keyboard controller: ports, commands, bits, the translation of scan codes; no behaviour.

The translation table is the one in the 8042's ROM.
Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and auxiliary device controller", "Scan codes".
"""

from enum import IntEnum, IntFlag

DATA_PORT, COMMAND_PORT = 0x60, 0x64
KEYBOARD_IRQ, MOUSE_IRQ = 1, 12


class Status(IntFlag):
    """Port 64h, read."""

    OBF = 1 << 0
    IBF = 1 << 1
    SYS = 1 << 2
    COMMAND = 1 << 3  # the last write was to 64h
    UNLOCKED = 1 << 4
    AUX = 1 << 5  # the byte at 60h is the mouse's
    TIMEOUT = 1 << 6
    PARITY = 1 << 7


class Ctr(IntFlag):
    """Command byte: the controller's RAM location 0."""

    KEYBOARD_IRQ = 1 << 0
    MOUSE_IRQ = 1 << 1
    SYS = 1 << 2
    KEYBOARD_OFF = 1 << 4
    MOUSE_OFF = 1 << 5
    TRANSLATE = 1 << 6


CTR_STORED = 0x77
CTR_RESET = Ctr.KEYBOARD_OFF | Ctr.MOUSE_OFF | Ctr.TRANSLATE


class Command(IntEnum):
    """Port 64h, written."""

    READ_CTR = 0x20
    WRITE_CTR = 0x60
    MOUSE_OFF = 0xA7
    MOUSE_ON = 0xA8
    TEST_MOUSE = 0xA9
    SELF_TEST = 0xAA
    TEST_KEYBOARD = 0xAB
    KEYBOARD_OFF = 0xAD
    KEYBOARD_ON = 0xAE
    READ_INPUT_PORT = 0xC0
    READ_OUTPUT_PORT = 0xD0
    WRITE_OUTPUT_PORT = 0xD1
    WRITE_KEYBOARD_DATA = 0xD2
    WRITE_MOUSE_DATA = 0xD3
    WRITE_TO_MOUSE = 0xD4
    A20_OFF = 0xDD
    A20_ON = 0xDF
    PULSE = 0xF0  # to FFh: pulses the output port's bits that are 0 in the lower nibble


WITH_PARAMETER = frozenset({Command.WRITE_CTR, Command.WRITE_OUTPUT_PORT, Command.WRITE_KEYBOARD_DATA,
                            Command.WRITE_MOUSE_DATA, Command.WRITE_TO_MOUSE})  # fmt: skip
SELF_TEST_PASSED, LINE_TEST_PASSED = 0x55, 0x00
INPUT_PORT = 0xBF


class OutputPort(IntFlag):
    """Output port."""

    NOT_RESET = 1 << 0
    A20 = 1 << 1
    KEYBOARD_OBF = 1 << 4
    MOUSE_OBF = 1 << 5


OUTPUT_RESET = 0xC0 | OutputPort.A20 | OutputPort.NOT_RESET

# From set 2 to set 1, by make code. A break is F0h and the make code in set 2, and the code with bit 7 in set 1.
TRANSLATION = bytes.fromhex(
    "FF43413F3D3B3C58 644442403E0F2959" "65382A701D10025A 66712C1F1E11035B"
    "672E2D201205045C 68392F211413065D" "693130232215075E 6A7232241608095F"
    "6B332517180B0A60 6C34352627190C61" "6D7328741A0D626E 3A361C1B752B6376"
    "55567778797A0E7B 7C4F7D4B477E7F6F" "5253504C4D480145 574E514A37494654"
) + bytes((0x80, 0x81, 0x82, 0x41, 0x54)) + bytes(range(0x85, 0x100))  # fmt: skip
assert len(TRANSLATION) == 256
BREAK_PREFIX, EXTENDED_PREFIX, BREAK_BIT = 0xF0, 0xE0, 0x80
