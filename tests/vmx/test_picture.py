"""The screen as a picture: dots that can be worked out by hand, the text, and that no change goes unreported."""

from __future__ import annotations

import random

import numpy as np
import pytest

from hw.vga import VgaState
from tests.hw.vga_card import MODES, Card
from vmx.picture import DirtyLog, Picture

RED, GREEN, BLUE = (0xFF, 0, 0), (0, 0xFF, 0), (0, 0, 0xFF)
BLOCK, LINE = 0xDB, 0xC4


class Screen:
    """A card with its picture. Colour n of the DAC is grey n but for the first four."""

    def __init__(self, mode: int | None = None, card: Card | None = None) -> None:
        self.card = card or Card(framebuffer=4 << 20)
        self.picture = Picture(self.card.vga, DirtyLog(self.card.dirty))
        if mode is not None:
            self.set_mode(mode)

    def set_mode(self, mode: int) -> None:
        self.card.set_mode(MODES[mode])
        self.card.colours(0, bytes(value & 0x3F for value in range(256) for _ in range(3)))
        self.card.colours(0, bytes((0, 0, 0, 63, 0, 0, 0, 63, 0, 0, 0, 63)))

    def dot(self, x: int, y: int) -> tuple[int, ...]:
        return tuple(self.picture.render()[y, x].tolist())


def font() -> bytes:
    """Glyph n: a full block for BLOCK, one line for LINE, else its code in every line."""
    glyphs = bytearray(byte for code in range(256) for byte in [code] * 16)
    glyphs[16 * BLOCK : 16 * (BLOCK + 1)] = b"\xff" * 16
    glyphs[16 * LINE : 16 * (LINE + 1)] = bytes(7) + b"\xff" + bytes(8)
    glyphs[16 * 32 : 16 * 33] = bytes(16)
    return bytes(glyphs)


@pytest.fixture
def text() -> Screen:
    screen = Screen(3)
    screen.card.store_at(0xB8000, b" \x01" * 2000)
    screen.card.load_font(font())
    screen.card.crt(0x0A, 0x20)
    return screen


# text


def test_before_a_mode_is_set_the_screen_is_black() -> None:
    picture = Screen().picture
    assert picture.size() == (720, 400)
    assert picture.render().shape == (400, 720, 3) and not picture.render().any()
    assert picture.text_lines() is None


def test_a_character_is_its_glyph_in_the_colours_of_its_attribute(text: Screen) -> None:
    text.card.store_at(0xB8000 + 2 * (80 + 2), bytes((0xA5, 0x21)))
    cell = text.picture.render()[16:32, 18:27]
    row = [RED if 0xA5 >> 7 - dot & 1 else GREEN for dot in range(8)] + [GREEN]
    assert cell.tolist() == [[list(colour) for colour in row]] * 16


def test_the_ninth_dot_joins_only_characters_that_draw_lines(text: Screen) -> None:
    text.card.store_at(0xB8000, bytes((BLOCK, 0x01, LINE, 0x01, 0xFF, 0x01)))
    text.card.load_font(b"\xff" * 16, at=32 * 0xFF)
    line = text.picture.render()[7]
    assert [tuple(line[x].tolist()) for x in (8, 17, 26)] == [RED, RED, (0, 0, 0)]
    text.card.attribute(0x10, 0x08)
    line = text.picture.render()[7]
    assert [tuple(line[x].tolist()) for x in (7, 8, 17, 26)] == [RED, (0, 0, 0), (0, 0, 0), (0, 0, 0)]


def test_cells_of_eight_dots_make_640(text: Screen) -> None:
    text.card.sequencer(1, 1)
    assert text.picture.render().shape == (400, 640, 3)


def test_half_the_dot_clock_doubles_every_dot(text: Screen) -> None:
    text.card.store_at(0xB8000, bytes((0x80, 0x01)))
    text.card.crt(0x11, 0x0E)
    text.card.crt(1, 39)
    text.card.sequencer(1, 8)
    line = text.picture.render()[0]
    assert len(line) == 720
    assert [tuple(dot) for dot in line[:3].tolist()] == [RED, RED, (0, 0, 0)]


def test_blinking_is_a_background_bit_otherwise(text: Screen) -> None:
    text.card.store_at(0xB8000, bytes((0x20, 0x91)))
    assert text.dot(0, 0) == RED
    text.card.attribute(0x10, 0x04)
    assert text.dot(0, 0) == (0xE7, 0xE7, 0xE7), "colour 9: DAC entry 39h"


def test_the_cursor_covers_its_lines(text: Screen) -> None:
    for index, value in ((0x0A, 13), (0x0B, 14), (0x0E, 0), (0x0F, 81)):
        text.card.crt(index, value)
    lit = np.argwhere(text.picture.render().any(axis=2))
    assert (lit.min(axis=0).tolist(), lit.max(axis=0).tolist()) == ([29, 9], [30, 17])
    screen = text.picture.text()
    assert screen is not None and screen.cursor == (1, 1)
    text.card.crt(0x0A, 0x20 | 13)
    assert not text.picture.render().any()
    text.card.crt(0x0A, 15)
    assert not text.picture.render().any(), "its end before its start"


def test_the_start_address_and_the_split_move_the_rows(text: Screen) -> None:
    for row in range(60):
        text.card.store_at(0xB8000 + 160 * row, bytes((0x30 + row, 0x01)))
    text.card.crt(0x0D, 160)
    lines = text.picture.text_lines()
    assert lines is not None and [line[0] for line in lines[:3]] == ["2", "3", "4"]
    text.card.crt(0x07, 0x0F)
    text.card.crt(0x09, 0x0F)
    text.card.crt(0x18, 16 * 10 - 1)
    lines = text.picture.text_lines()
    assert lines is not None and [line[0] for line in lines[9:12]] == [chr(0x32 + 9), "0", "1"]


def test_two_fonts_are_chosen_by_the_intensity_bit(text: Screen) -> None:
    text.card.load_font(b"\xff" * 16, at=0x4000 + 32 * 0x41)
    text.card.store_at(0xB8000, bytes((0x41, 0x09, 0x41, 0x01)))
    text.card.sequencer(3, 0x04)  # A: map 1, B: map 0
    picture = text.picture.render()
    assert picture[0, :8].any(axis=1).all()
    assert picture[0, 9:17].any(axis=1).tolist() == [bool(0x41 >> 7 - dot & 1) for dot in range(8)]


def test_text_is_unicode_with_its_colours(text: Screen) -> None:
    text.card.store_at(0xB8000, b"\x01\x07H\x1f\x81\x07\xb0\x07")
    screen = text.picture.text()
    assert screen is not None
    assert screen.lines()[0] == "☺Hü░".ljust(80)
    assert len(screen.lines()) == 25
    assert screen.attributes[0, 1] == 0x1F and screen.colours[1] == RED and screen.blinks


def test_a_screen_that_is_off_is_black_and_empty(text: Screen) -> None:
    text.card.store_at(0xB8000, bytes((BLOCK, 0x01)))
    text.card.sequencer(1, 0x20)
    assert not text.picture.render().any()
    assert text.picture.text_lines() == [" " * 80] * 25
    text.card.sequencer(1, 0)
    text.card.inp(0x3DA)
    text.card.out(0x3C0, 0)  # the palette is the processor's
    assert not text.picture.render().any()


def test_a_machine_without_firmware_begins_in_text() -> None:
    card = Card(framebuffer=1 << 20)
    card.vga.show_text(font())
    picture = Picture(card.vga, DirtyLog(card.dirty))
    card.store_at(0xB8000, bytes((0xF0, 0x1E)))
    assert picture.text_lines() == ["≡".ljust(80)] + [" " * 80] * 24
    dots = picture.render()
    assert [tuple(dots[0, x].tolist()) for x in (0, 4)] == [(0xFF, 0xFF, 0x55), (0, 0, 0xAA)]
    card.begin_font()
    assert card.load(0xA0000 + 32 * 0x41, 17) == b"\x41" * 16 + b"\0"


# graphics


def test_mode_12_takes_a_bit_of_each_plane() -> None:
    screen = Screen(0x12)
    for plane in (0, 1):
        screen.card.sequencer(2, 1 << plane)
        screen.card.store_at(0xA0000 + 80 * 3 + 1, bytes((0x40 if plane else 0xC0,)))
    assert [screen.dot(x, 3) for x in (7, 8, 9, 10)] == [(0, 0, 0), RED, BLUE, (0, 0, 0)]
    assert screen.picture.size() == (640, 480)


def test_pel_panning_moves_the_picture_left() -> None:
    screen = Screen(0x12)
    screen.card.store_at(0xA0000, bytes((0x10,)))
    bright = screen.dot(3, 0)
    screen.card.attribute(0x13, 3)
    assert bright != (0, 0, 0) and [screen.dot(x, 0) for x in (0, 3)] == [bright, (0, 0, 0)]


def test_mode_13_shows_each_byte_two_dots_wide_and_two_lines_high() -> None:
    screen = Screen(0x13)
    screen.card.store_at(0xA0000 + 320 * 10 + 5, b"\x01\x02")
    assert screen.picture.size() == (640, 400)
    picture = screen.picture.render()
    assert picture[20:22, 10:14].tolist() == [[list(RED)] * 2 + [list(GREEN)] * 2] * 2
    assert np.count_nonzero(picture.any(axis=2)) == 8


def test_mode_x_shows_the_planes_by_turns() -> None:
    screen = Screen(0x13)
    for index, value in ((0x14, 0), (0x17, 0xE3)):
        screen.card.crt(index, value)
    screen.card.sequencer(4, 6)
    for plane in range(4):
        screen.card.sequencer(2, 1 << plane)
        screen.card.store_at(0xA0000 + 80, bytes((plane,)))
    assert [screen.dot(2 * x, 2) for x in range(4)] == [(0, 0, 0), RED, GREEN, BLUE]
    screen.card.crt(0x0D, 80)
    assert screen.dot(2, 0) == RED


def test_mode_4_has_four_colours_and_its_odd_lines_apart() -> None:
    screen = Screen(4)
    screen.card.attribute(1, 1)
    screen.card.attribute(2, 2)
    screen.card.attribute(3, 3)
    screen.card.store_at(0xB8000 + 1, b"\x1b")
    screen.card.store_at(0xB8000 + 0x2000, b"\xe4")
    assert [screen.dot(8 + 2 * x, 0) for x in range(4)] == [(0, 0, 0), RED, GREEN, BLUE]
    assert [screen.dot(2 * x, 2) for x in range(4)] == [BLUE, GREEN, RED, (0, 0, 0)]
    assert screen.picture.size() == (640, 400)


def test_mode_6_has_a_bit_per_dot() -> None:
    screen = Screen(6)
    screen.card.attribute(1, 1)
    screen.card.store_at(0xB8000 + 0x2000 + 79, b"\x01")
    assert screen.dot(639, 2) == RED and np.count_nonzero(screen.picture.render().any(axis=2)) == 2


@pytest.mark.parametrize(
    ("bpp", "pixel", "colour"),
    [(8, b"\x01", RED), (15, b"\x00\x7c", RED), (15, b"\xe0\x03", GREEN), (16, b"\xe0\x07", GREEN),
     (16, b"\x1f\x00", BLUE), (16, b"\x10\x84", (0x84, 0x82, 0x84)), (24, b"\x30\x20\x10", (0x10, 0x20, 0x30)),
     (32, b"\x30\x20\x10\xff", (0x10, 0x20, 0x30))],
)  # fmt: skip
def test_a_linear_mode_shows_its_pixels(bpp: int, pixel: bytes, colour: tuple[int, ...]) -> None:
    screen = Screen(0x13)
    screen.card.set_linear(640, 480, bpp)
    screen.card.dispi(6, 800)
    screen.card.dispi(8, 8)
    screen.card.dispi(9, 2)
    at = ((2 + 5) * 800 + 8 + 7) * len(pixel)
    screen.card.store[at : at + len(pixel)] = pixel
    assert screen.dot(7, 5) == colour
    assert np.count_nonzero(screen.picture.render().any(axis=2)) == 1


def test_eight_bits_of_colour_are_shown_as_they_are() -> None:
    screen = Screen(0x13)
    screen.card.set_linear(640, 480, 8, 0x61)
    screen.card.colours(1, b"\x81\x42\x03")
    screen.card.store[0] = 1
    assert screen.dot(0, 0) == (0x81, 0x42, 0x03)


def test_the_pel_mask_is_applied() -> None:
    screen = Screen(0x13)
    screen.card.store_at(0xA0000, b"\xf1")
    screen.card.out(0x3C6, 0x0F)
    assert screen.dot(0, 0) == RED


# changes


def covers(rectangles: list[tuple[int, int, int, int]], before: np.ndarray, after: np.ndarray) -> bool:
    """Does every dot that differs lie in a rectangle?"""
    differs = (before != after).any(axis=2)
    for x, y, width, height in rectangles:
        differs[y : y + height, x : x + width] = False
    return not differs.any()


def test_at_first_everything_has_changed_and_then_nothing(text: Screen) -> None:
    assert text.picture.changes() == [(0, 0, 720, 400)]
    assert text.picture.changes() == []


def test_text_reports_the_cells_that_differ(text: Screen) -> None:
    text.picture.changes()
    text.card.store_at(0xB8000 + 2 * (80 * 3 + 10), b"H\x01i\x01")
    text.card.store_at(0xB8000 + 2 * 80 * 24, b"x")
    assert text.picture.changes() == [(90, 48, 18, 16), (0, 384, 9, 16)]
    text.card.store_at(0xB8000 + 2 * 80 * 24, b"x")
    assert text.picture.changes() == [], "the same character again"


def test_a_moved_cursor_is_two_cells(text: Screen) -> None:
    text.card.crt(0x0A, 13)
    text.picture.changes()
    text.card.crt(0x0F, 85)
    assert text.picture.changes() == [(0, 0, 9, 16), (45, 16, 9, 16)]
    text.card.crt(0x0A, 1)
    assert text.picture.changes() == [(45, 16, 9, 16)]


def test_another_font_colour_mode_or_start_is_the_whole_screen(text: Screen) -> None:
    for change in (
        lambda: text.card.load_font(b"\xaa" * 16, at=32 * 0x20), lambda: text.card.colours(7, b"\x01\x02\x03"),
        lambda: text.card.crt(0x0D, 80), lambda: text.card.sequencer(1, 1), lambda: text.set_mode(0x12),
    ):  # fmt: skip
        text.picture.changes()
        change()
        assert text.picture.changes() == [(0, 0, *text.picture.size())]


def test_a_linear_mode_reports_the_lines_of_its_pages() -> None:
    screen = Screen(0x13)
    screen.card.set_linear(1024, 768, 32)
    screen.picture.changes()
    screen.card.dirty[[4, 5, 9]] = 1  # a line is a page
    assert screen.picture.changes() == [(0, 4, 1024, 2), (0, 9, 1024, 1)]
    screen.card.dirty[768] = 1
    assert screen.picture.changes() == [], "below the screen"


def test_two_viewers_each_learn_of_every_change() -> None:
    screen = Screen(0x13)
    other = Picture(screen.card.vga, screen.picture.log)
    screen.picture.changes(), other.changes()
    screen.card.store_at(0xA0000, b"\x01")
    assert screen.picture.changes() == other.changes() != []
    assert screen.picture.changes() == other.changes() == []


def test_entering_a_linear_mode_twice_between_two_looks_is_a_change() -> None:
    screen = Screen(0x13)
    screen.card.set_linear(640, 480, 8)
    screen.picture.changes()
    screen.card.set_linear(640, 480, 8)
    assert screen.picture.changes() == [(0, 0, 640, 480)]


@pytest.mark.parametrize("mode", [3, 4, 6, 0x0D, 0x12, 0x13, "linear", "linear planar"])
def test_no_change_goes_unreported(mode: int | str) -> None:
    source = random.Random(str(mode))
    screen = Screen(mode if isinstance(mode, int) else 0x12)
    if isinstance(mode, str):
        screen.card.set_linear(640, 480, 4 if "planar" in mode else 8)
    if mode == 3:
        screen.card.load_font(font())
    card, picture = screen.card, screen.picture
    picture.changes()
    before = picture.render()
    for _ in range(12):
        for _ in range(source.randrange(1, 6)):
            choice = source.randrange(8)
            if choice == 0 and mode != "linear":
                card.crt(source.choice([0x0C, 0x0D, 0x0E, 0x0F, 0x0A, 0x08]), source.randrange(16))
            elif choice == 1:
                card.attribute(source.choice([1, 2, 0x13, 0x12, 0x14]), source.randrange(16))
            elif choice == 2 and mode != 3:
                card.sequencer(2, source.randrange(1, 16))
            else:
                first = 0xB8000 if mode in {3, 4, 6} else 0xA0000
                card.store_at(first + source.randrange(0x4000), source.randbytes(20))
        rectangles = picture.changes()
        after = picture.render()
        assert before.shape == after.shape
        assert covers(rectangles, before, after)
        before = after


@pytest.mark.parametrize("seed", range(25))
def test_any_state_has_a_picture(seed: int) -> None:
    source = random.Random(seed)
    state = VgaState.from_buffer_copy(source.randbytes(len(bytes(VgaState()))))
    state.attribute_index |= 0x20
    state.sequencer[1] &= 0xDF
    if seed % 2:
        state.dispi.register[4] &= ~1
    card = Card(state, source.randbytes((1 << 20) + (256 << 10)), framebuffer=1 << 20)
    picture = Picture(card.vga, DirtyLog(card.dirty))
    width, height = picture.size()
    for _ in range(2):
        assert all(min(x, y) >= 0 and x + w <= width and y + h <= height for x, y, w, h in picture.changes())
        assert picture.render().shape == (height, width, 3) and picture.render().dtype == np.uint8
        lines = picture.text_lines()
        assert lines is None or lines
        card.dirty[:] = 1
