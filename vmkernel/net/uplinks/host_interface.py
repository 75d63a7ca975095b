"""Interfaces of the host: their flags, addresses and offloads, by ioctl; their speed and duplex.

Source: Linux, netdevice(7), packet(7), linux/if_tun.h, linux/ethtool.h; Documentation/ABI/testing/sysfs-class-net.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Interface
from pathlib import Path

SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C
SIOCSIFHWADDR, SIOCSIFMTU, SIOCETHTOOL = 0x8924, 0x8922, 0x8946
IFF_UP, IFF_RUNNING = 0x1, 0x40
ARPHRD_ETHER = 1
ETHTOOL_GGRO, ETHTOOL_SGRO = 0x2B, 0x2C
REQUEST = struct.Struct("16s24s")  # ifreq
INTERFACES = Path("/sys/class/net")


def request(name: str, number: int, rest: bytes = b"") -> bytes:
    """One ioctl on an interface: the answer's part behind the name. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, number, REQUEST.pack(name.encode(), rest))
    return bytes(REQUEST.unpack(answer)[1])


def flags(name: str) -> int:
    """Raises OSError."""
    return int(struct.unpack_from("H", request(name, SIOCGIFFLAGS))[0])


def is_running(name: str) -> bool:
    """Is it up, with a carrier?"""
    try:
        return flags(name) & (IFF_UP | IFF_RUNNING) == IFF_UP | IFF_RUNNING
    except OSError:
        return False


def speed_and_duplex(name: str, folder: Path = INTERFACES) -> tuple[int, bool] | None:
    """Megabits a second, and whether it is full duplex; None where the host does not know."""
    try:
        speed = int((folder / name / "speed").read_text())
        duplex = (folder / name / "duplex").read_text().strip()
    except (OSError, ValueError):  # one that is down cannot be read
        return None
    return (speed, duplex == "full") if speed > 0 and duplex in {"full", "half"} else None


def bring_up(name: str) -> None:
    """Raises OSError."""
    if not (now := flags(name)) & IFF_UP:
        request(name, SIOCSIFFLAGS, struct.pack("H", now | IFF_UP))


def set_address(name: str, address: bytes) -> None:
    """Its station address. Raises OSError."""
    request(name, SIOCSIFHWADDR, struct.pack("H6s", ARPHRD_ETHER, address))


def set_mtu(name: str, mtu: int) -> None:
    """Raises OSError."""
    request(name, SIOCSIFMTU, struct.pack("i", mtu))


def set_ip(name: str, interface: IPv4Interface) -> None:
    """Raises OSError."""
    for number, value in ((SIOCSIFADDR, interface.ip), (SIOCSIFNETMASK, interface.netmask)):
        request(name, number, struct.pack("=HH4s", socket.AF_INET, 0, value.packed))


def set_gro(name: str, on: bool) -> bool:
    """Whether it was on. Merged frames would be longer than the wire allows. An interface may know nothing of it."""
    def ask(command: int, value: int) -> int:
        words = (ctypes.c_uint32 * 2)(command, value)
        request(name, SIOCETHTOOL, struct.pack("P", ctypes.addressof(words)))
        return words[1]

    with suppress(OSError):
        if (before := ask(ETHTOOL_GGRO, 0)) != on:
            ask(ETHTOOL_SGRO, int(on))
        return bool(before)
    return False
