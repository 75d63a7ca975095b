"""The VMkernel's process: machines through it, back-pressure, hostile clients, death of either side, idleness."""

from __future__ import annotations

import os
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ringfence.errors import BadOption, HostRefused
from tests.vmkernel.net.ends import NoteTaker, frame_of, station, wait_until
from vmkernel.host.client import KernelPlace, NotRunning
from vmkernel.host.messages import frames_in, frames_message, request, wanted_message
from vmkernel.host.messages_layout import FRAME_BYTES_MAX, SOCKET_NAME, VERSION, Kind
from vmkernel.net.port import Wanted
from vmx.network_ports import NetworkPorts

CONFIGURATION = """\
/net/vswitch/child[0000]/name = "vSwitch0"
/net/vswitch/child[0000]/numPorts = "16"
/net/vswitch/child[0000]/portgroup/child[0000]/name = "lan"
/net/vswitch/child[0000]/portgroup/child[0001]/name = "slow"
/net/vswitch/child[0000]/portgroup/child[0001]/shapingPolicy/enabled = "true"
/net/vswitch/child[0000]/portgroup/child[0001]/shapingPolicy/averageBandwidth = "40000000"
/net/vswitch/child[0000]/portgroup/child[0001]/shapingPolicy/peakBandwidth = "40000000"
/net/vswitch/child[0000]/portgroup/child[0001]/shapingPolicy/burstSize = "10000"
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[KernelPlace]:
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "esx.conf").write_text(CONFIGURATION)
    here = KernelPlace(tmp_path / "run", tmp_path / "esx.conf")
    yield here
    with suppress(HostRefused):
        here.stop(force=True)
    assert not here.log.exists() or here.log.read_text() == ""


@pytest.fixture
def ports(place: KernelPlace) -> Iterator[NetworkPorts]:
    network = NetworkPorts(place.directory, place.configuration)
    yield network
    network.close()


def pair(ports: NetworkPorts, group: str = "lan") -> tuple[NoteTaker, NoteTaker]:
    one, two = (NoteTaker(ports.open(group, station(number), f"vm{number}")) for number in (1, 2))
    return one, two


def test_the_first_port_starts_it_and_frames_pass_both_ways(ports: NetworkPorts) -> None:
    one, two = pair(ports)
    assert one.on and two.on
    sent = [frame_of(station(2), station(1), bytes([number]) * 46) for number in range(200)]
    for frame in sent:
        one.send(frame)
    assert two.wait_for(200) == sent
    two.send(frame_of(station(1), station(2)))
    assert one.wait_for(1) == [frame_of(station(1), station(2))]


def test_a_frame_in_pieces_arrives_whole(ports: NetworkPorts) -> None:
    one, two = pair(ports)
    frame = frame_of(station(2), station(1), bytes(range(256)) * 5)
    views = [memoryview(frame)[at : at + 7] for at in range(0, len(frame), 7)]
    assert one.port.send(views)
    assert two.wait_for(1) == [frame]


def test_a_port_without_a_cable_receives_nothing(ports: NetworkPorts) -> None:
    one, two = pair(ports)
    two.port.disconnect()
    one.send(frame_of(station(2), station(1)))
    one.send(frame_of(b"\xff" * 6, station(1)))
    wait_until(lambda: counters(ports.place, "vm1")["frames_out"] == 2)
    assert two.frames == []
    assert counters(ports.place, "vm2")["frames_in"] == 0


def listening(place: KernelPlace, label: str) -> bool:
    groups = place.ask("status")["switches"][0]["groups"]
    return any(port["receiving"] for group in groups for port in group["ports"] if port["client"] == label)


def counters(place: KernelPlace, label: str) -> dict[str, int]:
    groups = place.ask("status")["switches"][0]["groups"]
    return next(port["counters"] for group in groups for port in group["ports"] if port["client"] == label)


def test_a_group_that_is_not_there_or_full_is_a_clear_error(ports: NetworkPorts) -> None:
    with pytest.raises(BadOption, match=r"^port group 'wan': expected one of this host: lan, slow$"):
        ports.open("wan", station(1), "vm1")
    for number in range(8):
        ports.open("lan", station(number), f"vm{number}")
    with pytest.raises(BadOption, match=r"^port group 'lan': vSwitch0 is full: all of its 8 ports are used$"):
        ports.open("lan", station(9), "vm9")


def test_a_damaged_configuration_is_one_line_and_no_process_stays(place: KernelPlace, ports: NetworkPorts) -> None:
    place.configuration.write_text("/net/vswitch/child[0000]/name = oops\n")
    with pytest.raises(HostRefused, match=r"esx.conf:1: line: expected /path/of/key"):
        ports.open("lan", station(1), "vm1")
    with pytest.raises(NotRunning):
        place.ask("status")


def test_a_machine_above_its_bandwidth_is_told_to_wait_and_loses_nothing(ports: NetworkPorts) -> None:
    slow, fast = NoteTaker(ports.open("slow", station(1), "slow")), NoteTaker(ports.open("lan", station(2), "fast"))
    count, refusals = 2500, 0
    for number in range(count):
        frame = frame_of(station(2), station(1), number.to_bytes(4, "big") + bytes(982))  # 0.2 ms each
        if not slow.port.send([memoryview(frame)]):
            refusals += 1
            slow.send(frame)
    assert [int.from_bytes(frame[14:18], "big") for frame in fast.wait_for(count)] == list(range(count))
    assert refusals > 0


def test_when_the_process_dies_links_go_down_and_the_next_one_takes_the_ports_up(ports: NetworkPorts) -> None:
    one, two = pair(ports)
    os.kill(ports.place.ask("status")["pid"], signal.SIGKILL)
    wait_until(lambda: one.links == [False, True] and two.links == [False, True])
    one.send(frame_of(station(2), station(1)))
    assert two.wait_for(1) == [frame_of(station(2), station(1))]


def test_a_stopped_process_is_not_started_by_its_machines(place: KernelPlace, ports: NetworkPorts) -> None:
    one, _ = pair(ports)
    place.stop(force=True)
    wait_until(lambda: one.links[-1:] == [False])
    assert not one.port.waits_for_room
    assert one.port.send([memoryview(frame_of(station(2), station(1)))])  # lost, as in a cable that leads nowhere
    with pytest.raises(NotRunning):
        place.ask("status")
    place.start()
    wait_until(lambda: one.links[-1:] == [True])


def test_a_machine_that_dies_gives_its_port_back(place: KernelPlace, ports: NetworkPorts) -> None:
    one = NoteTaker(ports.open("lan", station(1), "vm1"))
    connection, answer = place.open("port", start=False, group="lan", address="00:0c:29:00:00:02", label="vm2")
    assert answer == {"port": 1, "on": True}
    connection.close()
    wait_until(lambda: len(place.ask("status")["switches"][0]["groups"][0]["ports"]) == 1)
    assert one.on


def test_it_ends_by_itself_when_nobody_is_left_unless_it_is_to_stay(place: KernelPlace) -> None:
    ports = NetworkPorts(place.directory, place.configuration)
    ports.open("lan", station(1), "vm1")
    ports.close()
    pid = place.ask("status")["pid"]
    wait_until(lambda: not (place.directory / SOCKET_NAME).exists())
    assert place.start(stay=True)
    assert place.ask("status")["pid"] != pid
    assert place.ask("status")["stay"]
    assert not place.start()


# hostile clients


def raw(place: KernelPlace) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(120)
    connection.connect(str(place.directory / SOCKET_NAME))
    return connection


def port_request(number: int) -> bytes:
    fields = {"verb": "port", "group": "lan", "address": station(number).hex(":"), "label": "x"}
    return request({"version": VERSION, **fields})


STATION = station(1).hex(":")
NONSENSE = [
    b"\x00", b"\xff" * 100, b"\x03\x05\x00abcde", b"\x04", b"\x01", b"\x01{", b"\x01[]", b"\x01" + b"[" * 60000,
    b"\x01" + b"9" * 60000, request({"version": 99, "verb": "status"}), request({"version": VERSION}),
    request({"version": VERSION, "verb": "port"}), request({"version": VERSION, "verb": "port", "group": 5}),
    request({"version": VERSION, "verb": "port", "group": "lan", "address": "x", "label": ""}),
    request({"version": VERSION, "verb": "port", "group": "lan", "address": "ff:ff:ff:ff:ff:ff", "label": ""}),
    request({"version": VERSION, "verb": "port", "group": "lan", "address": STATION, "label": "", "wanted": 5}),
    request({"version": VERSION, "verb": "capture", "kind": "group", "name": "\udcff"}),
    request({"version": VERSION, "verb": "capture", "kind": "port", "name": "vSwitch0/9"}),
    request({"version": VERSION, "verb": ["stop"], "force": True}), b"\x01" + b" " * 66000,
]  # fmt: skip


def test_a_request_that_makes_no_sense_ends_its_own_connection_only(place: KernelPlace) -> None:
    place.start(stay=True)
    for message in NONSENSE:
        with raw(place) as connection:
            connection.send(message)
            while connection.recv(1 << 16):
                pass
    assert place.ask("status")["clients"] == 0


def test_nonsense_from_a_machine_ends_its_own_connection_only(place: KernelPlace, ports: NetworkPorts) -> None:
    one, two = pair(ports)
    pick = random.Random(5)
    for turn in range(60):
        with raw(place) as connection:
            connection.send(port_request(3))
            connection.recv(1 << 16)
            for _ in range(20):
                kind = pick.choice((Kind.FRAMES, Kind.FRAMES, Kind.WANTED, pick.randrange(256)))
                body = pick.randbytes(pick.randrange(80))
                if turn % 2:
                    body = struct.pack("<H", pick.choice((0, len(body), 65535, FRAME_BYTES_MAX))) + body
                try:
                    connection.send(bytes([kind]) + body)
                except OSError:
                    break
    one.send(frame_of(station(2), station(1)))
    wait_until(lambda: frame_of(station(2), station(1)) in two.frames)
    wait_until(lambda: len(place.ask("status")["switches"][0]["groups"][0]["ports"]) == 2)


def test_clients_that_say_nothing_or_never_read_do_not_hold_anybody_up(place: KernelPlace, ports: NetworkPorts) -> None:
    one, two = pair(ports)
    silent = [raw(place) for _ in range(50)]
    with raw(place) as deaf:
        deaf.send(port_request(3))
        deaf.send(b"\x04" + station(3) + b"\x07" + bytes(8))
        wait_until(lambda: listening(place, "x"))
        for _ in range(4000):
            one.send(frame_of(station(3), station(1), bytes(1400)))
        one.send(frame_of(station(2), station(1)))
        two.wait_for(1)
        assert counters(place, "x")["drops"].get("full", 0) > 0  # type: ignore[attr-defined]
    for connection in silent:
        connection.close()


def test_a_flood_costs_others_no_frame(place: KernelPlace, ports: NetworkPorts) -> None:
    one, two = pair(ports)
    program = "import sys; from tests.vmkernel.host.test_kernel import flood; flood(sys.argv[1], sys.argv[2])"
    words = [sys.executable, "-c", program, str(place.directory), str(place.configuration)]
    with subprocess.Popen(words, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE) as flooding:
        assert flooding.stdout is not None and flooding.stdout.readline() == b"flooding\n"
        before = counters(place, "flood")["frames_out"]
        sent = [frame_of(station(2), station(1), number.to_bytes(4, "big") + bytes(42)) for number in range(3000)]
        for number, frame in enumerate(sent):
            one.send(frame)
            if number % 500 == 499:  # no more than the receiver's queue holds
                two.wait_for(number + 1)
        assert two.wait_for(len(sent)) == sent
        assert counters(place, "flood")["frames_out"] > before
        flooding.kill()


def flood(directory: str, configuration: str) -> None:
    """In a process of its own: broadcasts and frames for nobody, as fast as it can."""
    network = NetworkPorts(Path(directory), Path(configuration))
    port = network.open("lan", station(9), "flood")
    frames = [[memoryview(frame_of(destination, station(9)))] for destination in (station(8), station(7), station(9))]
    sys.stdout.write("flooding\n")
    sys.stdout.flush()
    while True:
        for frame in frames:
            port.send(frame)


def test_frames_are_packed_and_taken_apart_again() -> None:
    frames = [bytes([number % 256]) * (14 + number * 37 % 9000) for number in range(100)]
    messages, left = [], frames
    while left:
        message, count = frames_message(left)
        messages.append(message)
        left = left[count:]
    assert [frame for message in messages for frame in frames_in(memoryview(message))] == frames
    assert len(messages) < 20 and max(map(len, messages)) <= 1 << 16


@pytest.mark.long
def test_shaping_holds_its_average_over_ten_seconds_and_its_burst_in_real_time(place: KernelPlace) -> None:
    """A sender that always has a frame: the burst of 2 MB at 40 Mbit/s, then 8 Mbit/s. Bounds: 5 % and 3 %."""
    average, peak, burst, length = 8_000_000, 40_000_000, 2_000_000, 1000
    kind = "portgroup/child[0001]/shapingPolicy"
    text = place.configuration.read_text()
    for key, value in (("averageBandwidth", average), ("peakBandwidth", peak), ("burstSize", burst)):
        text = re.sub(rf'{re.escape(kind)}/{key} = "\d+"', f'{kind}/{key} = "{value}"', text)
    place.configuration.write_text(text)
    place.start(stay=True)
    told = wanted_message(Wanted(station(2), receiving=True, unicast=True)).hex()
    slow, _ = place.open("port", start=False, group="slow", address=station(1).hex(":"), label="slow")
    fast, _ = place.open(
        "port", start=False, group="lan", address=station(2).hex(":"), label="fast", wanted=told
    )
    message, _ = frames_message([frame_of(station(2), station(1), bytes(length - 14))])
    slow.setblocking(False)
    rows: list[tuple[float, int]] = []
    lasts = burst * 8 / (peak - average)
    begun, got = time.monotonic(), 0
    while (now := time.monotonic() - begun) < lasts + 12:
        with suppress(BlockingIOError):
            while True:
                slow.send(message)
        if select.select([fast], [], [], 0.005)[0]:
            got += sum(map(len, frames_in(memoryview(fast.recv(1 << 16)))))
            rows.append((now, got))
    at_peak = [(at, count) for at, count in rows if at < 0.9 * lasts]
    sent_in_burst = next(count for at, count in rows if at >= lasts)
    later = [(at, count) for at, count in rows if lasts + 2 <= at <= lasts + 12]
    rate = (later[-1][1] - later[0][1]) * 8 / (later[-1][0] - later[0][0])
    beyond = sent_in_burst - average / 8 * lasts
    peaked = at_peak[-1][1] * 8 / at_peak[-1][0]
    figures = f"average {rate / average:.4f}, burst {beyond / burst:.4f}, peak {peaked / peak:.4f}"
    sys.stdout.write(f"{figures} of what is configured\n")
    assert rate == pytest.approx(average, rel=0.03)
    assert beyond == pytest.approx(burst, rel=0.05)
    slow.close()
    fast.close()
