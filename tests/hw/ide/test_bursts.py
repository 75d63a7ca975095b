"""String instructions on the data port: the same bytes, registers and interrupts as one access after another."""

from __future__ import annotations

import pytest

from tests.hw.ide.rig import CONTROL, PRIMARY, SECONDARY, STATUS, Rig

READ_3 = bytes.fromhex("28 00 00000010 00 0003 00 00 00")


def seen(rig: Rig, base: int) -> tuple[object, ...]:
    """What a driver can tell without changing it."""
    state = rig.channels[base].state
    return rig.alternate(base), rig.lines[base].level, rig.lines[base].edges, bytes(state)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("pieces", [(512,), (256, 256), (500, 12), (508, 8), (1024,), (1536, 512)])
def test_a_burst_of_reads_is_so_many_reads(width: int, pieces: tuple[int, ...]) -> None:
    bursts, singles = Rig(), Rig()
    for rig in (bursts, singles):
        rig.command(0x20, lba=7, count=4)
    for piece in pieces:
        assert bursts.bus.read_units(PRIMARY, width, piece // width) == singles.read_data(piece, PRIMARY, width)
        assert seen(bursts, PRIMARY) == seen(singles, PRIMARY)
        assert bursts.get(STATUS) == singles.get(STATUS)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("pieces", [(512, 512), (256, 256, 512), (1024,), (1000, 24)])
def test_a_burst_of_writes_is_so_many_writes(width: int, pieces: tuple[int, ...]) -> None:
    bursts, singles = Rig(), Rig()
    for rig in (bursts, singles):
        rig.command(0x30, lba=9, count=2)
    for index, piece in enumerate(pieces):
        data = bytes((index + at) & 0xFF for at in range(piece))
        bursts.bus.write_units(PRIMARY, width, data)
        singles.write_data(data, PRIMARY, width)
        assert seen(bursts, PRIMARY) == seen(singles, PRIMARY)
    assert bursts.medium.store == singles.medium.store and len(bursts.medium.store) == 2


def test_a_packet_command_s_data_comes_in_bursts() -> None:
    bursts, singles = Rig(), Rig()
    for rig in (bursts, singles):
        rig.packet(READ_3, 0x1000)
    assert bursts.bus.read_units(SECONDARY, 2, 0x800) == singles.read_data(0x1000, SECONDARY)
    assert seen(bursts, SECONDARY) == seen(singles, SECONDARY)


def test_other_ports_answer_one_by_one() -> None:
    rig = Rig()
    assert rig.bus.read_units(CONTROL[PRIMARY], 1, 3) == bytes([0x50] * 3)
    assert rig.bus.read_units(PRIMARY + 2, 1, 2) == bytes([1, 1])
    assert rig.bus.read_units(PRIMARY, 2, 4) == b"\xff" * 8, "no data are wanted"
    rig.bus.write_units(PRIMARY + 2, 1, b"\x05\x06")
    assert rig.get(2) == 6
