"""The script by which firmware puts ACPI tables into memory: its commands; no behaviour.

Each command is 128 bytes. File names end with a zero.
Source: SeaBIOS, src/fw/romfile_loader.h, and QEMU, docs/specs; the commands that those two know.
"""

from ctypes import LittleEndianStructure, Union, c_char, c_uint8, c_uint32, sizeof
from enum import IntEnum

NAME_BYTES = 56
COMMAND_BYTES = 128


class CommandKind(IntEnum):
    """What to do."""

    ALLOCATE = 1
    ADD_POINTER = 2
    ADD_CHECKSUM = 3


class Zone(IntEnum):
    """Where a file goes."""

    HIGH = 1
    F_SEGMENT = 2


class Allocate(LittleEndianStructure):
    """Put a file into memory."""

    _pack_ = 1
    _fields_ = [("file", c_char * NAME_BYTES), ("alignment", c_uint32), ("zone", c_uint8)]


class AddPointer(LittleEndianStructure):
    """Add the address of `source` to the little-endian number of `size` bytes at `offset` of `target`."""

    _pack_ = 1
    _fields_ = [("target", c_char * NAME_BYTES), ("source", c_char * NAME_BYTES), ("offset", c_uint32),
                ("size", c_uint8)]  # fmt: skip


class AddChecksum(LittleEndianStructure):
    """Subtract the sum of `length` bytes from `start` on from the byte at `offset`."""

    _pack_ = 1
    _fields_ = [("file", c_char * NAME_BYTES), ("offset", c_uint32), ("start", c_uint32), ("length", c_uint32)]


class Operands(Union):
    """The operands, by kind."""

    _pack_ = 1
    _fields_ = [("allocate", Allocate), ("add_pointer", AddPointer), ("add_checksum", AddChecksum),
                ("fill", c_uint8 * (COMMAND_BYTES - 4))]  # fmt: skip


class Command(LittleEndianStructure):
    """One command."""

    _pack_ = 1
    _fields_ = [("kind", c_uint32), ("operands", Operands)]


assert sizeof(Command) == COMMAND_BYTES
assert (sizeof(Allocate), sizeof(AddPointer), sizeof(AddChecksum)) == (61, 117, 68)
