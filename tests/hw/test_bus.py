"""The port space: claims, splitting, unclaimed ports."""

import pytest

from hw.bus import PortBus


class Recorder:
    """Remembers accesses; reads give the port's offset, repeated in each byte."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int, int, int]] = []

    def port_read(self, offset: int, width: int) -> int:
        value = int.from_bytes(bytes(offset + index for index in range(width)), "little")
        self.log.append(("r", offset, width, value))
        return value

    def port_write(self, offset: int, width: int, value: int) -> None:
        self.log.append(("w", offset, width, value))


def test_an_unclaimed_port_reads_ones_of_the_access_width() -> None:
    bus = PortBus()
    assert [bus.read(0x300, width) for width in (1, 2, 4)] == [0xFF, 0xFFFF, 0xFFFFFFFF]
    bus.write(0x300, 4, 0)
    assert sum(bus.stats.unclaimed.values()) == 7 + 4


def test_a_wide_access_to_a_byte_device_is_split_lowest_port_first() -> None:
    bus, device = PortBus(), Recorder()
    bus.claim(0x3F8, 8, device)
    assert bus.read(0x3F8, 4) == 0x03020100
    bus.write(0x3FA, 2, 0xBEEF)
    assert device.log[4:] == [("w", 2, 1, 0xEF), ("w", 3, 1, 0xBE)]


def test_a_wide_device_gets_the_access_whole() -> None:
    bus, device = PortBus(), Recorder()
    bus.claim(0xCF8, 8, device, width=4)
    bus.write(0xCF8, 4, 0x80000000)
    assert device.log == [("w", 0, 4, 0x80000000)]


def test_an_access_over_the_end_of_a_claim_reads_ones_beyond_it() -> None:
    bus, device = PortBus(), Recorder()
    bus.claim(0x100, 2, device, width=4)
    assert bus.read(0x101, 2) == 0xFF01


def test_the_port_space_wraps() -> None:
    assert PortBus().read(0xFFFF, 4) == 0xFFFFFFFF


def test_a_claim_on_a_taken_or_core_port_is_refused() -> None:
    bus = PortBus(core_owned=lambda port: port == 0x20)
    bus.claim(0x60, 1, Recorder())
    for first, count in ((0x60, 1), (0x5F, 2), (0x20, 1), (0x1F, 4), (0xFFFF, 2)):
        with pytest.raises(AssertionError):
            bus.claim(first, count, Recorder())
    assert [claim.first for claim in bus.claims()] == [0x60]


def test_a_relocated_block_is_shadowed_by_earlier_claims_and_can_be_taken_away() -> None:
    bus, fixed, moving = PortBus(), Recorder(), Recorder()
    bus.claim(0x1004, 1, fixed)
    claim = bus.place(0x1000, range(8), moving, width=4, name="moving")
    assert bus.read(0x1004, 1) == 0
    assert fixed.log and bus.read(0x1005, 1) == 5
    bus.release(claim)
    assert bus.read(0x1005, 1) == 0xFF
    assert bus.read(0x1004, 1) == 0


def test_what_a_relocated_block_covered_comes_back_when_it_moves_away() -> None:
    bus, first, second = PortBus(), Recorder(), Recorder()
    above = bus.place(0x1000, range(8), first, width=4, name="first")
    bus.place(0x1004, range(8), second, width=4, name="second")
    assert bus.read(0x1004, 1) == 4
    bus.release(above)
    assert (bus.read(0x1003, 1), bus.read(0x1004, 1)) == (0xFF, 0)
