"""The board as a whole: what a reset and a loaded state leave, and what a configuration does to its devices."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vmx.machines import machine, run
from vmx import runner
from vmx.machine import Machine
from vmx.machine_config import MachineConfig
from vmx.stop import StopKind, StopReason
from vmx.suspend import open_saved, restore, suspend_soon

UUID = bytes(range(16))
CONFIG = MachineConfig(memory_mib=16, uuid=UUID)
ROM = bytes(range(256)) * 255 + bytes(240) + b"\xeb\xfe" + bytes(14)  # the reset vector jumps to itself
PAM0, BRIDGE = 0x59, 0x80000000
READ_ROM_WRITE_RAM, RAM = 0x20, 0x30


@pytest.fixture
def made() -> Iterator[Machine]:
    with machine(CONFIG, firmware=ROM) as built:
        yield built


def config_write(made: Machine, offset: int, value: int) -> None:
    made.board.ports.write(0xCF8, 4, BRIDGE | offset & ~3)
    made.board.ports.write(0xCFC + offset % 4, 1, value)


def device_states(made: Machine) -> dict[str, bytes]:
    return {
        name: bytes(state) for name, state in made.state.states.items() if name[:4] != "vcpu" and name != "interrupts"
    }


def test_a_reset_leaves_what_power_on_left(made: Machine) -> None:
    """But for the clock chip, which keeps its time and its memory."""
    before = device_states(made)
    for port in (0x3F9, 0x70, 0x92, 0x378, 0x3C4, 0x1F6, 0xCF8, 0x511):
        made.board.ports.write(port, 1, 0x5A & ~1)
    config_write(made, PAM0, RAM)
    assert device_states(made) != before
    with made.lock:
        made.reset_now()
    after = device_states(made)
    assert {name for name in before if before[name] != after[name]} <= {"rtc"}


def test_driving_every_output_again_changes_nothing(made: Machine) -> None:
    config_write(made, PAM0, READ_ROM_WRITE_RAM)
    made.board.ports.write(0x3F9, 1, 2)
    before, interrupts = device_states(made), bytes(made.interrupts.state)
    made.board.sync()
    made.board.sync()
    assert device_states(made) == before
    assert bytes(made.interrupts.state.pic) == bytes(type(made.interrupts.state).from_buffer_copy(interrupts).pic)


def test_firmware_that_was_suspended_while_it_copied_itself_finds_what_it_had_written(
    made: Machine, tmp_path: Path
) -> None:
    """Reads from ROM and writes to RAM: both are in device memory then."""
    config_write(made, PAM0, READ_ROM_WRITE_RAM)
    made.memory.write(0xF1000, b"copied")
    suspend_soon(made, tmp_path / "m.vmss", lambda error: pytest.fail(str(error)))
    assert run(made).kind is StopKind.SUSPENDED
    saved = open_saved(tmp_path / "m.vmss")
    with machine(CONFIG, firmware=ROM) as other:
        restore(other, saved)
        saved.close()
        assert other.memory.read(0xF1000, 6) == b"copied"
        config_write(other, PAM0, RAM)
        assert other.memory.read(0xF1000, 6) == b"copied"
        assert other.memory.read(0xF2000, 6) == bytes(6), "the page that was not copied is RAM's own"


@pytest.mark.parametrize("field", ["owed_kicks", "lock", "vcpus", "events", "sampled"])
def test_a_state_from_elsewhere_cannot_name_vcpus_that_are_not_there(made: Machine, field: str) -> None:
    """Whoever makes the checksum right may write anything into a state file: the machine may go wrong, not we."""
    place = getattr(type(made.interrupts.state), field)
    ctypes.memset(ctypes.addressof(made.interrupts.state) + place.offset, 0x7F, place.size)
    made.restored()
    made.limit_time(0.1)
    made.start()
    assert runner.run(made).kind in set(StopKind)


def hours(config: MachineConfig) -> int:
    """The clock chip's hours, in BCD as after power-on; not while it updates."""
    with machine(config) as made:
        made.interrupts.resume()
        ports = made.board.ports
        ports.write(0x70, 1, 4)
        return int(f"{ports.read(0x71, 1):02x}")


def test_the_clock_chip_has_local_time_for_guests_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XXX-5")
    time.tzset()
    try:
        utc = hours(CONFIG)
        local = hours(MachineConfig(memory_mib=16, local_time=True))
        assert (local - utc) % 24 in {5, 6}  # 6 where an hour passed in between
    finally:
        monkeypatch.undo()
        time.tzset()


def firmware_file(made: Machine, name: str) -> bytes | None:
    """What firmware reads under this name at ports 510h and 511h."""
    ports = made.board.ports

    def item(key: int, length: int) -> bytes:
        ports.write(0x510, 2, key)
        return bytes(ports.read(0x511, 1) for _ in range(length))

    count = int.from_bytes(item(0x19, 4), "big")
    for row in range(count):
        entry = item(0x19, 4 + 64 * (row + 1))[-64:]
        if entry[8:].rstrip(b"\0") == name.encode():
            return item(int.from_bytes(entry[4:6], "big"), int.from_bytes(entry[:4], "big"))
    return None


def test_a_boot_delay_makes_firmware_wait_for_keys_that_long() -> None:
    with machine(MachineConfig(memory_mib=16, boot_delay_ms=70_000), firmware=ROM) as made:
        assert firmware_file(made, "etc/boot-menu-wait") == (70_000).to_bytes(4, "little")
        assert firmware_file(made, "etc/show-boot-menu") == b"\1"
    with machine(CONFIG, firmware=ROM) as made:
        assert firmware_file(made, "etc/boot-menu-wait") == bytes(8)
        assert firmware_file(made, "etc/show-boot-menu") == b"\0"


def test_no_two_devices_claim_a_port_and_the_core_s_are_free(made: Machine) -> None:
    claimed: set[int] = set()
    for claim in made.board.ports.claims():
        ports = set(range(claim.first, claim.first + claim.count))
        assert not ports & claimed
        claimed |= ports


def test_closing_a_machine_that_runs_is_refused_nothing(made: Machine) -> None:
    """A stop asked for before the run begins ends it at once."""
    made.stop(StopReason(StopKind.LEFT))
    assert run(made).kind is StopKind.LEFT
