"""`ringfence switch`, `ringfence kernel`, esxcfg-vswitch and esxcfg-nics, without and with a VMkernel that runs."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from tests.tools.network import ringfence_here
from tests.vmkernel.net.ends import NoteTaker, frame_of, station, wait_until
from tools import esxcfg_nics, esxcfg_vswitch
from vmkernel.host.client import NotRunning
from vmkernel.net import changes
from vmkernel.net.host_network import HostNetwork
from vmkernel.net.network_file import NetworkFile
from vmkernel.net.uplinks.host_interface import speed_and_duplex
from vmkernel.net.uplinks.place import parse_place
from vmx.network_ports import NetworkPorts

ESX_LISTING = """\
Switch Name    Num Ports   Used Ports  Configured Ports  MTU     Uplinks
vSwitch0       64          2           64                1500    vmnic0,vmnic1

  PortGroup Name      VLAN ID  Used Ports  Uplinks
  VM Network          0        0           vmnic0,vmnic1
  Service Console     105      0           vmnic0,vmnic1

"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A host of its own, whose switch has two uplinks that lead nowhere."""
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name[4:7].lower()))
    conf = tmp_path / "con" / "ringfence" / "esx.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text('/net/configured = "true"\n/adv/Mem/IdleTax = "75"\n')

    def network(empty: HostNetwork) -> HostNetwork:
        made = changes.add_switch(empty, "vSwitch0")
        for number in (0, 1):
            nowhere = parse_place(f"unix:{tmp_path}/u{number},{tmp_path}/nobody{number}")
            made, name = changes.add_nic(made, nowhere, station(100 + number))
            made = changes.link(made, name, "vSwitch0")
        made = changes.add_group(made, "vSwitch0", "VM Network")
        return changes.add_group(made, "vSwitch0", "Service Console", 105)

    NetworkFile(conf).change(network)
    yield conf
    try:
        from tools.switch_words import kernel_place

        kernel_place().stop(force=True)
    except NotRunning:
        pass


@pytest.fixture
def ports(host: Path) -> Iterator[NetworkPorts]:
    network = NetworkPorts(Path(os.environ["XDG_RUNTIME_DIR"], "ringfence"), host)
    yield network
    network.close()


def done(*words: str) -> str:
    result = ringfence_here(*words)
    assert result.returncode == 0, (words, result)
    return result.stdout


def policies() -> list[dict[str, Any]]:
    """Of "VM Network" and "Service Console"."""
    return [row["policy"] for row in json.loads(done("switch", "list", "--json"))["switches"][0]["groups"]]


def refused(*words: str) -> str:
    result = ringfence_here(*words)
    assert result.returncode == 2 and result.stderr.count("\n") == 1, (words, result)
    return result.stderr


def esxcfg(module: object, *words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = module.main(words)  # type: ignore[attr-defined]
    return status, out.getvalue(), err.getvalue()


def esx(*words: str) -> str:
    status, out, err = esxcfg(esxcfg_vswitch, *words)
    assert (status, err) == (0, ""), (words, err)
    return out


def test_the_listing_is_the_same_when_it_is_made_by_commands(host: Path, tmp_path: Path) -> None:
    done("switch", "rm", "vSwitch0")
    for name in ("vmnic0", "vmnic1"):
        done("switch", "uplink", "rm", name)
    done("switch", "add", "vSwitch0")
    for number in (0, 1):
        nowhere = f"unix:{tmp_path}/u{number},{tmp_path}/nobody{number}"
        assert done("switch", "uplink", "add", "vSwitch0", nowhere) == f"vmnic{number}\n"
    done("switch", "portgroup", "add", "VM Network", "vSwitch0")
    done("switch", "portgroup", "add", "Service Console", "vSwitch0", "--vlan", "104")
    done("switch", "portgroup", "vlan", "Service Console", "105")
    assert esx("-l") == ESX_LISTING
    done("switch", "set", "vSwitch0", "--ports", "8", "--mtu", "9000")
    done("switch", "vmknic", "add", "vmk0", "--group", "VM Network", "--ip", "10.0.0.1")
    assert "vmk0: 10.0.0.1/24, in VM Network" in done("switch", "list")
    assert "expected no port of the host, found vmk0" in refused("switch", "portgroup", "rm", "VM Network")
    done("switch", "vmknic", "rm", "vmk0")
    done("switch", "portgroup", "rm", "VM Network")


def test_the_listing_is_esxs(host: Path) -> None:
    assert esx("-l") == ESX_LISTING


def test_esxcfg_vswitch_does_what_its_options_say(host: Path) -> None:
    esx("-a", "vSwitch1:128")
    esx("-A", "Web", "vSwitch1")
    esx("-p", "Web", "-v", "42", "vSwitch1")
    esx("-m", "9000", "vSwitch1")
    esx("-U", "vmnic1", "vSwitch0")
    esx("-L", "vmnic1", "vSwitch1")
    assert "vSwitch1       128         1           128               9000    vmnic1" in esx("-l")
    assert "  Web                 42       0           vmnic1" in esx("-l")
    assert [esx("-c", "vSwitch1"), esx("-c", "vSwitch2"), esx("-C", "Web"), esx("-C", "Nothing")] == ["1\n", "0\n"] * 2
    esx("-N", "vmnic1", "-p", "Web", "vSwitch1")
    assert "  Web                 42       0\n" in esx("-l")
    esx("-M", "vmnic1", "-p", "Web", "vSwitch1")
    esx("-p", "ALL", "-v", "7", "vSwitch1")
    assert "  Web                 7        0           vmnic1" in esx("-l")
    assert esx("-b", "vSwitch1") == "listen\n"
    esx("-B", "both", "vSwitch1")
    assert esx("-b", "vSwitch1") == "both\n"
    esx("-D", "Web", "vSwitch1")
    esx("-d", "vSwitch1")
    assert "vSwitch1" not in esx("-l")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-a", "vSwitch0"), "switch vSwitch0: there is one of this name already"),
        (("-a", "x:65"), "-a: expected 16, 32, 64, 128, 256, 512, 1024 ports, found 65"),
        (("-L", "vmnic9", "vSwitch0"), "'vmnic9': expected a network adapter of this host: vmnic0, vmnic1"),
        (("-L", "vmnic0", "vSwitch0"), "vmnic0: it is an uplink of vSwitch0 already"),
        (("-p", "VM Network", "-v", "4096", "vSwitch0"), "expected a VLAN of 0 (none) to 4095 (all), found 4096"),
        (("-A", "VM Network", "vSwitch0"), "port group VM Network: there is one of this name already, on vSwitch0"),
        (("-B", "loud", "vSwitch0"), "CDP: expected down, listen, advertise, both, found 'loud'"),
        (("-v", "5", "vSwitch0"), "expected -p GROUP"),
        ((), "expected an option that says what to do"),
    ],
)
def test_esxcfg_vswitch_says_in_one_line_what_is_wrong(host: Path, words: tuple[str, ...], said: str) -> None:
    before = host.read_bytes()
    status, out, err = esxcfg(esxcfg_vswitch, *words)
    assert (status, out) == (2, "") and said in err and err.count("\n") == 1
    assert host.read_bytes() == before


def test_esxcfg_nics_lists_what_uplinks_lead_to(host: Path) -> None:
    status, out, err = esxcfg(esxcfg_nics, "-l")
    rows = out.splitlines()
    assert (status, err) == (0, "")
    assert rows[0] == "Name    PCI      Driver      Link Speed    Duplex MAC Address       MTU    Description"
    assert rows[1].split()[:6] == ["vmnic0", "02:00.00", "unix", "Down", "0Mbps", "Half"]


@pytest.mark.parametrize(
    ("speed", "duplex", "expected"),
    [("100\n", "half\n", (100, False)), ("10000\n", "full\n", (10000, True)), ("-1\n", "unknown\n", None),
     ("100\n", "unknown\n", None), ("", "full\n", None)],
)  # fmt: skip
def test_speed_and_duplex_are_the_interfaces(tmp_path: Path, speed: str, duplex: str, expected: object) -> None:
    (tmp_path / "eth0").mkdir()
    (tmp_path / "eth0" / "speed").write_text(speed)
    (tmp_path / "eth0" / "duplex").write_text(duplex)
    assert speed_and_duplex("eth0", tmp_path) == expected
    assert speed_and_duplex("eth1", tmp_path) is None


def test_policies_are_said_for_a_switch_and_for_a_group(host: Path) -> None:
    done("switch", "secure", "vSwitch0", "--promiscuous", "accept", "--forged-transmits", "reject")
    done("switch", "secure", "VM Network", "--promiscuous", "reject")
    done("switch", "shape", "VM Network", "--average", "1000", "--peak", "3000", "--burst", "5000")
    done("switch", "team", "VM Network", "--policy", "explicit", "--active", "vmnic1", "--standby", "vmnic0",
         "--failback", "no")  # fmt: skip
    net, console = policies()
    assert (net["promiscuous"], net["forged_transmits"]) == (False, False)
    assert (console["promiscuous"], console["forged_transmits"]) == (True, False)
    assert net["shaping"] == {"enabled": True, "average_bps": 10**6, "peak_bps": 3 * 10**6, "burst_bytes": 5 * 10**6}
    assert not console["shaping"]["enabled"]
    assert (net["active"], net["standby"], net["load_balance"]) == (["vmnic1"], ["vmnic0"], "explicit")
    done("switch", "secure", "VM Network", "--promiscuous", "inherit")
    done("switch", "shape", "VM Network", "--inherit")
    again, _ = policies()
    assert again["promiscuous"] and not again["shaping"]["enabled"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("switch", "shape", "VM Network"), "expected one of --average"),
        (("switch", "shape", "VM Network", "--average", "5", "--peak", "4"), "expected 0 < average <= peak"),
        (("switch", "secure", "vSwitch0", "--promiscuous", "inherit"), "expected a port group to inherit"),
        (("switch", "secure", "Nothing", "--promiscuous", "accept"), "'Nothing': expected a switch or a port group"),
        (("switch", "team", "vSwitch0", "--policy", "ip", "--beacon", "yes"), "expected beacon probing without lb_ip"),
        (("switch", "team", "vSwitch0", "--active", "vmnic7"), "expected an uplink of the switch in the order"),
        (("switch", "uplink", "add", "vSwitch0", "wire:5"), "expected nat, tap, interface, udp, unix"),
        (("switch", "add", "x", "--ports", "57"), "expected 8, 24, 56, 120, 248, 504, 1016 ports, found 57"),
        (("kernel", "stop"), "no VMkernel is running"),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(host: Path, words: tuple[str, ...], said: str) -> None:
    before = host.read_bytes()
    assert said in refused(*words)
    assert host.read_bytes() == before


def test_a_capture_that_cannot_begin_leaves_its_file_alone(host: Path, tmp_path: Path) -> None:
    file = tmp_path / "earlier.pcapng"
    file.write_bytes(b"kept")
    assert "no VMkernel is running" in refused("switch", "capture", "vmnic0", "-w", str(file))
    done("kernel", "start")
    assert "'vmnic7': expected an uplink" in refused("switch", "capture", "vmnic7", "-w", str(file))
    assert "cannot write" in refused("switch", "capture", "VM Network", "-w", str(tmp_path / "none" / "file"))
    assert file.read_bytes() == b"kept"


def test_a_damaged_file_is_an_error_with_its_line_and_stays_as_it_is(host: Path) -> None:
    text = host.read_text().replace('vlanId = "105"', 'vlanId = "many"')
    host.write_text(text)
    line = 1 + text[: text.index('"many"')].count("\n")
    said = refused("switch", "portgroup", "rm", "VM Network")
    assert f"esx.conf:{line}: " in said and "vlanId: expected a whole number, found 'many'" in said
    assert host.read_text() == text


def test_keys_of_others_in_the_file_stay(host: Path) -> None:
    assert '/adv/Mem/IdleTax = "75"' in host.read_text()


def test_the_vmkernel_starts_and_stops_and_machines_find_their_ports(host: Path, ports: NetworkPorts) -> None:
    assert done("kernel", "status") == "not running\n"
    done("kernel", "start")
    assert ", 0 ports in use, until it is stopped" in done("kernel", "status")
    one, two = (NoteTaker(ports.open("VM Network", station(number), f"vm{number} ethernet0")) for number in (1, 2))
    assert "2 of its ports" not in done("kernel", "status")
    one.send(frame_of(station(2), station(1)))
    assert two.wait_for(1) == [frame_of(station(2), station(1))]
    assert "vSwitch0       64          4           64" in esx("-l")
    rows = json.loads(done("switch", "stats", "--json"))
    counted = {row["name"]: row["counters"]["frames_out"] for row in rows if row["kind"] == "port"}
    assert counted == {"vSwitch0/0 vm1 ethernet0": 1, "vSwitch0/1 vm2 ethernet0": 0}
    assert "found 2 of their ports in use" in refused("kernel", "stop")
    listing = done("switch", "list")
    assert "vSwitch0: 4 of 56 ports, MTU 1500" in listing and "vm1 ethernet0" in listing
    done("kernel", "stop", "--force")
    wait_until(lambda: one.links[-1:] == [False] and two.links[-1:] == [False])
    assert done("kernel", "status") == "not running\n"
    done("kernel", "start")
    wait_until(lambda: one.links[-1] and two.links[-1])
    one.send(frame_of(station(2), station(1)))
    two.wait_for(2)


def test_a_change_applies_to_what_runs(host: Path, ports: NetworkPorts) -> None:
    one, two = (NoteTaker(ports.open("VM Network", station(number), f"vm{number}")) for number in (1, 2))
    done("switch", "portgroup", "rm", "VM Network")
    wait_until(lambda: one.links[-1:] == [False])
    done("switch", "portgroup", "add", "VM Network", "vSwitch0", "--vlan", "9")
    wait_until(lambda: one.links[-1] and two.links[-1])
    one.send(frame_of(station(2), station(1)))
    assert two.wait_for(1) == [frame_of(station(2), station(1))]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark (package tshark)")
def test_tshark_reads_a_capture_without_a_complaint(host: Path, ports: NetworkPorts, tmp_path: Path) -> None:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.utils import PcapNgReader

    one, two = (NoteTaker(ports.open("VM Network", station(number), f"vm{number}")) for number in (1, 2))
    file = tmp_path / "out.pcapng"
    ether = Ether(src="00:0c:29:00:00:01", dst="00:0c:29:00:00:02")
    frame = bytes(ether / IP(dst="10.0.0.2") / UDP(dport=9) / b"hello")
    program = "import sys; from tests.tools.network import main; sys.exit(main())"
    watch = subprocess.Popen(
        [sys.executable, "-c", program, "switch", "capture", "VM Network", "-w", str(file), "--count", "6"],
        stderr=subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    wait_until(lambda: watch.poll() is not None or (file.exists() and file.stat().st_size > 150))
    for number in range(3):
        one.send(frame)
        two.wait_for(number + 1)
    _, said = watch.communicate(timeout=120)
    assert (watch.returncode, said) == (0, b"6 frames\n")
    fields = ["-T", "fields", "-e", "frame.interface_name", "-e", "frame.packet_flags_direction", "-e", "udp.dstport"]
    read = subprocess.run(["tshark", "-r", str(file), *fields], capture_output=True, text=True, check=True)
    complaints = [line for line in read.stderr.splitlines() if line and "Running as user" not in line]
    assert complaints == []
    rows = [line.split("\t") for line in read.stdout.splitlines()]
    assert [row[2] for row in rows] == ["9"] * 6
    seen = {(row[0], int(row[1], 0)) for row in rows}
    assert seen == {("vSwitch0/0 VM Network vm1", 2), ("vSwitch0/1 VM Network vm2", 1)}
    with PcapNgReader(str(file)) as reader:
        assert [bytes(packet) for packet in reader] == [frame] * 6


WATCH = "import sys; from tests.tools.network import main; sys.exit(main())"
FIELDS = ("frame.interface_name", "frame.packet_flags_direction", "vlan.id", "frame.len")
TAGGED = bytes.fromhex("81000069")  # VLAN 105


@pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark (package tshark)")
@pytest.mark.parametrize("piped", [False, True], ids=["file", "pipe"])
@pytest.mark.parametrize(
    ("what", "rows"),
    [
        ("group:Service Console", [("vSwitch0/0 Service Console vm1", "2", "", "60"),
                                   ("vSwitch0/0 Service Console vm1", "2", "", "10"),
                                   ("vSwitch0/0 Service Console vm1", "2", "", "3000"),
                                   ("vSwitch0/0 Service Console vm1", "1", "", "60")]),
        ("port:vSwitch0/0", [("vSwitch0/0 Service Console vm1", "2", "", "60"),
                             ("vSwitch0/0 Service Console vm1", "2", "", "10"),
                             ("vSwitch0/0 Service Console vm1", "2", "", "3000"),
                             ("vSwitch0/0 Service Console vm1", "1", "", "60")]),
        ("uplink:vmnic0", [("vmnic0", "2", "105", "64"), ("vmnic0", "1", "105", "64")]),
    ],
    ids=["group", "port", "uplink"],
)  # fmt: skip
def test_tshark_reads_every_kind_of_capture(
    host: Path, ports: NetworkPorts, tmp_path: Path, what: str, rows: list[tuple[str, ...]], piped: bool
) -> None:
    """A frame that leaves, a runt and a giant, which the switch loses, and a frame that comes by the uplink."""
    outside = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    outside.settimeout(120)
    outside.bind(f"{tmp_path}/nobody0")
    one = NoteTaker(ports.open("Service Console", station(1), "vm1"))
    wait_until(lambda: json.loads(done("switch", "list", "--json"))["uplinks"]["vmnic0"]["link"])
    file = tmp_path / "out.pcapng"
    with open(file, "wb") as out:
        where = ["-w", str(file)] if not piped else []
        watch = subprocess.Popen(
            [sys.executable, "-c", WATCH, "switch", "capture", what, *where, "--count", str(len(rows))],
            stdout=out, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        wait_until(lambda: watch.poll() is not None or file.stat().st_size > 60)
        sent = frame_of(station(9), station(1))
        for frame in (sent, sent[:10], sent + bytes(2940)):
            one.send(frame)
        while (left := outside.recv(1 << 16))[:12] != sent[:12]:  # announcements come before
            pass
        assert left == sent[:12] + TAGGED + sent[12:]
        outside.sendto(station(1) + station(9) + TAGGED + sent[12:], f"{tmp_path}/u0")
        assert one.wait_for(1) == [station(1) + station(9) + sent[12:]]
        _, said = watch.communicate(timeout=120)
    assert (watch.returncode, said) == (0, f"{len(rows)} frames\n".encode())
    words = ["tshark", "-r", "-" if piped else str(file), "-T", "fields"]
    for field in FIELDS:
        words += ["-e", field]
    with open(file, "rb") as source:
        read = subprocess.run(words, stdin=source, capture_output=True, text=True, check=True)
    assert [line for line in read.stderr.splitlines() if line and "Running as user" not in line] == []
    found = [line.split("\t") for line in read.stdout.splitlines()]
    assert [(row[0], str(int(row[1], 0)), *row[2:]) for row in found] == rows
    outside.close()
