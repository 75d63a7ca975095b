"""What a machine's network adapters are: their models, station addresses, and what they are to be plugged into.

An address is VMware's: 00:50:56 with a third byte up to 3F is an administrator's to give, 80 to BF VirtualCenter's; one
that a host makes is 00:0C:29 and three bytes of the machine's identity.
Source: VMware, "ESX Server 3 Configuration Guide", "MAC Addresses".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ringfence.errors import BadOption

NICS = range(5)
ADDRESS_BYTES = 6
GENERATED_PREFIX = bytes.fromhex("000c29")
VMWARE_PREFIX = bytes.fromhex("005056")
STATIC_LAST, MANAGED_FIRST, MANAGED_LAST = 0x3F, 0x80, 0xBF  # of the fourth byte, with VMware's prefix
OFFSET_STEP = 10  # between the addresses that one machine makes
TEXT = re.compile(r"[0-9A-Fa-f]{1,2}(?::[0-9A-Fa-f]{1,2}){5}")
GROUP = 0x01
STATIC_RANGE = "an address from 00:50:56:00:00:00 to 00:50:56:3F:FF:FF"


class NicKind(Enum):
    """Models; the value is the word in `ethernetN.virtualDev`."""

    VLANCE = "vlance"
    VMXNET = "vmxnet"


@dataclass(frozen=True, slots=True)
class NicSpec:
    """One adapter. `network` is the port group that it is plugged into; empty: none."""

    address: bytes
    kind: NicKind = NicKind.VLANCE
    network: str = ""
    connected: bool = True
    origin: str = field(default="", compare=False)


def check_nics(nics: Mapping[int, NicSpec]) -> None:
    """Raises BadOption for what no machine can have."""
    seen: dict[bytes, int] = {}
    for number, nic in nics.items():
        said = f"ethernet{number}"
        if number not in NICS:
            raise BadOption(f"{said}: expected ethernet0 to ethernet{NICS[-1]}")
        if not is_station(nic.address):
            raise BadOption(f"{said}: expected the address of one station, found {address_text(nic.address)}")
        if nic.address in seen:
            found = f"{address_text(nic.address)}, as ethernet{seen[nic.address]} has"
            raise BadOption(f"{said}: expected an address of its own, found {found}")
        seen[nic.address] = number


def parse_address(text: str) -> bytes:
    """Raises ValueError that says what was expected."""
    if not TEXT.fullmatch(text.strip()):
        raise ValueError("six bytes in hex, apart by colons")
    address = bytes(int(part, 16) for part in text.strip().split(":"))
    if not is_station(address):
        raise ValueError("the address of one station")
    return address


def address_text(address: bytes) -> str:
    return address.hex(":").upper()


def is_station(address: bytes) -> bool:
    return len(address) == ADDRESS_BYTES and any(address) and not address[0] & GROUP


def is_static(address: bytes) -> bool:
    """Is it an administrator's to give?"""
    return address.startswith(VMWARE_PREFIX) and address[3] <= STATIC_LAST


def is_managed(address: bytes) -> bool:
    """Is it VirtualCenter's to give?"""
    return address.startswith(VMWARE_PREFIX) and MANAGED_FIRST <= address[3] <= MANAGED_LAST


def is_generated(address: bytes) -> bool:
    """Can a host have made it?"""
    return address.startswith(GENERATED_PREFIX)


def generated_offset(number: int) -> int:
    """How far apart the addresses of one machine's adapters are."""
    return number * OFFSET_STEP


def generated_address(identity: bytes, offset: int) -> bytes:
    """What a host makes of a machine's identity, 16 bytes."""
    low = (int.from_bytes(identity[-3:], "big") + offset) % (1 << 24)
    return GENERATED_PREFIX + low.to_bytes(3, "big")
