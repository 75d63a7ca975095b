"""Suspended machines: they go on where they were; files that are damaged or another machine's are refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from guests.builder import build
from ringfence.errors import BadInput, HostRefused, LayoutMismatch, RingfenceError
from tests.vmx.machines import LIMIT_S, machine
from vmm.interrupts import ClockMode
from vmm.state import StateFile
from vmx import runner
from vmx.loader import load_program
from vmx.machine import Machine
from vmx.machine_config import MachineConfig
from vmx.stop import StopKind, StopReason
from vmx.suspend import open_saved, restore, suspend_soon

UUID = bytes(range(16))
CONFIG = MachineConfig(memory_mib=16, uuid=UUID)


def load(made: Machine, guest: str) -> None:
    made.interrupts.set_clock(ClockMode.COUNTED)
    made.load(load_program(Path(build(guest)), made.config.memory_mib << 20))


def start(made: Machine, after_exit: Callable[[Machine], None] | None = None) -> StopReason:
    made.limit_time(LIMIT_S)
    made.start()
    return runner.run(made, after_exit)


def suspended(path: Path, guest: str, exits: int, config: MachineConfig = CONFIG) -> bytes:
    """Suspend a guest after so many exits; what it had printed."""
    failures: list[RingfenceError] = []
    left = exits

    def count(made: Machine) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            suspend_soon(made, path, failures.append)

    with machine(config) as made:
        load(made, guest)
        stop = start(made, count)
        assert not failures, failures
        assert stop.kind is StopKind.SUSPENDED
        return bytes(made.serial.output)  # type: ignore[attr-defined]


def resumed(path: Path, config: MachineConfig = CONFIG) -> tuple[bytes, StopReason, bytes]:
    """Bring it back and run it to its end: what it printed, how it ended, its registers and RAM."""
    saved = open_saved(path)
    try:
        with machine(config) as made:
            restore(made, saved)
            stop = start(made)
            return bytes(made.serial.output), stop, bytes(made.vcpu.state)  # type: ignore[attr-defined]
    finally:
        saved.close()


@pytest.mark.parametrize("guest", ["rings", "irq", "tasks", "paging"])
@pytest.mark.parametrize("exits", [1, 60, 333])
def test_a_resumed_machine_goes_on_as_if_nothing_had_been(tmp_path: Path, guest: str, exits: int) -> None:
    with machine(CONFIG) as made:
        load(made, guest)
        stop = start(made)
        straight = bytes(made.serial.output), stop, bytes(made.vcpu.state)  # type: ignore[attr-defined]
    path = tmp_path / "m.vmss"
    first = suspended(path, guest, exits)
    rest, stop, registers = resumed(path)
    assert (first + rest, stop, registers) == straight


def test_the_file_is_as_large_as_what_was_touched(tmp_path: Path) -> None:
    path = tmp_path / "m.vmss"
    suspended(path, "rings", 60, replace(CONFIG, memory_mib=512))
    facts = path.stat()
    assert facts.st_size > 512 << 20 and facts.st_blocks * 512 < 16 << 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "m.vmss"
    suspended(path, "rings", 60)
    return path


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (replace(CONFIG, memory_mib=17), "memory_mib: expected 17"),
        (replace(CONFIG, vcpus=2), "vcpus: expected 2"),
        (replace(CONFIG, uuid=bytes(16)), "uuid: expected 0000"),
        (replace(CONFIG, cpu_features="-sse2"), "cpu_features: expected -sse2"),
    ],
)
def test_another_machine_s_state_is_refused(whole: Path, config: MachineConfig, what: str) -> None:
    with pytest.raises(BadInput, match=what):
        resumed(whole, config)


def damaged(whole: Path, tmp_path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(whole.read_bytes())
    change(data)
    path = tmp_path / "bad.vmss"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("at", [0, 4, 9, 14, 80, 100, 200, 500, 5000, 100_000])
def test_a_changed_byte_before_the_memory_is_found(whole: Path, tmp_path: Path, at: int) -> None:
    def change(data: bytearray) -> None:
        data[at] ^= 0x5A

    with pytest.raises(BadInput, match=r"bad\.vmss: "):
        resumed(damaged(whole, tmp_path, change))


def test_a_changed_byte_of_memory_is_found(whole: Path, tmp_path: Path) -> None:
    saved = open_saved(whole)
    offset = saved.container.large_offset + 0x100000
    saved.close()

    def change(data: bytearray) -> None:
        data[offset] ^= 1

    with pytest.raises(BadInput, match=r"memory at 0x100000: expected checksum"):
        resumed(damaged(whole, tmp_path, change))


@pytest.mark.parametrize("keep", [0, 5, 12, 500, 40_000, -5])
def test_a_cut_file_is_refused(whole: Path, tmp_path: Path, keep: int) -> None:
    def change(data: bytearray) -> None:
        del data[keep:]

    with pytest.raises(BadInput):
        resumed(damaged(whole, tmp_path, change))


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.vmss"
    with pytest.raises(BadInput, match="cannot open"):
        open_saved(path)
    path.write_bytes(b"\x7fELF" + bytes(100))
    with pytest.raises(BadInput, match="magic at offset 0: expected 0xbed2bed2"):
        open_saved(path)


def test_another_build_s_layout_is_refused(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = open_saved(whole)
    with machine(CONFIG) as made:
        sections = dict(made.state.sections)
        sections["uart0"], sections["rtc"] = sections["rtc"], sections["uart0"]
        monkeypatch.setattr(StateFile, "__getitem__", lambda self, name: self.states[name])
        made.state.sections = sections
        with pytest.raises(LayoutMismatch):
            restore(made, saved)
    saved.close()


def test_a_full_disk_leaves_nothing_and_the_machine_runs_on(tmp_path: Path) -> None:
    failures: list[RingfenceError] = []
    folder = tmp_path / "gone"
    asked = False

    def ask(made: Machine) -> None:
        nonlocal asked
        if not asked:
            asked = True
            suspend_soon(made, folder / "m.vmss", failures.append)

    with machine(CONFIG) as made:
        load(made, "rings")
        stop = start(made, ask)
        assert stop.kind is not StopKind.SUSPENDED and b"FAIL" not in made.serial.output  # type: ignore[attr-defined]
    assert isinstance(failures[0], HostRefused) and "could not be suspended" in str(failures[0])
    assert os.listdir(tmp_path) == []
