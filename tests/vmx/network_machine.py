"""Machines with network adapters, in which the guest that drives them runs, on a hub with a host that answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from guests import build
from tests.vmx.machines import LIMIT_S
from tests.vmx.network_peer import Hub, Port, answering_host
from tests.vmx.scsi_machine import UUID, Line, unheard
from vmx import runner
from vmx.loader import load_program
from vmx.machine import Machine
from vmx.machine_config import MachineConfig
from vmx.network_config import NicKind, NicSpec, generated_address, generated_offset
from vmx.plug import plug_in
from vmx.stop import StopReason


def nic(number: int = 0, kind: NicKind = NicKind.VLANCE, *, connected: bool = True) -> NicSpec:
    return NicSpec(generated_address(UUID, generated_offset(number)), kind, connected=connected)


def config_of(nics: Mapping[int, NicSpec], vcpus: int = 1, engine: str = "interp") -> MachineConfig:
    return MachineConfig(memory_mib=16, vcpus=vcpus, engine=engine, uuid=UUID, serials=(None, None), nics=nics)


class Lan:
    """A hub, the host on it, and the machine's ports by their adapters' numbers."""

    def __init__(self, *, host: bool = True) -> None:
        self.hub = Hub(answering_host if host else None)
        self.ports: dict[int, Port] = {}


@contextmanager
def machine(config: MachineConfig, lan: Lan) -> Iterator[tuple[Machine, Line]]:
    """Switched off; closed at the end."""
    line = Line()
    attached = plug_in(config, lambda text: None, unheard, firmware=False)
    attached.plug_serial(0, line)
    for number, plugged in attached.nics.items():
        plugged.port = lan.ports[number] = lan.hub.port()
    try:
        made = Machine(config, attached)
    except BaseException:
        attached.close()
        raise
    try:
        yield made, line
    finally:
        made.close()


def load_guest(made: Machine, options: str) -> None:
    made.load(load_program(build("net"), made.config.memory_mib << 20), options)


def run(made: Machine) -> StopReason:
    made.limit_time(LIMIT_S)
    made.start()
    return runner.run(made)
