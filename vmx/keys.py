"""Keys for a machine's keyboard out of what people write, and out of the keysyms that a remote screen's client sends.

The guest is taken to have a US layout. A client's own layout has decided what character a keysym is, so where its Shift
differs from what a US keyboard needs, Shift is pressed or let go around that key; a key that only chooses among the
client's layers (AltGr as ISO_Level3_Shift) is not passed on.
Not done: characters that a US keyboard lacks; Num Lock, which decides in the guest what the keypad's keys are.
Source: RFC 6143, 7.5.4 "KeyEvent".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ringfence.errors import BadOption
from vmx.keys_spec import KEYSYM_UNICODE, KEYSYMS, MODIFIERS, NAMES, PLAIN, SHIFTED, SHIFTS, KeyCode

LAYER_KEYSYMS = frozenset({0xFE03, 0xFF7E})  # ISO_Level3_Shift, Mode_switch
COMMAND_KEYS = frozenset(
    {KeyCode.CTRL_LEFT, KeyCode.CTRL_RIGHT, KeyCode.ALT_LEFT, KeyCode.ALT_RIGHT, KeyCode.SUPER_LEFT,
     KeyCode.SUPER_RIGHT}
)  # fmt: skip
CHORD_SEPARATORS = "-+"


class Stroke(NamedTuple):
    """A key goes down or up."""

    code: KeyCode
    down: bool


def strokes_of(words: Iterable[str], literal: bool = False) -> list[Stroke]:
    """What to press for `send-keys WORD...`: a word that names a key or a chord is that, any other is typed.

    `literal`: every word is typed. Raises BadOption for a character that no key makes.
    """
    strokes: list[Stroke] = []
    for word in words:
        chord = None if literal else parse_chord(word)
        strokes += text_strokes(word) if chord is None else chord_strokes(chord)
    return strokes


def parse_chord(word: str) -> list[KeyCode] | None:
    """The keys of "Return", "F1" or "ctrl-alt-delete" (also with +), the last being no modifier; None for other words.

    A modifier by its name alone ("ctrl") is a key as well; a single character is text.
    """
    name = word.lower()
    if name in NAMES:
        return [NAMES[name]]
    if name in MODIFIERS:
        return [MODIFIERS[name]]
    modifiers: list[KeyCode] = []
    while True:
        cut = min((at for mark in CHORD_SEPARATORS if (at := name.find(mark)) > 0), default=0)
        if not cut or name[:cut] not in MODIFIERS:
            break
        modifiers.append(MODIFIERS[name[:cut]])
        name, word = name[cut + 1 :], word[cut + 1 :]
    last = NAMES.get(name) or PLAIN.get(word)
    if not modifiers or (last is None and word not in SHIFTED):
        return None
    if last is None:
        return [*modifiers, KeyCode.SHIFT_LEFT, SHIFTED[word]]
    return [*modifiers, last]


def chord_strokes(chord: list[KeyCode]) -> list[Stroke]:
    """Down in order, up in the reverse."""
    return [Stroke(code, True) for code in chord] + [Stroke(code, False) for code in reversed(chord)]


def text_strokes(text: str) -> list[Stroke]:
    """Type characters on a US keyboard. Raises BadOption."""
    strokes: list[Stroke] = []
    for at, character in enumerate(text):
        if character in PLAIN:
            strokes += chord_strokes([PLAIN[character]])
        elif character in SHIFTED:
            strokes += chord_strokes([KeyCode.SHIFT_LEFT, SHIFTED[character]])
        else:
            raise BadOption(
                f"keys: character {at + 1} of {text!r}: expected one that a US keyboard has, found {character!r}"
            )
    return strokes


class Key(NamedTuple):
    """What a keysym stands for. `shifted` is None where Shift does not choose the character."""

    code: KeyCode
    shifted: bool | None
    is_letter: bool


def key_of_keysym(keysym: int) -> Key | None:
    """None: no key of this keyboard."""
    if keysym in LAYER_KEYSYMS:
        return None
    if keysym in KEYSYMS:
        return Key(KEYSYMS[keysym], None, False)
    number = keysym - KEYSYM_UNICODE if KEYSYM_UNICODE < keysym < KEYSYM_UNICODE + 0x80 else keysym
    if not ord(" ") <= number < 0x7F:
        return None
    character = chr(number)
    if character == " ":
        return Key(PLAIN[character], None, False)
    shifted = character in SHIFTED
    return Key(SHIFTED[character] if shifted else PLAIN[character], shifted, character.isalpha())


def key_of_xt_code(code: int) -> KeyCode | None:
    """From a client that sends what its own keyboard sent: an extended key is its make code with bit 7 set."""
    if code in (0xC5, 0xC6):
        return KeyCode.PAUSE
    try:
        return KeyCode(code if code < 0x80 else 0xE000 | code & 0x7F if code < 0x100 else 0)
    except ValueError:
        return None


class KeysymKeyboard:
    """One client's keys. `press` gets the strokes; `caps_lock` is the guest's."""

    def __init__(self, press: Callable[[KeyCode, bool], None], caps_lock: Callable[[], bool]) -> None:
        self._press, self._caps_lock = press, caps_lock
        self._down: dict[KeyCode, None] = {}  # in the order in which they went down

    def keysym(self, keysym: int, down: bool) -> None:
        """A KeyEvent."""
        key = key_of_keysym(keysym)
        if key is None:
            return
        if not down or key.shifted is None or COMMAND_KEYS & self._down.keys():
            self.key(key.code, down)
            return
        wanted = key.shifted ^ (key.is_letter and self._caps_lock())
        held = [code for code in self._down if code in SHIFTS]
        if wanted and not held:
            self._press(KeyCode.SHIFT_LEFT, True)
            self.key(key.code, True)
            self._press(KeyCode.SHIFT_LEFT, False)
        else:
            moved = [] if wanted else held
            for code in moved:
                self._press(code, False)
            self.key(key.code, True)
            for code in moved:
                self._press(code, True)

    def key(self, code: KeyCode, down: bool) -> None:
        """A key by its place. Letting go of what is not held is nothing."""
        if down:
            self._down[code] = None
        elif self._down.pop(code, self) is self:
            return
        self._press(code, down)

    def release_all(self) -> None:
        """The client has gone."""
        for code in reversed(list(self._down)):
            self.key(code, False)
