"""The ROM that a network adapter boots from: iPXE's for the Am79C970A, where the host has it.

RINGFENCE_FIRMWARE names folders, separated by colons, to look in first. Without the ROM machines do not boot from the
network, and that is all.
Source: Debian package ipxe-qemu; PCI Firmware Specification 3.0, section 5.1.1 (expansion ROM header).
"""

from __future__ import annotations

import os
from pathlib import Path

from ringfence.errors import BadInput
from vmx.loader import read_file

FOLDERS = ("/usr/lib/ipxe/qemu", "/usr/share/qemu", "/usr/local/share/qemu")
NAME = "pxe-pcnet.rom"
SIGNATURE = b"\x55\xaa"
ROM_BYTES_MAX = 256 << 10


def network_rom() -> bytes:
    """The ROM; empty where there is none. Raises BadInput for a file that is no option ROM."""
    own = [folder for folder in os.environ.get("RINGFENCE_FIRMWARE", "").split(":") if folder]
    path = next((place for folder in (*own, *FOLDERS) if (place := Path(folder) / NAME).is_file()), None)
    if path is None:
        return b""
    rom = read_file(path, ROM_BYTES_MAX, "a network boot ROM")
    if not rom.startswith(SIGNATURE):
        raise BadInput(str(path), "option ROM", "bytes 55 AA at its beginning", rom[:2].hex(" "))
    return rom
