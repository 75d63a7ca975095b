"""The 53C1030, played as mptspi and SeaBIOS play it."""

from __future__ import annotations

import struct

import pytest

from tests.hw.scsi.adapter_rig import INQUIRY, PORTS, READ_10, TEST_UNIT_READY, WRITE_10, block_of, rw_10
from tests.hw.scsi.initiator import Later, bad_block
from tests.hw.scsi.lsilogic_driver import (
    CHAINS,
    DATA,
    DIAGNOSTIC,
    DOORBELL,
    EMPTY,
    FAULT,
    INT_MASK,
    INT_STATUS,
    OPERATIONAL,
    READY,
    REPLY,
    REQUEST,
    REQUESTS,
    SENSE,
    SEQUENCE,
    LsiRig,
    Reply,
    chain_element,
    sge,
)

INQUIRY_36 = bytes([INQUIRY, 0, 0, 0, 36, 0])
TUR = bytes([TEST_UNIT_READY, 0, 0, 0, 0, 0])
ABORT_TASK, TARGET_RESET, RESET_BUS, QUERY_TASK = 1, 3, 4, 7


@pytest.fixture
def rig() -> LsiRig:
    made = LsiRig((0, 3))
    made.start()
    return made


def as_frame(reply: int | Reply) -> Reply:
    assert isinstance(reply, Reply), f"context {reply:#x}, no frame"
    return reply


def test_identification() -> None:
    chip = LsiRig().chip
    assert chip.config_read(0x00, 4) == 0x00301000
    assert chip.config_read(0x08, 4) == 0x01000001
    assert chip.config_read(0x3D, 1) == 1
    chip.config_write(0x10, 4, 0xFFFFFFFF)
    chip.config_write(0x14, 4, 0xFFFFFFFF)
    assert (chip.config_read(0x10, 4), chip.config_read(0x14, 4)) == (0xFFFFFF81, 0xFFFFF000)


def test_power_on_is_ready_and_masked() -> None:
    rig = LsiRig()
    assert rig.get(DOORBELL) == READY << 28
    assert (rig.get(INT_STATUS), rig.get(INT_MASK), rig.get(REPLY)) == (0, 9, EMPTY)


def test_facts_by_a_handshake() -> None:
    reply = LsiRig().handshake(struct.pack("<BBBBII", 0, 0, 0, 3, 0, 0x1234))
    assert len(reply) == 60 and reply[3] == 3
    assert struct.unpack_from("<I", reply, 8) == (0x1234,)
    assert struct.unpack_from("<H", reply, 0) == (0x0102,)  # MPI 1.2
    assert struct.unpack_from("<H", reply, 0x24) == (128,)  # VMware's MaxQ
    assert struct.unpack_from("<H", reply, 0x1A)[0] * 4 == 128
    assert (reply[0x26], reply[0x2E], reply[0x2F]) == (1, 16, 1)


def test_facts_of_its_port_and_of_none() -> None:
    rig = LsiRig()
    reply = rig.handshake(struct.pack("<BBBBBBBBI", 0, 0, 0, 5, 0, 0, 0, 0, 0))
    assert len(reply) == 40
    assert reply[0x15] == 1 and struct.unpack_from("<HHH", reply, 0x16) == (16, 7, 8)
    assert rig.handshake(struct.pack("<BBBBBBBBI", 0, 0, 0, 5, 0, 0, 1, 0, 0))[0x15] == 0


def test_seabios_handshakes_without_waiting() -> None:
    """With 16-bit reads of the port, back to back, and one write of the interrupt status at the end."""
    rig = LsiRig()
    rig.ports.write(PORTS + DOORBELL, 4, 0x40000000)
    rig.ports.write(PORTS + INT_MASK, 4, 9)
    rig.ports.write(PORTS + INT_STATUS, 4, 0)
    request = struct.pack("<BBBBBBBBIHHII", 2, 0, 0, 2, 0, 8, 1, 0, 7, 4, 0, 0, 0)
    rig.ports.write(PORTS + DOORBELL, 4, 0x42060000)
    rig.ports.write_units(PORTS + DOORBELL, 4, request)
    reply = rig.ports.read_units(PORTS + DOORBELL, 2, 10)
    rig.ports.write(PORTS + INT_STATUS, 4, 0)
    assert (reply[2], reply[3], reply[0xE:0x10]) == (5, 2, b"\0\0")
    assert rig.get(DOORBELL) == OPERATIONAL << 28 | 2 << 24
    rig.ports.write(PORTS + REPLY, 4, 0x1000)
    attention = rig.run(0, TUR, cdb_length=16)
    assert isinstance(attention, Reply), "an error has bit 31 set"
    rig.begin(0, INQUIRY_36, sge(DATA, 36), 36, cdb_length=16, context=0x7654321)
    assert rig.ports.read(PORTS + INT_STATUS, 4) & 8
    assert [rig.ports.read(PORTS + REPLY, 4) for _ in range(2)] == [0x7654321, EMPTY]
    assert not rig.ports.read(PORTS + INT_STATUS, 4) & 8
    assert rig.ram[DATA + 8 : DATA + 16] == b"VMware  "


def test_a_frame_lies_on_four_bytes_and_its_address_hints_at_its_length(rig: LsiRig) -> None:
    frame = struct.pack("<BBBBII", 0, 0, 0, 0x15, 0, 0x31)
    rig.ram[REQUESTS + 4 : REQUESTS + 16] = frame
    for hint in range(4):
        rig.put(REQUEST, REQUESTS + 4 | hint)
    assert [as_frame(reply).context for reply in rig.replies()] == [0x31] * 4


def test_events_are_switched_on() -> None:
    rig = LsiRig()
    rig.start()
    reply = rig.handshake(struct.pack("<BBBBII", 1, 0, 0, 7, 0, 0x21))
    assert len(reply) == 32
    assert struct.unpack_from("<H", reply, 0) == (1,) and reply[7] == 0x80
    assert struct.unpack_from("<III", reply, 0x14) == (0x0A, 0, 1)


def test_an_unknown_message_is_refused(rig: LsiRig) -> None:
    rig.post(struct.pack("<BBBBII", 0, 0, 0, 0x15, 0, 0x31))
    (reply,) = rig.replies()
    assert as_frame(reply).status == 1 and as_frame(reply).context == 0x31


def test_a_full_read_is_answered_by_its_context(rig: LsiRig) -> None:
    assert rig.run(3, rw_10(READ_10, 5, 2), sge(DATA, 1024), 1024, context=0x345) == 0x345
    assert rig.ram[DATA : DATA + 1024] == block_of(3, 5) + block_of(3, 6)


def test_write_from_scattered_memory(rig: LsiRig) -> None:
    rig.ram[DATA : DATA + 700], rig.ram[DATA + 0x1000 : DATA + 0x1144] = b"a" * 700, b"b" * 324
    sgl = sge(DATA, 700, out=True, last=False, end=False) + sge(DATA + 0x1000, 324, out=True, wide=True)
    assert rig.run(0, rw_10(WRITE_10, 9, 2), sgl, 1024, out=True) == 0x77
    assert rig.backings[0].data[9 * 512 : 11 * 512] == b"a" * 700 + b"b" * 324


@pytest.mark.parametrize("wide", [False, True])
def test_a_chain_of_two_segments(rig: LsiRig, wide: bool) -> None:
    """ChainOffset counts from the frame's start, the next one from that of its segment."""
    size = 12 if wide else 8
    pieces = [sge(DATA + 0x1000 * index, 512, wide=wide, last=index in (1, 3, 4), end=index == 4) for index in range(5)]
    rig.ram[CHAINS : CHAINS + 3 * size] = pieces[2] + pieces[3] + chain_element(CHAINS + 0x800, size, wide=wide)
    rig.ram[CHAINS + 0x800 : CHAINS + 0x800 + size] = pieces[4]
    sgl = pieces[0] + pieces[1] + chain_element(CHAINS, 3 * size, 2 * size // 4, wide=wide)
    assert rig.run(0, rw_10(READ_10, 20, 5), sgl, 2560, chain=(0x30 + 2 * size) // 4) == 0x77
    for index in range(5):
        assert rig.ram[DATA + 0x1000 * index : DATA + 0x1000 * index + 512] == block_of(0, 20 + index)


def test_a_chain_without_end_is_refused(rig: LsiRig) -> None:
    rig.ram[CHAINS : CHAINS + 8] = chain_element(CHAINS, 8)
    reply = as_frame(rig.run(0, rw_10(READ_10, 0, 1), chain_element(CHAINS, 8), 512, chain=12))
    assert reply.status == 3


@pytest.mark.parametrize(("sgl", "length"), [
    (sge(0xFFF000, 512), 512), (sge(1 << 40, 512, wide=True), 512), (struct.pack("<II", 0, 0), 512),
    (sge(DATA, 512), 0xFFFFFFFF),
])  # fmt: skip
def test_a_list_that_leads_nowhere_is_refused(rig: LsiRig, sgl: bytes, length: int) -> None:
    assert as_frame(rig.run(0, rw_10(READ_10, 0, 1), sgl, length)).status == 3


def test_less_data_than_the_buffer_takes_is_an_underrun(rig: LsiRig) -> None:
    reply = as_frame(rig.run(0, INQUIRY_36, sge(DATA, 96), 96))
    assert (reply.status, reply.frame[0x0C], reply.u32(0x14)) == (0x45, 0, 36)


def test_more_data_than_the_buffer_takes_is_an_overrun(rig: LsiRig) -> None:
    reply = as_frame(rig.run(0, rw_10(READ_10, 0, 2), sge(DATA, 512), 512))
    assert (reply.status, reply.u32(0x14)) == (0x44, 512)


def test_check_condition_comes_with_sense(rig: LsiRig) -> None:
    bad_block(rig.backings[0], 7)
    reply = as_frame(rig.run(0, rw_10(READ_10, 6, 2), sge(DATA, 1024), 1024))
    assert (reply.frame[0x0C], reply.frame[0x0D]) == (2, 1)
    assert reply.u32(0x14) == 512, "what came before the bad block"
    assert reply.u32(0x18) == 18
    assert (rig.ram[SENSE + 2], rig.ram[SENSE + 12], rig.ram[SENSE + 6]) == (3, 0x11, 7)


@pytest.mark.parametrize(("target", "bus", "status"), [(1, 0, 0x43), (7, 0, 0x43), (16, 0, 0x42), (0, 1, 0x41)])
def test_who_is_not_there(rig: LsiRig, target: int, bus: int, status: int) -> None:
    reply = as_frame(rig.run(target, TUR, bus=bus))
    assert reply.status == status
    assert reply.frame[2] == 9


def test_direction_comes_from_the_command_where_none_is_said(rig: LsiRig) -> None:
    rig.ram[DATA : DATA + 512] = b"w" * 512
    assert rig.run(0, rw_10(WRITE_10, 3, 1), sge(DATA, 512), 512, control=0) == 0x77
    assert rig.backings[0].data[3 * 512 : 4 * 512] == b"w" * 512
    assert rig.run(0, rw_10(READ_10, 4, 1), sge(DATA, 512), 512, control=0) == 0x77
    assert rig.ram[DATA : DATA + 512] == block_of(0, 4)


def test_replies_wait_for_frames() -> None:
    rig = LsiRig()
    rig.start(frames=0)
    for context in (1, 2):
        rig.begin(5, TUR, context=context)
    rig.begin(0, INQUIRY_36, sge(DATA, 36), 36, context=3)
    assert rig.replies() == [3], "a context needs no frame"
    rig.give_frame(0)
    assert [as_frame(reply).context for reply in rig.replies()] == [1, 2]


def test_the_interrupt_lasts_until_the_queue_is_found_empty(rig: LsiRig) -> None:
    assert rig.get(INT_STATUS) == 0
    rig.begin(0, TUR)
    assert (rig.line, rig.get(INT_STATUS)) == (True, 8)
    rig.put(INT_STATUS, 0)
    assert rig.line, "only reading the queue ends it"
    assert rig.get(REPLY) == 0x77
    assert rig.line
    assert (rig.get(REPLY), rig.line) == (EMPTY, False)
    rig.put(INT_MASK, 9)
    rig.begin(0, TUR)
    assert (rig.get(INT_STATUS), rig.line) == (8, False)
    rig.put(INT_MASK, 1)
    assert (rig.get(INT_STATUS), rig.line) == (8, True)


def test_a_request_waits_until_the_function_may_master_the_bus(rig: LsiRig) -> None:
    rig.chip.config_write(4, 2, 3)
    rig.begin(0, TUR)
    assert rig.replies() == []
    rig.chip.config_write(4, 2, 7)
    assert rig.replies() == [0x77]


# several at once


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def slow(later: Later) -> LsiRig:
    made = LsiRig((0, 3), later)
    made.start()
    return made


def begin_reads(rig: LsiRig, count: int, target: int = 0) -> None:
    for index in range(count):
        rig.begin(target, rw_10(READ_10, index, 1), sge(DATA + 512 * index, 512), 512, context=0x100 + index)


def test_commands_end_in_any_order(slow: LsiRig, later: Later) -> None:
    begin_reads(slow, 4)
    assert slow.replies() == [] and len(later.jobs) == 4
    for index in (2, 0, 1, 0):
        later.do(index)
    assert slow.replies() == [0x102, 0x100, 0x103, 0x101]
    assert slow.ram[DATA : DATA + 2048] == b"".join(block_of(0, index) for index in range(4))


def test_an_ordered_command_waits_for_those_before_it(slow: LsiRig, later: Later) -> None:
    begin_reads(slow, 2)
    slow.begin(0, rw_10(READ_10, 9, 1), sge(DATA, 512), 512, context=0x200, attribute=2)
    assert len(later.jobs) == 2
    later.do(1)
    later.do(0)
    later.do()
    assert slow.replies() == [0x101, 0x100, 0x200]


@pytest.mark.parametrize("doorbell", [False, True])
def test_abort_is_answered_after_the_command_has_let_go_of_memory(slow: LsiRig, later: Later, doorbell: bool) -> None:
    begin_reads(slow, 3)
    slow.manage(ABORT_TASK, task=0x101, doorbell=doorbell)
    assert slow.replies() == []
    later.do(1)
    aborted, done = (as_frame(reply) for reply in slow.replies())
    assert (aborted.context, aborted.status) == (0x101, 0x48)
    assert (done.context, done.status, done.frame[3], done.u32(0x14)) == (0x99, 0, 1, 1)
    later.do()
    later.do()
    assert slow.replies() == [0x100, 0x102]


def test_query_task(slow: LsiRig) -> None:
    begin_reads(slow, 1)
    for task, expected in ((0x100, 8), (0x101, 0)):
        slow.manage(QUERY_TASK, task=task)
        (reply,) = slow.replies()
        assert as_frame(reply).frame[4] == expected


def test_a_bus_reset_ends_all_commands_and_is_noticed(slow: LsiRig, later: Later) -> None:
    begin_reads(slow, 2)
    begin_reads(slow, 1, target=3)
    slow.manage(RESET_BUS)
    while later.jobs:
        later.do()
    *ended, done = (as_frame(reply) for reply in slow.replies())
    assert [reply.status for reply in ended] == [0x48] * 3
    assert (done.frame[5], done.u32(0x14)) == (RESET_BUS, 3)
    for target in (0, 3):
        assert as_frame(slow.run(target, TUR)).frame[0x0C] == 2
        assert (slow.ram[SENSE + 2], slow.ram[SENSE + 12], slow.ram[SENSE + 13]) == (6, 0x29, 2)


def test_a_target_reset_leaves_other_targets_alone(slow: LsiRig, later: Later) -> None:
    begin_reads(slow, 1)
    slow.begin(3, rw_10(READ_10, 0, 1), sge(DATA, 512), 512, context=0x300)
    slow.manage(TARGET_RESET, target=0)
    later.do()
    later.do()
    assert [reply if isinstance(reply, int) else reply.context for reply in slow.replies()] == [0x100, 0x99, 0x300]


@pytest.mark.parametrize("function", [0x40, 0x41])
def test_a_reset_is_over_when_no_command_moves_data(slow: LsiRig, later: Later, function: int) -> None:
    begin_reads(slow, 2)
    slow.put(DOORBELL, function << 24)
    assert slow.state == 0
    later.do()
    assert slow.state == 0
    later.do()
    assert slow.get(DOORBELL) == READY << 28
    assert slow.replies() == [] and slow.get(INT_STATUS) == 0
    slow.start()


def test_no_more_requests_are_taken_than_there_is_room_for(slow: LsiRig, later: Later) -> None:
    for index in range(300):
        slow.begin(index % 2 * 3, rw_10(READ_10, 0, 1), sge(DATA, 512), 512, context=index)
    assert len(slow.chip.bus.tasks) == 256
    while later.jobs:
        later.do()
    assert len(slow.replies()) == 256
    while later.jobs:
        later.do()
    assert len(slow.replies()) == 44


def test_more_requests_than_the_queue_holds_are_a_fault(slow: LsiRig) -> None:
    for _ in range(2 * 256):
        slow.begin(0, rw_10(READ_10, 0, 1), sge(DATA, 512), 512)
    assert slow.state == OPERATIONAL
    slow.put(REQUEST, REQUESTS)
    assert slow.get(DOORBELL) >> 28 == FAULT
    assert slow.get(DOORBELL) & 0xFFFF == 6


def test_a_request_frame_outside_memory_is_a_fault_that_a_reset_mends(rig: LsiRig) -> None:
    rig.put(REQUEST, 0xFFFFF000)
    assert (rig.state, rig.get(DOORBELL) & 0xFFFF) == (FAULT, 0x8112)
    rig.begin(0, TUR)
    assert rig.replies() == []
    rig.put(DOORBELL, 0x40000000)
    assert rig.get(DOORBELL) == READY << 28


def test_a_handshake_is_broken_off_by_a_reset() -> None:
    rig = LsiRig()
    rig.put(DOORBELL, 0x42060000)
    rig.put(DOORBELL, 0x02000004)
    rig.put(DOORBELL, 0x40000000)
    assert rig.get(DOORBELL) == READY << 28
    rig.start()


# diagnostics


def unlock(rig: LsiRig) -> None:
    for key in (0xFF, 4, 0xB, 2, 7, 0xD):
        rig.put(SEQUENCE, key)


def test_the_adapter_is_reset_as_linux_does_it(rig: LsiRig) -> None:
    rig.put(DIAGNOSTIC, 4)
    assert rig.state == OPERATIONAL, "locked"
    unlock(rig)
    assert rig.get(DIAGNOSTIC) == 0x80
    rig.put(DIAGNOSTIC, 0x82)
    assert rig.get(DIAGNOSTIC) == 0x82
    rig.put(DIAGNOSTIC, 0x86)
    assert (rig.state, rig.get(DIAGNOSTIC), rig.get(INT_MASK)) == (READY, 0x20, 9)
    unlock(rig)
    rig.put(DIAGNOSTIC, rig.get(DIAGNOSTIC) & ~0x20)
    rig.put(SEQUENCE, 0xFF)
    assert rig.get(DIAGNOSTIC) == 0
    rig.start()


def test_a_wrong_key_unlocks_nothing(rig: LsiRig) -> None:
    for key in (4, 0xB, 2, 8, 7, 0xD):
        rig.put(SEQUENCE, key)
    assert rig.get(DIAGNOSTIC) == 0


# configuration pages


def test_what_linux_reads_of_the_port(rig: LsiRig) -> None:
    header = rig.page(0, 3, 0)
    assert (header.status, header.frame[0x14:0x18]) == (0, bytes([2, 3, 0, 3]))
    assert rig.page(1, 3, 0).status == 0
    assert struct.unpack_from("<II", rig.ram, DATA + 4) == (0x207F0A00, 3)
    assert rig.page(6, 3, 2).status == 0
    assert rig.ram[DATA + 1] == 0x4C // 4
    assert struct.unpack_from("<I", rig.ram, DATA + 8) == (0x37,)
    assert rig.ram[DATA + 0x0C : DATA + 0x10] == bytes([0, 0x0A, 0x0F, 0])


def test_what_is_requested_of_a_target_is_negotiated_as_far_as_the_port_can(rig: LsiRig) -> None:
    rig.page(1, 4, 1, 3)
    struct.pack_into("<I", rig.ram, DATA + 4, 0x2F9F0807)  # Ultra160, offset 159, IU, DT, QAS
    assert rig.page(2, 4, 1, 3, out=True).status == 0
    rig.page(1, 4, 0, 3)
    assert struct.unpack_from("<I", rig.ram, DATA + 4) == (0x207F0A00,)
    struct.pack_into("<I", rig.ram, DATA + 4, 0)
    rig.page(2, 4, 1, 3, out=True)
    rig.page(1, 4, 0, 3)
    assert struct.unpack_from("<I", rig.ram, DATA + 4) == (0,), "asynchronous, narrow"
    rig.page(1, 4, 0, 0)
    assert struct.unpack_from("<I", rig.ram, DATA + 4) == (0x207F0A00,), "the other target"


@pytest.mark.parametrize(("action", "kind", "number", "address", "status"), [
    (9, 3, 0, 0, 0x20), (0, 7, 0, 0, 0x21), (0, 0xF, 0, 0, 0x21), (0, 2, 0, 0, 0x22), (0, 3, 9, 0, 0x22),
    (1, 4, 0, 16, 0x22), (1, 4, 0, 0x100, 0x22), (2, 9, 0, 0, 0x25),
])  # fmt: skip
def test_pages_that_are_not_there(
    rig: LsiRig, action: int, kind: int, number: int, address: int, status: int
) -> None:
    assert rig.page(action, kind, number, address).status == status


def test_a_page_for_which_there_is_no_memory_is_bad_data(rig: LsiRig) -> None:
    assert rig.page(1, 3, 0, gpa=0xFFF00000).status == 0x23


def test_a_page_is_cut_to_its_buffer(rig: LsiRig) -> None:
    rig.ram[DATA : DATA + 16] = b"\xee" * 16
    rig.page(1, 9, 0, size=8)
    assert rig.ram[DATA : DATA + 16] == bytes([0, 0x4C // 4, 0, 9]) + b"LSI5" + b"\xee" * 8


def test_every_page_has_the_length_of_its_structure(rig: LsiRig) -> None:
    lengths = {
        (9, 0): 0x4C, (0, 0): 0x0C, (0, 1): 0x08, (0, 2): 0x20, (1, 0): 0x1C, (1, 1): 0x10, (1, 2): 0x14, (1, 3): 0x08,
        (1, 4): 0x08, (3, 0): 0x0C, (3, 1): 0x10, (3, 2): 0x4C, (4, 0): 0x0C, (4, 1): 0x10, (4, 2): 0x10, (4, 3): 0x0C,
    }  # fmt: skip
    assert {(kind, number): rig.page(0, kind, number).frame[0x15] * 4 for kind, number in lengths} == lengths
