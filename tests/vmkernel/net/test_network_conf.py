"""esx.conf: the grammar, what a network is in it, what cannot be; and the file that changes as a whole."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.errors import BadInput, BadOption, RingfenceError
from tests.vmkernel.net.lab import address
from vmkernel.net import changes
from vmkernel.net.esx_conf import EsxConf
from vmkernel.net.host_network import HostNetwork, HostPort, HostPortKind, default_network
from vmkernel.net.network_conf import read_network, write_network
from vmkernel.net.network_file import NetworkFile
from vmkernel.net.policy import LoadBalance, Shaping, UplinkOrder
from vmkernel.net.uplinks.place import parse_place

# As published for an ESX host, the host's own values shortened
PUBLISHED = """\
/net/vswitch/child[0000]/capabilities/ChecksumOffload = "true"
/net/vswitch/child[0000]/cdp/status = "listen"
/net/vswitch/child[0000]/name = "vSwitch0"
/net/vswitch/child[0000]/numPorts = "128"
/net/vswitch/child[0000]/portgroup/child[0000]/name = "Management Network"
/net/vswitch/child[0000]/portgroup/child[0000]/teamPolicy/hasUplinkOrder = "true"
/net/vswitch/child[0000]/portgroup/child[0000]/teamPolicy/linkCriteria/beacon = "ignore"
/net/vswitch/child[0000]/portgroup/child[0000]/teamPolicy/maxActive = "1"
/net/vswitch/child[0000]/portgroup/child[0000]/teamPolicy/notifySwitch = "true"
/net/vswitch/child[0000]/portgroup/child[0000]/teamPolicy/reversePolicy = "true"
/net/vswitch/child[0000]/portgroup/child[0000]/teamPolicy/rollingRestoration = "true"
/net/vswitch/child[0000]/portgroup/child[0000]/teamPolicy/team = "lb_srcid"
/net/vswitch/child[0000]/portgroup/child[0000]/teamPolicy/uplinks[0000]/pnic = "vmnic0"
/net/vswitch/child[0000]/portgroup/child[0000]/vlanId = "105"
/net/vswitch/child[0000]/securityPolicy/forgedTx = "false"
/net/vswitch/child[0000]/securityPolicy/interPgTx = "true"
/net/vswitch/child[0000]/securityPolicy/macChange = "true"
/net/vswitch/child[0000]/securityPolicy/promiscuous = "false"
/net/vswitch/child[0000]/shapingPolicy/enabled = "false"
/net/vswitch/child[0000]/uplinks/child[0000]/pnic = "vmnic0"
/net/vswitch/child[0000]/uplinks/child[0001]/pnic = "vmnic1"
"""
NICS = "".join(
    f'/net/pnic/child[000{number}]/name = "vmnic{number}"\n'
    f'/net/pnic/child[000{number}]/mac = "00:0c:29:00:00:0{number}"\n'
    f'/net/pnic/child[000{number}]/connection = "tap:t{number}"\n'
    for number in (0, 1)
)


def read(text: str) -> HostNetwork:
    return read_network(EsxConf.parse(text.encode(), "esx.conf"))


def rich() -> HostNetwork:
    """One that says everything."""
    nat = parse_place("nat:tcp=2222-10.0.2.15:22,tftp=/srv/tftp,boot=x")
    network, _ = changes.add_nic(HostNetwork(), nat, address(1))
    network, _ = changes.add_nic(network, parse_place("udp:127.0.0.1:7001,[::1]:7002"), address(2))
    network, _ = changes.add_nic(network, parse_place("unix:/a/b,/c/d"), address(3), "vmnic7")
    network = changes.add_switch(network, "vSwitch0", 120)
    network = changes.set_mtu(network, "vSwitch0", 9000)
    for nic in network.nics:
        network = changes.link(network, nic, "vSwitch0")
    network = changes.add_group(network, "vSwitch0", 'odd = [name] äöü', 4095)
    network = changes.add_group(network, "vSwitch0", "VM Network")
    network = changes.set_policy(
        network, "VM Network", promiscuous=True, mac_changes=False, shaping=Shaping(True, 1000, 2000, 3000),
        balance=LoadBalance.EXPLICIT, order=UplinkOrder(("vmnic7",), ("vmnic0",)), failback=False, beacon=True,
    )  # fmt: skip
    network = changes.set_policy(network, "vSwitch0", notify=False, forged_transmits=False)
    port = HostPort("vmk0", HostPortKind.VMKERNEL, "VM Network", address(9), IPv4Interface("10.0.0.1/24"))
    network = changes.add_host_port(network, port)
    return changes.add_host_port(network, replace(port, name="vswif0", kind=HostPortKind.CONSOLE, interface=None))


def test_a_published_file_is_understood():
    network = read(PUBLISHED + NICS)
    switch = network.switches["vSwitch0"]
    policy = switch.policy_of("Management Network")
    assert (switch.ports, switch.uplinks) == (120, ("vmnic0", "vmnic1"))
    assert switch.groups["Management Network"].vlan == 105
    assert (policy.order, policy.failback, policy.forged_transmits) == (UplinkOrder(("vmnic0",)), False, False)


def test_what_is_written_is_read_again_and_other_keys_stay():
    conf = EsxConf.parse((PUBLISHED + NICS + '/adv/Net/X = "5"\n').encode(), "esx.conf")
    written = write_network(read_network(conf), conf).to_bytes()
    again = EsxConf.parse(written, "esx.conf")
    assert read_network(again) == read_network(conf)
    assert write_network(read_network(again), again).to_bytes() == written
    for key in ("capabilities/ChecksumOffload", "cdp/status", "securityPolicy/interPgTx"):
        assert f"/net/vswitch/child[0000]/{key}" in again.values
    assert again.values["/adv/Net/X"] == "5"


def test_everything_that_can_be_said_is_kept():
    network = rich()
    network.check()
    data = write_network(network, EsxConf("esx.conf")).to_bytes()
    assert read_network(EsxConf.parse(data, "esx.conf")) == network
    assert data.splitlines() == sorted(data.splitlines())


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40))
def test_any_value_survives_the_grammar(value):
    conf = EsxConf("x", {"/a/b[0000]/c": value})
    assert EsxConf.parse(conf.to_bytes(), "x").values == conf.values


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('/a/b = "c', "line: expected /path/of/key = \"value\", found '/a/b = \"c'"),
        ("/a/b = c", "line: expected"),
        ('a/b = "c"', "line: expected"),
        ('/a/b "c"', "line: expected"),
        ('/a/b = "c" d', "line: expected"),
        ('/net/vswitch/child[0000]/name = "again"', "name: expected once, found again, after line 3"),
        ("/a/b = \"\x01\"", "line: expected"),
    ],
)
def test_a_line_that_is_none_is_named(line, said):
    with pytest.raises(BadInput) as caught:
        read(PUBLISHED + NICS + line + "\n")
    number = 1 + (PUBLISHED + NICS).count("\n")
    assert str(caught.value).startswith(f"esx.conf:{number}: ") and said in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('numPorts = "128"', 'numPorts = "100"', "vSwitch0: expected 8, 24, 56, 120, 248, 504, 1016 ports, found 92"),
        ('numPorts = "128"', 'numPorts = "-1"', "esx.conf:4: /net/vswitch/child[0000]/numPorts: expected a"),
        ('vlanId = "105"', 'vlanId = "4096"', "vlanId: expected 0 to 4095, found 4096"),
        ('team = "lb_srcid"', 'team = "lb_luck"', "team: expected lb_srcid, lb_srcmac, lb_ip, explicit, found"),
        ('forgedTx = "false"', 'forgedTx = "no"', "forgedTx: expected true or false, found 'no'"),
        ('pnic = "vmnic1"', 'pnic = "vmnic2"', "uplink vmnic2: expected a network adapter of this host: vmnic0"),
        ('name = "vSwitch0"', 'title = "vSwitch0"', "/net/vswitch/child[0000]/name: expected a value, found none"),
        ('connection = "tap:t1"', 'connection = "tap:"', "connection: expected the name of an interface"),
        ('mac = "00:0c:29:00:00:01"', 'mac = "01:0c:29:00:00:01"', "mac: expected the address of a station"),
    ],
)
def test_a_value_that_cannot_be_is_named(old, new, said):
    assert old in PUBLISHED + NICS
    with pytest.raises(BadInput) as caught:
        read((PUBLISHED + NICS).replace(old, new))
    assert said in str(caught.value)


@given(st.binary(max_size=300), st.integers(0, len(PUBLISHED + NICS)), st.integers(0, 40))
@settings(max_examples=300)
def test_no_damage_is_more_than_a_named_error(noise, at, cut):
    data = (PUBLISHED + NICS).encode()
    try:
        read_network(EsxConf.parse(data[:at] + noise + data[at + cut :], "esx.conf")).check()
    except RingfenceError as error:
        assert str(error).startswith("esx.conf")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wire", "expected nat, tap, interface, udp, unix"), ("tap:", "the name of an interface"),
        ("tap:a/b", "the name of an interface"), ("udp:localhost:1", "udp:HOST:PORT,HOST:PORT"),
        ("udp:localhost:0,b:1", "a port number, found '0'"), ("unix:a,/b", "two absolute paths"),
        ("unix:/" + "a" * 120 + ",/b", "at most 107 bytes"), ("nat:tcp=22", "tcp=PORT-ADDRESS:PORT, found '22'"),
        ("nat:http=1", "found 'http=1'"), ("nat:tcp=80-300.1.1.1:80", "found '80-300.1.1.1:80'"), ("tap:a\n", "tap"),
    ],
)  # fmt: skip
def test_a_place_that_is_none_is_refused(text, said):
    with pytest.raises(BadOption, match=r"^uplink ") as caught:
        parse_place(text)
    assert said in str(caught.value)


def test_changes_are_checked_as_a_whole(tmp_path: Path):
    file = NetworkFile(tmp_path / "deep" / "esx.conf")
    file.change(lambda _: rich())
    before = file.path.read_bytes()
    for action in (
        lambda network: changes.remove_group(network, "VM Network"),
        lambda network: changes.remove_switch(network, "vSwitch0"),
        lambda network: changes.add_switch(network, "bad/name"),
        lambda network: changes.set_vlan(network, "VM Network", 5, "vSwitch9"),
        lambda network: changes.set_policy(network, "VM Network", balance=LoadBalance.IP_HASH),
        lambda network: changes.set_policy(network, "vSwitch0", order=UplinkOrder(("vmnic9",))),
    ):
        with pytest.raises(BadOption):
            file.change(action)
    assert file.path.read_bytes() == before
    network = file.change(lambda network: changes.remove_nic(network, "vmnic7"))
    assert network.switches["vSwitch0"].policy_of("VM Network").order == UplinkOrder((), ("vmnic0",))
    assert {
        path.name for path in file.path.parent.iterdir()
    } == {"esx.conf", "esx.lock"}


def test_a_host_where_nothing_was_said_has_a_switch_and_a_port_group(tmp_path: Path):
    network = NetworkFile(tmp_path / "esx.conf").network()
    assert list(network.switches["vSwitch0"].groups) == ["VM Network"]
    assert not (tmp_path / "esx.conf").exists()
    with_nat = default_network(nat=True, address=address(1))
    with_nat.check()
    assert with_nat.switches["vSwitch0"].uplinks == ("vmnic0",)
    empty = NetworkFile(tmp_path / "esx.conf")
    empty.change(lambda network: changes.remove_switch(network, "vSwitch0"))
    assert empty.network().switches == {}
