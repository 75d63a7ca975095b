"""What machines on a virtual switch keep of their speed while another one floods it.

One client of the VMkernel's process sends frames to another, a window of them under way, as a machine with TCP does; a
third, in a process of its own, sends as fast as it is let, frames of one kind or of all. Spells with the flood and
without take turns, so that whatever else the host does meets both; the flooding process is stopped meanwhile.
"""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ringfence.errors import RingfenceError
from vmkernel.host.client import KernelPlace
from vmkernel.host.messages import frames_message, wanted_message
from vmkernel.host.messages_layout import FRAMES_OF_ONE, MESSAGE_BYTES_MAX, Kind
from vmkernel.net.host_network import HostNetwork, PortGroup, VirtualSwitch
from vmkernel.net.network_file import NetworkFile
from vmkernel.net.policy import Overrides
from vmkernel.net.port import Wanted

ROOT = Path(__file__).resolve().parent.parent
BROADCAST = b"\xff" * 6
FLOODER, NOBODY, DEAF = 90, 91, 92
BATCH, PAYLOAD, WINDOW = 200, 46, 100
SETTLE_S, LOOK_S, LOST_S, TIMEOUT_S = 20.0, 0.02, 0.05, 120.0


def station(number: int) -> bytes:
    return bytes.fromhex("000c29") + number.to_bytes(3, "big")


def frame_between(source: int, destination: int, tags: bytes = b"") -> bytes:
    return station(destination) + station(source) + tags + b"\x88\xb5" + b"x" * PAYLOAD


def tags(*vlans: int) -> bytes:
    return b"".join(b"\x81\x00" + vlan.to_bytes(2, "big") for vlan in vlans)


KINDS: dict[str, Callable[[random.Random], bytes]] = {
    "nobody": lambda pick: frame_between(FLOODER, NOBODY),
    "runts": lambda pick: frame_between(FLOODER, 1)[: pick.randrange(14)],
    "giants": lambda pick: frame_between(FLOODER, 1) + bytes(pick.randrange(1500, 8000)),
    "tags": lambda pick: frame_between(FLOODER, 1, tags(pick.choice((0, 5, 4095)), pick.choice((5, 6)))),
    "forged": lambda pick: station(1) + pick.randbytes(5) + b"\x00" + b"\x88\xb5" + b"x" * PAYLOAD,
    "broadcasts": lambda pick: BROADCAST + station(FLOODER) + b"\x88\xb5" + b"x" * PAYLOAD,
    "deaf": lambda pick: frame_between(FLOODER, DEAF),
}


@dataclass(frozen=True, slots=True)
class Kept:
    """Frames a second of the others, without the flood and with it, in pairs; and how many the flood got through."""

    pairs: tuple[tuple[float, float], ...]
    flooded: int

    @property
    def ratio(self) -> float:
        ratios = sorted(flooded / quiet for quiet, flooded in self.pairs)
        return ratios[len(ratios) // 2]


def under_flood(kind: str, turns: int, seconds: float) -> Kept:
    """`kind`: one of KINDS, or "all". Raises RingfenceError."""
    with (
        tempfile.TemporaryDirectory(prefix="rf") as name, kernel(Path(name)) as place, plug(place, 1) as one,
        plug(place, 2) as two, plug(place, DEAF), flooding(place, kind) as flooder,
    ):  # fmt: skip
        pairs = []
        for _ in range(turns):
            os.kill(flooder.pid, signal.SIGSTOP)
            settle(place)
            before = stream(one, two, seconds)
            os.kill(flooder.pid, signal.SIGCONT)
            begun = tried(place)
            while tried(place) == begun:
                time.sleep(LOOK_S)
            pairs.append((before, stream(one, two, seconds)))
        return Kept(tuple(pairs), tried(place))


@contextmanager
def kernel(folder: Path) -> Iterator[KernelPlace]:
    """With the group "lan", and "strict", where nobody may send in others' names."""
    groups = {"lan": PortGroup(), "strict": PortGroup(overrides=Overrides(forged_transmits=False))}
    NetworkFile(folder / "esx.conf").change(lambda _: HostNetwork({"vSwitch0": VirtualSwitch(groups=groups)}))
    place = KernelPlace(folder, folder / "esx.conf")
    place.start(stay=True)
    try:
        yield place
    finally:
        place.stop(force=True)


def plug(place: KernelPlace, number: int, group: str = "lan") -> socket.socket:
    told = wanted_message(Wanted(station(number), receiving=True, unicast=True, broadcast=True)).hex()
    address = station(number).hex(":")
    connection, _ = place.open("port", start=False, group=group, address=address, label=str(number), wanted=told)
    connection.settimeout(TIMEOUT_S)
    return connection


def stream(one: socket.socket, two: socket.socket, seconds: float) -> float:
    """Frames a second from one to two, which gives leave for more by what it has received."""
    message = FRAMES_OF_ONE.pack(Kind.FRAMES, 14 + PAYLOAD) + frame_between(1, 2)
    mark, sent, got = station(1) + b"\x88\xb5", 0, 0
    one.setblocking(False)
    two.setblocking(False)
    drain(two, mark)
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        while sent - got < WINDOW:
            one.send(message)
            sent += 1
        if not select.select([two], [], [], LOST_S)[0]:
            sent = got  # they are lost: send others
        got += drain(two, mark)
        drain(one, mark)
    return got / (time.perf_counter() - begun)


def drain(end: socket.socket, mark: bytes) -> int:
    """Take what has come; how often the mark is in it."""
    count = 0
    with suppress(BlockingIOError):
        while True:
            count += end.recv(MESSAGE_BYTES_MAX).count(mark)
    return count


@contextmanager
def flooding(place: KernelPlace, kind: str) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-m", "bench.switch_flood", str(place.directory), str(place.configuration), kind]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != b"flooding\n":
                raise RingfenceError("switch: the flood did not begin")
            yield process
        finally:
            process.kill()


def tried(place: KernelPlace) -> int:
    """What the VMkernel has taken from the flooding machine so far, for whatever became of it."""
    groups = place.ask("status")["switches"][0]["groups"]
    port = next(port for group in groups for port in group["ports"] if port["client"] == str(FLOODER))
    return int(port["counters"]["frames_out"] + port["counters"]["dropped"])


def settle(place: KernelPlace) -> None:
    """Until nothing is left of what the flooding machine had sent before it was stopped."""
    limit, before, now = time.monotonic() + SETTLE_S, -1, tried(place)
    while before != now and time.monotonic() < limit:
        time.sleep(10 * LOOK_S)
        before, now = now, tried(place)


def flood(place: KernelPlace, kind: str) -> None:
    """Never ends."""
    pick = random.Random(1)
    makers = list(KINDS.values()) if kind == "all" else [KINDS[kind]]
    frames = [pick.choice(makers)(pick) for _ in range(BATCH)]
    messages = []
    while frames:
        message, count = frames_message(frames)
        messages.append(message)
        frames = frames[count:]
    connection = plug(place, FLOODER, "strict" if kind == "forged" else "lan")
    connection.settimeout(None)
    sys.stdout.write("flooding\n")
    sys.stdout.flush()
    while True:
        for message in messages:
            connection.send(message)


if __name__ == "__main__":
    flood(KernelPlace(Path(sys.argv[1]), Path(sys.argv[2])), sys.argv[3])
