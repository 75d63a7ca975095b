"""What is at the other end of a machine's cable in tests: a hub between machines, and a host that answers on it."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable

from hw.net.wiring import AddressFilter
from vmx.network_cable import CableEnd

ETHERTYPE_ARP, ETHERTYPE_IP = 0x0806, 0x0800
ARP_REQUEST, ARP_REPLY, ICMP, ECHO_REQUEST, ECHO_REPLY = 1, 2, 1, 8, 0
HOST_ADDRESS = bytes.fromhex("005056c00008")
HOST_IP = bytes([10, 0, 2, 2])
BROADCAST = b"\xff" * 6


class Port:
    """A socket of the hub. `full` makes it refuse frames."""

    def __init__(self, hub: Hub) -> None:
        self.hub, self.end, self.filter = hub, None, None
        self.end: CableEnd | None
        self.filter: AddressFilter | None
        self.full, self.closed, self.on = False, False, True
        self.sent: list[bytes] = []
        self.changed = threading.Condition()

    def connect(self, end: CableEnd) -> bool:
        assert self.end is None and not self.closed
        self.end = end
        return self.on

    def disconnect(self) -> None:
        self.end = None

    def send(self, frame: list[memoryview]) -> bool:
        if self.full:
            return False
        whole = b"".join(frame)
        with self.changed:
            self.sent.append(whole)
            self.changed.notify_all()
        self.hub.spread(self, whole)
        return True

    def set_filter(self, wanted: AddressFilter) -> None:
        self.filter = wanted

    def heard(self, message: memoryview | None) -> None:
        raise AssertionError("it has no socket")

    def is_full(self) -> None:
        raise AssertionError("it has no socket")

    def close(self) -> None:
        self.end, self.closed = None, True

    # for tests

    def deliver(self, frame: bytes) -> None:
        if self.end is not None:
            self.end.deliver(frame)

    def empty(self) -> None:
        """Room again."""
        self.full = False
        if self.end is not None:
            self.end.writable()

    def wait_for(self, condition: Callable[[list[bytes]], bool], seconds: float = 120) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self.sent), seconds), f"{len(self.sent)} frames were sent"


class Hub:
    """Every frame goes to all other ports, and to the host if there is one."""

    def __init__(self, host: Callable[[bytes], bytes | None] | None = None) -> None:
        self.ports: list[Port] = []
        self.host = host

    def port(self) -> Port:
        self.ports.append(Port(self))
        return self.ports[-1]

    def spread(self, source: Port, frame: bytes) -> None:
        for port in self.ports:
            if port is not source:
                port.deliver(frame)
        if self.host is not None and (answer := self.host(frame)) is not None:
            source.deliver(answer)


def answering_host(frame: bytes) -> bytes | None:
    """10.0.2.2: answers ARP requests and pings."""
    destination, source, kind = frame[:6], frame[6:12], int.from_bytes(frame[12:14], "big")
    if destination not in (BROADCAST, HOST_ADDRESS):
        return None
    if kind == ETHERTYPE_ARP:
        return arp_reply(frame, source)
    if kind == ETHERTYPE_IP and frame[30:34] == HOST_IP and frame[23] == ICMP:
        return echo_reply(frame, source)
    return None


def arp_reply(frame: bytes, source: bytes) -> bytes | None:
    operation, sender, sender_ip, _, wanted = struct.unpack_from(">H6s4s6s4s", frame, 20)
    if operation != ARP_REQUEST or wanted != HOST_IP:
        return None
    body = struct.pack(">HHBBH6s4s6s4s", 1, ETHERTYPE_IP, 6, 4, ARP_REPLY, HOST_ADDRESS, HOST_IP, sender, sender_ip)
    return source + HOST_ADDRESS + ETHERTYPE_ARP.to_bytes(2, "big") + body


def echo_reply(frame: bytes, source: bytes) -> bytes | None:
    header = frame[14:34]
    length = int.from_bytes(header[2:4], "big")
    payload = bytearray(frame[34 : 14 + length])
    if frame[14] != 0x45 or not payload or payload[0] != ECHO_REQUEST:
        return None
    payload[0:4] = bytes([ECHO_REPLY, 0, 0, 0])
    payload[2:4] = checksum(payload).to_bytes(2, "big")
    answer = bytearray(header[:12] + HOST_IP + header[12:16])
    answer[10:12] = b"\0\0"
    answer[10:12] = checksum(answer).to_bytes(2, "big")
    return source + HOST_ADDRESS + ETHERTYPE_IP.to_bytes(2, "big") + bytes(answer) + bytes(payload)


def checksum(data: bytes | bytearray) -> int:
    """Of the Internet. [RFC 1071]"""
    data = bytes(data) + bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
