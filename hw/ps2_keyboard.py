"""A PS/2 keyboard with 102 keys, scan-code sets 1 and 2.

Keys come from the host as set 1 make codes: 01h to 7Fh, E0xxh for the extended ones. Keys do not repeat by themselves
(the host's do); a sequence for which the queue has no room is lost whole. Answers to commands go before keys.
Not modelled: set 3 ("resend" is the answer), the typematic rate, the forms of Pause and Print Screen with other keys.
Source: IBM PS/2 Hardware Interface Technical Reference, "101- and 102-key keyboards", cited as [ibm].
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import LittleEndianStructure, c_uint8, sizeof

from hw.i8042_spec import BREAK_BIT, BREAK_PREFIX, EXTENDED_PREFIX, TRANSLATION

QUEUE_BYTES = 32
REPLY_BYTES = 4
ACK, RESEND, TEST_PASSED, ECHO = 0xFA, 0xFE, 0xAA, 0xEE
IDENTITY = (0xAB, 0x83)
WITH_PARAMETER = frozenset({0xED, 0xF0, 0xF3, 0xFB, 0xFC, 0xFD})
PAUSE = 0xE11D  # make only
PAUSE_SET_1 = bytes.fromhex("E11D45E19DC5")
PAUSE_SET_2 = bytes.fromhex("E11477E1F014F077")
# F7 and SysRq have two codes that translate to theirs; the keyboard's are the higher ones.
SET_2_OF = {code: make for make, code in enumerate(TRANSLATION) if make < 0x85 and code < BREAK_BIT}


class KeyboardState(LittleEndianStructure):
    """All guest-visible state. `parameter_of` is a command that waits for its byte, 0 for none."""

    _fields_ = [
        ("scan_set", c_uint8),
        ("scanning", c_uint8),
        ("leds", c_uint8),
        ("parameter_of", c_uint8),
        ("last", c_uint8),
        ("reply_count", c_uint8),
        ("key_count", c_uint8),
        ("reserved", c_uint8),
        ("replies", c_uint8 * REPLY_BYTES),
        ("keys", c_uint8 * QUEUE_BYTES),
    ]


assert sizeof(KeyboardState) == 12 + QUEUE_BYTES


class Keyboard:
    """The keyboard. The controller moves its bytes."""

    def __init__(self, state: KeyboardState) -> None:
        self.state = state
        self._commands: dict[int, Callable[[], None]] = {
            0xEE: lambda: self._answer(ECHO),
            0xF2: lambda: self._answer(ACK, *IDENTITY),
            0xF4: lambda: self._set_scanning(1),
            0xF5: lambda: self._set_defaults(0),
            0xF6: lambda: self._set_defaults(1),
            **dict.fromkeys(range(0xF7, 0xFB), lambda: self._answer(ACK)),
            **dict.fromkeys(WITH_PARAMETER, lambda: self._answer(ACK)),
            0xFE: lambda: self._answer(self.state.last),
            0xFF: self._power_on_test,
        }

    def reset(self) -> None:
        """Power-on. The test's AAh has been swallowed by a controller that was not listening."""
        s = self.state
        s.scan_set, s.scanning = 2, 1
        s.leds = s.parameter_of = s.last = s.reply_count = s.key_count = 0

    # from the host

    def key(self, code: int, pressed: bool) -> bool:
        """A key goes down or up. False: the keyboard is off, or its queue full."""
        s = self.state
        sequence = self.sequence(code, pressed)
        if not s.scanning or s.key_count + len(sequence) > QUEUE_BYTES:
            return False
        for byte in sequence:
            s.keys[s.key_count] = byte
            s.key_count += 1
        return True

    def sequence(self, code: int, pressed: bool) -> bytes:
        """What the keyboard sends in its present set."""
        set_1 = self.state.scan_set == 1
        if code == PAUSE:
            return (PAUSE_SET_1 if set_1 else PAUSE_SET_2) if pressed else b""
        prefix = bytes([EXTENDED_PREFIX]) if code >> 8 == EXTENDED_PREFIX else b""
        make = code & 0x7F
        if set_1:
            return prefix + bytes([make if pressed else make | BREAK_BIT])
        make = SET_2_OF.get(make, 0)
        return prefix + (b"" if pressed else bytes([BREAK_PREFIX])) + bytes([make])

    # from the controller

    def has_byte(self) -> bool:
        return bool(self.state.reply_count or self.state.key_count)

    def next_byte(self) -> int:
        s = self.state
        if s.reply_count:
            count, s.reply_count = min(s.reply_count, REPLY_BYTES), min(s.reply_count, REPLY_BYTES) - 1
            byte = int(s.replies[0])
            s.replies[: count - 1] = s.replies[1:count]
        else:
            count, s.key_count = min(s.key_count, QUEUE_BYTES), min(s.key_count, QUEUE_BYTES) - 1
            byte = int(s.keys[0])
            s.keys[: count - 1] = s.keys[1:count]
        s.last = byte
        return byte

    def receive(self, byte: int) -> None:
        """A command, or the byte that one waits for. A command instead of that byte is a command. [ibm]"""
        s = self.state
        command, s.parameter_of = s.parameter_of, 0
        s.reply_count = 0
        if command and byte not in self._commands:
            self._parameter(command, byte)
            return
        s.parameter_of = byte if byte in WITH_PARAMETER else 0
        self._commands.get(byte, lambda: self._answer(RESEND))()

    # commands

    def _answer(self, *replies: int) -> None:
        s = self.state
        for byte in replies:
            if s.reply_count < REPLY_BYTES:
                s.replies[s.reply_count] = byte
                s.reply_count += 1

    def _parameter(self, command: int, byte: int) -> None:
        """F0h with 0 asks for the set in use."""
        s = self.state
        if command == 0xED:
            s.leds = byte & 7
        elif command == 0xF0 and not byte:
            self._answer(ACK, s.scan_set)
            return
        elif command == 0xF0:
            if byte not in (1, 2):
                self._answer(RESEND)
                return
            s.scan_set, s.key_count = byte, 0
        self._answer(ACK)

    def _set_scanning(self, on: int) -> None:
        self.state.scanning, self.state.key_count = on, 0
        self._answer(ACK)

    def _set_defaults(self, scanning: int) -> None:
        self.state.scan_set = 2
        self._set_scanning(scanning)

    def _power_on_test(self) -> None:
        self.reset()
        self._answer(ACK, TEST_PASSED)
