"""The backdoor: magic number, ports, commands, bits, records; no behaviour.

Source: open-vm-tools 2008.02.13: lib/include/backdoor_def.h (commands), removable_device.h (a device's record),
lib/guestApp (pointer, clipboard, options); Linux, drivers/input/mouse/vmmouse.c (absolute pointer).
"""

from ctypes import LittleEndianStructure, c_char, c_uint8, c_uint32, sizeof
from enum import IntEnum, IntFlag

MAGIC = 0x564D5868
PORT = 0x5658
HIGH_BANDWIDTH_PORT = 0x5659
FAILED = 0xFFFFFFFF

INTERFACE_VERSION = 6
HARDWARE_VERSION = 4  # virtual machines of ESX Server 3
MAX_TIME_LAG_US = 1_000_000


class Product(IntEnum):
    """GETVERSION's ECX."""

    EXPRESS = 1
    ESX_SERVER = 2
    GSX_SERVER = 3
    WORKSTATION = 4


class Command(IntEnum):
    """ECX, bits 15:0."""

    GETMHZ = 1
    APMFUNCTION = 2
    GETDISKGEO = 3
    GETPTRLOCATION = 4
    SETPTRLOCATION = 5
    GETSELLENGTH = 6
    GETNEXTPIECE = 7
    SETSELLENGTH = 8
    SETNEXTPIECE = 9
    GETVERSION = 10
    GETDEVICELISTELEMENT = 11
    TOGGLEDEVICE = 12
    GETGUIOPTIONS = 13
    SETGUIOPTIONS = 14
    GETSCREENSIZE = 15
    GETHWVERSION = 17
    OSNOTFOUND = 18
    GETUUID = 19
    GETMEMSIZE = 20
    GETTIME = 23
    STOPCATCHUP = 24
    INITPCIOPROM = 28
    MESSAGE = 30
    ISACPIDISABLED = 34
    ISMOUSEABSOLUTE = 36
    PATCH_SMBIOS_STRUCTS = 37
    ABSPOINTER_DATA = 39
    ABSPOINTER_STATUS = 40
    ABSPOINTER_COMMAND = 41
    PATCH_ACPI_TABLES = 43
    GETHZ = 45
    GETTIMEFULL = 46
    CHECKFORCEBIOSSETUP = 48
    LAZYTIMEREMULATION = 49
    BIOSBBS = 50


RING0_ONLY = frozenset({
    Command.APMFUNCTION, Command.OSNOTFOUND, Command.INITPCIOPROM, Command.PATCH_SMBIOS_STRUCTS,
    Command.PATCH_ACPI_TABLES, Command.CHECKFORCEBIOSSETUP, Command.LAZYTIMEREMULATION, Command.BIOSBBS,
})  # fmt: skip


class GuiOptions(IntFlag):
    """GETGUIOPTIONS and SETGUIOPTIONS: what the console's user prefers."""

    AUTO_GRAB = 1 << 0
    AUTO_UNGRAB = 1 << 1
    AUTO_SCROLL = 1 << 2
    AUTO_RAISE = 1 << 3
    EXCHANGE_SELECTIONS = 1 << 4
    WARP_CURSOR_ON_UNGRAB = 1 << 5
    FULL_SCREEN = 1 << 6
    TO_FULL_SCREEN = 1 << 7
    TO_WINDOW = 1 << 8
    AUTO_RAISE_DISABLED = 1 << 9
    SYNC_TIME = 1 << 10
    DISABLE_CURSOR_OPTIONS = 1 << 11


GUI_OPTIONS_STORED = int(sum(GuiOptions))

# pointer and clipboard

POINTER_NOT_GRABBED = 0xFF9C  # -100, both coordinates
SELECTION_NOT_READY = 0xFFFFFFFF  # -1
SELECTION_BYTES_MAX = (1 << 16) - 100
PIECE_BYTES = 4

# removable devices

TOGGLE_CONNECT = 1 << 31  # in TOGGLEDEVICE's EBX, beside the identifier
DEVICE_NAME_BYTES = 32


class DeviceRecord(LittleEndianStructure):
    """One removable device, read four bytes at a time."""

    _fields_ = [
        ("name", c_char * DEVICE_NAME_BYTES),
        ("uid", c_uint32),
        ("enabled", c_uint8),
        ("reserved", c_uint8 * 3),
    ]


assert sizeof(DeviceRecord) == 40

# the absolute pointer


class PointerCommand(IntEnum):
    """ABSPOINTER_COMMAND's EBX."""

    ENABLE = 0x45414552
    DISABLE = 0x000000F5
    RELATIVE = 0x4C455252
    ABSOLUTE = 0x53424152


POINTER_VERSION = 0x3442554A  # the first word after ENABLE
POINTER_ERROR = 0xFFFF0000  # in ABSPOINTER_STATUS
POINTER_RANGE = 0xFFFF  # both coordinates
POINTER_WORDS_MAX = 4  # what one ABSPOINTER_DATA hands out
PACKET_WORDS = 4


class PointerFlags(IntFlag):
    """First word of a packet; x, y and the wheel follow."""

    MIDDLE = 0x08
    RIGHT = 0x10
    LEFT = 0x20
    RELATIVE = 1 << 16


MESSAGE_REFUSED = 0  # the status in ECX 31:16 without SUCCESS
