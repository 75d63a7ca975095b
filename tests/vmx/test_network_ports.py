"""A machine on a virtual switch of the VMkernel's process: the guest that drives its adapter reaches another port."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hw.net.wiring import AddressFilter
from tests.vmkernel.net.ends import station, wait_until
from tests.vmx.network_machine import config_of, load_guest, machine, nic, run
from tests.vmx.network_peer import HOST_ADDRESS, answering_host
from vmkernel.host.client import KernelPlace
from vmkernel.net import changes
from vmkernel.net.host_network import HostNetwork
from vmkernel.net.network_file import NetworkFile
from vmx.network_config import NicKind
from vmx.network_ports import KernelPort, NetworkPorts
from vmx.stop import StopKind

PATIENCE_S = 60.0


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[NetworkPorts]:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)

    def network(_: HostNetwork) -> HostNetwork:
        return changes.add_group(changes.add_switch(HostNetwork(), "vSwitch0"), "vSwitch0", "VM Network", 5)

    NetworkFile(tmp_path / "esx.conf").change(network)
    made = NetworkPorts(folder, tmp_path / "esx.conf")
    yield made
    made.place.stop(force=True)
    made.close()


class AnsweringEnd:
    """A host on the switch, which answers ARP requests and pings."""

    def __init__(self, port: KernelPort) -> None:
        self.port = port
        port.connect(self)
        port.set_filter(AddressFilter(HOST_ADDRESS, True, True, True))

    def deliver(self, frame: bytes) -> None:
        if (answer := answering_host(frame)) is not None:
            self.port.send([memoryview(answer)])

    def writable(self) -> None:
        """What was refused is lost: the guest asks again."""

    def switched(self, on: bool) -> None:
        """It stays."""

    def wire(self, fd: int | None) -> bool:
        return False


class Lan:
    """Ports on the switch for a machine's adapters; stands in for network_machine.Lan."""

    def __init__(self, ports: NetworkPorts) -> None:
        self.hub, self._network = self, ports
        self.ports: dict[int, object] = {}

    def port(self) -> KernelPort:
        return self._network.open("VM Network", nic(len(self.ports)).address, f"vm ethernet{len(self.ports)}")


@pytest.mark.parametrize("kind", NicKind)
def test_a_guests_driver_passes_on_a_switch(ports: NetworkPorts, kind: NicKind) -> None:
    AnsweringEnd(ports.open("VM Network", HOST_ADDRESS, "host"))
    with machine(config_of({0: nic(0, kind)}), Lan(ports)) as (made, line):  # type: ignore[arg-type]
        load_guest(made, "adapters=1 host")
        assert run(made).kind is StopKind.EXITED, "\n".join(line.said())
        assert line.failures() == [] and line.said()[-1].endswith(" 0 failed")
    wait_until(lambda: len(ports.place.ask("status")["switches"][0]["groups"][0]["ports"]) == 1)


def test_a_closed_port_is_free_and_says_nothing_more(ports: NetworkPorts) -> None:
    port = ports.open("VM Network", station(1), "vm")
    port.close()
    port.close()
    port.disconnect()
    port.set_filter(AddressFilter(station(1), True))
    assert port.send([memoryview(bytes(60))])
    wait_until(lambda: ports.place.ask("status")["switches"][0]["groups"][0]["ports"] == [])


class BusyEnd(AnsweringEnd):
    """An adapter that somebody is in, who sends, too: what it is told has to wait for that."""

    def __init__(self, port: KernelPort) -> None:
        self.inside = threading.Lock()
        self.asked, self.told = threading.Event(), threading.Event()
        super().__init__(port)

    def writable(self) -> None:
        self.asked.set()
        with self.inside:
            self.told.set()


def test_an_adapter_that_sends_is_told_of_room_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setattr(KernelPlace, "open", lambda *_, **__: (near, {"on": True}))
    ports = NetworkPorts(tmp_path, tmp_path / "esx.conf")
    port = KernelPort(ports, "lan", station(1), "vm")
    port.plug_in(start=False)
    end = BusyEnd(port)
    frame = [memoryview(bytes(1000))]
    answers: list[bool] = []
    with end.inside:
        while port.send(frame):
            pass
        with suppress(BlockingIOError):
            while True:
                far.recv(1 << 16, socket.MSG_DONTWAIT)
        threads = [threading.Thread(target=one) for one in (port.has_room, lambda: answers.append(port.send(frame)))]
        threads[0].start()
        assert end.asked.wait(PATIENCE_S)
        threads[1].start()
        threads[1].join(PATIENCE_S)
        sent = list(answers)
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sent == [True] and end.told.is_set() and not port.waits_for_room
    port.close()
    ports.close()
    far.close()
