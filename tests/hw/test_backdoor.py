"""The backdoor, called as Tools call it."""

import pytest

from hw.backdoor import Backdoor, BackdoorState, MachineFacts

MAGIC = 0x564D5868
EAX, ECX, EDX, EBX, ESI = 0, 1, 2, 3, 6
PRESET = 0x13579BDF


class Cpu:
    def __init__(self, command: int, cpl: int = 3) -> None:
        self.gpr = [MAGIC, command, 0x5658, PRESET, 0, 0, 0x11111111, 0]
        self.cpl = cpl


class Clock:
    def now_ns(self) -> int:
        return 0x1_0000_0005 * 10**9 + 123_456_789

    def zone_minutes(self) -> int:
        return 120


@pytest.fixture
def backdoor() -> Backdoor:
    facts = MachineFacts(memory_mib=96, tsc_hz=0x2_1234_5678, bus_hz=100_000_000, uuid=bytes(range(16)))
    made = Backdoor(BackdoorState(), facts, Clock())
    made.reset()
    return made


def call(backdoor: Backdoor, command: int, cpl: int = 3, port: int = 0x5658) -> list[int]:
    cpu = Cpu(command, cpl)
    backdoor.call(port, cpu)
    return cpu.gpr


def test_version_names_esx_server(backdoor: Backdoor) -> None:
    regs = call(backdoor, 10)
    assert (regs[EAX], regs[EBX], regs[ECX]) == (6, MAGIC, 2)


def test_memory_size_is_in_mib(backdoor: Backdoor) -> None:
    assert call(backdoor, 20)[EAX] == 96


def test_hardware_version_is_4(backdoor: Backdoor) -> None:
    assert call(backdoor, 17)[EAX] == 4


def test_frequencies(backdoor: Backdoor) -> None:
    regs = call(backdoor, 45)
    assert (regs[EAX], regs[EBX], regs[ECX]) == (0x12345678, 2, 100_000_000)
    assert call(backdoor, 1)[EAX] == 0x2_1234_5678 // 1_000_000


def test_time_is_seconds_and_microseconds(backdoor: Backdoor) -> None:
    regs = call(backdoor, 23)
    assert (regs[EAX], regs[EBX], regs[EDX]) == (5, 123_456, -120 & 0xFFFFFFFF)


def test_full_time_has_64_bits(backdoor: Backdoor) -> None:
    regs = call(backdoor, 46)
    assert (regs[EAX], regs[ESI], regs[EDX], regs[EBX]) == (MAGIC, 1, 5, 123_456)


def test_uuid_is_in_memory_order(backdoor: Backdoor) -> None:
    regs = call(backdoor, 19)
    assert [regs[index] for index in (EAX, EBX, ECX, EDX)] == [0x03020100, 0x07060504, 0x0B0A0908, 0x0F0E0D0C]


@pytest.mark.parametrize("command", [0, 2, 3, 11, 30, 51, 68, 91, 0xFFFF])
def test_an_unknown_command_leaves_ebx_alone(backdoor: Backdoor, command: int) -> None:
    regs = call(backdoor, command, cpl=0)
    assert (regs[EAX], regs[EBX]) == (0xFFFFFFFF, PRESET)


def test_the_high_word_of_ecx_is_a_parameter(backdoor: Backdoor) -> None:
    assert call(backdoor, 20 | 0xABCD0000)[EAX] == 96


def test_the_high_bandwidth_port_is_absent(backdoor: Backdoor) -> None:
    assert call(backdoor, 10, port=0x5659)[EAX] == 0xFFFFFFFF


def test_gui_options_are_kept_until_reset(backdoor: Backdoor) -> None:
    call(backdoor, 14)
    assert call(backdoor, 13)[EAX] == PRESET
    backdoor.reset()
    assert call(backdoor, 13)[EAX] == 0
