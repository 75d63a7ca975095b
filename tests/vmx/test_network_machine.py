"""Whole machines with network adapters: the guest that drives them passes, also suspended in its midst."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.errors import BadOption, RingfenceError
from tests.vmx.network_machine import Lan, config_of, load_guest, machine, nic, run
from vmx.machine_config import AdapterSpec, MachineConfig
from vmx.network_config import NicKind
from vmx.stop import StopKind
from vmx.suspend import open_saved, restore, suspend_soon

PASSED = {NicKind.VLANCE: 16, NicKind.VMXNET: 6}  # that PCI answers, and the checks of one adapter
MIDST = "pcnet_loops_back_in_style_0"  # what the guest says before it loops more frames


@pytest.mark.parametrize("vcpus", [1, 2])
@pytest.mark.parametrize("kind", NicKind)
def test_drivers_of_each_adapter_pass(kind: NicKind, vcpus: int) -> None:
    lan = Lan()
    with machine(config_of({0: nic(0, kind)}, vcpus), lan) as (made, line):
        load_guest(made, "adapters=1 host")
        assert run(made).kind is StopKind.EXITED, "\n".join(line.said())
        assert line.failures() == [] and line.said()[-1] == f"DONE {PASSED[kind]} passed, 0 failed"
    assert lan.ports[0].closed


def test_five_adapters_have_slots_addresses_and_interrupts_of_their_own() -> None:
    nics = {number: nic(number, NicKind.VMXNET if number == 3 else NicKind.VLANCE) for number in range(5)}
    with machine(config_of(nics), Lan()) as (made, line):
        load_guest(made, "adapters=5 host")
        assert run(made).kind is StopKind.EXITED, "\n".join(line.said())
        assert line.failures() == [] and line.said()[-1].endswith(" 0 failed")
        assert [pin.slot for pin in made.board.interrupt_pins()] == [0x11, 0x12, 0x13, 0x14, 0x15]


def test_scsi_adapters_keep_their_slots() -> None:
    config = MachineConfig(memory_mib=16, scsi={0: AdapterSpec(), 1: AdapterSpec()}, nics={0: nic()}, engine="interp",
                           serials=(None, None))  # fmt: skip
    with machine(config, Lan()) as (made, _):
        assert [slot for (_, slot, _), chip in made.board.network.slots()] == [0x12]
        assert made.board.pci.functions[0, 0x12, 0].config_read(0, 4) == 0x20001022


def test_loopback_needs_no_cable() -> None:
    with machine(config_of({0: nic(connected=False)}), Lan()) as (made, line):
        load_guest(made, "adapters=1")
        assert run(made).kind is StopKind.EXITED, "\n".join(line.said())
        assert line.failures() == [] and line.said()[-1] == "DONE 8 passed, 0 failed"


@pytest.mark.parametrize("engine", ["interp", "direct"])
def test_a_suspended_machine_goes_on_with_its_frames(engine: str, tmp_path: Path) -> None:
    saved, config, lan = tmp_path / "machine.vmss", config_of({0: nic()}, engine=engine), Lan()
    failures: list[RingfenceError] = []
    with machine(config, lan) as (made, line):
        line.at(MIDST, lambda: suspend_soon(made, saved, failures.append))
        load_guest(made, "adapters=1 host")
        assert run(made).kind is StopKind.SUSPENDED and not failures
        before = line.output
    with machine(config, Lan()) as (made, line):
        opened = open_saved(saved)
        try:
            restore(made, opened)
        finally:
            opened.close()
        assert run(made).kind is StopKind.EXITED, "\n".join(line.said())
        said = (before + line.output).decode().splitlines()
    assert said[-1] == f"DONE {PASSED[NicKind.VLANCE]} passed, 0 failed"
    with machine(config_of({0: nic(1)}, engine=engine), Lan()) as (made, _):
        opened = open_saved(saved)
        try:
            with pytest.raises(RingfenceError):
                restore(made, opened)
        finally:
            opened.close()


def test_a_machine_of_six_adapters_is_refused() -> None:
    with pytest.raises(BadOption, match="ethernet5"):
        config_of({5: nic(5)}).check()
