"""A virtual switch: who receives what, VLANs, security policies, sizes, counters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ringfence.errors import BadOption
from tests.vmkernel.net.lab import ALL_HASHES, BROADCAST, Lab, address, frame, with_tag
from vmkernel.net.port import Wanted

MULTICAST = bytes.fromhex("01005e000001")
NOBODY = address(0xABCDEF)


def pair() -> tuple[Lab, object, object]:
    lab = Lab()
    lab.group("lan")
    one, two = lab.station("lan", 1), lab.station("lan", 2)
    lab.left()
    return lab, one, two


def test_a_frame_for_a_port_goes_there_and_nowhere_else():
    lab, one, two = pair()
    three = lab.station("lan", 3)
    lab.left()
    sent = one.send_to(two.address)
    assert (two.take(), one.take(), three.take(), lab.left()) == ([sent], [], [], [])


def test_a_frame_for_nobody_here_goes_to_the_uplink_only():
    lab, one, two = pair()
    sent = one.send_to(NOBODY)
    assert (lab.left(), two.take()) == ([sent], [])


def test_a_broadcast_goes_to_all_others_and_the_uplink():
    lab, one, two = pair()
    deaf = lab.station("lan", 3, broadcast=False)
    lab.left()
    sent = one.send_to(BROADCAST)
    assert (two.take(), lab.left(), one.take(), deaf.take()) == ([sent], [sent], [], [])


def test_multicast_goes_to_who_has_its_bit_in_the_filter():
    """01:00:5e:00:00:01 is bit 6 of CSR11, which holds bits 48 to 63. [Am79C970A data sheet]"""
    lab, one, _ = pair()
    wants = lab.station("lan", 3, hashes=1 << 54)
    others = lab.station("lan", 4, hashes=ALL_HASHES & ~(1 << 54))
    sent = one.send_to(MULTICAST)
    assert (wants.take(), others.take()) == ([sent], [])


def test_from_an_uplink_only_known_addresses_are_reached():
    lab, one, two = pair()
    lab.arrive(frame(one.address, NOBODY))
    lab.arrive(frame(address(9), NOBODY))
    assert (len(one.take()), two.take(), lab.left()) == (1, [], [])
    assert lab.network.uplinks["vmnic0"].counters.as_json()["drops"] == {"unknown": 1}


def test_what_an_uplink_brings_never_leaves_by_an_uplink():
    lab = Lab(uplinks=2)
    lab.group("lan")
    one = lab.station("lan", 1)
    lab.left("vmnic0"), lab.left("vmnic1")
    lab.arrive(frame(BROADCAST, NOBODY), one.port.uplink.name)
    assert len(one.take()) == 1
    assert not lab.left("vmnic0") and not lab.left("vmnic1")


def test_a_frame_of_ours_that_comes_back_is_filtered():
    lab, one, two = pair()
    lab.arrive(one.send_to(BROADCAST))
    assert one.take() == [] and len(two.take()) == 1


def test_a_driver_that_is_down_receives_nothing_and_its_frames_stay_inside():
    lab, one, two = pair()
    two.want(Wanted(two.address))
    one.send_to(two.address)
    assert (two.take(), lab.left()) == ([], [])


# VLANs


def test_a_vlan_is_a_tag_on_the_uplink_and_none_at_the_port():
    lab = Lab()
    lab.group("blue", 105)
    one, two = lab.station("blue", 1), lab.station("blue", 2)
    lab.left()
    sent = one.send_to(BROADCAST)
    assert two.take() == [sent]
    assert lab.left() == [with_tag(sent, 105)]
    lab.arrive(with_tag(frame(one.address, NOBODY), 105 | 5 << 13))
    assert one.take() == [frame(one.address, NOBODY)]


def test_vlans_do_not_see_each_other():
    lab = Lab()
    for vlan in (0, 1, 4094):
        lab.group(f"vlan {vlan}", vlan)
    stations = [lab.station(f"vlan {vlan}", 1 + vlan) for vlan in (0, 1, 4094)]
    for one in stations:
        one.send_to(BROADCAST)
        for other in stations:
            one.send_to(other.address)
    assert not any(station.take() for station in stations)
    for vlan in (None, 1, 4094, 7):
        data = frame(BROADCAST, NOBODY)
        lab.arrive(data if vlan is None else with_tag(data, vlan))
    assert [len(station.take()) for station in stations] == [1, 1, 1]


def test_a_tag_from_a_port_that_has_no_business_with_tags_is_dropped():
    lab = Lab()
    lab.group("none"), lab.group("blue", 5), lab.group("red", 6)
    none, blue, red = (lab.station(group, number) for number, group in enumerate(("none", "blue", "red"), 1))
    lab.left()
    for station in (none, blue, red):
        for tpid in (0x8100, 0x88A8, 0x9100):
            for tag in (0, 5, 6, 4095):
                station.send(with_tag(frame(BROADCAST, station.address), tag, tpid))
        station.send(with_tag(with_tag(frame(BROADCAST, station.address), 6), 5))
    assert not lab.left() and not any(station.take() for station in (none, blue, red))
    assert lab.drops(blue) == {"vlan": 13}


def test_a_trunk_sees_and_sends_the_tags_of_all_vlans():
    lab = Lab()
    lab.group("none"), lab.group("blue", 5), lab.group("trunk", 4095)
    none, blue, trunk = (lab.station(group, number) for number, group in enumerate(("none", "blue", "trunk"), 1))
    lab.left()
    plain = blue.send_to(BROADCAST)
    untagged = none.send_to(BROADCAST)
    assert trunk.take() == [with_tag(plain, 5), untagged]
    lab.left()
    high = with_tag(frame(BROADCAST, trunk.address), 5 | 7 << 13)
    trunk.send(high)
    assert (blue.take(), none.take(), lab.left()) == ([frame(BROADCAST, trunk.address)], [], [high])
    trunk.send(with_tag(frame(none.address, trunk.address), 0))
    assert (none.take(), blue.take()) == ([frame(none.address, trunk.address)], [])
    trunk.send(with_tag(with_tag(frame(BROADCAST, trunk.address), 5), 0))
    trunk.send(with_tag(frame(BROADCAST, trunk.address), 4095))
    assert (none.take(), blue.take(), lab.left(), lab.drops(trunk)) == ([], [], [], {"vlan": 2})


def test_changing_a_groups_vlan_moves_its_ports_at_once():
    lab = Lab()
    lab.group("a", 5), lab.group("b", 6)
    one, two = lab.station("a", 1), lab.station("b", 2)
    one.send_to(two.address)
    assert not two.take()
    lab.group("b", 5)
    one.send_to(two.address)
    assert len(two.take()) == 1


# security


def test_promiscuous_ports_see_everything_only_where_that_is_allowed():
    lab = Lab()
    lab.group("lan"), lab.group("open", promiscuous=True)
    one, two = lab.station("lan", 1), lab.station("lan", 2)
    for group, seen in (("lan", 0), ("open", 1)):
        watcher = lab.station(group, 9, promiscuous=True)
        one.send_to(two.address)
        lab.arrive(frame(NOBODY, address(8)))
        assert len(watcher.take()) == 2 * seen, group
        one.send_to(watcher.address), one.send_to(BROADCAST)
        assert len(watcher.take()) == 2, group
        lab.network.close(watcher.port)


def test_promiscuous_mode_is_of_one_vlan():
    lab = Lab()
    lab.group("a", 5), lab.group("b", 6, promiscuous=True)
    one, two, watcher = lab.station("a", 1), lab.station("a", 2), lab.station("b", 3, promiscuous=True)
    one.send_to(two.address), one.send_to(BROADCAST)
    assert not watcher.take()


def test_forged_transmits_can_be_forbidden():
    lab = Lab()
    lab.group("lax"), lab.group("strict", forged_transmits=False)
    lax, strict, other = lab.station("lax", 1), lab.station("strict", 2), lab.station("lax", 3)
    for one in (lax, strict):
        one.send(frame(other.address, address(77)))
    assert (len(other.take()), lab.drops(strict)) == (1, {"forged": 1})
    strict.want(replace(strict.port.wanted, address=address(77)))
    strict.send(frame(other.address, address(77)))
    assert len(other.take()) == 1


def test_without_mac_changes_a_port_with_another_address_receives_nothing_until_it_is_restored():
    lab = Lab()
    lab.group("lan"), lab.group("strict", mac_changes=False)
    other, strict = lab.station("lan", 1), lab.station("strict", 2)
    before = strict.port.wanted
    strict.want(replace(before, address=address(77)))
    other.send_to(address(77)), other.send_to(address(2)), other.send_to(BROADCAST)
    assert not strict.take()
    strict.want(before)
    other.send_to(address(2)), other.send_to(BROADCAST)
    assert len(strict.take()) == 2


def test_a_group_inherits_what_it_does_not_say():
    lab = Lab()
    lab.group("lan")
    strict = lab.station("lan", 1)
    other = lab.station("lan", 2)
    switch = lab.wanted.switches["vSwitch0"]
    policy = replace(switch.policy, forged_transmits=False)
    lab.wanted = lab.wanted.with_switch("vSwitch0", replace(switch, policy=policy))
    lab.apply()
    strict.send(frame(other.address, address(77)))
    assert not other.take()
    lab.group("lan", forged_transmits=True)
    strict.send(frame(other.address, address(77)))
    assert len(other.take()) == 1


# sizes and counters


@pytest.mark.parametrize("mtu", [1500, 9000])
def test_frames_are_as_long_as_the_mtu_allows_and_a_tag_does_not_count(mtu):
    lab = Lab(mtu=mtu)
    lab.group("lan"), lab.group("trunk", 4095)
    one, two, trunk = lab.station("lan", 1), lab.station("lan", 2), lab.station("trunk", 3)
    for length in (mtu, mtu + 1):
        one.send_to(two.address, payload=b"x" * length)
        trunk.send(with_tag(frame(BROADCAST, trunk.address, b"x" * length), 9))
    assert (len(two.take()), lab.drops(one), lab.drops(trunk)) == (1, {"giant": 1}, {"giant": 1})


def test_what_is_shorter_than_a_header_is_a_runt():
    lab, one, _ = pair()
    for length in range(14):
        one.send(frame(BROADCAST, one.address)[:length])
        lab.arrive(frame(BROADCAST, NOBODY)[:length])
    assert lab.drops(one) == {"runt": 14}
    assert lab.network.uplinks["vmnic0"].counters.as_json()["drops"] == {"runt": 14}
    one.send(frame(BROADCAST, one.address)[:14])
    assert len(lab.left()) == 1


def test_no_frame_has_a_group_or_nobody_as_its_sender():
    lab, one, two = pair()
    for source in (BROADCAST, MULTICAST, bytes(6)):
        one.send(frame(two.address, source))
    lab.arrive(frame(two.address, MULTICAST))
    assert (two.take(), lab.drops(one)) == ([], {"bad_source": 3})


def test_every_frame_is_counted_once():
    lab, one, two = pair()
    two.room = 3
    for _ in range(5):
        one.send_to(two.address)
    assert one.port.counters.as_json() == {
        "frames_in": 0, "bytes_in": 0, "frames_out": 5, "bytes_out": 300, "dropped": 0, "drops": {},
    }  # fmt: skip
    assert two.port.counters.as_json() == {
        "frames_in": 3, "bytes_in": 180, "frames_out": 0, "bytes_out": 0, "dropped": 2, "drops": {"full": 2},
    }  # fmt: skip
    group = lab.network.switches["vSwitch0"].groups["lan"]
    before = group.counters().as_json()
    lab.network.close(two.port)
    assert group.counters().as_json() == before


# ports


def test_a_switch_has_as_many_ports_as_it_says():
    lab = Lab(ports=8)
    lab.group("lan")
    stations = [lab.station("lan", number) for number in range(8)]
    assert sorted(station.port.number for station in stations) == list(range(8))
    with pytest.raises(BadOption, match="all of its 8 ports are used"):
        lab.station("lan", 9)
    lab.network.close(stations[3].port)
    assert lab.station("lan", 9).port.number == 3
    with pytest.raises(BadOption, match="port group 'nowhere': expected one of this host: lan"):
        lab.station("nowhere", 10)


def test_a_port_whose_group_goes_is_off_until_there_is_one_of_that_name_again():
    lab, one, two = pair()
    with_group = lab.wanted
    lab.wanted = lab.wanted.with_switch("vSwitch0", replace(lab.wanted.switches["vSwitch0"], groups={}))
    lab.apply()
    assert not one.on and not one.port.is_on and not two.on
    lab.wanted = with_group
    lab.apply()
    assert one.on
    one.send_to(two.address)
    assert len(two.take()) == 1


def test_a_thousand_ports_on_one_switch():
    lab = Lab(ports=1016)
    for vlan in range(1, 65):
        lab.group(f"vlan {vlan}", vlan)
    stations = [lab.station(f"vlan {1 + number % 64}", number) for number in range(1016)]
    for number, station in enumerate(stations):
        station.send_to(stations[(number + 64) % 1016].address)
    hits = [len(station.take()) for station in stations]
    assert sum(hits) == 1016 - 64 + 64 * (1016 % 64 == 0)
    stations[5].send_to(BROADCAST)
    reached = {number % 64 for number, station in enumerate(stations) if station.take()}
    assert reached == {5}
