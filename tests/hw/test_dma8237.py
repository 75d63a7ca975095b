"""The DMA controllers, programmed as drivers do it, with a device that gives and takes bytes. QEMU's is the peer."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.hw.floppy_pc import OurPc, Pc
from tests.hw.qtest import qemu_pc

STATUS, COMMAND, REQUEST, MASK, MODE, POINTER, CLEAR, UNMASK, ALL = 8, 8, 9, 10, 11, 12, 13, 14, 15
WRITE, READ, VERIFY, AUTO, DOWN, SINGLE, BLOCK = 0x04, 0x08, 0x00, 0x10, 0x20, 0x40, 0x80
PAGES = {0: 0x87, 1: 0x83, 2: 0x81, 3: 0x82, 5: 0x8B, 6: 0x89, 7: 0x8A}


def register(channel: int, number: int) -> int:
    """The port of a register of the channel's controller."""
    return number if channel < 4 else 0xC0 + 2 * number


def cascade(pc: Pc) -> None:
    pc.outb(0xD6, 0xC0)
    pc.outb(0xD4, 0x00)


def program(pc: Pc, channel: int, mode: int, gpa: int, units: int) -> None:
    def put(number: int, value: int) -> None:
        pc.outb(register(channel, number), value)

    number = channel % 4
    address = gpa if channel < 4 else gpa >> 1
    put(MASK, 4 | number)
    put(POINTER, 0)
    put(MODE, mode | number)
    for reg, value in ((2 * number, address), (2 * number + 1, units - 1)):
        put(reg, value & 0xFF)
        put(reg, value >> 8 & 0xFF)
    pc.outb(PAGES[channel], gpa >> 16)
    put(MASK, number)


def word(pc: Pc, port: int, channel: int = 0) -> int:
    pc.outb(register(channel, POINTER), 0)
    return pc.inb(port) | pc.inb(port) << 8


@pytest.fixture(params=["ours", "qemu"])
def any_pc(request: pytest.FixtureRequest) -> Iterator[Pc]:
    if request.param == "ours":
        yield OurPc()
        return
    with qemu_pc() as pc:
        yield pc


@pytest.fixture
def pc() -> OurPc:
    made = OurPc()
    cascade(made)
    return made


def give(pc: OurPc, channel: int, data: bytes) -> tuple[int, bool]:
    return pc.dma.write_memory(channel, memoryview(data))


def take(pc: OurPc, channel: int, count: int) -> tuple[bytes, bool]:
    buffer = bytearray(count)
    moved, ended = pc.dma.read_memory(channel, memoryview(buffer))
    return bytes(buffer[:moved]), ended


@pytest.mark.parametrize("channel", [0, 1, 2, 3, 5, 6, 7])
def test_address_count_and_page_read_back(any_pc: Pc, channel: int) -> None:
    program(any_pc, channel, SINGLE | WRITE, 0x5A1234, 0xFEDC)
    first = register(channel, 2 * (channel % 4))
    assert word(any_pc, first, channel) == (0x1234 if channel < 4 else 0x091A | 0x5A0000 >> 1 & 0x8000)
    assert word(any_pc, register(channel, 2 * (channel % 4) + 1), channel) == 0xFEDB
    assert any_pc.inb(PAGES[channel]) == 0x5A


def test_the_pointer_alternates_until_it_is_cleared(any_pc: Pc) -> None:
    for value in (0x34, 0x12):
        any_pc.outb(0, value)
    assert [any_pc.inb(0) for _ in range(3)] == [0x34, 0x12, 0x34]
    any_pc.outb(POINTER, 0)
    assert any_pc.inb(0) == 0x34


def test_whatever_is_written_both_pcs_read_the_same() -> None:
    """Addresses and counts by both of their bytes, pages, and what must not change them."""
    source = random.Random(1)
    ours = OurPc()
    words = [*range(8), *range(0xC0, 0xD0, 2)]
    others = [*range(0x81, 0x90), MASK, ALL, UNMASK, 0xD4, 0xDE]
    with qemu_pc() as peer:
        boards: tuple[Pc, Pc] = (ours, peer)
        for board in boards:
            board.outb(CLEAR, 0)
            board.outb(0xDA, 0)
        for port in words:
            for board in boards:
                board.outb(port, 0)
                board.outb(port, 0)
        for _ in range(400):
            port, low, high = source.choice(words), source.getrandbits(8), source.getrandbits(8)
            other, port_read = source.choice(others), source.choice(words)
            page = source.choice([*PAGES.values()])
            for board in boards:
                board.outb(port, low)
                board.outb(port, high)
                board.outb(other, low)
            assert [ours.inb(port_read), ours.inb(port_read)] == [peer.inb(port_read), peer.inb(port_read)]
            assert ours.inb(page) == peer.inb(page)


def test_masks_one_by_one_and_together(pc: OurPc) -> None:
    """As in the PIIX4, where the mask can be read back; the peer has it elsewhere."""
    pc.outb(CLEAR, 0)
    assert pc.inb(ALL) == 0x0F
    pc.outb(MASK, 0x01)
    assert pc.inb(ALL) == 0x0D
    pc.outb(MASK, 0x05)
    assert pc.inb(ALL) == 0x0F
    pc.outb(UNMASK, 0)
    assert pc.inb(ALL) == 0x00
    pc.outb(ALL, 0x0A)
    assert pc.inb(ALL) == 0x0A


def test_bytes_go_to_memory(pc: OurPc) -> None:
    program(pc, 1, SINGLE | WRITE, 0x23000, 5)
    assert give(pc, 1, b"abc") == (3, False)
    assert word(pc, 2) == 0x3003 and word(pc, 3) == 1
    assert give(pc, 1, b"defg") == (2, True), "two were left"
    assert pc.peek(0x23000, 6) == b"abcde\0"
    assert pc.inb(STATUS) == 0x02
    assert pc.inb(STATUS) == 0x00, "reading clears it"
    assert not pc.dma.granted(1), "masked by its terminal count"
    assert word(pc, 3) == 0xFFFF


def test_bytes_come_from_memory(pc: OurPc) -> None:
    pc.poke(0x23000, b"payload")
    program(pc, 3, SINGLE | READ, 0x23000, 7)
    assert take(pc, 3, 4) == (b"payl", False)
    assert take(pc, 3, 9) == (b"oad", True)


def test_words_on_channels_5_to_7(pc: OurPc) -> None:
    program(pc, 5, SINGLE | WRITE, 0x51000, 3)
    assert give(pc, 5, b"aabbc") == (4, False), "half a word stays"
    assert give(pc, 5, b"ccdd") == (2, True)
    assert pc.peek(0x51000, 7) == b"aabbcc\0"


@pytest.mark.parametrize(("channel", "end"), [(1, 0x40000), (6, 0x40000)])
def test_addresses_wrap_in_their_page(pc: OurPc, channel: int, end: int) -> None:
    """64 KiB for bytes; for words 128 KiB, of which the page register's bit 0 is no part."""
    start = 0x30000 if channel < 4 else 0x20000
    program(pc, channel, SINGLE | WRITE, end - 2, 4 >> (channel > 3))
    assert give(pc, channel, b"wxyz") == (4, True)
    assert pc.peek(end - 2, 3) == b"wx\0"
    assert pc.peek(start, 2) == b"yz"


def test_addresses_can_fall(pc: OurPc) -> None:
    program(pc, 1, SINGLE | WRITE | DOWN, 0x30001, 4)
    assert give(pc, 1, b"abcd") == (4, True)
    assert pc.peek(0x30000, 2) == b"ba" and pc.peek(0x3FFFE, 2) == b"dc"
    program(pc, 1, SINGLE | READ | DOWN, 0x30001, 2)
    assert take(pc, 1, 2) == (b"ab", True)
    program(pc, 7, SINGLE | WRITE | DOWN, 0x40002, 2)
    assert give(pc, 7, b"ABCD") == (4, True)
    assert pc.peek(0x40000, 4) == b"CDAB"


def test_autoinitialize_begins_again(pc: OurPc) -> None:
    program(pc, 1, SINGLE | WRITE | AUTO, 0x20000, 2)
    assert give(pc, 1, b"ab") == (2, True)
    assert pc.dma.granted(1)
    assert give(pc, 1, b"c") == (1, False)
    assert pc.peek(0x20000, 2) == b"cb"


def test_verify_and_the_wrong_direction_only_count(pc: OurPc) -> None:
    for mode in (VERIFY, READ, 0x0C):
        program(pc, 1, SINGLE | mode, 0x20000, 2)
        assert give(pc, 1, b"ab") == (2, True)
    program(pc, 1, SINGLE | WRITE, 0x20000, 2)
    assert take(pc, 1, 2) == (b"\xff\xff", True)
    assert pc.peek(0x20000, 2) == b"\0\0"


def test_where_no_memory_is(pc: OurPc) -> None:
    program(pc, 1, SINGLE | READ, 0xFE0000, 2)
    assert take(pc, 1, 2) == (b"\xff\xff", True)
    program(pc, 1, SINGLE | WRITE, 0xFE0000, 2)
    assert give(pc, 1, b"ab") == (2, True)


def test_what_keeps_a_channel_closed(pc: OurPc) -> None:
    program(pc, 1, SINGLE | WRITE, 0x20000, 2)
    assert pc.dma.granted(1)
    for close, reopen in (
        ((MASK, 5), (MASK, 1)), ((COMMAND, 4), (COMMAND, 0)), ((0xD0, 4), (0xD0, 0)), ((0xD4, 4), (0xD4, 0)),
        ((0xD6, 0x40), (0xD6, 0xC0)), ((MODE, 0xC1), (MODE, 0x45)),
    ):  # fmt: skip
        pc.outb(*close)
        assert not pc.dma.granted(1), close
        pc.outb(*reopen)
        assert pc.dma.granted(1), reopen


def test_a_device_hears_when_its_channel_opens(pc: OurPc) -> None:
    opened: list[int] = []
    pc.dma.connect(6, lambda: opened.append(6))
    program(pc, 6, SINGLE | WRITE, 0x20000, 2)
    assert not opened, "it does not request"
    pc.outb(0xD4, 6)
    pc.dma.request(6, True)
    assert pc.inb(0xD0) & 0x40
    pc.outb(0xD4, 2)
    assert opened == [6]
    pc.dma.request(6, False)
    assert not pc.inb(0xD0) & 0x40


def test_a_request_by_software_runs_to_its_end(pc: OurPc) -> None:
    pc.poke(0x20000, bytes(4))
    program(pc, 1, BLOCK | WRITE, 0x20000, 3)
    pc.outb(REQUEST, 0x05)
    assert pc.inb(STATUS) & 0x02
    assert pc.peek(0x20000, 4) == b"\xff\xff\xff\0"


def test_master_clear_and_reset_mask_everything(pc: OurPc) -> None:
    pc.outb(UNMASK, 0)
    pc.outb(0, 1)
    pc.outb(CLEAR, 0)
    assert pc.inb(ALL) == 0x0F
    pc.outb(0, 0x77)
    assert word(pc, 0) == 0x77, "the pointer was cleared"
    pc.dma.reset()
    assert (pc.inb(ALL), pc.inb(0xDE), pc.inb(0), pc.inb(0x81)) == (0x0F, 0x0F, 0, 0)
