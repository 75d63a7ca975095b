"""Cisco Discovery Protocol on uplinks: what a switch says of itself to those outside, and what it hears.

    down        nothing; such frames are like all others for a group of stations
    listen      what the switch outside says is kept, and goes no further
    advertise   each uplink says once a minute who we are
    both        both

Passive: frames and time are handed in. What was heard is forgotten when its time to live is over.
Source: ESX Server 3 Configuration Guide, "Networking" (states); cdp_layout.py (frames).
UNKNOWN: how Cisco sums up an odd last byte; ours are even, and of those heard the two known ways are taken.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address

from vmkernel.net.cdp_layout import (
    ADDRESS,
    ADDRESS_COUNT,
    FIELD,
    HEADER,
    INTERVAL_S,
    IPV4_HEAD,
    LENGTH,
    SNAP,
    TIME_TO_LIVE_S,
    VERSION,
    Capability,
    Field,
)
from vmkernel.net.ethernet_spec import FRAME_MIN, HEADER_BYTES, IP_ADDRESS_BYTES, TYPE
from vmkernel.net.team import Uplink

SECOND = 1_000_000_000
START = HEADER_BYTES + len(SNAP)  # of the message in a frame
TEXT_MAX, NEIGHBOURS_MAX, FIELDS_MAX = 255, 8, 64
SUM_MAX = 0xFFFF
WORD, LONG = struct.Struct("!H"), struct.Struct("!I")
FULL_DUPLEX = b"\x01"
NOTHING = Capability(0)
CAPABILITIES = sum(Capability)


class Cdp(StrEnum):
    """What a switch does; the value is the word of esx.conf and of esxcfg-vswitch."""

    DOWN = "down"
    LISTEN = "listen"
    ADVERTISE = "advertise"
    BOTH = "both"

    @property
    def listens(self) -> bool:
        return self in {Cdp.LISTEN, Cdp.BOTH}

    @property
    def advertises(self) -> bool:
        return self in {Cdp.ADVERTISE, Cdp.BOTH}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are."""

    device: str = "localhost"
    software: str = ""
    platform: str = "Ringfence"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What one device has said at an uplink. Empty and None: it did not say."""

    device: str = ""
    port: str = ""
    platform: str = ""
    software: str = ""
    addresses: tuple[str, ...] = ()
    capabilities: Capability = NOTHING
    native_vlan: int | None = None
    full_duplex: bool | None = None
    mtu: int | None = None
    until_ns: int = field(default=0, compare=False)


# frames


def advertisement(identity: Identity, uplink: Uplink, mtu: int, addresses: Iterable[IPv4Address]) -> bytes:
    """The frame that an uplink sends."""
    own = [IPV4_HEAD + address.packed for address in addresses]
    fields = [(Field.DEVICE, identity.device.encode()[:TEXT_MAX])]
    if own:
        fields.append((Field.ADDRESSES, ADDRESS_COUNT.pack(len(own)) + b"".join(own)))
    software = identity.software.encode()[:TEXT_MAX]
    fields += [
        (Field.PORT, uplink.name.encode()[:TEXT_MAX]), (Field.CAPABILITIES, LONG.pack(Capability.SWITCH)),
        (Field.PLATFORM, identity.platform.encode()[:TEXT_MAX]), (Field.DUPLEX, FULL_DUPLEX),
        (Field.MTU, LONG.pack(mtu)),
    ]  # fmt: skip
    odd = sum(len(value) for _, value in (*fields, (Field.SOFTWARE, software))) % 2
    fields.append((Field.SOFTWARE, software + b" " * odd))
    body = b"".join(FIELD.pack(kind, FIELD.size + len(value)) + value for kind, value in fields)
    message = HEADER.pack(VERSION, TIME_TO_LIVE_S, 0) + body
    message = HEADER.pack(VERSION, TIME_TO_LIVE_S, SUM_MAX - ones_sum(message)) + body
    head = ADDRESS + uplink.address + LENGTH.pack(len(SNAP) + len(message))
    return (head + SNAP + message).ljust(FRAME_MIN, b"\0")


def ones_sum(data: bytes) -> int:
    """In one's complement, of words. [RFC 1071]"""
    total = sum(word for (word,) in WORD.iter_unpack(data))
    while total > SUM_MAX:
        total = (total & SUM_MAX) + (total >> 16)
    return total


def is_sound(message: bytes) -> bool:
    if len(message) % 2 == 0:
        return ones_sum(message) == SUM_MAX
    rest, last = message[:-1], message[-1]
    signed = (last - 256 if last & 0x80 else last) & SUM_MAX
    return SUM_MAX in {ones_sum(rest + WORD.pack(word)) for word in (signed, last, last << 8)}


def parse(frame: bytes, now_ns: int) -> Neighbour | None:
    """None for what is not a sound advertisement of a device with a name."""
    length = LENGTH.unpack_from(frame, TYPE)[0] if len(frame) >= START + HEADER.size else 0
    message = frame[START : HEADER_BYTES + length]
    if frame[HEADER_BYTES:START] != SNAP or len(message) < HEADER.size or HEADER_BYTES + length > len(frame):
        return None
    _, lasts_s, _ = HEADER.unpack_from(message)
    if not is_sound(message):
        return None
    found = fields_of(message)
    if not found or not found.get(Field.DEVICE):
        return None
    return Neighbour(
        text_of(found, Field.DEVICE), text_of(found, Field.PORT), text_of(found, Field.PLATFORM),
        text_of(found, Field.SOFTWARE), addresses_of(found.get(Field.ADDRESSES, b"")),
        Capability((number_of(found, Field.CAPABILITIES, LONG) or 0) & CAPABILITIES),
        number_of(found, Field.NATIVE_VLAN, WORD),
        found[Field.DUPLEX] == FULL_DUPLEX if Field.DUPLEX in found else None, number_of(found, Field.MTU, LONG),
        now_ns + lasts_s * SECOND,
    )  # fmt: skip


def fields_of(message: bytes) -> dict[int, bytes] | None:
    """The first of each kind; None where their lengths cannot be true."""
    found: dict[int, bytes] = {}
    at = HEADER.size
    for _ in range(FIELDS_MAX):
        if at == len(message):
            break
        kind, length = FIELD.unpack_from(message, at) if at + FIELD.size <= len(message) else (0, 0)
        if length < FIELD.size or at + length > len(message):
            return None
        found.setdefault(kind, message[at + FIELD.size : at + length])
        at += length
    return found


def text_of(found: Mapping[int, bytes], kind: Field) -> str:
    """One line of what can be printed."""
    text = found.get(kind, b"")[:TEXT_MAX].decode("utf-8", "replace")
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def number_of(found: Mapping[int, bytes], kind: Field, layout: struct.Struct) -> int | None:
    value = found.get(kind, b"")
    return int(layout.unpack(value)[0]) if len(value) == layout.size else None


def addresses_of(value: bytes) -> tuple[str, ...]:
    """The IPv4 addresses that come before any of another kind."""
    rows, size = value[ADDRESS_COUNT.size :], len(IPV4_HEAD) + IP_ADDRESS_BYTES
    found: list[str] = []
    while rows.startswith(IPV4_HEAD) and len(rows) >= size and len(found) < NEIGHBOURS_MAX:
        found.append(str(IPv4Address(rows[len(IPV4_HEAD) : size])))
        rows = rows[size:]
    return tuple(found)


# times


@dataclass(slots=True)
class Speaker:
    """An uplink that is in use, what its switch does, and when it speaks next."""

    mode: Cdp
    mtu: int
    due_ns: int
    heard: dict[str, Neighbour] = field(default_factory=dict)


class Discovery:
    """Of a host's uplinks."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._addresses: tuple[IPv4Address, ...] = ()
        self._speakers: dict[Uplink, Speaker] = {}

    def set_up(
        self, modes: Mapping[Uplink, tuple[Cdp, int]], addresses: Iterable[IPv4Address], now_ns: int
    ) -> None:
        """A level: what each uplink's switch does, and its MTU. `addresses` are the host's own."""
        before, self._speakers, self._addresses = self._speakers, {}, tuple(addresses)
        for uplink, (mode, mtu) in modes.items():
            old = before.get(uplink)
            speaker = Speaker(mode, mtu, now_ns)
            if old is not None and old.mode.advertises and mode.advertises:
                speaker.due_ns = old.due_ns
            if old is not None and mode.listens:
                speaker.heard = old.heard
            self._speakers[uplink] = speaker

    def linked(self, uplink: Uplink, now_ns: int) -> None:
        """Its link has come up, or gone: there may be another device at its end."""
        if (speaker := self._speakers.get(uplink)) is not None:
            speaker.due_ns = now_ns
            speaker.heard.clear()

    def heard(self, uplink: Uplink, frame: bytes, now_ns: int) -> bool:
        """Is this frame for us, and for nobody else?"""
        speaker = self._speakers.get(uplink)
        if speaker is None or not speaker.mode.listens or frame[: len(ADDRESS)] != ADDRESS:
            return False
        if frame[HEADER_BYTES:START] != SNAP:
            return False
        if (one := parse(frame, now_ns)) is not None:
            self._forget(speaker, now_ns)
            speaker.heard.pop(one.device, None)
            if one.until_ns > now_ns and len(speaker.heard) < NEIGHBOURS_MAX:
                speaker.heard[one.device] = one
        return True

    def neighbours(self, uplink: Uplink, now_ns: int) -> list[Neighbour]:
        speaker = self._speakers.get(uplink)
        if speaker is None:
            return []
        self._forget(speaker, now_ns)
        return list(speaker.heard.values())

    @staticmethod
    def _forget(speaker: Speaker, now_ns: int) -> None:
        speaker.heard = {name: one for name, one in speaker.heard.items() if one.until_ns > now_ns}

    def next_ns(self) -> int | None:
        """When `tick` is due."""
        due = [one.due_ns for uplink, one in self._speakers.items() if one.mode.advertises and uplink.link]
        return min(due, default=None)

    def tick(self, now_ns: int) -> list[tuple[Uplink, bytes]]:
        """What is to be sent now."""
        frames = []
        for uplink, one in self._speakers.items():
            if one.mode.advertises and uplink.link and now_ns >= one.due_ns:
                one.due_ns = now_ns + INTERVAL_S * SECOND
                frames.append((uplink, advertisement(self._identity, uplink, one.mtu, self._addresses)))
        return frames
