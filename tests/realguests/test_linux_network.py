"""Debian's pcnet32 and iPXE's ROM, unpatched, on the vlance: addresses, pings, links that come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.realguests import iso
from tests.realguests.guest import CONFIG, LONG_S, PROMPT, Guest, Line, debian_firmware, linux
from tests.vmx.network_peer import Hub, Port, answering_host
from vmx.machine import Machine
from vmx.machine_config import BootDevice, MachineConfig
from vmx.network_config import NicKind, NicSpec
from vmx.network_rom import network_rom
from vmx.plug import plug_in
from vmx.program import LinuxProgram
from vmx.stop import StopKind

MakeBoot = Callable[[str, str], iso.Boot]
ADDRESS = bytes.fromhex("000c29d1b969")
NICS = {0: NicSpec(ADDRESS, NicKind.VLANCE)}
MODULES = "mods=pcnet32 settle=1 loglevel=7"
DHCP_CLIENT = (68).to_bytes(2, "big")
UDP = 17


@contextmanager
def on_a_lan(config: MachineConfig, program: LinuxProgram | None, limit_s: float) -> Iterator[tuple[Guest, Port]]:
    """A machine that was just switched on, and its port."""
    line, log = Line(), bytearray()
    with debian_firmware():
        attached = plug_in(config, lambda text: None, log.append, firmware=program is None)
    attached.plug_serial(0, line)
    port = Hub(answering_host).port()
    attached.nics[0].port = port
    try:
        machine = Machine(config, attached)
    except BaseException:
        attached.close()
        raise
    guest = Guest(machine, line, log)
    try:
        if program is not None:
            machine.start_with(program)
        guest.start(limit_s)
        yield guest, port
    finally:
        guest.close()


@pytest.mark.long
@pytest.mark.parametrize("vcpus", [1, 2])
def test_linux_brings_it_up_and_pings(vcpus: int, raw_boot: MakeBoot, tmp_path: Path) -> None:
    config = replace(CONFIG, nics=NICS, vcpus=vcpus)
    program = linux(raw_boot("686", f"{MODULES} checks=pci,network,complaints end=shell"))
    with on_a_lan(config, program, LONG_S) as (guest, _):
        guest.expect(PROMPT)
        text = guest.transcript.text
        assert "pcnet32: PCnet/PCI II 79C970A at 0x1800, 00:0c:29:d1:b9:69 assigned IRQ 18" in text
        assert "pcnet32 0000:00:11.0 eth0: link up" in text and "ping ok" in text
        assert "200 packets received, 0% packet loss" in guest.ask("ping -c 200 -i 0.01 -q -s 1400 10.0.2.2")
        for number in (1, 2):
            guest.ask("ip link set eth0 down; ip link set eth0 up")
            assert "5 packets received" in guest.ask(f"sleep 1; ping -c 5 -q 10.0.2.2; : {number}")
        guest.ask("ip link set eth0 promisc on; ip link set eth0 promisc off")
        assert "1 packets received" in guest.ask("ping -c 1 -q 10.0.2.2")
        assert set(guest.ask("cat /sys/class/net/eth0/statistics/*_errors").split()) == {"0"}
        guest.send("poweroff -f\n")
        guest.ended(StopKind.POWERED_OFF)
        assert not guest.transcript.complaints


@pytest.mark.long
def test_linux_sees_the_cable_pulled_and_put_back(raw_boot: MakeBoot) -> None:
    program = linux(raw_boot("686", f"{MODULES} checks=network end=shell"))
    with on_a_lan(replace(CONFIG, nics=NICS), program, LONG_S) as (guest, _):
        guest.expect(PROMPT)
        network, lock = guest.machine.board.network, guest.machine.lock
        for plugged, carrier in ((False, "0"), (True, "1")):
            with lock:
                network.set_plugged(0, plugged)
            guest.ask("sleep 5")  # the driver looks every two seconds
            assert guest.ask("cat /sys/class/net/eth0/carrier") == carrier
        assert "1 packets received" in guest.ask("ping -c 1 -q 10.0.2.2")


@pytest.mark.long
def test_ipxe_boots_from_the_rom_and_asks_for_an_address() -> None:
    if not network_rom():
        pytest.skip("no pxe-pcnet.rom (package ipxe-qemu)")
    order = (BootDevice.NETWORK, BootDevice.DISK, BootDevice.CDROM, BootDevice.FLOPPY)
    with on_a_lan(replace(CONFIG, nics=NICS, boot_order=order), None, LONG_S) as (guest, port):
        port.wait_for(lambda sent: any(is_dhcp(frame) for frame in sent))
        assert any("net0: 00:0c:29:d1:b9:69 using pcnet32" in row for row in guest.screen())


def is_dhcp(frame: bytes) -> bool:
    return frame[6:12] == ADDRESS and frame[23] == UDP and frame[34:36] == DHCP_CLIENT
