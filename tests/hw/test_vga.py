"""The video adapter, driven as a BIOS and programs drive it: registers, windows, colours, timing, DISPI modes."""

from __future__ import annotations

import random

import pytest

from hw.vga import DirectWindow, VgaState
from tests.hw.vga_card import FRAMEBUFFER, MODES, Card

PLANES_AT = FRAMEBUFFER
TEXT = DirectWindow(0xB8000, 0x8000, PLANES_AT)
CHAINED = DirectWindow(0xA0000, 0x10000, PLANES_AT)


@pytest.fixture
def card() -> Card:
    return Card()


def in_mode(number: int) -> Card:
    card = Card()
    card.set_mode(MODES[number])
    return card


# registers


@pytest.mark.parametrize("mode", MODES)
def test_what_a_bios_writes_for_a_mode_reads_back(mode: int) -> None:
    card, table = in_mode(mode), MODES[mode]
    assert card.inp(0x3CC) == table.misc
    for port, values in ((0x3C4, table.sequencer), (0x3CE, table.graphics), (0x3D4, table.crt)):
        for index, value in enumerate(values):
            card.out(port, index)
            assert (card.inp(port), card.inp(port + 1)) == (index, value)
    for index, value in enumerate(table.attribute):
        card.inp(0x3DA)
        card.out(0x3C0, index)
        assert (card.inp(0x3C0), card.inp(0x3C1)) == (index, value)


def test_the_attribute_port_takes_index_and_data_by_turns(card: Card) -> None:
    card.out(0x3C2, 1)
    card.inp(0x3DA)
    for value in (0x01, 0x15, 0x02, 0x2A):
        card.out(0x3C0, value)
    card.out(0x3C0, 0x01)
    assert card.inp(0x3C1) == 0x15
    card.inp(0x3DA)
    card.out(0x3C0, 0x22)
    assert (card.inp(0x3C0), card.inp(0x3C1)) == (0x22, 0x2A)


def test_the_crt_lock_leaves_line_compare_bit_8_free() -> None:
    card = in_mode(3)
    card.crt(0x11, 0x8E)
    for index in range(8):
        card.crt(index, 0x00)
    card.out(0x3D4, 0)
    assert card.inp(0x3D5) == 0x5F
    card.out(0x3D4, 7)
    assert card.inp(0x3D5) == 0x0F
    card.crt(0x18, 0x12)
    card.out(0x3D4, 0x18)
    assert card.inp(0x3D5) == 0x12


def test_the_crt_controller_is_where_misc_says(card: Card) -> None:
    card.out(0x3C2, 0x66)
    card.out(0x3B4, 0x0F)
    card.out(0x3B5, 0x42)
    assert card.inp(0x3B5) == 0x42
    assert (card.inp(0x3D4), card.inp(0x3D5), card.inp(0x3DA)) == (0xFF, 0xFF, 0xFF)
    card.out(0x3C2, 0x67)
    assert (card.inp(0x3D4), card.inp(0x3D5)) == (0x0F, 0x42)
    assert (card.inp(0x3B4), card.inp(0x3B5), card.inp(0x3BA)) == (0xFF, 0xFF, 0xFF)


def test_colours_go_in_and_out_by_threes(card: Card) -> None:
    card.colours(254, bytes(range(9)))
    card.out(0x3C7, 254)
    assert card.inp(0x3C7) == 3
    assert bytes(card.inp(0x3C9) for _ in range(6)) == bytes(range(6))
    card.out(0x3C7, 0)
    assert bytes(card.inp(0x3C9) for _ in range(3)) == bytes((6, 7, 8)), "255 is followed by 0"
    card.out(0x3C8, 9)
    card.out(0x3C9, 0xFF)
    card.out(0x3C9, 0xFF)
    card.out(0x3C7, 9)
    assert [card.inp(0x3C9) for _ in range(3)] == [0, 0, 0], "a colour changes with its third component"
    card.colours(9, bytes((0xFF, 0x40, 0x15)))
    card.out(0x3C7, 9)
    assert [card.inp(0x3C9) for _ in range(3)] == [0x3F, 0x00, 0x15], "six bits"


def test_the_retrace_of_mode_3_comes_70_times_a_second() -> None:
    card = in_mode(3)
    retraces, displayed, was = 0, 0, False
    samples = 20_000
    for sample in range(samples):
        card.clock.now_ns = sample * 1_000_000_000 // samples
        status = card.inp(0x3DA)
        retraces += bool(status & 8) and not was
        displayed += not status & 1
        was = bool(status & 8)
    assert retraces == 70
    assert displayed / samples == pytest.approx(400 / 449 * 80 / 100, abs=0.02)


def test_reset_shows_nothing_and_keeps_memory() -> None:
    card = in_mode(3)
    card.store_at(0xB8000, b"kept")
    card.vga.reset()
    assert card.windows[-1] is None
    assert card.load(0xB8000, 4) == b"\xff" * 4
    card.set_mode(MODES[3])
    assert card.load(0xB8000, 4) == b"kept"


# windows


@pytest.mark.parametrize(
    ("mode", "window"), [(3, TEXT), (4, TEXT), (6, None), (0x0D, None), (0x12, None), (0x13, CHAINED)]
)
def test_which_modes_are_mapped_directly(mode: int, window: DirectWindow | None) -> None:
    assert in_mode(mode).windows[-1] == window


def test_setting_the_same_mode_again_moves_no_window() -> None:
    card = in_mode(3)
    before = len(card.windows)
    table = MODES[3]
    for port, values in ((0x3C4, table.sequencer), (0x3CE, table.graphics)):
        for index, value in enumerate(values):
            card.indexed(port, index, value)
    assert len(card.windows) == before


def test_memory_that_misc_switches_off_reads_all_ones() -> None:
    card = in_mode(3)
    card.store_at(0xB8000, b"text")
    card.out(0x3C2, 0x65)
    assert card.windows[-1] is None and card.load(0xB8000, 4) == b"\xff" * 4
    card.store_at(0xB8000, b"lost")
    card.out(0x3C2, 0x67)
    assert card.load(0xB8000, 4) == b"text"


@pytest.mark.parametrize(
    ("select", "first", "size"),
    [(0, 0xA0000, 0x20000), (1, 0xA0000, 0x10000), (2, 0xB0000, 0x8000), (3, 0xB8000, 0x8000)],
)  # fmt: skip
def test_each_memory_map_answers_its_range_and_nothing_else(select: int, first: int, size: int) -> None:
    card = in_mode(0x12)
    card.graphics(6, select << 2 | 1)
    card.store_at(first, b"\x5a")
    answers = [at for at in range(0xA0000, 0xC0000, 0x8000) if card.load(at) != b"\xff"]
    assert answers == list(range(first, first + size, 0x8000))


def test_an_access_of_four_bytes_is_four_of_one() -> None:
    card = in_mode(0x12)
    card.space.write(0xA0001, 4, 0x44332211)
    assert [card.space.read(0xA0000 + at, 1) for at in range(6)] == [0, 0x11, 0x22, 0x33, 0x44, 0]
    assert card.space.read(0xA0002, 2) == 0x3322


def test_the_font_survives_text_and_modes() -> None:
    """Glyphs go to plane 2 past the text in planes 0 and 1, and are there after a graphics mode has come and gone."""
    card = in_mode(3)
    glyphs = random.Random(5).randbytes(256 * 16)
    card.store_at(0xB8000, b"A\x07B\x1f")
    card.load_font(glyphs)
    assert card.windows[-1] == TEXT
    assert card.load(0xB8000, 4) == b"A\x07B\x1f"
    card.set_mode(MODES[0x13])
    card.set_mode(MODES[3])
    assert card.load(0xB8000, 4) == b"A\x07B\x1f"
    card.begin_font()
    for glyph in range(256):
        assert card.load(0xA0000 + 32 * glyph, 16) == glyphs[16 * glyph : 16 * glyph + 16]


def test_planes_keep_their_bytes_when_the_chaining_changes() -> None:
    card = in_mode(0x12)
    marks = {}
    for plane in range(4):
        card.sequencer(2, 1 << plane)
        for offset in (0, 1, 2, 3, 0x1234, 0xFFFE, 0xFFFF):
            marks[plane, offset] = plane << 4 | len(marks) & 0xF
            card.store_at(0xA0000 + offset, bytes((marks[plane, offset],)))
    for mode in (0x13, 3, 0x13, 0x12):
        card.set_mode(MODES[mode])
    for (plane, offset), value in marks.items():
        card.graphics(4, plane)
        assert card.load(0xA0000 + offset) == bytes((value,))


def test_chain_4_puts_a_byte_into_each_plane_by_turns() -> None:
    card = in_mode(0x13)
    card.store_at(0xA0000, bytes(range(1, 9)))
    card.sequencer(4, 6)  # as for the modes without chaining that programs make of it
    assert card.windows[-1] is None
    for plane in range(4):
        card.graphics(4, plane)
        assert card.load(0xA0000, 2) == bytes((1 + plane, 5 + plane))
    card.sequencer(2, 0b0100)
    card.store_at(0xA0001, b"\x77")
    card.sequencer(2, 0xF)
    card.sequencer(4, 0xE)
    assert card.load(0xA0000, 8) == bytes((1, 2, 3, 4, 5, 6, 0x77, 8))


# the other devices' view: PCI


def test_identification(card: Card) -> None:
    assert card.vga.config_read(0, 4) == 0x040515AD
    assert card.vga.config_read(8, 4) == 0x03000000
    assert card.vga.config_read(0x2C, 4) == 0x040515AD


def test_windows_are_placed_by_their_registers(card: Card) -> None:
    for offset, size in ((0x10, 0xFFFFFFF1), (0x14, 0xFFC00008), (0x30, 0xFFFF0001)):
        card.vga.config_write(offset, 4, 0xFFFFFFFF)
        assert card.vga.config_read(offset, 4) == size
    card.vga.config_write(0x10, 4, 0x1080)
    card.vga.config_write(0x14, 4, 0xF0000000)
    card.vga.config_write(0x30, 4, 0xE8000001)
    assert not card.framebuffers and not card.roms
    card.vga.config_write(4, 2, 3)
    assert (card.framebuffers, card.roms) == ([0xF0000000], [0xE8000000])
    card.vga.config_write(0x30, 4, 0xE8000000)
    assert card.roms[-1] is None


def test_the_svga_ports_say_that_there_is_nothing(card: Card) -> None:
    card.vga.config_write(0x10, 4, 0x1080)
    card.vga.config_write(4, 2, 1)
    card.out(0x1080, 0, 4)
    card.out(0x1081, 0x90000002, 4)
    assert card.inp(0x1081, 4) == 0xFFFFFFFF


# DISPI


def test_dispi_is_found_by_its_id(card: Card) -> None:
    assert card.dispi_read(0) == 0xB0C5
    card.dispi(0, 0xB0C0)
    assert card.dispi_read(0) == 0xB0C0
    card.dispi(0, 0xB0C9)
    assert card.dispi_read(0) == 0xB0C0
    assert card.dispi_read(10) == FRAMEBUFFER >> 16
    assert card.inp(0x1D0, 2) == card.inp(0x1CF, 2)


def test_dispi_tells_its_limits(card: Card) -> None:
    card.dispi(4, 2)
    assert [card.dispi_read(index) for index in (1, 2, 3)] == [2560, 1600, 32]


@pytest.mark.parametrize(
    ("asked", "got"),
    [((801, 600, 32), (800, 600, 32)), ((0, 0, 7), (8, 1, 8)), ((5000, 3000, 8), (2560, 1600, 8)),
     ((2048, 1600, 32), (2048, 512, 32))],
)  # fmt: skip
def test_dispi_takes_the_nearest_mode_that_can_be(asked: tuple[int, ...], got: tuple[int, ...], card: Card) -> None:
    card.set_linear(*asked)
    assert tuple(card.dispi_read(index) for index in (1, 2, 3)) == got


def test_a_virtual_screen_is_panned_within_memory(card: Card) -> None:
    card.set_linear(640, 480, 8)
    card.dispi(6, 1024)
    assert (card.dispi_read(6), card.dispi_read(7)) == (1024, FRAMEBUFFER // 1024)
    card.dispi(8, 16)
    card.dispi(9, 100)
    assert (card.vga.dispi.start, card.vga.dispi.pitch) == (100 * 1024 + 16, 1024)
    card.dispi(9, 0xFFFF)
    assert card.dispi_read(9) == 1600, "the greatest that there is"
    card.dispi(6, 2560)
    card.dispi(9, 1500)
    assert card.dispi_read(9) == 0, "beyond memory"


def test_enabling_dispi_clears_the_screen_unless_told_not_to(card: Card) -> None:
    card.store[:8] = b"\x11" * 8
    card.set_linear(640, 480, 8, 0xC1)
    assert card.store[:8] == b"\x11" * 8
    card.set_linear(640, 480, 8)
    assert card.store[:8] == bytes(8)


def test_banks_show_the_framebuffer_at_a0000(card: Card) -> None:
    card.set_linear(640, 480, 8)
    assert card.windows[-1] == DirectWindow(0xA0000, 0x10000, 0)
    card.dispi(5, 3)
    assert card.windows[-1] == DirectWindow(0xA0000, 0x10000, 0x30000)
    card.dispi(5, FRAMEBUFFER // 0x10000 + 2)
    assert card.dispi_read(5) == 2
    card.dispi(4, 0)
    assert card.windows[-1] is None


def test_text_survives_a_dispi_mode() -> None:
    card = in_mode(3)
    card.store_at(0xB8000, b"kept")
    card.set_linear(800, 600, 32)
    card.dispi(4, 0)
    assert card.windows[-1] == TEXT and card.load(0xB8000, 4) == b"kept"


def test_a_dispi_mode_of_16_colours_has_planes() -> None:
    card = in_mode(0x12)
    card.set_linear(800, 600, 4)
    assert card.windows[-1] is None
    card.dispi(5, 1)
    card.sequencer(2, 0b1010)
    card.store_at(0xA0002, b"\x99")
    at = 4 * (0x10000 + 2)
    assert card.store[at : at + 4] == b"\x00\x99\x00\x99"


def test_eight_bits_of_colour_on_demand(card: Card) -> None:
    card.set_linear(640, 480, 8, 0x61)
    card.colours(1, b"\xff\x80\x01")
    card.out(0x3C7, 1)
    assert [card.inp(0x3C9) for _ in range(3)] == [0xFF, 0x80, 0x01]


# any state


def accesses(seed: int, count: int) -> list[tuple[str, int, int, int]]:
    source = random.Random(seed)
    ports = [*range(0x3B4, 0x3B6), 0x3BA, *range(0x3C0, 0x3D0), 0x3D4, 0x3D5, 0x3DA, 0x1CE, 0x1CF, 0x1D0]
    script = []
    for _ in range(count):
        kind = source.choice(["port_in", "port_out", "port_out", "load", "store", "index"])
        width = source.choice([1, 2, 4])
        if kind == "index":
            script.append(("port_out", source.choice([0x3C4, 0x3CE, 0x3D4, 0x1CE]), 2, source.randrange(12)))
        elif kind in {"load", "store"}:
            script.append((kind, source.randrange(0xA0000, 0xC0000 - 4), width, source.getrandbits(8 * width)))
        else:
            values = [0, 1, 3, 0x0E, 0x67, 0xFF, 4, 0x41, 800, 0xB0C5, source.getrandbits(16)]
            script.append((kind, source.choice(ports), width, source.choice(values)))
    return script


def trace(card: Card, script: list[tuple[str, int, int, int]]) -> list[object]:
    results: list[object] = []
    for kind, at, width, value in script:
        card.clock.now_ns += 12_345
        if kind == "port_in":
            results.append(card.inp(at, width))
        elif kind == "port_out":
            card.out(at, value, width)
        elif kind == "load":
            results.append(card.load(at, width))
        else:
            card.store_at(at, value.to_bytes(width, "little"))
        results.append(card.windows[-1])
    return results


@pytest.mark.parametrize("seed", range(4))
def test_state_and_video_memory_are_all_there_is(seed: int) -> None:
    """An adapter rebuilt over copies of its state and memory cannot be told apart from the original."""
    script = accesses(seed, 3000)
    a = Card(framebuffer=1 << 20)
    trace(a, script[:1500])
    b = Card(VgaState.from_buffer_copy(a.vga.state), bytes(a.store), framebuffer=1 << 20)
    b.clock.now_ns = a.clock.now_ns
    assert trace(a, script[1500:]) == trace(b, script[1500:])
    assert a.store == b.store


@pytest.mark.parametrize("seed", range(10))
def test_from_any_state_no_access_raises_or_leaves_video_memory(seed: int) -> None:
    state = VgaState.from_buffer_copy(random.Random(seed).randbytes(len(bytes(VgaState()))))
    card = Card(state, bytes((1 << 20) + (256 << 10)), framebuffer=1 << 20)
    trace(card, accesses(seed + 100, 1000))
    assert len(card.store) == (1 << 20) + (256 << 10)
    assert all(window is None or window.offset + window.size <= len(card.store) for window in card.windows)


def test_sync_tells_nothing_twice() -> None:
    card = in_mode(3)
    told = len(card.windows)
    before = bytes(card.vga.state)
    card.vga.sync()
    assert len(card.windows) == told and bytes(card.vga.state) == before
