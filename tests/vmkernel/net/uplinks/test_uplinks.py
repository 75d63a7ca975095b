"""Uplinks: two hosts on one network by datagrams, the NAT, a TAP and an interface in a namespace of the test's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ringfence.errors import HostRefused
from tests.vmkernel.net.ends import NoteTaker, frame_of, station, wait_until
from vmkernel.host.client import KernelPlace
from vmkernel.net import changes
from vmkernel.net.host_network import HostNetwork
from vmkernel.net.network_file import NetworkFile
from vmkernel.net.uplinks.checksums import completed
from vmkernel.net.uplinks.datagrams import DatagramDevice
from vmkernel.net.uplinks.nat import NatDevice
from vmkernel.net.uplinks.place import Nat, UdpLink, UnixLink, parse_place
from vmkernel.net.uplinks.slirp import is_available
from vmx.network_ports import NetworkPorts

ROOT = Path(__file__).parents[4]
BROADCAST = b"\xff" * 6


def free_ports(count: int) -> list[int]:
    """UDP ports of 127.0.0.1 that nobody has."""
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for one in made:
        one.bind(("127.0.0.1", 0))
    numbers = [one.getsockname()[1] for one in made]
    for one in made:
        one.close()
    return numbers


def links(kind: str, folder: Path) -> tuple[str, str]:
    if kind == "unix":
        return f"unix:{folder}/a,{folder}/b", f"unix:{folder}/b,{folder}/a"
    one, two = free_ports(2)
    return f"udp:127.0.0.1:{one},127.0.0.1:{two}", f"udp:127.0.0.1:{two},127.0.0.1:{one}"


Host = Callable[[str, str], tuple[KernelPlace, NetworkPorts]]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Makes a host with one uplink, whose port group `lan` has VLAN 7 and `flat` none."""
    made: list[tuple[KernelPlace, NetworkPorts]] = []

    def make(name: str, uplink: str) -> tuple[KernelPlace, NetworkPorts]:
        folder = tmp_path / name
        folder.mkdir(mode=0o700)

        def network(_: HostNetwork) -> HostNetwork:
            whole = changes.add_switch(HostNetwork(), "vSwitch0")
            whole, nic = changes.add_nic(whole, parse_place(uplink), station(0xFE0000 + len(made)))
            whole = changes.link(whole, nic, "vSwitch0")
            return changes.add_group(changes.add_group(whole, "vSwitch0", "lan", 7), "vSwitch0", "flat")

        NetworkFile(folder / "esx.conf").change(network)
        made.append((KernelPlace(folder, folder / "esx.conf"), NetworkPorts(folder, folder / "esx.conf")))
        return made[-1]

    yield make
    for place, ports in made:
        ports.close()
        with suppress(HostRefused):
            place.stop(force=True)


def link_is(place: KernelPlace, up: bool) -> bool:
    return bool(place.ask("status")["uplinks"][0]["link"]) == up


@pytest.mark.parametrize("kind", ["unix", "udp"])
def test_machines_of_two_hosts_are_on_one_network(host: Host, kind: str, tmp_path: Path) -> None:
    here, there = links(kind, tmp_path)
    (place1, ports1), (place2, ports2) = host("one", here), host("two", there)
    one, far = NoteTaker(ports1.open("lan", station(1), "vm1")), NoteTaker(ports2.open("lan", station(2), "vm2"))
    apart = NoteTaker(ports2.open("flat", station(3), "vm3"))
    wait_until(lambda: link_is(place1, True) and link_is(place2, True))
    sent = [frame_of(station(2), station(1), bytes([number]) * 1500) for number in range(100)]
    for frame in sent:
        one.send(frame)
    assert [frame for frame in far.wait_for(100) if frame[12:14] != b"\x80\x35"][:100] == sent
    far.send(frame_of(BROADCAST, station(2)))
    assert one.wait_for(1)[-1] == frame_of(BROADCAST, station(2)) or one.wait_for(2)
    assert not [frame for frame in apart.frames if frame[12:14] == b"\x88\xb5"]
    place2.stop(force=True)
    one.send(frame_of(station(2), station(1)))
    wait_until(lambda: one.send(frame_of(station(2), station(1))) or link_is(place1, False))
    place2.start()
    wait_until(lambda: link_is(place1, True) and far.links[-1:] == [True])
    count = len(far.frames)
    one.send(frame_of(station(2), station(1)))
    far.wait_for(count + 1)


def test_a_link_takes_nothing_from_strangers(tmp_path: Path) -> None:
    one, two = free_ports(2)
    udp = UdpLink(("127.0.0.1", one), ("127.0.0.1", two))
    devices = [
        (DatagramDevice(udp, station(1)), socket.AF_INET, udp.local),
        (DatagramDevice(UnixLink(f"{tmp_path}/a", f"{tmp_path}/b"), station(1)), socket.AF_UNIX, f"{tmp_path}/a"),
    ]
    for device, family, address in devices:
        with socket.socket(family, socket.SOCK_DGRAM) as stranger:
            if family == socket.AF_UNIX:
                stranger.bind(f"{tmp_path}/stranger")
            with suppress(PermissionError, ConnectionRefusedError):
                stranger.sendto(frame_of(BROADCAST, station(9)), address)
            assert device.receive() == []
        device.close()
    assert not (tmp_path / "a").exists()


def test_a_unix_link_that_a_killed_process_left_is_taken_over_and_one_in_use_is_not(tmp_path: Path) -> None:
    place = UnixLink(f"{tmp_path}/a", f"{tmp_path}/b")
    left = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.bind(place.local)
    with pytest.raises(HostRefused, match="cannot be used: Address already in use"):
        DatagramDevice(place, station(1))
    left.close()
    DatagramDevice(place, station(1)).close()


# NAT


needs_slirp = pytest.mark.skipif(not is_available(), reason="no libslirp.so.0 (package libslirp0)")


def dhcp(kind: str, number: int, **options: object) -> bytes:
    from scapy.layers.dhcp import BOOTP, DHCP
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    packet = Ether(dst="ff:ff:ff:ff:ff:ff", src=station(number).hex(":")) / IP(src="0.0.0.0", dst="255.255.255.255")
    return bytes(
        packet / UDP(sport=68, dport=67) / BOOTP(chaddr=station(number), xid=number)
        / DHCP(options=[("message-type", kind), *options.items(), "end"])
    )  # fmt: skip


def offered(end: NoteTaker, number: int, kind: int) -> str:
    """The address in the answer to DHCP, once there is one."""
    from scapy.layers.dhcp import BOOTP, DHCP
    from scapy.layers.l2 import Ether

    found: list[str] = []

    def look() -> bool:
        for frame in list(end.frames):
            packet = Ether(frame)
            if DHCP in packet and ("message-type", kind) in packet[DHCP].options and packet[BOOTP].xid == number:
                found.append(packet[BOOTP].yiaddr)
        return bool(found)

    wait_until(look)
    return found[0]


@needs_slirp
def test_machines_behind_a_nat_get_an_address_each_and_reach_the_host(host: Host) -> None:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import ARP, Ether

    place, ports = host("nat", "nat")
    ends = [NoteTaker(ports.open("flat", station(number), f"vm{number}")) for number in (1, 2)]
    wait_until(lambda: link_is(place, True))
    addresses = []
    for number, end in enumerate(ends, 1):
        end.send(dhcp("discover", number))
        address = offered(end, number, 2)
        end.send(dhcp("request", number, requested_addr=address))
        assert offered(end, number, 5) == address
        addresses.append(address)
    assert addresses == ["10.0.2.15", "10.0.2.16"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(120)
        one = ends[0]
        ask = Ether(dst="ff:ff:ff:ff:ff:ff", src=station(1).hex(":"))
        one.send(bytes(ask / ARP(psrc=addresses[0], pdst="10.0.2.2", hwsrc=station(1).hex(":"))))
        wait_until(lambda: any(frame[12:14] == b"\x08\x06" for frame in one.frames))
        router = next(frame[6:12] for frame in one.frames if frame[12:14] == b"\x08\x06")
        hello = Ether(dst=router.hex(":"), src=station(1).hex(":")) / IP(src=addresses[0], dst="10.0.2.2")
        one.send(bytes(hello / UDP(sport=5, dport=server.getsockname()[1]) / b"from the machine"))
        data, sender = server.recvfrom(100)
        assert data == b"from the machine"
        server.sendto(b"from the host", sender)
        wait_until(lambda: any(b"from the host" in frame for frame in one.frames))


@needs_slirp
def test_a_nat_whose_port_is_taken_says_so_and_one_whose_process_dies_comes_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        device = NatDevice(parse_place(f"nat:tcp={port}-10.0.2.15:22"))  # type: ignore[arg-type]
        wait_until(lambda: device.receive() == [] and "is not to be had" in device.trouble)
        wait_until(lambda: device.receive() == [] and device.fileno() == -1)
        assert not device.link and "is not to be had" in device.trouble
    wait_until(lambda: device.tick() or device.receive() or device.link)
    assert device._process is not None
    device._process.kill()
    wait_until(lambda: device.receive() == [] and not device.link)
    wait_until(lambda: device.tick() or device.receive() or device.link)
    device.close()


@needs_slirp
def test_a_nat_survives_frames_of_nonsense() -> None:
    import random

    device = NatDevice(Nat())
    wait_until(lambda: device.receive() == [] and device.link)
    pick = random.Random(3)
    for number in range(3000):
        head = BROADCAST + station(1) + pick.choice((b"\x08\x00", b"\x08\x06", b"\x86\xdd"))
        while not device.send(head + pick.randbytes(pick.choice((0, 10, 40, 600, 1500, 3000)))):
            device.receive()
        if number % 100 == 0:
            device.receive()
    device.send(dhcp("discover", 1))
    wait_until(lambda: any(frame[:6] == BROADCAST or frame[36:38] == b"\0\x44" for frame in device.receive()))
    assert device.link
    device.close()


# the host's own interfaces


def in_namespace(scene: str) -> None:
    """Run a scene of in_namespace.py in a network namespace of its own. Skips without the right to have one."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("no unshare and ip (packages util-linux, iproute2)")
    may = subprocess.run(["unshare", "-n", "ip", "tuntap", "add", "dev", "t0", "mode", "tap"], capture_output=True)
    if may.returncode:
        pytest.skip(f"no network namespace with a TAP here: {may.stderr.decode().strip()[-100:]}")
    program = f"from tests.vmkernel.net.uplinks import in_namespace; in_namespace.{scene}()"
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_tap_is_a_network_with_the_host_itself() -> None:
    in_namespace("tap_reaches_the_host")


def test_an_own_port_of_the_host_is_on_the_switch() -> None:
    in_namespace("own_port_is_on_the_switch")


def test_an_interface_carries_tags_and_whole_checksums() -> None:
    in_namespace("interface_carries_tags_and_checksums")


def test_a_tap_that_goes_is_a_link_that_is_down() -> None:
    in_namespace("tap_goes_and_comes")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop its rights")
def test_without_rights_a_tap_is_refused_with_a_hint() -> None:
    program = (
        "import os\n"
        "from ringfence.errors import HostRefused\n"
        "from vmkernel.net.uplinks.tap import TapDevice\n"
        "os.setuid(65534)\n"
        "try: TapDevice('rf0')\n"
        "except HostRefused as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert "TAP rf0: cannot be used: " in said.stdout and "needs no rights" in said.stdout


def test_checksums_are_completed_as_scapy_has_them() -> None:
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    ether = Ether(src="00:0c:29:00:00:01", dst="00:0c:29:00:00:02")
    for network in (IP(src="10.0.0.1", dst="10.0.0.2"), IPv6(src="fe80::1", dst="fe80::2")):
        for transport, at in ((TCP(dport=80), 16), (UDP(dport=53), 6)):
            for payload in (b"", b"x", b"odd", bytes(1000)):
                whole = bytes(ether / network / transport / payload)
                start = 14 + len(network)
                spoilt = whole[: start + at] + b"\x12\x34" + whole[start + at + 2 :]
                assert completed(spoilt) == whole
                assert completed(spoilt + b"pad") == whole + b"pad"
    for length in range(60):
        completed(bytes(ether / IP() / TCP())[:length])
