"""A network for tests: stations that note what they receive, uplinks that note what leaves, and frames to send."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vmkernel.net.host_network import HostNetwork, Nic, PortGroup, VirtualSwitch
from vmkernel.net.network import Network
from vmkernel.net.policy import Overrides, Policy
from vmkernel.net.port import Port, Wanted
from vmkernel.net.uplinks.place import parse_place

TOKEN = bytes(range(16))
BROADCAST = b"\xff" * 6
ALL_HASHES = (1 << 64) - 1
START_NS = (1 << 40) - 5
SECOND = 1_000_000_000


def address(number: int) -> bytes:
    return bytes.fromhex("000c29") + number.to_bytes(3, "big")


def frame(destination: bytes, source: bytes, payload: bytes = b"x" * 46, kind: int = 0x88B5) -> bytes:
    """88B5 is for local experiments. [IEEE 802]"""
    return destination + source + kind.to_bytes(2, "big") + payload


def with_tag(plain: bytes, vlan: int, tpid: int = 0x8100) -> bytes:
    return plain[:12] + tpid.to_bytes(2, "big") + vlan.to_bytes(2, "big") + plain[12:]


class Station:
    """Something in a port. `room` is how many frames it still takes."""

    def __init__(self, lab: Lab, group: str, number: int, **wanted: Any) -> None:
        self.lab, self.address, self.room = lab, address(number), 1 << 30
        self.received: list[bytes] = []
        self.on = True
        self.port: Port = lab.network.open(group, self.address, self, f"station {number}", lab.now)
        usual = {"receiving": True, "unicast": True, "broadcast": True, "hashes": ALL_HASHES}
        self.want(Wanted(self.address, **(usual | wanted)))

    def deliver(self, data: bytes) -> bool:
        if self.room <= 0:
            return False
        self.room -= 1
        self.received.append(data)
        return True

    def switched(self, on: bool) -> None:
        self.on = on

    def want(self, wanted: Wanted) -> None:
        switch = self.lab.network.switch_of(self.port)
        assert switch is not None
        switch.want(self.port, wanted, self.lab.now)

    def send(self, data: bytes) -> None:
        switch = self.lab.network.switch_of(self.port)
        assert switch is not None
        switch.transmit(self.port, data, self.lab.now)

    def send_to(self, destination: bytes, **more: Any) -> bytes:
        data = frame(destination, self.address, **more)
        self.send(data)
        return data

    def take(self) -> list[bytes]:
        """What has come since the last time."""
        taken, self.received = self.received, []
        return taken


class Lab:
    """One switch with `uplinks` uplinks, whose links are up."""

    def __init__(self, uplinks: int = 1, ports: int = 56, mtu: int = 1500, policy: Policy | None = None) -> None:
        self.now = START_NS
        self.network = Network(TOKEN)
        names = [f"vmnic{number}" for number in range(uplinks)]
        nics = {name: Nic(name, address(0xF00000 + number), parse_place(f"tap:t{number}"))
                for number, name in enumerate(names)}  # fmt: skip
        switch = VirtualSwitch(ports, mtu, tuple(names), policy or Policy())
        self.wanted = HostNetwork({"vSwitch0": switch}, nics)
        self.sent: dict[str, list[bytes]] = {name: [] for name in names}
        self.apply()
        for name in names:
            self.network.uplinks[name].send = self.sender(name)
            self.link(name, True)

    def sender(self, name: str) -> Any:
        def send(data: bytes) -> bool:
            self.sent[name].append(data)
            return True

        return send

    def apply(self) -> None:
        self.wanted.check()
        self.network.apply(self.wanted, self.now)

    def group(self, name: str, vlan: int = 0, **overrides: Any) -> str:
        switch = self.wanted.switches["vSwitch0"]
        group = PortGroup(vlan, Overrides(**overrides))
        self.wanted = self.wanted.with_switch("vSwitch0", replace(switch, groups={**switch.groups, name: group}))
        self.apply()
        return name

    def station(self, group: str, number: int, **wanted: Any) -> Station:
        return Station(self, group, number, **wanted)

    def link(self, name: str, up: bool) -> None:
        self.network.set_link(name, up, self.now)

    def arrive(self, data: bytes, name: str = "vmnic0") -> None:
        self.network.receive(name, data, self.now)

    def left(self, name: str = "vmnic0") -> list[bytes]:
        """What has left by an uplink since the last time."""
        taken = self.sent[name]
        self.sent[name] = []
        return taken

    def drops(self, station: Station) -> dict[str, int]:
        return station.port.counters.as_json()["drops"]  # type: ignore[return-value]
