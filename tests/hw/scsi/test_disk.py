"""The disk command set: what each command answers, by the standard's tables and what Linux's drivers look for."""

from __future__ import annotations

import pytest

from hw.scsi.disk import DiskProfile, DiskState
from hw.scsi.disk_spec import Geometry
from hw.scsi.scsi_spec import Reset, Status
from tests.hw.scsi.initiator import BLOCK, Initiator, bad_block

GIB_10 = 20_971_520 * BLOCK
FIELD, OPCODE, RANGE, LIST_LENGTH, PARAMETER = (5, 0x24, 0), (5, 0x20, 0), (5, 0x21, 0), (5, 0x1A, 0), (5, 0x26, 0)
UUID = bytes.fromhex("6000C2985D08DEF2A0142E05949DD838")
CACHED = DiskProfile(caching_page=True, write_cache=True)


@pytest.fixture
def disk() -> Initiator:
    return Initiator()


def test_inquiry_is_vmwares(disk: Initiator) -> None:
    answer = disk.run("12 00 00 00 24 00")
    assert answer.data == bytes.fromhex(
        "00 00 02 02 1f 00 00 32 56 4d 77 61 72 65 20 20 56 69 72 74 75 61 6c 20 64 69 73 6b 20 20 20 20 31 2e 30 20"
    )
    assert disk.run("12 00 00 00 05 00").data == answer.data[:5]
    assert disk.run("12 00 00 00 00 00").data == b""
    assert disk.run("12 00 00 00 FF 00") == disk.run("12 20 00 00 FF 00"), "LUN bits in the CDB do not matter"


def test_vital_product_data_needs_a_uuid(disk: Initiator) -> None:
    answer = disk.run("12 01 00 00 FF 00")
    assert answer.raw_sense == bytes.fromhex("70 00 05 00 00 00 00 0a 00 00 00 00 24 00 00 c8 00 01")
    known = Initiator(profile=DiskProfile(uuid=UUID))
    assert known.run("12 01 00 00 FF 00").data == bytes.fromhex("00 00 00 03 00 80 83")
    assert known.run("12 01 80 00 FF 00").data == b"\x00\x80\x00\x20" + UUID.hex().encode()
    assert known.run("12 01 83 00 FF 00").data == bytes.fromhex("00 83 00 14 01 03 00 10") + UUID
    assert known.run("12 01 83 00 06 00").data == bytes.fromhex("00 83 00 14 01 03")
    assert known.run("12 01 B0 00 FF 00").sense == FIELD


@pytest.mark.parametrize(("cdb", "byte"), [("12 02 00 00 FF 00", 1), ("12 00 80 00 FF 00", 2)])
def test_an_invalid_field_is_pointed_at(disk: Initiator, cdb: str, byte: int) -> None:
    answer = disk.run(cdb)
    assert answer.sense == FIELD
    assert answer.raw_sense[15] & 0xC0 == 0xC0 and answer.raw_sense[16:] == bytes([0, byte])


def test_capacity() -> None:
    disk = Initiator(size=GIB_10)
    assert disk.run("25 00 00 00 00 00 00 00 00 00").data == bytes.fromhex("01 3f ff ff 00 00 02 00")
    long = disk.run("9E 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00").data
    assert long == bytes.fromhex("00 00 00 00 01 3f ff ff 00 00 02 00") + bytes(20)
    assert disk.run("9E 10 00 00 00 00 00 00 00 00 00 00 00 0C 00 00").data == long[:12]
    assert disk.run("25 00 00 00 00 01 00 00 00 00").sense == FIELD
    assert disk.run("25 00 00 00 00 01 00 00 01 00").status == Status.GOOD
    assert disk.run("9E 10 00 00 00 00 00 00 00 01 00 00 00 20 00 00").sense == FIELD
    assert disk.run("9E 11 00 00 00 00 00 00 00 00 00 00 00 20 00 00").sense == FIELD


def test_a_large_capacity_is_told_by_the_long_form() -> None:
    disk = Initiator(size=(1 << 32) * BLOCK + BLOCK)
    assert disk.run("25 00 00 00 00 00 00 00 00 00").data[:4] == b"\xff" * 4
    assert int.from_bytes(disk.run("9E 10" + " 00" * 11 + " 20 00 00").data[:8], "big") == 1 << 32


def test_linux_finds_no_caching_page_and_93_bytes(disk: Initiator) -> None:
    assert disk.run("1A 00 3F 00 04 00").data == bytes.fromhex("5D 00 00 00")
    assert disk.run("1A 00 08 00 04 00").sense == FIELD
    assert disk.run("1A 00 00 00 04 00").data[2:] == b"\0\0"
    disk.backing.writable = False
    assert disk.run("1A 00 3F 00 04 00").data == bytes.fromhex("5D 00 80 00")


def pages_of(data: bytes) -> dict[int, bytes]:
    pages = {}
    while data:
        pages[data[0]], data = data[: 2 + data[1]], data[2 + data[1] :]
    return pages


def test_mode_pages() -> None:
    disk = Initiator(profile=DiskProfile(geometry=Geometry(1305, 255, 63)))
    data = disk.run("1A 08 3F 00 FF 00").data
    assert data[0] == len(data) - 1
    pages = pages_of(data[4:])
    assert list(pages) == [1, 2, 3, 4, 0x0A, 0]
    assert pages[1] == bytes.fromhex("01 0a c0 08 00 00 00 00 08 00 00 00")
    assert pages[2] == bytes.fromhex("02 0e 80 80") + bytes(12)
    assert (pages[3][10:16], pages[3][20]) == (bytes.fromhex("003f 0200 0001"), 0x40)
    assert pages[4][2:6] == (1305).to_bytes(3, "big") + b"\xff" and pages[4][20:22] == b"\x1c\x20"
    assert [len(pages[code]) for code in (3, 4, 0x0A)] == [24, 24, 12]
    long = disk.run("5A 00 3F 00 00 00 00 00 FF 00").data
    assert int.from_bytes(long[:2], "big") == len(long) - 2 and long[8:] == data[4:]
    assert disk.run("5A 00 04 00 00 00 00 00 FF 00").data[8:] == pages[4]
    assert disk.run("1A 00 BF 00 FF 00").data == data, "the defaults"
    changeable = pages_of(disk.run("1A 00 7F 00 FF 00").data[4:])
    assert list(changeable) == list(pages) and not any(any(page[2:]) for page in changeable.values())


@pytest.mark.parametrize(
    ("blocks", "geometry"),
    [(2 << 20, (1024, 64)), ((2 << 20) + 1, (512, 128)), (4 << 20, (1024, 128)), (20_971_520, (1305, 255))],
)
def test_the_geometry_is_the_adapters_translation(blocks: int, geometry: tuple[int, int]) -> None:
    page = Initiator(size=blocks * BLOCK).run("1A 00 04 00 FF 00").data[4:]
    assert (int.from_bytes(page[2:5], "big"), page[5]) == geometry


@pytest.mark.parametrize(
    ("cdb", "sense"),
    [("1A 00 FF 00 FF 00", (5, 0x39, 0)), ("1A 00 1C 00 FF 00", FIELD), ("1A 00 01 01 FF 00", FIELD),
     ("1A 00 01 FF FF 00", FIELD)],
)  # fmt: skip
def test_mode_pages_that_are_not_there(disk: Initiator, cdb: str, sense: tuple[int, int, int]) -> None:
    assert disk.run(cdb).sense == sense


def test_the_write_cache_is_what_the_guest_makes_it() -> None:
    disk = Initiator(profile=CACHED)
    page = disk.run("1A 00 08 00 FF 00").data[4:]
    assert page == bytes([8, 0x12, 4]) + bytes(17)
    assert disk.run("1A 00 48 00 FF 00").data[4:] == page, "the only changeable bit"
    disk.send("2A 00 00 00 00 00 00 00 01 00", bytes(BLOCK))
    assert disk.backing.flushes == 0
    off = bytes([0, 0, 0, 0, 8, 0x12]) + bytes(18)
    answer = disk.send("15 10 00 00 18 00", off)
    assert (answer.status, answer.residual, disk.backing.flushes) == (Status.GOOD, 0, 1), "what was cached is flushed"
    assert disk.run("1A 00 08 00 FF 00").data[6] == 0
    assert disk.run("1A 00 88 00 FF 00").data[6] == 4, "the default"
    disk.send("2A 00 00 00 00 00 00 00 01 00", bytes(BLOCK))
    assert disk.backing.flushes == 2
    assert disk.send("55 10 00 00 00 00 00 00 1C 00", bytes(8) + page).status == Status.GOOD
    assert disk.run("1A 00 08 00 FF 00").data[6] == 4


@pytest.mark.parametrize(
    ("cdb", "parameters", "sense", "pointer"),
    [
        ("15 11 00 00 04 00", "00 00 00 00", FIELD, 1),
        ("15 10 00 00 03 00", "00 00 00", LIST_LENGTH, None),
        ("15 10 00 00 06 00", "00 00 00 00", LIST_LENGTH, None),
        ("15 10 00 00 10 00", "00 00 00 00 0A 0A 00 10 00 00 00 00 00 00 00 00", None, None),
        ("15 10 00 00 18 00", "00 00 00 08 00 00 00 00 00 00 02 00 0A 0A 00 10 00 00 00 00 00 00 00 00", None, None),
        ("15 10 00 00 0C 00", "00 00 00 08 00 00 00 00 00 00 08 00", PARAMETER, 9),
        ("15 10 00 00 0C 00", "00 00 00 04 00 00 00 00 00 00 02 00", PARAMETER, 3),
        ("15 10 00 00 08 00", "00 00 00 08 00 00 00 00", LIST_LENGTH, None),
        ("15 10 00 00 10 00", "00 00 00 00 0A 0A 00 10 00 00 00 00 01 00 00 00", PARAMETER, 12),
        ("15 10 00 00 10 00", "00 00 00 00 0A 09 00 10 00 00 00 00 00 00 00 00", PARAMETER, 5),
        ("15 10 00 00 0F 00", "00 00 00 00 0A 0A 00 10 00 00 00 00 00 00 00", LIST_LENGTH, None),
        ("15 10 00 00 05 00", "00 00 00 00 0A", LIST_LENGTH, None),
        ("15 10 00 00 06 00", "00 00 00 00 08 12", PARAMETER, 4),
        ("55 10 00 00 00 00 00 00 0A 00", "00 00 00 00 00 00 00 00 00 00", None, None),
        ("55 10 00 00 00 00 00 00 00 00", "", None, None),
    ],
)
def test_mode_select(
    disk: Initiator, cdb: str, parameters: str, sense: tuple[int, int, int] | None, pointer: int | None
) -> None:
    answer = disk.send(cdb, bytes.fromhex(parameters))
    assert answer.sense == sense
    if pointer is not None:
        kind = 0xC0 if sense == FIELD else 0x80
        assert (answer.raw_sense[15] & 0xC0, answer.raw_sense[17]) == (kind, pointer)


FORMS = {
    6: ("08 00 00 {lba:02x} {count:02x} 00", "0A 00 00 {lba:02x} {count:02x} 00"),
    10: ("28 00 {lba:08x} 00 {count:04x} 00", "2A 00 {lba:08x} 00 {count:04x} 00"),
    12: ("A8 00 {lba:08x} {count:08x} 00 00", "AA 00 {lba:08x} {count:08x} 00 00"),
    16: ("88 00 {lba:016x} {count:08x} 00 00", "8A 00 {lba:016x} {count:08x} 00 00"),
}


def pattern(seed: int, count: int) -> bytes:
    return b"".join((seed * 1000 + block).to_bytes(4, "big") * (BLOCK // 4) for block in range(count))


@pytest.mark.parametrize("form", FORMS)
def test_what_one_form_writes_every_form_reads(disk: Initiator, form: int) -> None:
    data = pattern(form, 3)
    answer = disk.send(FORMS[form][1].format(lba=5, count=3), data)
    assert (answer.status, answer.residual, answer.overrun) == (Status.GOOD, 0, 0)
    assert disk.backing.data[5 * BLOCK : 8 * BLOCK] == data and not any(disk.backing.data[: 5 * BLOCK])
    for read, _ in FORMS.values():
        assert disk.run(read.format(lba=5, count=3), 3 * BLOCK).data == data


def test_a_count_of_0() -> None:
    disk = Initiator(300)
    disk.backing.data[:] = pattern(1, 300)
    answer = disk.run("08 00 00 00 00 00", 200_000)
    assert answer.data == bytes(disk.backing.data[: 256 * BLOCK])
    assert disk.run("28 00 00 00 00 00 00 00 00 00").data == b""
    assert disk.run("28 00 00 00 01 2C 00 00 00 00").status == Status.GOOD, "no blocks at the very end are there"
    assert disk.run("28 00 00 00 01 2D 00 00 00 00").sense == RANGE


@pytest.mark.parametrize(
    "cdb",
    ["28 00 00 00 00 40 00 00 01 00", "2A 00 00 00 00 3F 00 00 02 00", "08 1F FF FF 01 00",
     "A8 00 FF FF FF FF FF FF FF FF", "88 00 FF FF FF FF FF FF FF FF FF FF FF FF 00 00",
     "2F 00 00 00 00 3F 00 00 02 00", "35 00 00 00 00 3F 00 00 02 00",
     "34 00 00 00 00 3F 00 00 02 00", "2B 00 00 00 00 40 00 00 00 00", "0B 00 00 40 00 00"],
)  # fmt: skip
def test_blocks_that_are_not_there(disk: Initiator, cdb: str) -> None:
    assert disk.send(cdb, bytes(1024)).sense == RANGE
    assert disk.backing.log == [], "nothing is transferred in part"


@pytest.mark.parametrize("op", ["28", "2A", "2E", "2F", "35", "34", "A8"])
def test_relative_addresses_do_not_exist(disk: Initiator, op: str) -> None:
    assert disk.run(op + " 01" + " 00" * 8).sense == FIELD


@pytest.mark.parametrize("cdb", ["00 00 00 00 00 01", "12 00 00 00 24 04", "28 00 00 00 00 00 00 00 01 01"])
def test_links_and_naca_do_not_exist(disk: Initiator, cdb: str) -> None:
    answer = disk.run(cdb)
    assert answer.sense == FIELD and answer.raw_sense[17] == len(bytes.fromhex(cdb)) - 1


def test_force_unit_access_is_a_flush(disk: Initiator) -> None:
    disk.send("2A 08 00 00 00 00 00 00 01 00", bytes(BLOCK))
    disk.send("2A 10 00 00 00 00 00 00 01 00", bytes(BLOCK))
    assert disk.backing.flushes == 1
    disk.run("35 00 00 00 00 00 00 00 00 00")
    disk.run("91 02" + " 00" * 14)
    assert disk.backing.flushes == 3


def test_writes_can_be_flushed_each() -> None:
    disk = Initiator(profile=DiskProfile(flush_writes=True))
    disk.send("0A 00 00 00 01 00", bytes(BLOCK))
    assert disk.backing.flushes == 1


@pytest.mark.parametrize("op", ["2F {}", "AF {}", "8F {}", "2E {}", "AE {}", "8E {}"])
def test_verify_compares_byte_for_byte(disk: Initiator, op: str) -> None:
    writes = op[0] in "2A8" and op[1] == "E"
    form = {"2": "00000004 00 0002 00", "A": "00000004 00000002 00 00", "8": "0000000000000004 00000002 00 00"}[op[0]]
    data = pattern(3, 2)
    disk.backing.data[4 * BLOCK : 6 * BLOCK] = data
    assert disk.send(op.format("02") + form, data)[:4:2] == (Status.GOOD, None)
    wrong = bytearray(data)
    wrong[700] ^= 1
    answer = disk.send(op.format("02") + form, bytes(wrong))
    if writes:
        assert answer.status == Status.GOOD and disk.backing.data[4 * BLOCK + 700] == wrong[700]
    else:
        assert answer.sense == (0xE, 0x1D, 0) and answer.raw_sense[:7] == bytes([0xF0, 0, 0xE, 0, 0, 2, 0xBC])
    assert disk.send(op.format("06") + form, data).sense == FIELD
    if not writes:
        assert disk.run(op.format("00") + form, 0).status == Status.GOOD
        assert disk.backing.log[-1] == ("read", 4, 2), "the blocks are read"


def test_verify_finds_a_bad_block(disk: Initiator) -> None:
    bad_block(disk.backing, 9)
    answer = disk.run("2F 00 00 00 00 00 00 00 20 00", 0)
    assert answer.sense == (3, 0x11, 0) and answer.raw_sense[:7] == bytes([0xF0, 0, 3, 0, 0, 0, 9])


def test_write_same_only_where_it_is_offered(disk: Initiator) -> None:
    cdb = "41 00 00 00 00 08 00 00 04 00"
    assert disk.send(cdb, bytes(BLOCK)).sense == OPCODE
    offering = Initiator(2000, DiskProfile(write_same=True))
    assert offering.send(cdb, b"\xa5" * BLOCK).residual == 0
    assert bytes(offering.backing.data[7 * BLOCK : 13 * BLOCK]) == bytes(BLOCK) + b"\xa5" * 4 * BLOCK + bytes(BLOCK)
    assert offering.send("93 00 00 00 00 00 00 00 00 20 00 00 00 00 00 00", b"\x5a" * BLOCK).status == Status.GOOD
    assert offering.backing.data[32 * BLOCK :] == b"\x5a" * (1968 * BLOCK), "0 blocks are those up to the end"
    assert offering.send("41 08 00 00 00 08 00 00 04 00", bytes(BLOCK)).sense == FIELD
    assert offering.send("41 02 00 00 00 08 00 00 04 00", bytes(BLOCK)).sense == FIELD
    assert offering.send(cdb, bytes(100)).overrun, "less than a block: nothing is written"
    assert offering.backing.data[8 * BLOCK] == 0xA5


def test_a_stopped_disk_is_not_ready(disk: Initiator) -> None:
    assert disk.run("1B 00 00 00 00 00").status == Status.GOOD
    assert disk.backing.flushes == 1
    for cdb in ("00", "28 00 00 00 00 00 00 00 01 00", "25"):
        assert disk.run(cdb).sense == (2, 4, 2)
    for cdb in ("12 00 00 00 24 00", "1A 00 3F 00 FF 00", "A0 00 00 00 00 00 00 00 10 00", "1B 00 00 00 10 00"):
        assert disk.run(cdb).status == Status.GOOD
    assert disk.run("1B 01 00 00 03 00").status == Status.GOOD
    assert disk.run("00").status == Status.GOOD


@pytest.mark.parametrize("cdb", ["2A 00 00 00 00 00 00 00 01 00", "04 00 00 00 00 00", "2E 00 00 00 00 00 00 00 01 00"])
def test_a_read_only_disk_is_protected(disk: Initiator, cdb: str) -> None:
    disk.backing.writable = False
    assert disk.send(cdb, bytes(BLOCK)).sense == (7, 0x27, 0)
    assert disk.send("2A 00 00 00 00 40 00 00 01 00", bytes(BLOCK)).sense == RANGE, "the range is checked before"
    assert disk.run("28 00 00 00 00 00 00 00 01 00").status == Status.GOOD


def test_report_luns(disk: Initiator) -> None:
    assert disk.run("A0 00 00 00 00 00 00 00 10 00 00 00").data == bytes([0, 0, 0, 8, *bytes(12)])
    assert disk.run("A0 00 00 00 00 00 00 00 00 08 00 00").sense == FIELD
    assert disk.run("A0 00 03 00 00 00 00 00 00 10 00 00").sense == FIELD


@pytest.mark.parametrize(
    ("cdb", "data"),
    [
        ("37 00 0D 00 00 00 00 00 04 00", "00 0D 00 00"),
        ("3C 0B 00 00 00 00 00 00 04 00", "00 00 00 00"),
        ("3C 03 00 00 00 00 00 00 04 00", "00 00 00 00"),
        ("3C 00 00 00 00 00 00 00 04 00", "00 00 00 00"),
        ("1C 00 00 00 FF 00", "00 00 00 01 00"),
        ("1D 04 00 00 00 00", ""),
        ("01 00 00 00 00 00", ""),
        ("0B 00 00 3F 00 00", ""),
        ("2B 00 00 00 00 3F 00 00 00 00", ""),
        ("34 00 00 00 00 00 00 00 00 00", ""),
        ("1E 00 00 00 01 00", ""),
        ("04 00 00 00 00 00", ""),
        ("56 00 00 00 00 00 00 00 00 00", ""),
        ("57 00 00 00 00 00 00 00 00 00", ""),
    ],
)
def test_lesser_commands(disk: Initiator, cdb: str, data: str) -> None:
    answer = disk.run(cdb)
    assert (answer.status, answer.data) == (Status.GOOD, bytes.fromhex(data))


@pytest.mark.parametrize(
    ("cdb", "sense"),
    [("3C 00 00 00 00 00 00 00 05 00", FIELD), ("3C 0A 00 00 00 00 00 00 04 00", FIELD),
     ("3B 02 00 00 00 00 00 00 00 00", FIELD), ("1D 10 00 00 04 00", PARAMETER), ("1C 01 40 00 FF 00", FIELD),
     ("04 10 00 00 00 00", FIELD),
     ("16 10 00 00 00 00", FIELD), ("17 01 00 00 00 00", FIELD), ("03 01 00 00 12 00", FIELD)],
)  # fmt: skip
def test_fields_that_lesser_commands_refuse(disk: Initiator, cdb: str, sense: tuple[int, int, int]) -> None:
    assert disk.run(cdb).sense == sense


def test_reassign_blocks_reads_its_list(disk: Initiator) -> None:
    cdb = "07 00 00 00 00 00"
    assert disk.send(cdb, bytes.fromhex("0000 0008 00000001 0000003F")).status == Status.GOOD
    assert disk.send(cdb, bytes.fromhex("0000 0004 00000040")).sense == RANGE
    assert disk.send(cdb, bytes.fromhex("0000 0008 00000001")).sense == LIST_LENGTH
    assert disk.send(cdb, bytes.fromhex("0000 0003 000000")).sense == LIST_LENGTH


@pytest.mark.parametrize("cdb", ["42", "4C", "4D", "5E", "5F", "7F", "A1", "A3", "B7", "C0", "FF", "43", "02"])
def test_operations_it_lacks(disk: Initiator, cdb: str) -> None:
    assert disk.run(cdb).sense == OPCODE


def test_only_inquiry_sense_and_luns_come_before_an_attention(disk: Initiator) -> None:
    disk.target.was_reset(Reset.BUS)
    assert disk.run("12 00 00 00 24 00").status == Status.GOOD
    assert disk.run("A0 00 00 00 00 00 00 00 10 00").status == Status.GOOD
    assert disk.run("FF").sense == (6, 0x29, 2), "even an operation that does not exist"
    assert disk.run("FF").sense == OPCODE


def test_attentions_queue_and_a_reset_replaces_them(disk: Initiator) -> None:
    disk.disk.capacity_changed()
    disk.disk.capacity_changed()
    assert [disk.run("00").sense for _ in range(2)] == [(6, 0x2A, 9), None]
    disk.disk.capacity_changed()
    disk.target.was_reset(Reset.LUN)
    disk.disk.capacity_changed()
    assert disk.run("03 00 00 00 12 00").data[2:14:10] == bytes([6, 0x29]), "REQUEST SENSE reports and clears it"
    assert [disk.run("00").sense for _ in range(2)] == [(6, 0x2A, 9), None]


def test_request_sense_has_nothing_after_autosense(disk: Initiator) -> None:
    disk.run("FF")
    assert disk.run("03 00 00 00 FF 00").data == bytes.fromhex("70 00 00 00 00 00 00 0A") + bytes(10)


def test_without_autosense_the_sense_waits_for_request_sense_or_the_next_command(disk: Initiator) -> None:
    first = disk.run("FF", autosense=False)
    assert (first.status, first.raw_sense) == (Status.CHECK_CONDITION, b"")
    data = disk.run("03 00 00 00 12 00", autosense=False).data
    assert (data[2], data[12]) == (5, 0x20)
    assert disk.run("03 00 00 00 12 00").data[2] == 0, "once"
    disk.run("FF", autosense=False)
    disk.run("00", autosense=False)
    assert disk.run("03 00 00 00 12 00").data[2] == 0


def test_a_state_file_carries_all_that_the_guest_can_see() -> None:
    disk = Initiator(profile=CACHED)
    disk.send("15 10 00 00 18 00", bytes([0, 0, 0, 0, 8, 0x12]) + bytes(18))
    disk.run("1B 00 00 00 00 00")
    disk.run("FF", autosense=False)
    disk.disk.capacity_changed()
    other = Initiator(profile=CACHED)
    other.disk.state = DiskState.from_buffer_copy(disk.disk.state)
    other.disk.sync()
    for cdb in ("03 00 00 00 12 00", "00", "00", "1A 00 3F 00 FF 00"):
        assert disk.run(cdb) == other.run(cdb)
