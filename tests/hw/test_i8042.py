"""Keyboard controller, keyboard and mouse, played as SeaBIOS and Linux's i8042, atkbd and psmouse play them."""

from __future__ import annotations

import pytest

from hw.i8042 import I8042, I8042State
from hw.i8042_spec import TRANSLATION

OBF, SYS, WAS_COMMAND, AUX = 0x01, 0x04, 0x08, 0x20
A, F7, ENTER, KEYPAD_ENTER, PAUSE = 0x1E, 0x41, 0x1C, 0xE01C, 0xE11D


class Line:
    level = False
    edges = 0

    def set_level(self, level: bool) -> None:
        self.edges += level and not self.level
        self.level = level


class Board:
    def __init__(self) -> None:
        self.keyboard_line, self.mouse_line = Line(), Line()
        self.resets = 0
        self.a20 = False
        self.chip = I8042(I8042State(), self.keyboard_line, self.mouse_line, self, self)
        self.chip.reset()

    def set_a20(self, on: bool) -> None:
        self.a20 = on

    def reset_processor(self) -> None:
        self.resets += 1

    def reset_machine(self) -> None:
        raise AssertionError

    def status(self) -> int:
        return self.chip.command_port.port_read(0, 1)

    def read(self) -> int:
        return self.chip.data_port.port_read(0, 1)

    def command(self, value: int, *data: int) -> None:
        self.chip.command_port.port_write(0, 1, value)
        for byte in data:
            self.write(byte)

    def write(self, value: int) -> None:
        self.chip.data_port.port_write(0, 1, value)

    def received(self, mouse: bool = False) -> list[int]:
        """Everything that comes, all from the keyboard or all from the mouse."""
        found = []
        while self.status() & OBF:
            assert bool(self.status() & AUX) == mouse
            found.append(self.read())
        return found

    def keyboard(self, *values: int) -> list[int]:
        """Each byte to the keyboard; what it answers."""
        found = []
        for value in values:
            self.write(value)
            found += self.received()
        return found

    def mouse(self, *values: int) -> list[int]:
        found = []
        for value in values:
            self.command(0xD4, value)
            found += self.received(mouse=True)
        return found


@pytest.fixture
def board() -> Board:
    """As firmware leaves it: both devices on, both interrupts, translation."""
    made = Board()
    made.command(0x60, 0x47)
    return made


def test_status_tells_which_port_was_written_last(board: Board) -> None:
    assert board.status() == 0x14
    board.command(0xAE)
    assert board.status() == 0x1C


def test_command_byte_reads_back(board: Board) -> None:
    board.command(0x60, 0xFF)
    board.command(0x20)
    assert board.read() == 0x77


def test_self_tests(board: Board) -> None:
    board = Board()
    for command, answer in ((0xAA, 0x55), (0xAB, 0x00), (0xA9, 0x00)):
        board.command(command)
        assert board.received() == [answer]
    assert board.status() & SYS


def test_switches_show_in_the_command_byte(board: Board) -> None:
    for command, bit, on in ((0xA7, 0x20, True), (0xA8, 0x20, False), (0xAD, 0x10, True), (0xAE, 0x10, False)):
        board.command(command)
        board.command(0x20)
        assert bool(board.read() & bit) == on


def test_linux_loops_a_byte_through_the_mouse_port_with_both_clocks_off() -> None:
    board = Board()
    board.command(0x60, 0x34 | 0x02)
    board.command(0xD3, 0x5A)
    assert board.status() & (OBF | AUX) == OBF | AUX
    assert board.mouse_line.level and not board.keyboard_line.level
    assert board.read() == 0x5A
    assert not board.mouse_line.level


def test_a_byte_can_be_made_the_keyboards(board: Board) -> None:
    board.command(0xD2, 0x33)
    assert board.keyboard_line.level
    assert board.received() == [0x33]


def test_a20_and_reset(board: Board) -> None:
    assert board.a20
    board.command(0xDD)
    assert not board.a20
    board.command(0xD1, 0xDF)
    assert board.a20
    board.command(0xD0)
    assert board.read() & 0x03 == 0x03
    board.command(0xFE)
    board.command(0xF0)
    board.command(0xFF)
    assert board.resets == 2
    board.command(0xD1, 0xDE)
    assert board.resets == 3


def test_input_port_and_unknown_commands(board: Board) -> None:
    board.command(0xC0)
    assert board.read() == 0xBF
    for command in (0x00, 0x33, 0xB8, 0xFF):
        board.command(command)
    assert not board.status() & OBF


def test_the_last_byte_stays_readable(board: Board) -> None:
    board.command(0xC0)
    assert [board.read(), board.read()] == [0xBF, 0xBF]


def test_keyboard_reset_and_identity(board: Board) -> None:
    assert board.keyboard(0xFF) == [0xFA, 0xAA]
    assert board.keyboard(0xF2) == [0xFA, 0xAB, 0x41], "83h, translated"
    board.command(0x60, 0x07)
    assert board.keyboard(0xF2) == [0xFA, 0xAB, 0x83]


def test_keyboard_commands(board: Board) -> None:
    assert board.keyboard(0xEE) == [0xEE]
    assert board.keyboard(0xED, 0x07) == [0xFA, 0xFA]
    assert board.chip.keyboard.state.leds == 7
    assert board.keyboard(0xF3, 0x2B, 0xF4) == [0xFA] * 3
    assert board.keyboard(0x55) == [0xFE]
    assert board.keyboard(0xED, 0xF4) == [0xFA, 0xFA], "a command in place of the parameter"
    assert board.keyboard(0xEE, 0xFE) == [0xEE, 0xEE], "the last byte again"


def test_scan_code_sets(board: Board) -> None:
    board.command(0x60, 0x07)
    assert board.keyboard(0xF0, 0x00) == [0xFA, 0xFA, 2]
    assert board.keyboard(0xF0, 0x03) == [0xFA, 0xFE]
    assert board.keyboard(0xF0, 0x01, 0xF0, 0x00)[-1] == 1
    board.chip.key(A, True)
    board.chip.key(KEYPAD_ENTER, False)
    assert board.received() == [0x1E, 0xE0, 0x9C]


@pytest.mark.parametrize(
    ("code", "make", "release"),
    [
        (A, [0x1C], [0xF0, 0x1C]),
        (F7, [0x83], [0xF0, 0x83]),
        (KEYPAD_ENTER, [0xE0, 0x5A], [0xE0, 0xF0, 0x5A]),
        (PAUSE, [0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77], []),
    ],
)
def test_set_2_untranslated(board: Board, code: int, make: list[int], release: list[int]) -> None:
    board.command(0x60, 0x07)
    board.chip.key(code, True)
    assert board.received() == make
    board.chip.key(code, False)
    assert board.received() == release


def test_every_key_comes_back_translated_as_it_was_sent(board: Board) -> None:
    for code in [*range(1, 0x54), 0x56, 0x57, 0x58, *range(0xE01C, 0xE054)]:
        prefix = [0xE0] if code > 0xFF else []
        board.chip.key(code, True)
        board.chip.key(code, False)
        assert board.received() == [*prefix, code & 0xFF, *prefix, code & 0xFF | 0x80]
    board.chip.key(PAUSE, True)
    assert board.received() == [0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5]


def test_translation_is_one_to_one_for_keys() -> None:
    assert sorted(TRANSLATION[1:0x80]) == sorted({*TRANSLATION[1:0x80]})


def test_each_byte_makes_an_edge(board: Board) -> None:
    before = board.keyboard_line.edges
    board.chip.key(A, True)
    board.chip.key(A, False)
    board.received()
    assert board.keyboard_line.edges - before == 2
    assert not board.keyboard_line.level


def test_no_interrupt_without_its_enable(board: Board) -> None:
    board.command(0x60, 0x44)
    board.chip.key(A, True)
    assert board.status() & OBF and not board.keyboard_line.level


def test_a_stopped_clock_holds_keys_and_a_full_queue_loses_them_whole(board: Board) -> None:
    board.command(0xAD)
    taken = [board.chip.key(KEYPAD_ENTER, False) for _ in range(12)]
    assert taken == [True] * 10 + [False] * 2
    assert not board.status() & OBF
    board.command(0xAE)
    assert board.received() == [0xE0, 0x9C] * 10


def test_a_disabled_keyboard_loses_keys(board: Board) -> None:
    board.keyboard(0xF5)
    assert not board.chip.key(A, True)
    board.keyboard(0xF4)
    assert board.chip.key(A, True)


def test_answers_go_before_keys(board: Board) -> None:
    board.command(0xAD)
    board.chip.key(A, True)
    board.write(0xF2)
    assert board.received() == [0xFA, 0xAB, 0x41, 0x1E]


def test_mouse_reset_and_identity(board: Board) -> None:
    assert board.mouse(0xFF) == [0xFA, 0xAA, 0x00]
    assert board.mouse(0xF2) == [0xFA, 0x00]


def test_the_knock_turns_the_wheel_on_and_reset_off(board: Board) -> None:
    assert board.mouse(0xF3, 200, 0xF3, 100, 0xF3, 80) == [0xFA] * 6
    assert board.mouse(0xF2) == [0xFA, 0x03]
    board.mouse(0xFF)
    assert board.mouse(0xF2) == [0xFA, 0x00]


def test_mouse_status_and_settings(board: Board) -> None:
    assert board.mouse(0xE9) == [0xFA, 0x00, 2, 100]
    board.mouse(0xE8, 3, 0xE7, 0xF4, 0xF3, 40)
    board.chip.move(0, 0, 0, 0b011)
    board.received(mouse=True)
    assert board.mouse(0xE9) == [0xFA, 0x35, 3, 40]
    assert board.mouse(0xF3, 41) == [0xFA, 0xFC]
    assert board.mouse(0xE1) == [0xFE]
    board.mouse(0xF6)
    assert board.mouse(0xE9)[1:] == [0x05, 2, 100]


def test_mouse_packets(board: Board) -> None:
    board.chip.move(1, 1, 0, 0)
    assert not board.status() & OBF, "disabled"
    board.mouse(0xF4)
    board.chip.move(5, -3, 0, 1)
    assert board.mouse_line.level
    assert board.received(mouse=True) == [0x29, 5, 0xFD]
    board.chip.move(-300, 0, 0, 0)
    assert board.received(mouse=True) == [0x18, 1, 0, 0x18, 0xD3, 0]
    board.chip.move(0, 0, 1, 0)
    assert not board.status() & OBF, "no wheel without the knock"


def test_wheel_packets(board: Board) -> None:
    board.mouse(0xF3, 200, 0xF3, 100, 0xF3, 80, 0xF4)
    board.chip.move(0, 0, -1, 0)
    assert board.received(mouse=True) == [8, 0, 0, 0xFF]


def test_movement_adds_up_while_a_packet_waits(board: Board) -> None:
    board.mouse(0xF4)
    for _ in range(10):
        board.chip.move(1, 2, 0, 0)
    assert board.received(mouse=True) == [8, 1, 2, 8, 9, 18]


def test_remote_and_wrap_modes(board: Board) -> None:
    board.mouse(0xF4, 0xF0)
    board.chip.move(2, 0, 0, 0)
    assert not board.status() & OBF
    assert board.mouse(0xEB) == [0xFA, 8, 2, 0]
    board.mouse(0xEE)
    assert board.mouse(0xF2, 0x12) == [0xF2, 0x12]
    assert board.mouse(0xEC, 0xF2) == [0xFA, 0xFA, 0x00]


def test_the_keyboards_bytes_go_before_the_mouses(board: Board) -> None:
    board.mouse(0xF4)
    board.command(0xAD)
    board.command(0xA7)
    board.chip.move(1, 0, 0, 0)
    board.chip.key(A, True)
    board.command(0x60, 0x47)
    assert board.read() == 0x1E
    assert board.received(mouse=True) == [8, 1, 0]


def test_both_devices_are_reset_with_the_machine(board: Board) -> None:
    board.mouse(0xF4)
    board.keyboard(0xF5)
    board.chip.reset()
    assert board.chip.key(A, True)
    board.command(0x20)
    assert board.read() == 0x70
