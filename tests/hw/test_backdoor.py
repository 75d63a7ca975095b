"""The backdoor, called as Tools, the pointer driver and a kernel call it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from hw.backdoor import Backdoor, BackdoorState, MachineFacts, RemovableDevice
from hw.backdoor_spec import RING0_ONLY, Command, GuiOptions, PointerCommand

MAGIC = 0x564D5868
FAILED = 0xFFFFFFFF
EAX, ECX, EDX, EBX, ESI = 0, 1, 2, 3, 6
PRESET = 0x13579BDF
LEFT, RIGHT, MIDDLE = 1, 2, 4  # of a PS/2 mouse


class Cpu:
    def __init__(self, command: int, argument: int, cpl: int = 3) -> None:
        self.gpr = [MAGIC, command, 0x5658, argument, 0x4444, 0x5555, 0x11111111, 0x22222222]
        self.cpl = cpl


class Clock:
    def now_ns(self) -> int:
        return 0x1_0000_0005 * 10**9 + 123_456_789

    def zone_minutes(self) -> int:
        return 120


class Drives:
    """A CD-ROM drive and a floppy drive, of which only the first can be connected."""

    def __init__(self) -> None:
        self.connected = False

    def devices(self) -> Sequence[RemovableDevice]:
        return (RemovableDevice("ide0:0", 0x1234, self.connected), RemovableDevice("floppy0" * 8, 7, False))

    def connect(self, uid: int, on: bool) -> bool:
        if uid != 0x1234:
            return False
        self.connected = on
        return True


FACTS = MachineFacts(96, 0x2_1234_5678, 100_000_000, bytes(range(16)), screen=(1280, 800))


@pytest.fixture
def backdoor() -> Backdoor:
    made = Backdoor(BackdoorState(), FACTS, Clock(), Drives())
    made.reset()
    return made


def call(backdoor: Backdoor, command: int, argument: int = PRESET, cpl: int = 3, port: int = 0x5658) -> list[int]:
    cpu = Cpu(command, argument, cpl)
    backdoor.call(port, cpu)
    return cpu.gpr


# what the machine is


def test_version_names_esx_server(backdoor: Backdoor) -> None:
    regs = call(backdoor, 10)
    assert (regs[EAX], regs[EBX], regs[ECX]) == (6, MAGIC, 2)


def test_linux_is_convinced(backdoor: Backdoor) -> None:
    """arch/x86/kernel/cpu/vmware.c: EAX is not all ones and EBX the magic; then EBX of GETHZ is not all ones."""
    version, hz = call(backdoor, 10, FAILED, cpl=0), call(backdoor, 45, FAILED, cpl=0)
    assert version[EAX] != FAILED and version[EBX] == MAGIC
    assert hz[EBX] != FAILED
    assert (hz[EBX] << 32 | hz[EAX], hz[ECX]) == (FACTS.tsc_hz, FACTS.bus_hz)


def test_linux_finds_no_x2apic(backdoor: Backdoor) -> None:
    """GETVCPU_INFO: bit 31 of EAX says that the other bits mean nothing."""
    assert call(backdoor, 68)[EAX] & 1 << 31


def test_memory_size_is_in_mib(backdoor: Backdoor) -> None:
    assert call(backdoor, 20)[EAX] == 96


def test_hardware_version_is_4(backdoor: Backdoor) -> None:
    assert call(backdoor, 17)[EAX] == 4


def test_frequencies(backdoor: Backdoor) -> None:
    regs = call(backdoor, 45)
    assert (regs[EAX], regs[EBX], regs[ECX]) == (0x12345678, 2, 100_000_000)
    assert call(backdoor, 1)[EAX] == 0x2_1234_5678 // 1_000_000


def test_uuid_is_in_memory_order(backdoor: Backdoor) -> None:
    regs = call(backdoor, 19)
    assert [regs[index] for index in (EAX, EBX, ECX, EDX)] == [0x03020100, 0x07060504, 0x0B0A0908, 0x0F0E0D0C]


def test_acpi_is_not_disabled(backdoor: Backdoor) -> None:
    assert call(backdoor, 34)[EAX] == 0


def test_the_screen_has_the_consoles_size(backdoor: Backdoor) -> None:
    assert call(backdoor, 15)[EAX] == 1280 << 16 | 800


def test_only_the_kernel_may_ask_about_setup(backdoor: Backdoor) -> None:
    assert call(backdoor, 48, cpl=0)[EAX] == 0
    assert call(backdoor, 48, cpl=1)[EAX] == FAILED


# time


def test_time_is_seconds_and_microseconds(backdoor: Backdoor) -> None:
    regs = call(backdoor, 23)
    assert (regs[EAX], regs[EBX], regs[EDX]) == (5, 123_456, -120 & 0xFFFFFFFF)


def test_full_time_has_64_bits(backdoor: Backdoor) -> None:
    regs = call(backdoor, 46)
    assert (regs[EAX], regs[ESI], regs[EDX], regs[EBX]) == (MAGIC, 1, 5, 123_456)


# what is refused


@pytest.mark.parametrize("command", [0, 2, 3, 18, 28, 37, 43, 49, 50, 51, 68, 91, 0xFFFF])
def test_an_unknown_command_changes_eax_alone(backdoor: Backdoor, command: int) -> None:
    before = Cpu(command, PRESET).gpr
    assert call(backdoor, command, cpl=0) == [FAILED, *before[1:]]


@pytest.mark.parametrize("command", sorted(RING0_ONLY))
@pytest.mark.parametrize("cpl", [1, 2, 3])
def test_a_command_of_ring_0_fails_outside_it(backdoor: Backdoor, command: int, cpl: int) -> None:
    regs = call(backdoor, command, cpl=cpl)
    assert (regs[EAX], regs[EBX]) == (FAILED, PRESET)


def test_the_high_word_of_ecx_is_a_parameter(backdoor: Backdoor) -> None:
    assert call(backdoor, 20 | 0xABCD0000)[EAX] == 96


@pytest.mark.parametrize("kind", range(7))
def test_a_message_gets_a_status_without_success(backdoor: Backdoor, kind: int) -> None:
    regs = call(backdoor, 30 | kind << 16)
    assert (regs[EAX], regs[ECX] >> 16 & 1) == (FAILED, 0)


def test_the_high_bandwidth_port_is_absent(backdoor: Backdoor) -> None:
    assert call(backdoor, 10, port=0x5659)[EAX] == FAILED


@pytest.mark.parametrize("command", [5, 8, 9, 14, 24, 41])
def test_telling_something_changes_no_register(backdoor: Backdoor, command: int) -> None:
    assert call(backdoor, command) == Cpu(command, PRESET).gpr


@pytest.mark.parametrize("command", sorted(Command))
def test_no_command_touches_esp_ebp_or_edi(backdoor: Backdoor, command: int) -> None:
    regs = call(backdoor, command, cpl=0)
    assert (regs[4], regs[5], regs[7]) == (0x4444, 0x5555, 0x22222222)


# the console


def test_gui_options_are_kept_until_reset(backdoor: Backdoor) -> None:
    call(backdoor, 14, GuiOptions.AUTO_GRAB | GuiOptions.SYNC_TIME)
    assert call(backdoor, 13)[EAX] == 0x401
    backdoor.reset()
    assert call(backdoor, 13)[EAX] == 0


def test_options_that_do_not_exist_are_not_kept(backdoor: Backdoor) -> None:
    call(backdoor, 14, FAILED)
    assert call(backdoor, 13)[EAX] == 0xFFF


def test_the_pointer_is_nowhere_until_it_is_grabbed(backdoor: Backdoor) -> None:
    assert call(backdoor, 4)[EAX] == 0xFF9CFF9C
    backdoor.grab(640, 400)
    assert call(backdoor, 4)[EAX] == 640 << 16 | 400
    call(backdoor, 5, 3 << 16 | 4)
    assert call(backdoor, 4)[EAX] == 3 << 16 | 4
    backdoor.ungrab()
    assert call(backdoor, 4)[EAX] == 0xFF9CFF9C


# the clipboard


def send(backdoor: Backdoor, text: bytes) -> None:
    call(backdoor, 8, len(text))
    for at in range(0, len(text), 4):
        call(backdoor, 9, int.from_bytes(text[at : at + 4].ljust(4, b"\xaa"), "little"))


def receive(backdoor: Backdoor) -> bytes:
    length = call(backdoor, 6)[EAX]
    pieces = (call(backdoor, 7)[EAX].to_bytes(4, "little") for _ in range(-(-length // 4)))
    return b"".join(pieces)[:length]


def test_the_clipboard_is_empty_at_first(backdoor: Backdoor) -> None:
    assert call(backdoor, 6)[EAX] == FAILED
    assert call(backdoor, 7)[EAX] == 0
    assert backdoor.clipboard.text() is None


@pytest.mark.parametrize("text", [b"", b"a", b"four", b"seven..", bytes(range(256)) * 255])
def test_the_clipboard_holds_what_the_guest_set(backdoor: Backdoor, text: bytes) -> None:
    send(backdoor, text)
    assert backdoor.clipboard.text() == text
    assert receive(backdoor) == text
    assert receive(backdoor) == text  # the length goes back to the beginning
    assert call(backdoor, 7)[EAX] == 0


def test_the_hosts_text_reaches_the_guest(backdoor: Backdoor) -> None:
    send(backdoor, b"something longer")
    backdoor.clipboard.set_text(b"short")
    assert receive(backdoor) == b"short"


def test_half_a_text_is_not_ready(backdoor: Backdoor) -> None:
    call(backdoor, 8, 5)
    call(backdoor, 9, 0x64636261)
    assert call(backdoor, 6)[EAX] == FAILED
    assert backdoor.clipboard.text() is None
    call(backdoor, 9, 0x65)
    assert receive(backdoor) == b"abcde"


def test_a_text_without_end_is_cut(backdoor: Backdoor) -> None:
    call(backdoor, 8, FAILED)
    for _ in range(17_000):
        call(backdoor, 9, 0x61616161)
    assert call(backdoor, 6)[EAX] == 65_436


def test_pieces_that_nobody_announced_are_lost(backdoor: Backdoor) -> None:
    call(backdoor, 9, 1)
    assert call(backdoor, 6)[EAX] == FAILED


# the absolute pointer, as the driver in Linux uses it


def enable(backdoor: Backdoor) -> None:
    call(backdoor, 41, PointerCommand.ENABLE)
    assert call(backdoor, 40)[EAX] == 1
    assert call(backdoor, 39, 1)[EAX] == 0x3442554A
    call(backdoor, 41, PointerCommand.ABSOLUTE)


def test_before_it_is_enabled_the_pointer_shows_an_error(backdoor: Backdoor) -> None:
    assert call(backdoor, 40)[EAX] & 0xFFFF0000 == 0xFFFF0000
    assert call(backdoor, 36)[EAX] == 0
    assert backdoor.pointer.point(1, 2, 0, 0) is False


def test_a_driver_reads_packets_of_four_words(backdoor: Backdoor) -> None:
    enable(backdoor)
    assert call(backdoor, 36)[EAX] == 1
    assert backdoor.pointer.point(0xFFFF, 0x8000, -1, LEFT | MIDDLE)
    assert backdoor.pointer.point(-5, 1 << 20, 0, RIGHT)
    assert call(backdoor, 40)[EAX] == 8
    first, second = call(backdoor, 39, 4), call(backdoor, 39, 4)
    assert [first[index] for index in (EAX, EBX, ECX, EDX)] == [0x28, 0xFFFF, 0x8000, 0xFFFFFFFF]
    assert [second[index] for index in (EAX, EBX, ECX, EDX)] == [0x10, 0, 0xFFFF, 0]
    assert call(backdoor, 40)[EAX] == 0


def test_words_may_be_read_one_by_one(backdoor: Backdoor) -> None:
    enable(backdoor)
    backdoor.pointer.point(3, 4, 0, LEFT)
    regs = call(backdoor, 39, 1)
    assert (regs[EAX], regs[EBX], regs[ECX]) == (0x20, 1, 39)
    assert call(backdoor, 39, 2)[EAX] == 3


def test_a_relative_packet_is_marked(backdoor: Backdoor) -> None:
    enable(backdoor)
    call(backdoor, 41, PointerCommand.RELATIVE)
    assert backdoor.pointer.point(1, 1, 0, 0) is False
    assert backdoor.pointer.move(-2, 3, 0, RIGHT)
    regs = call(backdoor, 39, 4)
    assert (regs[EAX], regs[EBX], regs[ECX]) == (0x10010, -2 & 0xFFFFFFFF, 3)


@pytest.mark.parametrize("words", [0, 5, 6, 9, FAILED])
def test_asking_for_too_much_is_an_error_until_enabled_again(backdoor: Backdoor, words: int) -> None:
    enable(backdoor)
    for _ in range(2):
        backdoor.pointer.point(1, 2, 0, 0)
    regs = call(backdoor, 39, words)
    assert (regs[EAX], regs[EBX]) == (FAILED, words)
    assert call(backdoor, 40)[EAX] & 0xFFFF0000 == 0xFFFF0000
    enable(backdoor)
    assert call(backdoor, 40)[EAX] == 0


def test_a_full_queue_takes_whole_packets_only(backdoor: Backdoor) -> None:
    enable(backdoor)
    while backdoor.pointer.point(1, 2, 0, 0):
        pass
    assert call(backdoor, 40)[EAX] == 256


def test_disabling_ends_it(backdoor: Backdoor) -> None:
    enable(backdoor)
    call(backdoor, 41, PointerCommand.DISABLE)
    assert call(backdoor, 40)[EAX] & 0xFFFF0000 == 0xFFFF0000
    call(backdoor, 41, PointerCommand.ABSOLUTE)
    assert call(backdoor, 36)[EAX] == 0


# removable devices


def record(backdoor: Backdoor, index: int) -> bytes:
    words = [call(backdoor, 11, index << 16 | offset) for offset in range(0, 40, 4)]
    assert all(regs[EAX] == 1 for regs in words)
    return b"".join(regs[EBX].to_bytes(4, "little") for regs in words)


def test_devices_are_listed_by_records(backdoor: Backdoor) -> None:
    assert record(backdoor, 0) == b"ide0:0".ljust(32, b"\0") + (0x1234).to_bytes(4, "little") + bytes(4)
    assert record(backdoor, 1)[:32] == ("floppy0" * 8)[:31].encode() + b"\0"


@pytest.mark.parametrize("argument", [2 << 16, 0xFFFF << 16, 40, 0xFFFF])
def test_what_is_not_in_the_list_is_zero(backdoor: Backdoor, argument: int) -> None:
    regs = call(backdoor, 11, argument)
    assert (regs[EAX], regs[EBX]) == (0, argument)


def test_a_guest_connects_a_device(backdoor: Backdoor) -> None:
    assert call(backdoor, 12, 1 << 31 | 0x1234)[EAX] == 1
    assert record(backdoor, 0)[36] == 1
    assert call(backdoor, 12, 0x1234)[EAX] == 1
    assert record(backdoor, 0)[36] == 0
    assert call(backdoor, 12, 1 << 31 | 7)[EAX] == 0


def test_a_machine_without_removable_devices_lists_none() -> None:
    assert call(Backdoor(BackdoorState(), FACTS, Clock()), 11, 0)[EAX] == 0


def test_registers_stay_32_bits_wide(backdoor: Backdoor) -> None:
    source = random.Random(5)
    for _ in range(3000):
        regs = call(backdoor, source.choice(list(Command)), source.getrandbits(32), source.randrange(4))
        assert all(0 <= value < 1 << 32 for value in regs)
