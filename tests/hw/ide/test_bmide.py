"""The bus master, played as ata_piix plays it."""

from __future__ import annotations

import pytest

from tests.hw.ide.rig import BMIBA, DEVICE, ERROR, PRIMARY, RAM_BYTES, SECONDARY, STATUS, Rig

OK, FAILED = 0x50, 0x51
ACTIVE, BAD, INTERRUPT = 1, 2, 4
BUFFER = 0x10000


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    made.awake()
    return made


def test_identification(rig: Rig) -> None:
    assert rig.ide.config_read(0x00, 4) == 0x71118086
    assert rig.ide.config_read(0x08, 4) == 0x01018A01
    assert rig.ide.config_read(0x2C, 4) == 0x197615AD
    rig.ide.config_write(0x20, 4, 0xFFFFFFFF)
    assert rig.ide.config_read(0x20, 4) == 0xFFFFFFF1
    assert [rig.ide.config_read(offset, 4) for offset in (0x10, 0x14, 0x18, 0x1C)] == [0, 0, 0, 0]


def content(rig: Rig, first: int, count: int) -> bytes:
    return b"".join(rig.medium.content(first + index) for index in range(count))


@pytest.mark.parametrize("engine_first", [False, True])
def test_read_into_scattered_memory(rig: Rig, engine_first: bool) -> None:
    table = rig.table([(BUFFER, 1024), (0x30002, 514), (0x40000, 16 * 512 - 1538)])
    if engine_first:
        rig.start(table, to_memory=True)
        assert rig.master_status() == ACTIVE
    rig.command(0xC8, lba=100, count=16)
    if not engine_first:
        assert rig.alternate() & 0x80
        rig.start(table, to_memory=True)
    assert rig.master_status() == INTERRUPT
    assert rig.lines[PRIMARY].level
    assert rig.get(STATUS) == OK
    ram = rig.memory.ram
    assert ram[BUFFER : BUFFER + 1024] + ram[0x30002:0x30204] + ram[0x40000 : 0x40000 + 6654] == content(rig, 100, 16)
    assert rig.medium.log[-1] == ("read", 100, 16), "one request to the backend"


def test_write_from_memory(rig: Rig) -> None:
    rig.memory.ram[BUFFER : BUFFER + 1024] = b"x" * 512 + b"y" * 512
    rig.command_48(0x35, 9, 2)
    rig.start(rig.table([(BUFFER, 1024)]), to_memory=False)
    assert (rig.master_status(), rig.get(STATUS)) == (INTERRUPT, OK)
    assert (rig.medium.store[9], rig.medium.store[10]) == (b"x" * 512, b"y" * 512)


def test_a_count_of_0_is_64_kib(rig: Rig) -> None:
    rig.command(0xC8, count=128)
    rig.start(rig.table([(BUFFER, 0)]), to_memory=True)
    assert rig.master_status() == INTERRUPT
    assert rig.memory.ram[BUFFER : BUFFER + 0x10000] == content(rig, 0, 128)


def test_a_table_longer_than_the_transfer_leaves_the_engine_active(rig: Rig) -> None:
    rig.command(0xC8, count=1)
    rig.start(rig.table([(BUFFER, 1024)]), to_memory=True)
    assert rig.master_status() == ACTIVE | INTERRUPT
    rig.bus.write(BMIBA, 1, 0)
    assert rig.master_status() == INTERRUPT
    rig.bus.write(BMIBA + 2, 1, 4)
    assert rig.master_status() == 0


def test_a_table_that_is_too_short_leaves_the_drive_waiting(rig: Rig) -> None:
    rig.command(0xC8, lba=3, count=2)
    rig.start(rig.table([(BUFFER, 512)]), to_memory=True)
    assert rig.master_status() == 0
    assert rig.alternate() & 0x80
    rig.bus.write(BMIBA, 1, 8)
    rig.start(rig.table([(BUFFER + 512, 512)]), to_memory=True)
    assert rig.master_status() == INTERRUPT
    assert rig.memory.ram[BUFFER : BUFFER + 1024] == content(rig, 3, 2)


@pytest.mark.parametrize("regions", [[(BUFFER, 512), (RAM_BYTES, 512)], [(0xFFFFFFFE, 1024)]])
def test_a_region_outside_memory_is_an_error(rig: Rig, regions: list[tuple[int, int]]) -> None:
    rig.command(0xC8, count=2)
    rig.start(rig.table(regions), to_memory=True)
    assert rig.master_status() == BAD | INTERRUPT
    assert (rig.get(STATUS), rig.get(ERROR)) == (FAILED, 0x84)


def test_a_table_outside_memory_is_an_error(rig: Rig) -> None:
    rig.command(0xC8, count=2)
    rig.start(RAM_BYTES, to_memory=True)
    assert rig.master_status() == BAD | INTERRUPT


def test_a_table_without_an_end_ends(rig: Rig) -> None:
    for at in range(0, RAM_BYTES, 8):
        rig.memory.ram[at : at + 8] = b"\0\0\0\0\x02\0\0\0"
    rig.command_48(0x25, 0, 0x8000)
    rig.start(0x8000, to_memory=True)
    assert not rig.master_status() & ACTIVE


def test_the_wrong_direction_moves_nothing(rig: Rig) -> None:
    rig.command(0xC8, count=1)
    rig.start(rig.table([(BUFFER, 512)]), to_memory=False)
    assert rig.master_status() == ACTIVE
    assert not rig.medium.log


def test_without_bus_mastering_nothing_moves(rig: Rig) -> None:
    rig.ide.config_write(0x04, 2, 0x0001)
    rig.command(0xC8, count=1)
    rig.start(rig.table([(BUFFER, 512)]), to_memory=True)
    assert rig.master_status() == ACTIVE
    rig.ide.config_write(0x04, 2, 0x0005)
    assert rig.master_status() == INTERRUPT


def test_a_bad_sector_fails_the_command_after_the_good_ones(rig: Rig) -> None:
    rig.medium.bad = {2}
    rig.command(0xC8, count=4)
    rig.start(rig.table([(BUFFER, 2048)]), to_memory=True)
    assert rig.master_status() & INTERRUPT
    assert (rig.get(STATUS), rig.get(ERROR)) == (FAILED, 0x40)
    assert rig.memory.ram[BUFFER : BUFFER + 1024] == content(rig, 0, 2)


def test_a_software_reset_ends_a_waiting_transfer(rig: Rig) -> None:
    rig.command(0xC8, count=1)
    rig.control(0x04)
    rig.control(0x00)
    rig.start(rig.table([(BUFFER, 512)]), to_memory=True)
    assert rig.master_status() == ACTIVE
    assert rig.get(STATUS) == OK


def test_while_busy_registers_and_commands_are_ignored(rig: Rig) -> None:
    rig.command(0xC8, lba=1, count=1)
    rig.command(0xEC, lba=0x55)
    assert rig.get(DEVICE) == 0xE0
    rig.start(rig.table([(BUFFER, 512)]), to_memory=True)
    assert rig.memory.ram[BUFFER : BUFFER + 512] == content(rig, 1, 1)


def test_packet_data_by_dma(rig: Rig) -> None:
    rig.packet(bytes.fromhex("28 00 00 00 01 00 00 00 03 00"), features=1)
    rig.start(rig.table([(BUFFER, 6144)]), to_memory=True, channel=1)
    assert rig.master_status(1) == INTERRUPT
    assert rig.lines[SECONDARY].level
    assert rig.get(STATUS, SECONDARY) == OK
    assert rig.memory.ram[BUFFER : BUFFER + 6144] == b"".join(rig.disc.content(0x100 + index) for index in range(3))


def test_a_short_packet_by_dma(rig: Rig) -> None:
    rig.start(rig.table([(BUFFER, 36), (BUFFER + 36, 28)]), to_memory=True, channel=1)
    rig.packet(bytes([0x12, 0, 0, 0, 36]), features=1)
    assert rig.master_status(1) == ACTIVE | INTERRUPT
    assert rig.memory.ram[BUFFER + 8 : BUFFER + 16] == b"NECVMWar"


def test_the_interrupt_bit_is_set_for_pio_too(rig: Rig) -> None:
    rig.command(0xE7)
    assert rig.master_status() == INTERRUPT
