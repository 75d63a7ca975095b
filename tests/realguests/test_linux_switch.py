"""Linux guests on one virtual switch: pings, TCP, IPv6, groups, VLANs and lengths, by Debian's pcnet32 and busybox.

All machines of a module are the same; what differs from test to test is what their port groups are, which changes while
they run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.realguests import iso
from tests.realguests.lan import (
    APPEND,
    SWITCH,
    BulkTransfer,
    Host,
    LanMachine,
    Transfer,
    host_with,
    network,
    started,
    told,
)
from tests.vmkernel.net.ends import wait_until
from vmkernel.net import changes
from vmkernel.net.host_network import HostNetwork

MakeBoot = Callable[[str, str], iso.Boot]
Lan = tuple[Host, list[LanMachine]]
GROUPS = ("one", "two", "three")
ENGINES = ("direct", "interp")
SHORT_MIB, LONG_MIB = 16, 1024
TAG, OTHER_TAG, TRUNK = 105, 106, 4095
MTU, SMALL_MTU = 1500, 1400
FULL_PING, JUMBO_PING = MTU - 28, 9000 - 28  # bytes in an IPv4 echo request as long as the MTU


@pytest.fixture(scope="module", params=ENGINES)
def lan(request: pytest.FixtureRequest, raw_boot: MakeBoot) -> Iterator[Lan]:
    """Three machines, each in a port group of its own."""
    boot = raw_boot("686", APPEND)
    with host_with(network(dict.fromkeys(GROUPS, 0))) as host:
        machines = [LanMachine(host, number, boot, request.param, (group,)) for number, group in enumerate(GROUPS, 1)]
        started(machines)
        yield host, machines


def set_vlans(host: Host, *vlans: int) -> None:
    """Of the machines' port groups, in their order."""

    def action(whole: HostNetwork) -> HostNetwork:
        for group, vlan in zip(GROUPS, vlans, strict=True):
            whole = changes.set_vlan(whole, group, vlan)
        return whole

    host.change(action)


def drops(host: Host, machine: LanMachine, reason: str) -> int:
    return int(host.counters(machine)["drops"].get(reason, 0))


def test_machines_of_both_engines_exchange_a_file(raw_boot: MakeBoot) -> None:
    boot = raw_boot("686", APPEND)
    with host_with(network({"lan": 0})) as host:
        machines = [LanMachine(host, number, boot, engine) for number, engine in enumerate(ENGINES, 1)]
        started(machines)
        one, two = machines
        assert one.pings(f"-s {FULL_PING} {two.ip}") == 3
        Transfer(one, two, 4).finish()
        Transfer(two, one, 4, to=one.ip6).finish()
        assert not one.complaints() and not two.complaints()


@pytest.mark.long
def test_pings_of_every_length_are_answered(lan: Lan) -> None:
    host, (one, two, _) = lan
    for size in (0, 1, 18, 56, 500, 1000, FULL_PING):
        assert one.pings(f"-s {size} {two.ip}") == 3, size
    said = one.ask(f"ping -q -c 500 -i 0.01 -s 1000 {two.ip}")
    told(said.splitlines()[-1])
    assert "500 packets received" in said
    assert host.counters(one)["dropped"] == host.counters(two)["dropped"] == 0


@pytest.mark.long
def test_ipv6_finds_its_neighbours(lan: Lan) -> None:
    _, (one, two, three) = lan
    for other in (two, three):
        assert one.pings(f"-s {FULL_PING - 20} {other.ip6}") == 3
        link_local = other.ask("ip -6 addr show dev eth0 scope link").split("inet6 ")[1].split("/")[0]
        assert one.pings(f"{link_local}%eth0") == 3
    assert f"00:0c:29:00:00:0{two.number}" in one.ask("ip -6 neigh")


@pytest.mark.long
def test_a_group_is_heard_by_its_members_only(lan: Lan) -> None:
    """Who has an IPv6 address is in the group of those that have its last 24 bits, as MLD and the adapter know."""
    host, (one, two, three) = lan
    assert one.pings(f"{two.group6}%eth0") == 3
    before = host.counters(three)["frames_in"]
    assert one.pings(f"-s 1000 {two.group6}%eth0") == 3
    assert host.counters(three)["frames_in"] == before
    two.ask(f"ip addr del {two.ip6}/64 dev eth0")
    assert one.pings(f"{two.group6}%eth0") == 0
    three.ask(f"ip addr add {two.ip6}/64 dev eth0")
    assert one.pings(f"{two.group6}%eth0") == 3
    three.ask(f"ip addr del {two.ip6}/64 dev eth0")
    two.ask(f"ip addr add {two.ip6}/64 dev eth0")
    for machine in (two, three):
        machine.ask("echo 0 >/proc/sys/net/ipv4/icmp_echo_ignore_broadcasts")
    answers = one.ask("ping -c 3 -W 2 -I eth0 224.0.0.1", status=None)
    assert all(f"from {machine.ip}:" in answers for machine in (two, three)), answers


@pytest.mark.long
def test_vlans_are_apart_and_change_under_running_machines(lan: Lan) -> None:
    host, (one, two, three) = lan
    set_vlans(host, TAG, TAG, OTHER_TAG)
    assert one.reaches(two) and two.reaches(one)
    before = host.counters(three)["frames_in"]
    assert not one.reaches(three) and not three.reaches(two)
    assert host.counters(three)["frames_in"] == before
    set_vlans(host, TAG, OTHER_TAG, OTHER_TAG)
    assert two.reaches(three) and not one.reaches(two)
    set_vlans(host, 0, 0, 0)
    assert one.reaches(two) and one.reaches(three)


@pytest.mark.long
def test_a_guest_tags_its_own_frames_in_a_trunk_and_loses_them_elsewhere(lan: Lan) -> None:
    host, (one, two, three) = lan
    set_vlans(host, TRUNK, TAG, OTHER_TAG)
    tagged = {}
    for vlan, other in ((TAG, two), (OTHER_TAG, three)):
        one.ask(f"ip link add link eth0 name v{vlan} type vlan id {vlan}; ip link set v{vlan} up")
        one.ask(f"ip addr add 10.9.{vlan}.1/24 dev v{vlan}")
        other.ask(f"ip addr add 10.9.{vlan}.2/24 dev eth0")
        tagged[vlan] = f"10.9.{vlan}.2"
    for address in tagged.values():
        assert one.pings(address) == 3
        assert one.pings(f"-s {FULL_PING} {address}") == 3
    assert not two.reaches(three)
    assert not one.reaches(two)  # without a tag
    set_vlans(host, TAG, TAG, TAG)  # a tag of the very VLAN is one too many
    before = drops(host, one, "vlan")
    assert one.pings(tagged[TAG]) == 0
    assert drops(host, one, "vlan") > before
    assert one.reaches(two)
    set_vlans(host, 0, 0, 0)
    for vlan, other in ((TAG, two), (OTHER_TAG, three)):
        one.ask(f"ip link del v{vlan}")
        other.ask(f"ip addr del 10.9.{vlan}.2/24 dev eth0")


@pytest.mark.long
def test_frames_longer_than_the_switch_s_mtu_are_dropped_and_counted(lan: Lan) -> None:
    """pcnet32 refuses an MTU above 1,500, so it is the switch's that gets smaller."""
    host, (one, two, _) = lan
    one.ask("ip link set eth0 mtu 9000", status=None)
    assert one.ask("cat /sys/class/net/eth0/mtu") == str(MTU)
    before = drops(host, one, "giant")
    assert one.pings(f"-s {FULL_PING} {two.ip}") == 3
    assert one.pings(f"-s {JUMBO_PING} {two.ip}") == 3  # in fragments
    assert drops(host, one, "giant") == before
    host.change(lambda whole: changes.set_mtu(whole, SWITCH, SMALL_MTU))
    assert one.pings(f"-s {FULL_PING} {two.ip}") == 0
    assert drops(host, one, "giant") == before + 3
    assert one.pings(f"-s {FULL_PING - MTU + SMALL_MTU} {two.ip}") == 3
    host.change(lambda whole: changes.set_mtu(whole, SWITCH, MTU))
    assert one.pings(f"-s {FULL_PING} {two.ip}") == 3


@pytest.mark.long
def test_tcp_carries_everything_both_ways(lan: Lan) -> None:
    _, (one, two, _) = lan
    before = [machine.errors() for machine in (one, two)]
    for sender, receiver, to in ((one, two, two.ip), (two, one, one.ip), (one, two, two.ip6), (two, one, one.ip6)):
        rate = Transfer(sender, receiver, SHORT_MIB, to).finish()
        told(f"{sender.name} to {to}: {rate:.1f} MB/s")
    assert [machine.errors() for machine in (one, two)] == before
    assert not one.complaints() and not two.complaints()


@pytest.mark.long
def test_a_gibibyte_by_tcp_each_way(raw_boot: MakeBoot) -> None:
    boot = raw_boot("686", APPEND)
    with host_with(network({"lan": 0})) as host:
        one, two = machines = [LanMachine(host, number, boot) for number in (1, 2)]
        started(machines)
        for sender, receiver in ((one, two), (two, one)):
            rate = BulkTransfer(sender, receiver, LONG_MIB).finish()
            told(f"{sender.name} to {receiver.name}: {rate:.1f} MB/s")
        for machine in machines:
            told(f"{machine.name}: {host.counters(machine)}")
            assert machine.errors() == 0 and not machine.complaints()


@pytest.mark.long
def test_a_port_is_there_again_when_the_vmkernel_was_killed_under_a_transfer(raw_boot: MakeBoot) -> None:
    boot = raw_boot("686", APPEND)
    with host_with(network({"lan": 0})) as host:
        one, two = machines = [LanMachine(host, number, boot) for number in (1, 2)]
        started(machines)
        transfer = Transfer(one, two, SHORT_MIB)
        wait_until(lambda: host.counters(two)["bytes_in"] > 4 << 20)
        host.kill_kernel()
        transfer.finish()
