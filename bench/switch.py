"""The virtual switch beside Linux's bridge: frames a second, and what a hop adds to a frame's way.

`forward`: frames of 64 bytes (60 without FCS) from port to port within this process, with 2 ports, and with 1,000 in 64
VLANs. `hop`: from one client's socket through the VMkernel's process to another's, one frame at a time; `stream`: as
many as go. The bridge has two veth pairs in a network namespace of its own, and packet sockets at their far ends, which
is what a machine of ours would have there; it is a limit, not a rival. Without the right to make them its rows are left
out. `flood`: what two machines keep of their throughput while a third one floods the switch with frames of all kinds.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.plan import Plan
from bench.rows import Better, absolute, compare_runs, median
from bench.switch_flood import under_flood
from ringfence.errors import RingfenceError
from vmkernel.host.client import KernelPlace
from vmkernel.host.messages import wanted_message
from vmkernel.host.messages_layout import FRAMES_OF_ONE, MESSAGE_BYTES_MAX, Kind
from vmkernel.net.host_network import HostNetwork, PortGroup, VirtualSwitch
from vmkernel.net.network import TOKEN_BYTES, Network
from vmkernel.net.network_file import NetworkFile
from vmkernel.net.port import Port, Wanted

ROOT = Path(__file__).resolve().parent.parent
BRIDGE = "linux bridge"
FRAME_BYTES = 60
VLANS = 64
WARM_UP = 200
STREAM_BATCH = 100  # frames under way
FLOOD_TURNS, FLOOD_S = 3, 0.7
FLOOD_MUST = 0.9
WITHOUT_FLOOD = "without"
TIMEOUT_S = 120


class Sink:
    """An end of a port that counts."""

    def __init__(self) -> None:
        self.count = 0

    def deliver(self, frame: bytes) -> bool:
        self.count += 1
        return True

    def switched(self, on: bool) -> None:
        """It stays on."""


def station(number: int) -> bytes:
    return bytes.fromhex("000c29") + number.to_bytes(3, "big")


def frame_between(source: int, destination: int) -> bytes:
    return (station(destination) + station(source) + b"\x88\xb5").ljust(FRAME_BYTES, b"x")


def forward_rate(ports: int, count: int) -> float:
    """Frames a second from port to port, each to the next one of its VLAN."""
    network = Network(bytes(TOKEN_BYTES))
    vlans = min(VLANS, ports // 2)
    groups = {f"vlan {number}": PortGroup(number) for number in range(vlans)}
    network.apply(HostNetwork({"vSwitch0": VirtualSwitch(1016, groups=groups)}), 0)
    switch, sinks = network.switches["vSwitch0"], [Sink() for _ in range(ports)]
    plugged: list[Port] = []
    for number, sink in enumerate(sinks):
        plugged.append(network.open(f"vlan {number % vlans}", station(number), sink, "", 0))
        switch.want(plugged[-1], Wanted(station(number), receiving=True, unicast=True, broadcast=True), 0)
    frames = [frame_between(number, (number + vlans) % ports) for number in range(ports - vlans)]
    pairs = list(zip(plugged, frames, strict=False))
    rounds = max(1, count // len(pairs))
    transmit = switch.transmit
    begun = time.perf_counter()
    for _ in range(rounds):
        for port, frame in pairs:
            transmit(port, frame, 0)
    took = time.perf_counter() - begun
    sent = rounds * len(pairs)
    if sum(sink.count for sink in sinks) != sent:
        raise RingfenceError(f"switch: of {sent} frames {sum(sink.count for sink in sinks)} arrived")
    return sent / took


def through_kernel(count: int) -> tuple[float, float]:
    """Microseconds of a hop, and frames a second of a stream, through a process of its own."""
    with tempfile.TemporaryDirectory(prefix="rf") as name:
        folder = Path(name)
        NetworkFile(folder / "esx.conf").change(
            lambda _: HostNetwork({"vSwitch0": VirtualSwitch(groups={"lan": PortGroup()})})
        )
        place = KernelPlace(folder, folder / "esx.conf")
        place.start(stay=True)
        try:
            with plug(place, 1) as one, plug(place, 2) as two:
                return hop_us(one, two, count), stream_rate(one, two, count * 10)
        finally:
            place.stop(force=True)


def plug(place: KernelPlace, number: int) -> socket.socket:
    wanted = Wanted(station(number), receiving=True, unicast=True)
    told = wanted_message(wanted).hex()
    connection, _ = place.open(
        "port", start=False, group="lan", address=station(number).hex(":"), label="", wanted=told
    )
    connection.settimeout(TIMEOUT_S)
    return connection


def hop_us(one: socket.socket, two: socket.socket, count: int) -> float:
    message = FRAMES_OF_ONE.pack(Kind.FRAMES, FRAME_BYTES) + frame_between(1, 2)
    times = []
    for _ in range(count + WARM_UP):
        begun = time.perf_counter_ns()
        one.send(message)
        two.recv(MESSAGE_BYTES_MAX)
        times.append(time.perf_counter_ns() - begun)
    return median([float(ns) for ns in times[WARM_UP:]]) / 1000


def stream_rate(one: socket.socket, two: socket.socket, count: int) -> float:
    message = FRAMES_OF_ONE.pack(Kind.FRAMES, FRAME_BYTES) + frame_between(1, 2)
    size = len(message) - 1  # a frame's share of a message that has several
    begun = time.perf_counter()
    sent = got = 0
    while got < count:
        while sent < count and sent - got < STREAM_BATCH:
            one.send(message)
            sent += 1
        got += (len(two.recv(MESSAGE_BYTES_MAX)) - 1) // size
    return count / (time.perf_counter() - begun)


def bridge(count: int) -> tuple[float, float] | None:
    """The same of Linux's bridge; None where it cannot be made."""
    words = ["unshare", "-n", sys.executable, "-m", "bench.switch", str(count)]
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
        hop, rate = map(float, done.stdout.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return hop, rate


def in_namespace(count: int) -> None:
    """In a namespace of our own: two veth pairs on a bridge, and a packet socket at each far end."""
    run("ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
    for number in (1, 2):
        run("ip", "link", "add", f"far{number}", "type", "veth", "peer", "name", f"near{number}")
        run("ip", "link", "set", f"near{number}", "master", "br0")
        run("ip", "link", "set", f"far{number}", "addrgenmode", "none")
        for name in (f"far{number}", f"near{number}"):
            run("ip", "link", "set", name, "up")
    run("ip", "link", "set", "br0", "addrgenmode", "none")
    run("ip", "link", "set", "br0", "up")
    ends = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5)) for _ in (1, 2)]
    for number, end in enumerate(ends, 1):
        end.bind((f"far{number}", 0x88B5))
        end.settimeout(0.05)
    ready = False
    while not ready:  # the bridge lets frames through once it has looked at the port
        ends[1].send(frame_between(2, 1))
        ends[0].send(frame_between(1, 2))
        try:
            ready = bool(ends[1].recv(2000)) and bool(ends[0].recv(2000))
        except TimeoutError:
            continue
    ends[1].settimeout(TIMEOUT_S)
    frame, times = frame_between(1, 2), []
    for _ in range(count + WARM_UP):
        begun = time.perf_counter_ns()
        ends[0].send(frame)
        ends[1].recv(2000)
        times.append(time.perf_counter_ns() - begun)
    started = time.perf_counter()
    for _ in range(count * 10 // STREAM_BATCH):
        for _ in range(STREAM_BATCH):
            ends[0].send(frame)
        for _ in range(STREAM_BATCH):
            ends[1].recv(2000)
    rate = count * 10 // STREAM_BATCH * STREAM_BATCH / (time.perf_counter() - started)
    print(median([float(ns) for ns in times[WARM_UP:]]) / 1000, rate)


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def measure(plan: Plan) -> None:
    """Rows for forwarding alone, and for a hop and a stream beside the bridge."""
    count = plan.effort.device_count // 10
    for repetition in range(plan.effort.repetitions):
        plan.say(f"switch {repetition + 1}/{plan.effort.repetitions}")
        for ports in (2, 1000):
            plan.keep(f"switch.forward.{ports}", "ours", forward_rate(ports, count * 20))
        try:
            for measure_name, value in zip(("hop", "stream"), through_kernel(count), strict=True):
                plan.keep(f"switch.{measure_name}", "ours", value)
        except (RingfenceError, OSError) as error:
            plan.errors.append(f"switch: {error}")
            return
        try:
            for before, flooded in under_flood("all", FLOOD_TURNS, FLOOD_S).pairs:
                plan.keep("switch.flood", WITHOUT_FLOOD, before)
                plan.keep("switch.flood", "ours", flooded)
        except (RingfenceError, OSError) as error:
            plan.errors.append(f"switch.flood: {error}")
        if (beside := bridge(count)) is not None:
            for measure_name, value in zip(("hop", "stream"), beside, strict=True):
                plan.keep(f"switch.{measure_name}", BRIDGE, value)
    add_rows(plan)


def add_rows(plan: Plan) -> None:
    for ports in (2, 1000):
        name = f"switch.forward.{ports}"
        plan.rows.append(absolute(name, "frames/s", median(plan.kept(name, "ours"))))
    if kept := plan.kept("switch.flood", "ours"):
        before = plan.kept("switch.flood", WITHOUT_FLOOD)
        row = compare_runs("switch.flood", "frames/s", Better.HIGH, kept, before, WITHOUT_FLOOD, FLOOD_MUST)
        plan.rows.append(row)
    for measure_name, unit, better in (("hop", "us", Better.LOW), ("stream", "frames/s", Better.HIGH)):
        name = f"switch.{measure_name}"
        ours, theirs = plan.kept(name, "ours"), plan.kept(name, BRIDGE)
        if theirs and len(theirs) == len(ours):
            plan.rows.append(compare_runs(name, unit, better, ours, theirs, BRIDGE))
        else:
            plan.notes.append(f"{name}: no {BRIDGE}: it takes root, unshare and ip")
            plan.rows.append(absolute(name, unit, median(ours)))


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.environ.setdefault("LC_ALL", "C")
    in_namespace(int(sys.argv[1]))
