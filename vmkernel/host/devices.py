"""The devices of a host's uplinks and of its own ports: opened as the configuration says, tried again if they fail."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from ringfence.errors import BadOption, HostRefused, RingfenceError
from vmkernel.net.host_network import HostNetwork, HostPort, Nic
from vmkernel.net.network import Network, nowhere
from vmkernel.net.port import Port, Wanted
from vmkernel.net.uplinks import host_interface
from vmkernel.net.uplinks.device import open_device
from vmkernel.net.uplinks.tap import TapDevice
from vmkernel.net.uplinks.wiring import UplinkDevice

RETRY_S = 5.0
ALL_HASHES = (1 << 64) - 1


@dataclass(slots=True)
class Opened:
    """An uplink's device; None after a refusal, which is in `trouble`."""

    nic: Nic
    device: UplinkDevice | None = None
    trouble: str = ""
    tried_s: float = 0.0


class OwnPort:
    """A port of the host itself: an Endpoint, and a TAP."""

    def __init__(self, conf: HostPort, network: Network, now_ns: int) -> None:
        """Raises HostRefused, and BadOption where the port group is not there or full."""
        self.conf = conf
        self.port: Port | None = None
        self.tap = TapDevice(conf.name)
        try:
            host_interface.set_address(conf.name, conf.address)
            host_interface.set_mtu(conf.name, conf.mtu)
            if conf.interface is not None:
                host_interface.set_ip(conf.name, conf.interface)
            self.port = network.open(conf.group, conf.address, self, conf.name, now_ns)
        except OSError as error:
            self.tap.close()
            raise HostRefused(f"{conf.name}: cannot be set up: {error.strerror}") from error
        except RingfenceError:
            self.tap.close()
            raise
        wanted = Wanted(conf.address, receiving=True, unicast=True, broadcast=True, hashes=ALL_HASHES)
        if (switch := network.switch_of(self.port)) is not None:
            switch.want(self.port, wanted, now_ns)

    def deliver(self, frame: bytes) -> bool:
        return self.tap.send(frame)

    def switched(self, on: bool) -> None:
        """The interface stays; frames go nowhere meanwhile."""

    def close(self, network: Network) -> None:
        if self.port is not None:
            network.close(self.port)
        self.tap.close()


class Devices:
    """All of a host."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.opened: dict[str, Opened] = {}
        self.own_ports: dict[str, OwnPort] = {}
        self.own_troubles: dict[str, str] = {}

    def apply(self, wanted: HostNetwork, now_ns: int) -> None:
        """A level. Uplinks of no switch are not open."""
        nics = {name: nic for name, nic in wanted.nics.items() if wanted.user_of(name) is not None}
        for name, opened in list(self.opened.items()):
            if nics.get(name) != opened.nic:
                self._close(name)
        for name, nic in nics.items():
            if name not in self.opened:
                self.opened[name] = Opened(nic)
                self._open(name, now_ns)
        for name, own in list(self.own_ports.items()):
            conf = wanted.host_ports.get(name)
            if conf != own.conf or not conf.enabled:
                self.own_ports.pop(name).close(self._network)
        self.own_troubles.clear()
        for conf in wanted.host_ports.values():
            if conf.enabled and conf.name not in self.own_ports:
                try:
                    self.own_ports[conf.name] = OwnPort(conf, self._network, now_ns)
                except (HostRefused, BadOption) as error:
                    self.own_troubles[conf.name] = str(error)

    def _open(self, name: str, now_ns: int) -> None:
        opened = self.opened[name]
        opened.tried_s = time.monotonic()
        try:
            opened.device = open_device(opened.nic.place, opened.nic.address)
        except HostRefused as error:
            opened.trouble = str(error)
            return
        opened.trouble = ""
        self._network.uplinks[name].send = opened.device.send
        self.look(name, now_ns)

    def _close(self, name: str) -> None:
        opened = self.opened.pop(name)
        if opened.device is not None:
            opened.device.close()
        if name in self._network.uplinks:
            self._network.uplinks[name].send = nowhere

    def look(self, name: str, now_ns: int) -> None:
        """Its link may have changed."""
        device = self.opened[name].device
        up = device is not None and device.link
        if self._network.uplinks[name].link != up:
            self._network.set_link(name, up, now_ns)

    def trouble(self, name: str) -> str:
        """Why an uplink does not work; empty if it does, or is not known to be wrong."""
        opened = self.opened.get(name)
        if opened is None:
            return ""
        return opened.trouble if opened.device is None else opened.device.trouble

    def filenos(self) -> Iterator[tuple[int, UplinkDevice | OwnPort, str, bool]]:
        """What is to be watched for input, and whether for room too."""
        for name, opened in self.opened.items():
            if opened.device is not None and (fd := opened.device.fileno()) >= 0:
                yield fd, opened.device, name, opened.device.is_waiting
        for name, own in self.own_ports.items():
            if (fd := own.tap.fileno()) >= 0:
                yield fd, own, name, False

    def tick(self, now_ns: int) -> None:
        """Once a second."""
        for name, opened in list(self.opened.items()):
            if opened.device is not None:
                opened.device.tick()
                self.look(name, now_ns)
            elif time.monotonic() - opened.tried_s > RETRY_S:
                self._open(name, now_ns)

    def close(self) -> None:
        for name in list(self.opened):
            self._close(name)
        for own in self.own_ports.values():
            own.close(self._network)
        self.own_ports.clear()
