"""A capture of what passes at a point of the network, as pcapng, while it passes."""

from __future__ import annotations

import select
import socket
import time
from typing import Any, BinaryIO

from ringfence.errors import BadInput, BadOption
from vmkernel.host.client import KernelPlace
from vmkernel.host.messages import parse_json
from vmkernel.host.messages_layout import CAPTURED, HEADER, MESSAGE_BYTES_MAX, Kind
from vmkernel.net.pcapng import PcapngWriter

KINDS = ("uplink", "group", "port")


def connected(place: KernelPlace, what: str) -> socket.socket:
    """Raises BadOption for a point that is not there, HostRefused where no VMkernel is running."""
    kind, name = point(what, place.ask("status"))
    return place.open("capture", start=False, kind=kind, name=name)[0]


class Capture:
    """Of what `connected` made, until `close`. `lost` frames passed by while nobody read what this writes."""

    def __init__(self, connection: socket.socket, out: BinaryIO) -> None:
        self._connection, self._out = connection, out
        self.writer = PcapngWriter(out)
        self.frames = self.lost = 0
        out.flush()

    def run(self, count: int | None = None, seconds: float | None = None) -> None:
        """Until so many frames have passed, so much time, or the VMkernel ends."""
        deadline = None if seconds is None else time.monotonic() + seconds
        self._connection.settimeout(None)
        while count is None or self.frames < count:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._connection], [], [], left)[0]:
                return
            message = self._connection.recv(MESSAGE_BYTES_MAX)
            if not message:
                return
            self._take(message)
            self._out.flush()

    def _take(self, message: bytes) -> None:
        """Raises BadInput."""
        if message[0] == Kind.INTERFACE:
            self.writer.interface(str(parse_json(message[HEADER.size :]).get("name", "")))
        elif message[0] == Kind.CAPTURED and len(message) >= HEADER.size + CAPTURED.size:
            at_ns, interface, outbound, _, length, self.lost = CAPTURED.unpack_from(message, HEADER.size)
            if interface >= len(self.writer.counts):
                raise BadInput("VMkernel", "capture", f"a point below {len(self.writer.counts)}", str(interface))
            frame = message[HEADER.size + CAPTURED.size :]
            self.writer.packet(interface, at_ns, frame, length, outbound=bool(outbound))
            self.frames += 1
        else:
            raise BadInput("VMkernel", "capture", "a frame", message[:8].hex(" "))

    def close(self) -> None:
        """The statistics, and the end."""
        self._connection.close()
        self.writer.finish(self.lost)
        self._out.flush()


def point(what: str, running: dict[str, Any]) -> tuple[str, str]:
    """What people call a point: KIND:NAME, or the name of an uplink, a port group, or whoever is plugged in.

    Raises BadOption.
    """
    kind, separator, name = what.partition(":")
    if separator and kind in KINDS:
        return kind, name
    if what in {row["name"] for row in running["uplinks"]}:
        return "uplink", what
    groups = [(switch["name"], group) for switch in running["switches"] for group in switch["groups"]]
    if any(group["name"] == what for _, group in groups):
        return "group", what
    ports = [f"{switch}/{port['number']}" for switch, group in groups for port in group["ports"] if
             what in (port["client"], f"{switch}/{port['number']}")]  # fmt: skip
    if len(ports) != 1:
        found = ", ".join(ports) or "nothing"
        raise BadOption(f"{what!r}: expected an uplink, a port group, or the one port of a machine, found {found}")
    return "port", ports[0]
