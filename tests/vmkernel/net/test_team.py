"""Teams of uplinks: load balancing by the published vectors, failover, failback, beacons, and what is told outside."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.vmkernel.net.lab import BROADCAST, SECOND, Lab, address, frame, with_tag
from vmkernel.net import changes
from vmkernel.net.ethernet_spec import TYPE_BEACON
from vmkernel.net.frames import beacon, ip_hash, rarp, whole_ip_hash
from vmkernel.net.policy import LoadBalance, UplinkOrder

NOBODY = address(0xABCDEF)


def ip_frame(source: str, destination: str) -> bytes:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    return bytes(Ether(src="00:0c:29:00:00:01", dst="00:0c:29:00:00:99") / IP(src=source, dst=destination) / UDP())


@pytest.mark.parametrize(
    ("source", "destination", "count", "chosen"),
    [
        ("10.0.0.1", "10.0.0.2", 2, 1), ("10.0.0.1", "10.0.0.3", 2, 0), ("192.168.1.10", "192.168.1.20", 4, 2),
        ("192.168.1.10", "172.16.5.33", 3, 1),
    ],
)  # fmt: skip
def test_the_ip_hash_is_of_the_last_bytes(source, destination, count, chosen):
    assert ip_hash(ip_frame(source, destination), count) == chosen


def test_the_hash_of_whole_addresses_differs():
    assert whole_ip_hash(ip_frame("192.168.1.10", "172.16.5.33"), 3) == 0


def test_ip_hash_takes_what_is_in_the_place_of_addresses_and_short_frames():
    lab = Lab(uplinks=3)
    one = lab.station(lab.group("lan", balance=LoadBalance.IP_HASH), 1)
    lab.left("vmnic0"), lab.left("vmnic1"), lab.left("vmnic2")
    for number in range(3):
        one.send_to(NOBODY, payload=bytes(15) + bytes([number]) + bytes(30))
    one.send(frame(NOBODY, one.address, b""))
    assert [len(lab.left(f"vmnic{number}")) for number in range(3)] == [2, 1, 1]


def test_by_port_each_port_has_the_uplink_of_its_number():
    lab = Lab(uplinks=3)
    lab.group("lan")
    stations = [lab.station("lan", number) for number in range(7)]
    for name in lab.sent:
        lab.left(name)
    for station in stations:
        station.send_to(NOBODY)
    for number in range(3):
        senders = [data[6:12] for data in lab.left(f"vmnic{number}")]
        assert senders == [station.address for station in stations if station.port.number % 3 == number]


def test_by_source_address_it_is_the_last_byte():
    lab = Lab(uplinks=3)
    one = lab.station(lab.group("lan", balance=LoadBalance.SOURCE_MAC), 1)
    for name in lab.sent:
        lab.left(name)
    for number in range(9):
        one.send(frame(NOBODY, address(number)))
    for number in range(3):
        assert {data[11] % 3 for data in lab.left(f"vmnic{number}")} == {number}


def test_explicit_order_uses_the_first_that_works():
    lab = Lab(uplinks=3)
    order = UplinkOrder(("vmnic2", "vmnic0"), ("vmnic1",))
    one = lab.station(lab.group("lan", balance=LoadBalance.EXPLICIT, order=order), 1)
    used = []
    for down in (None, "vmnic2", "vmnic0"):
        if down:
            lab.link(down, False)
        for name in lab.sent:
            lab.left(name)
        one.send_to(NOBODY)
        used += [name for name in lab.sent if lab.left(name)]
    assert used == ["vmnic2", "vmnic0", "vmnic1"]


def test_an_uplink_in_neither_list_is_never_used():
    lab = Lab(uplinks=3)
    order = UplinkOrder(("vmnic0",), ("vmnic1",))
    one = lab.station(lab.group("lan", order=order), 1)
    lab.link("vmnic0", False), lab.link("vmnic1", False)
    lab.left("vmnic2")
    one.send_to(NOBODY)
    assert not lab.left("vmnic2")
    assert lab.drops(one) == {"no_uplink": 1}


def test_a_standby_uplink_takes_the_place_of_an_active_one_and_gives_it_back():
    for failback in (True, False):
        lab = Lab(uplinks=3)
        order = UplinkOrder(("vmnic0", "vmnic1"), ("vmnic2",))
        lab.group("lan", order=order, failback=failback)
        team = lab.network.switches["vSwitch0"].groups["lan"].team
        states = []
        for name, up in (("vmnic0", False), ("vmnic0", True), ("vmnic1", False)):
            lab.link(name, up)
            states.append([uplink.name for uplink in team.in_use])
        if failback:
            assert states == [["vmnic1", "vmnic2"], ["vmnic0", "vmnic1"], ["vmnic0", "vmnic2"]]
        else:
            assert states == [["vmnic1", "vmnic2"], ["vmnic1", "vmnic2"], ["vmnic2", "vmnic0"]]


@pytest.mark.parametrize("balance", LoadBalance)
def test_a_standby_uplink_takes_the_place_of_one_that_was_taken_off_the_switch(balance):
    lab = Lab(uplinks=2)
    lab.group("lan", order=UplinkOrder(("vmnic0",), ("vmnic1",)), balance=balance)
    lab.wanted = changes.remove_nic(lab.wanted, "vmnic0")
    lab.apply()
    assert [uplink.name for uplink in lab.network.switches["vSwitch0"].groups["lan"].team.in_use] == ["vmnic1"]


def test_moved_ports_are_announced_by_rarp_with_their_vlan():
    """RFC 903: a broadcast with the station's own address, which makes switches outside learn where it is."""
    from scapy.layers.l2 import ARP, Ether

    lab = Lab(uplinks=2)
    lab.group("lan", 7)
    one = lab.station("lan", 1)
    home, other = one.port.uplink.name, {"vmnic0": "vmnic1", "vmnic1": "vmnic0"}[one.port.uplink.name]
    assert lab.left(home) == [with_tag(rarp(one.address), 7)] and lab.left(other) == []
    lab.link(home, False)
    assert lab.left(other) == [with_tag(rarp(one.address), 7)]
    lab.link(home, True)
    assert lab.left(home) == [with_tag(rarp(one.address), 7)]
    packet = Ether(rarp(one.address))
    assert (packet.type, packet.dst, packet.src) == (0x8035, "ff:ff:ff:ff:ff:ff", "00:0c:29:00:00:01")
    parts = ARP(rarp(one.address)[14:])
    assert (parts.op, parts.hwsrc, parts.hwdst) == (3, "00:0c:29:00:00:01", "00:0c:29:00:00:01")
    lab.group("lan", 7, notify=False)
    lab.link(home, False)
    assert lab.left(other) == []


def test_failover_under_load_loses_nothing_after_the_link_is_known_to_be_down():
    lab = Lab(uplinks=2)
    stations = [lab.station(lab.group("lan"), number) for number in range(4)]
    for name in lab.sent:
        lab.left(name)
    for turn in range(1000):
        if turn == 300:
            lab.link("vmnic0", False)
        if turn == 700:
            lab.link("vmnic0", True)
        for station in stations:
            station.send_to(NOBODY, payload=turn.to_bytes(4, "big") + bytes(42))
        if 300 <= turn < 700:
            assert not lab.left("vmnic0")
        else:
            assert len([data for data in lab.left("vmnic0") if data[12:14] == b"\x88\xb5"]) == 2
    assert len([data for data in lab.left("vmnic1") if data[12:14] == b"\x88\xb5"]) == 400 * 4 + 600 * 2


def test_copies_of_a_broadcast_from_several_uplinks_arrive_once():
    lab = Lab(uplinks=2)
    one, two = (lab.station(lab.group("lan"), number) for number in (1, 2))
    for name in ("vmnic0", "vmnic1"):
        lab.arrive(frame(BROADCAST, NOBODY), name)
    assert (len(one.take()), len(two.take())) == (1, 1)
    assert lab.drops(one) == lab.drops(two) == {"wrong_uplink": 1}
    for name in ("vmnic0", "vmnic1"):
        lab.arrive(frame(one.address, NOBODY), name)
    assert len(one.take()) == 2


# beacons


class Wire:
    """A switch outside: what leaves by one uplink arrives by those that are not cut off, in all VLANs or in some."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.cut, self.lacks = lab, set(), {}

    def second(self) -> None:
        self.lab.now += SECOND
        self.lab.network.tick(self.lab.now)
        for name in self.lab.sent:
            for data in self.lab.left(name):
                for other in self.lab.sent:
                    if other != name and self.carries(data, name) and self.carries(data, other):
                        self.lab.arrive(data, other)

    def carries(self, data: bytes, name: str) -> bool:
        return name not in self.cut and vlan_of(data) not in self.lacks.get(name, ())


def in_use(lab: Lab, group: str = "lan") -> list[str]:
    return [uplink.name for uplink in lab.network.switches["vSwitch0"].groups[group].team.in_use]


def vlan_of(data: bytes) -> int:
    return int.from_bytes(data[14:16], "big") & 0xFFF if data[12:14] == b"\x81\x00" else 0


def test_beacons_find_the_uplink_that_is_cut_off_behind_its_link():
    lab = Lab(uplinks=3)
    lab.group("lan", beacon=True)
    wire = Wire(lab)
    for _ in range(5):
        wire.second()
    assert in_use(lab) == ["vmnic0", "vmnic1", "vmnic2"]
    wire.cut = {"vmnic1"}
    for _ in range(5):
        wire.second()
    assert in_use(lab) == ["vmnic0", "vmnic2"]
    wire.cut = set()
    for _ in range(3):
        wire.second()
    assert in_use(lab) == ["vmnic0", "vmnic1", "vmnic2"]


def test_beacons_find_the_uplink_that_lacks_one_vlan_only():
    """As where a trunk outside was made without it: its link is up, and other VLANs go through."""
    lab = Lab(uplinks=3)
    for name, vlan, probes in [("lan", 5, True), ("other", 6, True), ("plain", 0, True), ("quiet", 5, False)]:
        lab.group(name, vlan, beacon=probes)
    wire = Wire(lab)
    wire.lacks = {"vmnic1": {5}}
    for _ in range(5):
        wire.second()
    everything = ["vmnic0", "vmnic1", "vmnic2"]
    assert in_use(lab) == ["vmnic0", "vmnic2"]
    assert [in_use(lab, group) for group in ("other", "plain", "quiet")] == [everything] * 3
    switch = lab.network.switches["vSwitch0"]
    assert [switch.deaf_vlans(uplink) for uplink in switch.uplinks] == [[], [5], []]
    wire.lacks = {}
    for _ in range(3):
        wire.second()
    assert in_use(lab) == everything


def test_probes_carry_the_tags_of_the_port_groups_that_want_them():
    lab = Lab(uplinks=2)
    for name, vlan, beacon_wanted in [("lan", 5, True), ("same", 5, True), ("trunk", 4095, True), ("other", 6, False)]:
        lab.group(name, vlan, beacon=beacon_wanted)
    for _ in range(2):
        lab.now += SECOND
        lab.network.tick(lab.now)
    assert [sorted(map(vlan_of, lab.left(name))) for name in ("vmnic0", "vmnic1")] == [[0, 0, 5, 5]] * 2


def test_a_vlan_where_nobody_hears_is_suspect_alone():
    lab = Lab(uplinks=2)
    one, other = lab.station(lab.group("lan", 5, beacon=True), 1), lab.station(lab.group("other", 6, beacon=True), 2)
    wire = Wire(lab)
    wire.lacks = {"vmnic0": {5}}
    for _ in range(5):
        wire.second()
    one.send_to(NOBODY), other.send_to(NOBODY)
    assert sorted(vlan_of(data) for name in lab.sent for data in lab.left(name)) == [5, 5, 6]


def test_when_nobody_hears_anybody_everything_goes_to_every_uplink():
    lab = Lab(uplinks=2)
    one = lab.station(lab.group("lan", beacon=True), 1)
    wire = Wire(lab)
    wire.cut = {"vmnic0", "vmnic1"}
    for _ in range(5):
        wire.second()
    sent = one.send_to(NOBODY)
    assert sent in lab.left("vmnic0") and sent in lab.left("vmnic1")
    wire.cut = set()
    for _ in range(5):
        wire.second()
    one.send_to(NOBODY)
    assert sorted(map(len, (lab.left("vmnic0"), lab.left("vmnic1")))) == [0, 1]


def test_no_port_can_send_a_probe_and_none_sees_one():
    lab = Lab(uplinks=2)
    lab.group("lan", beacon=True, promiscuous=True), lab.group("trunk", 4095)
    one, trunk = lab.station("lan", 1, promiscuous=True), lab.station("trunk", 2)
    for name in lab.sent:
        lab.left(name)
    probe = beacon(one.address, bytes(range(16)), 0, 1)
    one.send(probe), trunk.send(with_tag(probe, 5))
    assert not lab.left("vmnic0") and not lab.left("vmnic1")
    lab.arrive(probe, "vmnic1"), lab.arrive(with_tag(probe, 5), "vmnic1")
    assert not one.take() and not trunk.take()
    assert probe[12:14] == TYPE_BEACON
    lab.arrive(beacon(NOBODY, bytes(16), 0, 1), "vmnic1" if one.port.uplink.name == "vmnic1" else "vmnic0")
    assert len(one.take()) == 1  # another host's is a frame like any other


def test_changing_the_order_moves_ports_at_once():
    lab = Lab(uplinks=2)
    one = lab.station(lab.group("lan"), 1)
    for name in ("vmnic1", "vmnic0"):
        switch = lab.wanted.switches["vSwitch0"]
        lab.wanted = lab.wanted.with_switch(
            "vSwitch0", replace(switch, policy=replace(switch.policy, order=UplinkOrder((name,))))
        )
        lab.apply()
        assert one.port.uplink.name == name
