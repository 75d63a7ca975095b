"""A running machine as its control socket sees it, where its end and what is asked of it meet."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.errors import HostRefused
from tests.vmx.fake_machine import ListLog
from tests.vmx.machines import machine
from tests.vmx.programs import assemble
from vmx import runner
from vmx.loader import load_program
from vmx.machine import Machine
from vmx.machine_config import MachineConfig
from vmx.power import PowerState
from vmx.running import RunningMachine
from vmx.stop import StopKind, StopReason
from vmx.vmx_settings import load_settings

LIMIT_S = 60


class Ran:
    """A machine on a thread of its own, from `begin` to its end."""

    def __init__(self, made: Machine, folder: Path) -> None:
        vmx = folder / "m.vmx"
        vmx.write_text('config.version = "8"\nmemsize = "16"\n')
        self.machine, self.log = made, ListLog()
        self.running = RunningMachine(made, load_settings(vmx), self.log)
        self.running.start_console()
        self.stop: StopReason | None = None
        self._thread = threading.Thread(target=self._run)

    def begin(self) -> None:
        self.machine.limit_time(LIMIT_S)
        self.machine.start()
        self._thread.start()

    def _run(self) -> None:
        self.stop = runner.run(self.machine)
        self.running.ended()

    def join(self) -> None:
        self._thread.join()

    def end(self) -> None:
        self.machine.stop(StopReason(StopKind.LEFT))
        if self._thread.ident is not None:
            self.join()
        self.running.ended()


@pytest.fixture
def ran(tmp_path: Path) -> Iterator[Ran]:
    with machine(MachineConfig(memory_mib=16, vcpus=2)) as made:
        made.load(load_program(assemble(".globl _start\n_start: incl 0x9000\njmp _start", tmp_path / "p"), 16 << 20))
        ran = Ran(made, tmp_path)
        yield ran
        ran.end()


def test_what_comes_after_a_hard_stop_finds_the_machine_gone(ran: Ran, tmp_path: Path) -> None:
    ran.running.stop(hard=True)
    ran.begin()
    for action in (ran.running.suspend, ran.running.reset):
        with pytest.raises(HostRefused, match="the machine ended before that"):
            action()
    assert not list(tmp_path.glob("*.vmss"))
    assert ran.running.power_state() is PowerState.OFF
    assert ran.stop is not None and ran.stop.kind is StopKind.SWITCHED_OFF


def test_a_reset_is_over_when_it_returns(ran: Ran) -> None:
    ran.begin()
    resets: list[bool] = []
    reset_now = ran.machine.reset_now

    def counted() -> None:
        reset_now()
        resets.append(True)

    ran.machine.reset_now = counted  # type: ignore[method-assign]
    for count in range(1, 6):
        ran.running.reset()
        assert len(resets) == count
    before = ran.machine.memory.read(0x9000, 4)
    deadline = time.monotonic() + LIMIT_S
    while ran.machine.memory.read(0x9000, 4) == before:
        assert time.monotonic() < deadline, "the program runs again"
        time.sleep(0.001)


def test_a_suspended_machine_is_noted_in_its_file_before_it_ends(ran: Ran, tmp_path: Path) -> None:
    noted: list[str] = []
    stop = ran.machine.stop

    def look(reason: StopReason) -> None:
        noted.append((tmp_path / "m.vmx").read_text())
        stop(reason)

    ran.machine.stop = look  # type: ignore[method-assign]
    ran.begin()
    ran.running.suspend()
    ran.join()
    (path,) = tmp_path.glob("*.vmss")
    assert f'checkpoint.vmState = "{path.name}"' in noted[0]
    assert ran.running.power_state() is PowerState.SUSPENDED
    assert "SUSPEND" in ran.log.lines[-1]
