"""Where an uplink leads, as people write it.

    nat                              the host's network, by a NAT of the user's own (libslirp)
    nat:tcp=2222-10.0.2.15:22,...    with ports of the host's 127.0.0.1 that lead to a machine; udp= likewise
    nat:tftp=FOLDER,boot=FILE        with files that machines can load at their start
    tap:NAME                         a TAP of the host, made if it is not there
    interface:NAME                   an interface of the host
    udp:HOST:PORT,HOST:PORT          datagrams, from the first address to the second, one frame each
    unix:PATH,PATH                   the same on Unix sockets
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from ringfence.errors import BadOption

INTERFACE = re.compile(r"[^\s/:]{1,15}")
PORT_MAX = 65535
SOCKET_PATH_BYTES_MAX = 107


@dataclass(frozen=True, slots=True)
class Tap:
    """A TAP device."""

    name: str

    def __str__(self) -> str:
        return f"tap:{self.name}"


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface of the host."""

    name: str

    def __str__(self) -> str:
        return f"interface:{self.name}"


@dataclass(frozen=True, slots=True)
class UdpLink:
    """(host, port) of ours and of the other's."""

    local: tuple[str, int]
    remote: tuple[str, int]

    def __str__(self) -> str:
        return f"udp:{self.local[0]}:{self.local[1]},{self.remote[0]}:{self.remote[1]}"


@dataclass(frozen=True, slots=True)
class UnixLink:
    """Paths of Unix datagram sockets, absolute."""

    local: str
    remote: str

    def __str__(self) -> str:
        return f"unix:{self.local},{self.remote}"


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of the host's 127.0.0.1 that leads to one of a machine."""

    protocol: str
    host_port: int
    guest: str
    guest_port: int

    def __str__(self) -> str:
        return f"{self.protocol}={self.host_port}-{self.guest}:{self.guest_port}"


@dataclass(frozen=True, slots=True)
class Nat:
    """A NAT of the user's own. `tftp` is a folder whose files are served; `boot` the one that DHCP names."""

    forwards: tuple[Forward, ...] = ()
    tftp: str = ""
    boot: str = ""

    def __str__(self) -> str:
        words = [*map(str, self.forwards), *([f"tftp={self.tftp}"] if self.tftp else []),
                 *([f"boot={self.boot}"] if self.boot else [])]  # fmt: skip
        return f"nat:{','.join(words)}" if words else "nat"


Place = Tap | Interface | UdpLink | UnixLink | Nat


def parse_place(text: str) -> Place:
    """Raises BadOption."""
    kind, _, rest = text.partition(":")
    if kind not in KINDS or not text.isprintable():
        raise BadOption(f"uplink {text!r}: expected {', '.join(KINDS)}")
    try:
        return KINDS[kind](rest)
    except ValueError as error:
        raise BadOption(f"uplink {text!r}: expected {error}") from None


def tap(rest: str) -> Place:
    return Tap(interface_name(rest))


def interface(rest: str) -> Place:
    return Interface(interface_name(rest))


def interface_name(text: str) -> str:
    if not INTERFACE.fullmatch(text) or text in {".", ".."}:
        raise ValueError("the name of an interface, 1 to 15 characters")
    return text


def udp(rest: str) -> Place:
    local, separator, remote = rest.partition(",")
    if not separator:
        raise ValueError("udp:HOST:PORT,HOST:PORT")
    return UdpLink(host_port(local), host_port(remote))


def host_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or "," in host or any(character.isspace() or character in '"\\' for character in host):
        raise ValueError("HOST:PORT")
    return host, number(port)


def number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= PORT_MAX):
        raise ValueError(f"a port number, found {text!r}")
    return int(text)


def unix(rest: str) -> Place:
    local, separator, remote = rest.partition(",")
    for path in (local, remote):
        if not separator or not path.startswith("/") or len(path.encode()) > SOCKET_PATH_BYTES_MAX:
            raise ValueError(f"two absolute paths of at most {SOCKET_PATH_BYTES_MAX} bytes, apart by a comma")
    return UnixLink(local, remote)


def nat(rest: str) -> Place:
    forwards, tftp, boot = [], "", ""
    for word in filter(None, rest.split(",")):
        key, _, value = word.partition("=")
        if key in {"tcp", "udp"}:
            forwards.append(forward(key, value))
        elif key == "tftp" and value.startswith("/"):
            tftp = value
        elif key == "boot" and value:
            boot = value
        else:
            raise ValueError(f"tcp=PORT-ADDRESS:PORT, udp=..., tftp=/FOLDER or boot=FILE, found {word!r}")
    return Nat(tuple(forwards), tftp, boot)


def forward(protocol: str, text: str) -> Forward:
    outer, _, inner = text.partition("-")
    guest, _, port = inner.rpartition(":")
    try:
        return Forward(protocol, number(outer), str(IPv4Address(guest)), number(port))
    except ValueError:
        raise ValueError(f"{protocol}=PORT-ADDRESS:PORT, found {text!r}") from None


KINDS: dict[str, Callable[[str], Place]] = {
    "nat": nat, "tap": tap, "interface": interface, "udp": udp, "unix": unix,
}  # fmt: skip
