"""Scenes with the host's own network stack, each run alone in a network namespace: see test_uplinks.py."""

from __future__ import annotations

import selectors
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Interface

from tests.vmkernel.net.ends import wait_until
from tests.vmkernel.net.lab import Lab, Station, address, frame, with_tag
from vmkernel.host.devices import Devices
from vmkernel.net import changes
from vmkernel.net.host_network import HostPort, HostPortKind, Nic
from vmkernel.net.uplinks import host_interface
from vmkernel.net.uplinks.interface import InterfaceDevice
from vmkernel.net.uplinks.place import parse_place
from vmkernel.net.uplinks.tap import TapDevice

STATION_IP, HOST_IP = "10.9.0.2", "10.9.0.1"


def run(*words: str) -> None:
    subprocess.run(words, check=True)


def pump(lab: Lab, device: TapDevice | InterfaceDevice, done: Callable[[], object], answer: Station | None) -> None:
    """Move frames from the device to the switch, and have a station answer, until something has come about."""
    with selectors.DefaultSelector() as selector:
        selector.register(device, selectors.EVENT_READ)

        def round_of_it() -> object:
            selector.select(0.05)
            for data in device.receive():
                lab.arrive(data)
            if answer is not None:
                for data in answer.take():
                    reply(answer, data)
            return done()

        wait_until(round_of_it)


def reply(station: Station, data: bytes) -> None:
    """To ARP for its address, and to UDP with the payload turned round."""
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import ARP, Ether

    packet, own = Ether(data), station.address.hex(":")
    if ARP in packet and packet[ARP].op == 1 and packet[ARP].pdst == STATION_IP:
        body = ARP(op=2, hwsrc=own, psrc=STATION_IP, hwdst=packet.src, pdst=packet[ARP].psrc)
        station.send(bytes(Ether(src=own, dst=packet.src) / body))
    elif UDP in packet and packet[IP].dst == STATION_IP:
        udp = packet[UDP]
        body = IP(src=STATION_IP, dst=packet[IP].src) / UDP(sport=udp.dport, dport=udp.sport) / bytes(udp.payload)[::-1]
        station.send(bytes(Ether(src=own, dst=packet.src) / body))


def wired(lab: Lab, device: TapDevice | InterfaceDevice) -> None:
    lab.network.uplinks["vmnic0"].send = device.send


def echo(lab: Lab, device: TapDevice | InterfaceDevice, station: Station | None, port: int = 7) -> None:
    """The host sends a datagram and gets it back turned round."""
    got: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0)
        client.connect((STATION_IP, port))
        client.send(b"forwards")

        def look() -> bool:
            try:
                got.append(client.recv(100))
            except BlockingIOError:
                return False
            return True

        pump(lab, device, look, station)
    assert got == [b"sdrawrof"]


def tap_reaches_the_host() -> None:
    device = TapDevice("rf0")
    assert device.link
    host_interface.set_ip("rf0", IPv4Interface(f"{HOST_IP}/24"))
    lab = Lab()
    station = lab.station(lab.group("lan"), 1)
    wired(lab, device)
    echo(lab, device, station)
    device.close()
    assert not host_interface.is_running("rf0")


def tap_goes_and_comes() -> None:
    run("ip", "tuntap", "add", "dev", "rf0", "mode", "tap")
    device = TapDevice("rf0")
    assert device.link
    run("ip", "link", "set", "rf0", "down")
    device.tick()
    assert not device.link and device.trouble == "TAP rf0 is down"
    assert not device.send(bytes(60)) and device.receive() == []
    run("ip", "link", "set", "rf0", "up")
    device.tick()
    assert device.link
    run("ip", "link", "del", "rf0")
    device.receive()
    assert device.fileno() == -1 and not device.link
    device.tick()
    device.tick()
    assert device.fileno() >= 0 and device.link  # made again
    device.close()


def own_port_is_on_the_switch() -> None:
    lab = Lab()
    station = lab.station(lab.group("lan"), 1)
    port = HostPort("vmk0", HostPortKind.VMKERNEL, "lan", address(0x50), IPv4Interface(f"{HOST_IP}/24"), mtu=1400)
    lab.wanted = changes.add_host_port(lab.wanted, port)
    devices = Devices(lab.network)
    plain = replace(lab.wanted, nics={}, switches={"vSwitch0": replace(lab.wanted.switches["vSwitch0"], uplinks=())})
    lab.network.apply(plain, lab.now)
    devices.apply(plain, lab.now)
    assert devices.own_troubles == {}
    own = devices.own_ports["vmk0"]

    class Bridge:
        """The port's TAP, read as the VMkernel's process reads it."""

        fileno = own.tap.fileno

        @staticmethod
        def receive() -> list[bytes]:
            for data in own.tap.receive():
                assert own.port is not None
                lab.network.switches["vSwitch0"].transmit(own.port, data, lab.now)
            return []

    echo(lab, Bridge(), station)  # type: ignore[arg-type]
    shown = subprocess.run(["ip", "-o", "addr", "show", "vmk0"], check=True, capture_output=True, text=True).stdout
    assert f"inet {HOST_IP}/24" in shown
    link = subprocess.run(["ip", "-o", "link", "show", "vmk0"], check=True, capture_output=True, text=True).stdout
    assert "mtu 1400" in link and address(0x50).hex(":") in link
    devices.close()
    assert not own.port.is_on  # type: ignore[union-attr]


def interface_carries_tags_and_checksums() -> None:
    """A veth, whose other end is the host. It leaves checksums to hardware; the kernel takes tags off on the way."""
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    run("ip", "link", "add", "h0", "type", "veth", "peer", "name", "rf0")
    for name in ("h0", "rf0"):
        run("ip", "link", "set", name, "up")
    run("ip", "addr", "add", f"{HOST_IP}/24", "dev", "h0")
    lab = Lab()
    lab.wanted = replace(lab.wanted, nics={"vmnic0": Nic("vmnic0", address(0xF0), parse_place("interface:rf0"))})
    lab.apply()
    lab.link("vmnic0", True)
    station, blue = lab.station(lab.group("flat"), 1), lab.station(lab.group("blue", 5), 2)
    watcher = lab.station(lab.group("trunk", 4095, promiscuous=True), 3, promiscuous=True)
    device = InterfaceDevice("rf0")
    assert device.link
    wired(lab, device)
    echo(lab, device, station)
    datagrams = [data for data in watcher.take() if b"forwards" in data and UDP in Ether(data)]
    assert datagrams
    packet = Ether(datagrams[0])
    found = packet[UDP].chksum
    del packet[UDP].chksum
    assert Ether(bytes(packet))[UDP].chksum == found and packet[IP].dst == STATION_IP
    assert not any(b"forwards" in data for data in blue.take())
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as host:
        host.bind(("h0", 3))  # ETH_P_ALL
        plain = frame(b"\xff" * 6, address(9), b"tagged".ljust(46))
        high = with_tag(plain, 5 | 3 << 13)
        host.send(high)
        pump(lab, device, lambda: plain in blue.take(), None)
        assert high in watcher.take() and plain not in station.take()
        station.send_to(b"\xff" * 6, payload=b"plain".ljust(46))
        host.settimeout(60)
        while b"plain" not in host.recv(2000):
            pass
    run("ip", "link", "set", "h0", "down")
    device.tick()
    assert not device.link
    device.close()
