"""The BT-958, played as Linux's driver plays it, and as one of the AHA-154x's age."""

from __future__ import annotations

import struct

import pytest

from tests.hw.scsi.adapter_rig import INQUIRY, READ_10, TEST_UNIT_READY, WRITE_10, block_of, rw_10
from tests.hw.scsi.buslogic_driver import (
    ABORT,
    ACTIVE,
    BOXES,
    BUS_RESET,
    COMMAND,
    COMPLETE,
    DATA,
    DATA_READY,
    GEOMETRY,
    HARD_RESET,
    INTERRUPT,
    INVALID,
    LOADED,
    MAILBOX_READY,
    READY,
    RESET_INTERRUPT,
    SENSE,
    SOFT_RESET,
    STATUS,
    UNINITIALIZED,
    VALID,
    BusLogicRig,
    Done,
)
from tests.hw.scsi.buslogic_driver import RESET_BUS as RESET_BUS_CONTROL
from tests.hw.scsi.initiator import Later, bad_block

INQUIRY_36 = bytes([INQUIRY, 0, 0, 0, 36, 0])
TUR = bytes([TEST_UNIT_READY, 0, 0, 0, 0, 0])
LIST = 0xA000
PLAIN, SCATTERED, PLAIN_RESIDUAL, SCATTERED_RESIDUAL, RESET_TARGET = 0, 2, 3, 4, 0x81
BY_COMMAND, CHECKED_IN, CHECKED_OUT, NO_DATA = 0, 1, 2, 3


@pytest.fixture(params=[True, False], ids=["32-bit", "24-bit"])
def rig(request: pytest.FixtureRequest) -> BusLogicRig:
    made = BusLogicRig((0, 3), wide=request.param)
    made.start()
    return made


@pytest.fixture
def new() -> BusLogicRig:
    return BusLogicRig((0, 3))


def test_identification(new: BusLogicRig) -> None:
    chip = new.chip
    assert chip.config_read(0x00, 4) == 0x1040104B
    assert chip.config_read(0x08, 4) == 0x01000001
    assert chip.config_read(0x3D, 1) == 1


def test_linux_recognises_it(new: BusLogicRig) -> None:
    status, interrupt = new.get(STATUS), new.get(INTERRUPT)
    assert status == READY | UNINITIALIZED
    assert interrupt & 0x70 == 0
    assert new.get(GEOMETRY) == 0x80


@pytest.mark.parametrize("control", [HARD_RESET, SOFT_RESET])
def test_a_reset_shows_diagnostics_once(new: BusLogicRig, control: int) -> None:
    new.put(STATUS, control)
    assert [new.get(STATUS) for _ in range(2)] == [ACTIVE, READY | UNINITIALIZED]


def test_who_it_says_it_is(new: BusLogicRig) -> None:
    assert new.command(0x04, reply=4) == b"AA50"
    assert new.command(0x84, reply=1) + new.command(0x85, reply=1) == b"7B"
    assert new.command(0x8B, b"\5", 5) == b"958  "
    extended = new.command(0x8D, b"\x0e", 14)
    assert extended[:1] == b"E" and extended[2:4] == b"\0\x20" and extended[10:13] == b"07B"
    assert (extended[9], extended[13]) == (0x40, 0x09)
    auto = new.command(0x91, bytes([64, 64]), 64)
    assert auto[:2] == b"FA" and auto[3:9] == b"BT-958" and auto[14] == 7
    assert struct.unpack_from("<HHHHHH", auto, 19) == (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0)
    assert new.command(0x0B, reply=3)[2] == 7
    assert new.command(0x24, reply=2) == bytes([0b1001, 0])
    assert new.command(0x0A, reply=8) == bytes([1, 0, 0, 1, 0, 0, 0, 0])
    assert new.command(0x23, reply=8) == bytes(8)
    assert new.command(0x8C, bytes([16]), 16) == bytes(16)


def test_its_interrupt_is_where_the_board_routes_it(new: BusLogicRig) -> None:
    new.links.irq_of = lambda link: 11
    assert new.command(0x0B, reply=3)[1] == 1 << 2
    assert new.command(0x86, reply=4) == bytes([6, 11, 0, 0])


def test_mailboxes_are_told_back(rig: BusLogicRig) -> None:
    setup = rig.command(0x0D, bytes([34]), 34)
    assert setup[4] == rig.boxes
    assert setup[5:8] == BOXES.to_bytes(3, "big")
    assert setup[17:20] == b"BDF"
    assert struct.unpack_from("<BI", rig.command(0x8D, b"\x0e", 14), 4) == (rig.boxes, BOXES)
    assert rig.get(STATUS) == READY


def test_no_mailbox_is_an_invalid_command(new: BusLogicRig) -> None:
    for opcode, parameters in ((0x81, bytes(5)), (0x01, bytes(4))):
        new.put(COMMAND, opcode)
        for byte in parameters:
            new.put(COMMAND, byte)
        assert new.get(STATUS) == READY | UNINITIALIZED | INVALID
        assert new.get(INTERRUPT) == VALID | COMPLETE


def test_an_unknown_command_is_invalid(new: BusLogicRig) -> None:
    new.put(COMMAND, 0x9A)
    assert new.get(STATUS) == READY | UNINITIALIZED | INVALID
    new.put(STATUS, RESET_INTERRUPT)
    new.command(0x00)
    assert not new.get(STATUS) & INVALID


def test_a_reply_may_be_left_unread(new: BusLogicRig) -> None:
    new.put(COMMAND, 0x04)
    assert new.get(COMMAND) == ord("A")
    assert new.get(STATUS) & DATA_READY
    new.put(COMMAND, 0x84)
    assert new.get(COMMAND) == ord("7")
    assert new.get(STATUS) & READY


def test_the_end_of_a_command_interrupts(new: BusLogicRig) -> None:
    new.put(COMMAND, 0x00)
    assert new.get(INTERRUPT) == VALID | COMPLETE and new.line
    new.put(STATUS, RESET_INTERRUPT)
    assert new.get(INTERRUPT) == 0 and not new.line


def test_some_commands_do_not_interrupt(new: BusLogicRig) -> None:
    for opcode, parameters in ((0x95, b"\6"), (0x05, b"\0"), (0x25, b"\0")):
        new.put(COMMAND, opcode)
        new.put(COMMAND, parameters[0])
        assert new.get(INTERRUPT) == 0


def test_its_interrupts_are_switched_off(new: BusLogicRig) -> None:
    new.command(0x25, b"\0")
    new.put(COMMAND, 0x00)
    assert new.get(INTERRUPT) == VALID | COMPLETE and not new.line
    new.put(COMMAND, 0x25)
    new.put(COMMAND, 1)
    assert new.line


def test_it_answers_on_isa_where_it_is_told_to(new: BusLogicRig) -> None:
    assert new.ports.read(0x330, 1) == 0xFF
    new.command(0x95, b"\0")
    assert new.ports.read(0x330, 1) == READY | UNINITIALIZED
    new.command(0x95, b"\2")
    assert [new.ports.read(port, 1) for port in (0x330, 0x230)] == [0xFF, READY | UNINITIALIZED]
    new.command(0x95, b"\6")
    assert new.ports.read(0x230, 1) == 0xFF


def test_local_memory_is_stored_and_fetched(new: BusLogicRig) -> None:
    new.command(0x90, bytes([10, 3]) + b"abc")
    assert new.command(0x91, bytes([9, 5]), 5) == b"\0abc\0"


def test_diagnostics_copy_through_the_adapter(new: BusLogicRig) -> None:
    new.ram[DATA : DATA + 54] = bytes(range(54))
    new.command(0x1C, DATA.to_bytes(3, "big"))
    new.command(0x1D, (DATA + 0x100).to_bytes(3, "big"))
    assert new.ram[DATA + 0x100 : DATA + 0x140] == bytes(range(54)) + bytes(10)
    assert new.command(0x1F, b"\x5a", 1) == b"\x5a"


# commands to targets


def test_a_plain_read(rig: BusLogicRig) -> None:
    done = rig.run(3, rw_10(READ_10, 5, 2), DATA, 1024, direction=CHECKED_IN)
    assert done[1:] == (0, 0, 1)
    assert rig.ram[DATA : DATA + 1024] == block_of(3, 5) + block_of(3, 6)


def test_a_scattered_write(rig: BusLogicRig) -> None:
    rig.ram[DATA : DATA + 700], rig.ram[DATA + 0x1000 : DATA + 0x1144] = b"a" * 700, b"b" * 324
    place, size = rig.segments(LIST, [(DATA, 700), (DATA + 0x1000, 324)])
    assert rig.run(0, rw_10(WRITE_10, 9, 2), place, size, opcode=SCATTERED, direction=CHECKED_OUT).code == 1
    assert rig.backings[0].data[9 * 512 : 11 * 512] == b"a" * 700 + b"b" * 324


def test_the_direction_comes_from_the_command(rig: BusLogicRig) -> None:
    rig.ram[DATA : DATA + 512] = b"w" * 512
    assert rig.run(0, rw_10(WRITE_10, 3, 1), DATA, 512, direction=BY_COMMAND).code == 1
    assert rig.backings[0].data[3 * 512 : 4 * 512] == b"w" * 512
    assert rig.run(0, TUR, DATA, 512, direction=NO_DATA).code == 1


@pytest.mark.parametrize(("opcode", "direction", "host"), [
    (PLAIN, BY_COMMAND, 0), (PLAIN, CHECKED_IN, 0x0C), (PLAIN_RESIDUAL, CHECKED_IN, 0),
])  # fmt: skip
def test_less_data_than_the_buffer_takes(rig: BusLogicRig, opcode: int, direction: int, host: int) -> None:
    """Is told as a residual by who asks for it, else as an error if the length is checked."""
    done = rig.run(0, INQUIRY_36, DATA, 96, opcode=opcode, direction=direction)
    assert done[1:] == (host, 0, 4 if host else 1)
    raw = rig.ram[done.ccb + 4 : done.ccb + (8 if rig.wide else 7)]
    assert int.from_bytes(raw, "little" if rig.wide else "big") == (60 if opcode == PLAIN_RESIDUAL else 96)


def test_the_residual_of_a_list_counts_its_data(rig: BusLogicRig) -> None:
    place, size = rig.segments(LIST, [(DATA, 20), (DATA + 0x100, 40)])
    done = rig.run(0, INQUIRY_36, place, size, opcode=SCATTERED_RESIDUAL)
    raw = rig.ram[done.ccb + 4 : done.ccb + (8 if rig.wide else 7)]
    assert (done.host, int.from_bytes(raw, "little" if rig.wide else "big")) == (0, 24)
    assert rig.ram[DATA + 8 : DATA + 16] == b"VMware  "


def test_more_data_than_the_buffer_takes_is_an_overrun(rig: BusLogicRig) -> None:
    assert rig.run(0, rw_10(READ_10, 0, 2), DATA, 512)[1:] == (0x12, 0, 4)


def test_check_condition_comes_with_sense(rig: BusLogicRig) -> None:
    bad_block(rig.backings[0], 7)
    done = rig.run(0, rw_10(READ_10, 7, 1), DATA, 512)
    assert done[1:] == (0, 2, 4)
    sense = SENSE if rig.wide else done.ccb + 0x12 + 10
    assert (rig.ram[sense + 2], rig.ram[sense + 12]) == (3, 0x11)


def test_sense_is_as_long_as_it_is_asked_for(rig: BusLogicRig) -> None:
    """0 means 14 bytes, and 1 none: then the target keeps it."""
    bad_block(rig.backings[0], 7)
    for said, length in ((0, 14), (1, 0), (8, 8)):
        rig.ram[SENSE : SENSE + 32] = b"\xee" * 32
        gpa = rig.ccb(0, rw_10(READ_10, 7, 1), DATA, 512, sense=said)
        at = SENSE if rig.wide else gpa + 0x12 + 10
        rig.ram[at : at + 32] = b"\xee" * 32
        rig.send(gpa)
        assert [done.device for done in rig.done()] == [2]
        assert rig.ram[at : at + 32].index(0xEE) == length
        if said == 1:
            assert rig.run(0, bytes([0x03, 0, 0, 0, 18, 0]), DATA, 18).code == 1
            assert (rig.ram[DATA + 2], rig.ram[DATA + 12]) == (3, 0x11)


@pytest.mark.parametrize("target", [1, 7])
def test_who_is_not_there_is_not_selected(rig: BusLogicRig, target: int) -> None:
    assert rig.run(target, TUR)[1:] == (0x11, 0, 4)


def test_sixteen_targets() -> None:
    rig = BusLogicRig((15,))
    rig.start()
    assert rig.run(15, TUR).code == 1
    assert rig.command(0x24, reply=2) == b"\x00\x80"
    assert rig.run(16, TUR).host == 0x11


def test_blocks_that_make_no_sense(rig: BusLogicRig) -> None:
    assert rig.run(0, TUR, opcode=0x42).host == 0x16
    assert rig.run(0, TUR, cdb_length=13).host == 0x1A
    assert rig.run(0, rw_10(READ_10, 0, 1), 0xFFFE00, 512).host == 0x1A
    assert rig.run(0, rw_10(READ_10, 0, 1), 0xFFFE00, 8, opcode=SCATTERED).host == 0x1A
    rig.send(0xFFFF00)
    (done,) = rig.done()
    assert (done.ccb, done.code) == (0xFFFF00, 5)


def test_another_action_of_a_mailbox_is_invalid(rig: BusLogicRig) -> None:
    rig.send(rig.ccb(0, TUR), action=9)
    (done,) = rig.done()
    assert (done.host, done.code) == (0x15, 4)


def test_lun_1_is_not_there(rig: BusLogicRig) -> None:
    assert rig.run(0, INQUIRY_36, DATA, 36, lun=1).code == 1
    assert rig.ram[DATA] == 0x7F
    assert rig.run(0, TUR, lun=1).device == 2


# mailboxes and interrupts


def test_one_order_takes_all_boxes(rig: BusLogicRig) -> None:
    blocks = [rig.ccb(0, TUR) for _ in range(5)]
    for block in blocks:
        rig.fill_box(block)
    rig.put(COMMAND, 2)
    assert [done.ccb for done in rig.done()] == blocks


def test_strict_order_stops_at_a_free_box_and_the_other_looks_further() -> None:
    for strict, found in ((1, 0), (0, 1)):
        rig = BusLogicRig()
        rig.start()
        rig.command(0x8F, bytes([strict]))
        rig.next_out = (rig.next_out + 1) % rig.boxes
        rig.send(rig.ccb(0, TUR))
        assert len(rig.done()) == found


def test_completions_wait_for_free_incoming_boxes() -> None:
    rig = BusLogicRig(boxes=4)
    rig.start()
    blocks = []
    for _ in range(2):
        for _ in range(4):
            blocks.append(rig.ccb(0, TUR))
            rig.fill_box(blocks[-1])
        rig.put(COMMAND, 2)
    assert [done.ccb for done in rig.take(2)] == blocks[:2]
    rig.put(STATUS, RESET_INTERRUPT)
    assert rig.get(INTERRUPT) == VALID | LOADED
    assert [done.ccb for done in rig.done()] == blocks[2:6]
    assert rig.get(INTERRUPT) == VALID | LOADED, "the boxes were full when the interrupt was reset"
    assert [done.ccb for done in rig.done()] == blocks[6:]
    assert rig.done() == [] and rig.get(INTERRUPT) == 0


def test_a_completion_interrupts(rig: BusLogicRig) -> None:
    rig.send(rig.ccb(0, TUR))
    assert rig.get(INTERRUPT) == VALID | LOADED and rig.line
    rig.done()
    assert not rig.line


def test_the_end_of_a_command_and_a_completion_are_shown_one_after_the_other(rig: BusLogicRig) -> None:
    rig.put(COMMAND, 0x00)
    rig.send(rig.ccb(0, TUR))
    assert rig.get(INTERRUPT) == VALID | COMPLETE
    rig.put(STATUS, RESET_INTERRUPT)
    assert rig.get(INTERRUPT) == VALID | LOADED
    rig.put(COMMAND, 0x00)
    assert rig.get(INTERRUPT) == VALID | LOADED
    rig.put(STATUS, RESET_INTERRUPT)
    assert rig.get(INTERRUPT) == VALID | COMPLETE
    rig.put(STATUS, RESET_INTERRUPT)
    assert rig.get(INTERRUPT) == 0


def test_a_freed_outgoing_box_interrupts_if_that_is_wanted(rig: BusLogicRig) -> None:
    rig.command(0x05, b"\1")
    rig.send(rig.ccb(0, TUR))
    assert rig.get(INTERRUPT) == VALID | LOADED | MAILBOX_READY


def test_boxes_wait_until_the_function_may_master_the_bus(rig: BusLogicRig) -> None:
    rig.chip.config_write(4, 2, 3)
    rig.send(rig.ccb(0, TUR))
    assert rig.done() == []
    rig.chip.config_write(4, 2, 7)
    assert [done.code for done in rig.done()] == [1]


def test_mailboxes_where_no_memory_is(new: BusLogicRig) -> None:
    new.command(0x81, struct.pack("<BI", 255, 0xFFFFF000))
    new.put(COMMAND, 2)
    assert new.get(STATUS) == READY


# several at once


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def slow(later: Later) -> BusLogicRig:
    made = BusLogicRig((0, 3), later, boxes=16)
    made.start()
    return made


def begin_reads(rig: BusLogicRig, count: int, target: int = 0) -> list[int]:
    return [rig.send(rig.ccb(target, rw_10(READ_10, at, 1), DATA + 512 * at, 512, tag=0x20)) for at in range(count)]


def test_commands_end_in_any_order(slow: BusLogicRig, later: Later) -> None:
    blocks = begin_reads(slow, 4)
    for index in (2, 0, 1, 0):
        later.do(index)
    assert [done.ccb for done in slow.done()] == [blocks[index] for index in (2, 0, 3, 1)]
    assert slow.ram[DATA : DATA + 2048] == b"".join(block_of(0, at) for at in range(4))


def test_an_aborted_block_comes_back_when_memory_is_let_go(slow: BusLogicRig, later: Later) -> None:
    blocks = begin_reads(slow, 2)
    slow.send(blocks[1], ABORT)
    assert slow.done() == []
    later.do(1)
    later.do(0)
    assert slow.done() == [Done(blocks[1], 0x26, 0, 2), Done(blocks[0], 0, 0, 1)]


def test_a_block_that_is_not_under_way_is_not_found(slow: BusLogicRig) -> None:
    slow.send(0x7000, ABORT)
    assert [(done.ccb, done.code) for done in slow.done()] == [(0x7000, 3)]


def test_a_target_reset_ends_its_commands_first(slow: BusLogicRig, later: Later) -> None:
    (victim,) = begin_reads(slow, 1)
    (other,) = begin_reads(slow, 1, target=3)
    reset = slow.send(slow.ccb(0, b"", opcode=RESET_TARGET))
    assert slow.done() == []
    later.do()
    later.do()
    assert slow.done() == [Done(victim, 0x25, 0, 4), Done(reset, 0, 0, 1), Done(other, 0, 0, 1)]
    assert slow.run(0, TUR).device == 2
    assert (slow.ram[SENSE + 2], slow.ram[SENSE + 12], slow.ram[SENSE + 13]) == (6, 0x29, 3)


def test_a_bus_reset_ends_all_commands_and_interrupts(slow: BusLogicRig, later: Later) -> None:
    blocks = begin_reads(slow, 2)
    slow.put(STATUS, RESET_BUS_CONTROL)
    assert slow.get(INTERRUPT) == VALID | BUS_RESET
    while later.jobs:
        later.do()
    assert slow.done() == [Done(block, 0x22, 0, 4) for block in blocks]
    assert slow.run(3, TUR).device == 2


def test_what_waits_for_room_begins_after_a_bus_reset(slow: BusLogicRig, later: Later) -> None:
    """All but one of 256 commands in a row end with the reset, at once; a box that was full is emptied after it."""
    for _ in range(256):
        slow.send(slow.ccb(0, rw_10(READ_10, 0, 1), DATA, 512, tag=0xA0))
    last = slow.send(slow.ccb(0, TUR))
    slow.put(STATUS, RESET_BUS_CONTROL)
    ended = []
    while found := slow.done():
        ended += found
    assert [done.host for done in ended[:255]] == [0x22] * 255
    later.do()
    ended += slow.done()
    assert [done for done in ended if done.device] == [Done(last, 0, 2, 4)], "it has a unit attention to tell"
    assert len(ended) == 257


def test_a_hard_reset_is_over_when_no_command_moves_data(slow: BusLogicRig, later: Later) -> None:
    begin_reads(slow, 1)
    slow.put(STATUS, HARD_RESET)
    assert [slow.get(STATUS) for _ in range(3)] == [ACTIVE] * 3
    later.do()
    assert [slow.get(STATUS) for _ in range(2)] == [ACTIVE, READY | UNINITIALIZED]
    assert slow.get(INTERRUPT) == 0
    slow.start()
    assert slow.run(0, TUR).code == 1


def test_a_guest_cannot_have_more_under_way_than_there_is_room_for(slow: BusLogicRig, later: Later) -> None:
    for index in range(256):
        slow.send(slow.ccb(index % 2 * 3, rw_10(READ_10, 0, 1), DATA, 512))
    assert len(slow.chip.bus.tasks) == 256
    slow.send(slow.ccb(0, TUR))
    assert len(slow.chip.bus.tasks) == 256
    ended = 0
    while later.jobs:
        later.do()
        ended += len(slow.done())
    assert ended + len(slow.done()) == 257
