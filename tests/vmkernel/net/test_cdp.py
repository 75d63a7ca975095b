"""Cisco's discovery on uplinks: what a switch says, as scapy and tshark read it; what it hears, as scapy writes it."""

from __future__ import annotations

import io
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.contrib import cdp as scapy_cdp
from scapy.layers.l2 import LLC, SNAP, Dot3

from tests.vmkernel.net.lab import SECOND, Lab, address
from vmkernel.net import changes
from vmkernel.net.cdp import Cdp, Identity, Neighbour, advertisement, parse
from vmkernel.net.cdp_layout import ADDRESS, Capability
from vmkernel.net.host_network import HostPort, HostPortKind, parse_interface
from vmkernel.net.pcapng import PcapngWriter
from vmkernel.net.team import Uplink

IDENTITY = Identity("esx1.example", "Ringfence 1.0")
LASTS_S = 180


def lab_of(cdp: Cdp, uplinks: int = 1) -> Lab:
    lab = Lab(uplinks)
    lab.wanted = changes.set_cdp(lab.wanted, "vSwitch0", cdp)
    lab.apply()
    for name in lab.sent:
        lab.left(name)
    return lab


def run(lab: Lab, seconds: float) -> None:
    """The clock, to each moment that is due."""
    end = lab.now + int(seconds * SECOND)
    while (due := lab.network.next_ns(lab.now)) is not None and due <= end:
        lab.now = max(lab.now, due)
        lab.network.tick(lab.now)
    lab.now = end


def cisco(device: str = "sw1", ttl: int = LASTS_S, vlan: int = 105) -> bytes:
    """As a switch outside would send it."""
    message = scapy_cdp.CDPv2_HDR(ttl=ttl, msg=[
        scapy_cdp.CDPMsgDeviceID(val=device.encode()), scapy_cdp.CDPMsgPortID(iface=b"GigabitEthernet1/0/3"),
        scapy_cdp.CDPMsgCapabilities(cap=Capability.SWITCH | Capability.IGMP),
        scapy_cdp.CDPMsgSoftwareVersion(val=b"Cisco IOS,\n C3750"), scapy_cdp.CDPMsgPlatform(val=b"cisco WS-C3750"),
        scapy_cdp.CDPMsgNativeVLAN(vlan=vlan), scapy_cdp.CDPMsgDuplex(duplex=1),
        scapy_cdp.CDPMsgAddr(naddr=1, addr=[scapy_cdp.CDPAddrRecordIPv4(addr="10.0.0.9")]),
    ])  # fmt: skip
    head = Dot3(dst=ADDRESS.hex(":"), src="00:11:22:33:44:55")
    return bytes(head / LLC() / SNAP(OUI=0x0C, code=0x2000) / message)


def heard(lab: Lab, name: str = "vmnic0") -> list[Neighbour]:
    return lab.network.neighbours(name, lab.now)


def test_each_uplink_says_once_a_minute_who_it_is():
    lab = lab_of(Cdp.ADVERTISE, uplinks=2)
    run(lab, 150)
    for name in lab.sent:
        sent = lab.left(name)
        assert len(sent) == 3
        assert {frame[:6] for frame in sent} == {ADDRESS}
        assert {frame[6:12] for frame in sent} == {lab.wanted.nics[name].address}


@pytest.mark.parametrize("length", range(4))
def test_scapy_reads_what_is_said_and_its_checksum(length: int):
    uplink = Uplink("vmnic3", address(3), lambda frame: True)
    own = parse_interface("10.1.2.3", "255.0.0.0").ip
    frame = advertisement(Identity("h" * (8 + length), "software"), uplink, 9000, [own])
    read = Dot3(frame)
    assert (read.dst, read.src, read[SNAP].code) == (ADDRESS.hex(":"), address(3).hex(":"), 0x2000)
    message = read[scapy_cdp.CDPv2_HDR]
    fields = {type(one): one for one in message.msg}
    assert (message.vers, message.ttl) == (2, LASTS_S)
    assert fields[scapy_cdp.CDPMsgDeviceID].val == b"h" * (8 + length)
    assert fields[scapy_cdp.CDPMsgPortID].iface == b"vmnic3"
    assert fields[scapy_cdp.CDPMsgAddr].addr[0].addr == "10.1.2.3"
    assert int(fields[scapy_cdp.CDPMsgCapabilities].cap) == Capability.SWITCH
    message.cksum = None
    assert bytes(read) == frame


@pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark (package tshark)")
def test_tshark_reads_it_without_a_complaint(tmp_path: Path):
    uplink, own = Uplink("vmnic3", address(3), lambda frame: True), parse_interface("10.1.2.3", "255.0.0.0").ip
    out = io.BytesIO()
    writer = PcapngWriter(out)
    writer.interface("vmnic3")
    for length in range(4):
        frame = advertisement(Identity("h" * (8 + length), "software"), uplink, 1500, [own])
        writer.packet(0, 0, frame, len(frame), outbound=True)
    writer.finish(0)
    (tmp_path / "cdp.pcapng").write_bytes(out.getvalue())
    fields = ("cdp.deviceid", "cdp.portid", "cdp.mtu", "cdp.checksum.status", "_ws.expert", "_ws.malformed")
    words = ["tshark", "-r", str(tmp_path / "cdp.pcapng"), "-T", "fields", "-E", "separator=;"]
    words += [word for name in fields for word in ("-e", name)]
    read = subprocess.run(words, capture_output=True, text=True, check=True)
    good = "1"
    assert read.stdout.splitlines() == [f"{'h' * (8 + length)};vmnic3;1500;{good};;" for length in range(4)]


def test_what_a_switch_outside_says_is_kept_until_its_time_is_over():
    lab = lab_of(Cdp.LISTEN)
    station = lab.station(lab.group("lan"), 1, promiscuous=True)
    lab.arrive(cisco())
    assert heard(lab) == [Neighbour(
        "sw1", "GigabitEthernet1/0/3", "cisco WS-C3750", "Cisco IOS, C3750", ("10.0.0.9",),
        Capability.SWITCH | Capability.IGMP, 105, True, None,
    )]  # fmt: skip
    assert station.take() == []
    lab.now += LASTS_S * SECOND - 1
    assert len(heard(lab)) == 1
    lab.now += 1
    assert heard(lab) == []


def test_the_last_word_of_a_device_counts_and_a_time_of_nothing_is_its_end():
    lab = lab_of(Cdp.BOTH)
    lab.arrive(cisco(vlan=5))
    lab.arrive(cisco("sw2"))
    lab.arrive(cisco(vlan=6))
    assert [(one.device, one.native_vlan) for one in heard(lab)] == [("sw2", 105), ("sw1", 6)]
    lab.arrive(cisco("sw2", ttl=0))
    assert [one.device for one in heard(lab)] == ["sw1"]
    lab.link("vmnic0", False)
    assert heard(lab) == []


@pytest.mark.parametrize("cdp", [Cdp.DOWN, Cdp.ADVERTISE])
def test_who_does_not_listen_passes_it_on_as_any_other_frame_for_a_group(cdp: Cdp):
    lab = lab_of(cdp)
    station = lab.station(lab.group("lan"), 1)
    lab.arrive(cisco())
    assert station.take() == [cisco()]
    assert heard(lab) == []


@pytest.mark.parametrize("cdp", [Cdp.DOWN, Cdp.LISTEN])
def test_who_does_not_advertise_says_nothing(cdp: Cdp):
    lab = lab_of(cdp)
    run(lab, 150)
    assert lab.left() == []


def test_a_link_that_comes_up_says_it_at_once_and_one_that_is_down_nothing():
    lab = lab_of(Cdp.BOTH)
    lab.link("vmnic0", False)
    run(lab, 150)
    assert lab.left() == []
    lab.link("vmnic0", True)
    run(lab, 0)
    assert len(lab.left()) == 1


def test_the_addresses_are_those_of_the_host_s_own_ports():
    lab = lab_of(Cdp.ADVERTISE)
    lab.group("console")
    port = HostPort("vswif0", HostPortKind.CONSOLE, "console", address(7), parse_interface("10.1.2.3", "255.0.0.0"))
    lab.wanted = replace(lab.wanted, host_ports={"vswif0": port})
    lab.apply()
    run(lab, 0)
    assert parse(lab.left()[-1], lab.now).addresses == ("10.1.2.3",)  # type: ignore[union-attr]


def test_there_is_an_end_to_how_many_are_kept():
    lab = lab_of(Cdp.LISTEN)
    for number in range(20):
        lab.arrive(cisco(f"sw{number}"))
    assert len(heard(lab)) == 8


def test_damaged_ones_are_not_believed_and_do_no_harm():
    lab = lab_of(Cdp.LISTEN)
    pick = random.Random(7)
    whole = bytearray(cisco())
    for _ in range(3000):
        damaged = bytearray(whole)
        damaged[pick.randrange(22, len(damaged))] ^= 1 << pick.randrange(8)
        if pick.random() < 0.3:
            del damaged[pick.randrange(14, len(damaged)) :]
        lab.arrive(bytes(damaged))
    assert heard(lab) == []


def test_lengths_that_cannot_be_true_are_not_believed():
    """With a checksum that is right."""
    for length in (0, 3, 200, 65535):
        message = scapy_cdp.CDPv2_HDR(msg=[scapy_cdp.CDPMsgDeviceID(val=b"sw", len=length)])
        frame = bytes(Dot3(dst=ADDRESS.hex(":")) / LLC() / SNAP(OUI=0x0C, code=0x2000) / message)
        assert parse(frame, 0) is None
