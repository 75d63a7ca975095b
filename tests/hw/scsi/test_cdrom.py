"""The CD-ROM command set, played as sr, ide-cd and udev play it."""

from __future__ import annotations

import pytest

from hw.scsi.cdrom import Cdrom, CdromState
from hw.scsi.wiring import BlocksIn, CheckCondition, DataIn, Good
from tests.hw.ide.rig import Blocks

BLOCKS = 256_000
NO_DISC, NO_DISC_OPEN, CHANGED, POWER_ON = (2, 0x3A, 0), (2, 0x3A, 2), (6, 0x28, 0), (6, 0x29, 1)
INVALID_FIELD = (5, 0x24, 0)


class Drive:
    """A drive, its disc, and who put it in."""

    def __init__(self, blocks: int = BLOCKS, disc: bool = True) -> None:
        self.ejections = 0
        self.disc = Blocks(blocks, 2048)
        self.cdrom = Cdrom(CdromState(), self, self.disc if disc else None)
        self.cdrom.reset()

    def ejected(self) -> None:
        self.ejections += 1

    def run(self, cdb: str) -> object:
        """Data as bytes, GOOD as b"", blocks as they are, CHECK CONDITION as (key, ASC, ASCQ)."""
        outcome = self.cdrom.execute(bytes.fromhex(cdb).ljust(12, b"\0"))
        if isinstance(outcome, CheckCondition):
            data = self.cdrom.take_sense()
            assert len(data) == 18 and data[2] & 0xF == outcome.sense.key
            return (data[2] & 0xF, data[12], data[13])
        return outcome.data if isinstance(outcome, DataIn) else b"" if isinstance(outcome, Good) else outcome

    def data(self, cdb: str) -> bytes:
        data = self.run(cdb)
        assert isinstance(data, bytes)
        return data

    def ready(self) -> object:
        return self.run("00")

    def events(self) -> bytes:
        return self.data("4A 01 00 00 10 00 00 00 08 00")


@pytest.fixture
def drive() -> Drive:
    made = Drive()
    made.ready()
    return made


def test_power_on_is_told_once() -> None:
    drive = Drive()
    assert drive.run("12 00 00 00 24") != POWER_ON, "INQUIRY is never held back"
    assert drive.ready() == POWER_ON
    assert drive.ready() == b""


def test_request_sense_tells_it_too() -> None:
    drive = Drive()
    assert drive.data("03 00 00 00 12")[2:14:10] == bytes([6, 0x29])
    assert drive.ready() == b""


def test_inquiry(drive: Drive) -> None:
    data = drive.data("12 00 00 00 60 00")
    assert data == bytes.fromhex("058000211F000000") + b"NECVMWarVMware IDE CDR101.00"
    assert drive.data("12 00 00 00 05 00") == data[:5]
    assert drive.run("12 01 00 00 FF") == INVALID_FIELD
    assert drive.run("12 00 80 00 FF") == INVALID_FIELD


def test_an_invalid_field_is_pointed_at(drive: Drive) -> None:
    drive.cdrom.execute(bytes.fromhex("12 00 80 00 FF").ljust(12, b"\0"))
    assert drive.cdrom.take_sense() == bytes.fromhex("700005000000000A000000002400 00 C00002")


def test_capacity(drive: Drive) -> None:
    assert drive.data("25") == (BLOCKS - 1).to_bytes(4, "big") + (2048).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("cdb", "first", "count"),
    [
        ("28 00 00 01 02 03 00 00 10 00", 0x010203, 0x10),
        ("A8 00 00 00 00 05 00 01 00 00", 5, 0x10000),
        ("BE 00 00 00 00 07 00 00 02 10", 7, 2),
        ("BE 08 00 00 00 07 00 00 02 10", 7, 2),
    ],
)
def test_reads(drive: Drive, cdb: str, first: int, count: int) -> None:
    assert drive.run(cdb) == BlocksIn(first, count)


def test_reads_that_move_nothing_or_go_too_far(drive: Drive) -> None:
    last = BLOCKS.to_bytes(4, "big").hex()
    assert drive.run(f"28 00 {last} 00 00 00") == b""
    assert drive.run(f"28 00 {last} 00 00 01") == (5, 0x21, 0)
    assert drive.run("A8 00 FF FF FF FF FF FF FF FF") == (5, 0x21, 0)
    assert drive.run("BE 00 00 00 00 00 00 00 01 00") == b""
    assert drive.run("BE 00 00 00 00 00 00 00 01 F8") == INVALID_FIELD
    assert drive.run("BE 04 00 00 00 00 00 00 01 10") == (5, 0x64, 0)
    assert drive.run("BE 00 00 00 00 00 00 00 01 10 01") == INVALID_FIELD


def test_toc_as_blocks_and_as_msf(drive: Drive) -> None:
    assert drive.data("43 00 00 00 00 00 00 00 0C 00") == bytes.fromhex("001201010014010000000000")
    assert drive.data("43 00 00 00 00 00 00 00 FF 00")[12:] == bytes.fromhex("0016AA00") + BLOCKS.to_bytes(4, "big")
    assert drive.data("43 02 00 00 00 00 AA 00 FF 00") == bytes.fromhex("000A01010016AA00") + bytes(
        [0, *divmod((BLOCKS + 150) // 75, 60), (BLOCKS + 150) % 75]
    )
    assert drive.run("43 00 00 00 00 00 02 00 FF 00") == INVALID_FIELD


def test_session_and_raw_toc(drive: Drive) -> None:
    assert drive.data("43 00 01 00 00 00 00 00 FF 00") == bytes.fromhex("000A01010014010000000000")
    assert drive.data("43 00 00 00 00 00 00 00 FF 40") == drive.data("43 00 01 00 00 00 00 00 FF 00"), "SFF-8020i"
    raw = drive.data("43 00 02 00 00 00 00 00 FF 00")
    assert [raw[4 + 11 * index + 3] for index in range(4)] == [0xA0, 0xA1, 0xA2, 1]
    assert int.from_bytes(raw[:2], "big") == len(raw) - 2 == 46
    assert raw[37:] == bytes([1, 0x14, 0, 1, 0, 0, 0, 0, 0, 2, 0])
    assert drive.run("43 00 03 00 00 00 00 00 FF 00") == INVALID_FIELD


def test_disc_information_and_mechanism(drive: Drive) -> None:
    assert drive.data("51 00 00 00 00 00 00 00 FF 00") == bytes.fromhex("00200E010101012000") + bytes(25)
    assert len(drive.data("BD 00 00 00 00 00 00 00 00 08")) == 8


def test_linux_reads_the_capabilities_page(drive: Drive) -> None:
    data = drive.data("5A 00 2A 00 00 00 00 00 80 00")
    assert (int.from_bytes(data[:2], "big"), data[2], len(data)) == (26, 1, 28)
    page = data[8:]
    assert (page[0], page[1], page[6] >> 5) == (0x2A, 0x12, 1)
    assert int.from_bytes(page[8:10], "big") // 176 == 1
    assert drive.data("1A 00 2A 00 80")[4:] == page


def test_mode_sense_of_all_pages_and_of_none(drive: Drive) -> None:
    everything = drive.data("5A 00 3F 00 00 00 00 00 FF 00")[8:]
    codes = []
    while everything:
        codes.append(everything[0])
        everything = everything[2 + everything[1] :]
    assert codes == [0x01, 0x0D, 0x0E, 0x2A]
    assert drive.data("5A 00 6A 00 00 00 00 00 FF 00")[8:] == b"\x2a\x12" + bytes(18), "nothing is changeable"
    assert drive.run("5A 00 EA 00 00 00 00 00 FF 00") == (5, 0x39, 0)
    assert drive.run("5A 00 08 00 00 00 00 00 FF 00") == INVALID_FIELD


@pytest.mark.parametrize(("blocks", "profile"), [(BLOCKS, 0x08), (360_000, 0x08), (360_001, 0x10)])
def test_the_profile_follows_the_size(blocks: int, profile: int) -> None:
    drive = Drive(blocks)
    data = drive.data("46 00 00 00 00 00 00 00 FF 00")
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert data[7] == profile
    assert data[12:20] == bytes([0, 0x10, profile == 0x10, 0, 0, 0x08, profile == 0x08, 0])


def test_features_can_be_chosen(drive: Drive) -> None:
    assert drive.data("46 02 00 03 00 00 00 00 FF 00")[8:] == bytes.fromhex("00030B0429000000")
    assert drive.data("46 02 01 00 00 00 00 00 FF 00")[8:] == b""
    current = drive.data("46 01 00 10 00 00 00 00 FF 00")[8:]
    assert (current[:3], current[12:15], len(current)) == (b"\x00\x10\x01", b"\x00\x1e\x09", 20)


def test_without_a_disc() -> None:
    drive = Drive(disc=False)
    drive.ready()
    for cdb in ("00", "25", "28 00 00 00 00 00 00 00 01", "43 00 00 00 00 00 00 00 FF", "51", "2B"):
        assert drive.run(cdb) == NO_DISC
    assert drive.events() == bytes.fromhex("0006041000000000")
    assert drive.data("5A 00 01 00 00 00 00 00 FF 00")[2] == 0x70


def test_a_disc_put_in_is_a_change_and_an_event() -> None:
    drive = Drive(disc=False)
    drive.ready()
    drive.ready()
    drive.cdrom.connect(drive.disc)
    assert drive.events() == bytes.fromhex("0006041002020000")
    assert drive.events() == bytes.fromhex("0006041000020000")
    assert drive.ready() == CHANGED
    assert drive.ready() == b""


def test_an_exchanged_disc_is_absent_once(drive: Drive) -> None:
    drive.cdrom.connect(Blocks(10, 2048))
    assert [drive.ready() for _ in range(3)] == [NO_DISC, CHANGED, b""]
    assert drive.data("25")[:4] == bytes([0, 0, 0, 9])


def test_a_disc_taken_out_and_put_in_between_polls(drive: Drive) -> None:
    assert drive.cdrom.disconnect()
    drive.cdrom.connect(drive.disc)
    assert [drive.ready() for _ in range(3)] == [NO_DISC, CHANGED, b""]


def test_a_locked_disc_stays_and_the_guest_is_asked(drive: Drive) -> None:
    drive.run("1E 00 00 00 01 00")
    assert drive.data("5A 00 2A 00 00 00 00 00 80 00")[14] & 2
    assert not drive.cdrom.disconnect()
    assert drive.ready() == b""
    assert drive.events() == bytes.fromhex("0006041001020000")
    assert drive.run("1B 00 00 00 02 00") == (5, 0x53, 2)
    drive.run("1E 00 00 00 00 00")
    assert drive.cdrom.disconnect()
    assert drive.ready() == NO_DISC


def test_the_guest_ejects_and_loads(drive: Drive) -> None:
    assert drive.run("1B 00 00 00 02 00") == b""
    assert drive.ejections == 1
    assert drive.events() == bytes.fromhex("0006041003010000")
    assert drive.ready() == NO_DISC_OPEN
    assert drive.run("1B 00 00 00 03 00") == b""
    assert [drive.ready() for _ in range(2)] == [CHANGED, b""]
    assert drive.ejections == 1


def test_starting_and_stopping_change_nothing(drive: Drive) -> None:
    for parameter in ("00", "01", "30"):
        assert drive.run(f"1B 00 00 00 {parameter} 00") == b""
    assert drive.ready() == b""


def test_event_status_of_other_classes(drive: Drive) -> None:
    assert drive.data("4A 01 00 00 02 00 00 00 08 00") == bytes.fromhex("00028010")
    assert drive.run("4A 00 00 00 10 00 00 00 08 00") == INVALID_FIELD


@pytest.mark.parametrize("op", [0x0A, 0x2A, 0x35, 0x55, 0x5D, 0xA1, 0xAA, 0xFF])
def test_operations_it_lacks(drive: Drive, op: int) -> None:
    assert drive.run(f"{op:02x}") == (5, 0x20, 0)


def test_report_luns(drive: Drive) -> None:
    assert drive.data("A0 00 00 00 00 00 00 00 10 00 00 00") == bytes([0, 0, 0, 8, *bytes(12)])
    assert drive.run("A0 00 00 00 00 00 00 00 00 08 00 00") == INVALID_FIELD


def test_a_read_error_names_its_block(drive: Drive) -> None:
    drive.disc.bad = {6}
    views = [memoryview(bytearray(3 * 2048))]
    assert drive.cdrom.read_blocks(4, 3, views) == 2
    assert isinstance(drive.cdrom.read_blocks(6, 1, [views[0][:2048]]), CheckCondition)
    assert drive.cdrom.take_sense() == bytes.fromhex("F00003 00000006 0A 00000000 1100 00 000000")
