"""Keys: what people write, what clients send, and what arrives at port 60h of a keyboard controller."""

from __future__ import annotations

import threading

import pytest

from hw.i8042 import I8042, I8042State
from hw.ps2_keyboard import SET_2_OF
from hw.ps2_mouse import Buttons
from ringfence.errors import BadOption
from tests.vmx.rfb_peer import Input, wait_until
from vmx.input_queue import MOVEMENTS_MAX, STROKES_MAX, InputQueue
from vmx.keys import KeysymKeyboard, Stroke, key_of_xt_code, parse_chord, strokes_of
from vmx.keys_spec import KEYSYMS, NAMES, PLAIN, SHIFTED
from vmx.keys_spec import KeyCode as K

CAPS_LED = 4
RELEASED = 0x80

# Scan-code set 1 of a US keyboard, row by row, as a driver's table has it (Linux, drivers/tty/vt/defkeymap.map).
PLAIN_ROWS = {0x02: "1234567890-=", 0x10: "qwertyuiop[]", 0x1E: "asdfghjkl;'`", 0x2B: "\\zxcvbnm,./", 0x39: " "}
SHIFTED_ROWS = {0x02: "!@#$%^&*()_+", 0x10: "QWERTYUIOP{}", 0x1E: 'ASDFGHJKL:"~', 0x2B: "|ZXCVBNM<>?", 0x39: " "}


def spelled(strokes: list[Stroke]) -> str:
    return " ".join(f"{'+' if stroke.down else '-'}{stroke.code.name}" for stroke in strokes)


class Guest:
    """Reads the controller and prints what is typed, as a US driver does."""

    def __init__(self) -> None:
        self.chip = I8042(I8042State(), self, self, self, self)
        self.lock = threading.Lock()
        self.chip.reset()
        for byte in (0x60, 0x47):
            (self.chip.write_command if byte == 0x60 else self.chip.write_data)(byte)
        self.text, self.codes = "", bytearray()
        self._shift = 0

    def set_level(self, level: bool) -> None:
        """The interrupts are polled."""

    def set_a20(self, on: bool) -> None: ...

    def reset_processor(self) -> None: ...

    def reset_machine(self) -> None: ...

    def take(self) -> None:
        """Everything that has arrived."""
        with self.lock:
            while self.chip.read_status() & 1:
                self.interpret(self.chip.read_data())

    def interpret(self, code: int) -> None:
        self.codes.append(code)
        make = code & ~RELEASED
        if make in (K.SHIFT_LEFT, K.SHIFT_RIGHT):
            self._shift += -1 if code & RELEASED else 1
        elif not code & RELEASED:
            for first, row in (SHIFTED_ROWS if self._shift else PLAIN_ROWS).items():
                if first <= make < first + len(row):
                    self.text += row[make - first]


def test_every_key_has_a_code_in_both_sets() -> None:
    assert all(code & 0x7F in SET_2_OF for code in K if code != K.PAUSE)
    assert set(NAMES.values()) | set(PLAIN.values()) <= set(K)


@pytest.mark.parametrize(("table", "rows"), [(PLAIN, PLAIN_ROWS), (SHIFTED, SHIFTED_ROWS)])
def test_characters_lie_where_a_us_driver_expects_them(table: dict[str, K], rows: dict[int, str]) -> None:
    for first, row in rows.items():
        for place, character in enumerate(row):
            if character in table:
                assert table[character] == first + place


def test_all_printable_characters_can_be_typed() -> None:
    assert {chr(code) for code in range(0x20, 0x7F)} <= PLAIN.keys() | SHIFTED.keys()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a", "+A -A"),
        ("A", "+SHIFT_LEFT +A -A -SHIFT_LEFT"),
        ("Return", "+RETURN -RETURN"),
        ("F12", "+F12 -F12"),
        ("ctrl-alt-delete", "+CTRL_LEFT +ALT_LEFT +DELETE -DELETE -ALT_LEFT -CTRL_LEFT"),
        ("Ctrl+c", "+CTRL_LEFT +C -C -CTRL_LEFT"),
        ("alt-F2", "+ALT_LEFT +F2 -F2 -ALT_LEFT"),
        ("ctrl--", "+CTRL_LEFT +MINUS -MINUS -CTRL_LEFT"),
        ("ctrl-+", "+CTRL_LEFT +SHIFT_LEFT +EQUAL -EQUAL -SHIFT_LEFT -CTRL_LEFT"),
        ("shift", "+SHIFT_LEFT -SHIFT_LEFT"),
        ("-", "+MINUS -MINUS"),
        ("a-b", "+A -A +MINUS -MINUS +B -B"),
        ("ctrl-", "+C -C +T -T +R -R +L -L +MINUS -MINUS"),
        ("1\n", "+DIGIT_1 -DIGIT_1 +RETURN -RETURN"),
    ],
)
def test_words(word: str, expected: str) -> None:
    assert spelled(strokes_of([word])) == expected


def test_names_are_typed_when_words_are_literal() -> None:
    assert spelled(strokes_of(["up"], literal=True)) == "+U -U +P -P"


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_one_key(name: str) -> None:
    assert parse_chord(name) == [NAMES[name]]


def test_a_character_that_no_key_makes_is_refused_with_its_place() -> None:
    with pytest.raises(BadOption, match=r"character 3 of 'fuß': expected one that a US keyboard has, found 'ß'"):
        strokes_of(["fuß"])


def pressed(keysyms: list[tuple[int, bool]], caps: bool = False) -> str:
    sink = Input()
    sink.caps = caps
    keyboard = KeysymKeyboard(sink.key, sink.caps_lock)
    for keysym, down in keysyms:
        keyboard.keysym(keysym, down)
    return spelled([Stroke(*key) for key in sink.keys])


SHIFT_L, CONTROL_L, LEVEL_3 = 0xFFE1, 0xFFE3, 0xFE03


@pytest.mark.parametrize(
    ("keysyms", "expected"),
    [
        ([(SHIFT_L, True), (ord("A"), True), (ord("A"), False), (SHIFT_L, False)], "+SHIFT_LEFT +A -A -SHIFT_LEFT"),
        ([(ord("A"), True), (ord("A"), False)], "+SHIFT_LEFT +A -SHIFT_LEFT -A"),
        ([(SHIFT_L, True), (ord("/"), True)], "+SHIFT_LEFT -SHIFT_LEFT +SLASH +SHIFT_LEFT"),
        ([(SHIFT_L, True), (ord("A"), True), (SHIFT_L, False), (ord("a"), False)], "+SHIFT_LEFT +A -SHIFT_LEFT -A"),
        ([(LEVEL_3, True), (ord("@"), True)], "+SHIFT_LEFT +DIGIT_2 -SHIFT_LEFT"),
        ([(CONTROL_L, True), (ord("C"), True)], "+CTRL_LEFT +C"),
        ([(SHIFT_L, True), (0x20, True)], "+SHIFT_LEFT +SPACE"),
        ([(0x01000061, True)], "+A"),
        ([(ord("a"), True), (ord("a"), True), (ord("a"), False)], "+A +A -A"),
        ([(ord("a"), False), (0xE4, True), (0, True), (0xFFFFFFFF, True)], ""),
    ],
)
def test_keysyms(keysyms: list[tuple[int, bool]], expected: str) -> None:
    assert pressed(keysyms) == expected


def test_caps_lock_of_the_guest_makes_capitals_itself() -> None:
    assert pressed([(ord("A"), True)], caps=True) == "+A"
    assert pressed([(ord("a"), True)], caps=True) == "+SHIFT_LEFT +A -SHIFT_LEFT"
    assert pressed([(ord("1"), True)], caps=True) == "+DIGIT_1"


def test_keysyms_of_clients_are_keys_or_nothing() -> None:
    """The names that vncdotool knows."""
    keys = pytest.importorskip("vncdotool.keys")
    unknown = {name for name, keysym in keys.KEYMAP.items() if keysym >= 0x100 and keysym not in KEYSYMS}
    assert {name.lower() for name in unknown} <= {f"f{number}" for number in range(13, 21)} | {
        "begin", "find", "undo", "help", "cancel", "select", "exec", "redo", "hyper", "lhyper", "rhyper",
        "multi", "hyper_l", "hyper_r", "shift_lock", "clear", "multi_key", "execute", "linefeed",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "key"), [(0x1E, K.A), (0xC8, K.UP), (0x9C, K.KP_ENTER), (0x54, K.SYS_RQ), (0xC6, K.PAUSE)]
)
def test_xt_codes(code: int, key: K) -> None:
    assert key_of_xt_code(code) == key


@pytest.mark.parametrize("code", [0, 0x7F, 0xFF, 0x100, 0x11E, 0xFFFFFFFF])
def test_codes_of_no_key(code: int) -> None:
    assert key_of_xt_code(code) is None


@pytest.fixture
def guest() -> Guest:
    return Guest()


def test_a_line_typed_at_once_arrives_whole(guest: Guest) -> None:
    """It is five times what the keyboard holds."""
    queue = InputQueue(guest.chip, guest.lock)
    queue.start()
    text = 'Dir "A:\\*.*" | More?'
    queue.type_keys(strokes_of([text]))

    def arrived() -> bool:
        guest.take()
        return guest.text == text

    wait_until(arrived, text)
    assert queue.wait_until_taken(5)
    queue.close()


def test_keys_wait_for_a_guest_that_does_not_read(guest: Guest) -> None:
    queue = InputQueue(guest.chip, guest.lock)
    queue.start()
    queue.type_keys(strokes_of(["x" * 20]))
    assert not queue.wait_until_taken(0.3)

    def arrived() -> bool:
        guest.take()
        return guest.text == "x" * 20

    wait_until(arrived, "the rest")
    queue.close()


def test_a_keyboard_that_is_off_loses_keys(guest: Guest) -> None:
    guest.chip.write_data(0xF5)
    guest.take()
    queue = InputQueue(guest.chip, guest.lock)
    queue.start()
    queue.type_keys(strokes_of(["lost"]))
    assert queue.wait_until_taken(5)
    guest.take()
    assert guest.text == ""
    queue.close()


def test_no_click_is_lost(guest: Guest) -> None:
    guest.chip.write_command(0xA8)
    guest.chip.write_command(0xD4)
    guest.chip.write_data(0xF4)
    guest.take()
    guest.codes.clear()
    queue = InputQueue(guest.chip, guest.lock)
    queue.pointer(5, -3, 0, 0)
    queue.pointer(2, -1, 0, 0)
    for buttons in (Buttons.LEFT, 0, Buttons.RIGHT, 0):
        queue.pointer(0, 0, 0, int(buttons))
    queue.start()

    def arrived() -> bool:
        guest.take()
        return len(guest.codes) == 15

    wait_until(arrived, "five packets")
    packets = [bytes(guest.codes[start : start + 3]) for start in range(0, 15, 3)]
    assert packets[0] == bytes((0x08, 7, 4))
    assert [packet[0] & 7 for packet in packets[1:]] == [Buttons.LEFT, 0, Buttons.RIGHT, 0]
    queue.close()


def test_a_guest_that_never_reads_the_mouse_holds_up_no_keys(guest: Guest) -> None:
    guest.chip.write_command(0xD4)
    guest.chip.write_data(0xF4)
    guest.take()
    guest.chip.write_command(0xA7)
    queue = InputQueue(guest.chip, guest.lock)
    queue.start()
    for turn in range(4):
        queue.pointer(0, 0, 0, turn % 2)
    queue.type_keys(strokes_of(["ls"]))

    def arrived() -> bool:
        guest.take()
        return guest.text == "ls"

    wait_until(arrived, "the keys")
    queue.close()


def test_the_queue_is_bounded_and_no_key_stays_down(guest: Guest) -> None:
    queue = InputQueue(guest.chip, guest.lock)
    for turn in range(STROKES_MAX):
        queue.key(K.A, True)
        queue.key(K.A, False)
        queue.pointer(1, 1, 0, turn & 1)
    assert len(queue._strokes) <= STROKES_MAX + len(K)
    assert not queue._down
    assert len(queue._movements) == MOVEMENTS_MAX
    with pytest.raises(BadOption, match="expected at most 0 strokes for now, found 2"):
        queue.type_keys(strokes_of(["a"]))
    queue.close()


def test_caps_lock_is_what_the_guest_shows(guest: Guest) -> None:
    queue = InputQueue(guest.chip, guest.lock)
    assert not queue.caps_lock()
    guest.chip.write_data(0xED)
    guest.chip.write_data(CAPS_LED)
    assert queue.caps_lock()
    queue.close()
