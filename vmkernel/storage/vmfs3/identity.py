"""UUIDs and disk ids as text.

A UUID is 16 bytes: seconds since 1970, a clock's counter (4 bytes each), 2 bytes at random, a MAC address. The first
three are little-endian numbers; the text is `%08x-%08x-%04x-` and the 12 digits of the MAC.
Source: vmfs-tools, libvmfs/utils.c; blkid's output for VMFS volumes.
"""

from __future__ import annotations

import struct
from typing import Any

from ringfence.errors import BadOption
from vmkernel.storage.vmfs3.lvm_spec import DISK_ID, UUID_BYTES, DiskIdType

PARTS = struct.Struct("<IIH6s")
NOBODY = bytes(UUID_BYTES)


def uuid_text(raw: bytes) -> str:
    """35 characters."""
    seconds, counter, chance, mac = PARTS.unpack(raw)
    return f"{seconds:08x}-{counter:08x}-{chance:04x}-{mac.hex()}"


def uuid_bytes(text: str) -> bytes:
    """Raises BadOption."""
    try:
        seconds, counter, chance, mac = text.split("-")
        if [len(part) for part in (seconds, counter, chance, mac)] != [8, 8, 4, 12]:
            raise ValueError
        return PARTS.pack(int(seconds, 16), int(counter, 16), int(chance, 16), bytes.fromhex(mac))
    except (ValueError, struct.error):
        raise BadOption(f"{text!r} is no UUID of VMFS: expected 8-8-4-12 hex digits") from None


def disk_id_text(disk_id: Any) -> str:
    """A parsed DISK_ID: the device's name, or its vendor, model and serial number."""
    used = disk_id.id[: disk_id.id_length]
    if disk_id.type == DiskIdType.NAME:
        return str(used.rstrip(b"\0").decode("ascii", "replace"))
    printable = "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in used)
    return f"serial {printable.strip()!r}"


def parse_disk_id(raw: bytes) -> Any:
    """A DISK_ID from its first 78 bytes."""
    return DISK_ID.parse(raw[: DISK_ID.sizeof()])
