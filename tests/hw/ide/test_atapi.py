"""The packet transport, played as libata and SeaBIOS play it."""

from __future__ import annotations

import pytest

from tests.hw.ide.rig import COMMAND, COUNT, DEVICE, ERROR, FEATURES, HIGH, LOW, MID, SECONDARY, STATUS, Rig

ABRT = 0x04
READ_3 = bytes.fromhex("28 00 00 00 00 10 00 00 03 00")


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    made.awake()
    return made


def signature(rig: Rig) -> list[int]:
    return [rig.get(reg, SECONDARY) for reg in (COUNT, LOW, MID, HIGH)]


def command(rig: Rig, value: int, features: int = 0, count: int = 0) -> None:
    for reg, content in ((DEVICE, 0xA0), (FEATURES, features), (COUNT, count), (COMMAND, value)):
        rig.put(reg, content, SECONDARY)


def test_the_signature_after_a_software_reset(rig: Rig) -> None:
    rig.control(4, SECONDARY)
    rig.control(0, SECONDARY)
    assert signature(rig) == [1, 1, 0x14, 0xEB]
    assert (rig.get(ERROR, SECONDARY), rig.get(STATUS, SECONDARY)) == (1, 0)


@pytest.mark.parametrize("value", [0xEC, 0x20])
def test_disk_commands_are_aborted_with_the_signature(rig: Rig, value: int) -> None:
    command(rig, value)
    assert signature(rig) == [1, 1, 0x14, 0xEB]
    assert (rig.get(ERROR, SECONDARY), rig.get(STATUS, SECONDARY) & 0x89) == (ABRT, 1)


def test_device_reset_comes_without_an_interrupt(rig: Rig) -> None:
    rig.get(STATUS, SECONDARY)
    command(rig, 0x08)
    assert signature(rig) == [1, 1, 0x14, 0xEB]
    assert not rig.lines[SECONDARY].level


def test_device_reset_is_heard_while_busy(rig: Rig) -> None:
    rig.packet(READ_3, features=1)
    assert rig.alternate(SECONDARY) & 0x80
    command(rig, 0x08)
    assert rig.alternate(SECONDARY) == 0


def test_identify_packet_device(rig: Rig) -> None:
    command(rig, 0xA1)
    assert rig.get(STATUS, SECONDARY) & 8
    data = rig.read_data(512, SECONDARY)
    assert rig.get(STATUS, SECONDARY) == 0x50
    words = [int.from_bytes(data[at : at + 2], "little") for at in range(0, 512, 2)]
    assert b"".join(word.to_bytes(2, "big") for word in words)[54:94].rstrip() == b"VMware Virtual IDE CDROM Drive"
    assert (words[0], words[49], words[63], words[82], words[88]) == (0x85C0, 0x0F00, 7, 0x4214, 0x0407)


def test_the_command_phase_has_drq_and_no_interrupt(rig: Rig) -> None:
    rig.get(STATUS, SECONDARY)
    command(rig, 0xA0)
    assert (rig.alternate(SECONDARY), rig.get(COUNT, SECONDARY)) == (0x58, 1)
    assert not rig.lines[SECONDARY].level


@pytest.mark.parametrize("limit", [0xFFFE, 0x2000, 2048, 2047, 512, 2, 0])
def test_a_read_comes_in_pieces_within_the_limit(rig: Rig, limit: int) -> None:
    data = rig.packet_in(READ_3, limit) if limit else rig.packet_in(READ_3, 0xFFFE)
    assert data == b"".join(rig.disc.content(0x10 + index) for index in range(3))
    assert rig.disc.log[-1] == ("read", 0x10, 3), "one request to the backend"


def test_a_long_read_is_refilled(rig: Rig) -> None:
    data = rig.packet_in(bytes.fromhex("A8 00 00 00 00 00 00 00 00 28"), 0x8000)
    assert data == b"".join(rig.disc.content(index) for index in range(40))


def test_an_odd_reply_keeps_its_length(rig: Rig) -> None:
    assert rig.packet_in(bytes([0x12, 0, 0, 0, 5])) == bytes.fromhex("058000211F")


def test_a_command_without_data(rig: Rig) -> None:
    assert rig.packet_in(bytes(12)) == b""
    assert rig.alternate(SECONDARY) == 0x50


def test_the_sense_key_is_in_the_error_register_and_the_rest_is_asked_for(rig: Rig) -> None:
    rig.packet(bytes([0xFF]))
    assert (rig.get(STATUS, SECONDARY), rig.get(ERROR, SECONDARY), rig.get(COUNT, SECONDARY)) == (0x41, 0x54, 3)
    assert rig.sense() == (5, 0x20, 0)
    assert rig.sense() == (0, 0, 0)


def test_a_bad_block_ends_the_read_after_the_good_ones(rig: Rig) -> None:
    rig.disc.bad = {0x12}
    data = rig.packet_in(READ_3)
    assert data == rig.disc.content(0x10) + rig.disc.content(0x11)
    assert rig.get(ERROR, SECONDARY) >> 4 == 3
    sense = rig.packet_in(bytes([3, 0, 0, 0, 18]))
    assert (sense[0], sense[2], sense[3:7], sense[12]) == (0xF0, 3, bytes([0, 0, 0, 0x12]), 0x11)


def test_a_disc_that_goes_during_a_read(rig: Rig) -> None:
    rig.packet(bytes.fromhex("A8 00 00 00 00 00 00 00 00 28"), 0x8000)
    rig.get(STATUS, SECONDARY)
    rig.cdrom.disconnect()
    rig.read_data(0x8000, SECONDARY)
    assert rig.get(STATUS, SECONDARY) == 0x41
    assert rig.sense() == (2, 0x3A, 0)


def test_overlap_is_aborted(rig: Rig) -> None:
    command(rig, 0xA0, features=2)
    assert (rig.get(STATUS, SECONDARY), rig.get(ERROR, SECONDARY)) == (0x51, ABRT)
