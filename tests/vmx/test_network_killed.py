"""The VMkernel's process is killed under a transfer between two machines, which start another and go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ringfence.errors import HostRefused
from tests.realguests.lan import Host, host_with, network
from tests.vmkernel.net.ends import wait_until
from tests.vmx.net_guests import NetGuest
from vmkernel.host.messages_layout import SOCKET_NAME
from vmx.network_config import NicKind

FRAMES, BETWEEN, KILLS = 2500, 50, 2


@pytest.fixture
def host() -> Iterator[Host]:
    with host_with(network({"lan": 0})) as one:
        yield one


def machines(host: Host, frames: int, engine: str, kind: NicKind) -> list[NetGuest]:
    """The one that sends, and the one that takes."""
    made = [NetGuest(host, 2, "sink", engine=engine, kind=kind),
            NetGuest(host, 1, f"stream={frames} peer=2", engine=engine, kind=kind)]  # fmt: skip
    host.machines += made  # type: ignore[arg-type]
    return made


def counted(host: Host, machine: NetGuest, what: str) -> int:
    """Since the present process began; 0 while there is none with the machine's port."""
    with suppress(HostRefused, AssertionError):
        return int(host.port(machine.label)["counters"][what])
    return 0


def processes_of(host: Host) -> set[int]:
    """Whose environment names the host's folder, ours apart; those that have ended and were not waited for, too."""
    found = set()
    mark = host.environment["XDG_RUNTIME_DIR"].encode()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
            if mark in file.read():
                found.add(int(name))
    return found


def is_there(pid: int) -> bool:
    """Also as one that nobody has waited for."""
    return os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize(("engine", "kind"), [("interp", NicKind.VLANCE), ("direct", NicKind.VMXNET)])
def test_a_transfer_goes_on_when_the_vmkernel_was_killed_under_it(host: Host, engine: str, kind: NicKind) -> None:
    receiver, sender = machines(host, FRAMES, engine, kind)
    pids = []
    for _ in range(KILLS):
        wait_until(lambda: counted(host, receiver, "frames_in") > BETWEEN)
        pids.append(host.place.ask("status")["pid"])
        os.kill(pids[-1], signal.SIGKILL)
        wait_until(lambda: not is_there(pids[-1]))
    sender.finish()
    receiver.finish()
    wait_until(lambda: not (host.place.directory / SOCKET_NAME).exists())  # the last one ends by itself
    wait_until(lambda: not processes_of(host))
    assert len(set(pids)) == KILLS
    assert [path for path in host.place.directory.rglob("*") if path.is_socket()] == []


def test_a_machine_that_sends_to_nobody_has_its_port_again(host: Host) -> None:
    flooding = NetGuest(host, 3, "flood=nobody peer=1")
    host.machines.append(flooding)  # type: ignore[arg-type]
    pids = []
    for _ in range(KILLS + 1):
        wait_until(lambda: counted(host, flooding, "frames_out"))
        pids.append(host.place.ask("status")["pid"])
        os.kill(pids[-1], signal.SIGKILL)
        wait_until(lambda: not is_there(pids[-1]))
    assert len(set(pids)) == len(pids)
