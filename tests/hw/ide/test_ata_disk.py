"""The disk and its channel, played as SeaBIOS and libata play them."""

from __future__ import annotations

import pytest

from tests.hw.ide.rig import (
    COMMAND,
    COUNT,
    DATA,
    DEVICE,
    ERROR,
    FEATURES,
    HIGH,
    LOW,
    MID,
    PRIMARY,
    SECONDARY,
    STATUS,
    Rig,
)

OK, WANTS_DATA, FAILED = 0x50, 0x58, 0x51
ABRT, IDNF, UNC = 0x04, 0x10, 0x40


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_nothing_is_decoded_until_idetim_enables_it(rig: Rig) -> None:
    rig.ide.config_write(0x40, 2, 0)
    assert rig.get(STATUS) == 0xFF
    assert rig.get(STATUS, SECONDARY) == 0
    rig.ide.config_write(0x04, 2, 0x0004)
    assert rig.get(STATUS, SECONDARY) == 0xFF


def test_registers_read_back_in_the_way_firmware_probes(rig: Rig) -> None:
    for reg, value in ((DEVICE, 0xA0), (COUNT, 0x55), (LOW, 0xAA)):
        rig.put(reg, value)
    assert [rig.get(reg) for reg in (DEVICE, COUNT, LOW)] == [0xA0, 0x55, 0xAA]


def test_software_reset_leaves_the_signature(rig: Rig) -> None:
    rig.control(0x0C)
    assert rig.alternate() == 0x80
    rig.control(0x08)
    assert [rig.get(reg) for reg in (ERROR, COUNT, LOW, MID, HIGH, DEVICE, STATUS)] == [1, 1, 1, 0, 0, 0xA0, OK]


def test_an_absent_slave_reads_status_0_and_ignores_commands(rig: Rig) -> None:
    rig.put(DEVICE, 0xB0)
    assert (rig.get(STATUS), rig.alternate(), rig.get(DEVICE)) == (0, 0, 0xB0)
    rig.put(COMMAND, 0xEC)
    assert (rig.get(STATUS), rig.bus.read(PRIMARY, 2)) == (0, 0xFFFF)
    assert not rig.lines[PRIMARY].level


def test_a_channel_without_drives_floats(rig: Rig) -> None:
    rig.channels[PRIMARY].drives[0] = None
    assert [rig.bus.read(PRIMARY + reg, 1) for reg in range(8)] == [0xFF] * 8
    assert rig.alternate() == 0xFF


def identify(rig: Rig, command: int = 0xEC) -> list[int]:
    rig.command(command)
    assert rig.get(STATUS) == WANTS_DATA
    data = rig.read_data(512)
    assert rig.get(STATUS) == OK
    return [int.from_bytes(data[at : at + 2], "little") for at in range(0, 512, 2)]


def test_identify(rig: Rig) -> None:
    words = identify(rig)
    text = b"".join(word.to_bytes(2, "big") for word in words)
    assert text[54:94].rstrip() == b"VMware Virtual IDE Hard Drive"
    assert (text[20:40], text[46:54]) == (b"00000000000000000001", b"00000001")
    assert words[60] | words[61] << 16 == words[100] | words[101] << 16 == 1 << 20
    assert (words[1], words[3], words[6]) == ((1 << 20) // 1008, 16, 63)
    assert (words[47], words[49], words[53], words[59], words[88]) == (0x8010, 0x0B00, 7, 0x0100, 0x0407)
    assert words[83] & 0xC000 == words[84] & 0xC000 == 0x4000, "the words are valid"


def test_a_wrong_kind_of_identify_is_aborted(rig: Rig) -> None:
    rig.command(0xA1)
    assert (rig.get(STATUS), rig.get(ERROR)) == (FAILED, ABRT)


@pytest.mark.parametrize("width", [2, 4])
def test_read_by_pio_interrupts_for_each_sector(rig: Rig, width: int) -> None:
    rig.command(0x20, lba=0x1234, count=3)
    for sector in range(3):
        assert rig.lines[PRIMARY].level
        assert rig.get(STATUS) == WANTS_DATA
        assert not rig.lines[PRIMARY].level, "reading status lowers INTRQ"
        assert rig.read_data(512, width=width) == rig.medium.content(0x1234 + sector)
    assert not rig.lines[PRIMARY].level
    assert rig.alternate() == OK
    assert rig.bus.read(PRIMARY + DATA, 2) == 0xFFFF


def test_a_count_of_0_is_256_sectors(rig: Rig) -> None:
    rig.command(0x20, lba=5)
    data = b""
    while rig.get(STATUS) & 8:
        data += rig.read_data(512, width=4)
    assert data == b"".join(rig.medium.content(5 + index) for index in range(256))


def test_read_multiple_interrupts_for_each_block(rig: Rig) -> None:
    rig.command(0xC4, count=20)
    assert (rig.get(STATUS), rig.get(ERROR)) == (FAILED, ABRT), "not before SET MULTIPLE"
    rig.command(0xC6, count=8)
    rig.get(STATUS)
    before = rig.lines[PRIMARY].edges
    rig.command(0xC4, count=20)
    data = b""
    while rig.get(STATUS) & 8:
        data += rig.read_data(min(4096, 20 * 512 - len(data)))
    assert data == b"".join(rig.medium.content(index) for index in range(20))
    assert rig.lines[PRIMARY].edges - before == 3


@pytest.mark.parametrize("count", [3, 17, 32])
def test_set_multiple_takes_powers_of_two_up_to_16(rig: Rig, count: int) -> None:
    rig.command(0xC6, count=count)
    assert rig.get(STATUS) == FAILED


def test_write_by_pio_asks_without_an_interrupt_first(rig: Rig) -> None:
    rig.command(0x30, lba=7, count=2)
    assert not rig.lines[PRIMARY].level
    assert rig.get(STATUS) == WANTS_DATA
    rig.write_data(b"a" * 512)
    assert rig.lines[PRIMARY].level
    assert rig.get(STATUS) == WANTS_DATA
    rig.write_data(b"b" * 512, width=4)
    assert rig.get(STATUS) == OK
    assert (rig.medium.store[7], rig.medium.store[8]) == (b"a" * 512, b"b" * 512)


def test_48_bit_addresses_and_their_high_bytes(rig: Rig) -> None:
    rig = Rig(sectors=1 << 40)
    rig.command_48(0x24, 0x12_3456_7890, 1)
    assert rig.read_data(512) == rig.medium.content(0x12_3456_7890)
    assert rig.get(LOW) == 0x90
    rig.control(0x80)
    assert (rig.get(LOW), rig.get(MID)) == (0x34, 0x12)
    rig.put(COUNT, 0)
    assert rig.get(LOW) == 0x90, "writing the command block clears HOB"


def test_cylinders_heads_and_sectors(rig: Rig) -> None:
    rig.command(0x91, count=17, device=0xA3)
    assert rig.get(STATUS) == OK
    for reg, value in ((COUNT, 1), (LOW, 5), (MID, 2), (HIGH, 1), (DEVICE, 0xA3), (COMMAND, 0x20)):
        rig.put(reg, value)
    assert rig.read_data(512) == rig.medium.content((0x102 * 4 + 3) * 17 + 4)
    rig.command(0x20, lba=0, count=1, device=0xA0)
    assert (rig.get(STATUS), rig.get(ERROR)) == (FAILED, IDNF), "there is no sector 0"


@pytest.mark.parametrize("command", [0x20, 0x30, 0xC8, 0xCA, 0x40])
def test_beyond_the_end_is_not_found(rig: Rig, command: int) -> None:
    rig.command(command, lba=(1 << 20) - 1, count=2)
    assert (rig.get(STATUS), rig.get(ERROR)) == (FAILED, IDNF)
    assert not rig.medium.log


def test_a_bad_sector_names_itself_after_the_good_ones(rig: Rig) -> None:
    rig.medium.bad = {12}
    rig.command(0x20, lba=10, count=5)
    for sector in (10, 11):
        assert rig.get(STATUS) == WANTS_DATA
        assert rig.read_data(512) == rig.medium.content(sector)
    assert (rig.get(STATUS), rig.get(ERROR), rig.get(LOW)) == (FAILED, UNC, 12)


def test_a_failed_write_is_a_device_fault(rig: Rig) -> None:
    rig.medium.bad = {0}
    rig.command(0x30, count=1)
    rig.write_data(bytes(512))
    assert (rig.get(STATUS), rig.get(ERROR)) == (0x71, ABRT)


def test_the_write_cache_is_flushed_when_asked_and_always_while_off(rig: Rig) -> None:
    rig.command(0xE7)
    rig.command(0xEA)
    assert rig.medium.flushes == 2
    rig.command(0xEF, features=0x82)
    rig.command(0x30, count=1)
    rig.write_data(bytes(512))
    assert rig.medium.flushes == 4
    assert identify(rig)[85] & 0x20 == 0


@pytest.mark.parametrize(("mode", "word", "value"), [(0x22, 63, 0x0407), (0x41, 88, 0x0207), (0x0C, 88, 0x0407)])
def test_transfer_modes_show_in_identify(rig: Rig, mode: int, word: int, value: int) -> None:
    rig.command(0xEF, features=0x03, count=mode)
    assert rig.get(STATUS) == OK
    assert identify(rig)[word] == value


@pytest.mark.parametrize("mode", [0x23, 0x43, 0x0D, 0x10, 0x02])
def test_a_mode_it_lacks_is_aborted(rig: Rig, mode: int) -> None:
    rig.command(0xEF, features=0x03, count=mode)
    assert (rig.get(STATUS), rig.get(ERROR)) == (FAILED, ABRT)


@pytest.mark.parametrize("command", [0x00, 0xB0, 0xF5, 0x08, 0xA0, 0xFF])
def test_commands_it_lacks_are_aborted(rig: Rig, command: int) -> None:
    rig.command(command)
    assert (rig.get(STATUS), rig.get(ERROR)) == (FAILED, ABRT)
    assert rig.alternate() == FAILED


def test_power_and_native_maximum(rig: Rig) -> None:
    rig.command(0xE5)
    assert rig.get(COUNT) == 0xFF
    rig.command(0xF8)
    assert (rig.get(DEVICE) & 0xF, rig.get(HIGH), rig.get(MID), rig.get(LOW)) == (0, 0x0F, 0xFF, 0xFF)


def test_nien_keeps_intrq_from_the_controller(rig: Rig) -> None:
    rig.control(0x02)
    rig.command(0xE7)
    assert not rig.lines[PRIMARY].level
    rig.control(0x00)
    assert rig.lines[PRIMARY].level


def test_each_command_makes_an_edge_even_if_status_was_not_read(rig: Rig) -> None:
    before = rig.lines[PRIMARY].edges
    for _ in range(3):
        rig.command(0xE7)
    assert rig.lines[PRIMARY].edges - before == 3


def test_the_diagnosis_is_for_both_and_interrupts(rig: Rig) -> None:
    rig.put(DEVICE, 0xB0)
    rig.put(COMMAND, 0x90)
    assert rig.lines[PRIMARY].level
    assert (rig.get(ERROR), rig.get(DEVICE), rig.get(STATUS)) == (1, 0xA0, OK)


def test_features_and_error_are_two_registers(rig: Rig) -> None:
    rig.put(FEATURES, 0x5A)
    assert rig.get(ERROR) == 1
