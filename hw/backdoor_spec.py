"""The backdoor: magic number, ports, commands; no behaviour.

Source: open-vm-tools 2008.02.13, lib/include/backdoor_def.h (command numbers and results).
"""

from enum import IntEnum

MAGIC = 0x564D5868
PORT = 0x5658
HIGH_BANDWIDTH_PORT = 0x5659
FAILED = 0xFFFFFFFF

INTERFACE_VERSION = 6
HARDWARE_VERSION = 4  # virtual machines of ESX Server 3
POINTER_NOT_GRABBED = 0xFF9C  # -100
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
    ISACPIDISABLED = 34
    ISMOUSEABSOLUTE = 36
    PATCH_SMBIOS = 37
    PATCH_ACPI = 43
    GETHZ = 45
    GETTIMEFULL = 46
    CHECKFORCEBIOSSETUP = 48
    LAZYTIMEREMULATION = 49
    BIOSBBS = 50


RING0_ONLY = frozenset({2, 18, 28, 37, 43, 48, 49, 50})
